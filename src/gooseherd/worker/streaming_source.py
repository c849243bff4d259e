"""The source while it arrives, and the step that reads it in parallel: whose error counts when one fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from gooseherd.domain.failures import Reason
from gooseherd.domain.ports.source import Fetched
from gooseherd.domain.processing import StepFailed
from gooseherd.tasks import ended

log = logging.getLogger(__name__)

T = TypeVar("T")

VERIFY_SECONDS: Final = 60.0
"""How long a download may go on after a step has refused its bytes, to verify that they are right."""
_MAY_BE_INPUT: Final = frozenset(
    {Reason.SOURCE_INVALID, Reason.SOURCE_TOO_LARGE, Reason.UNSUPPORTED_FORMAT, Reason.TOOL_FAILED}
)
"""Reasons that a step may fail with because its input is wrong."""

OnFetched = Callable[[int, int | None], None]
Fetch = Callable[[OnFetched], Coroutine[Any, Any, Fetched]]


class StreamingSource:
    """`Arriving` for one download, which runs as a task from the start.

    `expected` is the size by the catalog. `report` gets the progress of the download. For one
    event loop; its owner calls `stop` in the end.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        expected: int | None,
        report: OnFetched,
        verify_seconds: float = VERIFY_SECONDS,
    ) -> None:
        self._report = report
        self._expected = expected
        self._verify_seconds = verify_seconds
        self._there = 0
        self._restarts = 0
        """How often the download began anew, so that bytes which a step may have read are void."""
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(fetch(self._on_fetched), name="fetch")
        self._task.add_done_callback(self._on_done)

    def _on_fetched(self, there: int, total: int | None) -> None:
        if there < self._there:
            log.warning("the source changed while it arrived: %d of %d bytes stay", there, self._there)
            self._restarts += 1
        self._there = there
        self._expected = total if total is not None else self._expected
        self._report(there, total)
        self._wake()

    def _on_done(self, task: asyncio.Task[Fetched]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._there = self._expected = task.result().size
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    # -- Arriving -------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """All bytes are there and verified."""
        return self._task.done() and not self._failed

    @property
    def size(self) -> int | None:
        """By the catalog, then by the source's own word, then the true size."""
        return self._expected

    async def at_least(self, size: int) -> int:
        """Wait for `size` bytes or the end; raises as the download does when it failed before."""
        await self._until(lambda: self._there >= size or self._task.done())
        if self._there < size:
            self._task.result()
        return self._there

    async def whole(self) -> None:
        """Wait for the verified file; raises as the download does."""
        await self.fetched()

    # -- for the engine -------------------------------------------------------------------------

    async def fetched(self) -> Fetched:
        """The verified file. Raises as the download does."""
        await self._until(self._task.done)
        return self._task.result()

    async def run_while_arriving(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` and return its result; `work` begins anew whenever the download does.

        Returns only after the download has verified its bytes. When both fail, the download's
        failure is raised. When `work` fails because of bytes that are still unverified, its failure
        is raised after the download has ended too, or after `verify_seconds`: then the failure
        says how many bytes it was based on.
        """
        while True:
            restarts = self._restarts
            run = asyncio.create_task(work())
            try:
                await _first(run, self._until_restarted_or_failed(restarts))
            finally:
                await ended(run)
            if self._failed:
                self._task.result()
            if self._restarts != restarts:
                continue
            error = None if run.cancelled() else run.exception()
            if error is None or _may_be_input(error):
                seconds = None if error is None else self._verify_seconds
                await self._until_verified(restarts, seconds)
            if self._failed:
                self._task.result()
            if self._restarts != restarts:
                continue
            if isinstance(error, StepFailed) and _may_be_input(error) and not self._task.done():
                raise self._unverified(error) from error
            return run.result()

    async def stop(self) -> None:
        """Cancel the download if it is still running; idempotent."""
        await ended(self._task)

    @property
    def _failed(self) -> bool:
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    async def _until_restarted_or_failed(self, restarts: int) -> None:
        await self._until(lambda: self._restarts != restarts or self._failed)

    async def _until_verified(self, restarts: int, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._until(lambda: self._task.done() or self._restarts != restarts)
        except TimeoutError:
            return

    def _unverified(self, error: StepFailed) -> StepFailed:
        size = "an unknown number of" if self._expected is None else self._expected
        problem = (
            f"{error.failure.detail} (seen in the first {self._there} of {size} bytes; the rest was not read)"
        )
        return StepFailed.because(error.failure.reason, problem)


def _may_be_input(error: BaseException) -> bool:
    return isinstance(error, StepFailed) and error.failure.reason in _MAY_BE_INPUT


async def _first(run: asyncio.Task[Any], other: Coroutine[Any, Any, None]) -> None:
    """Return when one of them is done; the other is not waited for."""
    waiting = asyncio.create_task(other)
    try:
        await asyncio.wait({run, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(waiting)
