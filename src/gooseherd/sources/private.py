"""Sources that are not for everybody: a header for a host, credentials for a bucket, as configuration says.

Both stay where the configuration is: in the API. A worker gets with its order what its own source needs
and nothing else: the header of that host, or a URL that is signed for that object (`SourceAccess`). Values
are in no setting but in a variable or file that the setting names, are read when they are needed, and stand
in no log, no error and no record of a job.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from gooseherd.blocking import in_thread
from gooseherd.domain.attempt import SourceAccess
from gooseherd.domain.errors import Misconfigured, UpstreamUnavailable
from gooseherd.domain.source import SourceFile
from gooseherd.sources.urlguard import safe_url

log = logging.getLogger(__name__)

HEADERS: Final = "SOURCE_HEADERS"
BUCKETS: Final = "SOURCE_S3_BUCKETS"
SIGNED_SECONDS: Final = 3600
"""A URL is good for so long; a request that has begun goes on. No longer than the session of a role is."""
_USED_SECONDS: Final = 1800
"""So long a URL that was signed is used again, and the credentials of a role."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_MOST_SECRET: Final = 16 << 10


class PrivateAccess(Protocol):
    """What opens private sources."""

    async def headers_for(self, origin: str) -> Mapping[str, str]:
        """The headers for `https://host[:port]`, and for no other."""
        ...

    async def signed(self, url: str, *, head: bool = False) -> str | None:
        """A URL for a GET or a HEAD of the s3 URL, for a while; None: it is read without credentials.

        Raises:
            UpstreamUnavailable: it cannot be made now.
            Misconfigured: naming the setting.
        """
        ...

    def is_private(self, url: str) -> bool:
        """Whether the source is opened by something that not everybody has."""
        ...


class GivenAccess:
    """What an order brought."""

    def __init__(self, given: SourceAccess) -> None:
        self._given = given

    async def headers_for(self, origin: str) -> Mapping[str, str]:
        """As PrivateAccess."""
        return self._given.headers.get(origin, {})

    async def signed(self, url: str, *, head: bool = False) -> str | None:
        """As PrivateAccess; of a HEAD a worker has no need."""
        return self._given.signed.get(url)

    def is_private(self, url: str) -> bool:
        """As PrivateAccess."""
        return url in self._given.signed or origin_of(url) in self._given.headers


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """A header for a host; its value is in a variable or file of that name.

    With a `key` the variable holds a JSON object with the secrets of several hosts, and that is this one's.
    """

    origin: str
    name: str
    variable: str | None = None
    file: Path | None = None
    key: str | None = None

    def value(self, environ: Mapping[str, str] = os.environ) -> str:
        """Read now. Raises Misconfigured; the message does not repeat it."""
        if self.variable is not None:
            found = environ.get(self.variable, "")
            if self.key is not None:
                found = _member(found, self.key)
        else:
            assert self.file is not None
            try:
                with self.file.open("rb") as secret:
                    found = secret.read(_MOST_SECRET + 1).decode()
            except (OSError, UnicodeDecodeError):
                raise Misconfigured(HEADERS, f"the file for {self.origin} cannot be read") from None
        found = found.strip()
        if not found or len(found) > _MOST_SECRET or not found.isascii() or not found.isprintable():
            raise Misconfigured(HEADERS, f"the value for {self.origin} is empty or no header's")
        return found


@dataclass(frozen=True, slots=True)
class BucketRule:
    """How a bucket is read: as a role, or with the API's own credentials; and who pays for it."""

    bucket: str
    role: str | None
    requester_pays: bool = False


def parse_headers(words: Sequence[str]) -> tuple[HeaderRule, ...]:
    """`https://host[:port]=Header-Name:env:VARIABLE[.KEY]` or `…:file:/path` each. Raises Misconfigured."""
    found = []
    for word in words:
        origin, _, rest = word.partition("=")
        name, _, where = rest.partition(":")
        kind, _, secret = where.partition(":")
        good = _NAME.fullmatch(name) and secret and kind in ("env", "file")
        if not good or (kind == "file" and not Path(secret).is_absolute()):
            raise Misconfigured(
                HEADERS, "https://HOST=HEADER:env:VARIABLE[.KEY] or …:file:/PATH, comma-separated"
            )
        if kind == "env":
            variable, _, key = secret.partition(".")
            found.append(HeaderRule(_origin(origin), name, variable, key=key or None))
        else:
            found.append(HeaderRule(_origin(origin), name, file=Path(secret)))
    return tuple(found)


def parse_buckets(words: Sequence[str]) -> tuple[BucketRule, ...]:
    """`bucket=ROLE_ARN`, `bucket=own`, either with `+requester-pays`, each. Raises Misconfigured."""
    found = []
    for word in words:
        bucket, _, how = word.partition("=")
        pays = how.endswith("+requester-pays")
        how = how.removesuffix("+requester-pays")
        if not bucket or not (how == "own" or _ROLE.fullmatch(how)):
            raise Misconfigured(BUCKETS, "BUCKET=ROLE_ARN or BUCKET=own, with +requester-pays where you pay")
        found.append(BucketRule(bucket, None if how == "own" else how, pays))
    return tuple(found)


