"""Writes a bigWig: a number for every base of some sequences, and the same in a few larger steps.

The library that reads and writes the format (pyBigWig) takes a third of a second to be imported, most
of it numpy, and its time grows with the square of the number of sequences. Here a small file is
milliseconds, no parser in C reads untrusted names, and the bytes follow from the numbers alone.

The format: W. J. Kent et al., "BigWig and BigBed", Bioinformatics 26 (2010), supplementary tables 5 to 20.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import mul
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_BIGWIG: Final = 0x888FFC26
_TREE_OF_NAMES: Final = 0x78CA8C91
_TREE_OF_PLACES: Final = 0x2468ACE0
_HEADER: Final = struct.Struct("<IHHQQQHHQQIQ")
_ZOOM: Final = struct.Struct("<IIQQ")
_SUMMARY: Final = struct.Struct("<Qdddd")
_NAMES_HEADER: Final = struct.Struct("<IIIIQQ")
_PLACES_HEADER: Final = struct.Struct("<IIQIIIIQII")
_NODE: Final = struct.Struct("<BBH")
_SECTION: Final = struct.Struct("<IIIIIBBH")
_ITEM_FORMAT: Final = "IIf"
_STEP_FORMAT: Final = "<IIIIffff"
_BEDGRAPH: Final = 1
_FIXED_STEP: Final = 3
_ITEMS: Final = 1024
"""Of a compressed section; a viewer reads whole ones."""
_CHILDREN: Final = 256
"""Of a node of either tree."""
_LEVEL: Final = 4
_FIRST_STEPS: Final = 16
"""Windows of the data in a step of the first zoom level; each step takes as much room as eight of them."""
_STEPS_APART: Final = 4
"""How much larger the steps of each zoom level are than those of the one before."""
_MOST_STEPS: Final = 1 << 13
"""Of the first zoom level, all sequences together."""
_MOST_BASES: Final = 1 << 31
"""Of a step: a number of 32 bits."""
_FEW_STEPS: Final = 512
"""A zoom level with so few needs no coarser one above it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One sequence: `values[i]` holds from `starts[i]` to the next start, the last one to `length`.

    `starts` ascend from 0; a `range` says that they do so evenly, which takes a third of the room. `length`
    is below 2^32.
    """

    name: bytes
    length: int
    starts: Sequence[int]
    values: Sequence[int]


class Step(NamedTuple):
    """What a zoom level, or the whole, knows of some bases."""

    begin: int
    end: int
    lowest: int
    highest: int
    sum: int
    squares: int


class _Leaf(NamedTuple):
    """Where the section is that holds these bases of one sequence."""

    sequence: int
    begin: int
    end: int
    offset: int
    size: int


def write_bigwig(path: Path, signals: Iterable[Signal], resolution: int) -> int:
    """Write the file; its size. `resolution`: no two starts of a signal are closer than so many bases.

    Without any signal it is an empty one, which readers open.

    Raises:
        ValueError: two sequences of one name, or lengths that do not fit.
        OSError: it could not be written.
    """
    ordered = sorted(signals, key=lambda signal: signal.name)
    if any(a.name == b.name for a, b in pairwise(ordered)):
        raise ValueError("sequences with names of their own are needed")
    if not all(0 < signal.length < 1 << 32 for signal in ordered):
        raise ValueError("lengths from 1 to 2^32 - 1 are needed")
    with path.open("wb") as out:
        return _write(out, ordered, _reductions(ordered, resolution))


def _reductions(signals: Sequence[Signal], resolution: int) -> list[int]:
    """Bases in a step of each zoom level."""
    if not signals:
        return []

    def steps(bases: int) -> int:
        return sum(-(-signal.length // bases) for signal in signals)

    # A level with as many steps as the data have values would be larger than they are, and no faster.
    most = min(_MOST_STEPS, sum(len(signal.starts) for signal in signals) // _FIRST_STEPS)
    bases = min(resolution * _FIRST_STEPS, _MOST_BASES)
    while steps(bases) > max(most, len(signals)) and bases < _MOST_BASES:
        bases *= 2
    found = [bases]
    while _FEW_STEPS < steps(bases) > steps(bases * _STEPS_APART) and bases * _STEPS_APART <= _MOST_BASES:
        bases *= _STEPS_APART
        found.append(bases)
    return found


def _write(out: BinaryIO, signals: Sequence[Signal], reductions: Sequence[int]) -> int:
    summary_at = _HEADER.size + _ZOOM.size * len(reductions)
    names_at = summary_at + _SUMMARY.size
    out.write(b"\0" * names_at)
    out.write(_tree_of_names(signals, names_at))
    data_at = out.tell()
    largest = 0
    leaves: list[_Leaf] = []
    out.write(b"\0" * 8)
    for number, signal in enumerate(signals):
        for begin, end, packed in _sections(number, signal):
            leaves.append(_section(out, number, begin, end, packed))
            largest = max(largest, len(packed))
    index_at = _tree_of_places(out, leaves)
    zooms = []
    steps = [list(_first_steps(signal, reductions[0])) for signal in signals]
    for reduction in reductions:
        if reduction != reductions[0]:
            steps = [list(_coarser(found, reduction)) for found in steps]
        zoom_at = out.tell()
        out.write(struct.pack("<I", sum(map(len, steps))))
        zoom_leaves = []
        for number, found in enumerate(steps):
            for at in range(0, len(found), _ITEMS):
                some = found[at : at + _ITEMS]
                packed = b"".join(_packed_step(number, step) for step in some)
                zoom_leaves.append(_section(out, number, some[0].begin, some[-1].end, packed))
                largest = max(largest, len(packed))
        zooms.append(_ZOOM.pack(reduction, 0, zoom_at, _tree_of_places(out, zoom_leaves)))
    out.write(struct.pack("<I", _BIGWIG))
    size = out.tell()
    out.seek(data_at)
    out.write(struct.pack("<Q", len(leaves)))
    out.seek(0)
    header = _HEADER.pack(
        _BIGWIG, 4, len(zooms), names_at, data_at, index_at, 0, 0, 0, summary_at, largest, 0
    )
    out.write(header + b"".join(zooms) + _summary(list(chain.from_iterable(steps))))
    return size


def _section(out: BinaryIO, number: int, begin: int, end: int, packed: bytes) -> _Leaf:
    offset = out.tell()
    return _Leaf(number, begin, end, offset, out.write(zlib.compress(packed, _LEVEL)))


def _sections(number: int, signal: Signal) -> Iterator[tuple[int, int, bytes]]:
    """(begin, end, what it holds) of each section of the data (table 13)."""
    for at in range(0, len(signal.starts), _ITEMS):
        starts = signal.starts[at : at + _ITEMS]
        after = at + len(starts)
        end = signal.starts[after] if after < len(signal.starts) else signal.length
        values = signal.values[at:after]
        if isinstance(starts, range) and end - starts[0] == len(starts) * starts.step:
            head = _SECTION.pack(
                number, starts[0], end, starts.step, starts.step, _FIXED_STEP, 0, len(starts)
            )
            yield starts[0], end, head + struct.pack(f"<{len(values)}f", *values)
            continue
        items = chain.from_iterable(zip(starts, [*starts[1:], end], values, strict=True))
        packed = struct.pack(f"<{_ITEM_FORMAT * len(starts)}", *items)
        head = _SECTION.pack(number, starts[0], end, 0, 0, _BEDGRAPH, 0, len(starts))
        yield starts[0], end, head + packed


def _first_steps(signal: Signal, bases: int) -> Iterator[Step]:
    """The steps of the finest zoom level."""
    if isinstance(signal.starts, range) and bases % signal.starts.step == 0:
        yield from _even_steps(signal, bases, signal.starts.step)
        return
    intervals = zip(signal.starts, chain(signal.starts[1:], (signal.length,)), signal.values, strict=True)
    begin, end, value = next(intervals)
    for edge in range(0, signal.length, bases):
        stop = min(edge + bases, signal.length)
        if end == edge:
            begin, end, value = next(intervals)
        lowest = highest = value
        total = squares = 0
        while True:
            sum_here = (min(end, stop) - max(begin, edge)) * value
            total += sum_here
            squares += sum_here * value
            lowest, highest = min(lowest, value), max(highest, value)
            if end >= stop:
                break
            begin, end, value = next(intervals)
        yield Step(edge, stop, lowest, highest, total, squares)


def _even_steps(signal: Signal, bases: int, each: int) -> Iterator[Step]:
    """The same of values that hold for `each` bases."""
    for at in range(0, len(signal.values), bases // each):
        some = signal.values[at : at + bases // each]
        begin = at * each
        end = min(begin + bases, signal.length)
        # The last value may hold for fewer.
        missing = begin + len(some) * each - end
        total = sum(some) * each - missing * some[-1]
        squares = sum(map(mul, some, some)) * each - missing * some[-1] ** 2
        yield Step(begin, end, min(some), max(some), total, squares)


def _coarser(steps: Sequence[Step], bases: int) -> Iterator[Step]:
    at = 0
    while at < len(steps):
        stop = at + 1
        while stop < len(steps) and steps[stop].begin // bases == steps[at].begin // bases:
            stop += 1
        yield _together(steps[at:stop])
        at = stop


def _together(steps: Sequence[Step]) -> Step:
    return Step(
        steps[0].begin,
        steps[-1].end,
        min(step.lowest for step in steps),
        max(step.highest for step in steps),
        sum(step.sum for step in steps),
        sum(step.squares for step in steps),
    )


def _packed_step(number: int, step: Step) -> bytes:
    """As a zoom level holds it (table 19)."""
    covered = step.end - step.begin
    return struct.pack(
        _STEP_FORMAT,
        *(number, step.begin, step.end, covered),
        *(step.lowest, step.highest, step.sum, step.squares),
    )


def _tree_of_names(signals: Sequence[Signal], at: int) -> bytes:
    """From names to numbers and lengths (tables 8 to 11)."""
    longest = max((len(signal.name) for signal in signals), default=1)
    keys = [signal.name.ljust(longest, b"\0") for signal in signals]
    head = _NAMES_HEADER.pack(_TREE_OF_NAMES, _CHILDREN, longest, 8, len(signals), 0)
    leaves = [key + struct.pack("<II", n, signals[n].length) for n, key in enumerate(keys)]

    def inner(first: int, _: int, offset: int) -> bytes:
        return keys[first] + struct.pack("<Q", offset)

    return head + _tree(at + len(head), leaves, inner)


def _tree_of_places(out: BinaryIO, leaves: Sequence[_Leaf]) -> int:
    """From bases to sections (tables 14 to 17); where the tree is."""
    at = out.tell()
    ends = (leaves[0].sequence, leaves[0].begin, leaves[-1].sequence, leaves[-1].end) if leaves else (0,) * 4
    out.write(_PLACES_HEADER.pack(_TREE_OF_PLACES, _CHILDREN, len(leaves), *ends, at, 1, 0))

    def inner(first: int, last: int, offset: int) -> bytes:
        ends = (leaves[first].sequence, leaves[first].begin, leaves[last].sequence, leaves[last].end)
        return struct.pack("<IIIIQ", *ends, offset)

    packed = [
        struct.pack("<IIIIQQ", leaf.sequence, leaf.begin, leaf.sequence, leaf.end, leaf.offset, leaf.size)
        for leaf in leaves
    ]
    out.write(_tree(at + _PLACES_HEADER.size, packed, inner))
    return at


def _tree(at: int, leaves: Sequence[bytes], inner: Callable[[int, int, int], bytes]) -> bytes:
    """The nodes of a tree over `leaves`, its root first, when it begins at `at` of the file.

    `inner(first leaf, last leaf, where the node is)` makes the entry of a node in the one above.
    """
    if not leaves:
        return _NODE.pack(True, 0, 0)
    counts = [len(leaves)]  # of entries, from the leaves up
    while counts[-1] > _CHILDREN:
        counts.append(-(-counts[-1] // _CHILDREN))
    places: list[list[int]] = [[] for _ in counts]
    sizes = [len(leaves[0]), len(inner(0, 0, 0))]
    for level in reversed(range(len(counts))):
        for child in range(0, counts[level], _CHILDREN):
            places[level].append(at)
            at += _NODE.size + min(_CHILDREN, counts[level] - child) * sizes[level > 0]
    blocks = []
    for level in reversed(range(len(counts))):
        below = _CHILDREN**level  # leaves under an entry
        for child in range(0, counts[level], _CHILDREN):
            children = range(child, min(child + _CHILDREN, counts[level]))
            blocks.append(_NODE.pack(level == 0, 0, len(children)))
            blocks += (
                leaves[n]
                if not level
                else inner(n * below, min((n + 1) * below, counts[0]) - 1, places[level - 1][n])
                for n in children
            )
    return b"".join(blocks)


def _summary(steps: Sequence[Step]) -> bytes:
    """Of everything (table 8)."""
    if not steps:
        return bytes(_SUMMARY.size)
    whole = _together(steps)
    covered = sum(step.end - step.begin for step in steps)
    return _SUMMARY.pack(covered, whole.lowest, whole.highest, whole.sum, whole.squares)
