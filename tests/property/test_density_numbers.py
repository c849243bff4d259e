"""Densities as numbers: tables, windows and bigWigs of any records against counting one by one."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from pathlib import Path

import pyBigWig
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gooseherd.processing.density import MOST_SEQUENCES, signal, write_density
from gooseherd.processing.formats import density_table
from gooseherd.processing.formats.bigwig import Signal, write_bigwig
from gooseherd.processing.formats.density_table import MOST_ROWS, SHIFT, Sequence, Table, flat, table_of

INTERVALS = st.lists(
    st.tuples(st.integers(0, 200_000), st.integers(1, 90_000)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=60,
)
QUICKLY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def sequence_of(intervals: list[tuple[int, int]], name: bytes = b"chr", length: int = 0) -> Sequence:
    begun = Counter(begin >> SHIFT for begin, _ in intervals)
    ended = Counter((end - 1) >> SHIFT for _, end in intervals)
    rows = ((w, begun[w], ended[w]) for w in sorted(begun.keys() | ended.keys()))
    return Sequence(name, length, max(end for _, end in intervals), flat(rows))


def overlapping(intervals: list[tuple[int, int]], at: int, window: int) -> int:
    return sum(begin < at + window and end > at for begin, end in intervals)


@given(INTERVALS, st.integers(0, 8), st.integers(0, 400_000))
@QUICKLY
def test_every_window_of_every_size_has_the_records_that_overlap_it(
    intervals: list[tuple[int, int]], coarser: int, length: int
) -> None:
    sequence = sequence_of(intervals, length=length)
    coarse = Sequence(b"chr", length, sequence.end, flat(sequence.rows(coarser)))
    made = signal(coarse, SHIFT + coarser)
    window = 1 << (SHIFT + coarser)
    assert made.length == max(length, sequence.end)
    assert list(made.starts) == sorted(set(made.starts))
    assert len(made.values) == len(made.starts)
    seen = dict(zip(made.starts, made.values, strict=True))
    value = seen[0]
    for at in range(0, made.length, window):
        value = seen.get(at, value)
        assert value == overlapping(intervals, at, window)


@given(st.lists(INTERVALS, min_size=1, max_size=5), st.integers(1, 60))
@QUICKLY
def test_a_table_is_what_it_was_and_has_as_few_rows_as_asked(
    several: list[list[tuple[int, int]]], most: int
) -> None:
    sequences = tuple(sequence_of(found, b"chr%d" % n) for n, found in enumerate(several))
    table = table_of(sequences, most)
    assert Table.from_bytes(table.to_bytes()) == table
    rows = [len(s.cells) // 3 - 1 for s in table.sequences]
    assert sum(rows) <= most
    if table.shift > SHIFT:
        assert sum(s.windows(table.shift - SHIFT - 1) - 1 for s in sequences) > most


@given(INTERVALS, st.data())
@QUICKLY
def test_a_cut_table_is_none(intervals: list[tuple[int, int]], data: st.DataObject) -> None:
    whole = table_of((sequence_of(intervals),)).to_bytes()
    with pytest.raises(ValueError, match="table"):
        Table.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ValueError, match="table"):
        Table.from_bytes(whole + b"x")


VALUES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 99)), min_size=1, max_size=80)


@given(several=st.lists(VALUES, min_size=1, max_size=4))
@QUICKLY
def test_a_bigwig_reads_back_and_its_zooms_are_of_what_is_in_it(
    several: list[list[tuple[int, int]]], tmp_path: Path
) -> None:
    signals = []
    for n, runs in enumerate(several):
        if n % 2:
            length = len(runs) * 64 - runs[0][0]
            signals.append(Signal(b"s%d" % n, length, range(0, length, 64), [v for _, v in runs]))
            continue
        starts, at = [], 0
        for length, _ in runs:
            starts.append(at)
            at += length * 64
        signals.append(Signal(b"s%d" % n, at - 17, starts, [value for _, value in runs]))
    path = tmp_path / "x.bw"
    size = write_bigwig(path, signals, 64)
    first = path.read_bytes()
    assert size == len(first)
    assert write_bigwig(path, reversed(signals), 64) == size
    assert path.read_bytes() == first
    with pyBigWig.open(str(path)) as opened:
        assert opened.chroms() == {s.name.decode(): s.length for s in signals}
        for s in signals:
            name, ends = s.name.decode(), [*s.starts[1:], s.length]
            assert opened.intervals(name) == tuple(zip(s.starts, ends, map(float, s.values), strict=True))
            covered = sum((end - at) * v for at, end, v in zip(s.starts, ends, s.values, strict=True))
            assert opened.stats(name)[0] == pytest.approx(covered / s.length)
            assert opened.stats(name, type="max") == [max(s.values)]
            assert opened.stats(name, type="coverage") == [1.0]


def test_few_values_on_long_sequences_make_a_small_file(tmp_path: Path) -> None:
    signals = [Signal(b"s%d" % n, 300_000_000, [0, 99_328, 100_352], [0, 1, 0]) for n in range(20)]
    assert write_bigwig(tmp_path / "x.bw", signals, 1024) < 5000


@pytest.mark.parametrize("shift", [20, 30, 31])
def test_sequences_as_long_as_readers_know(shift: int, tmp_path: Path) -> None:
    longest, window = (1 << 31) - 1, 1 << shift
    values = [n % 7 for n in range(-(-longest // window))]
    write_bigwig(tmp_path / "x.bw", [Signal(b"s", longest, range(0, longest, window), values)], window)
    with pyBigWig.open(str(tmp_path / "x.bw")) as opened:
        assert opened.chroms() == {"s": longest}
        assert opened.intervals("s")[-1] == (longest // window * window, longest, values[-1])


@pytest.mark.parametrize(
    "signals",
    [
        [Signal(b"a", 0, [0], [1])],
        [Signal(b"a", 1 << 32, [0], [1])],
        [Signal(b"a", 9, [0], [1]), Signal(b"a", 9, [0], [2])],
    ],
)
def test_what_no_bigwig_can_hold_is_refused(signals: list[Signal], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needed"):
        write_bigwig(tmp_path / "x.bw", signals, 64)


def test_without_any_signal_it_is_an_empty_file_that_readers_open(tmp_path: Path) -> None:
    write_bigwig(tmp_path / "x.bw", [], 64)
    with pyBigWig.open(str(tmp_path / "x.bw")) as opened:
        assert opened.chroms() == {}
        assert opened.header()["nBasesCovered"] == 0


def test_a_large_genome_without_a_quiet_place_stays_below_two_megabytes(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = 3_100_000_000 // 24 >> 15
    cells = [
        flat((w, n := chance.randrange(1 << 16), n) for w in range(rows)) for _ in range(24)
    ]  # 2^16 records begin and end in each window, or any number below
    sequences = tuple(Sequence(b"chr%d" % n, rows << 15, rows << 15, some) for n, some in enumerate(cells))
    (tmp_path / "table").write_bytes(Table(15, sequences).to_bytes())
    drawn = write_density(tmp_path / "table", tmp_path / "x.bw")
    assert (drawn.window, drawn.left_out) == (1 << 15, 0)
    assert drawn.size < 2_000_000
    with pyBigWig.open(str(tmp_path / "x.bw")) as opened:
        assert opened.intervals("chr7", 5 << 15, 6 << 15)[0][2] == cells[7][5 * 3 + 1]
        assert opened.header()["nLevels"] > 1


def test_of_a_hundred_thousand_sequences_the_longest_are_shown(tmp_path: Path) -> None:
    sequences = tuple(
        Sequence(b"scaffold_%07d" % n, 0, 2000 + n, array("I", (0, 1, 0, (1999 + n) >> SHIFT, 0, 1)))
        for n in range(100_000)
    )
    (tmp_path / "table").write_bytes(Table(SHIFT, sequences).to_bytes())
    drawn = write_density(tmp_path / "table", tmp_path / "x.bw")
    assert (len(drawn.contigs), drawn.left_out) == (MOST_SEQUENCES, 100_000 - MOST_SEQUENCES)
    assert drawn.size < 2_000_000
    with pyBigWig.open(str(tmp_path / "x.bw")) as opened:
        assert min(opened.chroms()) == f"scaffold_{100_000 - MOST_SEQUENCES:07d}"
        assert opened.intervals("scaffold_0099999") == ((0, 101_999, 1.0),)


def test_far_too_many_windows_become_larger_ones(tmp_path: Path) -> None:
    rows = MOST_ROWS + 3
    one = Sequence(b"chr", 0, rows << SHIFT, flat((w, 1, 1) for w in range(rows)))
    (tmp_path / "table").write_bytes(table_of((one,)).to_bytes())
    drawn = write_density(tmp_path / "table", tmp_path / "x.bw")
    assert drawn.window == 2 << SHIFT
    with pyBigWig.open(str(tmp_path / "x.bw")) as opened:
        last = rows // 2 * drawn.window
        assert opened.values("chr", last - drawn.window - 1, last + 2) == [2.0] * (drawn.window + 1) + [
            1.0,
            1.0,
        ]


def test_names_that_readers_cannot_know_are_left_out(tmp_path: Path) -> None:
    names = (b"chr1", b"\xff", b"x" * 200, b"a\x01b", "chr\u00e9".encode())
    sequences = tuple(sequence_of([(1, 2)], name) for name in names)
    (tmp_path / "table").write_bytes(Table(SHIFT, sequences).to_bytes())
    drawn = write_density(tmp_path / "table", tmp_path / "x.bw")
    assert (len(drawn.contigs), drawn.left_out) == (2, 3)


def test_counts_stop_where_the_table_ends() -> None:
    most = (1 << 32) - 1
    rows = [(0, most, 1), (1, most, 1)]
    assert list(density_table.merged((w >> 1, b, e) for w, b, e in rows)) == [(0, most, 2)]
