"""Writes a bigWig of sorted bedGraph in BGZF; a program of its own, because a library in C writes it.

    python -m gooseherd.processing.programs.write_signal DATA OUT --spool FILE --report FILE
        [--skip-bad-values NUMBER]

A bigWig names its sequences and their lengths before all values, and bedGraph says no lengths: the values go
to the spool first, twelve bytes each. No base of a bigWig has two values: of records that overlap, the one
that begins first has the bases. Lengths are where the last value of a sequence ends. Without any value the
bigWig is empty. With --skip-bad-values up to so many records whose value is no number are left out, and the
report names their places.

The report has, as JSON, the sequences, the counts of what was changed, and a sample of values for whoever
checks the result. Exit status 65: the source was refused, and the report says why.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import math
import random
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats import bigwig
from gooseherd.processing.formats.signal_value import value_of

_CHUNK: Final = 1 << 20
_BATCH: Final = 1 << 16
"""Values that are handed to the library at a time."""
_RECORD_BYTES: Final = 12
MOST_SEQUENCES: Final = 50_000
"""The library looks each of them up by reading through all: beyond this, minutes become hours."""
_SAMPLED: Final = 200
_LONGEST_NAME: Final = 255


class Spool:
    """Values of sorted records without overlaps, in a file, and what is known of their sequences."""

    def __init__(self, file: BinaryIO, chance: random.Random, most_bad: int | None = None) -> None:
        self._file = file
        self._most_bad = most_bad
        """Records without a value that are left out; None: the first refuses the file."""
        self.bad_values: list[str] = []
        self._chance = chance
        self.sequences: list[tuple[bytes, int, int]] = []
        """Name, values, end of the last."""
        self.counts: dict[str, int] = {}
        self.values = 0
        self.covered = 0
        self.sample: list[tuple[str, int, int, float]] = []
        self._end = 0

    def take(self, lines: list[bytes]) -> None:
        """Records, in order.

        Raises:
            StepFailed: source_invalid; one has no value.
        """
        rows = [line.split(b"\t", 4) for line in lines if line[:1] != b"#"]
        if len(rows) != len(lines):
            self._count("comment_lines", len(lines) - len(rows))
        for name, group in groupby(rows, key=lambda row: row[0]):
            if not self.sequences or self.sequences[-1][0] != name:
                if len(self.sequences) >= MOST_SEQUENCES:
                    raise _refused(f"more than {MOST_SEQUENCES} sequences, which no bigWig is made of here")
                self.sequences.append((name, 0, 0))
                self._end = 0
            self._take_of(name, list(group))

    def _take_of(self, name: bytes, rows: list[list[bytes]]) -> None:
        try:
            starts = [int(row[1]) for row in rows]
            ends = [int(row[2]) for row in rows]
            words = [row[3] for row in rows]
            # Python takes 1_0 for 10.
            if b"_" in b"\t".join(words):
                raise ValueError("one of them is no number")
            values = list(map(float, words))
        except (ValueError, IndexError):
            starts, ends, values = self._one_by_one(name, rows)
        if any(len(row) > 4 for row in rows):
            self._count("left_out_columns", sum(len(row) > 4 for row in rows))
        disjoint = not starts or starts[0] >= self._end
        simple = disjoint and all(map(int.__ge__, starts[1:], ends)) and all(map(int.__lt__, starts, ends))
        if not simple or not all(map(math.isfinite, values)):
            starts, ends, values = self._without_overlaps(starts, ends, values)
        if not starts:
            return
        self._write(name, starts, ends, values)

    def _one_by_one(self, name: bytes, rows: list[list[bytes]]) -> tuple[list[int], list[int], list[float]]:
        starts, ends, values = [], [], []
        for row in rows:
            place = f"{_text(name)}:{_text(row[1])}-{_text(row[2])}"
            value = value_of(row[3].strip()) if len(row) > 3 else None
            if value is None:
                self._leave_out(place, row)
                continue
            starts.append(int(row[1]))
            ends.append(int(row[2]))
            values.append(value)
        return starts, ends, values

    def _leave_out(self, place: str, row: list[bytes]) -> None:
        problem = f"the record {place} has no value: bedGraph has 4 columns"
        if len(row) > 3:
            problem = f"the value {_text(row[3])!r} of the record {place} is no number"
        if self._most_bad is None:
            raise _refused(problem)
        if len(self.bad_values) >= self._most_bad:
            raise _refused(f"more than {self._most_bad} records without a value, such as: {problem}")
        self.bad_values.append(place)
        self._count("bad_lines")

    def _without_overlaps(
        self, starts: list[int], ends: list[int], values: list[float]
    ) -> tuple[list[int], list[int], list[float]]:
        kept: tuple[list[int], list[int], list[float]] = ([], [], [])
        last = self._end
        for start, end, value in zip(starts, ends, values, strict=True):
            if not math.isfinite(value):
                self._count("without_number")
                continue
            if start == end:
                self._count("empty_records")
                continue
            if start < last:
                self._count("overlapping_records")
                start = last  # noqa: PLW2901 - the rest of it
                if end <= start:
                    continue
            kept[0].append(start)
            kept[1].append(end)
            kept[2].append(value)
            last = end
        return kept

    def _write(self, name: bytes, starts: list[int], ends: list[int], values: list[float]) -> None:
        flat = array("i", starts + ends)
        numbers = array("f", values)
        if not all(map(math.isfinite, numbers)):
            raise _refused(f"a value of {_text(name)} is larger than any of a bigWig (3.4e38)")
        self._file.write(len(starts).to_bytes(4, "little"))
        self._file.write(flat.tobytes())
        self._file.write(numbers.tobytes())
        self._end = ends[-1]
        self.sequences[-1] = (name, self.sequences[-1][1] + len(starts), self._end)
        at = self._chance.randrange(len(starts))
        where = self._chance.randrange(self.values + len(starts))
        if len(self.sample) < _SAMPLED:
            self.sample.append((_name(name), starts[at], ends[at], numbers[at]))
        elif where < _SAMPLED * len(starts):
            self.sample[self._chance.randrange(_SAMPLED)] = (_name(name), starts[at], ends[at], numbers[at])
        self.values += len(starts)
        self.covered += sum(ends) - sum(starts)

    def _count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    gc.disable()
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--skip-bad-values", type=int)
    given = parser.parse_args(argv)
    try:
        report = convert(given.data, given.out, given.spool, given.skip_bad_values)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "writing the bigWig ran out of memory").failure
    else:
        given.report.write_text(json.dumps(report))
        return 0
    given.report.write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


def convert(data: Path, out: Path, spool: Path, most_bad: int | None) -> dict[str, Any]:
    """Make the file; the report.

    Raises:
        StepFailed: source_invalid.
    """
    with spool.open("wb") as file:
        found = Spool(file, random.Random(data.stat().st_size), most_bad)  # noqa: S311 - one sample a file
        for lines in _lines(data):
            found.take(lines)
    sequences = [sequence for sequence in found.sequences if sequence[1]]
    if not sequences and found.bad_values:
        raise _refused(f"no record has a value, the first is {found.bad_values[0]}")
    if not sequences:
        # The library writes none of that kind that it reads.
        bigwig.write_bigwig(out, (), 1)
    else:
        with spool.open("rb") as file:
            write_bigwig(out, sequences, file)
    return {
        "contigs": [[_name(name), end] for name, _, end in sequences],
        "values": found.values,
        "covered": found.covered,
        "counts": found.counts,
        "bad_values": found.bad_values,
        "sample": found.sample,
    }


def write_bigwig(out: Path, sequences: Sequence[tuple[bytes, int, int]], spool: BinaryIO) -> None:
    """Write all values of the spool. The library wants no names that are no text."""
    import pyBigWig

    opened: Any = pyBigWig.open(str(out), "w")
    opened.addHeader([(_name(name), end) for name, _, end in sequences])
    for name, count, _ in sequences:
        word = _name(name)
        for starts, ends, values in _batches(spool, count):
            _add(opened.addEntries, word, starts, ends, values)
    opened.close()


def _add(
    add: Callable[..., None], name: str, starts: list[int], ends: list[int], values: list[float]
) -> None:
    """As evenly spaced values, values of one width, or any; each takes less room than the next."""
    span = ends[0] - starts[0]
    if all(end - start == span for start, end in zip(starts, ends, strict=True)):
        step = starts[1] - starts[0] if len(starts) > 1 else span
        if len(starts) > 1 and starts == list(range(starts[0], starts[0] + step * len(starts), step)):
            add(name, starts[0], values=values, span=span, step=step)
        else:
            add(name, starts, values=values, span=span)
        return
    add([name] * len(starts), starts, ends=ends, values=values)


def _batches(spool: BinaryIO, count: int) -> Iterator[tuple[list[int], list[int], list[float]]]:
    """The next `count` values, some at a time."""
    starts: list[int] = []
    ends: list[int] = []
    values: list[float] = []
    while count:
        many = int.from_bytes(spool.read(4), "little")
        places, numbers = array("i"), array("f")
        places.frombytes(spool.read(many * 8))
        numbers.frombytes(spool.read(many * 4))
        starts += places[:many]
        ends += places[many:]
        values += numbers
        count -= many
        if len(starts) >= _BATCH:
            yield starts, ends, values
            starts, ends, values = [], [], []
    if starts:
        yield starts, ends, values


def _lines(data: Path) -> Iterator[list[bytes]]:
    held = b""
    with gzip.open(data) as stream:
        while chunk := stream.read(_CHUNK):
            lines = (held + chunk).split(b"\n")
            held = lines.pop()
            if lines:
                yield lines
    if held:
        yield [held]


def _name(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise _refused(f"the name of a sequence is no text (UTF-8): {_text(name)!r}") from None
    if len(name) > _LONGEST_NAME:
        raise _refused(f"the name of a sequence is longer than {_LONGEST_NAME} bytes: {_text(name)!r}")
    return text


def _text(name: bytes) -> str:
    return name[:200].decode("utf-8", "replace")


def _refused(problem: str) -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, problem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
