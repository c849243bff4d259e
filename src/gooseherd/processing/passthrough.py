"""Files that readers can use as they are: checked and described, not copied.

Beside some of them upstream publishes an index. A BAI, TBI or CSI is fetched and checked with the data, once:
the artifact is what is remembered. One that does not fit would lead readers astray, so it is left out with a
note, and the data become what they would without it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import ALL, BAM, BIGWIG, COOL, HIC, MCOOL, TWOBIT, Family, Format
from gooseherd.domain.processing import Produced, Step, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import CHECKED_FORMATS, Sidecar, SourceFile
from gooseherd.processing.alignments import BamIndexProcessor
from gooseherd.processing.formats.bam_header import contigs_of_bam
from gooseherd.processing.formats.bbi import is_big_endian
from gooseherd.processing.formats.decompression import Compression
from gooseherd.processing.formats.detection import is_text
from gooseherd.processing.intervals import TabixIntervalProcessor
from gooseherd.processing.step_context import Budget, StepContext, hard_link
from gooseherd.processing.tools.stages import program_stage

_NOTE: Final = "data and index are upstream's own bytes; the index was checked"
_DESCRIBED: Final = frozenset({TWOBIT, HIC, COOL, MCOOL})
"""Of which a program of ours reads the header."""
_BIG_ENDIAN_NOTE: Final = (
    "its numbers are big-endian: readers in browsers know that order, pyBigWig and what is built on it do not"
)
_BIG_ENDIAN_2BIT: Final = bytes.fromhex("1a412743")
_BIG_ENDIAN_2BIT_NOTE: Final = (
    "its numbers are big-endian: @gmod/twobit, by which JBrowse reads, and py2bit do not know that order"
)
_OURS: Final = frozenset({Reason.OUT_OF_DISK, Reason.OUT_OF_MEMORY})
"""Failures of a fetch that say nothing of upstream."""


@dataclass(frozen=True)
class PassthroughProcessor:
    """Tables, bigWig, 2bit, matrices; and what upstream has an index for, which fits only those bytes."""

    budget: Budget
    name: str = "passthrough"
    formats: frozenset[Format] = frozenset(ALL)
    kinds: frozenset[Kind] = frozenset({Kind.DATA})

    def version(self, source_format: Format) -> str:
        """The same for all."""
        return "1"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As upstream calls it."""
        return {Kind.DATA: source.filename}

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step: check and pass on."""
        return (AsItIs(self.budget, source_format),)


@dataclass(frozen=True)
class AsItIs:
    """The source itself, after a check that it can be what the catalog says."""

    budget: Budget
    source_format: Format
    name: str = "data"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        detected = await context.detect(self.source_format)
        plain = detected.compression is Compression.PLAIN
        produced = Produced(
            Kind.DATA,
            given.path,
            f"data.{self.source_format.name}",
            given.source.filename,
            self.source_format.media_type if plain else "application/octet-stream",
        )
        given.announce(produced)
        notes: tuple[str, ...] = ()
        contigs: tuple[Contig, ...] = ()
        if self.source_format.family is Family.TABLE:
            if not is_text(detected.head):
                raise StepFailed.because(
                    Reason.SOURCE_INVALID,
                    f"the catalog says {self.source_format.name}, but the file is not text",
                )
            if not detected.head.strip():
                raise StepFailed.because(Reason.SOURCE_INVALID, "the file has no content")
            if not plain:
                notes = (f"stays {detected.compression}-compressed: a browser does not unpack it by itself",)
        elif self.source_format is BIGWIG:
            # Its tree of positions stands at its end.
            await given.arriving.whole()
            contigs = await context.bigwig_contigs(self.source_format)
            if await asyncio.to_thread(is_big_endian, context.source):
                notes = (_BIG_ENDIAN_NOTE,)
        elif self.source_format in _DESCRIBED:
            await given.arriving.whole()
            contigs = await self._described(context)
            if self.source_format is TWOBIT and detected.head.startswith(_BIG_ENDIAN_2BIT):
                notes = (_BIG_ENDIAN_2BIT_NOTE,)
        await given.arriving.whole()
        given.report(1.0, given.path.stat().st_size, 0)
        return StepOutput(files=(produced,), contigs=contigs, notes=notes)

    async def _described(self, context: StepContext) -> tuple[Contig, ...]:
        """The sequences that the file names."""
        report = context.work / "described.json"
        argv = (self.source_format.name, str(context.source), "--report", str(report))
        found = await context.output_of(
            program_stage("describe_file", *argv, refusal=report, reads_source=True)
        )
        return tuple(Contig(name, length) for name, length in json.loads(found)["contigs"])


@dataclass(frozen=True)
class UpstreamIndexProcessor:
    """Data and index of upstream, or what the format's own processor makes of the data."""

    budget: Budget
    name: str = "upstream-index"
    formats: frozenset[Format] = CHECKED_FORMATS
    kinds: frozenset[Kind] = frozenset({Kind.DATA, Kind.INDEX})

    def version(self, source_format: Format) -> str:
        """Its own, and the version of what is made when the index does not fit."""
        return f"1.{self._otherwise(source_format).version(source_format)}"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As upstream calls them."""
        kind = source.index_to_check.kind if source.index_to_check else "bai"
        return {Kind.DATA: source.filename, Kind.INDEX: f"{source.filename}.{kind}"}

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The data, with the index beside them; then the index."""
        data, index = self._otherwise(source_format).steps(source_format)
        return CheckedPair(self._without_density, source_format, data), index

    @property
    def _without_density(self) -> Budget:
        return replace(self.budget, density=False)

    def _otherwise(self, source_format: Format) -> BamIndexProcessor | TabixIntervalProcessor:
        made = BamIndexProcessor if source_format is BAM else TabixIntervalProcessor
        return made(self._without_density)


