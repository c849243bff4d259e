"""Where artifacts live and what the mutex locks: pure functions of content and versions.

Both keys are known before any work is done. A changed source or a bumped version gives
new keys, so nothing is ever purged or overwritten by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType

from gooseherd.domain.formats import Format
from gooseherd.domain.source import Identity

CacheKey = NewType("CacheKey", str)
"""A relative, slash-separated object key."""
WorkflowKey = NewType("WorkflowKey", str)
"""What the workflow mutex locks: one content, one processor, one version."""

PIPELINE_VERSION: Final = "1"
"""Bump when the meaning of every artifact changes, whatever processor made it."""

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What will be made of a source: every input of the keys except the content itself."""

    processor: str
    processor_version: str
    source_format: Format


def artifact_prefix(identity: Identity, recipe: Recipe) -> str:
    """The folder that holds all objects of one artifact, ending in a slash."""
    return f"p{PIPELINE_VERSION}/{identity.value[:2]}/{identity}/{recipe_name(recipe)}/"


def cache_shards(pipeline_version: str) -> tuple[str, ...]:
    """The 256 prefixes below which all artifacts of that version lie, in the order of their keys."""
    return tuple(f"p{pipeline_version}/{number:02x}/" for number in range(256))


def cache_key(identity: Identity, recipe: Recipe, name: str) -> CacheKey:
    """The key of one object (a part's name, or `MANIFEST`) of the artifact."""
    return CacheKey(artifact_prefix(identity, recipe) + name)


def result_name(attempt: str) -> str:
    """What the attempt calls its manifest, which becomes MANIFEST once it is verified."""
    return f"result-{attempt}.json"


def is_result(key: CacheKey) -> bool:
    """Whether it is an attempt's own manifest."""
    name = key.rpartition("/")[2]
    return name.startswith("result-") and name.endswith(".json")


def workflow_key(identity: Identity, recipe: Recipe) -> WorkflowKey:
    """The mutex key; data and index of one source share it, so one job makes both."""
    return WorkflowKey(
        f"{identity}:{recipe.source_format.name}:{recipe.processor}-{recipe.processor_version}"
        f":p{PIPELINE_VERSION}"
    )


def recipe_name(recipe: Recipe) -> str:
    """The recipe as it stands in an artifact's prefix."""
    return f"{recipe.processor}-{recipe.processor_version}-{recipe.source_format.name}"


def workflow_key_of(prefix: str) -> WorkflowKey:
    """The mutex key of the artifact below `prefix`, as `artifact_prefix` makes it."""
    pipeline, _, identity, recipe, _ = prefix.split("/")
    made_by, _, source_format = recipe.rpartition("-")
    return WorkflowKey(f"{identity}:{source_format}:{made_by}:{pipeline}")
