"""The genes and transcripts a GTF names: where each of them lies, and whether it has a line of its own.

One id may stand at several places, and has a parent at each. The rules stand in kernel/src/formats/parents.h
and parents.c; this is the same in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Final

MAX_LOCUS: Final = 7_000_000
"""gffread's GFF_MAX_LOCUS: the longest gene known has 2.5 Mb, an intron of a mouse 5 Mb."""
_WINDOW_SHIFT: Final = 23
_LOOKED_THROUGH: Final = 1024

About = tuple[bytes, bytes]
"""Source and attributes of the record that named something first."""


@dataclass(eq=False)
class Name:
    """An id on a sequence."""

    contig: bytes
    id: bytes
    transcript: bool
    places: int = 0
    latest: Parent | None = None
    about: About | None = None
    """Of a gene: all its places have it."""


@dataclass(eq=False)
class Parent:
    """A gene or transcript at one place."""

    number: int
    name: Name
    start: int
    end: int
    gene_name: Name | None
    """Of a transcript; None when no record says."""
    repeat: int
    """How many places of its id came before."""
    strand: bytes
    gene: Parent | None = None
    like_gene: bool = False
    """A transcript whose gene has the same id."""
    present: bool = False
    about: About | None = None
    """Of a transcript."""

    @property
    def id(self) -> bytes:
        """As GFF3 has it, before it is escaped."""
        again = b"_dup%d" % self.repeat if self.repeat else b""
        return (b"transcript:" if self.like_gene else b"") + self.name.id + again


@dataclass(frozen=True, slots=True)
class Query:
    """Where a record lies. `near`: not only what overlaps is its parent."""

    start: int
    end: int
    strand: bytes
    near: bool = False

    def overlaps(self, parent: Parent) -> bool:
        return self.start <= parent.end and self.end >= parent.start

    def is_near(self, parent: Parent) -> bool:
        return abs(self.start - parent.start) <= MAX_LOCUS


@dataclass
class Parents:
    """All of one file."""

    all: list[Parent] = field(default_factory=list)
    _names: dict[tuple[bytes, bytes, bool], Name] = field(default_factory=dict)
    _places: dict[tuple[Name, Name | None, bytes, int], list[Parent]] = field(default_factory=dict)
    _last: dict[bool, Parent] = field(default_factory=dict)

    def name(self, contig: bytes, name: bytes, *, transcript: bool) -> Name:
        """The id on that sequence."""
        key = contig, name, transcript
        if (known := self._names.get(key)) is None:
            known = self._names[key] = Name(contig, name, transcript)
        return known

    def at(self, name: Name, gene_name: Name | None, query: Query) -> Parent:
        """The parent whose record this is, made when there is none; its extent now holds the record's."""
        parent = self._find(name, gene_name, query)
        if parent is None:
            parent = Parent(len(self.all), name, query.start, query.end, gene_name, name.places, query.strand)
            self.all.append(parent)
            name.places += 1
            name.latest = parent
            self._place(parent)
        else:
            elsewhere = query.start >> _WINDOW_SHIFT < parent.start >> _WINDOW_SHIFT
            parent.start = min(parent.start, query.start)
            parent.end = max(parent.end, query.end)
            if elsewhere:
                self._place(parent)
        self._last[name.transcript] = parent
        return parent

    def gene_above(self, contig: bytes, query: Query) -> Parent | None:
        """The gene whose line stands above, if it holds this transcript."""
        gene = self._last.get(False)
        if gene is None or not gene.present or (gene.name.contig, gene.strand) != (contig, query.strand):
            return None
        return gene if gene.start <= query.start and query.end <= gene.end else None

    def finish(self) -> None:
        """All is read: transcripts get their genes, genes reach over their transcripts."""
        left = []
        for one in self.all:
            if one.gene_name is None:
                continue
            if one.gene is None:
                left += [] if one.present else [one]
            elif not one.gene.present:
                one.gene.start = min(one.gene.start, one.start)
                one.gene.end = max(one.gene.end, one.end)
        for one in sorted(left, key=lambda one: (one.start, one.number)):
            assert one.gene_name is not None
            one.gene = self.at(one.gene_name, None, Query(one.start, one.end, one.strand))

    def _place(self, parent: Parent) -> None:
        key = parent.name, parent.gene_name, parent.strand, parent.start >> _WINDOW_SHIFT
        self._places.setdefault(key, []).append(parent)

    def _find(self, name: Name, gene_name: Name | None, query: Query) -> Parent | None:
        last = self._last.get(name.transcript)
        if (
            last is not None
            and (last.name, last.gene_name, last.strand) == (name, gene_name, query.strand)
            and query.is_near(last)
            and query.overlaps(last)
        ):
            return last
        found = self._look(name, gene_name, query) if name.places else None
        if found is not None or not name.transcript or name.latest is None:
            return found
        # Some line does not say whose transcript it is.
        if gene_name is not None:
            return self._look(name, None, query)
        latest = name.latest
        return latest if latest.strand == query.strand and query.is_near(latest) else None

    def _look(self, name: Name, gene_name: Name | None, query: Query) -> Parent | None:
        """What overlaps, else, if that is wanted, what is near; of several the one made last."""
        overlapping = near = None
        window = query.start >> _WINDOW_SHIFT
        for w in range(max(window - 1, 0), window + 2):
            there = self._places.get((name, gene_name, query.strand, w), ())
            for parent in islice(reversed(there), _LOOKED_THROUGH):
                if not query.is_near(parent):
                    continue
                if query.overlaps(parent):
                    if overlapping is None or parent.number > overlapping.number:
                        overlapping = parent
                elif near is None or parent.number > near.number:
                    near = parent
        return overlapping if overlapping is not None or not query.near else near
