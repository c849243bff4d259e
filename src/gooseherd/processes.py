"""Processes named so that a reused pid is never taken for the one that was meant.

Linux only: /proc (proc(5)) and pidfd_open(2). A process is named by pid, start time and
boot; a session is ended by listing its members, because tools may have process groups of
their own inside it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for all time. `started` is in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Name the process that has `pid` now; None when it has ended (also as a zombie)."""
        stat = _stat(pid)
        return None if stat is None or stat.ended else cls(pid, stat.started, boot_id())

    @classmethod
    def of_child(cls, pid: int) -> Self:
        """Name a child that was not waited for yet, ended or not: its pid is still its own."""
        stat = _stat(pid)
        assert stat is not None
        return cls(pid, stat.started, boot_id())

    @property
    def alive(self) -> bool:
        """Whether it still runs. Zombies do not."""
        return self.boot == boot_id() and ProcessId.of(self.pid) == self

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; KeyError, TypeError or ValueError when it is not one."""
        return cls(int(data["pid"]), int(data["started"]), str(data["boot"]))

    def signal(self, number: int) -> bool:
        """Send a signal to it and to no other process; False when it has ended."""
        fd = self.open()
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True

    def open(self) -> int | None:
        """A pidfd, readable once the process has ended; the caller closes it. None: ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Looked at after opening: the descriptor pins whoever has the pid now.
        if self.alive:
            return fd
        os.close(fd)
        return None

    async def ended(self) -> None:
        """Return when it has certainly ended; it need not be a child of ours."""
        fd = self.open()
        if fd is None:
            return
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(fd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def wait(self, timeout: float) -> bool:
        """Block up to `timeout` seconds; whether it has ended by then."""
        fd = self.open()
        if fd is None:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(max(0.0, timeout) * 1000))
        finally:
            os.close(fd)


def signal_child(child: asyncio.subprocess.Process, number: int) -> bool:
    """Send a signal to a child that asyncio waits for; False when it has ended, noticed or not.

    Not by its own `send_signal`, `terminate` or `kill`: in Python 3.11 and 3.12 they look first whether the
    child has ended, which takes its exit status from asyncio's watcher, and `returncode` becomes 255
    (python/cpython#87744).
    """
    if child.returncode is not None:
        return False
    process = ProcessId.of(child.pid)
    return process is not None and process.signal(number)


def session_members(session: ProcessId) -> list[int]:
    """Pids of the live processes in the session (or group) that `session` leads or led."""
    if session.boot != boot_id():
        return []
    leader = _stat(session.pid)
    if leader is not None and leader.started != session.started:
        return []  # The pid was reused, so the kernel saw the old session empty.
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        stat = _stat(int(entry.name))
        if stat is None or stat.ended or stat.started < session.started:
            continue
        if session.pid in (stat.session, stat.group):
            found.append(int(entry.name))
    return found


def end_session(session: ProcessId, *, spare: int | None = None, timeout: float = 5.0) -> bool:
    """SIGKILL all its members until there are none; whether that came true in `timeout` seconds.

    `spare` is left alive (a process that cleans up before it goes itself). Blocks.
    """
    deadline = time.monotonic() + timeout
    while members := [pid for pid in session_members(session) if pid != spare]:
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def describe_exit(returncode: int | None) -> str:
    """What subprocess's returncode says, for people."""
    if returncode is None:
        return "ended"
    return f"killed by signal {-returncode}" if returncode < 0 else f"exited {returncode}"


@functools.cache
def boot_id() -> str:
    """Changes with each boot of the machine (random(4))."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    group: int
    session: int
    started: int

    @property
    def ended(self) -> bool:
        return self.state in "ZXx"


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command name stands in parentheses and may hold blanks and parentheses itself.
    fields = text[text.rfind(b")") + 2 :].split()
    return _Stat(fields[0].decode(), int(fields[2]), int(fields[3]), int(fields[19]))
