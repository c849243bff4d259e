"""Sources that are not for everybody: a header for a host, credentials for a bucket, as configuration says.

Both stay where the configuration is: in the API. A worker gets with its order what its own source needs
and nothing else: the header of that host, or a URL that is signed for that object (`SourceAccess`). Values
are in no setting but in a variable or file that the setting names, are read when they are needed, and stand
in no log, no error and no record of a job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from gooseherd.blocking import in_thread
from gooseherd.domain.attempt import SourceAccess
from gooseherd.domain.errors import Misconfigured, UpstreamUnavailable
from gooseherd.domain.source import SourceFile
from gooseherd.sources.private_rules import BUCKETS, BucketRule, HeaderRule, KeyPair, bucket_of, origin_of
from gooseherd.sources.urlguard import safe_url

log = logging.getLogger(__name__)

SIGNED_SECONDS: Final = 3600
"""A URL is good for so long; a request that has begun goes on. No longer than the session of a role is."""
_USED_SECONDS: Final = 1800
"""So long a URL that was signed is used again, and the credentials of a role."""


class PrivateAccess(Protocol):
    """What opens private sources."""

    async def headers_for(self, origin: str) -> Mapping[str, str]:
        """The headers for `https://host[:port]`, and for no other."""
        ...

    async def signed(self, url: str, *, head: bool = False, named_by: str | None = None) -> str | None:
        """A URL for a GET or a HEAD of the s3 URL, for a while; None: it is read without credentials.

        `named_by` is the origin of the DRS server that named it; None: the catalog did.

        Raises:
            UpstreamUnavailable: it cannot be made now.
            Misconfigured: naming the setting.
        """
        ...

    def endpoint_of(self, url: str) -> str | None:
        """The endpoint that the configuration names for the s3 URL's bucket alone."""
        ...

    def endpoints(self) -> Sequence[str]:
        """All of those."""
        ...

    def is_private(self, url: str) -> bool:
        """Whether the source is opened by something that not everybody has.

        Of a DRS server's URL: whether what that server names may be.
        """
        ...


