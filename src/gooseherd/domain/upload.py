"""Files that clients send: what is asked for, and how far it has come."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NewType

from gooseherd.domain.errors import Conflict, InvalidInput, Rejected, Unavailable
from gooseherd.domain.formats import from_filename, resolve
from gooseherd.domain.job import Requester
from gooseherd.domain.source import AccessLevel, Dcc, SidecarKind, parse_dcc

UploadId = NewType("UploadId", str)

MOST_NAME_BYTES: Final = 200
"""Of file systems 255; an index's suffix goes behind it."""
_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")
_LINES: Final = frozenset({"filename", "collection", "format", "md5", "access", "index_of"})


class UploadsDisabled(Rejected):
    """This service takes none."""

    def __str__(self) -> str:
        return "this service takes no uploads"


@dataclass(eq=False)
class UploadVersion(Rejected):
    """The request does not say that it speaks the protocol's version."""

    version: str

    def __str__(self) -> str:
        return f"send Tus-Resumable: {self.version}"


class UploadStorageFull(Unavailable):
    """There is no room for it."""

    def __str__(self) -> str:
        return "the service has no room for this file"


@dataclass(eq=False)
class WrongOffset(Conflict):
    """The bytes do not follow those that are here, or another request goes on with this upload."""

    offset: int

    def __str__(self) -> str:
        return f"the upload is at {self.offset}"


def safe_filename(name: str) -> str:
    """The last word of a client's path as it may stand in a folder, in a header and on a terminal.

    Raises:
        InvalidInput: nothing is left of it.
    """
    word = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    word = "".join(c if c.isprintable() else "_" for c in word).strip().lstrip(".")
    stem, dot, suffix = word.partition(".")
    while len(word.encode("utf-8", "replace")) > MOST_NAME_BYTES:
        stem = stem[:-1]
        word = f"{stem}{dot}{suffix}"
        if not stem:
            raise InvalidInput("filename", f"is longer than {MOST_NAME_BYTES} bytes")
    if not word:
        raise InvalidInput("filename", "names no file")
    return word


def index_kind(filename: str) -> SidecarKind | None:
    """What index a file of that name is; None: it is none."""
    suffix = filename.rpartition(".")[2].lower()
    return next((kind for kind in SidecarKind if kind == suffix), None)


@dataclass(frozen=True, slots=True)
class FileUpload:
    """What one client sends, as it said in the beginning. Times are Unix seconds."""

    upload_id: UploadId
    owner: Requester
    filename: str
    length: int
    dcc: Dcc
    file_format: str
    """Empty: an index."""
    access_level: AccessLevel
    created_at: float
    md5: str | None = None
    index_of: UploadId | None = None
    """The upload whose file it is an index of."""
    digest: str | None = None
    """The content's md5, once all of it is here."""
    file: str | None = None
    """The catalog entry that it became."""

    @property
    def complete(self) -> bool:
        """All bytes are here, and are what they should be."""
        return self.digest is not None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileUpload:
        """Raises KeyError, TypeError or ValueError: it is none."""
        return cls(**{**data, "access_level": AccessLevel(data["access_level"])})


def wanted_upload(
    upload_id: UploadId,
    owner: Requester,
    length: int,
    metadata: Mapping[str, str],
    created_at: float,
) -> FileUpload:
    """What a client asks for.

    Raises:
        InvalidInput: naming the line of the metadata.
    """
    for name in metadata:
        if name not in _LINES:
            raise InvalidInput("Upload-Metadata", f"{name!r} is none of {', '.join(sorted(_LINES))}")
    filename = safe_filename(metadata.get("filename", ""))
    index_of = UploadId(metadata["index_of"]) if metadata.get("index_of") else None
    wanted = metadata.get("format")
    file_format = resolve(wanted) if wanted else from_filename(filename)
    if index_of is not None:
        if index_kind(filename) is None:
            raise InvalidInput("filename", f"no index: those end in {', '.join(SidecarKind)}")
    elif file_format is None:
        raise InvalidInput("filename", f"{filename!r} gives no known format; say it with `format`")
    md5 = metadata.get("md5") or None
    if md5 is not None and not _MD5.fullmatch(md5):
        raise InvalidInput("md5", "must be 32 hexadecimal digits")
    try:
        access_level = AccessLevel(metadata.get("access") or "public")
    except ValueError:
        raise InvalidInput("access", f"must be one of {', '.join(AccessLevel)}") from None
    return FileUpload(
        upload_id=upload_id,
        owner=owner,
        filename=filename,
        length=length,
        dcc=parse_dcc(metadata.get("collection") or "local"),
        file_format=file_format.name if file_format is not None and index_of is None else "",
        access_level=access_level,
        created_at=created_at,
        md5=md5.lower() if md5 else None,
        index_of=index_of,
    )
