"""The files that somebody wants to see together, as viewers have to be told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.formats import Family, Format
from gooseherd.domain.region import Region

BED_LIKE: Final = frozenset(
    {formats.BED, formats.NARROWPEAK, formats.BROADPEAK, formats.GAPPEDPEAK, formats.TAGALIGN}
)
GFF_LIKE: Final = frozenset({formats.GFF, formats.GFF3, formats.GTF})
SEARCHED: Final = frozenset({*GFF_LIKE, formats.BED})
TWO_ENDED: Final = frozenset({formats.BEDPE, formats.PAF, formats.PAIRS, formats.INTERACT})
NOTHING_KNOWN: Final = (
    "nothing is known of the sequences yet: ask again when a file is ready, or name an assembly"
)

Json = dict[str, Any]
Place = tuple[str, int, int]
"""Sequence, start and end, from 0 and half-open."""


@dataclass(frozen=True, slots=True)
class ServedFile:
    """One file, as it is served."""

    name: str
    """DCC/ID."""
    title: str
    format: Format
    """Of the bytes that are served, which may be another than the source's."""
    urls: Mapping[Kind, str]
    """Where each part is: absolute, for programs on other hosts."""
    index_type: str | None = None
    """`bai`, `tbi`, `csi`, `fai` or `crai`."""
    own_names: Mapping[str, str] = field(default_factory=dict)
    """What it calls sequences that have another name in the reference, by that name."""
    more: Sequence[ServedFile] = ()
    """Its records beside the data: the annotation of sequences, or the same records by their second end."""

    @property
    def data(self) -> str:
        """Where the data is."""
        return self.urls[Kind.DATA]

    @property
    def has_token(self) -> bool:
        """In its addresses, which open what is not public; who makes other addresses of them may lose it."""
        return "?" in self.data

    @property
    def index(self) -> str | None:
        """Where the index is, if there is one."""
        return self.urls.get(Kind.INDEX)

    @property
    def density(self) -> str | None:
        """Where the density is, if there is one."""
        return self.urls.get(Kind.DENSITY)

    @property
    def has_names(self) -> bool:
        """Whether its features can be looked up by name, and are worth it: of peaks and tags they are not."""
        return Kind.NAMES in self.urls and self.format in SEARCHED

    @property
    def is_sequence(self) -> bool:
        """Whether it can be the reference."""
        return self.format.family is Family.SEQUENCES

    def place(self, place: Place) -> Place:
        """The same in the file's own names."""
        contig, start, end = place
        return self.own_names.get(contig, contig), start, end


@dataclass(frozen=True, slots=True)
class Selection:
    """Files on one reference, and where to look."""

    files: Sequence[ServedFile]
    contigs: Sequence[Contig]
    """Of the reference; those without a length cannot be drawn."""
    assembly: str
    """Its name at UCSC, or one of our own."""
    is_known: bool
    """Whether that is a name others know."""
    chromsizes_url: str
    page_url: str = ""
    """Of the service, for people."""
    search_url: str | None = None
    """Where features are looked up by name, with $FEATURE$ for the name; None: no file has any."""
    aliases_url: str | None = None
    """Where the names are told that files have for sequences beside the reference's; None: there are none."""
    reference: ServedFile | None = None
    """A FASTA or 2bit with its letters."""
    region: Region | None = None
    notes: Sequence[str] = ()
    """What whoever copies it should know, whatever the viewer."""

    @property
    def drawn(self) -> Sequence[ServedFile]:
        """All but the sequences, whose annotation is drawn."""
        return [one for file in self.files for one in (file.more if file.is_sequence else (file,))]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Names and lengths in bases."""
        return [(contig.name, contig.length) for contig in self.contigs if contig.length]

    @property
    def aliases(self) -> Mapping[str, list[str]]:
        """The names that files have for sequences of the reference beside its own."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            for name, own in file.own_names.items():
                if own not in found.setdefault(name, []):
                    found[name].append(own)
        return found

    @property
    def place(self) -> Place | None:
        """The first view: the first sequence by default."""
        sizes = self.sizes
        if self.region is None:
            return (sizes[0][0], 0, sizes[0][1]) if sizes else None
        length = dict(sizes).get(self.region.contig)
        end = self.region.end or length
        if end is None:
            return None
        within = length is not None and self.region.start < length
        return self.region.contig, self.region.start, min(end, length) if length and within else end

    @property
    def locus(self) -> str | None:
        """The first view as people write it."""
        return None if self.place is None else written(self.place)


def written(place: Place) -> str:
    """A place as people write it."""
    return f"{place[0]}:{place[1] + 1}-{place[2]}"


@dataclass(slots=True)
class Snippet:
    """What to copy: as an object where the viewer reads JSON, as text always."""

    text: str
    spec: Json | None = None
    notes: list[str] = field(default_factory=list)
    """What is not shown as one may expect, in words."""
