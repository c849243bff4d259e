"""Positions on a genome, one per line: sorted, block-compressed, indexed as tabix does it.

Two ways lead to the same bytes (docs/adr/0008-two-ways-same-bytes.md). Where the kernel is
built (kernel/), one run of it does everything: it normalises, sorts, compresses and indexes
in a pass; packings that it does not read (bzip2, xz) are unpacked first. Elsewhere the normaliser in
Python feeds GNU sort and bgzip, and tabix makes the index; the quickest level is the kernel's
alone (docs/adr/0013-the-quickest-level.md). The order is the same pure
function of the lines: a source whose sequences stand in contiguous blocks with ascending
starts keeps its order; any other is sorted by name byte by byte, start, then the source's
order. A BGZF source that keeps its order and has nothing to put right keeps its bytes too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import (
    BCF,
    BIGBED,
    GFF,
    GFF3,
    GTF,
    VCF,
    Format,
)  # fmt: skip
from gooseherd.domain.processing import Produced, Step, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.converters import (
    CONVERTED,
    TABLES,
    converting,
    declared_contigs,
    with_dropped,
)
from gooseherd.processing.density import SUFFIX, Density, density_name
from gooseherd.processing.formats.bgzf import has_end_marker, text_bytes
from gooseherd.processing.formats.decompression import (
    END_MARKER_MISSING,
    MAX_BYTES,
    Compression,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.detection import Detection
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.formats.targets import TARGETS, Target
from gooseherd.processing.indexes import TBI_END, TabixIndex, text_name
from gooseherd.processing.step_context import (
    KEPT_NOTE,
    Budget,
    StepContext,
    cut_by_size,
    hard_link,
    wrong_output,
)
from gooseherd.processing.tools.kernel import LEAST_MEMORY, PROGRAM, KernelCall, KernelStatus, parse_report
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import PipelineFailed, Stage, program_stage

_KERNEL_READS: Final = frozenset({Compression.PLAIN, Compression.GZIP, Compression.BGZF, Compression.ZSTD})
_SMALL: Final = 4 << 20
"""A source below this may expand a thousandfold, to lines that take minutes: it is checked for that first."""
_SHAPES: Final = dict.fromkeys((BCF, BIGBED, GFF, GFF3, *TABLES), 7) | dict.fromkeys((GTF, VCF), 8)
"""The formats of which something else is made than in shape 6."""


SKIPPING: Final = "s"
"""The end of a version that leaves bad lines out."""


def _skips_bad_lines(budget: Budget, source_format: Format) -> bool:
    """What is converted by a library has no lines of its own."""
    return budget.skip_bad_lines and source_format not in (BCF, BIGBED)


@dataclass(frozen=True)
class TabixIntervalProcessor:
    """Records sorted by sequence and start; what can be indexed as it stands keeps its order."""

    budget: Budget
    name: str = "tabix-interval"
    formats: frozenset[Format] = frozenset(TARGETS)

    def version(self, source_format: Format) -> str:
        """Shape and level, whether there is a density, and whether bad lines are left out."""
        skipping = SKIPPING if _skips_bad_lines(self.budget, source_format) else ""
        return f"{_SHAPES.get(source_format, 6)}.{self.budget.recipe}{skipping}"

    @property
    def kinds(self) -> frozenset[Kind]:
        return self.budget.kinds

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the steps call them."""
        data = text_name(source, source.file_format, TARGETS[source.file_format])
        names = {Kind.DATA: data, Kind.INDEX: f"{data}.tbi"}
        return names | density_name(source, source.file_format) if self.budget.density else names

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """Data, then its index, then its density."""
        target = TARGETS[source_format]
        steps: tuple[Step, ...] = (
            SortedText(self.budget, source_format, target),
            TabixIndex(self.budget, source_format, target),
        )
        if self.budget.density:
            steps += (Density(self.budget, source_format, target.suffix.lower()),)
        return steps


