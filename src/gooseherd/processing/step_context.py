"""The context of one step: its folder, its limits, the tools it may use and what they see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import Format
from gooseherd.domain.processing import StepFailed, StepInput
from gooseherd.processing.formats.bbi import BrokenParts, sequences
from gooseherd.processing.formats.decompression import Compression
from gooseherd.processing.formats.detection import TWICE, Detection, require
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.tools.isolation import Confinement
from gooseherd.processing.tools.kernel import PROGRAM, find_kernel
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.source_feed import Feed
from gooseherd.processing.tools.stages import PipelineFailed, PipelineResult, Stage, program_stage
from gooseherd.processing.tools.verifier import LoadedVerifier, Verifier

QUICKEST: Final = 0
"""BGZF compression level: ISA-L's, by the kernel alone; some seven times the speed of the tools' own
default for a tenth to half more bytes (docs/performance.md)."""

QUICKEST_OF_TOOLS: Final = 1
"""What bgzip and samtools have instead."""

_NO_KERNEL: Final = (
    f"compression level {QUICKEST} is made by {PROGRAM}, which this worker lacks: build it, or set "
    "WORKFLOW_COMPRESSION_LEVEL=1"
)

_BEGINNING: Final = 4 << 20
"""Bytes of a source that show what it is: of any packing they hold a whole block."""
_MERGE_ALLOWANCE: Final = 1.2
"""samtools' -m leaves out its merge buffers, measured at a fifth."""
_LEAST_SORT_BYTES: Final = 2 << 20


def quickest_level(search_path: str | None = None) -> int:
    """The lowest compression level that the programs here can make."""
    return QUICKEST if find_kernel(search_path=search_path) else QUICKEST_OF_TOOLS


@dataclass(frozen=True, slots=True)
class Budget:
    """What tools may use: bytes of memory for sort and for samtools, threads each."""

    sort_memory: int
    samtools_memory: int
    threads: int
    level: int = QUICKEST_OF_TOOLS
    """BGZF compression level, 0 to 9. Part of every version that it shapes."""
    density: bool = False
    """Whether artifacts get a density. Part of every version that it shapes."""
    skip_bad_lines: bool = False
    """Whether a few lines that make no record are left out. Part of every version that it shapes."""
    search_path: str | None = None
    """Where tools are found; None: where this process finds its own."""
    confinement: Confinement = field(default_factory=Confinement)
    """What holds each of them."""
    verifier: LoadedVerifier | None = None
    """Loaded before there was a source."""

    @property
    def recipe(self) -> str:
        """The end of a version: what of this shapes the artifact. registry.py reads it."""
        return f"{self.level}{'d' if self.density else ''}"

    @property
    def kinds(self) -> frozenset[Kind]:
        """What is made of sorted records."""
        return frozenset({Kind.DATA, Kind.INDEX, *((Kind.DENSITY,) if self.density else ())})

    @property
    def samtools_memory_per_thread(self) -> int:
        """What `samtools sort -m` takes, which is per thread."""
        return max(int(self.samtools_memory / self.threads / _MERGE_ALLOWANCE), _LEAST_SORT_BYTES)


