"""Positions on a genome, one per line: sorted, block-compressed, indexed by tabix."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import (
    BCF,
    BED,
    BIGBED,
    BROADPEAK,
    GFF,
    GFF3,
    GTF,
    NARROWPEAK,
    VCF,
    Format,
)  # fmt: skip
from gooseherd.domain.processing import Produced, Step, StepFailed, StepInput, StepOutput
from gooseherd.processing.inflate import Compression
from gooseherd.processing.pipeline import PipelineFailed, Stage
from gooseherd.processing.progress import Watch
from gooseherd.processing.sniff import Look, expect
from gooseherd.processing.workbench import (
    LEVEL,
    Budget,
    Report,
    Workbench,
    ends_whole,
    own_stage,
    stem,
    wrong_output,
)

TBI_END: Final = 1 << 29
"""TBI and BAI hold positions below this (SAMv1 §5.2)."""

_CSI_NOTE: Final = (
    "positions beyond 2^29 do not fit a TBI index, so this is a CSI index; "
    "Gosling cannot read CSI, igv.js can"
)
_WANTS_CSI: Final = re.compile(r"csi index", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """What a source format becomes: the text format, tabix's preset, and the sort key's column."""

    suffix: str
    preset: str
    column: int


_TARGETS: Final[dict[Format, Target]] = {
    VCF: Target("vcf", "vcf", 2),
    BCF: Target("vcf", "vcf", 2),
    GFF: Target("gff", "gff", 4),
    GFF3: Target("gff3", "gff", 4),
    GTF: Target("gff3", "gff", 4),
    BED: Target("bed", "bed", 2),
    NARROWPEAK: Target("narrowPeak", "bed", 2),
    BROADPEAK: Target("broadPeak", "bed", 2),
    BIGBED: Target("bed", "bed", 2),
}


@dataclass(frozen=True)
class TabixIntervalProcessor:
    """Records in byte order of sequence name, then by start; ties keep the source's order."""

    budget: Budget
    name: str = "tabix-interval"
    version: str = f"1.{LEVEL}"
    formats: frozenset[Format] = frozenset(_TARGETS)
    kinds: frozenset[Kind] = frozenset(Kind)

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """Data, then its index."""
        target = _TARGETS[source_format]
        return SortedText(self.budget, source_format, target), TabixIndex(self.budget, source_format, target)


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
        bench = Workbench(given, self.budget)
        seen = await asyncio.to_thread(expect, bench.source, self.source_format)
        await _refuse_cut(bench.source, self.source_format, seen)
        out = bench.work / f"data.{self.target.suffix}.gz"
        packed = seen.compression is not Compression.PLAIN or self.source_format in (BCF, BIGBED)
        watch = Watch(
            source=bench.source,
            output=out,
            expected_bytes=seen.size if packed else seen.size // 4,
            report=given.report,
            reading=0.6,
            span=(0.0, 0.9),
        )
        await bench.run(*self._reading(bench, bench.source), *self._sorting(bench), stdout=out, watch=watch)
        report = await bench.read_report("records.json")
        await self._check(bench, out, report)
        given.report(1.0, seen.size, out.stat().st_size)
        return StepOutput(
            files=(
                Produced(
                    Kind.DATA,
                    out,
                    f"data.{self.target.suffix}.gz",
                    f"{stem(given.source.filename, self.source_format.suffixes)}.{self.target.suffix}.gz",
                ),
            ),
            contigs=report.contigs,
            counts={"records": report.records, "max_end": report.max_end, **report.counts},
            notes=await self._notes(bench, report),
            tools=await bench.versions("sort", "bgzip", *self._converters()),
        )

    def _reading(self, bench: Workbench, source: Path) -> tuple[Stage, ...]:
        """Stages from the source to normalised records."""
        final = {"report": "records.json", "header": "header"}
        match self.source_format:
            case f if f is BCF:
                view = Stage(
                    "bcftools view",
                    ("bcftools", "view", "--no-version", "-Ov", str(source)),
                    reads_source=True,
                )
                return view, bench.normaliser("vcf", None, **final)
            case f if f is BIGBED:
                verdict = bench.work / "bigbed.json"
                items = own_stage(
                    "bigbed", str(source), "--report", str(verdict), verdict=verdict, reads_source=True
                )
                return items, bench.normaliser("bed", None, **final)
            case f if f is GTF:
                # -F and the two --keep: as many attributes and gene lines as gffread can be made to keep.
                convert = ("gffread", "-F", "--keep-genes", "--keep-exon-attrs", "-")
                return (
                    bench.normaliser("gtf", source, "source.json"),
                    Stage("gffread", convert, reads_source=True),
                    bench.normaliser("gffread", None, **final),
                )
            case f:
                return (bench.normaliser(f.name, source, **final),)

    def _sorting(self, bench: Workbench) -> tuple[Stage, ...]:
        column = self.target.column
        threads = str(self.budget.threads)
        return (
            Stage(
                "sort",
                (
                    "sort", "-s", "-t", "\t", "-k1,1", f"-k{column},{column}n",
                    "-S", f"{self.budget.sort_memory}b", "-T", str(bench.work), f"--parallel={threads}",
                ),
            ),
            own_stage("headed", str(bench.work / "header")),
            Stage("bgzip", ("bgzip", "-c", "-@", threads, "-l", str(LEVEL))),
        )  # fmt: skip

    async def _check(self, bench: Workbench, out: Path, report: Report) -> None:
        """Every line and byte that went into the sort is in the result, which decodes to its end."""
        if not await asyncio.to_thread(ends_whole, out):
            raise wrong_output("no end marker")
        unpack = Stage("bgzip", ("bgzip", "-d", "-c", "-@", str(self.budget.threads), str(out)))
        said = await bench.output_of(unpack, Stage("wc", ("wc", "-lc")))
        lines, size = map(int, said.split())
        if (lines, size) != (report.lines, report.size):
            raise wrong_output(f"{lines} lines of {size} bytes instead of {report.lines} of {report.size}")

    async def _notes(self, bench: Workbench, report: Report) -> tuple[str, ...]:
        notes = list(report.notes)
        if self.source_format is GTF:
            source = await bench.read_report("source.json")
            notes = [*source.notes, *notes]
            notes.append(f"gffread made {report.records} GFF3 records of {source.records} GTF records")
        if report.max_end > TBI_END:
            notes.append(f"the last record ends at {report.max_end}: only a CSI index can hold that")
        return tuple(notes)

    def _converters(self) -> tuple[str, ...]:
        return {BCF: ("bcftools",), GTF: ("gffread",)}.get(self.source_format, ())


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
        bench = Workbench(given, self.budget)
        data = bench.link(bench.source, f"data.{self.target.suffix}.gz")
        size = bench.source.stat().st_size
        kind = "tbi"
        notes: tuple[str, ...] = ()
        try:
            await self._index(bench, data, ())
        except PipelineFailed as refused:
            if not any(_WANTS_CSI.search(end.stderr) for end in refused.result.stages):
                raise
            kind, notes = "csi", (_CSI_NOTE,)
            await self._index(bench, data, ("-C",))
        index = data.with_name(f"{data.name}.{kind}")
        await bench.output_of(own_stage("probe", "tabix", str(data), str(index)))
        given.report(1.0, size, index.stat().st_size)
        base = stem(given.source.filename, self.source_format.suffixes)
        return StepOutput(
            files=(Produced(Kind.INDEX, index, "index", f"{base}.{self.target.suffix}.gz.{kind}"),),
            notes=notes,
            tools=await bench.versions("tabix"),
        )

    async def _index(self, bench: Workbench, data: Path, options: tuple[str, ...]) -> None:
        watch = Watch(bench.source, data, 1, bench.given.report, reading=1.0, span=(0.0, 0.9))
        await bench.run(
            Stage("tabix", ("tabix", "-f", *options, "-p", self.target.preset, str(data))), watch=watch
        )


async def _refuse_cut(path: Path, source_format: Format, seen: Look) -> None:
    """BCF in BGZF without its end marker: whole blocks may be missing, and no tool would fail."""
    if (
        source_format is BCF
        and seen.compression is Compression.BGZF
        and not await asyncio.to_thread(ends_whole, path)
    ):
        raise StepFailed.because(Reason.SOURCE_INVALID, "truncated: the end-of-file marker is missing")
