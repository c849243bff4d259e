"""Runs tools joined by pipes and knows how every one of them ended.

No shell: argv lists, a clean environment, real pipes between the processes. The pipeline
has succeeded only if every stage exited with 0 and htslib reported no error on the way
(tabix prints errors and exits 0). The processes stay in the caller's process group, so
whoever ends the attempt ends them too; and whatever happens, cancellation included, none
of them is left when `run_pipeline` returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gooseherd import tracing
from gooseherd.blocking import in_thread_or_undo
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.tools.control_groups import oom_kills
from gooseherd.processing.tools.isolation import Confinement, Prefix
from gooseherd.processing.tools.progress import (
    Watch,
    folder_bytes,
    free_bytes,
    positions,
    unlinked_bytes,
)
from gooseherd.processing.tools.source_feed import Feed
from gooseherd.processing.tools.stages import (
    PipelineFailed,
    PipelineResult,
    RunningStage,
    Stage,
    end_stages,
)
from gooseherd.processing.tools.stderr import StderrTail, read_stderr
from gooseherd.processing.tools.tool_errors import by_full_disk, explain
from gooseherd.tasks import to_its_end

_log = logging.getLogger(__name__)

_OTHER_END_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.25
_PIPE_BYTES: Final = 1 << 20
_NEARLY_FULL: Final = 4 << 20
"""Bytes free on a disk on which a write may just have failed."""


async def run_pipeline(
    stages: Sequence[Stage],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    scratch_bytes: int,
    stdin: Path | Feed | None = None,
    stdout: Path | None = None,
    watch: Watch | None = None,
    confinement: Confinement | None = None,
) -> PipelineResult:
    """Run the stages, each one's output the next one's input, and wait for all.

    `environment` is all the tools see. `stdin` is what the first stage reads (default: nothing),
    `stdout` takes what the last one writes (default: nowhere). No file may grow past
    `scratch_bytes`, nor may all files in `cwd` together. `confinement` holds each process.

    Raises:
        PipelineFailed: naming the stage that failed of itself, not those that ended because of it.
        StepFailed: a program is missing (misconfigured); or the failure of the source that the
            first stage was fed, whatever the stages made of it.
    """
    prefix = await (confinement or Confinement()).prefix(scratch_bytes, cwd)
    run = _Pipeline(tuple(stages), cwd, dict(environment), prefix, scratch_bytes, watch)
    return await _until_result(run, lambda: run.start(stdin, stdout))


class WaitingProgram:
    """A program that was started before there is anything for it to do, and waits for its standard input.

    Made by `start`; `run` gives it its input, or `end` ends it unused.
    """

    def __init__(self, running: RunningStage, stdin: int) -> None:
        self._running = running
        self._stdin = stdin

    @classmethod
    async def start(
        cls,
        stage: Stage,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        file_bytes: int,
        stdout: Path,
        confinement: Confinement,
    ) -> WaitingProgram:
        """Start it as `run_pipeline` does; no file of it may grow past `file_bytes`."""
        prefix = await confinement.prefix(file_bytes, cwd)
        run = _Pipeline((stage,), cwd, dict(environment), prefix, file_bytes, None)
        reading, writing = os.pipe()
        try:
            await run.start_reading(reading, stdout)
        except BaseException:
            os.close(writing)
            await run.end()
            raise
        finally:
            os.close(reading)
        return cls(run.running[0], writing)

    @property
    def alive(self) -> bool:
        return self._running.alive

    def pids(self) -> list[int]:
        """As `RunningStage.pids`."""
        return self._running.pids()

    async def run(self, stage: Stage, stdin: Feed, *, cwd: Path, scratch_bytes: int) -> PipelineResult:
        """As `run_pipeline` of this one stage, which runs already with the limits of its start; once.

        Raises as `run_pipeline` does.
        """
        self._running.stage = stage
        run = _Pipeline((stage,), cwd, {}, Prefix((), self._running.sandboxed), scratch_bytes, None)

        async def hand_over() -> None:
            run.running.append(self._running)
            pipe, self._stdin = self._stdin, -1
            run.start_feed(stdin, pipe)

        return await _until_result(run, hand_over)

    async def end(self) -> None:
        """The process is gone when this returns."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        interrupted = await end_stages([self._running])
        if interrupted is not None:
            raise interrupted


