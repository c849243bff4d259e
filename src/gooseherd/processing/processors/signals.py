"""Values along the genome, as text: sorted as intervals are, and written as a bigWig."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.formats import BEDGRAPH, WIG, Format
from gooseherd.domain.processing import Produced, Step, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.bad_lines import MOST_BAD_LINES
from gooseherd.processing.formats.targets import Target
from gooseherd.processing.intervals import SKIPPING, SortedText
from gooseherd.processing.step_context import KEPT_NOTE, Budget, StepContext, quickest_level, stem
from gooseherd.processing.tools.stages import program_stage

_TARGET: Final = Target("bedgraph", "bed", 2)
_LENGTHS_NOTE: Final = "the source names no lengths of sequences: each ends where its last value does"
_EMPTY_NOTE: Final = "no record has a value: the bigWig is empty"
_SENTENCES: Final[dict[str, str]] = {
    "overlapping_records": "records overlap: the bases of both have the value of the one that begins first",
    "without_number": "records without a finite number for a value were left out",
    "empty_records": "records without a base were left out",
    "left_out_columns": "records have more than four columns: only the fourth is in the bigWig",
    "display_lines": "track and browser lines were dropped",
    "comment_lines": "comment lines were dropped",
    "blank_lines": "blank lines were dropped",
}


@dataclass(frozen=True)
class SignalProcessor:
    """bedGraph and wiggle → bigWig."""

    budget: Budget
    name: str = "signal"
    formats: frozenset[Format] = frozenset({BEDGRAPH, WIG})
    kinds: frozenset[Kind] = frozenset({Kind.DATA})

    def version(self, source_format: Format) -> str:
        """Shape; the level is that of nothing; and whether bad lines are left out."""
        return f"1.2{SKIPPING if self.budget.skip_bad_lines else ''}"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the step calls them."""
        return {Kind.DATA: f"{stem(source.filename, source.file_format.suffixes)}.bw"}

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step."""
        return (BigWigOfText(self.budget, source_format, self),)


@dataclass(frozen=True)
class BigWigOfText:
    """Source → sorted bedGraph → bigWig."""

    budget: Budget
    source_format: Format
    processor: SignalProcessor
    name: str = "data"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        await given.arriving.whole()
        # Each is often called by the other's name.
        detected = await StepContext(given, self.budget).detect(self.source_format)
        reading = WIG if detected.content == WIG.name else self.source_format
        # What is sorted is not what is published.
        level = quickest_level(self.budget.search_path)
        budget = replace(self.budget, level=level, density=False)
        sorting = SortedText(budget, reading, _TARGET)
        halved = replace(given, announce=_nobody, report=_first_half_of(given))
        text = await sorting.run(halved)
        data = text.files[0].path
        context = StepContext(given, self.budget)
        out, spool, report = (context.work / name for name in ("data.bw", "spool", "signal.json"))
        source = context.link(data, "sorted.gz")
        skipping: tuple[str, ...] = ()
        if self.budget.skip_bad_lines:
            skipping = ("--skip-bad-values", str(MOST_BAD_LINES - text.counts.get("bad_lines", 0)))
        argv = (str(source), str(out), "--spool", str(spool), "--report", str(report), *skipping)
        await context.run(program_stage("write_signal", *argv, refusal=report, reads_source=True))
        found: dict[str, Any] = json.loads(await asyncio.to_thread(report.read_bytes))
        await context.verify("bigwig", out, report)
        for path in (spool, *(() if data == given.path else (data,))):
            await asyncio.to_thread(path.unlink, missing_ok=True)
        given.report(1.0, given.path.stat().st_size, out.stat().st_size)
        counts = {what: n for what, n in text.counts.items() if what != "max_end"}
        counts |= {what: n + counts.get(what, 0) for what, n in found["counts"].items()}
        notes = (
            *(note for note in text.notes if note != KEPT_NOTE),
            *self._notes(text, counts, found["values"]),
        )
        if bad := found["bad_values"]:
            are = (
                "record whose value is no number was"
                if len(bad) == 1
                else "records whose values are no numbers were"
            )
            notes += (f"{len(bad)} {are} left out: {', '.join(bad)}",)
        return StepOutput(
            files=(Produced(Kind.DATA, out, "data.bw", self.processor.filenames(given.source)[Kind.DATA]),),
            contigs=tuple(Contig(name, length) for name, length in found["contigs"]),
            counts=counts,
            notes=notes,
            tools=text.tools,
        )

    def _notes(self, text: StepOutput, counts: Mapping[str, int], values: int) -> tuple[str, ...]:
        # What was dropped on the way to the text, its own notes say.
        own = (what for what in _SENTENCES if counts.get(what) and not text.counts.get(what))
        return (*(_SENTENCES[what] for what in own), _LENGTHS_NOTE if values else _EMPTY_NOTE)


def _nobody(_: Produced) -> None:
    """Nobody is to see it."""


def _first_half_of(given: StepInput) -> Any:
    def report(fraction: float, bytes_in: int, bytes_out: int) -> None:
        given.report(fraction / 2, bytes_in, bytes_out)

    return report
