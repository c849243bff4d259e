"""Records with two places on the genome: the text in the order of either place, each with its index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import BEDPE, PAF, PAIRS, Format
from gooseherd.domain.processing import Produced, Step, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.bgzf import has_end_marker, text_bytes
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.formats.two_ended import LAYOUTS, End, Layout
from gooseherd.processing.intervals import SKIPPING
from gooseherd.processing.step_context import (
    QUICKEST_OF_TOOLS,
    Budget,
    StepContext,
    cut_by_size,
    stem,
    wrong_output,
)
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import PipelineFailed, Stage, program_stage

_SENTENCES: Final[dict[str, str]] = {
    "without_first_end": "records whose first end is not on the genome are found by the second one only",
    "without_second_end": "records whose second end is not on the genome are found by the first one only",
    "without_place": "records of which neither end is on the genome were dropped",
}
_CSI_NOTE: Final = "positions beyond 2^29 do not fit a TBI index, so this is a CSI index"


@dataclass(frozen=True)
class TwoEndedProcessor:
    """BEDPE, PAF and pairs → sorted by the first end, and again by the second one, each in BGZF + TBI."""

    budget: Budget
    name: str = "two-ended"
    formats: frozenset[Format] = frozenset({BEDPE, PAF, PAIRS})
    kinds: frozenset[Kind] = frozenset({Kind.DATA, Kind.INDEX, Kind.SECOND_END, Kind.SECOND_END_INDEX})

    def version(self, source_format: Format) -> str:
        """Shape and level, and whether bad lines are left out. The kernel has no part in it."""
        return f"1.{_level(self.budget)}{SKIPPING if self.budget.skip_bad_lines else ''}"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the step calls them."""
        base, suffix = stem(source.filename, source.file_format.suffixes), source.file_format.name
        data, second = f"{base}.{suffix}.gz", f"{base}.second-end.{suffix}.gz"
        return {
            Kind.DATA: data,
            Kind.INDEX: f"{data}.tbi",
            Kind.SECOND_END: second,
            Kind.SECOND_END_INDEX: f"{second}.tbi",
        }

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step: the source is read once for both."""
        return (BothEnds(self.budget, source_format, self),)


def _level(budget: Budget) -> int:
    return max(budget.level, QUICKEST_OF_TOOLS)


@dataclass(frozen=True)
class BothEnds:
    """Source → the text in two orders, and two indexes."""

    budget: Budget
    source_format: Format
    processor: TwoEndedProcessor
    name: str = "data"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        await context.detect(self.source_format)
        await given.arriving.whole()
        layout = LAYOUTS[self.source_format.name]
        found = await self._read(context)
        report, names = NormaliserReport(found), self.processor.filenames(given.source)
        dropped = report.counts.get("without_place", 0)
        if report.accounted_lines + dropped != report.source_lines:
            lines = report.accounted_lines + dropped
            raise wrong_output(f"{lines} of {report.source_lines} lines are accounted for")
        files, notes = [], [*report.notes]
        notes += [sentence for what, sentence in _SENTENCES.items() if report.counts.get(what)]
        for end, one, kinds, span in (
            (layout.first, "first", (Kind.DATA, Kind.INDEX), (0.2, 0.6)),
            (layout.second, "second", (Kind.SECOND_END, Kind.SECOND_END_INDEX), (0.6, 1.0)),
        ):
            header = await asyncio.to_thread(_header_of, context.work, self.source_format, one)
            size = found["bytes_of_both"] + found[f"bytes_of_{one}"]
            data = await self._sort(context, layout, end, one, header, span)
            if await asyncio.to_thread(text_bytes, data) != size + header.stat().st_size:
                raise wrong_output("another number of bytes came out than went in")
            if not await asyncio.to_thread(has_end_marker, data):
                raise wrong_output("no end marker")
            index = await self._index(context, layout, end, data)
            await context.verify("tabix", data, index)
            if index.suffix == ".csi" and _CSI_NOTE not in notes:
                notes.append(_CSI_NOTE)
            name = names[kinds[0]]
            files.append(Produced(kinds[0], data, data.name, name))
            files.append(Produced(kinds[1], index, f"{one}.index", f"{name}{index.suffix}"))
        for left in ("both", "first", "second"):
            await asyncio.to_thread((context.work / left).unlink)
        given.report(1.0, given.path.stat().st_size, sum(file.path.stat().st_size for file in files))
        return StepOutput(
            files=tuple(files),
            contigs=report.contigs,
            counts={"records": report.records, "max_end": report.max_end, **report.counts},
            notes=tuple(notes),
            tools=await context.versions("sort", "bgzip", "tabix"),
        )

    async def _read(self, context: StepContext) -> dict[str, Any]:
        path = context.work / "records.json"
        outs = (("--header", "header"), ("--both", "both"), ("--first", "first"), ("--second", "second"))
        argv = (self.source_format.name, str(context.source), "--report", str(path))
        reading = program_stage(
            "read_two_ended",
            *argv,
            *(word for flag, name in outs for word in (flag, str(context.work / name))),
            *(("--skip-bad-lines",) if self.budget.skip_bad_lines else ()),
            refusal=path,
            reads_source=True,
        )
        size = context.source.stat().st_size
        report = context.given.report
        watch = Watch(context.source, context.work / "both", size, report, reading=1.0, span=(0.0, 0.2))
        await context.run(reading, watch=watch)
        found: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_bytes))
        return found

    async def _sort(
        self,
        context: StepContext,
        layout: Layout,
        end: End,
        one: str,
        header: Path,
        span: tuple[float, float],
    ) -> Path:
        out, threads = context.work / f"{one}.{self.source_format.name}.gz", str(self.budget.threads)
        name, begin = end.name + 1, end.begin + 1
        sort = (
            "sort", "-s", "-t", "\t", f"-k{name},{name}", f"-k{begin},{begin}n",
            "-S", f"{self.budget.sort_memory}b", "-T", str(context.work), f"--parallel={threads}",
            str(context.work / "both"), str(context.work / one),
        )  # fmt: skip
        pack = ("bgzip", "-c", "-l", str(_level(self.budget)), *await cut_by_size(context))
        both = context.work / "both"
        size = (await asyncio.to_thread(both.stat)).st_size
        await context.run(
            Stage("sort", sort),
            Stage("bgzip", (*pack, "-@", threads)),
            program_stage("prepend_header", str(header), *pack),
            stdout=out,
            watch=Watch(both, out, size // 4, context.given.report, reading=0.5, span=span),
        )
        return out

    async def _index(self, context: StepContext, layout: Layout, end: End, data: Path) -> Path:
        columns = ("-s", str(end.name + 1), "-b", str(end.begin + 1), "-e", str(end.end + 1))
        argv = ("tabix", "-f", *(("-0",) if layout.zero_based else ()), *columns)
        try:
            await context.run(Stage("tabix", (*argv, str(data))))
        except PipelineFailed as refused:
            if not any("csi index" in stage.stderr.lower() for stage in refused.result.stages):
                raise
            await context.run(Stage("tabix", (*argv, "-C", str(data))))
            return data.with_name(f"{data.name}.csi")
        return data.with_name(f"{data.name}.tbi")


def _header_of(work: Path, source_format: Format, one: str) -> Path:
    """The source's header; a pairs file says in it how it is sorted."""
    path = work / f"{one}.header"
    lines = (work / "header").read_bytes().splitlines(keepends=True)
    if source_format is PAIRS and lines:
        # The specification has a word for the order of the first end, and none for that of the second.
        lines.insert(1, b"#sorted: chr1-pos1\n" if one == "first" else b"#sorted: none\n")
    path.write_bytes(b"".join(lines))
    return path
