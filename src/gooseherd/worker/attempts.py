"""The attempts of one worker: started once, watched by anybody, ended for certain.

Lives in Wool's child process and depends on none of its event loops, which come and go;
an attempt that was started goes on whoever stops listening.
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
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.failures import Failure, Reason
from gooseherd.processes import ProcessId, describe_exit, end_session
from gooseherd.worker.failure_reason import EXIT_NO_ROOM, FULL_DISK
from gooseherd.worker.folders import AttemptFolder, is_draining
from gooseherd.worker.journal import JournalReader
from gooseherd.worker.resources import oom_kills
from gooseherd.worker.spawning import Spawned, Spawner
from gooseherd.worker.watchdog import STOP_SECONDS

log = logging.getLogger(__name__)

HUNG_SECONDS: Final = 120.0
"""An attempt that writes nothing for that long, not even its heartbeat every 2 s, is stopped or wedged."""
FAREWELL_SECONDS: Final = 10.0
"""From an attempt's last event, or SIGKILL, to its process's end: on a busy machine that takes a while."""
_LOOK_SECONDS: Final = 1.0
"""A watcher looks at the journal at least that often, although it is told when it grows."""
_REMEMBERED: Final = 20
"""Ended attempts whose journal is kept, for a watcher that comes late."""

_KILLED_FOR_MEMORY: Final = Failure(Reason.OUT_OF_MEMORY, "the attempt was killed for want of memory")

Answer = dict[str, Any]


class _Attempt:
    """One started process, the thread that waits for its end, and the one that hears it write."""

    def __init__(self, spec: AttemptSpec, folder: AttemptFolder, spawned: Spawned, line: socket.socket):
        self.folder = folder
        self.ended = threading.Event()
        self.diagnosis = ""
        self.starved: Failure | None = None
        """What it lacked so much that it could not say so itself."""
        self._spawned = spawned
        self._line = line
        self._kills = oom_kills()
        self._identity = spawned.process
        self._name = str(spec.attempt)
        self._listening: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._listening_lock = threading.Lock()
        threading.Thread(target=self._wait, name=f"attempt {self._name}", daemon=True).start()
        threading.Thread(target=self._hear, name=f"line {self._name}", daemon=True).start()

    def _wait(self) -> None:
        code = self._spawned.wait()
        self.diagnosis = f"attempt process {describe_exit(code)}"
        if code == -signal.SIGKILL and oom_kills() > self._kills:
            self.starved = _KILLED_FOR_MEMORY
        elif code == EXIT_NO_ROOM:
            self.starved = FULL_DISK
        # The tools of a killed attempt have lost their parent, not their lives.
        end_session(self._identity)
        shutil.rmtree(self.folder.scratch, ignore_errors=True)
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self.ended.set()
        self._ring()
        log.info("attempt ended", extra={"attempt": self._name, "how": self.diagnosis})

    def _hear(self) -> None:
        """Its end of the line closes with the process, so does this thread end."""
        with self._line, suppress(OSError):
            while self._line.recv(4096):
                self._ring()

    def _ring(self) -> None:
        with self._listening_lock:
            wakeups = list(self._listening)
        for loop, wakeup in wakeups:
            with suppress(RuntimeError):  # A loop that was closed hears nothing.
                loop.call_soon_threadsafe(wakeup.set)

    @contextmanager
    def wakeup(self) -> Iterator[asyncio.Event]:
        """Set, in the running loop, whenever the journal has grown and when the process has ended."""
        mine = (asyncio.get_running_loop(), asyncio.Event())
        with self._listening_lock:
            self._listening.add(mine)
        try:
            yield mine[1]
        finally:
            with self._listening_lock:
                self._listening.discard(mine)

    def is_at_work(self) -> bool:
        """Not once its last event is written, though the process may still be there for a moment."""
        return not (self.ended.is_set() or self._has_ended())

    def _has_ended(self) -> bool:
        with JournalReader(self.folder.journal) as reader:
            return any(event.last for event in reader.read())

    def last_words(self, newest: int) -> Answer:
        """What is said for a process that ended without its own; `newest` is what was read of its journal."""
        if (lacked := self.starved) is None:
            return {"lost": self.diagnosis}
        last = Event(newest + 1, EventKind.FAILED, time.time(), reason=lacked.reason, detail=lacked.detail)
        return {"event": last.to_json()}

    def end(self) -> bool:
        """SIGTERM, a grace, then `kill`. Blocks."""
        # Only the leader is asked: it ends its tools in order, and knows that it was no failure of theirs.
        if self._identity.signal(signal.SIGTERM):
            self.ended.wait(STOP_SECONDS)
        return self.kill()

    def kill(self) -> bool:
        """SIGKILL to the whole session; whether it is empty. Blocks, but not for what no signal ends."""
        if not self.ended.is_set():
            end_session(self._identity)
        return self.ended.wait(FAREWELL_SECONDS)


class Attempts:
    """All attempts of this worker; one lives at a time. Answers are plain data, they cross the wire."""

    def __init__(self, *, work: Path, build: str, entrypoint: ProcessId, spawner: Spawner) -> None:
        self._work = work
        self._build = build
        self._entrypoint = entrypoint
        self._spawner = spawner
        self._attempts: dict[AttemptId, _Attempt] = {}
        self._lock = threading.Lock()
        self._started_at = time.monotonic()

    def describe(self) -> Answer:
        """Build, uptime in seconds, attempts at work. Blocks."""
        return {
            "build": self._build,
            "uptime_seconds": time.monotonic() - self._started_at,
            "attempts": [str(name) for name, attempt in list(self._attempts.items()) if attempt.is_at_work()],
            "draining": is_draining(self._work),
        }

    def start(self, order: Mapping[str, Any]) -> Answer:
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
        self._see_off()
        with self._lock:
            if spec.attempt in self._attempts:
                return {"started": True}
            running = [name for name, other in self._attempts.items() if not other.ended.is_set()]
            if running:
                return {"busy": str(running[0])}
            folder.path.mkdir(parents=True)
            if is_draining(self._work):
                shutil.rmtree(folder.path)
                return {"draining": True}
            self._forget_old()
            try:
                folder.spec.write_text(json.dumps(spec.to_json()))
                self._attempts[spec.attempt] = self._spawn(spec, folder)
            except BaseException:
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        log.info("attempt started", extra={"attempt": str(spec.attempt)})
        return {"started": True}

    def _see_off(self) -> None:
        """Wait for attempts that have said their last word: they are leaving, not at work. Blocks."""
        for attempt in list(self._attempts.values()):
            if not attempt.is_at_work():
                attempt.ended.wait(FAREWELL_SECONDS)

    def _spawn(self, spec: AttemptSpec, folder: AttemptFolder) -> _Attempt:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                spawned = self._spawner.spawn(folder, self._entrypoint, theirs)
            folder.record_process(spawned.process)
            return _Attempt(spec, folder, spawned, ours)
        except BaseException:
            ours.close()  # Whatever was started ends with it.
            raise

    def _forget_old(self) -> None:
        ended = [name for name, attempt in self._attempts.items() if attempt.ended.is_set()]
        for name in ended[:-_REMEMBERED]:
            shutil.rmtree(self._attempts.pop(name).folder.path, ignore_errors=True)

    async def watch(self, name: AttemptId, from_seq: int, heartbeat_seconds: float) -> AsyncIterator[Answer]:
        """Each event from `from_seq` on, the last one in any case; a heartbeat when there is none.

        Such a heartbeat repeats the newest position. Ends with `lost` when the process ended
        without a last event, with `unknown` when there is no such attempt.
        """
        attempt = self._attempts.get(name)
        if attempt is None:
            yield {"unknown": True}
            return
        newest = 0
        heard = sent_at = time.monotonic()
        with attempt.wakeup() as wakeup, JournalReader(attempt.folder.journal) as reader:
            while True:
                wakeup.clear()
                # In this order: what was written before the end was written before it is read.
                over = attempt.ended.is_set()
                for event in reader.read():
                    heard = time.monotonic()
                    newest = event.seq
                    if event.seq >= from_seq or event.last:
                        sent_at = heard
                        yield {"event": event.to_json()}
                    if event.last:
                        return
                if over:
                    yield attempt.last_words(newest)
                    return
                now = time.monotonic()
                if now - heard > HUNG_SECONDS:
                    await asyncio.to_thread(attempt.kill)
                    yield {"lost": f"attempt process said nothing for {HUNG_SECONDS:g} seconds"}
                    return
                if now - sent_at > heartbeat_seconds:
                    sent_at = now
                    yield {"event": {"seq": newest, "kind": str(EventKind.HEARTBEAT), "at": time.time()}}
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(_LOOK_SECONDS, sent_at + heartbeat_seconds - now)):
                        await wakeup.wait()

    def cancel(self, name: AttemptId) -> Answer:
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
