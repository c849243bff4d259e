"""Stacks: moto's CloudFormation, with resources of ours where moto has none or only a record of one.

A type that neither moto nor stack_resources.py can make is checked only: its properties are resolved, and
a stand-in takes its place in references (stack_types.py).

moto offers no way in for other models, hence the names of its module `parsing` that are replaced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError

from gooseherd.devcloud.run_task import Json
from gooseherd.devcloud.stack_deletions import add_deletions
from gooseherd.devcloud.stack_resources import (
    MADE_HERE,
    OnlyChecked,
    ServiceResource,
    StackCloud,
    StackResource,
    TaskDefinitionResource,
)
from gooseherd.devcloud.stack_types import ONLY_CHECKED


def install(cloud: StackCloud) -> None:
    """From now on moto's stacks are made in `cloud`. Once per process, before the first stack."""
    StackResource.cloud = cloud
    models = _Models(parsing.get_model_map())
    add_deletions(models)
    models.update({model.cloudformation_type(): model for model in MADE_HERE})
    moto: Any = parsing
    moto.get_model_map = lambda: models
    moto.clean_json = _without_no_value(moto.clean_json)
    moto.ResourceMap.build_resource_diff = _what_changes
    moto.ResourceMap.delete = _services_first(moto.ResourceMap.delete)


class _Models(dict[str, Any]):
    """Every type that is known to be only checked has a model, too."""

    def __init__(self, models: Mapping[str, Any]) -> None:
        super().__init__({name: model for name, model in models.items() if name not in ONLY_CHECKED})

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name) or name in ONLY_CHECKED:
            return True
        raise ValidationError(message=f"the local cloud does not know resources of type {name}")

    def __missing__(self, name: str) -> Any:
        return OnlyChecked


def _what_changes(resources: Any, template: Json, parameters: Json | None = None) -> dict[str, list[str]]:
    """As moto's, but what refers to a changed parameter in any way, and what refers to that, in this order.

    Only task definitions and services change here.
    """
    old, new = resources._resource_json_map, template["Resources"]
    given = {**resources.resolved_parameters, **resources.input_parameters}
    changed = {name for name, value in (parameters or {}).items() if str(given.get(name)) != str(value)}
    modified: list[str] = []
    while True:
        more = [
            name
            for name, resource in new.items()
            if name in old
            and name not in modified
            and resource["Type"] in {TaskDefinitionResource.type_name, ServiceResource.type_name}
            and (resource != old[name] or _refers(resource, changed | set(modified)))
        ]
        if not more:
            break
        # Task definitions before the services that refer to them.
        modified += sorted(more, key=lambda name: new[name]["Type"] == ServiceResource.type_name)
    if old.keys() != new.keys():
        warnings.warn("resources that come or go with an update are not made here", stacklevel=2)
    return {"Add": [], "Modify": modified, "Remove": []}


def _without_no_value(resolve: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Left alone, moto drops AWS::NoValue in maps; in lists it leaves a null."""

    def resolved(value: Any, resources: Any) -> Any:
        found = resolve(value, resources)
        return [one for one in found if one is not None] if isinstance(value, list) else found

    return resolved


def _services_first(delete_others: Callable[[Any], None]) -> Callable[[Any], None]:
    """Left alone, moto deletes in any order; a service still needs its roles and whatever it names."""

    def delete(resources: Any) -> None:
        made = resources._parsed_resources
        for name in [name for name, resource in made.items() if isinstance(resource, ServiceResource)]:
            made[name].delete(resources._account_id, resources._region_name)
            del made[name]
        delete_others(resources)

    return delete


def _refers(value: Any, names: set[str]) -> bool:
    if isinstance(value, dict):
        if value.get("Ref") in names:
            return True
        if "Fn::GetAtt" in value and value["Fn::GetAtt"][0] in names:
            return True
        return any(_refers(inner, names) for inner in value.values())
    if isinstance(value, list):
        return any(_refers(inner, names) for inner in value)
    return isinstance(value, str) and any(f"${{{name}}}" in value for name in names)
