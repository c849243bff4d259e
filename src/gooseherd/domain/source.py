"""A catalog entry: what a file is, where its bytes lie, who may see it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NewType, Self, TypeVar

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import (
    BAM,
    BED,
    BROADPEAK,
    GAPPEDPEAK,
    GFF,
    GFF3,
    GTF,
    INTERACT,
    NAMES,
    NARROWPEAK,
    TAGALIGN,
    VCF,
    Format,
    from_filename,
    resolve,
)

Dcc = NewType("Dcc", str)
"""Data coordinating centre: the catalog's namespace. Case-insensitive, stored lowercase."""
LocalId = NewType("LocalId", str)
"""The file's id inside its dcc; case-sensitive."""

E = TypeVar("E", bound=StrEnum)

MOST_BYTES = 2**63 - 1
"""Largest size that every store holds (a signed 64-bit integer)."""

_OF_IDENTITY = ("access_url", "md5", "sha256", "size_in_bytes", "version_tag")

_DCC = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOCAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:+@=-]{0,254}")
_HEX = {"md5": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}")}


class AccessLevel(StrEnum):
    """Who may see the bytes; only `public` files leave this service."""

    PUBLIC = "public"
    CONSORTIUM = "consortium"
    PROTECTED = "protected"


class SidecarKind(StrEnum):
    """An index that upstream already publishes beside the file."""

    TBI = "tbi"
    BAI = "bai"
    CSI = "csi"
    BEDDB = "beddb"
    PX2 = "px2"
    CRAI = "crai"


CHECKED_KINDS = (SidecarKind.TBI, SidecarKind.BAI, SidecarKind.CSI)
MADE_KINDS = (*CHECKED_KINDS, SidecarKind.CRAI)
"""Never served unchecked. A CRAI takes no time to make, so upstream's is never served beside what is made."""
CHECKED_FORMATS = frozenset(
    {BAM, VCF, GFF, GFF3, GTF, BED, NARROWPEAK, BROADPEAK, GAPPEDPEAK, TAGALIGN, INTERACT}
)
"""Of which this service can make an index itself, of the bytes as they are. Of the others a TBI, BAI or CSI
leads nowhere: they become another format here (SAM, CRAM, BCF, bigBed), or have an index in them."""


class IdentityKind(StrEnum):
    """What stands for the source's content in every key.

    `WEAK` is a digest of url, size and what upstream says of the version (etag or
    modification time): it changes when those change, which is the best that can be said
    of a file nobody published a checksum for.
    """

    MD5 = "md5"
    SHA256 = "sha256"
    WEAK = "weak"


WEAK_NOTE: Final = (
    "The source has no published checksum: this artifact stands for its address, size and version tag, "
    "not for bytes that were verified."
)
"""Of whatever is made of a source with a weak identity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The content a key stands for, and how well it is known."""

    kind: IdentityKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.value}"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One upstream index of a source."""

    kind: SidecarKind
    access_url: str
    size_in_bytes: int | None = None


def parse_dcc(text: str) -> Dcc:
    """Raises InvalidInput when `text` cannot be a dcc (path parts and control bytes cannot)."""
    word = text.lower()
    if not _DCC.fullmatch(word) or ".." in word:
        raise InvalidInput("dcc", "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit")
    return Dcc(word)


