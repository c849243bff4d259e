"""The attempt process: one order, in its own session, with bounds, ending with a named reason.

Forked from the worker's fork server (fork_server.py) with a folder that holds the order. It
outlives the conversation that started it, but not the worker.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from gooseherd.domain.attempt import AttemptSpec, EventKind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.processes import ProcessId, end_session
from gooseherd.telemetry import configure_logging
from gooseherd.worker.failure_reason import EXIT_NO_ROOM, failure_of, lacks_room
from gooseherd.worker.folders import AttemptFolder
from gooseherd.worker.journal import Journal
from gooseherd.worker.settings import WorkerSettings
from gooseherd.worker.watchdog import LAST_WORDS_SECONDS, Watchdog

log = logging.getLogger(__name__)

NICENESS: Final = 10
OOM_SCORE: Final = 500
"""Of -1000 to 1000 (proc(5), oom_score_adj): like half the memory more."""
KEPT_FREE: Final = 64 << 20
"""Bytes of the disk that no attempt takes: the journal that tells of its end needs some."""
HEARTBEAT_SECONDS: Final = 2.0
_PR_SET_NAME: Final = 15  # prctl(2)
LATE_GRACE_SECONDS: Final = 10.0
"""What is left for an orderly end after the wall limit, before the session is killed."""


class _Ending:
    """Stops the run and remembers why; the first reason stands. For the event loop's thread.

    `hard` is what happens to a run that does not end in time; it runs in a thread of its own.
    """

    def __init__(self, hard: Callable[[float, Failure], None]) -> None:
        self.failure: Failure | None = None
        self.run: asyncio.Task[None] | None = None
        self._hard = hard

    def because(self, reason: Reason, detail: str, *, within: float | None = None) -> None:
        """`within` so many seconds, or at leisure."""
        if self.failure is None:
            self.failure = Failure(reason, detail)
            if within is not None:
                threading.Thread(target=self._hard, args=(within, self.failure), daemon=True).start()
            if self.run is not None:
                self.run.cancel()


def run(folder: AttemptFolder, entrypoint: ProcessId, watchdog: int) -> int:
    """Run the order of `folder`; exit status 0 when its last event is written, else EXIT_NO_ROOM.

    `watchdog` is a stream socket whose other end the worker's server process holds: it is
    closed with that process, and what is written to it says that the journal has grown.
    """
    try:
        return _run(folder, entrypoint, watchdog)
    except OSError as error:
        if not lacks_room(error):
            raise
        return EXIT_NO_ROOM


def _run(folder: AttemptFolder, entrypoint: ProcessId, watchdog: int) -> int:
    me = _settle_in(folder)
    configure_logging()
    spec = _bounded(AttemptSpec.from_json(json.loads(folder.spec.read_bytes())), folder)
    line = socket.socket(fileno=watchdog)

    def ring() -> None:
        with suppress(OSError):  # Full: it will be looked at anyway. Gone: the watchdog ends us.
            line.send(b"!", socket.MSG_DONTWAIT)

    journal = Journal(folder.journal, grown=ring)
    journal.append(EventKind.ACCEPTED)
    folder.temporary.mkdir(parents=True)
    loop = asyncio.new_event_loop()

    def hard_end(seconds: float, failure: Failure) -> None:
        time.sleep(seconds)
        with suppress(OSError):
            journal.append(EventKind.FAILED, reason=failure.reason, detail=failure.detail)
        _end_everything(me, folder)

    ending = _Ending(hard_end)
    too_late = Failure(
        Reason.DEADLINE_EXCEEDED, f"the attempt ran longer than {spec.limits.wall_seconds:g} seconds"
    )

    def cut() -> None:
        """The worker is gone: nobody will clean up after us."""
        log.warning("worker is gone, ending", extra={"attempt": str(spec.attempt)})
        _end_everything(me, folder)

    def late() -> None:
        threading.Thread(target=hard_end, args=(LATE_GRACE_SECONDS, too_late), daemon=True).start()
        with suppress(RuntimeError):  # The loop may be closed: the end is near anyway.
            loop.call_soon_threadsafe(ending.because, too_late.reason, too_late.detail)

    Watchdog(
        line=line.fileno(),
        entrypoint=entrypoint,
        wall_seconds=spec.limits.wall_seconds,
        cut=cut,
        late=late,
    ).start()
    threading.Thread(target=_beat, args=(journal,), name="heartbeat", daemon=True).start()
    try:
        return _drive(loop, spec, folder, journal, ending)
    finally:
        end_session(me, spare=os.getpid())
        shutil.rmtree(folder.scratch, ignore_errors=True)
        journal.close()


def _drive(
    loop: asyncio.AbstractEventLoop,
    spec: AttemptSpec,
    folder: AttemptFolder,
    journal: Journal,
    ending: _Ending,
) -> int:
    def stop(number: int) -> None:
        if folder.cancelled.exists():
            ending.because(Reason.CANCELLED, "cancelled", within=LAST_WORDS_SECONDS)
        else:
            detail = f"the worker is stopping (signal {number})"
            ending.because(Reason.WORKER_DRAINED, detail, within=LAST_WORDS_SECONDS)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        try:
            runner.run(_perform(spec, folder, journal, ending))
        except asyncio.CancelledError:
            log.info("attempt cancelled")
        except BaseException as error:
            log.exception("attempt crashed")
            known = failure_of(error)
            ending.because(known.reason, known.detail)
    if not journal.over:
        # The scratch goes first: the last event promises it, and a full disk needs it.
        shutil.rmtree(folder.scratch, ignore_errors=True)
        failure = ending.failure or Failure(Reason.TOOL_FAILED, "unexpected cancellation")
        journal.append(EventKind.FAILED, reason=failure.reason, detail=failure.detail)
    return 0


async def _perform(spec: AttemptSpec, folder: AttemptFolder, journal: Journal, ending: _Ending) -> None:
    ending.run = asyncio.current_task()
    if ending.failure is not None:
        return
    # Late, so that signals and the watchdog are in place first where no fork server has imported them.
    from gooseherd.worker.dependencies import equip
    from gooseherd.worker.engine import run_attempt

    async with equip(spec, WorkerSettings.from_env(), folder.scratch) as (cache, sources, registry):
        await run_attempt(
            spec, cache=cache, sources=sources, registry=registry, work=folder.scratch, emit=journal.append
        )


def _bounded(spec: AttemptSpec, folder: AttemptFolder) -> AttemptSpec:
    """The order, its scratch no more than the disk has room for."""
    room = max(shutil.disk_usage(folder.path).free - KEPT_FREE, 0)
    limits = replace(spec.limits, scratch_bytes=min(spec.limits.scratch_bytes, room))
    return replace(spec, limits=limits)


def _settle_in(folder: AttemptFolder) -> ProcessId:
    """Be at home in `folder`, leave no core dumps, yield to everybody else; who we are."""
    os.umask(0o077)
    log_file = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
    for standard in (1, 2):
        os.dup2(log_file, standard)
    os.close(log_file)
    os.chdir(folder.path)
    os.environ["TMPDIR"] = str(folder.temporary)
    tempfile.tempdir = None
    with suppress(OSError):
        os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # Where memory runs out, the largest of the tools goes and not the worker.
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    # For people who look at processes: the command line is still the fork server's.
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"attempt", 0, 0, 0)
    me = ProcessId.of(os.getpid())
    assert me is not None
    return me


def _beat(journal: Journal) -> None:
    """Say that we live whenever nothing else was said; no matter what the event loop is busy with."""
    while not journal.over:
        time.sleep(HEARTBEAT_SECONDS / 4)
        if journal.silence >= HEARTBEAT_SECONDS:
            with suppress(OSError):
                journal.append(EventKind.HEARTBEAT)


def _end_everything(me: ProcessId, folder: AttemptFolder) -> None:
    end_session(me, spare=os.getpid())
    shutil.rmtree(folder.scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
