"""Records to query an index for, read without it: from the data and the source. All in Latin-1."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from gooseherd.domain.bgzf import BLOCK_BYTES, HEADER_BYTES, htslib_header
from gooseherd.domain.bgzf import inflate as inflate_block
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bbi import all_items, is_big_endian
from gooseherd.processing.formats.decompression import Compression, Inflation, inflate
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.formats.records import MAX_COORDINATE
from gooseherd.processing.programs.bigbed_to_bed import lines_of
from gooseherd.processing.programs.normalise import normalise
from gooseherd.processing.verification.index_queries import PlaceColumns, Placed, Region, content_of, placer

_SOURCE_BYTES: Final = 1 << 18
"""Bytes of text that are read from the start of a source: tens of milliseconds."""
_MOST_READS: Final = 2_000
_STRETCH_RECORDS: Final = 400
"""Records of one stretch of the data."""
_BLOCK_START: Final = b"\x1f\x8b\x08\x04"
"""What to search for; the rest of the header is then read."""
_FULL_BLOCK: Final = 0xFF00
"""What htslib puts into a block when nothing makes it stop before."""
_MIDDLES: Final = 4
_SOURCE_REGIONS: Final = 6

Place = Callable[[str], Placed]


@dataclass(frozen=True)
class Sample:
    """Records, and how complete they are.

    `complete`: of a sequence, all records between the first and the last that is here, in order.
    `whole`: all records there are, in any order. `regions`: how many to ask for.
    """

    records: list[Placed]
    complete: bool = False
    whole: bool = False
    regions: int = 1

    @cached_property
    def _by_name(self) -> Mapping[str, list[Placed]]:
        found: dict[str, list[Placed]] = {}
        for record in self.records:
            found.setdefault(record.name, []).append(record)
        return found

    def names(self) -> set[str]:
        return set(self._by_name)

    def region(self, chance: random.Random) -> Region | None:
        """A random region for which this sample knows the answer; None: there is none."""
        record = chance.choice(self.records)
        if self.whole or not self.complete:
            width = chance.choice((1, 100, 10_000)) if self.whole else 1
            begin = max(record.begin - chance.randrange(width), 0)
            end = record.begin + chance.randrange(width) + 1
            return Region(record.name, begin, min(end, MAX_COORDINATE))
        # Outside of a stretch there may be more records with its first or last start.
        of_name = self._by_name[record.name]
        low, high = of_name[0].begin + 1, of_name[-1].begin
        return Region(record.name, low, high) if low < high else None

    def within(self, region: Region) -> Counter[str]:
        """The contents of the records that begin in `region`; those that no query finds left out."""
        found = [r.content for r in self._starting_in(region) if _can_be_found(r)]
        # What was read in the middle of a source may have been read twice.
        return Counter(found if self.complete else set(found))

    def reaching(self, region: Region, chance: random.Random) -> Placed | None:
        """One of the records that begin in `region`."""
        found = self._starting_in(region)
        return chance.choice(found) if found else None

    def _starting_in(self, region: Region) -> list[Placed]:
        return [r for r in self._by_name.get(region.name, ()) if region.begin <= r.begin < region.end]


def of_blocks(data: Path, place: Place, stretches: int, chance: random.Random) -> list[Sample]:
    """Stretches of a sorted BGZF text, from places all over it."""
    samples = []
    with data.open("rb") as stream:
        for _ in range(stretches):
            text = _text_at(stream, chance.randrange(max(data.stat().st_size, 1)))
            lines = text.split("\n")[1:-1]
            records = [place(line) for line in lines[:_STRETCH_RECORDS] if line and line[0] != "#"]
            samples.append(Sample(records, complete=True))
    return samples


@dataclass(frozen=True)
class SourceLines:
    """Records of a source as they must stand in the data; `whole`: all there are."""

    lines: list[str]
    whole: bool = False
    ahead: tuple[PlaceColumns, list[Placed]] | None = None
    """Their places, if these should be the columns."""

    def placed_ahead(self, columns: PlaceColumns) -> SourceLines:
        """The same, faster to place where an index turns out to have these columns."""
        place = placer(columns)
        return replace(self, ahead=(columns, [place(line) for line in self.lines]))

    def placed(self, columns: PlaceColumns) -> Sample:
        """The same with their places."""
        if self.ahead is not None and self.ahead[0] == columns:
            records = self.ahead[1]
        else:
            records = [placer(columns)(line) for line in self.lines]
        return Sample(records, complete=self.whole, whole=self.whole, regions=_SOURCE_REGIONS)


def lines_of_source(source: Path, format_name: str, chance: random.Random) -> SourceLines:
    """Some, or all of a small source; none when it is not cheap to read."""
    if format_name == "bigbed":
        return _of_bigbed(source, chance)
    reader, found = reader_of(format_name), Inflation()
    reader.skip_bad_lines = True  # There are none, or they were left out.
    with source.open("rb") as stream:
        beginning = _Beginning(inflate(stream, found, size=source.stat().st_size, max_bytes=1 << 40))
        try:
            records = [line for block in normalise(beginning, reader) for line in _lines(block)]
        except StepFailed:
            return SourceLines([])
        if beginning.whole:
            records += _lines(reader.added())
        if not beginning.whole and not reader.over:
            reader.skip_bad_lines = False
            for _ in range(_MIDDLES):
                text = _middle(stream, found.compression, chance)
                text = text[text.find(b"\n") + 1 : text.rfind(b"\n") + 1]
                # From the middle of a file, lines may be misread: a refusal means nothing here.
                with suppress(StepFailed):
                    records += _lines(reader.block(1, text)) if text else []
    return SourceLines(records, beginning.whole)


def of_alignments(path: Path, format_name: str, work: Path) -> Sample:
    """The first reads of a source."""
    import pysam

    whole = True
    try:
        if format_name == "sam":
            path, whole = _beginning_of_sam(path, work / "beginning.sam")
        with pysam.AlignmentFile(str(path), check_sq=False) as opened:
            reads = list(islice(opened.fetch(until_eof=True), _MOST_READS))
            whole = whole and len(reads) < _MOST_READS
            return Sample(list(_placed(reads)), complete=whole, whole=whole, regions=_SOURCE_REGIONS)
    except (OSError, ValueError, NotImplementedError, StepFailed):  # a BAM in plain gzip knows no places
        return Sample([])


class _Beginning:
    """The first chunks of a text, up to the end of a line; `whole` says whether that was all."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.whole = True

    def __iter__(self) -> Iterator[bytes]:
        read = 0
        for chunk in self._chunks:
            read += len(chunk)
            if read > _SOURCE_BYTES and b"\n" in chunk:
                self.whole = False
                yield chunk[: chunk.rfind(b"\n") + 1]
                return
            yield chunk


