"""One sandbox for all tools of an attempt, where the kernel allows it.

No network, one writable folder, of the machine's files those that programs need to run and no
others, no view of other processes; all processes in it end with the attempt. bubblewrap makes it once,
around a `cat` that keeps it alive; each tool enters it by nsenter, which takes a millisecond where
another bubblewrap would take ten.
User namespaces are all it needs: no privileges, and none are had inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from gooseherd.processes import signal_child
from gooseherd.processing.tools.installed_files import installed_files
from gooseherd.processing.tools.mounts import Mounts, MovableFolder
from gooseherd.processing.tools.tool_errors import scrub
from gooseherd.tasks import to_its_end

_START_SECONDS: Final = 10.0
"""A kernel that refuses does so in milliseconds; this is for a machine that is very busy."""
_END_SECONDS: Final = 5.0
_SHARED: Final = ("--user", "--preserve-credentials", "--mount", "--net", "--ipc", "--pid")

_DEVICES: Final = (
    *("--tmpfs", "/dev"),
    *(word for name in ("null", "zero", "full", "random", "urandom")
      for word in ("--dev-bind-try", f"/dev/{name}", f"/dev/{name}")),
    *("--symlink", "/proc/self/fd", "/dev/fd"),
    *(word for number, name in enumerate(("stdin", "stdout", "stderr"))
      for word in ("--symlink", f"/proc/self/fd/{number}", f"/dev/{name}")),
    *("--proc", "/proc"),
)  # fmt: skip
"""Not bubblewrap's --dev: for its terminals it makes a second user namespace inside the first,
which cannot be entered together with the rest."""


class NoSandbox(Exception):
    """This machine has no sandbox; the text is the reason, without paths."""


class Sandbox:
    """Made by `open`, gone after `close`, and with the process that opened it."""

    def __init__(
        self, keeper: asyncio.subprocess.Process, pid: int, movable: MovableFolder | None = None
    ) -> None:
        self._keeper = keeper
        self._pid = pid
        self._movable = movable

    @classmethod
    async def open(
        cls,
        folder: Path,
        readable: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        movable: MovableFolder | None = None,
    ) -> Sandbox:
        """A sandbox in which `folder` can be written to, and `readable` and what programs need be read.

        What is `hidden` is empty where it lies below any of these. With `movable` the folder may be
        renamed.

        Raises:
            NoSandbox: bubblewrap is missing or the kernel refuses, as it does in most containers.
        """
        for program in ("bwrap", "nsenter"):
            if shutil.which(program) is None:
                raise NoSandbox(f"{program} is not installed")
        where, options = await asyncio.to_thread(_mount_options, folder, readable, hidden, movable)
        reading, writing = os.pipe()
        try:
            starting = asyncio.create_task(
                asyncio.create_subprocess_exec(
                    *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"),
                    *("--die-with-parent", *options, "--chdir", where),
                    *("--info-fd", str(writing), "--", "cat"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=(writing,),
                )
            )
            # Cancelled in its midst, asyncio kills bubblewrap alone, and the process inside, which has not
            # been told yet to die with it, waits for ever and holds the pipes that asyncio then waits for.
            interrupted = await to_its_end(starting)
            os.close(writing)
            writing = -1
            made = cls(starting.result(), 0, movable)
            try:
                if interrupted is not None:
                    raise interrupted
                async with asyncio.timeout(_START_SECONDS):
                    await made._wait_until_ready(reading)
            except BaseException as error:
                await made.close()
                if isinstance(error, TimeoutError):
                    raise NoSandbox("bubblewrap does not answer") from None
                raise
            return made
        finally:
            for descriptor in (reading, writing):
                if descriptor >= 0:
                    os.close(descriptor)

    def enter_command(self, cwd: Path) -> tuple[str, ...]:
        """The command to put before the argv of a program that runs inside, in the folder `cwd`."""
        # Root has all rights in a namespace it enters, and could undo the mounts.
        drop_capabilities = (
            ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--") if os.getuid() == 0 else ()
        )
        return ("nsenter", f"--target={self._pid}", *_SHARED, f"--wdns={cwd}", "--", *drop_capabilities)

    def renamed(self, before: Path, after: Path) -> None:
        """Its folder has another name now; what is entered from now on finds it by that.

        Raises:
            OSError: it cannot be found by that name.
        """
        if self._movable is not None:
            self._movable.moved(before, after)

    async def close(self) -> None:
        """End the sandbox and all processes inside."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._keeper.wait()
        except TimeoutError:
            self._kill()
            await self._keeper.wait()
        except asyncio.CancelledError:
            self._kill()
            raise

    def _kill(self) -> None:
        signal_child(self._keeper, signal.SIGKILL)

    async def _wait_until_ready(self, information: int) -> None:
        """Wait until the sandbox runs, read the pid of its first process and check that it can be entered."""
        keeper = self._keeper
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        keeper.stdin.write(b"\n")
        with suppress(ConnectionError):
            await keeper.stdin.drain()
        if await keeper.stdout.readline() != b"\n":
            raise NoSandbox(_last_line("bubblewrap", await keeper.stderr.read(4096)))
        self._pid = int(json.loads(os.read(information, 4096))["child-pid"])
        entered = await asyncio.create_subprocess_exec(
            *self.enter_command(Path("/")), "true", stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await entered.communicate()
        if entered.returncode != 0:
            raise NoSandbox(_last_line("nsenter", stderr))


@cache
def installation_mounts(search_path: str) -> Mounts:
    """What programs need, by their PATH; found once in a process, and in those it forks, as it takes 2 ms."""
    mounts = Mounts()
    mounts.show(installed_files(search_path))
    return mounts


def _mount_options(
    folder: Path, readable: Sequence[Path], hidden: Sequence[Path], movable: MovableFolder | None
) -> tuple[str, list[str]]:
    """The real path of the folder, and what to tell bubblewrap."""
    mounts = installation_mounts(os.pathsep.join(os.get_exec_path())).copy()
    mounts.show(readable)
    mounts.hide(hidden)
    where = mounts.let_write(folder, movable)
    return str(where), mounts.options(_DEVICES)


def inner_processes(pid: int) -> list[int]:
    """The children of the nsenter process `pid`: the tool, by its pid outside the sandbox."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _last_line(program: str, stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return scrub(lines[0]) if lines else f"{program} failed without a message"
