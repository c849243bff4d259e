"""Resources of stacks that are made here: ECS is the local cloud's own, so that a service starts processes.

Load balancers listen, buckets' policies and roles are asked (permissions.py), secrets can be read.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel

from gooseherd.devcloud.permissions import Permissions
from gooseherd.devcloud.run_task import ApiError, Json
from gooseherd.devcloud.services import ServiceTable
from gooseherd.devcloud.task_definitions import ACCOUNT, TaskDefinitions
from gooseherd.devcloud.task_secrets import secret_text

_DRAIN_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.1
_REFERENCE: Final = re.compile(r"\{\{resolve:secretsmanager:(arn:[^}]+)\}\}")
_FREE_KEYS: Final = frozenset({"Options", "DockerLabels"})
"""Of maps whose keys are the user's."""


class OpenBalancers(Protocol):
    """Listeners for load balancers; called in any thread."""

    def open_balancer(self, arn: str) -> str:
        """Its `host:port`, once it listens."""

    def close_balancer(self, arn: str) -> None:
        """It listens no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackCloud:
    """The parts of the local cloud that stacks make things in."""

    on_loop: Callable[[Callable[[], Any]], Any]
    registry: TaskDefinitions
    services: ServiceTable
    has_tasks: Callable[[str], bool]
    """Whether tasks run in the cluster of that ARN."""
    permissions: Permissions
    balancers: OpenBalancers


class StackResource(CloudFormationModel):
    """What all of ours have in common; `attributes` are those of Fn::GetAtt."""

    cloud: ClassVar[StackCloud]
    type_name: ClassVar[str] = ""

    def __init__(self, physical_id: str, **attributes: str) -> None:
        self.physical_resource_id = physical_id
        self.attributes = attributes

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.type_name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, name: str) -> str:
        """Of Fn::GetAtt."""
        return self.attributes[name]

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        try:
            return cls.make(resource_name, cloudformation_json.get("Properties") or {}, region_name)
        except ApiError as error:
            raise ValidationError(resource_name, f"{cls.type_name}: {error.message}") from error

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        """Make it of these properties, in which all references are resolved."""
        raise NotImplementedError

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> Any:
        return cls.update(
            original_resource, new_resource_name, cloudformation_json["Properties"], region_name
        )

    @classmethod
    def update(cls, there: Any, name: str, properties: Json, region: str) -> Any:
        """What an update of the stack makes of `there`: unless a type says otherwise another one."""
        return cls.make(name, properties, region)

    def delete(self, _account: str, region: str) -> None:
        """It goes with its stack."""


class OnlyChecked(StackResource):
    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        return cls(name)

    def get_cfn_attribute(self, name: str) -> str:
        return f"{self.physical_resource_id.lower()}.{name.lower()}.local"


class _Cluster(StackResource):
    type_name = "AWS::ECS::Cluster"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        request = {"clusterName": name, **_as_request(properties)}
        made = cls.cloud.on_loop(lambda: cls.cloud.registry.create_cluster(request, region))["cluster"]
        return cls(made["clusterName"], Arn=made["clusterArn"])

    def delete(self, _account: str, region: str) -> None:
        request = {"cluster": self.physical_resource_id}

        def delete() -> None:
            if self.cloud.services.list(request, region)["serviceArns"]:
                raise ApiError("ClusterContainsServicesException", "The cluster has services.")
            if self.cloud.has_tasks(self.attributes["Arn"]):
                raise ApiError("ClusterContainsTasksException", "The cluster has tasks that run.")
            self.cloud.registry.delete_cluster(request, region)

        self.cloud.on_loop(delete)


class TaskDefinitionResource(StackResource):
    """An update registers a revision; those before go with the stack, not at the end of the update."""

    type_name = "AWS::ECS::TaskDefinition"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        request = {"family": name, **_as_request(properties)}
        for container in request.get("containerDefinitions") or []:
            for variable in container.get("environment") or []:
                variable["value"] = _text(variable["value"])
        request.update({size: str(request[size]) for size in ("cpu", "memory") if size in request})
        made = cls.cloud.on_loop(lambda: cls.cloud.registry.register(request, region))["taskDefinition"]
        return cls(made["taskDefinitionArn"], TaskDefinitionArn=made["taskDefinitionArn"])

    def delete(self, _account: str, region: str) -> None:
        family = self.physical_resource_id.rpartition("/")[2].rpartition(":")[0]
        registry = self.cloud.registry

        def deregister() -> None:
            for arn in registry.list_definitions({"familyPrefix": family}, region)["taskDefinitionArns"]:
                registry.deregister({"taskDefinition": arn}, region)

        self.cloud.on_loop(deregister)


class ServiceResource(StackResource):
    type_name = "AWS::ECS::Service"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        request = {"serviceName": name, **_as_request(properties)}
        made = cls.cloud.on_loop(lambda: cls.cloud.services.create(request, region))["service"]
        return cls(made["serviceArn"], Name=made["serviceName"], ServiceArn=made["serviceArn"])

    @classmethod
    def update(cls, there: Any, name: str, properties: Json, region: str) -> Any:
        request = {**_as_request(properties), "service": there.physical_resource_id}
        cls.cloud.on_loop(lambda: cls.cloud.services.update(request, region))
        return there

    def is_created(self) -> bool:
        return bool(self.cloud.on_loop(lambda: self.cloud.services.steady(self.physical_resource_id)))

    def delete(self, _account: str, region: str) -> None:
        arn = self.physical_resource_id
        request = {"cluster": arn.split("/")[1], "service": arn, "force": True}
        self.cloud.on_loop(lambda: self.cloud.services.delete(request, region))
        deadline = time.monotonic() + _DRAIN_SECONDS
        described: Json = {**request, "services": [arn]}
        while time.monotonic() < deadline:
            (shown,) = self.cloud.on_loop(lambda: self.cloud.services.describe(described, region))["services"]
            if shown["status"] == "INACTIVE":
                return
            time.sleep(_LOOK_SECONDS)
        raise ApiError("ServiceUnavailable", "the tasks of the service do not end")


class _ScalableTarget(StackResource):
    """Of a service: brings its count within the bounds, once. Nothing scales it afterwards."""

    type_name = "AWS::ApplicationAutoScaling::ScalableTarget"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        _, cluster, service = properties["ResourceId"].split("/")
        least, most = int(properties["MinCapacity"]), int(properties["MaxCapacity"])
        request: Json = {"cluster": cluster, "service": service, "services": [service]}

        def scale() -> None:
            (found,) = cls.cloud.services.describe(request, region)["services"]
            count = max(least, min(most, found["desiredCount"]))
            cls.cloud.services.update({**request, "desiredCount": count}, region)

        cls.cloud.on_loop(scale)
        return cls(f"{properties['ResourceId']}|{properties['ScalableDimension']}")


class _BucketPolicy(StackResource):
    type_name = "AWS::S3::BucketPolicy"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        cls.cloud.permissions.set_bucket_policy(properties["Bucket"], properties["PolicyDocument"])
        return cls(properties["Bucket"])

    def delete(self, _account: str, region: str) -> None:
        self.cloud.permissions.set_bucket_policy(self.physical_resource_id, None)


class _Secret(StackResource):
    type_name = "AWS::SecretsManager::Secret"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        from moto.secretsmanager.models import secretsmanager_backends

        backend = secretsmanager_backends[ACCOUNT][region]
        text = _REFERENCE.sub(lambda found: secret_text(found[1], region), properties.get("SecretString", ""))
        if (wanted := properties.get("GenerateSecretString")) is not None:
            text = backend.get_random_password(
                password_length=int(wanted.get("PasswordLength", 32)),
                exclude_characters=wanted.get("ExcludeCharacters", ""),
                exclude_numbers=False,
                exclude_punctuation=bool(wanted.get("ExcludePunctuation")),
                exclude_uppercase=False,
                exclude_lowercase=False,
                include_space=False,
                require_each_included_type=True,
            )
            text = json.loads(text)["RandomPassword"]
        made = json.loads(
            backend.create_secret(
                name=properties.get("Name", name),
                secret_string=text,
                secret_binary=None,
                description=properties.get("Description"),
                tags=properties.get("Tags"),
                kms_key_id=None,
                client_request_token=None,
                replica_regions=[],
                force_overwrite=False,
            )
        )
        return cls(made["ARN"], Id=made["ARN"])

    def delete(self, _account: str, region: str) -> None:
        from moto.secretsmanager.models import secretsmanager_backends

        secretsmanager_backends[ACCOUNT][region].delete_secret(self.physical_resource_id, None, True)


class _LoadBalancer(StackResource):
    """A record of moto's, and a listener whose address is its DNS name."""

    type_name = "AWS::ElasticLoadBalancingV2::LoadBalancer"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        from moto.elbv2.models import FakeLoadBalancer

        made = FakeLoadBalancer.create_from_cloudformation_json(
            name, {"Properties": properties}, ACCOUNT, region
        )
        balancer = cls(
            made.arn, LoadBalancerName=made.name, DNSName=cls.cloud.balancers.open_balancer(made.arn)
        )
        balancer.attributes["LoadBalancerFullName"] = made.arn.partition(":loadbalancer/")[2]
        return balancer

    def delete(self, _account: str, region: str) -> None:
        from moto.elbv2.models import elbv2_backends

        self.cloud.balancers.close_balancer(self.physical_resource_id)
        elbv2_backends[ACCOUNT][region].delete_load_balancer(self.physical_resource_id)