def _member(text: str, key: str) -> str:
    """The text under that key of a JSON object; empty when there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    member = found.get(key) if isinstance(found, dict) else None
    return member if isinstance(member, str) else ""


def _origin(text: str) -> str:
    """Raises Misconfigured. Only https: a header that opens something does not go in clear."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or "@" in parts.netloc:
        raise Misconfigured(HEADERS, "hosts are named https://HOST or https://HOST:PORT")
    return origin_of(text)


def origin_of(url: str) -> str:
    """Scheme, host and port, as they are compared."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


class ConfiguredAccess:
    """What the configuration opens; in the API alone."""

    def __init__(
        self,
        headers: Sequence[HeaderRule] = (),
        buckets: Sequence[BucketRule] = (),
        *,
        endpoint: str | None = None,
        region: str | None = None,
        sts_endpoint: str | None = None,
    ) -> None:
        self._headers = tuple(headers)
        self._buckets = {rule.bucket: rule for rule in buckets}
        self._endpoint = endpoint
        self._region = region
        self._sts_endpoint = sts_endpoint
        self._clients: dict[str, tuple[float, Any]] = {}
        self._making = threading.Lock()

    def check(self) -> None:
        """Raises Misconfigured: a secret that is named is not there."""
        for rule in self._headers:
            rule.value()

    def is_private(self, url: str) -> bool:
        """As PrivateAccess."""
        if url.startswith("s3://"):
            rule = self._buckets.get(_bucket(url))
            # Who pays is another question: a bucket of that kind may be open to all who pay.
            return rule is not None and not (rule.requester_pays and rule.role is None)
        return any(rule.origin == origin_of(url) for rule in self._headers)

    async def headers_for(self, origin: str) -> Mapping[str, str]:
        """As PrivateAccess."""
        rules = [rule for rule in self._headers if rule.origin == origin]
        return {rule.name: await in_thread(rule.value) for rule in rules} if rules else {}

    async def signed(self, url: str, *, head: bool = False) -> str | None:
        """As PrivateAccess."""
        rule = self._buckets.get(_bucket(url)) if url.startswith("s3://") else None
        return None if rule is None else await in_thread(self._sign, rule, url, head)

    async def for_attempt(self, source: SourceFile, object_url: str | None) -> SourceAccess | None:
        """What the attempt on that source needs; `object_url`: where a drs URL is asked for."""
        urls = [source.access_url, *(sidecar.access_url for sidecar in source.sidecars)]
        origins = {origin_of(url) for url in (*urls, object_url or "") if url.startswith("https://")}
        headers = {origin: dict(found) for origin in origins if (found := await self.headers_for(origin))}
        signed = {url: made for url in urls if (made := await self.signed(url)) is not None}
        return SourceAccess(headers, signed) if headers or signed else None

    def _sign(self, rule: BucketRule, url: str, head: bool) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, key = url.removeprefix("s3://").partition("/")
        parameters = {"Bucket": bucket, "Key": key}
        try:
            made: str = self._client(rule).generate_presigned_url(
                "head_object" if head else "get_object", Params=parameters, ExpiresIn=SIGNED_SECONDS
            )
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            log.error("a bucket's role cannot be assumed", extra={"bucket": bucket, "code": code})
            if code in ("AccessDenied", "ValidationError", "InvalidClientTokenId", "SignatureDoesNotMatch"):
                raise Misconfigured(BUCKETS, f"the role of {bucket} cannot be assumed: {code}") from error
            raise UpstreamUnavailable(safe_url(url)) from error
        except BotoCoreError as error:
            log.error("no credentials for a bucket", extra={"bucket": bucket, "error": type(error).__name__})
            raise UpstreamUnavailable(safe_url(url)) from error
        return made

    def _client(self, rule: BucketRule) -> Any:
        """Of S3, with credentials that are good for as long as a URL that is made now."""
        with self._making:
            until, client = self._clients.get(rule.bucket, (0.0, None))
            if client is None or until < time.monotonic():
                client = self._made(rule)
                if rule.requester_pays:
                    client.meta.events.register("before-sign.s3", _pay)
                self._clients[rule.bucket] = time.monotonic() + _USED_SECONDS, client
            return client

    def _made(self, rule: BucketRule) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 4},
            s3={"addressing_style": "path" if self._endpoint else "auto"},
        )
        session = boto3.Session(region_name=self._region)
        if rule.role is None:
            return session.client("s3", endpoint_url=self._endpoint, config=config)
        sts = session.client("sts", endpoint_url=self._sts_endpoint, config=config)
        found = sts.assume_role(
            RoleArn=rule.role, RoleSessionName="gooseherd-source", DurationSeconds=SIGNED_SECONDS
        )["Credentials"]
        return session.client(
            "s3",
            endpoint_url=self._endpoint,
            config=config,
            aws_access_key_id=found["AccessKeyId"],
            aws_secret_access_key=found["SecretAccessKey"],
            aws_session_token=found["SessionToken"],
        )


def _pay(request: Any, **_: Any) -> None:
    """In the URL, where botocore would sign it as a header that whoever has the URL has to send as well."""
    request.params["x-amz-request-payer"] = "requester"


def _bucket(url: str) -> str:
    return url.removeprefix("s3://").partition("/")[0]
