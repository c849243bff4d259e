"""Names of features → a name index in trix form, from the source itself.

An artifact of its own, by a recipe of its own, made when somebody searches: sorting names costs as much as
sorting the records, and most files are never searched (docs/adr/0036-htsget-and-names.md).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import (
    BED,
    BIGBED,
    BROADPEAK,
    GAPPEDPEAK,
    GFF,
    GFF3,
    GTF,
    NARROWPEAK,
    UCSC_TABLE,
    Format,
)
from gooseherd.domain.processing import Produced, Step, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.converters import converting
from gooseherd.processing.step_context import Budget, StepContext, stem
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import Stage, program_stage

MOST_NAMES: Final = 20_000_000
"""Of one file: an index of some 2 GB. What comes after them in the file is not found by name."""
_MEDIA_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class NameIndexProcessor:
    """GFF, GFF3, GTF, BED and what is read as BED → ix and ixx."""

    budget: Budget
    name: str = "names"
    formats: frozenset[Format] = frozenset(
        {GFF, GFF3, GTF, BED, NARROWPEAK, BROADPEAK, GAPPEDPEAK, BIGBED, UCSC_TABLE}
    )
    kinds: frozenset[Kind] = frozenset({Kind.NAMES, Kind.NAMES_INDEX})

    def version(self, source_format: Format) -> str:
        """Shape."""
        return "1"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the step calls them."""
        name = stem(source.filename, source.file_format.suffixes)
        return {Kind.NAMES: f"{name}.ix", Kind.NAMES_INDEX: f"{name}.ixx"}

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step."""
        return (NameIndex(self.budget, source_format, self),)


@dataclass(frozen=True)
class NameIndex:
    """Source → lines of names → sorted → ix and ixx. Memory is sort's budget."""

    budget: Budget
    source_format: Format
    processor: NameIndexProcessor
    name: str = "names"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        await given.arriving.whole()
        context = StepContext(given, self.budget)
        detected = await context.detect(self.source_format)
        ix, ixx, found, written = (context.work / name for name in ("out.ix", "out.ixx", "found", "written"))
        # Lines that make no record have no names; those of other formats are not read either.
        before, reader = converting(context, self.source_format, str(context.source), skip_bad_lines=True)
        source = "-" if before else str(context.source)
        reading = program_stage(
            "read_names", reader, source, "--report", str(found), "--most", str(MOST_NAMES),
            refusal=found, reads_source=True,
        )  # fmt: skip
        sort = Stage(
            "sort",
            (
                "sort", "-t", "\t", "-k1,1", "-k2,2n", "-S", f"{self.budget.sort_memory}b",
                "-T", str(context.work), f"--parallel={self.budget.threads}",
            ),
        )  # fmt: skip
        writing = program_stage("write_names", str(ix), str(ixx), "--report", str(written))
        watch = Watch(context.source, ix, max(detected.size, 1), given.report, reading=0.8, span=(0.0, 1.0))
        await context.run(*before, reading, sort, writing, watch=watch)
        read, index = await _report(found), await _report(written)
        names = self.processor.filenames(given.source)
        given.report(1.0, context.source.stat().st_size, ix.stat().st_size)
        return StepOutput(
            files=(
                Produced(Kind.NAMES, ix, "names.ix", names[Kind.NAMES], _MEDIA_TYPE),
                Produced(Kind.NAMES_INDEX, ixx, "names.ixx", names[Kind.NAMES_INDEX], _MEDIA_TYPE),
            ),
            counts={"names": read["names"], "terms": index["terms"]},
            notes=_notes(read, index),
            tools=await context.versions("sort"),
        )


async def _report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_bytes))
    return report


def _notes(read: Mapping[str, int], index: Mapping[str, int]) -> tuple[str, ...]:
    notes = []
    if read["left_out"]:
        notes.append(
            f"{read['left_out']} names are not in the index: only {MOST_NAMES} are, and none is longer than "
            "200 characters"
        )
    if index["terms_with_too_many"]:
        notes.append(
            f"{index['terms_with_too_many']} words name more than 50 places each: 50 of them are in the index"
        )
    return tuple(notes)
