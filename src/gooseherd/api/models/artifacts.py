"""What was made of a file: whether it is there, its manifest, its contigs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, WithJsonSchema

from gooseherd.api.models.response import Link, PartWord, ResponseModel, StatusWord
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.source import SourceFile

NOTES_SHOWN: Final = 50
COUNTS_SHOWN: Final = 200
CONTIGS_SHOWN: Final = 10_000
_NOTE_CHARACTERS: Final = 1000


NameAndLength = Annotated[
    tuple[str, int | None],
    # Not as pydantic has it, by prefixItems, which few readers of OpenAPI know.
    WithJsonSchema(
        {"type": "array", "items": {"type": ["string", "integer", "null"]}, "minItems": 2, "maxItems": 2}
    ),
]
"""A sequence's name and length."""


class PartReadiness(ResponseModel):
    """Whether a GET would return bytes now; asking starts nothing."""

    ready: bool
    job_id: str | None = None
    status: StatusWord | None = None
    job_url: str | None = None
    size: int | None = None
    etag: str | None = None


class NameView(ResponseModel):
    """One name of a file; `size` and `sha256` once it is made."""

    name: str
    kind: PartWord
    url: str
    ready: bool
    size: int | None
    sha256: str | None
    artifact_url: str | None = Field(description="Where these bytes are served for good, by their digest.")


class NameList(ResponseModel):
    """The names under which the parts of a file are served."""

    names: list[NameView]


class ManifestPart(ResponseModel):
    """One object of an artifact; `sha256` is its strong ETag."""

    kind: PartWord
    size: int
    sha256: str
    filename: str
    media_type: str
    url: str
    artifact_url: str = Field(description="Where these bytes are served for good, by their digest.")


class ManifestView(ResponseModel):
    """What was made of a file: its parts, by what, and what was noticed on the way."""

    dcc: str
    local_id: str
    source: str = Field(description="Identity of the source's content; `weak-…` without a checksum.")
    source_format: str
    processor: str
    processor_version: str
    digest: str = Field(description="sha256 of the manifest; the job that made it has it too.")
    parts: list[ManifestPart]
    counts: dict[str, int] = Field(description="Such as records read, lines dropped and why.")
    notes: list[str] = Field(description="What was dropped, changed or could not be done, for people.")
    tools: dict[str, str] = Field(description="Versions of the programs that made it.")
    contig_count: int
    contigs: list[NameAndLength] | None = Field(
        default=None, description="With `?contigs=true`: the first 10000; `contigs_url` has all."
    )
    contigs_url: str

    @classmethod
    def of(
        cls,
        entry: SourceFile,
        manifest: Manifest,
        link: Link,
        paths: Mapping[Kind, str],
        artifacts: Mapping[Kind, str],
        *,
        contigs: bool,
    ) -> ManifestView:
        """The manifest as clients see it: without the cache's keys."""
        return cls(
            dcc=entry.dcc,
            local_id=entry.local_id,
            source=manifest.source,
            source_format=manifest.source_format,
            processor=manifest.processor,
            processor_version=manifest.processor_version,
            digest=manifest.digest,
            parts=[
                ManifestPart(
                    kind=part.kind.value,
                    size=part.size,
                    sha256=part.sha256,
                    filename=part.filename,
                    media_type=part.media_type,
                    url=link(paths[part.kind]),
                    artifact_url=link(artifacts[part.kind]),
                )
                for part in manifest.parts
            ],
            counts=counts_of(manifest),
            notes=notes_of(manifest),
            tools=dict(manifest.tools),
            contig_count=len(manifest.contigs),
            contigs=[(contig.name, contig.length) for contig in manifest.contigs[:CONTIGS_SHOWN]]
            if contigs
            else None,
            contigs_url=link(f"/contigs/{entry.name}"),
        )


def notes_of(manifest: Manifest) -> list[str]:
    """The first NOTES_SHOWN notes, each of bounded length; how many more there are is a note too."""
    notes = [
        note if len(note) <= _NOTE_CHARACTERS else note[:_NOTE_CHARACTERS] + "…"
        for note in manifest.notes[:NOTES_SHOWN]
    ]
    more = len(manifest.notes) - len(notes)
    return [*notes, f"{more} more notes"] if more > 0 else notes


def counts_of(manifest: Manifest) -> dict[str, int]:
    """The first COUNTS_SHOWN counts by name."""
    return dict(sorted(manifest.counts.items())[:COUNTS_SHOWN])


class Contigs(ResponseModel):
    """Reference sequences, in the shape of a Gosling `assembly`; a length may be unknown (null)."""

    contigs: list[NameAndLength] = Field(examples=[[["chr1", 248956422], ["chr2", 242193529]]])
    aliases: dict[str, list[str]] = Field(
        description="Other names of sequences that are known by name and length.",
        examples=[{"chr1": ["1", "CM000663.2", "NC_000001.11"]}],
    )