def reads_in_blocks(data: Path, opened: Any, stretches: int, chance: random.Random) -> list[Sample]:
    """Stretches of a sorted BAM in which reads begin where blocks begin."""
    samples = []
    with data.open("rb") as stream:
        for _ in range(stretches):
            before = _block_at(stream, chance.randrange(max(data.stat().st_size, 1)))
            start = None if before is None else _next_block_of_a_short_one(stream, before)
            if start is None:
                continue
            opened.seek(start << 16)
            try:
                reads = list(islice(opened.fetch(until_eof=True), _STRETCH_RECORDS))
            except (OSError, ValueError):
                continue  # A header of several blocks.
            samples.append(Sample(list(_placed(reads)), complete=True))
    return samples


def _next_block_of_a_short_one(stream: BinaryIO, start: int) -> int | None:
    """Where the next block begins, if the writer ended this one early because the next read did not fit."""
    stream.seek(start)
    header = htslib_header(stream.read(HEADER_BYTES))
    if header is None:
        return None
    after = start + header.length
    stream.seek(after - 4)
    filled = int.from_bytes(stream.read(4), "little")
    return after if 0 < filled < _FULL_BLOCK else None


def _placed(reads: Iterable[Any]) -> Iterator[Placed]:
    for read in reads:
        if read.reference_id >= 0 and read.reference_start >= 0:
            yield Placed(
                read.reference_name,
                read.reference_start,
                read.reference_end or read.reference_start + 1,
                content_of(read),
            )


