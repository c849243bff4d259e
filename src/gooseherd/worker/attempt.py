"""The attempt process: one order, in its own session, with bounds, ending with a named reason.

`python -m gooseherd.worker.attempt` is started by the worker with a folder that holds the
order. It outlives the conversation that started it, but not the worker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gooseherd.domain.attempt import AttemptSpec, EventKind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.processes import ProcessId, end_session
from gooseherd.telemetry import configure_logging
from gooseherd.worker.diagnosis import failure_of
from gooseherd.worker.folders import AttemptFolder
from gooseherd.worker.journal import Journal
from gooseherd.worker.lifeline import Lifeline
from gooseherd.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

NICENESS: Final = 10
HEARTBEAT_SECONDS: Final = 2.0
LATE_GRACE_SECONDS: Final = 10.0
"""What is left for an orderly end after the wall limit, before the session is killed."""


class _Ending:
    """Stops the run and remembers why; the first reason stands. For the event loop's thread."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.run: asyncio.Task[None] | None = None

    def because(self, reason: Reason, detail: str) -> None:
        if self.failure is None:
            self.failure = Failure(reason, detail)
            if self.run is not None:
                self.run.cancel()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the order of `--folder`; exit status 0 when its last event is written."""
    parser = argparse.ArgumentParser(prog="gooseherd.worker.attempt")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True, help="descriptor of the pipe's read end")
    parser.add_argument("--entrypoint", type=json.loads, required=True, help="the entrypoint, a ProcessId")
    given = parser.parse_args(argv)
    folder = AttemptFolder(given.folder)
    me = _settle_in()
    configure_logging()
    spec = AttemptSpec.from_json(json.loads(folder.spec.read_bytes()))
    journal = Journal(folder.journal)
    journal.append(EventKind.ACCEPTED)
    folder.temporary.mkdir(parents=True)
    loop = asyncio.new_event_loop()
    ending = _Ending()
    too_long = f"the attempt ran longer than {spec.limits.wall_seconds:g} seconds"

    def cut() -> None:
        """The worker is gone: nobody will clean up after us."""
        log.warning("worker is gone, ending", extra={"attempt": str(spec.attempt)})
        _end_everything(me, folder)

    def late() -> None:
        threading.Thread(target=hard_end, daemon=True).start()
        with suppress(RuntimeError):  # The loop may be closed: the end is near anyway.
            loop.call_soon_threadsafe(ending.because, Reason.DEADLINE_EXCEEDED, too_long)

    def hard_end() -> None:
        time.sleep(LATE_GRACE_SECONDS)
        with suppress(OSError):
            journal.append(EventKind.FAILED, reason=Reason.DEADLINE_EXCEEDED, detail=too_long)
        _end_everything(me, folder)

    Lifeline(
        pipe=given.lifeline,
        entrypoint=ProcessId.from_json(given.entrypoint),
        wall_seconds=spec.limits.wall_seconds,
        cut=cut,
        late=late,
    ).start()
    threading.Thread(target=_beat, args=(journal,), name="heartbeat", daemon=True).start()
    try:
        return _run(loop, spec, folder, journal, ending)
    finally:
        end_session(me, spare=os.getpid())
        shutil.rmtree(folder.scratch, ignore_errors=True)
        journal.close()


def _run(
    loop: asyncio.AbstractEventLoop,
    spec: AttemptSpec,
    folder: AttemptFolder,
    journal: Journal,
    ending: _Ending,
) -> int:
    def stop(number: int) -> None:
        if folder.cancelled.exists():
            ending.because(Reason.CANCELLED, "cancelled")
        else:
            ending.because(Reason.WORKER_DRAINED, f"the worker is stopping (signal {number})")

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
    # Late, so that signals and the lifeline are in place before the second that imports take.
    from gooseherd.worker.engine import run_attempt
    from gooseherd.worker.equipment import equip

    async with equip(spec, WorkerSettings.from_env()) as (cache, sources, registry):
        await run_attempt(
            spec, cache=cache, sources=sources, registry=registry, work=folder.scratch, emit=journal.append
        )


def _settle_in() -> ProcessId:
    """Lead a session, leave no core dumps, yield to everybody else; who we are."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(0o077)
    with suppress(OSError):
        os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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


if __name__ == "__main__":
    sys.exit(main())
