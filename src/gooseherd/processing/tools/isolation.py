"""How tools are isolated: limits and a system-call filter for each, one sandbox for all where possible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.tools.installed_files import TRIALS
from gooseherd.processing.tools.limits import PROGRAM, ToolLimits, find_hold
from gooseherd.processing.tools.mounts import MovableFolder
from gooseherd.processing.tools.sandbox import NoSandbox, Sandbox
from gooseherd.processing.tools.tool_errors import scrub

_log = logging.getLogger(__name__)


class SandboxUse(StrEnum):
    """Whether tools run in a sandbox; `off` is off for the filter of system calls, too."""

    AUTO = "auto"
    """In one where the kernel allows it."""
    ON = "on"
    """In one, or the attempt fails."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Prefix:
    """Put before each argv of a pipeline; `inside`: the tool is a child of the process that is started."""

    argv: tuple[str, ...]
    inside: bool


class Confinement:
    """The limits, the filter and the sandbox of an attempt's tools; without `sandbox_task` no sandbox."""

    def __init__(
        self,
        limits: ToolLimits | None = None,
        sandbox_task: asyncio.Task[Sandbox | None] | None = None,
        *,
        filtered: bool = True,
    ) -> None:
        self._limits = limits or ToolLimits()
        self._sandbox_task = sandbox_task
        self._filtered = filtered
        self._hold = find_hold()

    def with_limits(self, limits: ToolLimits) -> Confinement:
        """The same sandbox and filter with these limits."""
        return Confinement(limits, self._sandbox_task, filtered=self._filtered)

    async def renamed(self, before: Path, after: Path) -> None:
        """The folder that it was made for has another name now; it was made with a `movable`.

        Raises:
            OSError: tools would not find it by that name.
            NoSandbox: there must be a sandbox and there is none.
        """
        sandbox = None if self._sandbox_task is None else await asyncio.shield(self._sandbox_task)
        if sandbox is not None:
            await asyncio.to_thread(sandbox.renamed, before, after)

    async def prefix(self, file_bytes: int, cwd: Path) -> Prefix:
        """What to put before a tool's argv; waits for the sandbox if it is still being made.

        Raises:
            StepFailed: misconfigured; there must be a sandbox and there is none.
        """
        sandbox = None
        if self._sandbox_task is not None:
            try:
                sandbox = await asyncio.shield(self._sandbox_task)
            except NoSandbox as error:
                problem = f"WORKER_SANDBOX is on, and there is none here: {error}"
                raise StepFailed.because(Reason.MISCONFIGURED, problem) from None
        inside = sandbox is not None
        limits = self._limits.command(file_bytes, alone=inside, filtered=self._filtered, hold=self._hold)
        return Prefix((*sandbox.enter_command(cwd), *limits) if sandbox else limits, inside)


@asynccontextmanager
async def confinement(
    use: SandboxUse,
    limits: ToolLimits,
    folder: Path,
    readable: Sequence[Path] = (),
    hidden: Sequence[Path] = (),
    movable: MovableFolder | None = None,
) -> AsyncIterator[Confinement]:
    """Confine the tools of an attempt that works in `folder`; the sandbox is made in the background.

    What they find in it is said by `Sandbox.open`.
    """
    if use is SandboxUse.OFF:
        yield Confinement(limits, filtered=False)
        return
    sandbox_task = asyncio.create_task(
        _open_sandbox(folder, readable, hidden, movable, required=use is SandboxUse.ON), name="sandbox"
    )
    try:
        yield Confinement(limits, sandbox_task)
    finally:
        sandbox_task.cancel()
        with suppress(asyncio.CancelledError, NoSandbox):
            sandbox = await sandbox_task
            if sandbox is not None:
                await sandbox.close()


async def try_sandbox(use: SandboxUse, folder: Path) -> tuple[bool, str]:
    """Whether tools of an attempt would run in a sandbox here, and in which or why not."""
    if use is SandboxUse.OFF:
        return False, "off by WORKER_SANDBOX"
    try:
        sandbox = await Sandbox.open(folder)
    except (NoSandbox, OSError) as error:
        return False, str(error) if isinstance(error, NoSandbox) else type(error).__name__
    await sandbox.close()
    return True, "bubblewrap"


async def not_running_in_sandbox(folder: Path, readable: Sequence[Path] = ()) -> list[str]:
    """What attempts need and would not find in a sandbox with `readable`, of what runs outside of it.

    Raises:
        NoSandbox: there is none here.
    """
    sandbox = await Sandbox.open(folder, readable)
    try:
        return [
            name
            for name, argv in TRIALS.items()
            if await _succeeds(argv) and not await _succeeds((*sandbox.enter_command(folder), *argv))
        ]
    finally:
        await sandbox.close()


async def _succeeds(argv: Sequence[str]) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    return await process.wait() == 0


async def try_filter(use: SandboxUse) -> tuple[bool, str]:
    """Whether the system calls of tools would be filtered here, and by what or why not."""
    if use is SandboxUse.OFF:
        return False, "off by WORKER_SANDBOX"
    hold = find_hold()
    if hold is None:
        return False, f"{PROGRAM} is not built"
    try:
        probe = await asyncio.create_subprocess_exec(
            hold, "--probe", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        return False, f"{PROGRAM} does not run: {error.strerror}"
    output, _ = await probe.communicate()
    return (True, "seccomp") if probe.returncode == 0 else (False, scrub(output.decode(errors="replace")))


async def _open_sandbox(
    folder: Path,
    readable: Sequence[Path],
    hidden: Sequence[Path],
    movable: MovableFolder | None,
    *,
    required: bool,
) -> Sandbox | None:
    try:
        sandbox = await Sandbox.open(folder, readable, hidden, movable)
    except (NoSandbox, OSError) as error:
        if required:
            raise error if isinstance(error, NoSandbox) else NoSandbox(type(error).__name__) from None
        _log.info("tools run without a sandbox: %s", error)
        return None
    _log.info("tools run in a sandbox")
    return sandbox