class GivenAccess:
    """What an order brought."""

    def __init__(self, given: SourceAccess) -> None:
        self._given = given

    async def headers_for(self, origin: str) -> Mapping[str, str]:
        """As PrivateAccess."""
        return self._given.headers.get(origin, {})

    async def signed(self, url: str, *, head: bool = False, named_by: str | None = None) -> str | None:
        """As PrivateAccess; of a HEAD a worker has no need. Who may name it the API has judged."""
        return self._given.signed.get(url)

    def endpoint_of(self, url: str) -> str | None:
        """As PrivateAccess."""
        return self._given.endpoints.get(bucket_of(url)) if url.startswith("s3://") else None

    def endpoints(self) -> Sequence[str]:
        """As PrivateAccess."""
        return tuple(self._given.endpoints.values())

    def is_private(self, url: str) -> bool:
        """As PrivateAccess."""
        return url in self._given.signed or origin_of(url) in self._given.headers


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
        self._clients: dict[str, tuple[float, KeyPair | None, Any]] = {}
        self._making = threading.Lock()

    def check(self) -> None:
        """Raises Misconfigured: a secret that is named is not there."""
        for rule in self._headers:
            rule.value()
        for bucket in self._buckets.values():
            bucket.key_pair()

    def is_private(self, url: str) -> bool:
        """As PrivateAccess."""
        if url.startswith("s3://"):
            rule = self._buckets.get(bucket_of(url))
            # Who pays is another question: a bucket of that kind may be open to all who pay.
            return rule is not None and not (rule.requester_pays and not rule.role and rule.secret is None)
        origin = origin_of(url)
        return any(rule.origin == origin for rule in self._headers) or self.opens_for(origin)

    def opens_for(self, drs_server: str) -> bool:
        """Whether there is a bucket whose objects that server (by its origin) may name."""
        return any(drs_server in rule.drs_servers for rule in self._buckets.values())

    def endpoint_of(self, url: str) -> str | None:
        """As PrivateAccess."""
        rule = self._buckets.get(bucket_of(url)) if url.startswith("s3://") else None
        return None if rule is None else rule.endpoint

    def endpoints(self) -> Sequence[str]:
        """As PrivateAccess."""
        return tuple(rule.endpoint for rule in self._buckets.values() if rule.endpoint is not None)

    async def headers_for(self, origin: str) -> Mapping[str, str]:
        """As PrivateAccess."""
        rules = [rule for rule in self._headers if rule.origin == origin]
        return {rule.name: await in_thread(rule.value) for rule in rules} if rules else {}

    async def signed(self, url: str, *, head: bool = False, named_by: str | None = None) -> str | None:
        """As PrivateAccess. Else whoever has a DRS server could read what the API opens."""
        rule = self._buckets.get(bucket_of(url)) if url.startswith("s3://") else None
        if rule is None:
            return None
        if named_by is not None and named_by not in rule.drs_servers:
            log.warning(
                "a DRS server that opens no private bucket names an object in one: it is read as by anybody",
                extra={"bucket": rule.bucket, "drs_server": named_by},
            )
            return None
        return await in_thread(self._sign, rule, url, head)

    async def for_attempt(
        self, source: SourceFile, object_urls: Sequence[str] = (), named: Mapping[str, str] | None = None
    ) -> SourceAccess | None:
        """What the attempt on that source needs.

        `object_urls`: where its drs URLs are asked for. `named`: s3 URLs that DRS servers name for it, with
        the origin of each server.
        """
        urls = source.addresses
        origins = {origin_of(url) for url in (*urls, *object_urls) if url.startswith("https://")}
        headers = {origin: dict(found) for origin in origins if (found := await self.headers_for(origin))}
        signed = {}
        named_by: dict[str, str | None] = {**(named or {}), **dict.fromkeys(urls)}
        for url, server in named_by.items():
            if (made := await self.signed(url, named_by=server)) is not None:
                signed[url] = made
        endpoints = {bucket_of(url): at for url in signed if (at := self.endpoint_of(url)) is not None}
        return SourceAccess(headers, signed, endpoints) if headers or signed else None

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
        key_pair = rule.key_pair()
        with self._making:
            until, made_with, client = self._clients.get(rule.bucket, (0.0, None, None))
            if client is None or made_with != key_pair or until < time.monotonic():
                client = self._made(rule, key_pair)
                if rule.requester_pays:
                    client.meta.events.register("before-sign.s3", _pay)
                self._clients[rule.bucket] = time.monotonic() + _USED_SECONDS, key_pair, client
            return client

    def _made(self, rule: BucketRule, key_pair: KeyPair | None) -> Any:
        import boto3
        from botocore.config import Config

        endpoint = rule.endpoint or self._endpoint
        config = Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 4},
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        session = boto3.Session(region_name=rule.region or self._region)
        if key_pair is not None:
            return session.client(
                "s3",
                endpoint_url=endpoint,
                config=config,
                aws_access_key_id=key_pair.key_id,
                aws_secret_access_key=key_pair.secret,
            )
        if rule.role is None:
            return session.client("s3", endpoint_url=endpoint, config=config)
        sts = session.client("sts", endpoint_url=self._sts_endpoint, config=config)
        found = sts.assume_role(
            RoleArn=rule.role, RoleSessionName="gooseherd-source", DurationSeconds=SIGNED_SECONDS
        )["Credentials"]
        return session.client(
            "s3",
            endpoint_url=endpoint,
            config=config,
            aws_access_key_id=found["AccessKeyId"],
            aws_secret_access_key=found["SecretAccessKey"],
            aws_session_token=found["SessionToken"],
        )


def _pay(request: Any, **_: Any) -> None:
    """In the URL, where botocore would sign it as a header that whoever has the URL has to send as well."""
    request.params["x-amz-request-payer"] = "requester"
