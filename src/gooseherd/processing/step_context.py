"""The context of one step: its folder, its limits, the tools it may use and what they see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import Format
from gooseherd.domain.processing import StepFailed, StepInput
from gooseherd.processing.formats.decompression import Compression
from gooseherd.processing.formats.detection import TWICE, Look, expect
from gooseherd.processing.kernel import PROGRAM, find_kernel
from gooseherd.processing.tools.isolation import Confinement
from gooseherd.processing.tools.pipelines import PipelineFailed, PipelineResult, Stage, run_pipeline
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.source_feed import Feed, Written
from gooseherd.tasks import ended

QUICKEST: Final = 0
"""BGZF compression level: ISA-L's, by the kernel alone; some seven times the speed of the tools' own
default for a tenth to half more bytes (docs/performance.md)."""

QUICKEST_OF_TOOLS: Final = 1
"""What bgzip and samtools have instead."""

_NO_KERNEL: Final = (
    f"compression level {QUICKEST} is made by {PROGRAM}, which this worker lacks: build it, or set "
    "WORKFLOW_COMPRESSION_LEVEL=1"
)

_SENTENCES: Final[dict[str, str]] = {
    "byte_order_mark": "the byte order mark at the start was removed",
    "carriage_returns": "carriage returns at line ends were removed",
    "blank_lines": "blank lines were dropped",
    "comment_lines": "comment lines below the first record were dropped",
    "display_lines": "track and browser lines were dropped",
    "heading_lines": "a line of column headings was dropped",
    "repeated_header_lines": "repeated header lines were dropped",
    "replaced_header_lines": "header lines that named the old format were replaced",
    "added_header_lines": "header lines that readers need were added",
    "separator_lines": "### separators were dropped: they mean nothing in a sorted file",
    "sequence_lines": "the sequences (FASTA) at the end were dropped",
    "spaced_lines": "columns split by spaces were split by TAB",
    "respelt_coordinates": "positions written like 1e3, 10.0 or 007 were respelt",
    "line_comments": "comments behind the attributes of a record were dropped",
    "added_genes": "genes that had no line of their own got one, over all their parts",
    "added_transcripts": "transcripts that had no line of their own got one, over all their parts",
}

_DROPPED: Final = (
    "blank_lines", "comment_lines", "display_lines", "heading_lines",
    "repeated_header_lines", "replaced_header_lines", "separator_lines", "sequence_lines",
)  # fmt: skip
"""The counts that each stand for a line of the source that is not in the result."""

_BEGINNING: Final = 4 << 20
"""Bytes of a source that show what it is: of any packing they hold a whole block."""
_MERGE_ALLOWANCE: Final = 1.2
"""samtools' -m leaves out its merge buffers, measured at a fifth."""
_LEAST_SORT_BYTES: Final = 2 << 20


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
    search_path: str | None = None
    """Where tools are found; None: where this process finds its own."""
    confinement: Confinement = field(default_factory=Confinement)
    """What holds each of them."""

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
        # A name of ours: htslib reads more into a file name than a name (x##idx##y, http://).
        self.source = self.link(given.path, "source")
        self._verifier: _Verifier | None = None

    @property
    def environment(self) -> dict[str, str]:
        """All that tools see: no locale, no credentials, and nowhere for htslib to fetch references from."""
        nowhere = str(self.work / "no-references")
        return {
            "LC_ALL": "C",
            "PATH": self.budget.search_path or os.pathsep.join(os.get_exec_path()),
            "TMPDIR": str(self.work),
            "REF_PATH": nowhere,
            "REF_CACHE": nowhere,
        }

    @property
    def kernel(self) -> Path | None:
        """The interval kernel, where it is built."""
        return find_kernel(search_path=self.budget.search_path)

    def refuse_what_only_the_kernel_makes(self) -> None:
        """The quickest level, where the kernel is not built.

        Raises:
            StepFailed: misconfigured, with what to do.
        """
        if self.budget.level == QUICKEST and self.kernel is None:
            raise StepFailed.because(Reason.MISCONFIGURED, _NO_KERNEL)

    async def sniff(self, wanted: Format) -> Look:
        """`expect` of the source, when its beginning is there; its size as far as it is known.

        Raises:
            StepFailed: as `expect` does.
        """
        arriving = self.given.arriving
        there = await arriving.at_least(_BEGINNING)
        whole = arriving.complete
        try:
            seen = await asyncio.to_thread(expect, self.source, wanted)
        except StepFailed:
            if whole:
                raise
            # Perhaps it is packed so that its beginning cannot be told from so little.
            await arriving.whole()
            return await asyncio.to_thread(expect, self.source, wanted)
        return seen if whole else replace(seen, size=max(arriving.size or 0, there))

    def inflow(self) -> tuple[str, Feed | None]:
        """How a first stage reads the source: the name it is given, and what it has as its standard input."""
        if self.given.arriving.complete:
            return str(self.source), None
        return "-", Feed(self.source, self.given.arriving)

    @asynccontextmanager
    async def checked(self, check: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """`check` the whole source before what is done with it, or after that if it still arrives.

        What fails in between may fail for what the check finds, which has the better words: then
        those are raised.
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
        answer = self.work / "answer"
        await self.run(*stages, stdin=stdin, stdout=answer)
        data = await asyncio.to_thread(answer.read_bytes)
        answer.unlink()
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
    ) -> Stage:
        """`programs/normalise.py` as a stage; `source` None reads from the stage before."""
        where = self.work / report
        return own_stage(
            "normalise",
            format_name,
            str(source) if source else "-",
            "--report",
            str(where),
            *(("--header", str(header)) if header else ()),
            *(("--added", str(added)) if added else ()),
            verdict=where,
            reads_source=True,
        )

    async def unpack(self, wanted: Format) -> Look:
        """Go on with what is packed in the source, as if that were the source; what it is.

        For formats with a compression of their own, whose readers do not know this one.

        Raises:
            StepFailed: the packing is broken, or what is in it is not `wanted`.
        """
        await self.given.arriving.whole()
        inside, verdict = self.work / "unpacked", self.work / "unpacked.json"
        stage = own_stage(
            "unpack", str(self.source), "--report", str(verdict), verdict=verdict, reads_source=True
        )
        await self.run(stage, stdout=inside)
        self.given = replace(self.given, path=inside)
        self.source = self.link(inside, "source")
        seen = await asyncio.to_thread(expect, self.source, wanted)
        if seen.compression is Compression.ZSTD:
            raise StepFailed.because(Reason.SOURCE_INVALID, f"the {wanted.name} is {TWICE}")
        return seen

    @asynccontextmanager
    async def verifying(self) -> AsyncIterator[None]:
        """Have what `verify` asks by, once, ready when it is called: starting it takes longer than asking."""
        self._verifier = verifier = _Verifier(self)
        try:
            yield
        finally:
            self._verifier = None
            await verifier.end()

    async def verify(self, kind: str, data: Path, index: Path, *options: str) -> Mapping[str, int]:
        """Ask data and index of `kind` (tabix, bam) for what must be there; see verify.py.

        Raises:
            StepFailed: tool_failed; they do not agree.
        """
        if self._verifier is not None:
            return await self._verifier.ask(kind, str(data), str(index), *options)
        async with self.verifying():
            return await self.verify(kind, data, index, *options)

    async def read_report(self, name: str) -> StepReport:
        """What a normaliser noticed."""
        return StepReport(json.loads(await asyncio.to_thread((self.work / name).read_bytes)))

    def link(self, target: Path, name: str) -> Path:
        """A name in the work folder for a file elsewhere: tools write beside their input."""
        path = self.work / name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.symlink_to(target.resolve())
        return path


class _Verifier:
    """One process of verify.py, which waits for what to ask."""

    def __init__(self, context: StepContext) -> None:
        self._verdict, self._answer = context.work / "verified.json", context.work / "verified"
        self._seed = str(context.given.source.identity)
        self._order = Written(context.work / "to-verify")
        stage = own_stage("verify", context.given.source.file_format.name, verdict=self._verdict)
        running = context.run(stage, stdin=Feed(self._order.path, self._order), stdout=self._answer)
        self._running = asyncio.create_task(running, name="verify")

    async def ask(self, *words: str) -> Mapping[str, int]:
        """The answer; once."""
        argv = (*words, "--report", str(self._verdict), "--seed", self._seed)
        await self._order.write(json.dumps(argv).encode() + b"\n")
        await self._running
        answer: Mapping[str, int] = json.loads(await asyncio.to_thread(self._answer.read_bytes))
        return answer

    async def end(self) -> None:
        """It is gone when this returns, whether it was asked or not."""
        await ended(self._running)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a normaliser, or the kernel in its place, noticed."""

    data: Mapping[str, Any]

    @property
    def records(self) -> int:
        return int(self.data["records"])

    @property
    def lines(self) -> int:
        """Of header and records together."""
        return self.records + int(self.data["header_lines"])

    @property
    def size(self) -> int:
        """Bytes of header and records together."""
        return int(self.data["record_bytes"]) + int(self.data["header_bytes"])

    @property
    def source_lines(self) -> int:
        """All lines that were read."""
        return int(self.data["lines"])

    @property
    def accounted_lines(self) -> int:
        """Lines of the source that are in the result, or counted as dropped."""
        made = sum(count for what, count in self.counts.items() if what.startswith("added_"))
        return self.lines - made + sum(self.counts.get(what, 0) for what in _DROPPED)

    @property
    def max_end(self) -> int:
        return int(self.data["max_end"])

    @property
    def ordered(self) -> bool:
        """The records came in the order in which they can stay."""
        return bool(self.data["ordered"])

    @property
    def kept(self) -> bool:
        """The source is what would have been made of it."""
        return bool(self.data["kept"])

    @property
    def contigs(self) -> tuple[Contig, ...]:
        return tuple(Contig(name, length) for name, length, *_ in self.data["contigs"])

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.data["counts"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what was changed or dropped."""
        notes = [sentence for what, sentence in _SENTENCES.items() if self.counts.get(what)]
        if self.data["without_end_marker"]:
            notes.append("the BGZF end marker is missing; every block that is there was complete")
        return tuple(notes)


def own_stage(module: str, *argv: str, verdict: Path | None = None, reads_source: bool = False) -> Stage:
    """A program of this package as a stage; -I: it sees neither the folder it runs in nor the environment."""
    return Stage(
        module,
        (sys.executable, "-I", "-m", f"gooseherd.processing.programs.{module}", *argv),
        reads_source=reads_source,
        verdict=verdict,
    )


def second_name(source: Path, name: Path) -> Path:
    """The source under `name`, for an index to lie beside; itself where files can have one name only."""
    try:
        os.link(source.resolve(), name)
    except OSError:
        return source
    return name


def left_beside(data: Path, work: Path, suffixes: Sequence[str]) -> Path | None:
    """The index that the step before made in the same pass, moved to `work`.

    There is none when that was another attempt: then `data` was fetched back alone.
    """
    for suffix in suffixes:
        left = data.with_name(data.name + suffix)
        if left.is_file():
            return Path(shutil.move(left, work / f"kept{suffix}"))
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
