"""One sandbox for all tools of an attempt, where the kernel allows it.

No network, one folder to write to and the rest read-only, no other processes to see, nothing
that outlives the attempt. bubblewrap makes it once, around a `cat` that keeps it; each tool
enters it by nsenter, which takes a millisecond where another bubblewrap would take ten.
User namespaces are all it needs: no privileges, and none are had inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from gooseherd.processing.tools.tool_errors import scrub

_MAKE_SECONDS: Final = 10.0
"""A kernel that refuses says so in milliseconds; this is for a machine that is very busy."""
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


class NoSandbox(Exception):
    """There is none on this machine; the text says why, without paths."""


class Sandbox:
    """Made by `open`, gone after `close`, and with the process that opened it."""

    def __init__(self, keeper: asyncio.subprocess.Process, pid: int) -> None:
        self._keeper = keeper
        self._pid = pid

    @classmethod
    async def open(cls, folder: Path) -> Sandbox:
        """A sandbox in which `folder` is writable and nothing else.

        Raises:
            NoSandbox: bubblewrap is missing or the kernel refuses, as it does in most containers.
        """
        for program in ("bwrap", "nsenter"):
            if shutil.which(program) is None:
                raise NoSandbox(f"{program} is not installed")
        where = str(await asyncio.to_thread(folder.resolve))
        reading, writing = os.pipe()
        try:
            keeper = await asyncio.create_subprocess_exec(
                *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"),
                *("--die-with-parent", "--ro-bind", "/", "/", *_DEVICES),
                *("--proc", "/proc", "--bind", where, where, "--chdir", where),
                *("--info-fd", str(writing), "--", "cat"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(writing,),
            )
            os.close(writing)
            writing = -1
            made = cls(keeper, 0)
            try:
                async with asyncio.timeout(_MAKE_SECONDS):
                    await made._settle(reading)
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

    def entrance(self, cwd: Path) -> tuple[str, ...]:
        """To put before the argv of what shall run inside, in the folder `cwd`."""
        # Root has all rights in a namespace it enters, and could undo the mounts.
        shed = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--") if os.getuid() == 0 else ()
        return ("nsenter", f"--target={self._pid}", *_SHARED, f"--wdns={cwd}", "--", *shed)

    async def close(self) -> None:
        """End it and all that runs inside."""
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
        with suppress(ProcessLookupError):
            self._keeper.kill()

    async def _settle(self, information: int) -> None:
        """Wait until it stands, learn who is in it, and see that it can be entered."""
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
        trial = await asyncio.create_subprocess_exec(
            *self.entrance(Path("/")), "true", stderr=asyncio.subprocess.PIPE
        )
        _, words = await trial.communicate()
        if trial.returncode != 0:
            raise NoSandbox(_last_line("nsenter", words))


def inner_processes(pid: int) -> list[int]:
    """What an nsenter that is `pid` has started: the tool, under its number outside."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _last_line(program: str, words: bytes) -> str:
    lines = words.decode(errors="replace").strip().splitlines()
    return scrub(lines[0]) if lines else f"{program} failed without a word"
