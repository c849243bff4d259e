"""The density: how many records overlap each window, as a small bigWig for views of whole chromosomes.

The artifact is complete without it, so every failure here is only a note in the manifest.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from mmap import ACCESS_READ, mmap
from operator import sub
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.formats import BIGBED, INTERVAL_LIST, SEG, Format
from gooseherd.domain.processing import Produced, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.bigwig import Signal, write_bigwig
from gooseherd.processing.formats.density_table import Sequence, read_table
from gooseherd.processing.step_context import Budget, StepContext, index_of_same_pass, stem
from gooseherd.processing.tools.kernel import LEAST_MEMORY, PROGRAM, KernelCall
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import Stage, program_stage

_log = logging.getLogger(__name__)

SUFFIX: Final = ".density"
"""Of the table that the data's own pass leaves beside it."""
CONTIGS: Final = ".contigs"
"""Of the sequences that a source declares and its text has no place for, left beside the data likewise."""
DECLARED_ELSEWHERE: Final = frozenset({BIGBED, INTERVAL_LIST, SEG})
"""Formats that do so: a bigBed, and a table below a header as SAM has it. BED has no place for lengths."""
MOST_SEQUENCES: Final = 4096
"""The longest ones. Short ones are read whole in no time."""
_LONGEST_NAME: Final = 127
"""Bytes: each name takes as much room as the longest."""
_TIMEOUT_SECONDS: Final = 1200.0
"""The longest that one more pass over the data may take."""
_LONGEST: Final = (1 << 31) - 1
"""Readers hold positions in 32 bits with a sign."""
_DENSE: Final = 4
"""Where one window in so many has a row, all are written: evenly spaced values take a third of the room."""


@dataclass(frozen=True)
class Density:
    """Sorted data → the bigWig; `reader` is what the data are: bam, or a text format."""

    budget: Budget
    source_format: Format
    reader: str
    name: str = "density"
    needs: Kind | None = Kind.DATA
    weight: float = 0.5

    async def run(self, given: StepInput) -> StepOutput:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await self._make(given)
        except Exception as error:  # The artifact is published without a density.
            _log.warning("no density", exc_info=error)
            return StepOutput(files=(), notes=(f"there is no density: {_why(error)}",))

    async def _make(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        table = await asyncio.to_thread(index_of_same_pass, given.path, context.work, (SUFFIX,))
        if table is None:
            table = await self._count(context)
        out = context.work / "density.bw"
        bigwig = await asyncio.to_thread(write_density, table, out)
        await asyncio.to_thread(table.unlink)
        given.report(1.0, 0, bigwig.size)
        name = density_name(given.source, self.source_format)[Kind.DENSITY]
        left_out = (
            f"the density has the {len(bigwig.contigs)} longest sequences; {bigwig.left_out} are not in it"
        )
        return StepOutput(
            files=(Produced(Kind.DENSITY, out, "density.bw", name),),
            contigs=bigwig.contigs,
            counts={"density_window": bigwig.window},
            notes=(left_out,) if bigwig.left_out else (),
        )

    async def _count(self, context: StepContext) -> Path:
        """One more pass over the data, which came without a table."""
        table = context.work / "table"
        kernel, threads = context.kernel, self.budget.threads
        contigs = await asyncio.to_thread(self._declared, context)
        if kernel is None:
            declared = () if contigs is None else (str(contigs),)
            stage = program_stage("count_records", self.reader, str(context.source), str(table), *declared)
        elif self.reader == "bam":
            options = (f"--threads={threads}", f"--density={table}")
            stage = Stage(PROGRAM, (str(kernel), "reads", *options, str(context.source)))
        else:
            # In order as they are, the data are only indexed once more.
            call = KernelCall(
                format=self.reader,
                source=context.source,
                out=context.work / "again",
                index=context.work / "again.index",
                density=table,
                report=context.work / "records.json",
                work=context.work,
                memory_bytes=max(self.budget.sort_memory, LEAST_MEMORY),
                threads=threads,
                contigs=contigs,
                keep=True,
            )
            stage = Stage(PROGRAM, call.argv(kernel))
        watch = Watch(context.source, table, 1, context.given.report, reading=1.0, span=(0.0, 0.9))
        await context.run(stage, watch=watch)
        return table

    def _declared(self, context: StepContext) -> Path | None:
        """What the source declares and the data have no place for, as the step before left it or told it."""
        left = index_of_same_pass(context.given.path, context.work, (CONTIGS,))
        if left is not None or self.source_format not in DECLARED_ELSEWHERE:
            return left
        path = context.work / f"told{CONTIGS}"
        write_contigs(path, context.given.contigs)
        return path


def write_contigs(path: Path, contigs: Iterable[Contig]) -> None:
    """Those with a length: a name and a length by TAB on each line, as the kernel takes them."""
    lines = (f"{contig.name}\t{contig.length}\n" for contig in contigs if contig.length is not None)
    path.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))


