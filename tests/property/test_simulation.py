"""All control loops on a virtual clock: whatever fails, nothing is broken, and what is broken is seen.

`./dev simulate` runs thousands of schedules, from any seed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.simulation.day import simulate_day, trace
from tests.simulation.schedules import Defect, Outcome, Schedules
from tests.simulation.world import FENCED

from gooseherd.domain.job import Fence, JobId, Requester
from gooseherd.domain.reservation import Purpose, Reservation, ReservationId
from gooseherd.domain.session import SessionAction, SessionsSnapshot, plan
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.reservations import SqlReservations

pytestmark = pytest.mark.integration

SCHEDULES = 25
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


class FloorOfItsOwn:
    """Reservations of which each process sees its own only, so that each holds the whole floor."""

    def __init__(self, reservations: SqlReservations, process: str) -> None:
        self._reservations = reservations
        number = process.removeprefix("api")
        self._first = 100 * (1 + int(number)) if number.isdigit() else 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reservations, name)

    def _stored(self, one: Reservation) -> Reservation:
        if one.purpose is Purpose.SESSION:
            return one
        return replace(one, slot=one.slot + self._first, owner=Requester(f"{one.owner} of {self._first}"))

    def _own(self, one: Reservation | None) -> Reservation | None:
        if one is not None and one.purpose is Purpose.SESSION:
            return one
        if one is None or not self._first <= one.slot < self._first + 100:
            return None
        owner = Requester(one.owner.removesuffix(f" of {self._first}"))
        return replace(one, slot=one.slot - self._first, owner=owner)

    async def reserve(self, wanted: Reservation, limit: int) -> Reservation | None:
        limit = limit if wanted.purpose is Purpose.SESSION else 1000
        return self._own(await self._reservations.reserve(self._stored(wanted), limit))

    async def get(self, reservation_id: ReservationId) -> Reservation | None:
        return self._own(await self._reservations.get(reservation_id))

    async def live(self) -> list[Reservation]:
        return [own for one in await self._reservations.live() if (own := self._own(one)) is not None]

    async def change(self, seen: Reservation, wanted: Reservation) -> Reservation | None:
        return self._own(await self._reservations.change(self._stored(seen), self._stored(wanted)))


class IdleForGood:
    """Reservations of which nobody learns that a session is idle no more."""

    def __init__(self, reservations: SqlReservations, process: str) -> None:
        self._reservations = reservations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reservations, name)

    async def change(self, seen: Reservation, wanted: Reservation) -> Reservation | None:
        if replace(wanted, idle_since=seen.idle_since) == seen and wanted.idle_since is None:
            return seen
        return await self._reservations.change(seen, wanted)


def speaks_to_workers_of_later_builds(seen: SessionsSnapshot) -> list[SessionAction]:
    """As sessions are decided; but workers are kept alive that only processes of another build would use."""
    deployed_at = seen.deployed_at
    assert deployed_at is not None or not seen.sessions
    later = [
        one
        for one in seen.sessions
        if deployed_at is not None and one.build != seen.build and one.deployed_at >= deployed_at
    ]
    others = [one for one in seen.sessions if one not in later]
    return [*plan(replace(seen, sessions=others)), *plan(replace(seen, sessions=later, build=""))]


def first_broken(defect: Defect) -> Outcome:
    with Schedules(defect) as schedules:
        outcomes = (schedules.run(seed) for seed in range(1, FAR))
        return next(outcome for outcome in outcomes if outcome.violations)


def is_seen(violation: str, defect: Defect, first: int) -> bool:
    """Whether that is seen of it; the seeds before the `first` do not show it."""
    with Schedules(defect) as schedules:
        return any(violation in one for seed in range(first, FAR) for one in schedules.run(seed).violations)


def test_no_schedule_breaks_anything() -> None:
    jobs, trouble = Counter[str](), Counter[str]()
    with Schedules() as schedules:
        for seed in range(SCHEDULES):
            outcome = schedules.run(seed)
            assert outcome.violations == [], f"seed {seed}; ./dev simulate --seed {seed} --schedules 1 --show"
            jobs += outcome.jobs
            trouble += outcome.trouble
    assert {"completed", "failed", "batch completed", "artifacts removed"} <= jobs.keys()
    assert len(trouble) >= 8, "hardly anything went wrong"


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_a_schedule_is_the_same_each_time(seed: int) -> None:
    with Schedules() as once, Schedules() as again:
        assert once.run(seed).trace == again.run(seed).trace


def test_a_store_that_does_not_look_at_the_fence_is_seen() -> None:
    assert "under an old fence" in first_broken(Defect(jobs_of=WithoutFence)).violations[0]


def test_a_reaper_that_does_not_look_at_the_finalizers_of_its_process_is_seen() -> None:
    assert "which it is finalizing" in first_broken(Defect(finalizer_marker=False)).violations[0]


def test_a_floor_that_each_process_holds_by_itself_is_seen() -> None:
    assert "the floor is" in first_broken(Defect(reservations_of=FloorOfItsOwn)).violations[0]


def test_a_session_that_is_idle_while_it_works_is_seen() -> None:
    assert is_seen("ended as idle", Defect(reservations_of=IdleForGood), first=40)


def test_a_session_that_is_left_to_a_build_that_was_taken_back_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gooseherd.control.sessions.plan", speaks_to_workers_of_later_builds)
    assert is_seen("has no future", Defect(), first=124)


def test_a_small_day_is_done_and_says_what_it_cost() -> None:
    assert trace(1, 100) == trace(1, 100) != trace(2, 100)
    report = simulate_day(1, 40, 1, hours=0.5)
    assert report.unfinished == 0
    assert 0 < report.worked_seconds < report.paid_seconds
    assert report.interactive_p95 is not None
