"""Keeps the control loops of one process running, and ends them without losing work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from gooseherd.control.executions import Executions
from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.ports.store import STORE_AWAY, JobStore

_log = logging.getLogger(__name__)


class Supervisor:
    """The engine, for as long as the block lasts.

    Entering lets go of leases this process held in an earlier life, so that its jobs are
    adopted at once. Leaving stops taking work, lets finalizers finish inside the grace and
    hands the other leases over; attempts go on on their workers.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        executions: Executions,
        loops: Sequence[Loop[Any, Any]],
        wakeups: Wakeups,
        grace_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._executions = executions
        self._loops = loops
        self._wakeups = wakeups
        self._grace_seconds = grace_seconds
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        left = await self._jobs.hand_over(self._executions.owner)
        if left:
            _log.info("found jobs of an earlier life", extra={"jobs": left})
        self._tasks = [asyncio.create_task(loop.run(), name=f"loop {loop.name}") for loop in self._loops]
        self._wakeups.unowned.notify()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        following = self._executions.following
        await self._executions.drain(self._grace_seconds)
        try:
            left = await self._jobs.hand_over(self._executions.owner)
        except STORE_AWAY as unavailable:
            _log.warning("leases not handed over, they will run out", extra={"error": str(unavailable)})
        else:
            _log.info("engine stopped", extra={"followed": following, "handed_over": left})