async def _until_result(run: _Pipeline, start: Callable[[], Awaitable[None]]) -> PipelineResult:
    """Start, wait, end; raises as `run_pipeline` says."""
    with tracing.timed(f"tools: {' | '.join(stage.name for stage in run.stages)}"):
        return await _to_its_end(run, start)


async def _to_its_end(run: _Pipeline, start: Callable[[], Awaitable[None]]) -> PipelineResult:
    started = time.monotonic()
    try:
        await start()
        await run.until_over()
    finally:
        await run.end()
    result = PipelineResult(tuple(child.ended() for child in run.running), time.monotonic() - started)
    run.raise_failure_of_source()
    failure = run.failure(result)
    if failure is not None:
        statuses = " | ".join(f"{end.name}={end.returncode}" for end in result.stages)
        _log.info("pipeline failed: %s (%s): %s", failure.reason, statuses, failure.detail)
        raise PipelineFailed(failure, result)
    return result


@dataclass
class _Pipeline:
    """The running stages, and what feeds the first."""

    stages: tuple[Stage, ...]
    cwd: Path
    environment: dict[str, str]
    prefix: Prefix
    scratch_bytes: int
    watch: Watch | None
    running: list[RunningStage] = field(default_factory=list)
    overflow: bool = False
    full: bool = False
    """At some time there was no room on the disk."""
    kills_before: int = field(default_factory=oom_kills)
    """Of the kernel for want of memory, as the pipeline began."""
    feed: Feed | None = None
    feed_task: asyncio.Task[None] | None = None

    # -- start -----------------------------------------------------------------------------

    async def start(self, source: Path | Feed | None, stdout: Path | None) -> None:
        """Spawn from first to last; ends of pipes that are not handed on are closed here."""
        with contextlib.ExitStack() as ends:
            if isinstance(source, Feed):
                reading, pipe = os.pipe()
                ends.callback(os.close, reading)
                _widen(pipe)
                self.start_feed(source, pipe)
            else:
                reading = await in_thread_or_undo(os.close, os.open, source or os.devnull, os.O_RDONLY)
                ends.callback(os.close, reading)
            await self.start_reading(reading, stdout)

    async def start_reading(self, reading: int, stdout: Path | None) -> None:
        """Spawn them; the first one reads `reading`, which stays the caller's."""
        with contextlib.ExitStack() as ends:
            # A tool before may have left anything under that name.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_NOFOLLOW if stdout else 0)
            last = await in_thread_or_undo(os.close, os.open, stdout or os.devnull, flags, 0o644)
            ends.callback(os.close, last)
            for stage in self.stages:
                following = -1
                writing = last
                if stage is not self.stages[-1]:
                    following, writing = os.pipe()
                    ends.callback(os.close, following)
                    _widen(writing)
                try:
                    await self._spawn(stage, reading, writing)
                finally:
                    if following >= 0:
                        os.close(writing)
                reading = following

    def start_feed(self, feed: Feed, pipe: int) -> None:
        feed.start(pipe)
        self.feed = feed
        self.feed_task = asyncio.create_task(feed.follow())

    async def _spawn(self, stage: Stage, stdin: int, stdout: int) -> None:
        program = shutil.which(stage.argv[0], path=self.environment.get("PATH", os.defpath))
        if program is None:
            raise StepFailed.because(Reason.MISCONFIGURED, f"{stage.argv[0]} is not installed on this worker")
        stderr, theirs = os.pipe()
        reader = os.fdopen(stderr, "rb", buffering=0)
        inode = os.fstat(stderr).st_ino
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *self.prefix.argv,
                program,
                *stage.argv[1:],
                stdin=stdin,
                stdout=stdout,
                stderr=theirs,
                cwd=self.cwd,
                env=self.environment,
            )
        )
        # Cancelled in its midst, a start would leave a process that nobody ends.
        interrupted = await to_its_end(starting)
        try:
            process = starting.result()
        except BaseException as error:
            reader.close()
            if interrupted is not None:
                raise interrupted from error
            if isinstance(error, FileNotFoundError):
                missing = f"{self.prefix.argv[0]} is not installed"
                raise StepFailed.because(Reason.MISCONFIGURED, missing) from None
            raise
        finally:
            os.close(theirs)
        tail = StderrTail(stage.harmless)
        reading = asyncio.create_task(read_stderr(reader, tail))
        self.running.append(RunningStage(stage, process, self.prefix.inside, reading, inode, tail))
        if interrupted is not None:
            raise interrupted

    # -- while it runs ---------------------------------------------------------------------

    async def until_over(self) -> None:
        """Until all have ended, or one has failed and so ended the others."""
        waiting = {asyncio.create_task(child.process.wait()) for child in self.running}
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if self._source_failed:
                    return
                if any(child.failed for child in self.running):
                    # What made it fail may have ended already and only not been noticed yet.
                    # Before the others are ended, who may take their files along.
                    await self._check_free_space()
                    if waiting:
                        await asyncio.wait(waiting, timeout=_OTHER_END_SECONDS)
                    return
                if not done or not waiting:
                    self.overflow = not await self._report_progress()
                if self.overflow:
                    return
        finally:
            for task in waiting:
                task.cancel()

    @property
    def _source_failed(self) -> bool:
        """Whether there will never be all of what the first stage reads."""
        task = self.feed_task
        return task is not None and task.done() and not task.cancelled() and task.exception() is not None

    async def _check_free_space(self) -> None:
        self.full = self.full or await asyncio.to_thread(free_bytes, self.cwd) < _NEARLY_FULL

    async def _report_progress(self) -> bool:
        """Report progress and measure the folder; False when the folder has outgrown its bound."""
        await self._check_free_space()
        pids = [pid for child in self.running if child.alive for pid in child.pids()]
        used = await asyncio.to_thread(folder_bytes, self.cwd)
        used += await asyncio.to_thread(unlinked_bytes, pids)
        if self.watch is not None:
            watch = self.watch
            read, size, written = await asyncio.to_thread(positions, watch.source, watch.output, pids)
            if self.feed is not None:
                read, size = self.feed.position, self.feed.size
            # A source nobody has open any more has been read.
            read = size if read is None else read
            watch.report(watch.fraction(read, size, written), read, written)
        return used <= self.scratch_bytes

    # -- the end ---------------------------------------------------------------------------

    async def end(self) -> None:
        """No process is left after this, even if the caller is cancelled again meanwhile."""
        if self.feed_task is not None:
            self.feed_task.cancel()  # It only waits.
            self.feed_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        interrupted = await end_stages(self.running)
        if self.feed is not None:
            self.feed.stop()
        if interrupted is not None:
            raise interrupted

    def raise_failure_of_source(self) -> None:
        """Raises what the source failed with, if it did."""
        if self._source_failed and self.feed_task is not None:
            self.feed_task.result()

    def failure(self, result: PipelineResult) -> Failure | None:
        """What went wrong first, if anything did: of several failed stages the one furthest upstream."""
        if self.overflow:
            return Failure(Reason.OUT_OF_DISK, f"needs more than {self.scratch_bytes} bytes of scratch space")
        failed_stages = [child for child in self.running if child.failed]
        # An error that left the exit status at 0; after those that did not, for they may have caused it.
        failed_stages += [
            child for child in self.running if child.stderr.errors and child.process.returncode == 0
        ]
        # Its reader left early without failing: whatever came out is not all.
        failed_stages += [child for child in self.running if child.process.returncode == -signal.SIGPIPE]
        first = next(
            (c for c in failed_stages if b"Broken pipe" not in c.stderr.tail),
            failed_stages[0] if failed_stages else None,
        )
        if first is None:
            return None
        if refusal := first.stage.read_refusal():
            return refusal
        end = first.ended()
        failure = explain(
            end.name,
            end.returncode,
            end.stderr,
            reads_source=first.stage.reads_source,
            short_of_memory=oom_kills() > self.kills_before,
            secrets=(str(self.cwd), str(self.watch.source) if self.watch else "", socket.gethostname()),
        )
        # Tools lose the error of a write that failed, or tell of another that came of it.
        return by_full_disk(end.name) if self.full and failure.reason is Reason.TOOL_FAILED else failure


def _widen(pipe: int) -> None:
    """Fewer switches between two busy stages; refused when the user's pipes hold too much already."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
