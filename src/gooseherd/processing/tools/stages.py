"""One program of a pipeline: what to start, how it ended, and how it is made to end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processes import ProcessId, signal_child
from gooseherd.processing.tools.progress import kill_holders
from gooseherd.processing.tools.sandbox import inner_processes
from gooseherd.processing.tools.stderr import StderrTail

_TERM_GRACE_SECONDS: Final = 2.0
_KILL_AGAIN_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Stage:
    """One program. `name` is what people read in messages."""

    name: str
    argv: tuple[str, ...]
    reads_source: bool = False
    """Whether its errors can be about the source."""
    refusal: Path | None = None
    """Where a program of ours writes, as JSON `{reason, detail}`, why it refused."""
    harmless: bytes | None = None
    """Errors with these words are none, as long as the exit status is 0."""

    def read_refusal(self) -> Failure | None:
        """Why it refused, if it is a program of ours and did."""
        if self.refusal is None:
            return None
        try:
            fields = json.loads(self.refusal.read_bytes())
            return Failure(Reason(fields["reason"]), fields["detail"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def program_stage(module: str, *argv: str, refusal: Path | None = None, reads_source: bool = False) -> Stage:
    """A program of this package as a stage; -I: it sees neither the folder it runs in nor the environment."""
    return Stage(
        module,
        (sys.executable, "-I", "-m", f"gooseherd.processing.programs.{module}", *argv),
        reads_source=reads_source,
        refusal=refusal,
    )


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


@dataclass
class RunningStage:
    """The process of a stage and the task that reads its standard error."""

    stage: Stage
    process: asyncio.subprocess.Process
    sandboxed: bool
    """The tool is a child of `process`, inside a sandbox."""
    stderr_reader: asyncio.Task[None]
    stderr_pipe: int
    """Inode of the pipe that is its standard error."""
    stderr: StderrTail
    sent: set[int] = field(default_factory=set)
    """Signals that we sent; that one of them ended it means nothing."""

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def failed(self) -> bool:
        """Of itself: not stopped by us, and not merely because its reader went away."""
        code = self.process.returncode
        return code not in (None, 0, -signal.SIGPIPE) and -code not in self.sent

    def ended(self) -> StageEnd:
        code = self.process.returncode
        return StageEnd(self.stage.name, code if code is not None else -signal.SIGKILL, self.stderr.text())

    def pids(self) -> list[int]:
        """The process we started, and the tool, where that is another: inside a sandbox."""
        started = self.process.pid
        return [started, *(inner_processes(started) if self.sandboxed else ())]

    def terminate(self) -> None:
        """SIGTERM to the tool alone; the process around it would kill it at once, and reports its status."""
        self._signal(signal.SIGTERM, self.pids()[-1:])

    def kill(self) -> None:
        """SIGKILL to the tool and the process around it."""
        self._signal(signal.SIGKILL, self.pids())

    def _signal(self, number: int, pids: Sequence[int]) -> None:
        for pid in reversed(pids):
            if pid == self.process.pid:
                reached = signal_child(self.process, number)
            else:
                process = ProcessId.of(pid)
                reached = process is not None and process.signal(number)
            if reached:
                self.sent.add(number)


async def end_stages(running: Sequence[RunningStage]) -> asyncio.CancelledError | None:
    """SIGTERM, a grace, SIGKILL; no process is left after this, even if the caller is cancelled meanwhile.

    Returns the newest of those cancellations, for the caller to raise.
    """
    interrupted: asyncio.CancelledError | None = None
    for stage in running:
        if stage.alive:
            stage.terminate()
    try:
        async with asyncio.timeout(_TERM_GRACE_SECONDS):
            await _until_gone(running)
    except TimeoutError:
        pass
    except asyncio.CancelledError as cancelled:
        interrupted = cancelled
    for stage in running:
        if stage.alive:
            stage.kill()
    while any(stage.alive or not stage.stderr_reader.done() for stage in running):
        try:
            async with asyncio.timeout(_KILL_AGAIN_SECONDS):
                await _until_gone(running)
        except TimeoutError:
            # A tool's own children may have survived it: they still hold its standard error open.
            pipes = {stage.stderr_pipe for stage in running if not stage.stderr_reader.done()}
            await asyncio.to_thread(kill_holders, pipes)
        except asyncio.CancelledError as cancelled:
            interrupted = cancelled
    return interrupted


async def _until_gone(running: Sequence[RunningStage]) -> None:
    for stage in running:
        await stage.process.wait()
        await asyncio.shield(stage.stderr_reader)
