"""Supervises the attempts of one worker: starts, watches and cancels their processes.

Runs in Wool's child process and depends on none of its event loops, which come and go; a started
attempt goes on when its watchers are gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind, TemporaryCredentials
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.failures import Failure, Reason
from gooseherd.processes import ProcessId, describe_exit, end_session
from gooseherd.worker.failure_reason import EXIT_NO_ROOM, FULL_DISK
from gooseherd.worker.folders import AttemptFolder, is_draining, keep, write_secret
from gooseherd.worker.journal import JournalReader
from gooseherd.worker.resources import oom_kills
from gooseherd.worker.spawning import Spawned, Spawner
from gooseherd.worker.watchdog import STOP_SECONDS

log = logging.getLogger(__name__)

HUNG_SECONDS: Final = 120.0
"""An attempt that writes nothing for that long, not even its heartbeat every 2 s, hangs."""
EXIT_SECONDS: Final = 10.0
"""From an attempt's last event, or SIGKILL, to its process's end: on a busy machine that takes a while."""
_POLL_SECONDS: Final = 1.0
"""A watcher reads the journal at least that often, although it is woken when the journal grows."""
_REMEMBERED: Final = 20
"""Ended attempts whose journal is kept, for a watcher that comes late."""

_KILLED_FOR_MEMORY: Final = Failure(Reason.OUT_OF_MEMORY, "the attempt was killed for want of memory")

Message = dict[str, Any]


class _RunningAttempt:
    """One started process, the thread that waits for its end, and the one that receives its wake-ups."""

    def __init__(
        self, spec: AttemptSpec, folder: AttemptFolder, spawned: Spawned, wakeup_socket: socket.socket
    ):
        self.folder = folder
        self.ended = threading.Event()
        self.diagnosis = ""
        self.exhausted: Failure | None = None
        """Memory or disk, which it lacked so much that it could not write its last event."""
        self._spawned = spawned
        self._wakeup_socket = wakeup_socket
        self._kills = oom_kills()
        self._identity = spawned.process
        self._name = str(spec.attempt)
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._watchers_lock = threading.Lock()
        threading.Thread(target=self._wait, name=f"attempt {self._name}", daemon=True).start()
        threading.Thread(target=self._forward_wakeups, name=f"wake-ups {self._name}", daemon=True).start()

    def _wait(self) -> None:
        code = self._spawned.wait()
        self.diagnosis = f"attempt process {describe_exit(code)}"
        if code == -signal.SIGKILL and oom_kills() > self._kills:
            self.exhausted = _KILLED_FOR_MEMORY
        elif code == EXIT_NO_ROOM:
            self.exhausted = FULL_DISK
        # The tools of a killed attempt have lost their parent, not their lives.
        end_session(self._identity)
        shutil.rmtree(self.folder.scratch, ignore_errors=True)
        self.folder.forget_secrets()
        with suppress(OSError):
            self._wakeup_socket.shutdown(socket.SHUT_RDWR)
        self.ended.set()
        self._wake_watchers()
        log.info("attempt ended", extra={"attempt": self._name, "how": self.diagnosis})

    def _forward_wakeups(self) -> None:
        """Ends with the process, which closes the other end of the socket."""
        with self._wakeup_socket, suppress(OSError):
            while self._wakeup_socket.recv(4096):
                self._wake_watchers()

    def _wake_watchers(self) -> None:
        with self._watchers_lock:
            wakeups = list(self._watchers)
        for loop, wakeup in wakeups:
            with suppress(RuntimeError):  # The loop was closed.
                loop.call_soon_threadsafe(wakeup.set)

    @contextmanager
    def wakeup(self) -> Iterator[asyncio.Event]:
        """Set, in the running loop, whenever the journal has grown and when the process has ended."""
        mine = (asyncio.get_running_loop(), asyncio.Event())
        with self._watchers_lock:
            self._watchers.add(mine)
        try:
            yield mine[1]
        finally:
            with self._watchers_lock:
                self._watchers.discard(mine)

    def is_active(self) -> bool:
        """False once its last event is written, although the process may still exist for a moment."""
        return not (self.ended.is_set() or self._wrote_last_event())

    def _wrote_last_event(self) -> bool:
        with JournalReader(self.folder.journal) as reader:
            return any(event.last for event in reader.read())

    def final_message(self, newest: int) -> Message:
        """The last message of a process that wrote no last event; `newest`: last position in its journal."""
        if (lacked := self.exhausted) is None:
            return {"lost": self.diagnosis}
        last = Event(newest + 1, EventKind.FAILED, time.time(), reason=lacked.reason, detail=lacked.detail)
        return {"event": last.to_json()}

    def end(self) -> bool:
        """SIGTERM, a grace, then `kill`. Blocks."""
        # Only the leader gets it: it ends its tools in order, and knows that they did not fail.
        if self._identity.signal(signal.SIGTERM):
            self.ended.wait(STOP_SECONDS)
        return self.kill()

    def kill(self) -> bool:
        """SIGKILL to the whole session; whether it is empty. Blocks, but not for what no signal ends."""
        if not self.ended.is_set():
            end_session(self._identity)
        return self.ended.wait(EXIT_SECONDS)


class AttemptSupervisor:
    """All attempts of this worker; one runs at a time. Answers are plain data, they cross the wire."""

    def __init__(self, *, work: Path, build: str, entrypoint: ProcessId, spawner: Spawner) -> None:
        self._work = work
        self._build = build
        self._entrypoint = entrypoint
        self._spawner = spawner
        self._attempts: dict[AttemptId, _RunningAttempt] = {}
        self._lock = threading.Lock()
        self._started_at = time.monotonic()
        self._instance = uuid.uuid4().hex
        self._claimed_by = ""
        self._claimed_until = 0.0

    def describe(self) -> Message:
        """Build, uptime in seconds, active attempts. Blocks."""
        return {
            "build": self._build,
            "instance": self._instance,
            "claimed_by": self._claim(),
            "uptime_seconds": time.monotonic() - self._started_at,
            "attempts": [str(name) for name, attempt in list(self._attempts.items()) if attempt.is_active()],
            "draining": is_draining(self._work),
        }

    def keep(self, seconds: float) -> Message:
        """The worker does not end for being idle for so long, from now on. Answers as `describe`. Blocks."""
        keep(self._work, seconds)
        return self.describe()

    def _claim(self) -> str:
        return self._claimed_by if time.monotonic() < self._claimed_until else ""

    def claim(self, name: str, seconds: float) -> Message:
        """For `seconds` no attempt but `name` is started; 0 gives the claim back. Blocks."""
        self._wait_for_finished()
        with self._lock:
            if (other := self._claim()) and other != name:
                return {"busy": other}
            if seconds and (other := self._running_beside(name)):
                return {"busy": other}
            self._claimed_by, self._claimed_until = name, time.monotonic() + seconds
        return self.describe()

    def _running_beside(self, name: str) -> str:
        running = (str(one) for one, attempt in self._attempts.items() if not attempt.ended.is_set())
        return next((one for one in running if one != name), "")

    def end_worker(self, name: str = "") -> Message:
        """The worker's entrypoint gets SIGTERM: it drains and ends. Blocks briefly.

        With a `name` not while it works or is claimed for another, which is `busy`: services share workers,
        and one that was away may ask for the end of what is no longer its own.
        """
        with self._lock:
            for other in (self._claim(), self._running_beside(name)):
                if name and other not in {"", name}:
                    return {"busy": other}
            self._entrypoint.signal(signal.SIGTERM)
        return self.describe()

    def start(self, order: Mapping[str, Any]) -> Message:
        """Start the attempt unless it was started before. Blocks; not interruptible, hence atomic."""
        if order.get("build") != self._build:
            return {
                "misconfigured": "build",
                "problem": f"the worker is {self._build}, the sender is another",
            }
        try:
            spec = AttemptSpec.from_json(order)
            folder = AttemptFolder.of(self._work, spec.attempt)
        except (InvalidInput, KeyError, TypeError, ValueError) as error:
            problem = str(error) if isinstance(error, InvalidInput) else type(error).__name__
            return {"misconfigured": "attempt", "problem": f"unreadable order: {problem}"}
        self._wait_for_finished()
        with self._lock:
            if spec.attempt in self._attempts:
                return {"started": True}
            running = [name for name, other in self._attempts.items() if not other.ended.is_set()]
            if running:
                return {"busy": str(running[0])}
            if (claimed_by := self._claim()) not in {"", str(spec.attempt)}:
                return {"busy": claimed_by}
            self._claimed_until = 0.0
            folder.path.mkdir(parents=True)
            if is_draining(self._work):
                shutil.rmtree(folder.path)
                return {"draining": True}
            self._forget_old()
            try:
                if spec.credentials is not None:
                    write_secret(folder.credentials, spec.credentials.to_json())
                if spec.source_access is not None:
                    write_secret(folder.source_access, spec.source_access.to_json())
                plain = replace(spec, credentials=None, source_access=None)
                folder.spec.write_text(json.dumps(plain.to_json()))
                self._attempts[spec.attempt] = self._spawn(spec, folder)
            except BaseException:
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        log.info("attempt started", extra={"attempt": str(spec.attempt)})
        return {"started": True}

    def _wait_for_finished(self) -> None:
        """Wait for attempts that have written their last event: their processes are about to end. Blocks."""
        for attempt in list(self._attempts.values()):
            if not attempt.is_active():
                attempt.ended.wait(EXIT_SECONDS)

    def _spawn(self, spec: AttemptSpec, folder: AttemptFolder) -> _RunningAttempt:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                spawned = self._spawner.spawn(folder, self._entrypoint, theirs)
            folder.record_process(spawned.process)
            return _RunningAttempt(spec, folder, spawned, ours)
        except BaseException:
            ours.close()  # Ends what was started: its watchdog sees the close.
            raise

    def _forget_old(self) -> None:
        ended = [name for name, attempt in self._attempts.items() if attempt.ended.is_set()]
        for name in ended[:-_REMEMBERED]:
            shutil.rmtree(self._attempts.pop(name).folder.path, ignore_errors=True)

    async def watch(self, name: AttemptId, from_seq: int, heartbeat_seconds: float) -> AsyncIterator[Message]:
        """Each event from `from_seq` on, the last one in any case; a heartbeat when there is none.

        Such a heartbeat repeats the newest position. Ends with `lost` when the process ended
        without a last event, with `unknown` when there is no such attempt.
        """
        attempt = self._attempts.get(name)
        if attempt is None:
            yield {"unknown": True}
            return
        newest = 0
        read_at = sent_at = time.monotonic()
        with attempt.wakeup() as wakeup, JournalReader(attempt.folder.journal) as reader:
            while True:
                wakeup.clear()
                # In this order: what was written before the end was written before it is read.
                over = attempt.ended.is_set()
                for event in reader.read():
                    read_at = time.monotonic()
                    newest = event.seq
                    if event.seq >= from_seq or event.last:
                        sent_at = read_at
                        yield {"event": event.to_json()}
                    if event.last:
                        return
                if over:
                    yield attempt.final_message(newest)
                    return
                now = time.monotonic()
                if now - read_at > HUNG_SECONDS:
                    await asyncio.to_thread(attempt.kill)
                    yield {"lost": f"attempt process wrote nothing for {HUNG_SECONDS:g} seconds"}
                    return
                if now - sent_at > heartbeat_seconds:
                    sent_at = now
                    yield {"event": {"seq": newest, "kind": str(EventKind.HEARTBEAT), "at": time.time()}}
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(_POLL_SECONDS, sent_at + heartbeat_seconds - now)):
                        await wakeup.wait()

    def renew_credentials(self, name: AttemptId, credentials: Mapping[str, Any]) -> Message:
        """Replace those of an attempt that had some. Blocks."""
        renewed = TemporaryCredentials.from_json(credentials)
        attempt = self._attempts.get(name)
        if attempt is None or attempt.ended.is_set():
            return {"unknown": True}
        if attempt.folder.credentials.exists():
            write_secret(attempt.folder.credentials, renewed.to_json())
        return {"renewed": True}

    def cancel(self, name: AttemptId) -> Message:
        """End the attempt and remove its folder; `failed` when its processes do not go. Blocks."""
        attempt = self._attempts.get(name)
        if attempt is None:
            return {"cancelled": False}
        if not attempt.ended.is_set():
            with suppress(FileNotFoundError):  # Somebody else cancelled it and was faster.
                attempt.folder.cancelled.touch()
        if not attempt.end():
            return {"failed": "the attempt's processes cannot be ended"}
        with self._lock:
            self._attempts.pop(name, None)
        shutil.rmtree(attempt.folder.path, ignore_errors=True)
        return {"cancelled": True}
