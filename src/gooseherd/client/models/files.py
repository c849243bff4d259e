"""Catalog entries, and what was made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gooseherd.client.models.display import Shown
from gooseherd.client.models.jobs import Job, JobStatus, Part
from gooseherd.client.models.model import Model


@dataclass(frozen=True, eq=False)
class Sidecar(Model):
    """An index that upstream publishes."""

    kind: str
    access_url: str | None = None
    size_in_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class File(Shown):
    """A catalog entry."""

    dcc: str
    local_id: str
    filename: str = ""
    file_format: str = ""
    access_url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    size_in_bytes: int | None = None
    version_tag: str | None = None
    data_access_level: str = "public"
    status: str = ""
    sidecars: tuple[Sidecar, ...] = ()
    identity: str = ""
    data_url: str = ""
    index_url: str = ""
    names_url: str = ""
    ready: bool | None = None
    job: Job | None = None
    problem: str | None = None
    package: str | None = None
    urls: Mapping[str, str] | None = None
    artifact_urls: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """DCC/ID."""
        return f"{self.dcc}/{self.local_id}"


@dataclass(frozen=True, eq=False)
class PartStatus(Model):
    """Whether a part could be read now, else the job that is on it."""

    ready: bool
    job_id: str | None = None
    status: JobStatus | None = None
    job_url: str | None = None
    size: int | None = None
    etag: str | None = None


@dataclass(frozen=True, eq=False)
class PartName(Model):
    """One name of a file; `size` and `sha256` once it is made."""

    name: str
    kind: str
    url: str = ""
    ready: bool = False
    size: int | None = None
    sha256: str | None = None
    artifact_url: str | None = None


@dataclass(frozen=True, eq=False)
class Manifest(Model):
    """What was made of a file: its parts, by what, and what was noticed on the way."""

    dcc: str = ""
    local_id: str = ""
    digest: str = ""
    source: str = ""
    source_format: str = ""
    processor: str = ""
    processor_version: str = ""
    parts: tuple[Part, ...] = ()
    counts: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] | None = None
    contig_count: int = 0
    contigs: tuple[tuple[str, int | None], ...] | None = None
    contigs_url: str = ""


@dataclass(frozen=True, eq=False)
class Contigs(Model):
    """Names and lengths of reference sequences (unknown: None), and their other names."""

    contigs: tuple[tuple[str, int | None], ...]
    aliases: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, eq=False)
class TrackText(Model):
    """Files as one viewer wants to be told of them: `spec` is for viewers that read JSON, `text` to copy."""

    viewer: str
    text: str = ""
    spec: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Registered(Model):
    """How many entries were stored, and how many of them were new."""

    imported: int = 0
    new: int = 0


@dataclass(frozen=True, eq=False)
class LineError(Model):
    """A line of an import that was not stored."""

    line: int
    field: str | None = None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Imported(Registered):
    """What became of an import; `errors` has the first 100 of the `failed`."""

    failed: int = 0
    errors: tuple[LineError, ...] = ()


@dataclass(frozen=True, eq=False)
class Removed(Model):
    """What became of an entry that was taken out, and of the work on its content."""

    dcc: str = ""
    local_id: str = ""
    filename: str = ""
    access_url: str = ""
    identity: str = ""
    same_content: tuple[str, ...] = ()
    job_id: str | None = None
    job_withdrawn: bool = False


@dataclass(frozen=True, eq=False)
class FoundName(Model):
    """One place of one name: `start` and `end` from 1, both inclusive, as in `region`."""

    name: str
    matched: str = ""
    exact: bool = False
    contig: str = ""
    start: int = 0
    end: int = 0
    region: str = ""
    file: str = ""


@dataclass(frozen=True, eq=False)
class PendingNames(Model):
    """A file whose names are being indexed."""

    file: str
    job_id: str = ""
    job_url: str = ""


@dataclass(frozen=True, eq=False)
class FoundNames(Model):
    """Exact names first. Ask again for files that are `pending`; `notes` say which cannot be searched."""

    results: tuple[FoundName, ...]
    pending: tuple[PendingNames, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Upload(Model):
    """An upload: how far it is, and the catalog entry (`file`, DCC/ID) that it has become."""

    upload_id: str
    filename: str = ""
    length: int = 0
    offset: int = 0
    collection: str = ""
    file_format: str = ""
    index_of: str | None = None
    complete: bool = False
    md5: str | None = None
    file: str | None = None
    file_url: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    upload_url: str = ""


@dataclass(frozen=True, eq=False)
class Uploads(Model):
    """Whether this caller may upload, up to which size, and their uploads."""

    allowed: bool
    max_bytes: int = 0
    uploads: tuple[Upload, ...] = ()
