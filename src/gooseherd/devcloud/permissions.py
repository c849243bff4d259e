"""What roles may do that a stack made: their policies and those of buckets, asked at each request.

A role that no stack made is not known here: its sessions may do everything on S3 and nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gooseherd.devcloud.policies import Access, Policy
from gooseherd.devcloud.run_task import ApiError, Json
from gooseherd.devcloud.task_definitions import ACCOUNT

_log = logging.getLogger(__name__)

_ANY: Final = "*"
_TASKS: Final = "ecs-tasks.amazonaws.com"
_NOTHING: Final = Policy(())


class Permissions:
    """Reads moto's IAM, where CloudFormation puts roles. May be asked from many threads."""

    def __init__(self) -> None:
        self._bucket_policies: dict[str, Policy] = {}

    def set_bucket_policy(self, bucket: str, document: Mapping[str, Any] | None) -> None:
        """Or remove it. Raises ValueError for one that is not understood here."""
        if document is None:
            self._bucket_policies.pop(bucket, None)
        else:
            self._bucket_policies[bucket] = Policy.of(document)

    def knows(self, role_arn: str) -> bool:
        """Whether a stack made that role."""
        return self._role(role_arn) is not None

    def allows(self, role_arn: str, access: Access) -> bool:
        """Whether the policies of the role allow it, and no policy of a bucket denies it."""
        role = self._role(role_arn)
        if role is not None and not self._policy(role).allows(access):
            return False
        bucket = access.resource.removeprefix("arn:aws:s3:::").partition("/")[0]
        access = Access(access.action, access.resource, {**access.context, "aws:PrincipalArn": role_arn})
        return not self._bucket_policies.get(bucket, _NOTHING).denies(access)

    def may_assume(self, by: str, role_arn: str) -> bool:
        """Whether one role may assume the other: its own policy says so, and the other one's trust."""
        role = self._role(role_arn)
        if role is None or not self.knows(by):
            return False
        if not self.allows(by, Access("sts:AssumeRole", role_arn, {})):
            return False
        trust = json.loads(role.assume_role_policy_document)
        return any(
            statement["Effect"] == "Allow" and statement["Principal"].get("AWS") == by
            for statement in trust["Statement"]
        )

    def require(
        self, role_arn: str, operation: str, request: Json, region: str, definition: Json | None
    ) -> None:
        """Raises AccessDeniedException when the role may not do that on ECS; `definition` is RunTask's."""
        for access in _of_ecs(operation, request, region, definition):
            if not self.allows(role_arn, access):
                message = (
                    f"{role_arn} is not authorized to perform: {access.action} on resource: {access.resource}"
                )
                _log.warning(message)
                raise ApiError("AccessDeniedException", message, 400)

    def _role(self, role_arn: str) -> Any:
        from moto.iam.models import iam_backends

        roles = iam_backends[ACCOUNT]["aws"].roles
        return next((role for role in roles.values() if role.arn == role_arn), None)

    def _policy(self, role: Any) -> Policy:
        documents = [json.loads(text) if isinstance(text, str) else text for text in role.policies.values()]
        try:
            return Policy.of(*documents)
        except (ValueError, KeyError, TypeError):
            _log.exception("a policy of %s is not understood", role.name)
            return _NOTHING


def _of_ecs(operation: str, request: Json, region: str, definition: Json | None) -> Iterator[Access]:
    """Service authorization reference, Amazon Elastic Container Service."""
    name = str(request.get("cluster") or "default").rpartition("/")[2]
    prefix = f"arn:aws:ecs:{region}:{ACCOUNT}"
    where = {"ecs:cluster": f"{prefix}:cluster/{name}"}
    match operation:
        case "RunTask" if definition is not None:
            yield Access("ecs:RunTask", definition["taskDefinitionArn"], where)
            if request.get("tags"):
                yield Access("ecs:TagResource", f"{prefix}:task/{name}/new", {"ecs:CreateAction": "RunTask"})
            for role in ("executionRoleArn", "taskRoleArn"):
                if definition.get(role):
                    yield Access("iam:PassRole", definition[role], {"iam:PassedToService": _TASKS})
        case "StopTask":
            yield Access("ecs:StopTask", _task(prefix, name, request.get("task") or ""), where)
        case "DescribeTasks":
            for task in request.get("tasks") or []:
                yield Access("ecs:DescribeTasks", _task(prefix, name, task), where)
        case "ListTasks":
            yield Access("ecs:ListTasks", f"{prefix}:container-instance/{name}/{_ANY}", where)
        case _:
            yield Access(f"ecs:{operation}", _ANY, where)


def _task(prefix: str, cluster: str, task: str) -> str:
    return f"{prefix}:task/{cluster}/{task.rpartition('/')[2]}"