@dataclass(frozen=True)
class SortedText:
    """Source → normalised, sorted, bgzipped text."""

    budget: Budget
    source_format: Format
    target: Target
    name: str = "data"
    needs: Kind | None = None
    weight: float = 9.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        detected = await context.detect(self.source_format)
        kernel = context.kernel
        context.require_kernel_for_level()
        if not self._can_read(kernel, detected):
            detected = await context.unpack(self.source_format)
        if kernel is None or self.source_format is BIGBED or self.source_format in TABLES:
            # A bigBed's tree stands at its end; and without the kernel lines are read from files.
            await given.arriving.whole()
        if detected.compression in _KERNEL_READS and detected.size < _SMALL:
            await asyncio.to_thread(_refuse_bomb, context.source, detected.size)
        out = context.work / f"data.{self.target.suffix}.gz"
        if kernel is not None:
            report = await self._by_kernel(context, kernel, out, detected)
            tools = await context.versions(str(kernel), *self._converters())
        else:
            await _refuse_truncated(context.source, self.source_format, detected)
            report = await self._by_sort(context, out, detected)
            used = ("bgzip",) if report.ordered else ("sort", "bgzip")
            tools = await context.versions(*(() if report.kept else used), *self._converters())
        if report.accounted_lines != report.source_lines:
            raise wrong_output(f"{report.accounted_lines} of {report.source_lines} lines are accounted for")
        report = await with_dropped(context, report, self.source_format)
        data = given.path if report.kept and not out.exists() else out
        given.report(1.0, context.source.stat().st_size, data.stat().st_size)
        return StepOutput(
            files=(self._data(given, data),),
            contigs=report.contigs,
            counts={"records": report.records, "max_end": report.max_end, **report.counts},
            notes=self._notes(report),
            tools=tools,
        )

    def _can_read(self, kernel: Path | None, detected: Detection) -> bool:
        if self.source_format in CONVERTED:
            return self.source_format is not BCF or detected.compression is not Compression.ZSTD
        return kernel is None or detected.compression in _KERNEL_READS

    @property
    def _skips_bad_lines(self) -> bool:
        return _skips_bad_lines(self.budget, self.source_format)

    def _converting(self, context: StepContext, source: str) -> tuple[tuple[Stage, ...], str]:
        # What becomes of a table is read by no rules that it may break.
        return converting(context, self.source_format, source, skip_bad_lines=self._skips_bad_lines)

    def _data(self, given: StepInput, path: Path) -> Produced:
        name = text_name(given.source, self.source_format, self.target)
        return Produced(Kind.DATA, path, f"data.{self.target.suffix}.gz", name)

    def _watch(
        self,
        context: StepContext,
        detected: Detection,
        output: Path,
        reading: float,
        span: tuple[float, float],
    ) -> Watch:
        packed = detected.compression is not Compression.PLAIN or self.source_format in CONVERTED
        expected = detected.size if packed else detected.size // 4
        return Watch(context.source, output, expected, context.given.report, reading=reading, span=span)

    async def _by_kernel(
        self, context: StepContext, kernel: Path, out: Path, detected: Detection
    ) -> NormaliserReport:
        """One pass makes the data and the index, which stays beside the data for the next step."""
        call = KernelCall(
            format=self.source_format.name,
            source=None,
            out=out,
            index=context.work / "index",
            report=context.work / "records.json",
            work=context.work,
            memory_bytes=max(self.budget.sort_memory, LEAST_MEMORY),
            threads=self.budget.threads,
            level=self.budget.level,
            density=out.with_name(out.name + SUFFIX) if self.budget.density else None,
            contigs=await declared_contigs(context, self.source_format, out),
            refuse_empty=self.source_format not in TABLES,
            skip_bad_lines=self._skips_bad_lines and self.source_format not in TABLES,
            keep=self.source_format not in CONVERTED,
        )
        async with context.verifying():
            if self._is_read_again:
                await context.read_source_ahead()
            async with context.checked(
                lambda: _refuse_truncated(context.source, self.source_format, detected)
            ):
                await self._run_kernel_for(context, kernel, call, detected)
            return await self._checked(context, call)

    async def _checked(self, context: StepContext, call: KernelCall) -> NormaliserReport:
        """Check what a pass made, and move its index beside the data."""
        found = parse_report(await asyncio.to_thread(call.report.read_bytes))
        report = await context.read_report(call.report.name)
        out = call.out
        beside = out.with_name(f"{out.name}.{found.index}")
        if report.kept:
            data = await asyncio.to_thread(hard_link, context.given.path, out)
            await self._verify(context, data, call.index)
            if data is out:
                await asyncio.to_thread(call.index.rename, beside)
            return report
        index = await asyncio.to_thread(call.index.rename, beside)
        # Both at once: the blocks are counted here, the queries are made in another process.
        checks = (asyncio.to_thread(_check_blocks, out, report.size), self._verify(context, out, index))
        for found_wrong in await asyncio.gather(*checks, return_exceptions=True):
            if found_wrong is not None:
                raise found_wrong
        return report

    async def _run_kernel_for(
        self, context: StepContext, kernel: Path, call: KernelCall, detected: Detection
    ) -> None:
        """One run of the kernel; two, when a source that arrives could have been kept and is not."""
        if not context.given.arriving.complete:
            if call.keep and detected.compression is Compression.BGZF:
                context.given.announce(self._data(context.given, context.given.path))
                try:
                    await self._run(context, kernel, call, detected)
                except PipelineFailed as refused:
                    status = refused.result.stages[-1].returncode
                    if status == KernelStatus.WANTS_CSI:
                        await context.given.arriving.whole()
                    elif status != KernelStatus.NOT_KEPT:
                        raise
                else:
                    return
                call = replace(call, keep=status == KernelStatus.WANTS_CSI)
            else:
                call = replace(call, keep=False)
        context.given.announce(self._data(context.given, call.out))
        await self._run(context, kernel, call, detected)

    async def _run(self, context: StepContext, kernel: Path, call: KernelCall, detected: Detection) -> None:
        source, feed = context.source_input()
        before, reader = self._converting(context, source)
        reads = None if before or feed is not None else context.source
        call = replace(call, format=reader, source=reads)
        stage = Stage(PROGRAM, call.argv(kernel), refusal=call.report)
        watch = self._watch(context, detected, call.out, 0.6, (0.0, 0.9))
        await context.run(*before, stage, stdin=feed, watch=watch)

    async def _by_sort(self, context: StepContext, out: Path, detected: Detection) -> NormaliserReport:
        """The same by the normaliser in Python, which finds out whether to sort, GNU sort and bgzip."""
        before, reader = self._converting(context, str(context.source))
        header, added, records = (context.work / name for name in ("header", "added", "records"))
        source = None if before else context.source
        contigs = await declared_contigs(context, self.source_format, out)
        reading = context.normaliser(
            reader,
            source,
            "records.json",
            header=header,
            added=added,
            contigs=contigs,
            skip_bad_lines=self._skips_bad_lines and self.source_format not in TABLES,
            may_be_empty=self.source_format in TABLES,
        )
        try:
            watch = self._watch(context, detected, records, 1.0, (0.0, 0.4))
            await context.run(*before, reading, stdout=records, watch=watch)
            report = await context.read_report("records.json")
            if report.kept and not before:
                return report
            await self._pack(context, header, added, records, out, ordered=report.ordered)
        finally:
            records.unlink(missing_ok=True)
        await self._check(context, out, report)
        return report

    async def _pack(
        self, context: StepContext, header: Path, added: Path, records: Path, out: Path, *, ordered: bool
    ) -> None:
        column, threads = self.target.column, str(self.budget.threads)
        pack = ("bgzip", "-c", "-l", str(self.budget.level), *await cut_by_size(context))
        compress = (*pack, "-@", threads)
        sort = (
            "sort", "-s", "-t", "\t", "-k1,1", f"-k{column},{column}n",
            "-S", f"{self.budget.sort_memory}b", "-T", str(context.work), f"--parallel={threads}",
            *(("-",) if self.source_format is GTF else (str(added), str(records))),
        )  # fmt: skip
        size = (await asyncio.to_thread(records.stat)).st_size
        stages: tuple[Stage, ...] = (Stage("bgzip", (*compress, str(records))),)
        if not ordered:
            stages = (Stage("sort", sort), Stage("bgzip", compress))
        if not ordered and self.source_format is GTF:
            stages = (program_stage("genes_first", str(added), str(records)), *stages)
        await context.run(
            *stages,
            program_stage("prepend_header", str(header), *pack),
            stdout=out,
            watch=Watch(records, out, size // 4, context.given.report, reading=0.5, span=(0.4, 0.9)),
        )

    @property
    def _is_read_again(self) -> bool:
        """Whether records of the source are looked for in the data: a BCF's only by an index of its own."""
        return self.source_format is not BCF and self.source_format not in TABLES

    async def _verify(self, context: StepContext, data: Path, index: Path) -> None:
        source = ("--source", str(context.source), "--format", self.source_format.name)
        options = source if self._is_read_again else ()
        await context.verify("tabix", data, index, *options)

    async def _check(self, context: StepContext, out: Path, report: NormaliserReport) -> None:
        """Every line and byte that went into the sort is in the result, which decodes to its end."""
        if not await asyncio.to_thread(has_end_marker, out):
            raise wrong_output("no end marker")
        unpack = Stage("bgzip", ("bgzip", "-d", "-c", "-@", str(self.budget.threads), str(out)))
        output = await context.output_of(unpack, Stage("wc", ("wc", "-lc")))
        lines, size = map(int, output.split())
        if (lines, size) != (report.lines, report.size):
            raise wrong_output(f"{lines} lines of {size} bytes instead of {report.lines} of {report.size}")

    def _notes(self, report: NormaliserReport) -> tuple[str, ...]:
        notes = list(report.notes)
        if report.kept:
            notes.append(KEPT_NOTE)
        if self.source_format is GTF:
            notes.append("rewritten as GFF3: every line and attribute is kept, ID and Parent are set")
        if report.max_end > TBI_END:
            notes.append(f"the last record ends at {report.max_end}: only a CSI index can hold that")
        return tuple(notes)

    def _converters(self) -> tuple[str, ...]:
        return ("bcftools",) if self.source_format is BCF else ()


def _refuse_bomb(path: Path, size: int) -> None:
    with path.open("rb") as stream:
        refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)


def _check_blocks(out: Path, text_size: int) -> None:
    try:
        size = text_bytes(out)
    except ValueError as broken:
        raise wrong_output(str(broken)) from None
    if not has_end_marker(out):
        raise wrong_output("no end marker")
    if size != text_size:
        raise wrong_output(f"{size} bytes of text instead of {text_size}")


async def _refuse_truncated(path: Path, source_format: Format, detected: Detection) -> None:
    """BCF in BGZF without its end marker: whole blocks may be missing, and no tool would fail."""
    if (
        source_format is BCF
        and detected.compression is Compression.BGZF
        and not await asyncio.to_thread(has_end_marker, path)
    ):
        raise StepFailed.because(Reason.SOURCE_INVALID, END_MARKER_MISSING)
