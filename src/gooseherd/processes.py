"""Processes named so that a reused pid is never taken for the one that was meant.

Linux only: /proc (proc(5)) and pidfd_open(2). A process is named by pid, start time and
boot; a session is ended by listing its members, because tools may have process groups of
their own inside it.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)


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


def is_hidden(pid: int) -> bool:
    """Whether another user's process has that pid, which /proc does not show us (hidepid of proc(5))."""
    if _stat(pid) is not None:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False  # It is ours, and began a moment ago.


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


def end_session(session: ProcessId, *, timeout: float = 5.0) -> bool:
    """SIGKILL all its members until there are none; whether that came true in `timeout` seconds. Blocks."""
    return _end(lambda: session_members(session), timeout)


def end_own_session(*, timeout: float = 5.0) -> bool:
    """The same for the session that this process leads, except for this process: it is about to end itself.

    It waits for what its children leave behind; the exit status of its own children stays for who needs it.
    Called again, after it timed out, its own are those of the first call: since then it adopts orphans.
    """
    me = ProcessId.of(os.getpid())
    assert me is not None
    own = _children_before_adoption(me.pid)
    adopt_orphans()

    def others() -> list[int]:
        reap_adopted(own)
        return [pid for pid in session_members(me) if pid != me.pid]

    ended = _end(others, timeout)
    reap_adopted(own)
    return ended


@functools.cache
def _children_before_adoption(me: int) -> frozenset[int]:
    assert me == os.getpid()  # A forked process has its own.
    return frozenset(_children())


def _end(members: Callable[[], list[int]], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while found := members():
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def adopt_orphans() -> None:
    """From now on descendants whose parent ends are children of this process, which has to `reap_adopted`.

    A PID namespace, as a sandbox has one, ends only after all its processes were waited for. Process 1 may
    be slow to do that; in a container without an init it never does.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_adopted(own: Collection[int]) -> None:
    """Wait for all children that have ended, except for `own`: those that this process has started."""
    for pid in _children() - set(own):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _children() -> set[int]:
    """Of this process, those that have ended and were not waited for too."""
    me, pids = os.getpid(), (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {pid for pid in pids if (stat := _stat(pid)) is not None and stat.parent == me}


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
    parent: int
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
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
