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
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread_or_undo
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.tools.isolation import Confinement, Prefix
from gooseherd.processing.tools.progress import (
    Watch,
    folder_bytes,
    kill_holders,
    positions,
    room_bytes,
    unlinked_bytes,
)
from gooseherd.processing.tools.sandbox import inner_processes
from gooseherd.processing.tools.source_feed import Feed
from gooseherd.processing.tools.stderr import StderrTail, listen
from gooseherd.processing.tools.tool_errors import by_full_disk, explain
from gooseherd.tasks import to_its_end

_log = logging.getLogger(__name__)

_TERM_GRACE_SECONDS: Final = 2.0
_NOTICE_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.25
_PIPE_BYTES: Final = 1 << 20
_NEARLY_FULL: Final = 4 << 20
"""Bytes free on a disk on which a write may just have failed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One program. `name` is what people are told."""

    name: str
    argv: tuple[str, ...]
    reads_source: bool = False
    """Whether its complaints can be about the source."""
    verdict: Path | None = None
    """Where a program of ours says, as JSON `{reason, detail}`, why it refused."""
    harmless: bytes | None = None
    """Errors with these words are none, as long as the exit status is 0."""


@dataclass(frozen=True, slots=True)
class StageEnd:
    """How one stage ended. `stderr` is bounded and as the tool wrote it: never show it unscrubbed."""

    name: str
    returncode: int
    stderr: str


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """How all stages ended, in order."""

    stages: tuple[StageEnd, ...]
    seconds: float


