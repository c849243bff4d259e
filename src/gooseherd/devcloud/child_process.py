"""The local cloud as a child process that does not outlive its owner, however that one ends."""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gooseherd.devcloud.access_key import AccessKey
from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import signal_child

_READY: Final = "devcloud ready "
_KILL_AFTER_SECONDS: Final = 15.0


def server_command(
    state_dir: Path,
    *,
    images: Mapping[str, Sequence[str]],
    port: int = 0,
    pace: str = "instant",
    scale: float | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """The server's command line; it ends when its standard input does."""
    command = [
        *(sys.executable, "-m", "gooseherd.devcloud.server", "--until-eof"),
        *("--port", str(port)),
        *("--state-dir", str(state_dir.absolute())),
        *("--pace", pace),
        *(() if scale is None else ("--scale", str(scale))),
        *options,
    ]
    for name, argv in images.items():
        command += ["--image", f"{name}={shlex.join(argv)}"]
    return command


@contextmanager
def running_cloud(
    state_dir: Path,
    *,
    images: Mapping[str, Sequence[str]],
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A local cloud without an event loop, for scripts and tests: gives the URL, ends with the block."""
    process = subprocess.Popen(
        server_command(state_dir, images=images, options=options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=None if environ is None else dict(environ),
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(_READY):
            raise Misconfigured("local cloud", "did not start")
        yield line.removeprefix(_READY).strip()


class LocalCloud:
    """S3 and ECS on one loopback port. `images` maps an image's name to what it runs.

    Tasks live in processes on addresses of their own; logs and scratch folders are below
    `state_dir`. `scale` multiplies the times of task states and health checks; None is
    what the pace says (a tenth for `instant`).
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        images: Mapping[str, Sequence[str]],
        port: int = 0,
        pace: str = "instant",
        scale: float | None = None,
        options: Sequence[str] = (),
        start_seconds: float = 60.0,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._command = server_command(
            self._state_dir, images=images, port=port, pace=pace, scale=scale, options=options
        )
        self._start_seconds = start_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The value for AWS_ENDPOINT_URL, once it was started."""
        return self._url

    @property
    def pid(self) -> int | None:
        """The server's process id while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def key(self) -> AccessKey | None:
        """Its access key, once it was started."""
        return AccessKey.read(self._state_dir)

    @property
    def logs(self) -> Path:
        """A file per container, named by the task's id."""
        return self._state_dir / "logs"

    def cloud_admin(self) -> LocalCloudAdmin:
        """A client of its admin routes; the caller closes it."""
        return LocalCloudAdmin(self._url, self.key)

    async def start(self) -> str:
        """Start it and wait until it answers; gives the URL.

        Raises:
            Misconfigured: the port or the directory is taken, or the extra is not installed.
        """
        await asyncio.to_thread(self._state_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # its end tells the server that we are gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; it is stopped after its last user
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(self._start_seconds):
                line = (await self._process.stdout.readline()).decode()
            if not line.startswith(_READY):
                raise Misconfigured("local cloud", await self._last_error_line())
        except TimeoutError:
            await self.stop()
            raise Misconfigured("local cloud", f"did not answer in {self._start_seconds:.0f} s") from None
        except BaseException:
            await self.stop()
            raise
        self._url = line.removeprefix(_READY).strip()
        return self._url

    async def stop(self) -> None:
        """End all tasks, then the server; by force after fifteen seconds. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_KILL_AFTER_SECONDS):
                await process.wait()
        except TimeoutError:
            signal_child(process, signal.SIGKILL)
            await process.wait()

    async def _last_error_line(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        lines = (await self._process.stderr.read()).decode(errors="replace").strip().splitlines()
        if lines and lines[-1].startswith("ModuleNotFoundError"):
            return "the extra is not installed: pip install 'gooseherd[devcloud]'"
        return lines[-1] if lines else "it ended without a word"
