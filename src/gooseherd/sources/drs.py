"""drs:// to where the bytes are, by the GA4GH Data Repository Service 1.x."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.source import MOST_BYTES
from gooseherd.sources.guarded import GuardedHttp
from gooseherd.sources.private_rules import origin_of
from gooseherd.sources.s3 import S3Endpoint
from gooseherd.sources.urlguard import parse, safe_url
from gooseherd.terminal import visible

_HOSTNAME_BASED: Final = re.compile(r"drs://([^/:]+(?::\d+)?)/(.+)$")
_COMPACT: Final = re.compile(r"drs://((?:[A-Za-z0-9._-]+/)?[A-Za-z0-9._-]+):(.+)$")
_HEADER: Final = re.compile(r"([A-Za-z0-9-]{1,64}):\s*+([\x21-\x7e][\x20-\x7e]{0,7999})")
_NOT_ITS_OWN: Final = frozenset(
    {
        *(
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
        ),
        *("accept-encoding", "content-encoding", "proxy-authorization", "proxy-connection", "upgrade"),
        *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"),
    }
)
"""Headers that say how a request is framed, whom it is for, or which bytes it asks for: ours to say. A length
of a body that is not sent would make a server take the next request on the connection for it."""
_DIGESTS: Final = {"md5": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}")}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source's bytes are right now, and what else the catalog or the DRS server states of them.

    `headers` go with each request for the bytes. `lasting`: whether the URL stays good; a
    signed one does not. Digests are lowercase hex. `name` stands for the URL in errors: what the
    catalog calls it, where the URL would name a host of ours. `ours`, `is_opened`: as GuardedHttp.get
    has them. `s3`: what the URL is by the name of its bucket, where a DRS server says so.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    lasting: bool = True
    name: str | None = None
    ours: bool = False
    is_opened: bool = True
    s3: str | None = None

    def digests(self) -> Iterator[tuple[str, str | None]]:
        """Name and lowercase hex of each kind, the one that identities prefer first."""
        yield "md5", self.md5
        yield "sha256", self.sha256

    @property
    def display_url(self) -> str:
        """What may stand in an error."""
        return self.name or safe_url(self.url)


class Drs:
    """Resolves both forms of DRS URIs.

    `prefixes` maps a compact identifier's prefix (`dg.4503`, or `provider/namespace`) to the
    URL of its objects, `{id}` standing for the percent-encoded accession, e.g.
    `https://example.org/ga4gh/drs/v1/objects/{id}`.
    """

    def __init__(self, http: GuardedHttp, prefixes: Mapping[str, str], s3: S3Endpoint) -> None:
        self._http = http
        self._prefixes = {prefix.lower(): pattern for prefix, pattern in prefixes.items()}
        self._s3 = s3

    async def place(self, uri: str) -> Place:
        """Ask the server where the object is.

        Raises:
            InvalidInput: no DRS URI, an unknown prefix, a bundle, or no way to read it that we know.
            NotFound, AccessDenied, OutboundRefused, TransientFailure: as GuardedHttp.get_json.
        """
        objects = self.object_url(uri)
        found = _mapping(await self._http.get_json(objects, {}))
        methods = [_mapping(method) for method in _list(found.get("access_methods"))]
        if found.get("contents") and not methods:
            raise InvalidInput("access_url", f"{safe_url(uri)} is a bundle of objects; name one of them")
        sums = _digests(found.get("checksums"))
        size = found.get("size")
        url, headers, s3 = await self._access(objects, methods, uri)
        return Place(
            url=url,
            headers=headers,
            size=size if type(size) is int and 0 <= size <= MOST_BYTES else None,
            md5=sums.get("md5"),
            sha256=sums.get("sha256"),
            lasting=False,
            name=safe_url(uri),
            # Else whoever has a DRS server could read with our secret what it opens elsewhere.
            is_opened=origin_of(str(parse(url))) == self.server_of(uri),
            s3=s3,
        )

    def server_of(self, uri: str) -> str:
        """The origin of the server that is asked. Raises InvalidInput."""
        return origin_of(str(parse(self.object_url(uri))))

    def object_url(self, uri: str) -> str:
        """Where the object's description is."""
        if compact := _COMPACT.match(uri):
            prefix = compact[1].lower()
            if pattern := self._prefixes.get(prefix):
                return pattern.replace("{id}", _encoded(compact[2]))
            # host:port/id is no DRS URI by the letter, but it is what a test or an intranet has.
            if not _HOSTNAME_BASED.match(uri):
                known = ", ".join(sorted(self._prefixes)) or "none"
                raise InvalidInput(
                    "access_url",
                    f"no DRS server is known for the prefix {compact[1][:80]!r} (known: {known})",
                )
        if hostname := _HOSTNAME_BASED.match(uri):
            return f"https://{hostname[1]}/ga4gh/drs/v1/objects/{_encoded(hostname[2])}"
        raise InvalidInput("access_url", "must be drs://HOST/ID or drs://PREFIX:ACCESSION")

    async def _access(
        self, objects: str, methods: list[Mapping[str, Any]], uri: str
    ) -> tuple[str, Mapping[str, str], str | None]:
        """URL, headers, and the s3 URL that it stands for."""
        for method in _preferred(methods):
            given = method.get("access_url")
            if not given and (access_id := method.get("access_id")):
                given = await self._http.get_json(f"{objects}/access/{_encoded(str(access_id))}", {})
            access = _mapping(given or {})
            url = access.get("url")
            if not isinstance(url, str):
                continue
            if url.startswith("s3://"):
                region = method.get("region")
                return self._s3.public_url(url, region if isinstance(region, str) else None), {}, url
            if url.startswith(("https://", "http://")):
                return url, _headers(access.get("headers")), None
        offered = (
            visible(", ".join(sorted({str(method.get("type"))[:20] for method in methods}))[:200])
            or "nothing"
        )
        raise InvalidInput("access_url", f"{safe_url(uri)} is offered by {offered}; https and s3 can be read")


def _preferred(methods: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for wanted in ("https", "s3"):
        yield from (method for method in methods if method.get("type") == wanted)


def _headers(lines: object) -> Mapping[str, str]:
    """The spec has them as "Name: value" lines."""
    found = {}
    for line in _list(lines):
        header = _HEADER.fullmatch(str(line))
        if header and (name := header[1].lower()) not in _NOT_ITS_OWN:
            found[name] = header[2]
    return found


def _digests(checksums: object) -> dict[str, str]:
    """Those that can be one, by their kind, in lowercase hex."""
    found = {}
    for one in map(_mapping, _list(checksums)):
        kind = str(one.get("type", "")).lower().replace("-", "")
        digest = str(one.get("checksum", "")).lower()
        if kind in _DIGESTS and _DIGESTS[kind].fullmatch(digest):
            found[kind] = digest
    return found


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _encoded(identifier: str) -> str:
    plain = unquote(identifier)
    if plain in {".", ".."}:
        raise InvalidInput("access_url", "a DRS id cannot be '.' or '..'")
    return quote(plain, safe="")


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("access_url", "the DRS server's answer is not what the specification says")
    return value
