"""The attempts of one worker: started once, watched by anybody, ended for certain.

Lives in Wool's child process and depends on none of its event loops, which come and go;
an attempt that was started goes on whoever stops listening.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.attempt import AttemptId, AttemptSpec, EventKind
from gooseherd.domain.errors import InvalidInput
from gooseherd.processes import ProcessId, describe_exit, end_session
from gooseherd.worker.folders import AttemptFolder, is_draining
from gooseherd.worker.journal import POLL_SECONDS, JournalReader
from gooseherd.worker.memory import oom_kills
from gooseherd.worker.settings import attempt_environment

log = logging.getLogger(__name__)

CANCEL_GRACE_SECONDS: Final = 2.0
"""Between SIGTERM to an attempt and SIGKILL to its session."""
HUNG_SECONDS: Final = 120.0
"""An attempt that writes nothing for that long, not even its heartbeat every 2 s, is stopped or wedged."""
FAREWELL_SECONDS: Final = 10.0
"""From an attempt's last event to its process's end: an interpreter that shuts down, on a busy machine."""
_REMEMBERED: Final = 20
"""Ended attempts whose journal is kept, for a watcher that comes late."""

Answer = dict[str, Any]


class _Attempt:
    """One started process, and the thread that waits for its end."""

    def __init__(self, spec: AttemptSpec, folder: AttemptFolder, process: subprocess.Popen[bytes], pipe: int):
        self.folder = folder
        self.ended = threading.Event()
        self.diagnosis = ""
        self._process = process
        self._pipe = pipe
        self._kills = oom_kills()
        self._identity = ProcessId.of_child(process.pid)
        folder.record_process(self._identity)
        self._name = str(spec.attempt)
        threading.Thread(target=self._wait, name=f"attempt {self._name}", daemon=True).start()

    def _wait(self) -> None:
        code = self._process.wait()
        self.diagnosis = f"attempt process {describe_exit(code)}"
        if code == -signal.SIGKILL and oom_kills() > self._kills:
            self.diagnosis += " (out of memory)"
        # The tools of a killed attempt have lost their parent, not their lives.
        end_session(self._identity)
        shutil.rmtree(self.folder.scratch, ignore_errors=True)
        os.close(self._pipe)
        self.ended.set()
        log.info("attempt ended", extra={"attempt": self._name, "how": self.diagnosis})

    def is_at_work(self) -> bool:
        """Not once its last event is written, though the process may still be there for a moment."""
        return not (self.ended.is_set() or self._has_said_all())

    def _has_said_all(self) -> bool:
        with JournalReader(self.folder.journal) as reader:
            return any(event.last for event in reader.read())

    def end(self) -> None:
        """SIGTERM, a grace, SIGKILL to the whole session; returns when it is empty. Blocks."""
        # Only the leader is asked: it ends its tools in order, and knows that it was no failure of theirs.
        if self._identity.signal(signal.SIGTERM):
            self.ended.wait(CANCEL_GRACE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole session; returns when it is empty. Blocks."""
        if not self.ended.is_set():
            end_session(self._identity)
        self.ended.wait()


class Host:
    """All attempts of this worker; one lives at a time. Answers are plain data, they cross the wire."""

    def __init__(
        self, *, work: Path, build: str, entrypoint: ProcessId, environment: Mapping[str, str]
    ) -> None:
        self._work = work
        self._build = build
        self._entrypoint = entrypoint
        self._environment = attempt_environment(environment)
        self._attempts: dict[AttemptId, _Attempt] = {}
        self._lock = threading.Lock()
        self._started_at = time.monotonic()

    def describe(self) -> Answer:
        """Build, uptime in seconds, attempts at work. Blocks."""
        return {
            "build": self._build,
            "uptime_seconds": time.monotonic() - self._started_at,
            "attempts": [
                str(name) for name, attempt in list(self._attempts.items()) if attempt.is_at_work()
            ],
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
            said = str(error) if isinstance(error, InvalidInput) else type(error).__name__
            return {"misconfigured": "attempt", "problem": f"unreadable order: {said}"}
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
        theirs, ours = os.pipe()
        try:
            with folder.log.open("wb") as out:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "gooseherd.worker.attempt"),
                        *("--folder", str(folder.path), "--lifeline", str(theirs)),
                        *("--entrypoint", json.dumps(self._entrypoint.to_json())),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=folder.path,
                    env={**self._environment, "TMPDIR": str(folder.temporary)},
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return _Attempt(spec, folder, process, ours)

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
        heard = said = time.monotonic()
        with JournalReader(attempt.folder.journal) as reader:
            while True:
                # In this order: what was written before the end was written before it is read.
                over = attempt.ended.is_set()
                for event in reader.read():
                    heard = time.monotonic()
                    newest = event.seq
                    if event.seq >= from_seq or event.last:
                        said = heard
                        yield {"event": event.to_json()}
                    if event.last:
                        return
                if over:
                    yield {"lost": attempt.diagnosis}
                    return
                now = time.monotonic()
                if now - heard > HUNG_SECONDS:
                    await asyncio.to_thread(attempt.kill)
                    yield {"lost": f"attempt process said nothing for {HUNG_SECONDS:g} seconds"}
                    return
                if now - said > heartbeat_seconds:
                    said = now
                    yield {"event": {"seq": newest, "kind": str(EventKind.HEARTBEAT), "at": time.time()}}
                await asyncio.sleep(POLL_SECONDS)

    def cancel(self, name: AttemptId) -> Answer:
        """End the attempt and remove its folder; returns when both are gone. Blocks."""
        attempt = self._attempts.get(name)
        if attempt is None:
            return {"cancelled": False}
        if not attempt.ended.is_set():
            with suppress(FileNotFoundError):  # Somebody else cancelled it and was faster.
                attempt.folder.cancelled.touch()
        attempt.end()
        with self._lock:
            self._attempts.pop(name, None)
        shutil.rmtree(attempt.folder.path, ignore_errors=True)
        return {"cancelled": True}
