"""Counts the records of finished data by windows, where the kernel is not built: one more pass.

    python -m gooseherd.processing.programs.count_records bam|FORMAT DATA TABLE [CONTIGS]

Writes the table of formats/density_table.py, the same bytes as the kernel's; CONTIGS as in normalise.py.
A program of its own, because a parser in C reads untrusted bytes.
"""

from __future__ import annotations

import gc
import gzip
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from gooseherd.processing.formats.density_table import SHIFT, Sequence, flat, table_of
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.formats.variant_end import variant_end
from gooseherd.processing.programs.normalise import read_contigs

Place = tuple[bytes, int, int]
"""Name, half-open interval from 0."""


def main(argv: list[str]) -> int:
    """Run as the module's docstring says."""
    gc.disable()
    kind, data, table, *declared = argv
    lengths = read_contigs(Path(declared[0])) if declared else {}
    places = reads(data, lengths) if kind == "bam" else records(data, kind, lengths)
    counted = tuple(_sequence(name, of_name, lengths) for name, of_name in groupby(places, lambda p: p[0]))
    Path(table).write_bytes(table_of(counted).to_bytes())
    return 0


def _sequence(name: bytes, places: Iterator[Place], lengths: dict[bytes, int]) -> Sequence:
    begun: dict[int, int] = defaultdict(int)
    ended: dict[int, int] = defaultdict(int)
    highest = 0
    for _, begin, end in places:
        begun[begin >> SHIFT] += 1
        ended[(end - 1) >> SHIFT] += 1
        highest = max(highest, end)
    rows = ((window, begun.get(window, 0), ended.get(window, 0)) for window in sorted({*begun, *ended}))
    return Sequence(name, lengths.get(name, 0), highest, flat(rows))


def reads(data: str, lengths: dict[bytes, int]) -> Iterator[Place]:
    """The reads of a BAM that are not unmapped, from their first base on the sequence to their last."""
    import pysam

    with pysam.AlignmentFile(data, "rb", threads=2) as opened:
        names = [name.encode() for name in opened.references]
        lengths.update(zip(names, opened.lengths, strict=True))
        for read in opened.fetch(until_eof=True):
            if not read.is_unmapped and read.reference_id >= 0:
                begin = read.reference_start
                yield names[read.reference_id], begin, max(read.reference_end or 0, begin + 1)


def records(data: str, format_name: str, lengths: dict[bytes, int]) -> Iterator[Place]:
    """The records of finished text, as their index has them."""
    reader = reader_of(format_name)
    reader.lengths = lengths
    place = _vcf if format_name == "vcf" else _gff if format_name.startswith("gff") else _bed
    with gzip.open(data) as stream:
        for line in stream:
            if line.startswith(b"#"):
                reader.comment(0, line.rstrip(b"\n"))
            else:
                yield place(line)


def _bed(line: bytes) -> Place:
    name, begin, end = line.split(b"\t", 3)[:3]
    return _at_least_one_base(name, int(begin), int(end))


def _gff(line: bytes) -> Place:
    name, _, _, begin, end = line.split(b"\t", 5)[:5]
    return _at_least_one_base(name, int(begin) - 1, int(end))


def _vcf(line: bytes) -> Place:
    """As the kernel has it (kernel/src/formats/vcf.c)."""
    fields = line.rstrip(b"\n").split(b"\t")
    start = int(fields[1])
    end, elsewhere = variant_end(start, fields)
    return _at_least_one_base(fields[0], max(start - 1, 0), 0 if elsewhere else end)


def _at_least_one_base(name: bytes, begin: int, end: int) -> Place:
    """An empty interval counts as the base after it."""
    return name, begin, max(end, begin + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
