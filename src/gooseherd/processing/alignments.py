"""Reads placed on a genome: coordinate-sorted BAM with its index.

samtools sorts. Where the kernel is built (kernel/) it takes the sorted reads from a pipe and
compresses, indexes and counts them in one pass; elsewhere samtools compresses too, and the index
and the counts take a pass each. The bytes are the same (docs/adr/0008-two-ways-same-bytes.md).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BAM, CRAM, SAM, Format
from gooseherd.domain.processing import Produced, Step, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.density import SUFFIX, Density, density_name
from gooseherd.processing.formats.bam_header import contigs_of_bam
from gooseherd.processing.formats.bgzf import has_bytes_behind
from gooseherd.processing.formats.cram_references import PLACE, CramReferences, bring_references
from gooseherd.processing.formats.decompression import END_MARKER_MISSING, FOREIGN_BYTES, Compression
from gooseherd.processing.formats.detection import Detection
from gooseherd.processing.formats.sam_header import contigs_of
from gooseherd.processing.indexes import (
    TBI_END,
    BamIndex,
    bam_stem,
    counting_kernel,
    index_of_sorted,
    index_source,
    reads_in,
)
from gooseherd.processing.step_context import (
    KEPT_NOTE,
    UNPACKED_NOTE,
    Budget,
    StepContext,
    hard_link,
    wrong_output,
)
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.source_feed import Feed
from gooseherd.processing.tools.stages import PipelineFailed, PipelineResult, Stage, program_stage

_HEADER_BYTES: Final = 1 << 18
"""Nearly every BAM's header is compressed to less."""
UNSORTED: Final = re.compile(r"unsorted|not continuous|NO_COOR reads not in a single block", re.IGNORECASE)
_BEYOND: Final = re.compile(r"cannot be stored in a \w+ index|csi index", re.IGNORECASE)
_UNDECLARED: Final = re.compile(r"unrecognized reference name")
_UNDECLARED_NOTE: Final = (
    "reads on reference sequences that the header does not declare (@SQ) stand at the end, without a place"
)
_NO_END_NOTE: Final = "the BAM is uncompressed, so nothing proves that its end is there"


