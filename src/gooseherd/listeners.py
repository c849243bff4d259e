"""Who listens on this machine: sockets of processes, as the kernel lists them.

Linux only: /proc/net/{tcp,tcp6,unix} and /proc/PID/fd (proc(5)). Only root sees those of other users.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
"""TCP_LISTEN of tcp_states.h, in hexadecimal digits as /proc/net/tcp has it."""
_ACCEPTING: Final = 0x10000
"""__SO_ACCEPTCON of the flags in /proc/net/unix."""
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Process:
    """One that listens."""

    pid: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP address, or the path of a UNIX socket (`@…`: an abstract name, which has no permissions)."""

    address: str
    port: int | None
    process: Process

    @property
    def is_unix(self) -> bool:
        """Whether it is a UNIX socket."""
        return self.port is None

    @property
    def on_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        return self.is_unix or ipaddress.ip_address(self.address).is_loopback

    def __str__(self) -> str:
        if self.port is None:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def listeners_of(processes: Mapping[int, Process]) -> list[Listener]:
    """What these processes listen on, each address once: a socket may be open in several of them."""
    sockets = {**_tcp(), **_unix()}
    found: dict[str, Listener] = {}
    for process in processes.values():
        for inode in _inodes(process.pid):
            if inode in sockets:
                address, port = sockets[inode]
                listener = Listener(address, port, process)
                found.setdefault(str(listener), listener)
    return sorted(found.values(), key=lambda listener: (listener.is_unix, str(listener)))


def tree_of(roots: set[int]) -> dict[int, Process]:
    """The processes and all their descendants that are alive."""
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    found: dict[int, Process] = {}
    for pid in parents:
        above, steps = pid, 0
        while above not in roots and above in parents and steps < 100:
            above, steps = parents[above], steps + 1
        if above in roots and (process := _process(pid)) is not None:
            found[pid] = process
    return found


def processes_with(*words: str) -> dict[int, Process]:
    """Processes of this user in whose command line these words stand; not this one, nor who started it."""
    mine, above = os.geteuid(), set(_ancestors())
    found = {}
    for pid in _pids():
        with suppress(OSError):
            if pid in above or (_PROC / str(pid)).stat().st_uid != mine:
                continue
            process = _process(pid)
            if process is not None and all(word in " ".join(process.command) for word in words):
                found[pid] = process
    return found


def _ancestors() -> Iterator[int]:
    pid: int | None = os.getpid()
    while pid:
        yield pid
        pid = _parent(pid)


def _pids() -> Iterator[int]:
    return (int(path.name) for path in _PROC.iterdir() if path.name.isdigit())


def _process(pid: int) -> Process | None:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return Process(pid, tuple(word.decode(errors="replace") for word in words if word))


def _parent(pid: int) -> int | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field behind the name, which stands in parentheses.
    return int(stat.rpartition(b")")[2].split()[1])


def _inodes(pid: int) -> Iterator[str]:
    try:
        files = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for file in files:
        with suppress(OSError):
            if match := _SOCKET.fullmatch(str(file.readlink())):
                yield match[1]


def _tcp() -> dict[str, tuple[str, int | None]]:
    found: dict[str, tuple[str, int | None]] = {}
    for name in ("tcp", "tcp6"):
        for line in _lines(_PROC / "net" / name):
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING:
                address, _, port = fields[1].partition(":")
                found[fields[9]] = (_address(address), int(port, 16))
    return found


def _unix() -> dict[str, tuple[str, int | None]]:
    found: dict[str, tuple[str, int | None]] = {}
    for line in _lines(_PROC / "net" / "unix"):
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTING:
            found[fields[6]] = (fields[7], None)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    except OSError:  # A kernel without IPv6.
        return []


def _address(text: str) -> str:
    """From groups of four bytes, each a number in the machine's order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