@dataclass(eq=False)
class PipelineFailed(StepFailed):
    """At least one stage failed; `failure` is what it means, `result` how each of them ended."""

    result: PipelineResult

    def __str__(self) -> str:
        return StepFailed.__str__(self)


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
        PipelineFailed: naming the stage that failed of itself, not those it took along.
        StepFailed: a program is missing (misconfigured); or what the source failed with that
            was fed to the first stage, whatever the stages made of it.
    """
    prefix = await (confinement or Confinement()).prefix(scratch_bytes, cwd)
    run = _Run(tuple(stages), cwd, dict(environment), prefix, scratch_bytes, watch)
    started = time.monotonic()
    try:
        await run.start(stdin, stdout)
        await run.until_over()
    finally:
        await run.end()
    result = PipelineResult(tuple(child.ended() for child in run.children), time.monotonic() - started)
    run.end_of_feed()
    failure = run.failure(result)
    if failure is not None:
        words = " | ".join(f"{end.name}={end.returncode}" for end in result.stages)
        _log.info("pipeline failed: %s (%s): %s", failure.reason, words, failure.detail)
        raise PipelineFailed(failure, result)
    return result


@dataclass
class _Child:
    """One running stage and what it said."""

    stage: Stage
    process: asyncio.subprocess.Process
    listener: asyncio.Task[None]
    complaints: int
    """Inode of the pipe it complains into."""
    heard: StderrTail
    stopped: bool = False
    """We asked it to end; if a signal ended it, that says nothing."""

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def failed(self) -> bool:
        """Of itself: not stopped by us, and not merely because its reader went away."""
        code = self.process.returncode
        if self.stopped and code in (-signal.SIGTERM, -signal.SIGKILL):
            return False
        return code not in (None, 0, -signal.SIGPIPE)

    def ended(self) -> StageEnd:
        code = self.process.returncode
        return StageEnd(self.stage.name, code if code is not None else -signal.SIGKILL, self.heard.text())


@dataclass
class _Run:
    stages: tuple[Stage, ...]
    cwd: Path
    environment: dict[str, str]
    prefix: Prefix
    scratch_bytes: int
    watch: Watch | None
    children: list[_Child] = field(default_factory=list)
    overflow: bool = False
    full: bool = False
    """At some time there was no room on the disk."""
    feed: Feed | None = None
    feeding: asyncio.Task[None] | None = None

    # -- start -----------------------------------------------------------------------------

    async def start(self, source: Path | Feed | None, stdout: Path | None) -> None:
        """Spawn from first to last; ends of pipes that are not handed on are closed here."""
        with contextlib.ExitStack() as ends:
            if isinstance(source, Feed):
                reading, feeding = os.pipe()
                ends.callback(os.close, reading)
                _widen(feeding)
                self._feed_by(source, feeding)
            else:
                reading = await in_thread_or_undo(os.close, os.open, source or os.devnull, os.O_RDONLY)
                ends.callback(os.close, reading)
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

    def _feed_by(self, feed: Feed, pipe: int) -> None:
        feed.start(pipe)
        self.feed = feed
        self.feeding = asyncio.create_task(feed.follow())

    async def _spawn(self, stage: Stage, stdin: int, stdout: int) -> None:
        program = shutil.which(stage.argv[0], path=self.environment.get("PATH", os.defpath))
        if program is None:
            raise StepFailed.because(Reason.MISCONFIGURED, f"{stage.argv[0]} is not installed on this worker")
        complaints, theirs = os.pipe()
        reader = os.fdopen(complaints, "rb", buffering=0)
        inode = os.fstat(complaints).st_ino
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
        heard = StderrTail(stage.harmless)
        listener = asyncio.create_task(listen(reader, heard))
        self.children.append(_Child(stage, process, listener, inode, heard))
        if interrupted is not None:
            raise interrupted

    # -- while it runs ---------------------------------------------------------------------

    async def until_over(self) -> None:
        """Until all have ended, or one has failed and so ended the others."""
        waiting = {asyncio.create_task(child.process.wait()) for child in self.children}
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if self._starved:
                    return
                if any(child.failed for child in self.children):
                    # What made it fail may have ended already and only not been noticed yet.
                    # Before the others are ended, who may take their files along.
                    await self._see_room()
                    if waiting:
                        await asyncio.wait(waiting, timeout=_NOTICE_SECONDS)
                    return
                if not done or not waiting:
                    self.overflow = not await self._look()
                if self.overflow:
                    return
        finally:
            for task in waiting:
                task.cancel()

    @property
    def _starved(self) -> bool:
        """Whether there will never be all of what the first stage reads."""
        fed = self.feeding
        return fed is not None and fed.done() and not fed.cancelled() and fed.exception() is not None

    async def _see_room(self) -> None:
        self.full = self.full or await asyncio.to_thread(room_bytes, self.cwd) < _NEARLY_FULL

    async def _look(self) -> bool:
        """Report progress; False when the folder has outgrown its bound."""
        await self._see_room()
        pids = [pid for child in self.children if child.alive for pid in self._processes(child)]
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
        """No child is left after this, even if the caller is cancelled again meanwhile."""
        interrupted: asyncio.CancelledError | None = None
        if self.feeding is not None:
            self.feeding.cancel()  # It only waits.
            self.feeding.add_done_callback(lambda fed: fed.cancelled() or fed.exception())
        for child in self.children:
            if child.alive:
                child.stopped = True
                # What holds the tool passes on how it ends, and would take it along at once.
                self._signal(child, signal.SIGTERM, self._processes(child)[-1:])
        try:
            async with asyncio.timeout(_TERM_GRACE_SECONDS):
                await self._gone()
        except TimeoutError:
            pass
        except asyncio.CancelledError as cancelled:
            interrupted = cancelled
        for child in self.children:
            if child.alive:
                self._signal(child, signal.SIGKILL, self._processes(child))
        while any(child.alive or not child.listener.done() for child in self.children):
            try:
                async with asyncio.timeout(_NOTICE_SECONDS):
                    await self._gone()
            except TimeoutError:
                # Its own children may have survived it: whoever could still complain is one.
                pipes = {child.complaints for child in self.children if not child.listener.done()}
                await asyncio.to_thread(kill_holders, pipes)
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
        if self.feed is not None:
            self.feed.stop()
        if interrupted is not None:
            raise interrupted

    def _processes(self, child: _Child) -> list[int]:
        """The process we started, and the tool, where that is another: inside a sandbox."""
        started = child.process.pid
        return [started, *(inner_processes(started) if self.prefix.inside else ())]

    @staticmethod
    def _signal(child: _Child, number: int, pids: Sequence[int]) -> None:
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                if pid == child.process.pid:
                    child.process.send_signal(number)
                else:
                    os.kill(pid, number)

    async def _gone(self) -> None:
        for child in self.children:
            await child.process.wait()
            await asyncio.shield(child.listener)

    def end_of_feed(self) -> None:
        """Raises what the source failed with, if it did."""
        if self._starved and self.feeding is not None:
            self.feeding.result()

    def failure(self, result: PipelineResult) -> Failure | None:
        """What went wrong first, if anything did: of several culprits the one furthest upstream."""
        if self.overflow:
            return Failure(Reason.OUT_OF_DISK, f"needs more than {self.scratch_bytes} bytes of scratch space")
        culprits = [child for child in self.children if child.failed]
        # An error that left the exit status at 0; after those that did not, for they may have caused it.
        culprits += [child for child in self.children if child.heard.errors and child.process.returncode == 0]
        # Its reader left early without failing: whatever came out is not all.
        culprits += [child for child in self.children if child.process.returncode == -signal.SIGPIPE]
        first = next(
            (c for c in culprits if b"Broken pipe" not in c.heard.tail), culprits[0] if culprits else None
        )
        if first is None:
            return None
        if verdict := _verdict(first.stage):
            return verdict
        end = first.ended()
        failure = explain(
            end.name,
            end.returncode,
            end.stderr,
            reads_source=first.stage.reads_source,
            secrets=(str(self.cwd), str(self.watch.source) if self.watch else "", socket.gethostname()),
        )
        # Tools lose the error of a write that failed, or tell of another that came of it.
        return by_full_disk(end.name) if self.full and failure.reason is Reason.TOOL_FAILED else failure


def _verdict(stage: Stage) -> Failure | None:
    if stage.verdict is None:
        return None
    try:
        fields = json.loads(stage.verdict.read_bytes())
        return Failure(Reason(fields["reason"]), fields["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _widen(pipe: int) -> None:
    """Fewer switches between two busy stages; refused when the user's pipes hold too much already."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
