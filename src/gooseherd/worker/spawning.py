"""Starts attempt processes by a fork server that is kept ready, and waits for their end."""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final

from gooseherd.processes import ProcessId, describe_exit
from gooseherd.worker.folders import AttemptFolder
from gooseherd.worker.fork_server import MESSAGE_BYTES
from gooseherd.worker.settings import WorkerPlace, attempt_environment

log = logging.getLogger(__name__)

_START_SECONDS: Final = 60.0
"""For the imports of a fork server that was just started, on a machine with other things to do."""
_WATCH_SECONDS: Final = 3600.0


class CannotSpawn(Exception):
    """The fork server does not start, or does not answer."""


class _NothingBegan(CannotSpawn):
    """The fork server, or the process that was to be the attempt, died before it did anything."""


class Spawned:
    """One started attempt process; it leads a session of its own."""

    def __init__(self, process: ProcessId, ended: Future[int | None]) -> None:
        self.process = process
        self._ended = ended

    def wait(self) -> int | None:
        """Block until it has ended; -n for signal n, None when the fork server ended before it could tell."""
        code = self._ended.result()
        while code is None and not self.process.wait(_WATCH_SECONDS):
            pass
        return code


class Spawner:
    """Keeps one fork server, which inherits `environment` only. Usable from any thread."""

    def __init__(self, environment: Mapping[str, str], work: Path) -> None:
        self._environment = dict(environment)
        self._work = work
        self._fork_server: _ForkServer | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Start the fork server, which the first attempt would otherwise wait for."""
        self._current()

    def wait_warm(self, timeout: float) -> bool:
        """Block until it is ready, or `timeout` seconds; whether it is."""
        return self._current().warm.wait(timeout)

    def spawn(self, folder: AttemptFolder, entrypoint: ProcessId, watchdog: socket.socket) -> Spawned:
        """Start the attempt of `folder`; `watchdog` is its end of the watchdog's socket. Blocks.

        Raises:
            CannotSpawn: the fork server or what it forked died twice in a row, or does not answer; what
                may have been started is ended by its watchdog.
        """
        try:
            return self._current().spawn(folder, entrypoint, watchdog)
        except _NothingBegan as error:
            log.warning("an attempt process did not begin, starting another", extra={"error": str(error)})
            return self._current().spawn(folder, entrypoint, watchdog)

    def _current(self) -> _ForkServer:
        with self._lock:
            if self._fork_server is None or self._fork_server.useless:
                self._fork_server = _ForkServer(self._environment, self._work)
            return self._fork_server


class _ForkServer:
    """A running fork server and the calls that wait for its messages."""

    def __init__(self, environment: Mapping[str, str], work: Path) -> None:
        self.useless = False
        """It is gone, or does not answer."""
        self.warm = threading.Event()
        self._lock = threading.Lock()
        self._starts: dict[str, Future[ProcessId]] = {}
        self._ends: dict[str, Future[int | None]] = {}
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "gooseherd.worker.fork_server"),
                    *("--socket", str(theirs.fileno()), "--work", str(work)),
                ],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        threading.Thread(target=self._receive, name="fork-server", daemon=True).start()

    def spawn(self, folder: AttemptFolder, entrypoint: ProcessId, watchdog: socket.socket) -> Spawned:
        name = str(folder.path)
        started: Future[ProcessId] = Future()
        ended: Future[int | None] = Future()
        with self._lock:
            if self.useless:
                raise _NothingBegan("it has ended")
            self._starts[name], self._ends[name] = started, ended
        order = json.dumps({"folder": name, "entrypoint": entrypoint.to_json()}).encode()
        try:
            socket.send_fds(self._ours, [order], [watchdog.fileno()])
            return Spawned(started.result(_START_SECONDS), ended)
        except TimeoutError:
            self.useless = True
            self._process.kill()
            raise CannotSpawn(f"no answer within {_START_SECONDS:g} seconds") from None
        except OSError as error:
            raise _NothingBegan(type(error).__name__) from error

    def _receive(self) -> None:
        with suppress(OSError):
            while message := self._ours.recv(MESSAGE_BYTES):
                self._handle(json.loads(message))
        # All processes that had its end have closed it: no attempt is being started any more.
        code = self._process.wait()
        with self._lock:
            self.useless = True
            starts, ends = list(self._starts.values()), list(self._ends.values())
        self.warm.set()
        for started in starts:
            started.set_exception(_NothingBegan(f"it {describe_exit(code)}"))
        for ended in ends:
            ended.set_result(None)
        self._ours.close()

    def _handle(self, message: Mapping[str, object]) -> None:
        if "warm" in message:
            self.warm.set()
            return
        name = str(message["folder"])
        with self._lock:
            started = self._starts.pop(name, None)
            ended = self._ends.pop(name, None) if "code" in message else None
        if isinstance(process := message.get("process"), dict):
            if started is not None:
                started.set_result(ProcessId.from_json(process))
            return
        code = message["code"]
        assert isinstance(code, int)
        if started is not None:
            # The process tells who it is before anything else, and what it sends comes before its end.
            started.set_exception(
                _NothingBegan(f"the attempt process ended before it began ({describe_exit(code)})")
            )
        if ended is not None:
            ended.set_result(code)


@functools.cache
def spawner() -> Spawner:
    """The one of the worker whose server process this is. Raises Misconfigured elsewhere."""
    return Spawner(attempt_environment(os.environ), WorkerPlace.from_env().work)
