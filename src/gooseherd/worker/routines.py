"""The calls that a worker answers over Wool: start, watch and cancel an attempt; describe the worker.

Callers import this module too, by the same name, so it stays light; the bodies run in
Wool's child process of the worker. Plain data only crosses the wire: no class of ours
must be unpickled on either side for an answer to be read.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import wool

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import JobId
from gooseherd.worker.unpickling import restrict_unpickling

if TYPE_CHECKING:
    from gooseherd.worker.attempt_supervisor import AttemptSupervisor

log = logging.getLogger(__name__)

# Here, because nobody speaks to the other side without this module.
restrict_unpickling()


@wool.routine  # type: ignore[untyped-decorator]
async def start_attempt(order: dict[str, Any]) -> dict[str, Any]:
    """Start an attempt; answers `started`, `busy`, `draining` or `misconfigured` with `problem`."""
    # A thread cannot be cancelled: once begun, the start is completed, and asked again it is known.
    return await _safely(lambda supervisor: supervisor.start(order))


@wool.routine  # type: ignore[untyped-decorator]
async def watch_attempt(
    job_id: str, number: int, from_seq: int, heartbeat_seconds: float
) -> AsyncIterator[dict[str, Any]]:
    """`event`s of an attempt to its last one, or `lost` with a diagnosis, or `unknown`."""
    try:
        async for message in _supervisor().watch(
            AttemptId(JobId(job_id), number), from_seq, heartbeat_seconds
        ):
            yield message
    except (SystemExit, KeyboardInterrupt) as error:  # Either would end the worker's loop and hang callers.
        yield {"lost": f"worker code raised {type(error).__name__}"}


@wool.routine  # type: ignore[untyped-decorator]
async def cancel_attempt(job_id: str, number: int) -> dict[str, Any]:
    """End an attempt's processes and remove its folder; unknown ones are fine."""
    return await _safely(lambda supervisor: supervisor.cancel(AttemptId(JobId(job_id), number)))


@wool.routine  # type: ignore[untyped-decorator]
async def renew_credentials(job_id: str, number: int, credentials: dict[str, Any]) -> dict[str, Any]:
    """Replace those of an attempt; answers `renewed` or `unknown`."""
    return await _safely(
        lambda supervisor: supervisor.renew_credentials(AttemptId(JobId(job_id), number), credentials)
    )


@wool.routine  # type: ignore[untyped-decorator]
async def claim(name: str, seconds: float) -> dict[str, Any]:
    """For so long start no attempt but that one; 0 seconds give it back. As `describe`, or `busy`."""
    return await _safely(lambda supervisor: supervisor.claim(name, seconds))


@wool.routine  # type: ignore[untyped-decorator]
async def end_worker(name: str = "") -> dict[str, Any]:
    """Let the worker end in order, as a SIGTERM to it does; answers as `describe`.

    With the `name` of an attempt: `busy` while it works or is claimed for another.
    """
    return await _safely(lambda supervisor: supervisor.end_worker(name))


@wool.routine  # type: ignore[untyped-decorator]
async def describe() -> dict[str, Any]:
    """`build`, `instance`, `uptime_seconds`, `attempts`, `claimed_by`, `draining`."""
    return await _safely(lambda supervisor: supervisor.describe())


@wool.routine  # type: ignore[untyped-decorator]
async def keep(seconds: float) -> dict[str, Any]:
    """Do not end for being idle for so long, from now on; answers as `describe`."""
    return await _safely(lambda supervisor: supervisor.keep(seconds))


async def _safely(call: Callable[[AttemptSupervisor], dict[str, Any]]) -> dict[str, Any]:
    def body() -> dict[str, Any]:
        try:
            return call(_supervisor())
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # Its class may not exist at the caller, its text may hold paths, and the last two
            # would end the worker's loop for good.
            log.exception("routine failed")
            from gooseherd.worker.failure_reason import lacks_room

            raised = f"worker code raised {type(error).__name__}"
            return {"failed": "the worker's disk is full" if lacks_room(error) else raised}

    return await asyncio.to_thread(body)


def _supervisor() -> AttemptSupervisor:
    from gooseherd.worker.attempt_supervisor import AttemptSupervisor
    from gooseherd.worker.settings import WorkerPlace, build_id
    from gooseherd.worker.spawning import spawner

    with _supervisor_lock:
        if not _supervisors:
            place = WorkerPlace.from_env()
            _supervisors.append(
                AttemptSupervisor(
                    work=place.work, build=build_id(), entrypoint=place.entrypoint, spawner=spawner()
                )
            )
        return _supervisors[0]


_supervisors: list[AttemptSupervisor] = []
_supervisor_lock = threading.Lock()
