"""What a workflow publishes: parts, and the manifest that makes them one artifact.

The manifest is written last and once; its presence *is* publication. A step's receipt is
the same statement about one step, so that a retry knows what need not be made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from gooseherd.domain.contig import Contig, with_lengths
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.foreign_json import read_json
from gooseherd.domain.keys import CacheKey

MOST_BYTES: Final = 32 << 20
"""Of a receipt or manifest as it is stored: some half a million sequences. Whoever serves the artifact
reads it whole."""


class Kind(StrEnum):
    """The name of a part: what it is to a reader (docs/adr/0018-named-parts.md).

    Names are stored and public: one is added, never changed. Which of them an artifact has follows from its
    recipe.
    """

    DATA = "data"
    INDEX = "index"
    """Into the data: BAI, TBI, CSI or, of sequences, FAI."""
    DENSITY = "density"
    """How many records lie where: a bigWig."""
    GZI = "gzi"
    """Where the blocks of the data begin, for those that are indexed by the places of the unpacked bytes."""
    ANNOTATION = "annotation"
    """What a file says about its own sequences: GFF3."""
    ANNOTATION_INDEX = "annotation_index"
    SECOND_END = "second_end"
    """The data once more, in the order of the second of the two places that each record has."""
    SECOND_END_INDEX = "second_end_index"
    NAMES = "names"
    """Names of features and where they are: the ix of a trix index, an artifact of its own."""
    NAMES_INDEX = "names_index"
    """Into the names: the ixx."""


OWN_ADDRESS: Final = (Kind.DATA, Kind.INDEX, Kind.DENSITY)
"""Parts with an address of their own, /index/…; any part is also /data/…?part=NAME."""


@dataclass(frozen=True, slots=True)
class Part:
    """One immutable object of an artifact.

    `sha256` is of the object's bytes and is the strong ETag. `filename` is what a person
    would save it as.
    """

    kind: Kind
    key: CacheKey
    size: int
    sha256: str
    filename: str
    media_type: str = "application/octet-stream"

    @property
    def etag(self) -> str:
        """The entity tag as it stands in a header, quotes included (RFC 9110 §8.8.3)."""
        return f'"{self.sha256}"'


@dataclass(frozen=True, slots=True)
class StepReceipt:
    """What one finished step published and noticed. Written beside its parts, after them."""

    step: str
    parts: tuple[Part, ...]
    contigs: tuple[Contig, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """Whole numbers worth telling: records read, lines dropped and why."""
    notes: tuple[str, ...] = ()
    """Sentences for people about what was changed or could not be done."""
    tools: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal receipts are equal bytes."""
        return _canonical(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises InvalidInput when `data` is not a receipt."""
        try:
            return cls(**_statement(read_json(data)))
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput("receipt", f"unreadable: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole artifact; written once all its parts are stored."""

    source: str
    """Identity of the source content, kind and value."""
    source_format: str
    processor: str
    processor_version: str
    parts: tuple[Part, ...]
    contigs: tuple[Contig, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)

    def part(self, kind: Kind) -> Part | None:
        """The part of that kind, if the artifact has one."""
        return next((part for part in self.parts if part.kind is kind), None)

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal manifests are equal bytes."""
        return _canonical(asdict(self))

    @property
    def digest(self) -> str:
        """sha256 of `to_bytes()`, recorded with the completed job."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises InvalidInput when `data` is not a manifest."""
        try:
            return cls(**_statement(read_json(data)))
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput("manifest", f"unreadable: {type(error).__name__}") from None

    @classmethod
    def of_steps(
        cls,
        *,
        source: str,
        source_format: str,
        processor: str,
        processor_version: str,
        receipts: Iterable[StepReceipt],
    ) -> Self:
        """Merge the receipts of the steps; later steps win where two state the same thing.

        But for contigs: the first step that names some decides which there are and their order, and lengths
        that it does not know are taken from a later one.
        """
        parts: list[Part] = []
        contigs: tuple[Contig, ...] = ()
        counts: dict[str, int] = {}
        notes: list[str] = []
        tools: dict[str, str] = {}
        for receipt in receipts:
            parts.extend(receipt.parts)
            contigs = with_lengths(contigs, receipt.contigs)
            counts.update(receipt.counts)
            notes.extend(receipt.notes)
            tools.update(receipt.tools)
        return cls(
            source=source,
            source_format=source_format,
            processor=processor,
            processor_version=processor_version,
            parts=tuple(parts),
            contigs=contigs,
            counts=counts,
            notes=tuple(notes),
            tools=tools,
        )


def _canonical(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _statement(data: dict[str, Any]) -> dict[str, Any]:
    return {
        **data,
        "parts": tuple(
            Part(**{**part, "kind": Kind(part["kind"]), "key": CacheKey(part["key"])})
            for part in data["parts"]
        ),
        "contigs": tuple(Contig(**contig) for contig in data["contigs"]),
        "notes": tuple(data["notes"]),
    }
