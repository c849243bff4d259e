"""Catalog entries, and what became of registering and removing them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from gooseherd.api.models.jobs import JobSummary
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
    package: str | None = Field(default=None, description="Which data package it was imported from.")
    identity: str = Field(description="What keys are made of; `weak-…` when no digest is known.")
    data_url: str
    index_url: str
    names_url: str = Field(description="The names of its parts, as a folder.")
    ready: bool | None = Field(
        description="Whether its bytes would be answered now; null: not known yet, ask again. A list may say "
        "so for a minute longer than it is."
    )
    job: JobSummary | None = Field(description="The live or last job on its content, if there is one.")
    problem: str | None = Field(description="Why it cannot be prepared, if so.")
    urls: dict[PartWord, str] = Field(
        description="Where each of its parts is, or will be: for good, by its digest, once that is known; "
        "else by its name."
    )
    artifact_urls: dict[PartWord, str] | None = Field(
        default=None,
        description="Where the bytes of its parts are served for good, by their digest; once it is made and "
        "that is known, which for a single entry it is.",
    )

    @classmethod
    def of(
        cls,
        entry: SourceFile,
        link: Link,
        named: Mapping[Kind, str],
        *,
        admin: bool,
        ready: bool | None,
        job: JobSummary | None,
        problem: str | None,
        artifacts: Mapping[Kind, str],
    ) -> FileView:
        """The entry as a client or the admin sees it.

        `named` is where its parts are by their names, `artifacts` where those are for good that are known.
        """
        fields: dict[str, Any] = entry.to_json()
        if not admin:
            public = entry.access_level is AccessLevel.PUBLIC
            for shown in (fields, *fields["sidecars"]):
                shown["access_url"] = _origin(shown["access_url"]) if public else None
        where = {**named, **artifacts}
        return cls(
            **fields,
            identity=str(entry.identity),
            data_url=link(named.get(Kind.DATA, f"/data/{entry.name}")),
            index_url=link(named.get(Kind.INDEX, f"/index/{entry.name}")),
            names_url=link(f"/files/{entry.name}/"),
            ready=ready,
            job=job,
            problem=problem,
            urls={kind.value: link(where[kind]) for kind in Kind if kind in where},
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