def parse_local_id(text: str) -> LocalId:
    """Raises InvalidInput when `text` cannot be a local id."""
    if not _LOCAL_ID.fullmatch(text) or ".." in text:
        raise InvalidInput(
            "local_id",
            "1 to 255 letters, digits or . _ ~ : + @ = -, a letter or digit first, no '/' and no '..'",
        )
    return LocalId(text)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the catalog. Digests are lowercase hex; sizes are bytes."""

    dcc: Dcc
    local_id: LocalId
    filename: str
    file_format: Format
    access_url: str
    md5: str | None = None
    sha256: str | None = None
    size_in_bytes: int | None = None
    version_tag: str | None = None
    """Upstream's ETag or modification time, used only when no digest is known."""
    access_level: AccessLevel = AccessLevel.PUBLIC
    status: str = "active"
    sidecars: tuple[Sidecar, ...] = ()
    package: str | None = None
    """Which data package it was imported from: the next import of that may remove it."""

    @property
    def index_to_check(self) -> Sidecar | None:
        """The index that upstream publishes and that is served only if it fits; else another one is made."""
        return self._first(CHECKED_KINDS) if self.file_format in CHECKED_FORMATS else None

    def _first(self, kinds: Sequence[SidecarKind]) -> Sidecar | None:
        found = (sidecar for kind in kinds for sidecar in self.sidecars if sidecar.kind is kind)
        return next(found, None)

    @property
    def is_upstreams_pair(self) -> bool:
        """Data and index are served as upstream has them."""
        return self.unchecked_index is not None and self.index_to_check is None

    @property
    def unchecked_index(self) -> Sidecar | None:
        """The index of upstream's that is served as it is, of a kind that nothing here reads."""
        return self._first(tuple(kind for kind in SidecarKind if kind not in MADE_KINDS))

    @property
    def left_out(self) -> tuple[Sidecar, ...]:
        """Indexes of upstream's that cannot be of what is served: the format has none of that kind."""
        if self.is_upstreams_pair:
            return ()
        others = (SidecarKind.CRAI,) if self.file_format in CHECKED_FORMATS else MADE_KINDS
        return tuple(sidecar for sidecar in self.sidecars if sidecar.kind in others)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where its bytes come from: its own address, and those of its sidecars."""
        return (self.access_url, *(sidecar.access_url for sidecar in self.sidecars))

    @property
    def name(self) -> str:
        """What users call it: dcc/local_id."""
        return f"{self.dcc}/{self.local_id}"

    @property
    def identity(self) -> Identity:
        """What keys are made of: the strongest statement the catalog makes about the content."""
        if self.md5:
            return Identity(IdentityKind.MD5, self.md5)
        if self.sha256:
            return Identity(IdentityKind.SHA256, self.sha256)
        statement = json.dumps([self.access_url, self.size_in_bytes, self.version_tag])
        return Identity(IdentityKind.WEAK, hashlib.sha256(statement.encode()).hexdigest())

    def filled_in(self, seen: Self, *, size_in_bytes: int | None, version_tag: str | None) -> Self:
        """This entry with what it leaves open, if all that an identity is made of is still as in `seen`."""
        if any(getattr(self, name) != getattr(seen, name) for name in _OF_IDENTITY):
            return self
        return replace(
            self,
            size_in_bytes=size_in_bytes if self.size_in_bytes is None else self.size_in_bytes,
            version_tag=version_tag if self.version_tag is None else self.version_tag,
        )

    def to_json(self) -> dict[str, Any]:
        """The catalog's wire form; `from_json` reads it back to an equal entry."""
        # Not by asdict, which copies each value: an import spent half its time there.
        return {
            "dcc": self.dcc,
            "local_id": self.local_id,
            "filename": self.filename,
            "file_format": self.file_format.name,
            "access_url": self.access_url,
            "md5": self.md5,
            "sha256": self.sha256,
            "size_in_bytes": self.size_in_bytes,
            "version_tag": self.version_tag,
            "status": self.status,
            "sidecars": [
                {"kind": str(s.kind), "access_url": s.access_url, "size_in_bytes": s.size_in_bytes}
                for s in self.sidecars
            ],
            "data_access_level": str(self.access_level),
            "package": self.package,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a catalog entry, from this service or from a portal's dump.

        The format is `file_format` (name or EDAM id) or, failing that, the file name's suffix.

        Raises:
            InvalidInput: naming the field and what it should be.
        """
        url = _text(data, "access_url")
        if url is None:
            raise InvalidInput("access_url", "required: https://, drs:// or s3://")
        filename = _text(data, "filename") or url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
        if not 0 < len(filename) <= 255 or any(c in filename for c in '/\\"\0\r\n'):
            raise InvalidInput("filename", "a plain file name of at most 255 characters")
        return cls(
            dcc=parse_dcc(_text(data, "dcc") or ""),
            local_id=parse_local_id(_text(data, "local_id") or ""),
            filename=filename,
            file_format=_format(_text(data, "file_format"), filename),
            access_url=url,
            md5=_digest(data, "md5"),
            sha256=_digest(data, "sha256"),
            size_in_bytes=_size(data),
            version_tag=_text(data, "version_tag"),
            access_level=_member(
                AccessLevel, _text(data, "data_access_level") or "public", "data_access_level"
            ),
            status=_text(data, "status") or "active",
            sidecars=_sidecars(data.get("sidecars") or []),
            package=_text(data, "package"),
        )


def _text(data: Mapping[str, Any], field: str) -> str | None:
    value = data.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a string")
    if len(value) > 4096 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
        raise InvalidInput(field, "at most 4096 characters and no control characters")
    if not is_storable(value):
        raise InvalidInput(field, "half of a character (a lone surrogate)")
    return value


def is_storable(text: str) -> bool:
    """Whether it is made of whole characters: JSON can write half of one (a lone surrogate), no store can."""
    return text.isprintable() or not any(0xD800 <= ord(c) < 0xE000 for c in text)


def _format(name: str | None, filename: str) -> Format:
    found = resolve(name) if name else from_filename(filename)
    if found is None:
        raise InvalidInput(
            "file_format",
            f"{name or filename!r} is no known format: give an EDAM id or one of {', '.join(NAMES)}",
        )
    return found


def _digest(data: Mapping[str, Any], field: str) -> str | None:
    value = _text(data, field)
    if value is not None and not _HEX[field].fullmatch(value.lower()):
        raise InvalidInput(field, f"must be {'32' if field == 'md5' else '64'} hex digits")
    return value.lower() if value else None


def _size(data: Mapping[str, Any]) -> int | None:
    value = data.get("size_in_bytes")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InvalidInput("size_in_bytes", "must be a whole number of bytes")
    if value is not None and value > MOST_BYTES:
        raise InvalidInput("size_in_bytes", f"at most {MOST_BYTES}")
    return value


def _member(enum: type[E], value: str, field: str) -> E:
    try:
        return enum(value.lower())
    except ValueError:
        raise InvalidInput(field, f"must be one of {', '.join(enum)}") from None


def _sidecars(items: object) -> tuple[Sidecar, ...]:
    if not isinstance(items, list | tuple):
        raise InvalidInput("sidecars", "must be a list of {kind, access_url}")
    return tuple(_sidecar(item) for item in items)


def _sidecar(item: object) -> Sidecar:
    if not isinstance(item, Mapping):
        raise InvalidInput("sidecars", "must be a list of {kind, access_url}")
    url = _text(item, "access_url")
    if url is None:
        raise InvalidInput("sidecars.access_url", "required")
    return Sidecar(
        kind=_member(SidecarKind, _text(item, "kind") or "", "sidecars.kind"),
        access_url=url,
        size_in_bytes=_size(item),
    )
