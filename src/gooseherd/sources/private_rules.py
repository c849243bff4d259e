"""What the configuration opens: a header for a host, credentials for a bucket; secrets by their place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gooseherd.domain.errors import Misconfigured

HEADERS: Final = "SOURCE_HEADERS"
BUCKETS: Final = "SOURCE_S3_BUCKETS"

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_OPTION: Final = re.compile(r"(.*)\+(requester-pays|(endpoint|region|drs)=([^+]+))", re.DOTALL)
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_DRS_SERVER: Final = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?")
_KEY_PAIR: Final = re.compile(r"([\w-]{1,128}):([\x21-\x7e]{1,256})", re.ASCII)
_MOST_SECRET: Final = 16 << 10
_BUCKET_FORM: Final = (
    "BUCKET=ROLE_ARN, BUCKET=own, BUCKET=env:VARIABLE[.KEY] or BUCKET=file:/PATH, each with +endpoint=URL, "
    "+region=REGION, +drs=HOST or +requester-pays where that is meant"
)


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is: in the variable, or in the file. Never the secret itself.

    With a `key` the variable holds a JSON object with several, and that is this one's.
    """

    variable: str | None = None
    file: Path | None = None
    key: str | None = None

    @classmethod
    def parse(cls, text: str) -> Secret | None:
        """`env:VARIABLE`, `env:VARIABLE.KEY` or `file:/PATH`; None: it is neither."""
        kind, _, where = text.partition(":")
        if kind == "env" and where:
            variable, _, key = where.partition(".")
            return cls(variable, key=key or None)
        if kind == "file" and Path(where).is_absolute():
            return cls(file=Path(where))
        return None

    def value(self, setting: str, whose: str, environ: Mapping[str, str] = os.environ) -> str:
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
                raise Misconfigured(setting, f"the file for {whose} cannot be read") from None
        found = found.strip()
        if not found or len(found) > _MOST_SECRET or not found.isascii() or not found.isprintable():
            raise Misconfigured(setting, f"the value for {whose} is empty or cannot be one")
        return found


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """A header for a host."""

    origin: str
    name: str
    secret: Secret

    def value(self, environ: Mapping[str, str] = os.environ) -> str:
        """Read now. Raises Misconfigured; the message does not repeat it."""
        return self.secret.value(HEADERS, self.origin, environ)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What requests to S3 are signed with."""

    key_id: str
    secret: str = ""

    def __repr__(self) -> str:
        return "KeyPair(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRule:
    """How a bucket is read: as a role, with a key of its own, or with the API's own credentials."""

    bucket: str
    role: str | None = None
    secret: Secret | None = None
    requester_pays: bool = False
    endpoint: str | None = None
    """Of the S3 that it is in; None: that of all other buckets."""
    region: str | None = None
    drs_servers: frozenset[str] = frozenset()
    """Origins: an object that one of them names in the bucket is opened for whoever may see the entry."""

    def key_pair(self, environ: Mapping[str, str] = os.environ) -> KeyPair | None:
        """Its own key, read now; None: it has none. Raises Misconfigured; the message does not repeat it."""
        if self.secret is None:
            return None
        whose = f"the bucket {self.bucket}"
        pair = _KEY_PAIR.fullmatch(self.secret.value(BUCKETS, whose, environ))
        if pair is None:
            raise Misconfigured(BUCKETS, f"the key of {whose} must be ACCESS_KEY_ID:SECRET_ACCESS_KEY")
        return KeyPair(pair[1], pair[2])


def parse_headers(words: Sequence[str]) -> tuple[HeaderRule, ...]:
    """`https://host[:port]=Header-Name:env:VARIABLE[.KEY]` or `…:file:/path` each. Raises Misconfigured."""
    found = []
    for word in words:
        origin, _, rest = word.partition("=")
        name, _, where = rest.partition(":")
        secret = Secret.parse(where)
        if not _NAME.fullmatch(name) or secret is None:
            raise Misconfigured(
                HEADERS, "https://HOST=HEADER:env:VARIABLE[.KEY] or …:file:/PATH, comma-separated"
            )
        found.append(HeaderRule(_https_origin(origin), name, secret))
    return tuple(found)


def parse_buckets(words: Sequence[str]) -> tuple[BucketRule, ...]:
    """The buckets of SOURCE_S3_BUCKETS. Raises Misconfigured."""
    found = [_bucket_rule(word) for word in words]
    if len({rule.bucket for rule in found}) < len(found):
        raise Misconfigured(BUCKETS, "names a bucket twice")
    return tuple(found)


def parse_endpoint(setting: str, text: str) -> str:
    """A named endpoint, without a slash at its end. Raises Misconfigured."""
    parts = urlsplit(text)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or not _has_right_port(text)
    ):
        raise Misconfigured(setting, "http(s)://host[:port]")
    return text.rstrip("/")


def _has_right_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """Scheme, host and port, as they are compared."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def bucket_of(url: str) -> str:
    """Of an s3 URL."""
    return url.removeprefix("s3://").partition("/")[0]


def _bucket_rule(word: str) -> BucketRule:
    bucket, _, how = word.partition("=")
    pays, single, drs_servers = False, dict[str, str](), set[str]()
    while option := _OPTION.fullmatch(how):
        how, name, value = option[1], option[3], option[4]
        if name is None:
            pays = True
        elif name == "drs":
            if not (_DRS_SERVER.fullmatch(value) and _has_right_port(f"https://{value}")):
                raise Misconfigured(BUCKETS, "+drs=HOST or +drs=HOST:PORT")
            drs_servers.add(origin_of(f"https://{value}"))
        else:
            single[name] = value
    endpoint = single.get("endpoint")
    region = single.get("region")
    role, secret = (how if _ROLE.fullmatch(how) else None), Secret.parse(how)
    if not bucket or not (how == "own" or role or secret) or (region and not _REGION.fullmatch(region)):
        raise Misconfigured(BUCKETS, _BUCKET_FORM)
    return BucketRule(
        bucket=bucket,
        role=role,
        secret=secret,
        requester_pays=pays,
        endpoint=None if endpoint is None else parse_endpoint(BUCKETS, endpoint),
        region=region,
        drs_servers=frozenset(drs_servers),
    )


def _member(text: str, key: str) -> str:
    """The text under that key of a JSON object; empty when there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    member = found.get(key) if isinstance(found, dict) else None
    return member if isinstance(member, str) else ""


def _https_origin(text: str) -> str:
    """Raises Misconfigured. Only https: a header that opens something does not go in clear."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or "@" in parts.netloc:
        raise Misconfigured(HEADERS, "hosts are named https://HOST or https://HOST:PORT")
    return origin_of(text)
