"""What ECS reads for a container before it starts: secrets and environment files, by the execution role."""

from __future__ import annotations

import json
from typing import Any

from gooseherd.devcloud.permissions import Permissions
from gooseherd.devcloud.policies import Access
from gooseherd.devcloud.run_task import ApiError, ContainerPlan
from gooseherd.devcloud.task_definitions import ACCOUNT


class TaskSecrets:
    """Reads moto's Secrets Manager, Parameter Store and S3. May be asked from many threads."""

    def __init__(self, permissions: Permissions) -> None:
        self._permissions = permissions

    def environment_of(self, plan: ContainerPlan, execution_role_arn: str, region: str) -> dict[str, str]:
        """The container's variables. Blocks. Raises ApiError: one cannot be had, or not by that role."""
        found: dict[str, str] = {}
        for file in plan.environment_files:
            self._require(execution_role_arn, "s3:GetObject", file)
            found.update(_lines(_object(file)))
        found.update(plan.environment)
        for name, where in plan.secrets.items():
            found[name] = self._value(where, execution_role_arn, region)
        return found

    def _value(self, where: str, role: str, region: str) -> str:
        if ":secretsmanager:" in where:
            # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:JSON_KEY[:STAGE[:VERSION]]]
            parts = where.split(":")
            arn, key = ":".join(parts[:7]), (parts[7] if len(parts) > 7 else "")
            self._require(role, "secretsmanager:GetSecretValue", arn)
            text = secret_text(arn, region)
            if not key:
                return text
            try:
                return str(json.loads(text)[key])
            except (ValueError, KeyError, TypeError):
                message = f"retrieved secret from Secrets Manager did not contain json key {key}"
                raise ApiError("ResourceInitializationError", message) from None
        name = where.partition(":parameter")[2] if where.startswith("arn:") else where
        arn = f"arn:aws:ssm:{region}:{ACCOUNT}:parameter/{name.lstrip('/')}"
        self._require(role, "ssm:GetParameters", arn)
        return _parameter(name, region)

    def _require(self, role: str, action: str, resource: str) -> None:
        # A role that no stack made may read everything, as elsewhere here.
        if not role or not self._permissions.knows(role):
            return
        if not self._permissions.allows(role, Access(action, resource, {})):
            message = f"{role} is not authorized to perform: {action} on resource: {resource}"
            raise ApiError("AccessDeniedException", message)


def secret_text(arn: str, region: str) -> str:
    """The current version of a secret. Raises ApiError: there is none."""
    from moto.secretsmanager.models import secretsmanager_backends

    secrets = secretsmanager_backends[ACCOUNT][region].secrets
    for secret in secrets.values():
        if secret.arn == arn and not getattr(secret, "deleted_date", None):
            version: dict[str, Any] = secret.versions[str(secret.default_version_id)]
            return str(version.get("secret_string") or "")
    raise ApiError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def _parameter(name: str, region: str) -> str:
    from moto.ssm.models import ssm_backends

    found = ssm_backends[ACCOUNT][region].get_parameter(name)
    if found is None:
        raise ApiError("ParameterNotFound", f"invalid ssm parameters: {name}")
    value = found.value
    return str(value.split(":", 2)[2] if value.startswith("kms:") else value)


def _object(arn: str) -> str:
    from moto.s3.models import s3_backends

    bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
    try:
        found = s3_backends[ACCOUNT]["aws"].get_object(bucket, key)
    except Exception:  # moto has an exception of its own for each thing that can be missing
        found = None
    if found is None:
        raise ApiError("NoSuchKey", f"failed to download env files: {arn}")
    return str(found.value.decode())


def _lines(text: str) -> dict[str, str]:
    """As docker's --env-file reads them: no quotes, no expansion."""
    pairs = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name.strip(): value for name, equals, value in pairs if equals}
