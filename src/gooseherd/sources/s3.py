"""s3:// as what it is for public data: an HTTPS URL. Read without credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from gooseherd.domain.errors import InvalidInput

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


@dataclass(frozen=True, slots=True)
class S3Endpoint:
    """Where buckets are. `endpoint` (http(s)://host[:port]) is addressed path-style; without it AWS is meant.

    An endpoint is allowed by being named: its buckets are read although it speaks plain http or has a
    private address, for which rules about the addresses of sources would have to be lifted for all.
    Without a region AWS's global names are used: they lead to the bucket's own region.
    """

    endpoint: str | None = None
    region: str | None = None

    def public_url(self, uri: str, region: str | None = None) -> str:
        """The URL of an object that anybody may read; the key is taken literally, not percent-decoded.

        Raises:
            InvalidInput: not s3://bucket/key, or a key that an URL's path would not keep.
        """
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not key or not _BUCKET.match(bucket) or ".." in bucket:
            raise InvalidInput("access_url", "must be s3://BUCKET/KEY")
        if any(segment in {".", ".."} for segment in key.split("/")):
            raise InvalidInput("access_url", "the key must not hold the segments '.' and '..'")
        path = quote(key, safe="/~")
        if self.endpoint is not None:
            return f"{self.endpoint.rstrip('/')}/{bucket}/{path}"
        region = region or self.region
        host = (
            f"s3.{region}.amazonaws.com"
            if region and re.fullmatch(r"[a-z0-9-]+", region)
            else "s3.amazonaws.com"
        )
        if "." in bucket:  # the certificate's wildcard covers one label
            return f"https://{host}/{bucket}/{path}"
        return f"https://{bucket}.{host}/{path}"
