"""All control loops on a virtual clock: whatever fails, nothing is broken, and what is broken is seen.

`./dev simulate` runs thousands of schedules, from any seed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.simulation.schedules import Defect, Outcome, Schedules
from tests.simulation.world import FENCED

from gooseherd.domain.job import Fence, JobId
from gooseherd.store.sql.jobs import SqlJobs

pytestmark = pytest.mark.integration

SCHEDULES = 60
FAR = 1000
"""The first seed that breaks something is below this."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Trouble is what schedules are about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class WithoutFence:
    """A store whose writes do not look at the fence: each has the one that the job has just now."""

    def __init__(self, jobs: SqlJobs) -> None:
        self._jobs = jobs

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._jobs, name)
        if name not in FENCED:
            return real

        async def call(job_id: JobId, fence: Fence, *arguments: Any) -> Any:
            job = await self._jobs.get(job_id)
            return await real(job_id, fence if job is None else job.fence, *arguments)

        return call


def first_broken(defect: Defect) -> Outcome:
    schedules = Schedules(defect)
    outcomes = (schedules.run(seed) for seed in range(1, FAR))
    return next(outcome for outcome in outcomes if outcome.violations)


def test_no_schedule_breaks_anything() -> None:
    schedules, jobs, trouble = Schedules(), Counter[str](), Counter[str]()
    for seed in range(SCHEDULES):
        outcome = schedules.run(seed)
        assert outcome.violations == [], f"seed {seed}; ./dev simulate --seed {seed} --schedules 1 --show"
        jobs += outcome.jobs
        trouble += outcome.trouble
    assert {"completed", "failed"} <= jobs.keys()
    assert len(trouble) >= 8, "hardly anything went wrong"


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_a_schedule_is_the_same_each_time(seed: int) -> None:
    assert Schedules().run(seed).trace == Schedules().run(seed).trace


def test_a_store_that_does_not_look_at_the_fence_is_seen() -> None:
    assert "under an old fence" in first_broken(Defect(jobs_of=WithoutFence)).violations[0]


def test_a_reaper_that_does_not_look_at_the_finalizers_of_its_process_is_seen() -> None:
    assert "which it is finalizing" in first_broken(Defect(finalizer_marker=False)).violations[0]
