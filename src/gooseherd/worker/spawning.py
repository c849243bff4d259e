"""Starts attempt processes by a fork server that is kept ready, and learns how they end."""

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

_BIRTH_SECONDS: Final = 60.0
"""For the imports of a fork server that was just started, on a machine with other things to do."""
_WATCH_SECONDS: Final = 3600.0


class CannotSpawn(Exception):
    """The fork server does not start, or does not answer."""


class _ForkServerGone(CannotSpawn):
    """It died before it did anything."""


class Spawned:
    """One started attempt process; it leads a session of its own."""

    def __init__(self, process: ProcessId, ended: Future[int | None]) -> None:
        self.process = process
        self._ended = ended

    def wait(self) -> int | None:
        """Block until it has ended; -n for signal n, None when only its parent knew and is gone too."""
        code = self._ended.result()
        while code is None and not self.process.wait(_WATCH_SECONDS):
            pass
        return code


class Spawner:
    """Keeps one fork server, with `environment` and nothing else of ours. Usable from any thread."""

    def __init__(self, environment: Mapping[str, str], work: Path) -> None:
        self._environment = dict(environment)
        self._work = work
        self._fork_server: _ForkServer | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Begin to make ready what the first attempt would otherwise wait for."""
        self._current()

    def wait_warm(self, timeout: float) -> bool:
        """Block until it is ready, or `timeout` seconds; whether it is."""
        return self._current().warm.wait(timeout)

    def spawn(self, folder: AttemptFolder, entrypoint: ProcessId, watchdog: socket.socket) -> Spawned:
        """Start the attempt of `folder`; `watchdog` is its end of the line. Blocks.

        Raises:
            CannotSpawn: two fork servers in a row died, or one does not answer; what may have been
                started is ended by its watchdog.
        """
        try:
            return self._current().spawn(folder, entrypoint, watchdog)
        except _ForkServerGone as error:
            log.warning("fork server is gone, starting another", extra={"error": str(error)})
            return self._current().spawn(folder, entrypoint, watchdog)

    def _current(self) -> _ForkServer:
        with self._lock:
            if self._fork_server is None or self._fork_server.useless:
                self._fork_server = _ForkServer(self._environment, self._work)
            return self._fork_server


class _ForkServer:
    """A running fork server and who waits for its messages."""

    def __init__(self, environment: Mapping[str, str], work: Path) -> None:
        self.useless = False
        """It is gone, or as good as gone."""
        self.warm = threading.Event()
        self._lock = threading.Lock()
        self._births: dict[str, Future[ProcessId]] = {}
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
        threading.Thread(target=self._listen, name="fork-server", daemon=True).start()

    def spawn(self, folder: AttemptFolder, entrypoint: ProcessId, watchdog: socket.socket) -> Spawned:
        name = str(folder.path)
        born: Future[ProcessId] = Future()
        ended: Future[int | None] = Future()
        with self._lock:
            if self.useless:
                raise _ForkServerGone("it has ended")
            self._births[name], self._ends[name] = born, ended
        order = json.dumps({"folder": name, "entrypoint": entrypoint.to_json()}).encode()
        try:
            socket.send_fds(self._ours, [order], [watchdog.fileno()])
            return Spawned(born.result(_BIRTH_SECONDS), ended)
        except TimeoutError:
            self.useless = True
            self._process.kill()
            raise CannotSpawn(f"no answer within {_BIRTH_SECONDS:g} seconds") from None
        except OSError as error:
            raise _ForkServerGone(type(error).__name__) from error

    def _listen(self) -> None:
        with suppress(OSError):
            while message := self._ours.recv(MESSAGE_BYTES):
                self._hear(json.loads(message))
        # Its end is closed by all that had it: no attempt is on its way any more.
        code = self._process.wait()
        with self._lock:
            self.useless = True
            births, ends = list(self._births.values()), list(self._ends.values())
        self.warm.set()
        for born in births:
            born.set_exception(_ForkServerGone(f"it {describe_exit(code)}"))
        for ended in ends:
            ended.set_result(None)
        self._ours.close()

    def _hear(self, message: Mapping[str, object]) -> None:
        if "warm" in message:
            self.warm.set()
            return
        name = str(message["folder"])
        with self._lock:
            born = self._births.pop(name, None)
            ended = self._ends.pop(name, None) if "code" in message else None
        if isinstance(process := message.get("process"), dict):
            if born is not None:
                born.set_result(ProcessId.from_json(process))
            return
        code = message["code"]
        assert isinstance(code, int)
        if born is not None:
            born.set_exception(CannotSpawn(f"the attempt process ended at once ({code})"))
        if ended is not None:
            ended.set_result(code)


@functools.cache
def spawner() -> Spawner:
    """The one of the worker whose server process this is. Raises Misconfigured elsewhere."""
    return Spawner(attempt_environment(os.environ), WorkerPlace.from_env().work)