def _can_be_found(record: Placed) -> bool:
    """Nothing overlaps an empty interval at 0; and VCF's position 0 lies before the first base."""
    return record.begin >= 0 and (record.begin, record.end) != (0, 0)


def _lines(block: bytes) -> list[str]:
    return block.decode("latin-1").split("\n")[:-1]


def _text_at(stream: BinaryIO, offset: int) -> str:
    """The text of some blocks behind `offset`; what is cut at its ends begins and ends it."""
    start = _block_at(stream, offset)
    if start is None:
        start = 0
    stream.seek(start)
    raw, text = stream.read(4 * BLOCK_BYTES), b"" if start else b"\n"
    # Members of plain gzip may follow blocks; their headers name no length.
    while (header := htslib_header(raw)) and len(text) < 2 * BLOCK_BYTES:
        if len(raw) < header.length:
            break
        text += inflate_block(raw, header)
        raw = raw[header.length :]
    return text.decode("latin-1")


def _block_at(stream: BinaryIO, offset: int) -> int | None:
    """Where the first BGZF block at or behind `offset` begins."""
    stream.seek(offset)
    raw = stream.read(2 * BLOCK_BYTES)
    at = raw.find(_BLOCK_START)
    while at >= 0:
        header = htslib_header(raw, at)
        if header is not None:
            after = at + header.length
            if raw[after : after + len(_BLOCK_START)] in (_BLOCK_START, b""):
                return offset + at
        at = raw.find(_BLOCK_START, at + 1)
    return None


def _middle(stream: BinaryIO, compression: Compression, chance: random.Random) -> bytes:
    """Some text from anywhere, begun and ended in the middle of a line; nothing where packing forbids it."""
    offset = chance.randrange(max(stream.seek(0, os.SEEK_END), 1))
    if compression is Compression.BGZF:
        return _text_at(stream, offset).encode("latin-1")
    stream.seek(offset)
    return stream.read(BLOCK_BYTES) if compression is Compression.PLAIN else b""


def _of_bigbed(source: Path, chance: random.Random) -> SourceLines:
    """Items of a few windows; the first ones of a file that the library cannot read."""
    import pyBigWig

    if is_big_endian(source):
        items = ((name, item) for name, found in all_items(source) for item in found)
        texts = (lines_of(name, [item]) for name, item in islice(items, _STRETCH_RECORDS))
        return SourceLines([line for text in texts for line in _lines(text)])
    lines: list[str] = []
    try:
        opened: Any = pyBigWig.open(str(source))
        contigs = sorted((contig, length) for contig, length in opened.chroms().items() if length > 0)
        for _ in range(_MIDDLES if contigs else 0):
            contig, length = chance.choice(contigs)
            at = chance.randrange(length)
            found = opened.entries(contig, at, min(at + 1_000_000, length)) or ()
            lines += _lines(lines_of(contig, found[:_STRETCH_RECORDS]))
    except RuntimeError:
        return SourceLines([])
    return SourceLines(lines)


def _beginning_of_sam(source: Path, to: Path) -> tuple[Path, bool]:
    with source.open("rb") as stream, to.open("wb") as out:
        size = source.stat().st_size
        beginning = _Beginning(inflate(stream, Inflation(), size=size, max_bytes=1 << 40))
        for block in normalise(beginning, reader_of("sam")):
            out.write(block)
    return to, beginning.whole
