"""Catalog entries, and what became of registering and removing them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from gooseherd.api.models.response import Link, PartWord, ResponseModel
from gooseherd.domain.artifact import Kind
from gooseherd.domain.source import AccessLevel, SourceFile


class SidecarView(ResponseModel):
    """An index that upstream publishes."""

    kind: str
    access_url: str | None
    size_in_bytes: int | None


class FileView(ResponseModel):
    """A catalog entry. Addresses, which may carry a signature or a path of ours, are the admin's to see."""

    dcc: str
    local_id: str
    filename: str
    file_format: str
    access_url: str | None = Field(
        description="For the admin the address; for others its scheme and host, and nothing of a file "
        "that is not public."
    )
    md5: str | None
    sha256: str | None
    size_in_bytes: int | None
    version_tag: str | None
    data_access_level: str
    status: str
    sidecars: list[SidecarView]
    identity: str = Field(description="What keys are made of; `weak-…` when no digest is known.")
    data_url: str
    index_url: str
    names_url: str = Field(description="The names of its parts, as a folder.")
    artifact_urls: dict[PartWord, str] | None = Field(
        default=None,
        description="Where the bytes of its parts are served for good, by their digest; only for a single "
        "entry, once it is made.",
    )

    @classmethod
    def of(
        cls,
        entry: SourceFile,
        link: Link,
        paths: Mapping[Kind, str],
        *,
        admin: bool,
        artifacts: Mapping[Kind, str] | None = None,
    ) -> FileView:
        """The entry as a client or the admin sees it; `paths` is where its parts are."""
        fields: dict[str, Any] = entry.to_json()
        if not admin:
            public = entry.access_level is AccessLevel.PUBLIC
            for shown in (fields, *fields["sidecars"]):
                shown["access_url"] = _origin(shown["access_url"]) if public else None
        return cls(
            **fields,
            identity=str(entry.identity),
            data_url=link(paths[Kind.DATA]),
            index_url=link(paths[Kind.INDEX]),
            names_url=link(f"/files/{entry.name}/"),
            artifact_urls={kind.value: link(path) for kind, path in artifacts.items()} if artifacts else None,
        )


def _origin(url: str) -> str:
    """Scheme and host; of a file on the service's own disk the scheme."""
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{host}" if host else f"{scheme}:"


class FileList(ResponseModel):
    """One page of the catalog by (dcc, local_id); `next` goes into `after`."""

    files: list[FileView]
    next: str | None


class Registered(ResponseModel):
    """How many entries were stored, and how many of them were new."""

    imported: int
    new: int


class Removed(ResponseModel):
    """What became of an entry that was taken out, and of the work on its content."""

    dcc: str
    local_id: str
    filename: str
    access_url: str
    identity: str
    same_content: list[str] = Field(
        description="Other entries (DCC/ID) with this content, at most 10; with one, the job goes on."
    )
    job_id: str | None = Field(description="The job that was working on this content, if one was.")
    job_withdrawn: bool = Field(description="Whether that job was cancelled, or asked to stop.")


class LineError(ResponseModel):
    """A line of an import that was not stored."""

    line: int = Field(ge=1)
    field: str | None
    problem: str


class Imported(Registered):
    """What became of an import; `errors` has the first 100 of the `failed`."""

    failed: int
    errors: list[LineError]