class _TargetGroup(StackResource):
    """A record of moto's, with the attributes that it lacks."""

    type_name = "AWS::ElasticLoadBalancingV2::TargetGroup"

    @classmethod
    def make(cls, name: str, properties: Json, region: str) -> Any:
        from moto.elbv2.models import FakeTargetGroup

        made = FakeTargetGroup.create_from_cloudformation_json(
            name, {"Properties": properties}, ACCOUNT, region
        )
        return cls(made.arn, TargetGroupName=made.name, TargetGroupFullName=made.arn.rpartition(":")[2])

    def delete(self, _account: str, region: str) -> None:
        from moto.elbv2.models import elbv2_backends

        elbv2_backends[ACCOUNT][region].delete_target_group(self.physical_resource_id)


MADE_HERE: Final = (
    _Cluster,
    TaskDefinitionResource,
    ServiceResource,
    _ScalableTarget,
    _BucketPolicy,
    _Secret,
    _LoadBalancer,
    _TargetGroup,
)


def target_groups_of(balancer: str, region: str) -> list[str]:
    """ARNs of those that a listener of the load balancer forwards to."""
    from moto.elbv2.models import elbv2_backends

    found = elbv2_backends[ACCOUNT][region].load_balancers.get(balancer)
    listeners = found.listeners.values() if found is not None else ()
    actions = [action.data for listener in listeners for action in listener.default_actions]
    return [action["TargetGroupArn"] for action in actions if action.get("TargetGroupArn")]


def _as_request(value: Any) -> Any:
    """Properties as the API names them: `ContainerDefinitions` is `containerDefinitions`."""
    if isinstance(value, dict):
        return {
            name[:1].lower() + name[1:]: inner if name in _FREE_KEYS else _as_request(inner)
            for name, inner in value.items()
        }
    return [_as_request(inner) for inner in value] if isinstance(value, list) else value


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
