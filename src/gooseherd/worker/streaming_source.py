"""The source while it arrives, and the step that reads it meanwhile: whose error counts when one fails."""

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

VERDICT_SECONDS: Final = 60.0
"""How long a download may go on to learn whether the bytes that a step refuses were the right ones."""
_TOOLS_AT_FAULT: Final = frozenset(
    {Reason.SOURCE_INVALID, Reason.SOURCE_TOO_LARGE, Reason.UNSUPPORTED_FORMAT, Reason.TOOL_FAILED}
)
"""What a step may end with because its input was not what it should have been."""

OnFetched = Callable[[int, int | None], None]
Fetch = Callable[[OnFetched], Coroutine[Any, Any, Fetched]]


class StreamingSource:
    """`Arriving` for one download, which it runs as a task of its own from the start on.

    `expected` is the size by the catalog. `report` hears what the download reports. For one
    event loop; whoever made it calls `stop` in the end.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        expected: int | None,
        report: OnFetched,
        verdict_seconds: float = VERDICT_SECONDS,
    ) -> None:
        self._report = report
        self._expected = expected
        self._verdict_seconds = verdict_seconds
        self._there = 0
        self._times = 0
        """How often bytes were taken back."""
        self._news = asyncio.Event()
        self._task = asyncio.create_task(fetch(self._on_fetched), name="fetch")
        self._task.add_done_callback(self._over)

    def _on_fetched(self, there: int, total: int | None) -> None:
        if there < self._there:
            log.warning("the source changed while it arrived: %d of %d bytes stay", there, self._there)
            self._times += 1
        self._there = there
        self._expected = total if total is not None else self._expected
        self._report(there, total)
        self._wake()

    def _over(self, task: asyncio.Task[Fetched]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._there = self._expected = task.result().size
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _until(self, come: Callable[[], bool]) -> None:
        while not come():
            await self._news.wait()

    # -- Arriving -------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """As the protocol says."""
        return self._task.done() and not self._failed

    @property
    def size(self) -> int | None:
        """As the protocol says."""
        return self._expected

    async def at_least(self, size: int) -> int:
        """As the protocol says."""
        await self._until(lambda: self._there >= size or self._task.done())
        if self._there < size:
            self._task.result()
        return self._there

    async def whole(self) -> None:
        """As the protocol says."""
        await self.fetched()

    # -- for the engine -------------------------------------------------------------------------

    async def fetched(self) -> Fetched:
        """The verified file. Raises as the download does."""
        await self._until(self._task.done)
        return self._task.result()

    async def beside(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives, begun anew whenever bytes it may have read were taken back.

        Returns only after the download has verified its bytes. When both fail, the download's
        failure is raised. When `work` blames bytes that are still arriving, it is not believed
        before the download has ended too; if that takes more than `verdict_seconds`, the
        failure says what it was based on.
        """
        while True:
            times = self._times
            run = asyncio.create_task(work())
            try:
                await _first(run, self._trouble(times))
            finally:
                await ended(run)
            if self._failed:
                self._task.result()
            if self._times != times:
                continue
            error = None if run.cancelled() else run.exception()
            if error is None or _tool_at_fault(error):
                seconds = None if error is None else self._verdict_seconds
                await self._verdict(times, seconds)
            if self._failed:
                self._task.result()
            if self._times != times:
                continue
            if isinstance(error, StepFailed) and _tool_at_fault(error) and not self._task.done():
                raise self._unverified(error) from error
            return run.result()

    async def stop(self) -> None:
        """End the download if it is still going on; idempotent."""
        await ended(self._task)

    @property
    def _failed(self) -> bool:
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    async def _trouble(self, times: int) -> None:
        await self._until(lambda: self._times != times or self._failed)

    async def _verdict(self, times: int, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._until(lambda: self._task.done() or self._times != times)
        except TimeoutError:
            return

    def _unverified(self, error: StepFailed) -> StepFailed:
        size = "an unknown number of" if self._expected is None else self._expected
        problem = (
            f"{error.failure.detail} (seen in the first {self._there} of {size} bytes; the rest was not read)"
        )
        return StepFailed.because(error.failure.reason, problem)


def _tool_at_fault(error: BaseException) -> bool:
    return isinstance(error, StepFailed) and error.failure.reason in _TOOLS_AT_FAULT


async def _first(run: asyncio.Task[Any], other: Coroutine[Any, Any, None]) -> None:
    """Until one of them is over; the other one is not waited for."""
    waiting = asyncio.create_task(other)
    try:
        await asyncio.wait({run, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(waiting)
