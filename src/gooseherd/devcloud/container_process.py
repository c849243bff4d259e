"""A container of a task as a process: started, told to stop, waited for, its health looked at."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from gooseherd.devcloud.run_task import HealthCheck

_RUNTIME = Path(__file__).with_name("container.py")


class CannotStart(Exception):
    """There is no such program."""


class Container:
    """A running container. All methods belong to the loop that started it."""

    def __init__(
        self, process: asyncio.subprocess.Process, environment: Mapping[str, str], folder: Path
    ) -> None:
        self._process = process
        self._environment = environment
        self._folder = folder

    @classmethod
    async def start(cls, argv: list[str], environment: Mapping[str, str], *, folder: Path, log: Path) -> Self:
        """Start `argv` in `folder`, output appended to `log`. Raises CannotStart."""
        if shutil.which(argv[0], path=environment.get("PATH")) is None:
            raise CannotStart(f'exec: "{argv[0]}": executable file not found in $PATH')
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_RUNTIME)),
                *argv,
                env=environment,
                cwd=folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        return cls(process, environment, folder)

    @property
    def pid(self) -> int:
        """Of the runtime around the program; the program is its child."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, once nothing of the container is left."""
        return await self._process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM to its first process, as a container runtime sends it."""
        self._send(b"T")

    def kill(self) -> None:
        """SIGKILL, now."""
        self._send(b"K")

    def _send(self, command: bytes) -> None:
        assert self._process.stdin is not None
        if self._process.returncode is None and not self._process.stdin.is_closing():
            self._process.stdin.write(command)

    async def is_healthy(self, check: HealthCheck) -> bool:
        """Run the check beside the container's program once; killed when it takes too long."""
        command = list(check.argv)
        if setpriv := shutil.which("setpriv"):
            command[:0] = [setpriv, "--pdeathsig", "KILL", "--"]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=self._environment,
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return False
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that meets the result.
            async with asyncio.timeout(check.timeout):
                return await process.wait() == 0
        except TimeoutError:
            return False
        finally:
            if process.returncode is None:  # not reaped yet, so the number is still its own
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
