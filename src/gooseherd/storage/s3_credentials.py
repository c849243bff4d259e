"""Credentials for one artifact's objects in a bucket: a role of STS, narrowed by a session policy.

They may read what lies below the artifact's prefix and add to it. They cannot replace what is there, write
the manifest, delete, or list (docs/adr/0030-what-a-worker-may-do.md).
"""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import Any, Final

from gooseherd.blocking import in_thread
from gooseherd.domain.attempt import AttemptId, TemporaryCredentials
from gooseherd.domain.errors import CacheUnavailable, Misconfigured
from gooseherd.domain.keys import MANIFEST
from gooseherd.domain.ports.credentials import CredentialIssuer

log = logging.getLogger(__name__)

SECONDS: Final = 3600
"""The longest that STS allows to whoever has a role itself, as a task of ECS has (role chaining)."""
SETTING: Final = "WORKFLOW_S3_ATTEMPT_ROLE"
ONLY_NEW: Final[dict[str, Any]] = {
    "Effect": "Deny",
    "Action": "s3:PutObject",
    "Resource": "*",
    "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
}
"""No object is replaced: S3 user guide, "Enforce conditional writes on Amazon S3 buckets"."""
_ROLE: Final = re.compile(r"arn:(aws[a-z-]*):iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_WILDCARDS: Final = frozenset("*?$")
_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 20
_ATTEMPTS: Final = 4
_REFUSED: Final = frozenset(
    {"AccessDenied", "MalformedPolicyDocument", "PackedPolicyTooLarge", "ValidationError"}
)
_CREDENTIALS: Final = frozenset(
    {"InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidAccessKeyId"}
)


class S3Credentials(CredentialIssuer):
    """Of the bucket's objects below `bucket_prefix`, by assuming `role`.

    Raises:
        Misconfigured: the role is no ARN of one, or the prefix would be read as a pattern.
    """

    def __init__(
        self, role: str, bucket: str, bucket_prefix: str, *, endpoint_url: str | None, region: str
    ) -> None:
        match = _ROLE.fullmatch(role)
        if match is None:
            raise Misconfigured(SETTING, "must be the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME")
        if _WILDCARDS & set(bucket_prefix):
            raise Misconfigured("WORKFLOW_S3_PREFIX", f"must be without *, ? and $ where {SETTING} is set")
        self._role = role
        self._objects = f"arn:{match[1]}:s3:::{bucket}/{bucket_prefix}"
        self._endpoint_url = endpoint_url
        self._region = region
        self._made: Any = None
        self._making = threading.Lock()

    async def issue(self, attempt: AttemptId, prefix: str) -> TemporaryCredentials:
        """See CredentialIssuer."""
        return await in_thread(self._assume, attempt, json.dumps(self.policy(prefix), separators=(",", ":")))

    def policy(self, prefix: str) -> dict[str, Any]:
        """The session policy; what the role itself may not do stays forbidden whatever stands here."""
        objects = f"{self._objects}{prefix}*"
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    "Resource": objects,
                },
                {
                    # Of a bucket that is encrypted by a key of KMS; the role's own policy names the key.
                    "Effect": "Allow",
                    "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                    "Resource": "*",
                    "Condition": {"StringLike": {"kms:ViaService": "s3.*"}},
                },
                ONLY_NEW,
                {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"{self._objects}*/{MANIFEST}"},
            ],
        }

    def _assume(self, attempt: AttemptId, policy: str) -> TemporaryCredentials:
        from botocore.exceptions import BotoCoreError, ClientError

        name = re.sub(r"[^\w+=,.@-]", "-", str(attempt), flags=re.ASCII)[-64:]
        try:
            made = self._client().assume_role(
                RoleArn=self._role, RoleSessionName=name, Policy=policy, DurationSeconds=SECONDS
            )["Credentials"]
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _REFUSED:
                raise Misconfigured(SETTING, f"assuming it was refused: {code}") from error
            if code in _CREDENTIALS:
                raise Misconfigured("AWS credentials", f"assume_role was refused: {code}") from error
            log.error("STS failed: %s", code)
            raise CacheUnavailable("credentials for an attempt") from error
        except BotoCoreError as error:
            log.error("STS failed: %s", type(error).__name__)
            raise CacheUnavailable("credentials for an attempt") from error
        return TemporaryCredentials(
            made["AccessKeyId"],
            made["SecretAccessKey"],
            made["SessionToken"],
            made["Expiration"].timestamp(),
        )

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                import boto3
                from botocore.config import Config

                self._made = boto3.Session(region_name=self._region).client(
                    "sts",
                    endpoint_url=self._endpoint_url,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                    ),
                )
            return self._made