@dataclass(frozen=True)
class BamIndexProcessor:
    """A BAM that can be indexed keeps its bytes; everything else is sorted into a new BAM."""

    budget: Budget
    name: str = "bam-index"
    formats: frozenset[Format] = frozenset({SAM, BAM, CRAM})

    def version(self, source_format: Format) -> str:
        """Shape and level, and whether there is a density."""
        return f"{2 if source_format is BAM else 1}.{self.budget.recipe}"

    @property
    def kinds(self) -> frozenset[Kind]:
        return self.budget.kinds

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As the steps call them."""
        base = bam_stem(source)
        names = {Kind.DATA: f"{base}.bam", Kind.INDEX: f"{base}.bam.bai"}
        return names | density_name(source, source.file_format) if self.budget.density else names

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """Data, then its index, then its density."""
        steps: tuple[Step, ...] = SortedBam(self.budget, source_format), BamIndex(self.budget, source_format)
        if self.budget.density:
            steps += (Density(self.budget, source_format, "bam"),)
        return steps


@dataclass(frozen=True)
class SortedBam:
    """Source → coordinate-sorted BAM."""

    budget: Budget
    source_format: Format
    name: str = "data"
    needs: Kind | None = None
    weight: float = 9.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        header, references = b"", None
        if self.source_format is CRAM:
            # Before anything that reads its records is started.
            header, references = await open_cram(context)
        async with context.verifying():
            try:
                return await self._make(context, header, references)
            except PipelineFailed as failed:
                errors = [end.stderr for end in failed.result.stages]
                if references is not None and (missing := references.missing(errors)) is not None:
                    raise missing from None
                if not any(_BEYOND.search(error) for error in errors):
                    raise
                raise await read_beyond(context, self.source_format) or failed from None

    async def _make(
        self, context: StepContext, header: bytes, references: CramReferences | None
    ) -> StepOutput:
        given, detected = context.given, await context.detect(self.source_format)
        if not self._streams(detected):
            await given.arriving.whole()
        notes: tuple[str, ...] = ()
        counts: dict[str, int] = {}
        kept = False
        packed = self.source_format is BAM and detected.compression is Compression.ZSTD
        if packed:
            detected = await context.unpack(self.source_format)
        if self.source_format is SAM:
            out, warned = await self._sort_sam(context)
            report = await context.read_report("records.json")
            counts, notes = report.counts, report.notes
            contigs = await asyncio.to_thread(contigs_of_bam, out)
            index = await index_of_sorted(context, out, contigs)
            reads = await reads_in(context, out, index, SAM)
            if reads != report.records:
                raise wrong_output(f"{reads} reads instead of {report.records}")
            if warned:
                counts["undeclared_reads"] = await _unplaced_with_position(context, out, index)
                notes = (*notes, _UNDECLARED_NOTE)
        elif self.source_format is BAM and detected.compression is Compression.BGZF:
            contigs, out, index, kept = await self._keep_or_sort(context)
            reads = await reads_in(context, out, index, None if kept else BAM)
            if kept:
                out = await asyncio.to_thread(_keep, context.given.path, index)
                notes = (KEPT_NOTE,)
        elif self.source_format is BAM:
            await refuse_truncated(context)
            await source_header(context)
            contigs = await asyncio.to_thread(contigs_of_bam, context.source)
            out = await self._sort_unblocked(context, detected.compression)
            index = await index_of_sorted(context, out, contigs)
            reads = await reads_in(context, out, index, BAM)
            if detected.compression is Compression.PLAIN:
                notes = (_NO_END_NOTE,)
        else:
            assert references is not None
            contigs = contigs_of(header)
            declared = references.containers.reads
            out = await self._sort_cram(context, header, references)
            index = await index_of_sorted(context, out, contigs)
            # A reader of a CRAM opens the address of the reference that its header names.
            reads = await reads_in(context, out, index, None if PLACE.search(header) else CRAM)
            if declared not in (None, reads):
                raise StepFailed.because(
                    Reason.SOURCE_INVALID, f"corrupt: of {declared} reads only {reads} can be read"
                )
        if not kept:
            await context.run(Stage("samtools quickcheck", ("samtools", "quickcheck", "-v", str(out))))
        if packed:
            notes = (UNPACKED_NOTE, *notes)
        used = counting_kernel(context) if kept else context.kernel
        given.report(1.0, given.path.stat().st_size, out.stat().st_size)
        return StepOutput(
            files=(_data(given, out),),
            contigs=contigs,
            counts={"records": reads, **counts},
            notes=notes,
            tools=await context.versions("samtools", *((str(used),) if used else ())),
        )

    def _streams(self, detected: Detection) -> bool:
        """Whether the first tool can read the source from a pipe.

        CRAM is read from its end; BAM in other compressions and compressed SAM are too rare.
        """
        plain = self.source_format is SAM and detected.compression is Compression.PLAIN
        return plain or (self.source_format is BAM and detected.compression is Compression.BGZF)

    async def _keep_or_sort(self, context: StepContext) -> tuple[tuple[Contig, ...], Path, Path, bool]:
        """(sequences, the BAM, its index, whether it is the source). Sorted is what can be indexed.

        The index stays beside the BAM, for the next step. Making it reads all of the source, so it
        also proves order and checksums.
        """
        async with context.checked(lambda: refuse_truncated(context)):
            # samtools says best what is wrong with a header; which sequences there are, the dictionary does.
            await source_header(context)
            contigs = await _arriving_contigs(context)
            context.given.announce(_data(context.given, context.given.path))
            try:
                return contigs, context.source, await index_source(context, contigs), True
            except PipelineFailed as refused:
                if not any(UNSORTED.search(end.stderr) for end in refused.result.stages):
                    raise
            source, feed = context.source_input()
            out, _ = await self._sort(context, (), source, feed)
            return contigs, out, await index_of_sorted(context, out, contigs), False

    async def _sort_unblocked(self, context: StepContext, compression: Compression) -> Path:
        """A BAM in plain gzip, or in nothing: no index fits these bytes. gzip proves that it read all."""
        if compression is Compression.PLAIN:
            return (await self._sort(context, (), str(context.source)))[0]
        unpack = Stage("gzip", ("gzip", "-dc", str(context.source)), reads_source=True)
        return (await self._sort(context, (unpack,), "-"))[0]

    async def _sort_sam(self, context: StepContext) -> tuple[Path, bool]:
        """(the BAM, whether reads name undeclared sequences).

        With threads samtools does not say which line it could not read: then it is read again without.
        """
        source, feed = context.source_input()
        try:
            reading = context.normaliser("sam", source, "records.json")
            out, result = await self._sort(context, (reading,), "-", feed)
        except PipelineFailed as failed:
            if failed.failure.reason is Reason.SOURCE_INVALID and failed.result.stages[0].returncode <= 0:
                source, feed = context.source_input()
                await context.run(
                    context.normaliser("sam", source, "records.json"),
                    Stage("samtools view", ("samtools", "view", "-c", "-"), reads_source=True),
                    stdin=feed,
                )
            raise
        return out, any(_UNDECLARED.search(end.stderr) for end in result.stages)

    async def _sort_cram(self, context: StepContext, header: bytes, references: CramReferences) -> Path:
        """Give tools a header without the addresses of references first."""
        clean = references.clean_header(header)
        if not clean:
            return (await self._sort(context, (), str(context.source)))[0]
        return (await self._sort(context, (await reheader(context, clean),), "-"))[0]

    async def _sort(
        self, context: StepContext, before: tuple[Stage, ...], source: str, feed: Feed | None = None
    ) -> tuple[Path, PipelineResult]:
        """`samtools sort` reads every format itself; a view in front of it would hide truncation.

        With the kernel as the next stage, the index and the density's table are made beside the BAM, too.
        """
        context.require_kernel_for_level()
        out, kernel = context.work / "data.bam", context.kernel
        plainly = ("-l", str(self.budget.level), "-o", str(out)) if kernel is None else ("-u",)
        argv = (
            "samtools", "sort", "--no-PG", "-@", str(self.budget.threads),
            "-m", str(self.budget.samtools_memory_per_thread), "-T", str(context.work / "sort"), "-O", "bam",
            *plainly, source,
        )  # fmt: skip
        context.given.announce(_data(context.given, out))
        size = context.source.stat().st_size if feed is None else feed.size
        expected = size // 4 if self.source_format is SAM else size
        watch = Watch(context.source, out, expected, context.given.report, reading=0.3, span=(0.2, 0.9))
        sort = Stage("samtools sort", argv, reads_source=True)
        after = () if kernel is None else (_pack_stage(context, kernel, out),)
        result = await context.run(*before, sort, *after, stdin=feed, watch=watch)
        return out, result


async def open_cram(context: StepContext) -> tuple[bytes, CramReferences]:
    """Its header, once all of it is there; and its references, where tools look for them."""
    header = await cram_header(context)
    found = await bring_references(context.source, header, context.given.bring_references)
    context.references = found.folder
    return header, found


async def cram_header(context: StepContext) -> bytes:
    """The header of a CRAM that is all there; refused as `contigs_of` does."""
    await context.detect(CRAM)
    await context.given.arriving.whole()
    await refuse_truncated(context)
    header = await source_header(context)
    contigs_of(header)
    return header


async def reheader(context: StepContext, header: bytes) -> Stage:
    """The stage that gives the source, a CRAM, that header."""
    path = context.work / "header.sam"
    await asyncio.to_thread(path.write_bytes, header)
    argv = ("samtools", "reheader", "-P", str(path), str(context.source))
    # It tries to add missing checksums (M5) and reports an error when it cannot; that is harmless.
    return Stage("samtools reheader", argv, reads_source=True, harmless=b"Failed to populate reference")


async def read_beyond(context: StepContext, source_format: Format) -> StepFailed | None:
    """No index of sequences as long as the header says holds the position of some read: which one."""
    await context.given.arriving.whole()
    source = str(context.source)
    reading: tuple[Stage, ...] = ()
    if source_format is SAM:
        reading, source = (context.normaliser("sam", source, "records.json"),), "-"
    # Without bases, for which a CRAM may need its reference.
    bare = ("--input-fmt-option", "required_fields=0x3f") if source_format is CRAM else ()
    argv = ("samtools", "view", "--no-PG", "-h", *bare, "-e", f"endpos > {TBI_END}", source)
    view = Stage("samtools view", argv, reads_source=True)
    found = json.loads(await context.output_of(*reading, view, program_stage("read_beyond")))
    if found is None:
        return None
    where = f"{found['contig'][:80]}:{found['position']}"
    return StepFailed.because(
        Reason.SOURCE_INVALID,
        f"read {found['read'][:80]!r} lies at {where}, but by the header {found['contig'][:80]} is "
        f"{found['length']} bases long (LN)",
    )


def _data(given: StepInput, path: Path) -> Produced:
    return Produced(Kind.DATA, path, "data.bam", f"{bam_stem(given.source)}.bam")


_QUICKCHECK_STATUSES: Final = range(2, 64, 2)
"""Those in which it says something of the file: bits 2 to 32. Of 1, 126 and 127 its starter says why."""


async def refuse_truncated(context: StepContext) -> None:
    """Quickcheck says what is wrong in bits of its exit status (samtools-quickcheck(1))."""
    argv = ("samtools", "quickcheck", "-v", str(context.source))
    try:
        await context.run(Stage("samtools quickcheck", argv, reads_source=True))
    except PipelineFailed as failed:
        status = failed.result.stages[0].returncode
        if failed.failure.reason is not Reason.TOOL_FAILED or status not in _QUICKCHECK_STATUSES:
            raise
        problem = "the file does not open"
        if status & 16:
            behind = await asyncio.to_thread(has_bytes_behind, context.source)
            problem = FOREIGN_BYTES if behind else END_MARKER_MISSING
        if status & 4:
            problem = "it is not alignment data"
        if status & 8:
            problem = "the header names no reference sequences (@SQ)"
        raise StepFailed.because(Reason.SOURCE_INVALID, problem) from None


async def source_header(context: StepContext) -> bytes:
    source, feed = context.source_input()
    argv = ("samtools", "view", "--no-PG", "-H", source)
    return await context.output_of(Stage("samtools view", argv, reads_source=True), stdin=feed)


async def _arriving_contigs(context: StepContext) -> tuple[Contig, ...]:
    """As soon as the beginning of the BAM has them."""
    arriving, wanted = context.given.arriving, _HEADER_BYTES
    while True:
        await arriving.at_least(wanted)
        whole = arriving.complete
        try:
            return await asyncio.to_thread(contigs_of_bam, context.source)
        except StepFailed:
            if whole:
                raise
        wanted *= 8


def _keep(source: Path, index: Path) -> Path:
    """The source under a name beside its index; without hard links the index is removed."""
    kept = hard_link(source, index.with_suffix(""))
    if kept is source:
        index.unlink()
    return kept


def _pack_stage(context: StepContext, kernel: Path, out: Path) -> Stage:
    """The stage that makes the BAM, its index and its density table of the output of samtools sort."""
    budget = context.budget
    options = (f"--out={out}", f"--threads={budget.threads}", f"-l{budget.level}")
    table = (f"--density={out.with_suffix(out.suffix + SUFFIX)}",) if budget.density else ()
    return Stage(f"{kernel.name} pack", (str(kernel), "pack", *options, *table))


async def _unplaced_with_position(context: StepContext, path: Path, index: Path) -> int:
    """Reads that have a position but no sequence: what samtools makes of undeclared names."""
    argv = ("samtools", "view", "-c", "-e", "pos > 0", "-X", str(path), str(index), "*")
    return int(await context.output_of(Stage("samtools view", argv)))
