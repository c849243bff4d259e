"""The process that attempts are forked from: all they need is imported here, so one starts in milliseconds.

`python -m gooseherd.worker.fork_server` talks with its worker over a socket it inherits
(SOCK_SEQPACKET, one JSON object a message), and ends when the worker's end closes.

    to it    {"folder", "entrypoint"} and a descriptor, the watchdog's pipe: start the attempt of that folder
    from it  {"warm": true}           once, when all imports are done
             {"folder", "process"}    sent by the attempt itself, once it leads a session
             {"folder", "code"}       once the attempt has ended; -n for signal n

It has no threads, no event loop and no connections: what it forks begins as clean as if it
had been started anew.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId
from gooseherd.worker.folders import AttemptFolder
from gooseherd.worker.settings import WorkerSettings

MESSAGE_BYTES: Final = 64 << 10
"""Of the longest message; paths and process names are all they hold."""


@dataclass(frozen=True, slots=True)
class _ForkedAttempt:
    """The arguments of attempt.run in a forked process."""

    folder: AttemptFolder
    entrypoint: ProcessId
    watchdog: int


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the worker goes; in each fork: be the attempt, and return its exit status."""
    parser = argparse.ArgumentParser(prog="gooseherd.worker.fork_server")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the fork server's end")
    parser.add_argument("--work", required=True, help="the worker's folder; shown in lists of processes only")
    given = parser.parse_args(argv)
    _import_all()
    # Objects that exist now are never collected, so that their pages stay shared.
    gc.collect()
    gc.freeze()
    _fork_once()
    worker = socket.socket(fileno=given.socket)
    _send(worker, {"warm": True})
    forked = _serve(worker)
    if forked is None:
        return 0
    from gooseherd.worker import attempt

    return attempt.run(forked.folder, forked.entrypoint, forked.watchdog)


def _import_all() -> None:
    """Everything that an attempt imports, and what boto3 makes once in a process."""
    from gooseherd.sources import http, session  # noqa: F401
    from gooseherd.worker import (  # noqa: F401
        attempt,
        dependencies,
        engine,
    )

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


def _serve(worker: socket.socket) -> _ForkedAttempt | None:
    """Fork attempts until the worker has gone: None. Returns in each forked process with its arguments."""
    children: dict[int, tuple[int, str]] = {}
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != worker.fileno():
                poll.unregister(fd)
                pid, folder = children.pop(fd)
                os.close(fd)
                _, status = os.waitpid(pid, 0)
                _send(worker, {"folder": folder, "code": os.waitstatus_to_exitcode(status)})
                continue
            message, descriptors, *_ = socket.recv_fds(worker, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            if not message:
                return None
            order, watchdog = json.loads(message), descriptors[0]
            pid = os.fork()
            if pid == 0:
                for pidfd in children:
                    os.close(pidfd)
                return _become_attempt(order, watchdog, worker)
            os.close(watchdog)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid, order["folder"]
            poll.register(pidfd, select.POLLIN)


def _become_attempt(order: Mapping[str, Any], watchdog: int, worker: socket.socket) -> _ForkedAttempt:
    # Before the process id is sent: an attempt is ended by its session.
    os.setsid()
    me = ProcessId.of(os.getpid())
    assert me is not None
    _send(worker, {"folder": order["folder"], "process": me.to_json()})
    worker.close()
    return _ForkedAttempt(
        AttemptFolder(Path(order["folder"])), ProcessId.from_json(order["entrypoint"]), watchdog
    )


def _send(worker: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # The worker has gone; the watchdog of what was forked sees it.
        worker.send(json.dumps(message).encode())


if __name__ == "__main__":
    sys.exit(main())
