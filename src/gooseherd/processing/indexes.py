"""Indexes of sorted data: BAI or CSI of a BAM, TBI or CSI of text, and the steps that give them.

The kernel makes them in the pass that makes the data; what it did not make is made here by samtools, tabix
or, where reads are counted, the kernel again.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.formats import Format
from gooseherd.domain.processing import Produced, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.density import SUFFIX
from gooseherd.processing.formats.bam_header import contigs_of_bam
from gooseherd.processing.formats.targets import Target
from gooseherd.processing.step_context import QUICKEST, Budget, StepContext, index_of_same_pass, stem
from gooseherd.processing.tools.kernel import LEAST_MEMORY, PROGRAM, KernelCall, parse_report
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import PipelineFailed, Stage

TBI_END: Final = 1 << 29
"""TBI and BAI hold positions below this (SAMv1 §5.2)."""

_BAM_CSI_NOTE: Final = (
    "a reference sequence is longer than 2^29, which a BAI index cannot hold, so this is a CSI index; "
    "Gosling cannot read CSI, igv.js can"
)
_TEXT_CSI_NOTE: Final = (
    "positions beyond 2^29 do not fit a TBI index, so this is a CSI index; "
    "Gosling cannot read CSI, igv.js can"
)
_QUICK_LEVEL: Final = "1"
"""Of a TBI beside data of the quickest level (kernel/src/index_file.c)."""
_WANTS_CSI: Final = re.compile(r"csi index", re.IGNORECASE)


@dataclass(frozen=True)
class BamIndex:
    """Sorted BAM → BAI, or CSI where BAI cannot hold the positions."""

    budget: Budget
    source_format: Format
    name: str = "index"
    needs: Kind | None = Kind.DATA
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        index = await asyncio.to_thread(index_of_same_pass, given.path, context.work, (".bai", ".csi"))
        if index is None:
            contigs = await asyncio.to_thread(contigs_of_bam, context.source)
            index = await _index(context, context.source, contigs)
            await reads_in(context, context.source, index)
        given.report(1.0, context.source.stat().st_size, index.stat().st_size)
        return StepOutput(
            files=(Produced(Kind.INDEX, index, "index", f"{bam_stem(given.source)}.bam{index.suffix}"),),
            notes=(_BAM_CSI_NOTE,) if index.suffix == ".csi" else (),
            tools=await context.versions("samtools"),
        )


@dataclass(frozen=True)
class TabixIndex:
    """Sorted, bgzipped text → TBI, or CSI where TBI cannot hold the positions."""

    budget: Budget
    source_format: Format
    target: Target
    name: str = "index"
    needs: Kind | None = Kind.DATA
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        data = context.link(context.source, f"data.{self.target.suffix}.gz")
        index = await asyncio.to_thread(index_of_same_pass, given.path, context.work, (".tbi", ".csi"))
        tools: dict[str, str] = {}
        if index is None:
            index = await self._made_alone(context, data)
            await context.verify("tabix", data, index)
            tools = await context.versions("tabix")
        given.report(1.0, context.source.stat().st_size, index.stat().st_size)
        data_name = text_name(given.source, self.source_format, self.target)
        return StepOutput(
            files=(Produced(Kind.INDEX, index, "index", f"{data_name}{index.suffix}"),),
            notes=(_TEXT_CSI_NOTE,) if index.suffix == ".csi" else (),
            tools=tools,
        )

    async def _made_alone(self, context: StepContext, data: Path) -> Path:
        try:
            await self._index(context, data, ())
        except PipelineFailed as refused:
            if not any(_WANTS_CSI.search(end.stderr) for end in refused.result.stages):
                raise
            csi = data.with_name(f"{data.name}.csi")
            if context.kernel is None or not await self._csi_by_kernel(context, context.kernel, data, csi):
                await self._index(context, data, ("-C",))
            return csi
        index = data.with_name(f"{data.name}.tbi")
        return await _packed_quickly(context, index) if self.budget.level == QUICKEST else index

    async def _csi_by_kernel(self, context: StepContext, kernel: Path, data: Path, csi: Path) -> bool:
        """Whether the kernel has made it, as in the pass that makes the data.

        A newer tabix (1.21, not 1.16) gives a CSI eight levels instead of six. Then igv.js shifts positions
        by 38 bits, of which JavaScript takes 6, and looks into other bins.
        """
        call = KernelCall(
            format=self.target.suffix.lower(),
            source=data,
            out=context.work / "not written",
            index=csi,
            report=context.work / "kept.json",
            work=context.work,
            memory_bytes=max(self.budget.sort_memory, LEAST_MEMORY),
            threads=self.budget.threads,
            keep=True,
        )
        await context.run(Stage(PROGRAM, call.argv(kernel), refusal=call.report))
        report = parse_report(await asyncio.to_thread(call.report.read_bytes))
        return report.kept and report.index == "csi"

    async def _index(self, context: StepContext, data: Path, options: tuple[str, ...]) -> None:
        watch = Watch(context.source, data, 1, context.given.report, reading=1.0, span=(0.0, 0.9))
        await context.run(
            Stage("tabix", ("tabix", "-f", *options, "-p", self.target.preset, str(data))), watch=watch
        )


async def _packed_quickly(context: StepContext, index: Path) -> Path:
    """The same index, packed as the kernel packs it at its quickest level.

    How many attempts an artifact took does not show in its bytes.
    """
    packed = index.with_name(f"quick{index.suffix}")
    unpack = Stage("bgzip", ("bgzip", "-d", "-c", str(index)))
    await context.run(unpack, Stage("bgzip", ("bgzip", "-c", "-l", _QUICK_LEVEL)), stdout=packed)
    return packed


def bam_stem(source: SourceFile) -> str:
    return stem(source.filename, ("sam", "bam", "cram"))


def text_name(source: SourceFile, source_format: Format, target: Target) -> str:
    return f"{stem(source.filename, source_format.suffixes)}.{target.suffix}.gz"


def _index_of(context: StepContext, contigs: tuple[Contig, ...]) -> Path:
    """Where the index of a BAM with these sequences will be; BAI if that can hold their positions."""
    long = any((contig.length or 0) > TBI_END for contig in contigs)
    return context.work / ("data.bam.csi" if long else "data.bam.bai")


async def index_of_sorted(context: StepContext, out: Path, contigs: tuple[Contig, ...]) -> Path:
    """The index of the output of `_sort`: made by the kernel in the same pass, or now by samtools."""
    index = _index_of(context, contigs)
    if context.kernel is None:
        await _index(context, out, contigs, span=(0.9, 1.0))
    return index


async def _index(
    context: StepContext,
    path: Path,
    contigs: tuple[Contig, ...],
    *,
    span: tuple[float, float] = (0.0, 0.9),
) -> Path:
    """Index `path` into the work folder; fails when it is not sorted."""
    index, stage = index_stage(context, str(path), contigs)
    watch = Watch(path, index, 1, context.given.report, reading=1.0, span=span)
    await context.run(stage, watch=watch)
    return index


async def index_source(context: StepContext, contigs: tuple[Contig, ...]) -> Path:
    """Index the source, which may still arrive."""
    source, feed = context.source_input()
    index, stage = index_stage(context, source, contigs)
    watch = Watch(context.source, index, 1, context.given.report, reading=1.0, span=(0.0, 0.9))
    await context.run(replace(stage, reads_source=True), stdin=feed, watch=watch)
    return index


def index_stage(context: StepContext, path: str, contigs: tuple[Contig, ...]) -> tuple[Path, Stage]:
    """(the path of the index, the stage that makes it).

    With a density the stage counts in the same pass, and writes the table beside the index.
    """
    index = _index_of(context, contigs)
    csi, threads = index.suffix == ".csi", str(context.budget.threads)
    if (kernel := counting_kernel(context)) is None:
        argv = ("samtools", "index", "-c" if csi else "-b", "-@", threads, path, str(index))
        return index, Stage("samtools index", argv)
    options = (f"--index={index}", f"--density={index.with_suffix(SUFFIX)}", f"--threads={threads}")
    reads = "/dev/stdin" if path == "-" else path
    argv = (str(kernel), "reads", *options, *(("--csi",) if csi else ()), reads)
    return index, Stage(f"{kernel.name} reads", argv)


def counting_kernel(context: StepContext) -> Path | None:
    """The kernel, if it indexes in place of samtools because reads are to be counted in the same pass."""
    return context.kernel if context.budget.density else None


async def reads_in(context: StepContext, path: Path, index: Path, source: Format | None = None) -> int:
    """How many reads a sorted BAM has, by its index, which is verified by queries for some of them.

    `source`: the BAM is made here, and reads of the source, in that format, are queried for.
    """
    read_again = (
        () if source is None else ("--ours", "--source", str(context.source), "--format", source.name)
    )
    return (await context.verify("bam", path, index, *read_again))["reads"]