@dataclass(frozen=True)
class CheckedPair:
    """The source as it is and its index beside it, if they fit; else `otherwise`."""

    budget: Budget
    source_format: Format
    otherwise: Step
    name: str = "data"
    needs: Kind | None = None
    weight: float = 9.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        await context.detect(self.source_format)
        sidecar = given.source.index_to_check
        if sidecar is None:
            return await self.otherwise.run(given)
        data = Produced(Kind.DATA, given.path, f"data.{self.source_format.name}", given.source.filename)
        given.announce(data)
        await given.arriving.whole()
        index = context.work / f"upstream.{sidecar.kind}"
        problem, names = await self._check(context, sidecar, index)
        if problem:
            made = await self.otherwise.run(given)
            note = f"upstream's {sidecar.kind} index {problem}; another one was made"
            return replace(made, notes=(note, *made.notes))
        contigs = tuple(Contig(name) for name in names)
        if self.source_format is BAM:
            contigs = await asyncio.to_thread(contigs_of_bam, context.source)
        path = await asyncio.to_thread(hard_link, given.path, context.work / "data")
        await asyncio.to_thread(index.rename, path.with_name(f"{path.name}.{sidecar.kind}"))
        given.report(1.0, given.path.stat().st_size, 0)
        return StepOutput(files=(replace(data, path=path),), contigs=contigs, notes=(_NOTE,))

    async def _check(
        self, context: StepContext, sidecar: Sidecar, index: Path
    ) -> tuple[str, tuple[str, ...]]:
        """(what is wrong with it, the sequences that it names)."""
        try:
            await context.given.fetch_index(sidecar, index)
        except StepFailed as failed:
            if failed.failure.reason in _OURS:
                raise
            return f"cannot be had ({failed.failure.reason})", ()
        stage = program_stage("check_index", str(sidecar.kind), str(index), str(context.source))
        try:
            found = json.loads(await context.output_of(stage))
        except StepFailed:
            return "cannot be read", ()
        return found["problem"], tuple(found["contigs"])
