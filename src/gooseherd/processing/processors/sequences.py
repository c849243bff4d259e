"""Reference sequences: FASTA in blocks, with the two indexes by which a viewer reads any stretch of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.formats import FASTA, Format
from gooseherd.domain.processing import Produced, Step, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.bgzf import has_end_marker, text_bytes
from gooseherd.processing.formats.decompression import Compression
from gooseherd.processing.formats.fasta import EMPTY
from gooseherd.processing.step_context import (
    QUICKEST_OF_TOOLS,
    Budget,
    StepContext,
    cut_by_size,
    stem,
    wrong_output,
)
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import Stage, program_stage

_KEPT_NOTE: Final = "already in blocks: these are the source's own bytes"
_SENTENCES: Final[dict[str, str]] = {
    "byte_order_mark": "the byte order mark at the start was removed",
    "carriage_returns": "carriage returns at line ends were removed",
    "blank_lines": "blank lines were dropped",
    "spaces_in_sequences": "spaces in sequences were removed",
    "spaces_before_names": "spaces between > and a name were removed",
    "rewrapped_lines": "lines of other lengths than the first of their sequence were wrapped anew",
    EMPTY: "names without a sequence are not in the index",
}


@dataclass(frozen=True)
class FastaProcessor:
    """FASTA → bgzip + FAI + GZI; a BGZF source that an index fits keeps its bytes."""

    budget: Budget
    name: str = "fasta-index"
    formats: frozenset[Format] = frozenset({FASTA})
    kinds: frozenset[Kind] = frozenset({Kind.DATA, Kind.INDEX, Kind.GZI})

    def version(self, source_format: Format) -> str:
        """Shape and level. The kernel, whose level the quickest is, packs no sequences."""
        return f"1.{_level(self.budget)}"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the step calls them."""
        name = f"{stem(source.filename, source.file_format.suffixes)}.fa.gz"
        return {Kind.DATA: name, Kind.INDEX: f"{name}.fai", Kind.GZI: f"{name}.gzi"}

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step: both indexes come of the pass that makes the data."""
        return (IndexedFasta(self.budget, self.filenames),)


def _level(budget: Budget) -> int:
    return max(budget.level, QUICKEST_OF_TOOLS)


@dataclass(frozen=True)
class IndexedFasta:
    """Source → FASTA in blocks, its FAI and its GZI."""

    budget: Budget
    filenames: Callable[[SourceFile], Mapping[Kind, str]]
    name: str = "data"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        detected = await context.detect(FASTA)
        await given.arriving.whole()
        out, fai, gzi = (context.work / name for name in ("data.fa.gz", "data.fai", "data.gzi"))
        async with context.verifying():
            in_blocks = detected.compression is Compression.BGZF
            report = await self._read(context, fai) if in_blocks else {}
            kept = bool(report.get("kept"))
            if kept:
                out = given.path
                # bgzip writes beside the file; and the source's name is no concern of its.
                index = ("bgzip", "-r", "-I", str(gzi), str(context.source))
                await context.run(Stage("bgzip", index, reads_source=True))
            else:
                pack = (
                    "bgzip", "-c", "-l", str(_level(self.budget)), "-@", str(self.budget.threads),
                    *await cut_by_size(context), "-i", "-I", str(gzi),
                )  # fmt: skip
                report = await self._read(context, fai, Stage("bgzip", pack), out=out)
                if not await asyncio.to_thread(has_end_marker, out):
                    raise wrong_output("no end marker")
            size = await asyncio.to_thread(text_bytes, out)
            if size != report["bytes"]:
                raise wrong_output(f"{size} bytes of text instead of {report['bytes']}")
            options = ("--gzi", str(gzi), "--source", str(context.source))
            await context.verify("fasta", out, fai, *options)
        given.report(1.0, given.path.stat().st_size, out.stat().st_size)
        names = self.filenames(given.source)
        counts: dict[str, int] = report["counts"]
        notes = [sentence for what, sentence in _SENTENCES.items() if counts.get(what)]
        contigs = tuple(Contig(name, length) for name, length in report["contigs"])
        return StepOutput(
            files=(
                Produced(Kind.DATA, out, "data.fa.gz", names[Kind.DATA]),
                Produced(Kind.INDEX, fai, "index", names[Kind.INDEX], "text/plain"),
                Produced(Kind.GZI, gzi, "gzi", names[Kind.GZI]),
            ),
            contigs=contigs,
            counts={"records": len(contigs), **counts},
            notes=(*notes, *((_KEPT_NOTE,) if kept else ())),
            tools=await context.versions("bgzip"),
        )

    async def _read(
        self, context: StepContext, fai: Path, *after: Stage, out: Path | None = None
    ) -> dict[str, Any]:
        """Read the source, with what packs it if it is to be packed."""
        path = context.work / "fasta.json"
        argv = (str(context.source), "--fai", str(fai), "--report", str(path))
        reading = program_stage("read_fasta", *argv, refusal=path, reads_source=True)
        watch = None
        if out is not None:
            size = context.source.stat().st_size
            watch = Watch(context.source, out, size, context.given.report, reading=1.0, span=(0.0, 0.9))
        await context.run(reading, *after, stdout=out, watch=watch)
        report: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_bytes))
        return report
