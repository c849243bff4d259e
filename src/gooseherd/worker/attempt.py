"""The attempt process: one order, in its own session, with limits, ending with a named reason.

Forked from the worker's fork server (fork_server.py), with a folder that holds the order. It
outlives the call that started it, but not the worker.
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
from typing import TYPE_CHECKING, Final

from gooseherd import logs
from gooseherd.domain.attempt import AttemptSpec, EventKind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.traceparent import trace_id
from gooseherd.processes import ProcessId, end_own_session
from gooseherd.worker.failure_reason import EXIT_NO_ROOM, failure_of, lacks_room
from gooseherd.worker.folders import AttemptFolder
from gooseherd.worker.journal import Journal
from gooseherd.worker.settings import WorkerSettings
from gooseherd.worker.watchdog import LAST_EVENT_SECONDS, Watchdog

if TYPE_CHECKING:
    from gooseherd.worker.preparation import Preparation

log = logging.getLogger(__name__)

NICENESS: Final = 10
OOM_SCORE: Final = 500
"""Of -1000 to 1000 (proc(5), oom_score_adj): like half the memory more."""
KEPT_FREE: Final = 64 << 20
"""Bytes of the disk that no attempt takes: its last event needs some."""
HEARTBEAT_SECONDS: Final = 2.0
_PR_SET_NAME: Final = 15  # prctl(2)
DEADLINE_GRACE_SECONDS: Final = 10.0
"""What is left for an orderly end after the wall limit, before the session is killed."""


class _Stopping:
    """Cancels the run and keeps the reason; the first reason counts. For the event loop's thread.

    `force` ends a run that does not end in time; it is called in a thread of its own.
    """

    def __init__(self, force: Callable[[float, Failure], None]) -> None:
        self.failure: Failure | None = None
        self.run: asyncio.Task[None] | None = None
        self._force = force

    def because(self, reason: Reason, detail: str, *, within: float | None = None) -> None:
        """Cancel the run; call `force` after `within` seconds, if given."""
        if self.failure is None:
            self.failure = Failure(reason, detail)
            if within is not None:
                threading.Thread(target=self._force, args=(within, self.failure), daemon=True).start()
            if self.run is not None:
                self.run.cancel()


def run(
    folder: AttemptFolder,
    entrypoint: ProcessId,
    watchdog: int,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    preparation: Preparation | None = None,
) -> int:
    """Run the order of `folder`; exit status 0 when its last event is written, else EXIT_NO_ROOM.

    `watchdog` is a stream socket whose other end the worker's server process holds: it is
    closed with that process, and a byte written to it means that the journal has grown.
    `preparation` was made in `loop`.
    """
    try:
        return _run(folder, entrypoint, watchdog, loop or asyncio.new_event_loop(), preparation)
    except OSError as error:
        if not lacks_room(error):
            raise
        return EXIT_NO_ROOM


def _run(
    folder: AttemptFolder,
    entrypoint: ProcessId,
    watchdog: int,
    loop: asyncio.AbstractEventLoop,
    preparation: Preparation | None,
) -> int:
    name_process()
    _work_in(folder)
    spec = _bounded(AttemptSpec.from_json(json.loads(folder.spec.read_bytes())), folder)
    logs.bind(job_id=spec.attempt.job_id, attempt=spec.attempt.number)
    if spec.traceparent is not None:
        logs.bind(trace_id=trace_id(spec.traceparent))
    worker_socket = socket.socket(fileno=watchdog)

    def notify() -> None:
        with suppress(OSError):  # Full: the worker wakes up anyway. Closed: the watchdog ends us.
            worker_socket.send(b"!", socket.MSG_DONTWAIT)

    journal = Journal(folder.journal, grown=notify)
    journal.append(EventKind.ACCEPTED)
    if preparation is not None:
        loop.run_until_complete(preparation.move_to(folder.scratch))
    folder.temporary.mkdir(parents=True)

    def force_end(seconds: float, failure: Failure) -> None:
        time.sleep(seconds)
        with suppress(OSError):
            journal.append(EventKind.FAILED, reason=failure.reason, detail=failure.detail)
        _end_everything(folder)

    stopping = _Stopping(force_end)
    deadline = Failure(
        Reason.DEADLINE_EXCEEDED, f"the attempt ran longer than {spec.limits.wall_seconds:g} seconds"
    )

    def on_worker_gone() -> None:
        """Nobody else will clean up."""
        log.warning("the worker is gone, the attempt ends", extra={"attempt": str(spec.attempt)})
        _end_everything(folder)

    def on_deadline() -> None:
        threading.Thread(target=force_end, args=(DEADLINE_GRACE_SECONDS, deadline), daemon=True).start()
        with suppress(RuntimeError):  # The loop may be closed: the attempt is ending already.
            loop.call_soon_threadsafe(stopping.because, deadline.reason, deadline.detail)

    Watchdog(
        worker_socket=worker_socket.fileno(),
        entrypoint=entrypoint,
        wall_seconds=spec.limits.wall_seconds,
        on_worker_gone=on_worker_gone,
        on_deadline=on_deadline,
    ).start()
    threading.Thread(target=_write_heartbeats, args=(journal,), name="heartbeat", daemon=True).start()
    try:
        return _run_loop(loop, spec, folder, journal, stopping, preparation)
    finally:
        end_own_session()
        shutil.rmtree(folder.scratch, ignore_errors=True)
        journal.close()


def _run_loop(
    loop: asyncio.AbstractEventLoop,
    spec: AttemptSpec,
    folder: AttemptFolder,
    journal: Journal,
    stopping: _Stopping,
    preparation: Preparation | None,
) -> int:
    def stop(number: int) -> None:
        if folder.cancelled.exists():
            stopping.because(Reason.CANCELLED, "cancelled", within=LAST_EVENT_SECONDS)
        else:
            detail = f"the worker is stopping (signal {number})"
            stopping.because(Reason.WORKER_DRAINED, detail, within=LAST_EVENT_SECONDS)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        try:
            runner.run(_perform(spec, folder, journal, stopping, preparation))
        except asyncio.CancelledError:
            log.info("attempt cancelled")
        except BaseException as error:
            log.exception("attempt crashed")
            known = failure_of(error)
            stopping.because(known.reason, known.detail)
    if not journal.over:
        # Scratch is removed before the last event is written: a full disk needs the room for it.
        shutil.rmtree(folder.scratch, ignore_errors=True)
        failure = stopping.failure or Failure(Reason.TOOL_FAILED, "unexpected cancellation")
        journal.append(EventKind.FAILED, reason=failure.reason, detail=failure.detail)
    return 0


async def _perform(
    spec: AttemptSpec,
    folder: AttemptFolder,
    journal: Journal,
    stopping: _Stopping,
    preparation: Preparation | None,
) -> None:
    stopping.run = asyncio.current_task()
    if stopping.failure is not None:
        return
    # Imported late: signals and the watchdog are in place first where no fork server has imported them.
    from gooseherd.worker.dependencies import open_dependencies, open_references
    from gooseherd.worker.engine import run_attempt

    settings = WorkerSettings.from_env()
    try:
        credentials = folder.credentials if folder.credentials.exists() else None
        async with (
            open_dependencies(
                spec, settings, folder.scratch, preparation, credentials, folder.source_access
            ) as (
                cache,
                sources,
                registry,
            ),
            open_references(settings, sources, folder) as references,
        ):
            await run_attempt(
                spec,
                cache=cache,
                sources=sources,
                registry=registry,
                work=folder.scratch,
                emit=journal.append,
                references=references,
            )
    finally:
        if preparation is not None:
            await preparation.close()


def _bounded(spec: AttemptSpec, folder: AttemptFolder) -> AttemptSpec:
    """The order, with scratch limited to the free space of the disk."""
    room = max(shutil.disk_usage(folder.path).free - KEPT_FREE, 0)
    limits = replace(spec.limits, scratch_bytes=min(spec.limits.scratch_bytes, room))
    return replace(spec, limits=limits)


def lower_priority() -> None:
    """Of this process and all that it starts from now on: it is the first to go, and leaves no core dump."""
    os.umask(0o077)
    with suppress(OSError):
        os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # Where memory runs out, the largest of the tools goes and not the worker.
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def name_process(name: bytes = b"attempt") -> None:
    """For people who look at processes: the command line is still the fork server's."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)


def _work_in(folder: AttemptFolder) -> None:
    """Work in `folder` and write there what is written to standard error.

    For people the log goes there too, and goes with the folder; as JSON it goes to the worker's.
    """
    workers = os.fdopen(os.dup(2), "w", encoding="utf-8") if logs.logs_json(os.environ) else None
    log_file = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
    for standard in (1, 2):
        os.dup2(log_file, standard)
    os.close(log_file)
    logs.configure_from_environment(os.environ, stream=workers)
    logs.hide_credentials(os.environ)
    logs.hide(str(folder.path.parent), "<work>")
    os.chdir(folder.path)
    os.environ["TMPDIR"] = str(folder.temporary)
    tempfile.tempdir = None


def _write_heartbeats(journal: Journal) -> None:
    """Write a heartbeat whenever nothing else was written, whatever the event loop is busy with."""
    while not journal.over:
        time.sleep(HEARTBEAT_SECONDS / 4)
        if journal.seconds_since_write >= HEARTBEAT_SECONDS:
            with suppress(OSError):
                journal.append(EventKind.HEARTBEAT)


def _end_everything(folder: AttemptFolder) -> None:
    end_own_session()
    shutil.rmtree(folder.scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
