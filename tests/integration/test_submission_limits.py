"""Limits of what waits hold when many submit at once, in one process exactly and in several nearly so."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from tests.conftest import StoreUnderTest
from tests.integration.test_engine_of_jobs import Recipes

from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain import formats
from gooseherd.domain.errors import LimitReached, StoreUnavailable
from gooseherd.domain.job import JobId, Requester
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.store import Claim, JobStore
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.storage.memory import MemoryCache

pytestmark = pytest.mark.integration

_RECIPE = Recipe("bam-index", "1", formats.BAM)
_ANNE = Requester("anne")


def _process(
    jobs: JobStore,
    *,
    active: int = 100,
    pending: int = 100,
    clock: Callable[[], float] = time.monotonic,
) -> Submissions:
    """The submissions of one API process."""
    return Submissions(
        jobs=jobs,
        cache=MemoryCache(),
        recipes=Recipes(),
        limits=SubmissionLimits(active, pending),
        wakeups=Wakeups(),
        new_id=lambda: JobId(uuid.uuid4().hex),
        clock=clock,
    )


def _file(number: int) -> SourceFile:
    return SourceFile(
        Dcc("4dn"), LocalId(f"f{number}"), "f.bam", formats.BAM, "https://e.org/f", md5=f"{number:032x}"
    )


async def _accepted(process: Submissions, number: int, requester: Requester) -> bool:
    try:
        await process.submit(_file(number), _RECIPE, requester=requester)
    except LimitReached:
        return False
    return True


async def _at_once(submissions: Iterable[Awaitable[bool]]) -> int:
    return sum(await asyncio.gather(*submissions))


async def test_of_many_submissions_at_once_a_requester_gets_as_many_as_may_wait(
    store: StoreUnderTest,
) -> None:
    process = _process(store.jobs, pending=5)
    assert await _at_once(_accepted(process, number, _ANNE) for number in range(40)) == 5
    assert await store.jobs.pending_of(_ANNE, 100) == 5


async def test_of_many_requesters_at_once_as_many_get_a_job_as_there_may_be(store: StoreUnderTest) -> None:
    process = _process(store.jobs, active=7)
    assert await _at_once(_accepted(process, number, Requester(f"r{number}")) for number in range(40)) == 7
    assert sum((await store.jobs.counts()).values()) == 7


async def test_each_further_process_exceeds_a_limit_by_one_job_at_most(store: StoreUnderTest) -> None:
    processes = [_process(store.jobs, pending=5) for _ in range(3)]
    accepted = await _at_once(_accepted(processes[number % 3], number, _ANNE) for number in range(45))
    assert 5 <= accepted <= 5 + 2


async def test_who_is_at_the_limit_gets_the_next_job_when_one_has_left(store: StoreUnderTest) -> None:
    process = _process(store.jobs, pending=1)
    job = (await process.submit(_file(1), _RECIPE, requester=_ANNE)).job
    assert not await _accepted(process, 2, _ANNE)
    await process.withdraw(job.job_id, _ANNE)
    assert await _accepted(process, 2, _ANNE)


class _Failing:
    """A store whose first claim takes effect, and whose answer gets lost after ten seconds."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._lost = False
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def claim_workflow(self, *arguments: Any, **options: Any) -> Claim:
        claim: Claim = await self._jobs.claim_workflow(*arguments, **options)
        if not self._lost:
            self._lost = True
            self.now += 10.0
            raise StoreUnavailable("claim_workflow")
        return claim


async def test_a_job_whose_submission_was_not_answered_is_counted(store: StoreUnderTest) -> None:
    jobs: Any = _Failing(store.jobs)
    process = _process(jobs, pending=2, clock=jobs.clock)
    at_once = await asyncio.gather(
        *(_accepted(process, number, _ANNE) for number in range(10)), return_exceptions=True
    )
    assert {type(one) for one in at_once} == {StoreUnavailable}  # also of those that waited for that claim
    assert await store.jobs.pending_of(_ANNE, 100) == 1
    assert await _at_once(_accepted(process, number, _ANNE) for number in range(10, 20)) == 1


async def test_a_requester_who_waits_for_the_store_keeps_no_other_one_waiting(store: StoreUnderTest) -> None:
    release = asyncio.Event()

    class Slow(_Failing):
        async def claim_workflow(self, *arguments: Any, **options: Any) -> Claim:
            if arguments[0].requester == _ANNE:
                await release.wait()
            claim: Claim = await self._jobs.claim_workflow(*arguments, **options)
            return claim

    jobs: Any = Slow(store.jobs)
    process = _process(jobs, active=5000)
    hers = asyncio.create_task(_accepted(process, 1, _ANNE))
    async with asyncio.timeout(30):
        assert await _accepted(process, 2, Requester("bob"))
    assert not hers.done()
    release.set()
    assert await hers
