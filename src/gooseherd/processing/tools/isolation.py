"""How tools are isolated: limits and a system-call filter for each, one sandbox for all where possible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.tools.limits import PROGRAM, ToolLimits, find_hold
from gooseherd.processing.tools.sandbox import NoSandbox, Sandbox
from gooseherd.processing.tools.tool_errors import scrub

_log = logging.getLogger(__name__)


class SandboxUse(StrEnum):
    """Whether tools run in a sandbox; `off` is off for the filter of system calls, too."""

    AUTO = "auto"
    """Where it can be had."""
    ON = "on"
    """Or not at all."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Prefix:
    """Of one pipeline's argvs; `inside`: the tool is a child of the process that is started."""

    argv: tuple[str, ...]
    inside: bool


class Confinement:
    """Of the tools of one attempt, or of none in particular: then there is no sandbox."""

    def __init__(
        self,
        limits: ToolLimits | None = None,
        opening: asyncio.Task[Sandbox | None] | None = None,
        *,
        filtered: bool = True,
    ) -> None:
        self._limits = limits or ToolLimits()
        self._opening = opening
        self._filtered = filtered
        self._hold = find_hold()

    async def prefix(self, file_bytes: int, cwd: Path) -> Prefix:
        """What to put before a tool's argv; waits for the sandbox if it is still being made.

        Raises:
            StepFailed: misconfigured; there must be a sandbox and there is none.
        """
        sandbox = None
        if self._opening is not None:
            try:
                sandbox = await asyncio.shield(self._opening)
            except NoSandbox as error:
                problem = f"WORKER_SANDBOX is on, and there is none here: {error}"
                raise StepFailed.because(Reason.MISCONFIGURED, problem) from None
        inside = sandbox is not None
        limits = self._limits.command(file_bytes, alone=inside, filtered=self._filtered, hold=self._hold)
        return Prefix((*sandbox.entrance(cwd), *limits) if sandbox else limits, inside)


@asynccontextmanager
async def confinement(use: SandboxUse, limits: ToolLimits, folder: Path) -> AsyncIterator[Confinement]:
    """Hold the tools of an attempt that works in `folder`; the sandbox is made while other things go on."""
    if use is SandboxUse.OFF:
        yield Confinement(limits, filtered=False)
        return
    opening = asyncio.create_task(_open(folder, required=use is SandboxUse.ON), name="sandbox")
    try:
        yield Confinement(limits, opening)
    finally:
        opening.cancel()
        with suppress(asyncio.CancelledError, NoSandbox):
            sandbox = await opening
            if sandbox is not None:
                await sandbox.close()


async def trial(use: SandboxUse, folder: Path) -> tuple[bool, str]:
    """Whether tools of an attempt here would be in a sandbox, and in which or why not."""
    if use is SandboxUse.OFF:
        return False, "off by WORKER_SANDBOX"
    try:
        sandbox = await Sandbox.open(folder)
    except (NoSandbox, OSError) as error:
        return False, str(error) if isinstance(error, NoSandbox) else type(error).__name__
    await sandbox.close()
    return True, "bubblewrap"


async def filter_trial(use: SandboxUse) -> tuple[bool, str]:
    """Whether the system calls of tools here would be filtered, and by what or why not."""
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


async def _open(folder: Path, *, required: bool) -> Sandbox | None:
    try:
        sandbox = await Sandbox.open(folder)
    except (NoSandbox, OSError) as error:
        if required:
            raise error if isinstance(error, NoSandbox) else NoSandbox(type(error).__name__) from None
        _log.info("tools run without a sandbox: %s", error)
        return None
    _log.info("tools run in a sandbox")
    return sandbox
