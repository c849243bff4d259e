"""Holds the lease of one job: renews it, repeats writes that met an absent store, and sees a cancellation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from gooseherd.control.limits import Timing
from gooseherd.domain.errors import CacheUnavailable, LeaseLost, StoreUnavailable
from gooseherd.domain.job import Job
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.ports.store import JobStore, StoreRefused
from gooseherd.domain.states import Status

_log = logging.getLogger(__name__)

T = TypeVar("T")

_AWAY = (StoreUnavailable, CacheUnavailable, StoreRefused, StorageRefused)
"""The dependency may be back, or the right that it refuses may, and then the same call works."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_LAST_WRITE_SECONDS = 5.0
"""How long a write may hold up the end of the process."""


class LeaseHolder:
    """The lease of one job, for as long as the block lasts.

    `lost` is set when the lease is gone for good, `unwanted` when the job was cancelled,
    `settled` when its next state is written. Leaving the block stops the heartbeat and
    nothing else: the job's next state is the caller's to write before.
    """

    def __init__(self, jobs: JobStore, job: Job, timing: Timing) -> None:
        self.job = job
        self.lost = asyncio.Event()
        self.unwanted = asyncio.Event()
        self.settled = False
        self.jobs = jobs
        self._timing = timing
        self._good_until = self._monotonic() + timing.lease.total_seconds()
        self._heartbeat: asyncio.Task[None] | None = None
        if job.cancel_requested:
            self.unwanted.set()

    @staticmethod
    def _monotonic() -> float:
        return asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        self._heartbeat = asyncio.create_task(self._beat(), name=f"heartbeat {self.job.job_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait(
                {self._heartbeat}
            )  # How it ended does not matter; a cancellation of ours does.

    async def _beat(self) -> None:
        pause = self._timing.heartbeat.total_seconds()
        while not self.lost.is_set():
            await asyncio.sleep(pause)
            asked = self._monotonic()
            try:
                renewal = await self.jobs.renew(self.job.job_id, self.job.fence, self._timing.lease)
            except LeaseLost:
                self.lost.set()
            except Exception as error:
                if not isinstance(
                    error, StoreUnavailable
                ):  # The heartbeat must not stop for an error that may pass.
                    _log.exception("heartbeat failed", extra={"job_id": self.job.job_id})
                # The outcome is unknown; by our own clock the lease may be anybody's from here on.
                if asked >= self._good_until:
                    self.lost.set()
                pause = min(pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._good_until = asked + self._timing.lease.total_seconds()
                pause = self._timing.heartbeat.total_seconds()
                if not renewal.wanted:
                    self.unwanted.set()

    async def insist(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeat `operation` while a dependency is away or refuses, as long as the lease can be ours.

        Raises:
            LeaseLost: the operation found it gone.
            StoreUnavailable: the dependency was away for longer than the lease.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await operation()
            except _AWAY as error:
                if self.lost.is_set() or self._monotonic() >= self._good_until:
                    raise StoreUnavailable(str(error)) from error
                _log.info("waiting for a dependency", extra={"job_id": self.job.job_id, "error": str(error)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def unless_lost(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled, and has ended, when the lease is lost.

        Raises:
            LeaseLost: the lease went first.
        """
        task = asyncio.ensure_future(work)
        lost = asyncio.create_task(self.lost.wait())
        try:
            await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
            lost.cancel()
            await asyncio.gather(task, lost, return_exceptions=True)
        raise LeaseLost(self.job.job_id, self.job.fence)

    async def edge(self, target: Status, write: Callable[[], Awaitable[object]]) -> None:
        """Insist on a write that moves the job to `target`.

        A write whose answer got lost is repeated and then finds the edge taken: that is
        success if the job stands where this holder wanted it.
        """
        tries = 0

        async def once() -> None:
            nonlocal tries
            tries += 1
            try:
                await self._to_its_end(write, target)
            except LeaseLost:
                if tries == 1:
                    raise
                now = await self.jobs.get(self.job.job_id)
                if now is None or now.status is not target or now.fence != self.job.fence:
                    raise

        await self.insist(once)
        self.settled = target is not Status.FINALIZING

    async def _to_its_end(self, write: Callable[[], Awaitable[object]], target: Status) -> None:
        """Wait for the write even when this process is told to end: whether it took effect matters."""
        writing = asyncio.ensure_future(write())
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            deadline = self._monotonic() + _LAST_WRITE_SECONDS
            while not writing.done() and (left := deadline - self._monotonic()) > 0:
                with suppress(asyncio.CancelledError):  # A second cancellation changes nothing.
                    await asyncio.wait({writing}, timeout=left)
            if writing.done() and not writing.cancelled() and writing.exception() is None:
                self.settled = target is not Status.FINALIZING
            raise

    async def unless_unwanted(self, work: Awaitable[T], undo: Callable[[T], Awaitable[object]]) -> T | None:
        """The result of `work`, or None when the job was cancelled first; the work is then cancelled.

        A result that came as the caller was cancelled goes to `undo`.

        Raises:
            LeaseLost: the lease went first.
        """
        task = asyncio.ensure_future(work)
        signals = [asyncio.create_task(self.unwanted.wait()), asyncio.create_task(self.lost.wait())]
        try:
            await asyncio.wait({task, *signals}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:
                await undo(task.result())
            raise
        finally:
            for pending in (task, *signals):
                pending.cancel()
            await asyncio.gather(task, *signals, return_exceptions=True)
        if self.lost.is_set():
            raise LeaseLost(self.job.job_id, self.job.fence)
        return None
