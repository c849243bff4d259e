"""What can be asked of a worker over Wool: start, watch and cancel an attempt, and what it is.

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

if TYPE_CHECKING:
    from gooseherd.worker.attempts import Attempts

log = logging.getLogger(__name__)


@wool.routine  # type: ignore[untyped-decorator]
async def start_attempt(order: dict[str, Any]) -> dict[str, Any]:
    """Start an attempt; answers `started`, `busy`, `draining` or `misconfigured` with `problem`."""
    # A thread cannot be cancelled: once begun, the start is completed, and asked again it is known.
    return await _safely(lambda host: host.start(order))


@wool.routine  # type: ignore[untyped-decorator]
async def watch_attempt(
    job_id: str, number: int, from_seq: int, heartbeat_seconds: float
) -> AsyncIterator[dict[str, Any]]:
    """`event`s of an attempt to its last one, or `lost` with a diagnosis, or `unknown`."""
    try:
        async for message in _host().watch(AttemptId(JobId(job_id), number), from_seq, heartbeat_seconds):
            yield message
    except (SystemExit, KeyboardInterrupt) as error:  # Either would end the worker's loop and hang callers.
        yield {"lost": f"worker code raised {type(error).__name__}"}


@wool.routine  # type: ignore[untyped-decorator]
async def cancel_attempt(job_id: str, number: int) -> dict[str, Any]:
    """End an attempt's processes and remove its folder; unknown ones are fine."""
    return await _safely(lambda host: host.cancel(AttemptId(JobId(job_id), number)))


@wool.routine  # type: ignore[untyped-decorator]
async def describe() -> dict[str, Any]:
    """`build`, `uptime_seconds`, `attempts`, `draining`."""
    return await _safely(lambda host: host.describe())


async def _safely(call: Callable[[Attempts], dict[str, Any]]) -> dict[str, Any]:
    def body() -> dict[str, Any]:
        try:
            return call(_host())
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # Its class may not exist at the caller, its text may hold paths, and the last two
            # would end the worker's loop for good.
            log.exception("routine failed")
            from gooseherd.worker.failure_reason import lacks_room

            raised = f"worker code raised {type(error).__name__}"
            return {"failed": "the worker's disk is full" if lacks_room(error) else raised}

    return await asyncio.to_thread(body)


def _host() -> Attempts:
    from gooseherd.worker.attempts import Attempts
    from gooseherd.worker.settings import WorkerPlace, build_id
    from gooseherd.worker.spawning import spawner

    with _making:
        if not _hosts:
            place = WorkerPlace.from_env()
            _hosts.append(
                Attempts(work=place.work, build=build_id(), entrypoint=place.entrypoint, spawner=spawner())
            )
        return _hosts[0]


_hosts: list[Attempts] = []
_making = threading.Lock()
