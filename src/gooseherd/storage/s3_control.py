"""S3 by boto3: credentials for everybody, and multipart uploads that end in one conditional call.

obstore, which moves all other bytes, cannot complete a multipart upload under a condition.
All functions block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.errors import CacheUnavailable, Misconfigured
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.storage.credentials_file import session_of

log = logging.getLogger(__name__)

_CREDENTIALS_FOR: Final = timedelta(minutes=10)
"""botocore renews ten minutes before they expire, so none is used past its time. obstore asks
again five minutes before we say they end: with less it would ask for every request."""
_ATTEMPTS: Final = 5
_ABORTED_AT_ONCE: Final = 1000
_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 60


class Exists(Exception):
    """Another writer's object has the key."""


class KeyChanged(Exception):
    """The key changed under the upload; whether it exists now has to be looked up."""


_preloaded: dict[str, Any] = {}


def preload(region: str) -> None:
    """Make now what the first S3Control of this region needs, in this process or a fork of it."""
    import boto3

    session = _preloaded[region] = boto3.Session(region_name=region)
    session.get_credentials()  # Kept by the session, and renewed by it.


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload under way; invisible under its key until it is completed."""

    key: str
    upload_id: str


class S3Control:
    """One bucket. The client is made at its first use and may be used from many threads."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None,
        region: str,
        connections: int,
        credentials: Path | None = None,
    ) -> None:
        import boto3

        self._bucket = bucket
        self._endpoint_url = endpoint_url
        self._region = region
        self._connections = connections
        self._session = (
            _preloaded.pop(region, None) or boto3.Session(region_name=region)
            if credentials is None
            else session_of(credentials, region)
        )

    def credentials(self) -> dict[str, Any]:
        """What obstore signs with, and until when. Raises Misconfigured: there are none."""
        found = self._session.get_credentials()
        if found is None:
            raise Misconfigured("AWS credentials", "found none: no task role, profile or AWS_ACCESS_KEY_ID")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_FOR,
        }

    @cached_property
    def _client(self) -> Any:
        from botocore.config import Config

        return self._session.client(
            "s3",
            endpoint_url=self._endpoint_url,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=self._connections,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                # Names of buckets do not resolve below an endpoint of our own.
                s3={"addressing_style": "path" if self._endpoint_url else "auto"},
            ),
        )

    def check(self) -> None:
        """See that the bucket is there."""
        with self._responding("head_bucket"):
            self._client.head_bucket(Bucket=self._bucket)

    def create(self, key: str, metadata: Mapping[str, str]) -> Upload:
        """Begin an upload."""
        with self._responding("create_multipart_upload"):
            answer = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, Metadata=dict(metadata)
            )
        return Upload(key, answer["UploadId"])

    def upload_part(self, upload: Upload, number: int, data: bytes | bytearray) -> str:
        """Store one part, the first is 1; its entity tag. All but the last are at least 5 MiB."""
        with self._responding("upload_part"):
            answer = self._client.upload_part(
                Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id, PartNumber=number, Body=data
            )
        etag: str = answer["ETag"]
        return etag

    def complete(self, upload: Upload, etags: Sequence[str]) -> None:
        """Make it the object, unless there is one. Raises Exists and KeyChanged as well."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with self._responding("complete_multipart_upload"):
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )

    def abort(self, upload: Upload) -> None:
        """Free the parts. Never raises: what stays is the business of the bucket's lifecycle rule."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
            )
        except (BotoCoreError, ClientError) as error:
            log.warning("a multipart upload was not aborted: %s", type(error).__name__)

    def abort_older(self, prefix: str, begun_before: datetime) -> int:
        """Abort uploads to keys below `prefix` that were begun before; how many, a thousand at most."""
        aborted = 0
        with self._responding("list_multipart_uploads"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Uploads", ()):
                    if aborted == _ABORTED_AT_ONCE:
                        return aborted
                    if found["Initiated"] < begun_before:
                        self.abort(Upload(found["Key"], found["UploadId"]))
                        aborted += 1
        return aborted

    def close(self) -> None:
        """Free the connections."""
        if "_client" in self.__dict__:
            self._client.close()

    @contextmanager
    def _responding(self, operation: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except ClientError as error:
            raise _meaning(error.response, operation) from error
        except NoCredentialsError as error:
            raise Misconfigured("AWS credentials", "found none") from error
        except BotoCoreError as error:
            log.error("S3 failed during %s: %s", operation, type(error).__name__)
            raise CacheUnavailable(operation) from error


def _meaning(answer: Mapping[str, Any], operation: str) -> Exception:
    code = answer["Error"]["Code"]
    match code:
        case "PreconditionFailed":
            return Exists()
        # The latter: the answer to our own completion was lost, and boto3 asked again.
        case "ConditionalRequestConflict" | "NoSuchUpload":
            return KeyChanged()
        case "NoSuchBucket" | "404":  # an answer to HEAD has its status for a code
            return Misconfigured("WORKFLOW_S3_BUCKET", "no such bucket")
        case "AccessDenied" | "403" | "InvalidAccessKeyId" | "SignatureDoesNotMatch":
            return StorageRefused("AWS credentials", f"{operation} was refused: {code}")
        case _:
            log.error("S3 failed during %s: %s", operation, code)
            return CacheUnavailable(operation)
