"""GenBank and EMBL: their sequences as FASTA, what they say of them as GFF3, each with its indexes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import EMBL, FASTA, GENBANK, GFF3, Format
from gooseherd.domain.processing import HERE, Produced, Step, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.targets import TARGETS
from gooseherd.processing.indexes import TabixIndex
from gooseherd.processing.intervals import SortedText
from gooseherd.processing.processors.sequences import IndexedFasta
from gooseherd.processing.step_context import Budget, StepContext, stem
from gooseherd.processing.tools.stages import program_stage

_SENTENCES: Final[dict[str, str]] = {
    "translations": "translations were left out: they follow from the sequence",
    "parts_elsewhere": "parts of features that lie on other records were left out",
    "features_elsewhere": "features that lie on other records alone were left out",
    "features_without_place": "features whose place is none on a sequence like this were left out",
    "parser_warnings": "the reader (Biopython) warned of lines that are not as the format has them",
}


@dataclass(frozen=True)
class FlatfileProcessor:
    """GenBank, EMBL → FASTA + FAI + GZI, GFF3 + TBI."""

    budget: Budget
    name: str = "flatfile"
    formats: frozenset[Format] = frozenset({GENBANK, EMBL})
    kinds: frozenset[Kind] = frozenset(
        {Kind.DATA, Kind.INDEX, Kind.GZI, Kind.ANNOTATION, Kind.ANNOTATION_INDEX}
    )

    def version(self, source_format: Format) -> str:
        """Shape and level."""
        return f"1.{self.budget.level}"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the step calls them."""
        base = stem(source.filename, source.file_format.suffixes)
        sequences, annotation = f"{base}.fa.gz", f"{base}.gff3.gz"
        return {
            Kind.DATA: sequences,
            Kind.INDEX: f"{sequences}.fai",
            Kind.GZI: f"{sequences}.gzi",
            Kind.ANNOTATION: annotation,
            Kind.ANNOTATION_INDEX: f"{annotation}.tbi",
        }

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step: the source is read once for both."""
        return (SequencesAndAnnotation(replace(self.budget, density=False), source_format, self),)


@dataclass(frozen=True)
class SequencesAndAnnotation:
    """Source → both texts, and then what is made of such texts."""

    budget: Budget
    source_format: Format
    processor: FlatfileProcessor
    name: str = "data"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        context.require_kernel_for_level()
        await context.detect(self.source_format)
        await given.arriving.whole()
        fasta, gff, path = (context.work / name for name in ("read.fa", "read.gff3", "flatfile.json"))
        argv = (self.source_format.name, str(context.source))
        outs = ("--fasta", str(fasta), "--gff", str(gff), "--report", str(path))
        await context.run(program_stage("read_flatfile", *argv, *outs, refusal=path, reads_source=True))
        found: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_bytes))
        names = self.processor.filenames(given.source)

        async def part_of(what: str, text: Path, text_format: Format) -> StepInput:
            work = context.work / what
            await asyncio.to_thread(work.mkdir)
            source = replace(given.source, file_format=text_format)
            return replace(
                given, source=source, path=text, work=work, announce=_nobody, report=_nothing, arriving=HERE
            )

        reading = IndexedFasta(self.budget, lambda _: names)
        sequences = await reading.run(await part_of("sequences", fasta, FASTA))
        target = TARGETS[GFF3]
        annotation = await SortedText(self.budget, GFF3, target).run(await part_of("annotation", gff, GFF3))
        data = replace(
            annotation.files[0],
            kind=Kind.ANNOTATION,
            name="annotation.gff3.gz",
            filename=names[Kind.ANNOTATION],
        )
        indexed = await TabixIndex(self.budget, GFF3, target).run(await part_of("indexed", data.path, GFF3))
        index = indexed.files[0]
        index = replace(
            index,
            kind=Kind.ANNOTATION_INDEX,
            name="annotation.index",
            filename=f"{names[Kind.ANNOTATION]}{index.path.suffix}",
        )
        for text in (fasta, gff):
            await asyncio.to_thread(text.unlink)
        counts = {"features": annotation.counts["records"], **sequences.counts, **found["counts"]}
        given.report(1.0, given.path.stat().st_size, data.path.stat().st_size)
        return StepOutput(
            files=(*sequences.files, data, index),
            contigs=sequences.contigs,
            counts=counts,
            notes=(
                *(sentence for what, sentence in _SENTENCES.items() if counts.get(what)),
                *sequences.notes,
                *indexed.notes,
            ),
            tools={**sequences.tools, **annotation.tools, **indexed.tools},
        )


def _nobody(_: Produced) -> None:
    """Nobody is to see it."""


def _nothing(_: float, __: int, ___: int) -> None:
    """Progress of a part says little of the whole."""