def density_name(source: SourceFile, source_format: Format) -> dict[Kind, str]:
    """What a person would save the density as."""
    return {Kind.DENSITY: f"{stem(source.filename, source_format.suffixes)}.density.bw"}


def _why(error: Exception) -> str:
    match error:
        case StepFailed():
            return error.failure.detail
        case TimeoutError():
            return "counting took too long"
        case ValueError():
            return "none of its sequences can be shown"
        case _:
            return type(error).__name__


@dataclass(frozen=True, slots=True)
class DensityFile:
    """A bigWig: its size, the bases of its windows, its sequences and how many were left out."""

    size: int
    window: int
    contigs: tuple[Contig, ...]
    left_out: int


def write_density(table: Path, out: Path) -> DensityFile:
    """Make the bigWig of a table.

    The value of a window is the number of records that overlap it, at least by one base; every base of
    the sequences that are there has one. Blocks: tens to hundreds of milliseconds for a large genome.

    Raises:
        ValueError: this is no table, or no sequence can be shown.
        OSError: it could not be read or written.
    """
    with table.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        shift, count, sequences = read_table(data)
        chosen = _longest(sequences)
    if count and not chosen:
        raise ValueError("no sequence can be shown")
    window = 1 << shift
    size = write_bigwig(out, (signal(s, shift) for s in chosen), window)
    contigs = tuple(Contig(s.name.decode(), _length(s)) for s in chosen)
    return DensityFile(size, window, contigs, count - len(chosen))


def _longest(sequences: Iterable[Sequence]) -> list[Sequence]:
    """The longest, of those whose names readers can know."""
    known = (s for s in sequences if 0 < len(s.name) <= _LONGEST_NAME and _is_text(s.name))
    return heapq.nsmallest(MOST_SEQUENCES, known, key=lambda s: (-_length(s), s.name))


def _is_text(name: bytes) -> bool:
    try:
        return name.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _length(sequence: Sequence) -> int:
    """As declared, or to the end of the last record if that is beyond."""
    return min(max(sequence.length, sequence.end), _LONGEST)


def signal(sequence: Sequence, shift: int) -> Signal:
    """How many records overlap each window of 2^`shift` bases."""
    length = _length(sequence)
    windows = -(-length >> shift)
    if len(sequence.cells) // 3 * _DENSE >= windows:
        return _even(sequence, length, windows, 1 << shift)
    starts, values = [0], [0]

    def put(window: int, value: int) -> None:
        at = window << shift
        if at == starts[-1]:
            values[-1] = value
            if len(values) > 1 and values[-2] == value:
                starts.pop()
                values.pop()
        elif value != values[-1] and at < length:
            starts.append(at)
            values.append(value)

    reaching_in = 0
    for window, begun, ended in sequence.rows():
        put(window, reaching_in + begun)
        reaching_in = max(0, reaching_in + begun - ended)
        put(window + 1, reaching_in)
    return Signal(sequence.name, length, starts, values)


def _even(sequence: Sequence, length: int, windows: int, window: int) -> Signal:
    """A value for each window, although neighbours may be the same."""
    begun, ended = [0] * windows, [0] * (windows + 1)
    for at, first, last in sequence.rows():
        begun[at] = first
        ended[at + 1] = last
    return Signal(sequence.name, length, range(0, length, window), list(accumulate(map(sub, begun, ended))))
