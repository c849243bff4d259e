"""The process that attempts are forked from: all they need is imported here, so one starts in milliseconds.

`python -m gooseherd.worker.fork_server` talks with its worker over a socket it inherits
(SOCK_SEQPACKET, one JSON object a message), and ends when the worker's end closes.

    to it    {"folder", "entrypoint"} and a descriptor, the watchdog's pipe: start the attempt of that folder
    from it  {"warm": true}           once, when all imports are done
             {"folder", "process"}    sent by the attempt itself, once it leads a session
             {"folder", "code"}       once the attempt has ended; -n for signal n

While there is no attempt it keeps a spare: a process that has prepared all that needs no order
(preparation.py), and becomes the attempt when the order comes. Where there is none, one is forked.

It has no threads, no event loop and no connections: what it forks begins as clean as if it
had been started anew. What tools of a killed attempt leave behind it waits for, as an init would.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId, adopt_orphans, reap_adopted
from gooseherd.worker.folders import AttemptFolder, stand_in_below
from gooseherd.worker.settings import WorkerSettings

MESSAGE_BYTES: Final = 64 << 10
"""Of the longest message; paths and process names are all they hold."""


Role = Callable[[], int]
"""What a forked process does once it has unwound the fork server's stack; its exit status."""


@dataclass(frozen=True, slots=True)
class _Spare:
    """A process that waits for an order on `channel`."""

    pid: int
    pidfd: int
    channel: socket.socket


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the worker goes; in each fork: be the attempt, and return its exit status."""
    parser = argparse.ArgumentParser(prog="gooseherd.worker.fork_server")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the fork server's end")
    parser.add_argument("--work", required=True, type=Path, help="the worker's folder")
    given = parser.parse_args(argv)
    _import_all()
    # Objects that exist now are never collected, so that their pages stay shared.
    gc.collect()
    gc.freeze()
    _fork_once()
    worker = socket.socket(fileno=given.socket)
    _send(worker, {"warm": True})
    role = _ForkServer(worker, given.work).serve()
    return 0 if role is None else role()


def _import_all() -> None:
    """Everything that an attempt imports, and what is found or made once in a process."""
    from gooseherd.processing.tools.sandbox import installation_mounts
    from gooseherd.sources import http, session  # noqa: F401
    from gooseherd.worker import (  # noqa: F401
        attempt,
        dependencies,
        engine,
        preparation,
    )

    with suppress(OSError):  # whoever needs them says so
        installation_mounts(os.pathsep.join(os.get_exec_path()))
    try:
        settings = WorkerSettings.from_env()
    except Misconfigured:
        return  # Each attempt says so.
    if settings.bucket is not None:
        from gooseherd.storage.s3 import preload

        preload(settings.region)


def _fork_once() -> None:
    """Fork a process that ends at once: a first fork takes several times as long as the next."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


class _ForkServer:
    """The loop of the process, and what it has forked."""

    def __init__(self, worker: socket.socket, work: Path) -> None:
        self._worker = worker
        self._work = work
        self._children: dict[int, tuple[int, str | None]] = {}
        """pid and folder by pidfd; no folder: a spare that ended before it had one."""
        self._spare: _Spare | None = None
        self._poll = select.poll()
        self._poll.register(worker, select.POLLIN)
        self._child_ended, self._on_child_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._child_ended, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._on_child_end, warn_on_full_buffer=False)
        adopt_orphans()

    def serve(self) -> Role | None:
        """Fork attempts until the worker has gone: None. Returns in each forked process with its role."""
        role = self._fork_spare()
        while role is None:
            for fd, _ in self._poll.poll():
                if fd == self._worker.fileno():
                    order, descriptors, *_ = socket.recv_fds(
                        self._worker, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
                    )
                    if not order:
                        return None
                    role = self._start(order, descriptors[0])
                elif fd == self._child_ended:
                    self._reap_orphans()
                elif self._spare is not None and fd == self._spare.pidfd:
                    # Another is made after the next attempt: what ended this one may end that one, too.
                    self._give_up_spare(self._spare)
                    self._reap(fd)
                else:
                    self._reap(fd)
                    role = self._fork_spare()
                if role is not None:
                    break
        return role

    def _start(self, order: bytes, watchdog: int) -> Role | None:
        folder = str(json.loads(order)["folder"])
        spare = self._spare
        if spare is not None:
            self._give_up_spare(spare, folder)
            try:
                socket.send_fds(spare.channel, [order], [watchdog])
            except OSError:  # It has just ended.
                self._children[spare.pidfd] = spare.pid, None
            else:
                os.close(watchdog)
                return None
            finally:
                spare.channel.close()
        pid = os.fork()
        if pid == 0:
            self._close_in_child()
            return partial(_be_attempt, order, watchdog, self._worker)
        os.close(watchdog)
        self._watch(pid, folder)
        return None

    def _fork_spare(self) -> Role | None:
        if self._spare is not None or self._children:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._close_in_child()
            return partial(_be_spare, theirs, self._work, self._worker)
        theirs.close()
        self._spare = _Spare(pid, os.pidfd_open(pid), ours)
        self._poll.register(self._spare.pidfd, select.POLLIN)
        return None

    def _give_up_spare(self, spare: _Spare, folder: str | None = None) -> None:
        self._spare = None
        self._children[spare.pidfd] = spare.pid, folder

    def _watch(self, pid: int, folder: str) -> None:
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid, folder
        self._poll.register(pidfd, select.POLLIN)

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        pid, folder = self._children.pop(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        # A process that was killed has left it, and another may get its number.
        shutil.rmtree(stand_in_below(self._work, pid), ignore_errors=True)
        if folder is not None:
            _send(self._worker, {"folder": folder, "code": os.waitstatus_to_exitcode(status)})

    def _reap_orphans(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._child_ended, 4096)
        spare = () if self._spare is None else (self._spare.pid,)
        reap_adopted({*spare, *(pid for pid, _ in self._children.values())})

    def _close_in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._child_ended)
        os.close(self._on_child_end)
        for pidfd in self._children:
            os.close(pidfd)
        if self._spare is not None:
            os.close(self._spare.pidfd)
            self._spare.channel.close()


def _be_attempt(order: bytes, watchdog: int, worker: socket.socket) -> int:
    from gooseherd.worker import attempt

    _lead_session()
    return attempt.run(*_introduce(order, worker), watchdog)


def _be_spare(channel: socket.socket, work: Path, worker: socket.socket) -> int:
    from gooseherd.worker import attempt, preparation

    _lead_session()
    loop = asyncio.new_event_loop()
    prepared = preparation.Preparation(work)
    received = loop.run_until_complete(preparation.until_ordered(prepared, channel))
    if received is None:
        prepared.abandon()
        os._exit(0)  # What was being prepared is in its midst, and nobody waits for it.
    order, watchdog = received
    return attempt.run(*_introduce(order, worker), watchdog, loop=loop, preparation=prepared)


def _lead_session() -> None:
    # Before the process id is sent: an attempt is ended by its session.
    os.setsid()


def _introduce(order: bytes, worker: socket.socket) -> tuple[AttemptFolder, ProcessId]:
    """Tell the worker which process it is; its folder and the worker's entrypoint."""
    given = json.loads(order)
    me = ProcessId.of(os.getpid())
    assert me is not None
    _send(worker, {"folder": given["folder"], "process": me.to_json()})
    worker.close()
    return AttemptFolder(Path(given["folder"])), ProcessId.from_json(given["entrypoint"])


def _send(worker: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # The worker has gone; the watchdog of what was forked sees it.
        worker.send(json.dumps(message).encode())


if __name__ == "__main__":
    sys.exit(main())
