"""CRAM that stays CRAM: sorted, with a CRAI. Half the size of a BAM, for viewers that have the reference.

A sorted one keeps its bytes and needs no reference here: places are read without bases. One that is not
sorted is decoded, sorted and written again, with the references that its M5s name.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread_until
from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import CRAM, Format
from gooseherd.domain.processing import Produced, Step, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.alignments import (
    UNSORTED,
    cram_header,
    open_cram,
    read_beyond,
    reheader,
)
from gooseherd.processing.density import SUFFIX, Density, density_name
from gooseherd.processing.formats.cram import Containers, check_blocks, containers_of
from gooseherd.processing.formats.sam_header import contigs_of
from gooseherd.processing.indexes import bam_stem, counting_kernel, index_stage
from gooseherd.processing.step_context import KEPT_NOTE, Budget, StepContext, hard_link, index_of_same_pass
from gooseherd.processing.tools.stages import PipelineFailed, Stage

_PLACES: Final = ("--input-fmt-option", "required_fields=0x3f")
"""Of a read all up to its CIGAR (samtools(1), required_fields), for which no reference is needed."""
_NOT_SORTED: Final = re.compile(r"not sorted", re.IGNORECASE)
_BEYOND: Final = re.compile(r"cannot be stored in a \w+ index|csi index", re.IGNORECASE)
_OLD: Final = (
    "a CRAM of version 2 has no checksums, so it does not stay one here: samtools view -O cram,version=3.0 "
    "makes a newer one, or set WORKFLOW_CRAM=bam"
)
_NEEDS_NOTE: Final = (
    "readers need the reference of this CRAM, by the M5 of each sequence; Gosling reads no CRAM, igv.js and "
    "JBrowse do"
)


@dataclass(frozen=True)
class CramIndexProcessor:
    """A sorted CRAM keeps its bytes; others are sorted into a new one."""

    budget: Budget
    name: str = "cram-index"
    formats: frozenset[Format] = frozenset({CRAM})

    def version(self, source_format: Format) -> str:
        """Shape, and whether there is a density; the level is that of nothing."""
        return f"1.{self.budget.recipe}"

    @property
    def kinds(self) -> frozenset[Kind]:
        return self.budget.kinds

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the steps call them."""
        name = _name(source)
        names = {Kind.DATA: name, Kind.INDEX: f"{name}.crai"}
        return names | density_name(source, CRAM) if self.budget.density else names

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """Data, then its index, then its density."""
        steps: tuple[Step, ...] = SortedCram(self.budget), CramIndex(self.budget)
        return (*steps, Density(self.budget, CRAM, "bam")) if self.budget.density else steps