class StepContext:
    """Runs pipelines for one step."""

    def __init__(self, given: StepInput, budget: Budget) -> None:
        self.given = given
        self.budget = budget
        # Tools run in the work folder, where a relative path would mean something else.
        self.work = given.work.absolute()
        # A name of ours: htslib gives some file names a meaning (x##idx##y, http://).
        self.source = self.link(given.path, "source")
        self.references: Path | None = None
        """A folder of reference sequences by their M5, where the source needs some; tools read them."""
        self._verifier: Verifier | None = None

    @property
    def environment(self) -> dict[str, str]:
        """All variables that tools see: no locale, no credentials, no place to fetch references from."""
        return environment_of_tools(self.work, self.budget.search_path, self.references)

    @property
    def kernel(self) -> Path | None:
        """The interval kernel, where it is built."""
        return find_kernel(search_path=self.budget.search_path)

    def require_kernel_for_level(self) -> None:
        """The quickest level, where the kernel is not built.

        Raises:
            StepFailed: misconfigured, with what to do.
        """
        if self.budget.level == QUICKEST and self.kernel is None:
            raise StepFailed.because(Reason.MISCONFIGURED, _NO_KERNEL)

    async def detect(self, wanted: Format) -> Detection:
        """Detect the format of the source once its beginning is there; `size` as far as it is known.

        Raises:
            StepFailed: as `require` does.
        """
        arriving = self.given.arriving
        there = await arriving.at_least(_BEGINNING)
        whole = arriving.complete
        try:
            detected = await asyncio.to_thread(require, self.source, wanted)
        except StepFailed:
            if whole:
                raise
            # Some compressions need more than the beginning to be recognised.
            await arriving.whole()
            return await asyncio.to_thread(require, self.source, wanted)
        return detected if whole else replace(detected, size=max(arriving.size or 0, there))

    def source_input(self) -> tuple[str, Feed | None]:
        """How a first stage reads the source: the file name in its argv, and its standard input."""
        if self.given.arriving.complete:
            return str(self.source), None
        return "-", Feed(self.source, self.given.arriving)

    @asynccontextmanager
    async def checked(self, check: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """`check` the whole source before what is done with it, or after that if it still arrives.

        A tool may fail in between because of what the check finds; the check's error, which says more,
        is raised then.
        """
        arriving = self.given.arriving
        before = arriving.complete
        if before:
            await check()
        try:
            yield
        except PipelineFailed:
            if not before and arriving.complete:
                await check()
            raise
        if not before:
            await arriving.whole()
            await check()

    async def run(
        self,
        *stages: Stage,
        stdin: Path | Feed | None = None,
        stdout: Path | None = None,
        watch: Watch | None = None,
    ) -> PipelineResult:
        """`run_pipeline` in the step's folder, under its limits."""
        return await run_pipeline(
            stages,
            cwd=self.work,
            environment=self.environment,
            scratch_bytes=self.given.scratch_bytes,
            stdin=stdin,
            stdout=stdout,
            watch=watch,
            confinement=self.budget.confinement,
        )

    async def output_of(self, *stages: Stage, stdin: Path | Feed | None = None) -> bytes:
        """What the pipeline wrote, when that is small."""
        output = self.work / "output"
        await self.run(*stages, stdin=stdin, stdout=output)
        data = await asyncio.to_thread(output.read_bytes)
        output.unlink()
        return data

    async def versions(self, *programs: str) -> dict[str, str]:
        """The version each program says it is, by the program's name."""
        found = {}
        for program in programs:
            name = Path(program).name
            output = await self.output_of(Stage(name, (program, "--version")))
            number = re.search(rb"\d+(?:\.\d+)*", output)
            found[name] = number[0].decode() if number else "unknown"
        return found

    def normaliser(
        self,
        format_name: str,
        source: Path | str | None,
        report: str,
        *,
        header: Path | None = None,
        added: Path | None = None,
        contigs: Path | None = None,
        skip_bad_lines: bool = False,
        may_be_empty: bool = False,
    ) -> Stage:
        """`programs/normalise.py` as a stage; `source` None reads from the stage before."""
        path = self.work / report
        return program_stage(
            "normalise",
            format_name,
            str(source) if source else "-",
            "--report",
            str(path),
            *(("--header", str(header)) if header else ()),
            *(("--added", str(added)) if added else ()),
            *(("--contigs", str(contigs)) if contigs else ()),
            *(("--skip-bad-lines",) if skip_bad_lines else ()),
            *(("--may-be-empty",) if may_be_empty else ()),
            refusal=path,
            reads_source=True,
        )

    async def bigwig_contigs(self, kind: Format) -> tuple[Contig, ...]:
        """The sequences of the source, a bigWig or bigBed, all of which is there.

        Raises:
            StepFailed: source_invalid; it does not open.
        """
        try:
            lengths = await asyncio.to_thread(sequences, self.source)
            if not lengths:
                raise BrokenParts("it has no contigs")
        except BrokenParts as error:
            name = "bigWig" if kind.name == "bigwig" else "bigBed"
            raise StepFailed.because(Reason.SOURCE_INVALID, f"not a readable {name}: {error}") from None
        return tuple(Contig(contig, length) for contig, length in lengths.items())

    async def unpack(self, wanted: Format) -> Detection:
        """Decompress the source, and make the result the source from now on; its detected format.

        For formats with a compression of their own, whose readers do not know the one around it.

        Raises:
            StepFailed: the compression is broken, or what is in it is not `wanted`.
        """
        await self.given.arriving.whole()
        unpacked, refusal = self.work / "unpacked", self.work / "unpacked.json"
        stage = program_stage(
            "unpack", str(self.source), "--report", str(refusal), refusal=refusal, reads_source=True
        )
        await self.run(stage, stdout=unpacked)
        self.given = replace(self.given, path=unpacked)
        self.source = self.link(unpacked, "source")
        detected = await asyncio.to_thread(require, self.source, wanted)
        if detected.compression is Compression.ZSTD:
            raise StepFailed.because(Reason.SOURCE_INVALID, f"the {wanted.name} is {TWICE}")
        return detected

    @asynccontextmanager
    async def verifying(self) -> AsyncIterator[None]:
        """Start what `verify` uses, so that it is ready when it is called; for one call."""
        self._verifier = verifier = Verifier(
            self.run,
            self.work,
            source_format=self.given.source.file_format,
            seed=str(self.given.source.identity),
            scratch_bytes=self.given.scratch_bytes,
            loaded=self.budget.verifier,
        )
        try:
            yield
        finally:
            self._verifier = None
            await verifier.end()

    async def read_source_ahead(self) -> None:
        """Let `verify` read records of a source of text while the data is made, if all of it is there."""
        if self._verifier is not None and self.given.arriving.complete:
            await self._verifier.read_source(self.source, self.given.source.file_format.name)

    async def verify(self, kind: str, data: Path, index: Path, *options: str) -> Mapping[str, int]:
        """Query data and index of `kind` (tabix, bam) for records that must be there; see verify.py.

        Raises:
            StepFailed: tool_failed; they do not agree.
        """
        if self._verifier is not None:
            return await self._verifier.verify(kind, data, index, *options)
        async with self.verifying():
            return await self.verify(kind, data, index, *options)

    async def read_report(self, name: str) -> NormaliserReport:
        """Read the report of `normaliser`, or of the kernel."""
        return NormaliserReport(json.loads(await asyncio.to_thread((self.work / name).read_bytes)))

    def link(self, target: Path, name: str) -> Path:
        """A name in the work folder for a file elsewhere: tools write beside their input."""
        path = self.work / name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.symlink_to(target.resolve())
        return path


def environment_of_tools(
    work: Path, search_path: str | None = None, references: Path | None = None
) -> dict[str, str]:
    """All variables of tools that work in `work`, and read references of no other folder than that."""
    nowhere = str(work / "no-references")
    return {
        "LC_ALL": "C",
        "PATH": search_path or os.pathsep.join(os.get_exec_path()),
        "TMPDIR": str(work),
        "REF_PATH": nowhere,
        # A per cent sign would begin a place for a part of the name (samtools(1), REF_CACHE).
        "REF_CACHE": nowhere if references is None else f"{references}/%s",
    }


def hard_link(source: Path, name: Path) -> Path:
    """Make `name` a hard link to the source, beside an index; `source` itself where there are no links."""
    try:
        os.link(source.resolve(), name)
    except OSError:
        return source
    return name


async def cut_by_size(context: StepContext) -> tuple[str, ...]:
    """The option by which bgzip cuts blocks by size, as the kernel does.

    From htslib 1.20 on it ends the blocks of a text at line ends unless it is told otherwise, and the same
    text would be other bytes with another release.
    """
    usage = await context.output_of(Stage("bgzip", ("bgzip", "--help")))
    return ("--binary",) if b"--binary" in usage else ()


def index_of_same_pass(data: Path, work: Path, suffixes: Sequence[str]) -> Path | None:
    """The index that the step before made in the same pass as `data`, moved to `work`.

    None when another attempt made `data`: then it was downloaded alone.
    """
    for suffix in suffixes:
        index = data.with_name(data.name + suffix)
        if index.is_file():
            return Path(shutil.move(index, work / f"kept{suffix}"))
    return None


def wrong_output(what: str) -> StepFailed:
    """Our own check of a tool's result failed: never the source's fault."""
    return StepFailed.because(Reason.TOOL_FAILED, f"the result did not pass its check: {what}")


UNPACKED_NOTE: Final = "unpacked: the source is packed as Zstandard, which readers of this format do not know"
KEPT_NOTE: Final = "already sorted: these are the source's own bytes"


def stem(filename: str, suffixes: Sequence[str]) -> str:
    """The file name without its compression and format suffixes: what results are named after."""
    parts = filename.split(".")
    if len(parts) > 1 and parts[-1].lower() in ("gz", "bgz", "bgzf", "bz2", "xz", "zst", "zstd"):
        parts.pop()
    if len(parts) > 1 and parts[-1].lower() in suffixes:
        parts.pop()
    return ".".join(parts) or filename
