"""Queries of an index, made the way readers make them."""

from __future__ import annotations

import gzip
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

_MOST_RECORDS: Final = 20_000
"""Records of one query that are compared: dense places must not take minutes."""
_CONTROL: Final = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_HEAD_BYTES: Final = 1 << 16
_NAMES_AT: Final = 36  # TBI: magic, n_ref, seven numbers of tabix (the tabix format)
_CSI_AUX_AT: Final = 16  # CSIv1: magic, min_shift, depth, l_aux


class Region(NamedTuple):
    """A half-open interval from 0; `name` in Latin-1, which holds any byte."""

    name: str
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.name[:80]}:{self.begin + 1}-{self.end}"


class Placed(NamedTuple):
    """A record and where it is; `end` None where only its reader can tell."""

    name: str
    begin: int
    end: int | None
    content: str


class PlaceColumns(NamedTuple):
    """Where a line has its place, as TBI and CSI say it; counted from 1. `preset` with its flags."""

    preset: int
    name: int
    begin: int
    end: int


PRESETS: Final = {
    "bed": PlaceColumns(0x10000, 1, 2, 3),
    "gff": PlaceColumns(0, 1, 4, 5),
    "vcf": PlaceColumns(2, 1, 2, 0),
}
"""Those of `tabix -p`."""


@dataclass(eq=False)
class Disagreement(Exception):
    """The index does not find what the data or the source holds."""

    region: Region | None
    what: str

    def __str__(self) -> str:
        return f"{self.region}: {self.what}" if self.region else self.what


class NotText(Exception):
    """Control characters at the start: htslib, and readers built on it, take the data for binary."""


def can_be_asked(name: str) -> bool:
    """Whether htslib has a way to write a region of that sequence: a brace in front is its quotation mark."""
    return not name.startswith("{")


class IndexQueries(Protocol):
    """An opened pair of data and index."""

    def starting_in(self, region: Region) -> Counter[str]:
        """The contents of the records that begin in `region`."""
        ...

    def check_reach(self, record: Placed) -> None:
        """Check that a record is found by its last base.

        Raises:
            Disagreement: it is not.
        """
        ...

    def check_names(self, names: set[str]) -> None:
        """Check that the index has these sequences and no others.

        Raises:
            Disagreement: it has not.
        """
        ...


class TabixQueries:
    """Text in BGZF by TBI or CSI; what its columns mean is what the index says."""

    def __init__(self, data: Path, index: Path) -> None:
        import pysam

        try:
            self.columns, self.names = _described(index)
        except (OSError, ValueError, EOFError, struct.error) as error:
            raise _does_not_open(error) from None
        try:
            self._opened: Any = pysam.TabixFile(str(data), index=str(index), encoding="latin-1")
        except (OSError, ValueError) as error:
            with gzip.open(data) as stream:
                if _CONTROL.search(stream.read(_HEAD_BYTES)):
                    raise NotText from None
            raise _does_not_open(error) from None
        self.place = placer(self.columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._opened.close()

    def _lines(self, region: Region) -> Iterator[str]:
        # Braces are htslib's quoting of names that hold colons. One more to the left finds empty intervals.
        name = f"{{{region.name}}}" if ":" in region.name and "}" not in region.name else region.name
        region_text = f"{name}:{max(region.begin, 1)}-{region.end}"
        try:
            yield from self._opened.fetch(region=region_text)
        except (OSError, ValueError) as error:
            raise Disagreement(region, f"no answer ({type(error).__name__})") from None

    def starting_in(self, region: Region) -> Counter[str]:
        found: Counter[str] = Counter()
        # Those that begin before the region may be many, and say nothing.
        for record in map(self.place, self._lines(region)):
            if record.name == region.name and region.begin <= record.begin < region.end:
                found[record.content] += 1
                if found.total() > _MOST_RECORDS:
                    break
        return found

    def check_reach(self, record: Placed) -> None:
        if record.end is None or record.end <= record.begin:
            return
        region = Region(record.name, record.end - 1, record.end)
        for looked, line in enumerate(self._lines(region)):
            if looked > _MOST_RECORDS or line == record.content:
                return
        raise Disagreement(region, "a record is not found by its last base")

    def check_names(self, names: set[str]) -> None:
        if names != set(self.names):
            raise Disagreement(None, f"the index names {len(self.names)} sequences instead of {len(names)}")


class BamQueries:
    """A BAM by BAI or CSI."""

    def __init__(self, data: Path, index: Path) -> None:
        import pysam

        pysam.set_verbosity(0)
        try:
            self.opened: Any = pysam.AlignmentFile(str(data), "rb", index_filename=str(index))
            statistics = self.opened.get_index_statistics()
        except (OSError, ValueError) as error:
            raise _does_not_open(error) from None
        self.reads: int = sum(s.total for s in statistics) + self.opened.nocoordinate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # It repeats what was wrong before.
            self.opened.close()

    def starting_in(self, region: Region) -> Counter[str]:
        found: Counter[str] = Counter()
        try:
            for read in self.opened.fetch(region.name, region.begin, region.end):
                if region.begin <= read.reference_start:
                    found[content_of(read)] += 1
                    if found.total() > _MOST_RECORDS:
                        break
        except (OSError, ValueError) as error:
            raise Disagreement(region, f"no answer ({type(error).__name__})") from None
        return found

    def check_reach(self, record: Placed) -> None:
        if record.end is None or record.end <= record.begin:
            return
        region = Region(record.name, record.end - 1, record.end)
        for looked, read in enumerate(self.opened.fetch(*region)):
            if looked > _MOST_RECORDS or content_of(read) == record.content:
                return
        raise Disagreement(region, "a read is not found by its last base")

    def check_names(self, names: set[str]) -> None:
        if not names <= set(self.opened.references):
            raise Disagreement(None, "reads lie on sequences that the header does not name")


def _does_not_open(error: Exception) -> Disagreement:
    return Disagreement(None, f"the index does not open ({type(error).__name__})")


def content_of(read: Any) -> str:
    """What makes a read the same wherever it was stored."""
    return (
        f"{read.query_name}\t{read.flag}\t{read.reference_start}\t{read.cigarstring}\t{read.query_sequence}"
    )


def _described(index: Path) -> tuple[PlaceColumns, list[str]]:
    """(the columns, the names) of a TBI or CSI."""
    with gzip.open(index) as stream:
        head = stream.read(_NAMES_AT)
        if head[:4] == b"CSI\1":
            head = head[:_CSI_AUX_AT][8:] + head[_CSI_AUX_AT:] + stream.read(8)
        elif head[:4] != b"TBI\1":
            raise ValueError("neither TBI nor CSI")
        preset, name, begin, end, _, _, length = struct.unpack_from("<7i", head, 8)
        names = stream.read(length)
    if len(names) != length:
        raise ValueError("cut within the names")
    return PlaceColumns(preset, name, begin, end), names.decode("latin-1").split("\0")[:-1]


def placer(columns: PlaceColumns) -> Callable[[str], Placed]:
    """What finds the place of a line."""
    preset, name, begin, end = columns
    zero_based = bool(preset & 0x10000)  # TBX_UCSC (the tabix format)
    vcf = preset & 0xFFFF == 2  # TBX_VCF

    def place(line: str) -> Placed:
        fields = line.split("\t", max(name, begin, end))
        start = int(fields[begin - 1]) - (not zero_based)
        # Where a VCF record ends, htslib's versions see differently.
        return Placed(fields[name - 1], start, None if vcf else int(fields[end - 1]), line)

    return place