@dataclass(frozen=True)
class SortedCram:
    """Source → coordinate-sorted CRAM; its index and the table of its density lie beside it."""

    budget: Budget
    name: str = "data"
    needs: Kind | None = None
    weight: float = 9.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        header = await cram_header(context)
        containers = await asyncio.to_thread(containers_of, context.source)
        if containers.reads is None:
            raise StepFailed.because(Reason.SOURCE_INVALID, _OLD)
        stop = threading.Event()
        await in_thread_until(stop.set, check_blocks, context.source, stop)
        notes: tuple[str, ...] = (KEPT_NOTE,)
        kept = hard_link(given.path, context.work / "data.cram")
        given.announce(_data(given, kept))
        try:
            reads = await _checked(context, context.source, kept, header)
        except PipelineFailed as failed:
            errors = [end.stderr for end in failed.result.stages]
            if any(_BEYOND.search(error) for error in errors):
                raise await read_beyond(context, CRAM) or failed from None
            if not any(UNSORTED.search(error) or _NOT_SORTED.search(error) for error in errors):
                raise
            kept = await self._sort(context)
            reads = await _checked(context, kept, kept, header)
            notes = ()
        if containers.reads != reads:
            raise StepFailed.because(
                Reason.SOURCE_INVALID, f"corrupt: of {containers.reads} reads only {reads} can be read"
            )
        given.report(1.0, given.path.stat().st_size, kept.stat().st_size)
        return StepOutput(
            files=(_data(given, kept),),
            contigs=contigs_of(header),
            counts={"records": reads},
            notes=(*notes, *((_NEEDS_NOTE,) if _needs_reference(containers) else ())),
            tools=await context.versions("samtools"),
        )

    async def _sort(self, context: StepContext) -> Path:
        """By way of a BAM in a pipe. One thread writes: more would try codecs in another order each time."""
        header, references = await open_cram(context)
        out, budget = context.work / "sorted.cram", self.budget
        clean = references.clean_header(header)
        before = (await reheader(context, clean),) if clean else ()
        source = "-" if clean else str(context.source)
        sort = (
            "samtools", "sort", "--no-PG", "-@", str(budget.threads), "-u", "-O", "bam",
            "-m", str(budget.samtools_memory_per_thread), "-T", str(context.work / "sort"), source,
        )  # fmt: skip
        # Of version 3.1 readers in browsers know little.
        form = "cram,version=3.0" if _needs_reference(references.containers) else "cram,version=3.0,no_ref=1"
        write = ("samtools", "view", "--no-PG", "-O", form, "-o", str(out), "-")
        context.given.announce(_data(context.given, out))
        try:
            await context.run(
                *before,
                Stage("samtools sort", sort, reads_source=True),
                Stage("samtools view", write),
            )
        except PipelineFailed as failed:
            missing = references.missing(end.stderr for end in failed.result.stages)
            raise missing or failed from None
        return out


@dataclass(frozen=True)
class CramIndex:
    """Sorted CRAM → CRAI."""

    budget: Budget
    name: str = "index"
    needs: Kind | None = Kind.DATA
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        index = await asyncio.to_thread(index_of_same_pass, given.path, context.work, (".crai",))
        if index is None:
            index = await _crai(context, context.source, context.work / "data.cram.crai")
        given.report(1.0, context.source.stat().st_size, index.stat().st_size)
        return StepOutput(
            files=(Produced(Kind.INDEX, index, "index", f"{_name(given.source)}.crai"),),
            tools=await context.versions("samtools"),
        )


async def _checked(context: StepContext, path: Path, named: Path, header: bytes) -> int:
    """Index `path` beside `named`; how many reads it has, all of which are read, in order.

    Raises:
        PipelineFailed: a tool's words say that it is not sorted, or what is wrong.
    """
    await _crai(context, path, named.with_name(f"{named.name}.crai"))
    # A CRAI is of slices: whether the reads within them are in order shows an index of reads.
    index, stage = index_stage(context, "-", contigs_of(header))
    view = Stage(
        "samtools view", ("samtools", "view", "--no-PG", "-u", *_PLACES, str(path)), reads_source=True
    )
    await context.run(view, stage)
    if counting_kernel(context) is not None:
        table = index.with_suffix(SUFFIX)
        await asyncio.to_thread(table.rename, named.with_name(named.name + SUFFIX))
    await asyncio.to_thread(index.unlink)
    count = Stage("samtools view", ("samtools", "view", "-c", *_PLACES, str(path)), reads_source=True)
    return int(await context.output_of(count))


async def _crai(context: StepContext, path: Path, index: Path) -> Path:
    threads = str(context.budget.threads)
    argv = ("samtools", "index", "-@", threads, str(path), str(index))
    await context.run(Stage("samtools index", argv, reads_source=True))
    return index


def _needs_reference(containers: Containers) -> bool:
    return bool(containers.references) or containers.several


def _data(given: StepInput, path: Path) -> Produced:
    return Produced(Kind.DATA, path, "data.cram", _name(given.source))


def _name(source: SourceFile) -> str:
    return f"{bam_stem(source)}.cram"
