"""One sandbox for all tools of an attempt, where the kernel allows it.

No network, one writable folder and the rest read-only, no view of other processes; all processes in
it end with the attempt. bubblewrap makes it once, around a `cat` that keeps it alive; each tool
enters it by nsenter, which takes a millisecond where another bubblewrap would take ten.
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
from pathlib import Path
from typing import Final

from gooseherd.processes import signal_child
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
    *("--remount-ro", "/dev"),
)  # fmt: skip
"""Not bubblewrap's --dev: for its terminals it makes a second user namespace inside the first,
which cannot be entered together with the rest."""


def _masks(hidden: Sequence[Path]) -> list[str]:
    """Options that put what cannot be read, or is empty, in front of each path that exists."""
    options: list[str] = []
    for path in hidden:
        try:
            real = path.resolve(strict=True)
        except OSError:
            continue
        if real.is_dir():
            options += ["--tmpfs", str(real), "--remount-ro", str(real)]
        else:
            options += ["--ro-bind", "/dev/null", str(real)]
    return options


class NoSandbox(Exception):
    """This machine has no sandbox; the text is the reason, without paths."""


class Sandbox:
    """Made by `open`, gone after `close`, and with the process that opened it."""

    def __init__(self, keeper: asyncio.subprocess.Process, pid: int) -> None:
        self._keeper = keeper
        self._pid = pid

    @classmethod
    async def open(cls, folder: Path, hidden: Sequence[Path] = ()) -> Sandbox:
        """A sandbox in which `folder` is writable and nothing else, and what is `hidden` is empty.

        Raises:
            NoSandbox: bubblewrap is missing or the kernel refuses, as it does in most containers.
        """
        for program in ("bwrap", "nsenter"):
            if shutil.which(program) is None:
                raise NoSandbox(f"{program} is not installed")
        where = str(await asyncio.to_thread(folder.resolve))
        masks = await asyncio.to_thread(_masks, hidden)
        reading, writing = os.pipe()
        try:
            starting = asyncio.create_task(
                asyncio.create_subprocess_exec(
                    *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"),
                    *("--die-with-parent", "--ro-bind", "/", "/", *_DEVICES),
                    *masks,
                    *("--proc", "/proc", "--bind", where, where, "--chdir", where),
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
            made = cls(starting.result(), 0)
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


def inner_processes(pid: int) -> list[int]:
    """The children of the nsenter process `pid`: the tool, by its pid outside the sandbox."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _last_line(program: str, stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return scrub(lines[0]) if lines else f"{program} failed without a message"
