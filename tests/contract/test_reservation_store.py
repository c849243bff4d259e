"""What every ReservationStore promises, asked of each of the real ones; and the permit of a session."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.test_job_store import ANNE, AT_ONCE, BERT, HERE, LONG, LOST, claimed

from gooseherd.domain.job import Requester, WorkerId
from gooseherd.domain.reservation import (
    EndReason,
    Purpose,
    Reservation,
    ReservationId,
    ReservationState,
    ReservedSize,
)

pytestmark = pytest.mark.integration

EARLIER = datetime(2024, 5, 6, 7, 8, 9, 123000, UTC)


def wanted(name: str, owner: str = "anne", purpose: Purpose = Purpose.SESSION, slot: int = 0) -> Reservation:
    return Reservation(
        ReservationId(name), purpose, Requester(owner), slot, ReservationState.RESERVING, "b1", EARLIER,
        EARLIER, EARLIER, size=ReservedSize.MEDIUM, idle_seconds=60.0, max_age_seconds=3600.0,
    )  # fmt: skip


def of_floor(name: str, slot: int) -> Reservation:
    return wanted(name, f"floor/{slot}", Purpose.FLOOR, slot)


@pytest.fixture
def reservations(store):
    return store.reservations


async def ended(reservations, reservation):
    ending = await reservations.change(
        reservation, reservation.to(ReservationState.ENDING, reason=EndReason.EXPLICIT)
    )
    assert ending is not None
    done = await reservations.change(ending, ending.to(ReservationState.ENDED))
    assert done is not None
    return done


async def test_a_reservation_reads_back_equal_with_the_stores_times(reservations):
    before = await reservations.now()
    made = await reservations.reserve(wanted("r1"), 3)
    assert made == await reservations.get(ReservationId("r1"))
    assert before <= made.created_at == made.changed_at == made.kept_at <= await reservations.now()
    assert replace(made, created_at=EARLIER, changed_at=EARLIER, kept_at=None) == wanted("r1")
    full = replace(
        made, worker_id=WorkerId("w"), launches=2, ready_at=EARLIER, idle_since=EARLIER, detail="x",
        state=ReservationState.READY,
    )  # fmt: skip
    changed = await reservations.change(made, full)
    assert changed == await reservations.get(ReservationId("r1"))
    assert replace(full, version=2, changed_at=changed.changed_at) == changed
    assert await reservations.get(ReservationId("other")) is None


async def test_an_owner_is_given_the_live_one_it_has(reservations):
    first = await reservations.reserve(wanted("r1"), 3)
    assert await reservations.reserve(wanted("r2"), 3) == first
    assert await reservations.reserve(wanted("r1"), 3) == first
    await ended(reservations, first)
    again = await reservations.reserve(wanted("r3"), 3)
    assert (again.reservation_id, again.slot) == ("r3", 0)


async def test_there_are_never_more_than_the_limit(reservations):
    made = [await reservations.reserve(wanted(f"r{n}", f"owner{n}"), 2) for n in range(3)]
    assert [one.slot for one in made[:2]] == [0, 1]
    assert made[2] is None
    await ended(reservations, made[0])
    assert (await reservations.reserve(wanted("r9", "owner9"), 2)).slot == 0


async def test_of_many_that_reserve_at_once_as_many_as_the_limit_get_one_each(reservations):
    made = await asyncio.gather(
        *(reservations.reserve(wanted(f"r{n}", f"owner{n}"), 3) for n in range(8)), return_exceptions=True
    )
    assert sorted(one.slot for one in made if isinstance(one, Reservation)) == [0, 1, 2]
    assert len(await reservations.live()) == 3


async def test_of_many_for_one_owner_all_get_the_same(reservations):
    made = await asyncio.gather(*(reservations.reserve(wanted(f"r{n}"), 5) for n in range(6)))
    assert len({one.reservation_id for one in made}) == 1


async def test_a_slot_of_the_floor_has_one_worker_whoever_reserves(reservations):
    made = await asyncio.gather(
        *(
            reservations.reserve(of_floor(f"p{process}-{slot}", slot), 2)
            for process in range(3)
            for slot in range(2)
        )
    )
    live = await reservations.live()
    assert sorted(one.slot for one in live) == [0, 1]
    assert {one.reservation_id for one in made} == {one.reservation_id for one in live}
    assert (await reservations.reserve(wanted("r1"), 1)).purpose is Purpose.SESSION, "counted by itself"


async def test_a_change_of_what_was_not_seen_changes_nothing(reservations):
    made = await reservations.reserve(wanted("r1"), 1)
    starting = await reservations.change(made, made.to(ReservationState.STARTING))
    assert await reservations.change(made, made.to(ReservationState.ENDING)) is None
    assert await reservations.get(made.reservation_id) == starting


async def test_the_first_reason_stands(reservations):
    made = await reservations.reserve(wanted("r1"), 1)
    reasons = [EndReason.IDLE_TIMEOUT, EndReason.EXPLICIT, EndReason.WORKER_MISSING]
    written = await asyncio.gather(
        *(reservations.change(made, made.to(ReservationState.ENDING, reason=reason)) for reason in reasons)
    )
    (first,) = [one for one in written if one is not None]
    done = await reservations.change(first, first.to(ReservationState.ENDED))
    assert done.reason is first.reason
    assert done.ended_at is not None
    assert await reservations.change(done, replace(done, detail="later")) is None, "ended is ended"


async def test_ended_ones_are_listed_when_asked_for_and_forgotten_by_age(reservations):
    first = await ended(reservations, await reservations.reserve(wanted("r1"), 2))
    second = await reservations.reserve(wanted("r2", "bert"), 2)
    assert await reservations.live() == [second]
    assert await reservations.live(first.ended_at - timedelta(seconds=1)) == [first, second]
    assert await reservations.live(first.ended_at) == [second]
    assert await reservations.forget(first.ended_at) == 0
    assert await reservations.forget(await reservations.now() + LONG) == 1
    assert await reservations.get(first.reservation_id) is None


# -- the permit ------------------------------------------------------------------------------


async def test_a_session_has_one_leased_job_at_a_time(store):
    jobs = store.jobs
    one, other = await claimed(jobs, "k1"), await claimed(jobs, "k2")
    held = await jobs.lease(one, HERE, LONG, 5, session_id="s1")
    assert held.session_id == "s1"
    assert await jobs.lease(other, HERE, LONG, 5, session_id="s1") is None
    await jobs.requeue(held.job_id, held.fence, LOST, AT_ONCE)
    assert (await jobs.lease(other, HERE, LONG, 5, session_id="s1")).job_id == other.job_id


async def test_of_many_that_want_a_permit_one_gets_it(store):
    jobs = store.jobs
    many = [await claimed(jobs, f"k{number}") for number in range(6)]
    held = await asyncio.gather(*(jobs.lease(job, HERE, LONG, session_id="s1") for job in many))
    assert sum(job is not None for job in held) == 1


async def test_an_ended_job_keeps_its_session_and_frees_the_permit(store):
    jobs = store.jobs
    held = await jobs.lease(await claimed(jobs, "k1"), HERE, LONG, session_id="s1")
    await jobs.begin_finalize(held.job_id, held.fence)
    other = await claimed(jobs, "k2")
    assert await jobs.lease(other, HERE, LONG, session_id="s1") is None
    await jobs.finalize(held.job_id, held.fence, "d" * 64, [])
    assert (await jobs.get(held.job_id)).session_id == "s1"
    assert await jobs.lease(other, HERE, LONG, session_id="s1") is not None


async def test_a_job_of_a_session_takes_no_slot_of_the_running_limit(store):
    jobs = store.jobs
    assert await jobs.lease(await claimed(jobs, "k1"), HERE, LONG, 1, session_id="s1") is not None
    assert await jobs.lease(await claimed(jobs, "k2"), HERE, LONG, 1) is not None


async def test_what_was_dispatched_is_kept_with_each_attempt(store):
    jobs = store.jobs
    held = await jobs.lease(await claimed(jobs, "k1"), HERE, LONG)
    sent = {"build": "b1", "limits": {"source_bytes": 1 << 40, "wall_seconds": 0.5}, "session_id": None}
    await jobs.assign_worker(held.job_id, held.fence, WorkerId("w1"), sent)
    again = await jobs.lease(await jobs.requeue(held.job_id, held.fence, LOST, AT_ONCE), HERE, LONG)
    await jobs.assign_worker(again.job_id, again.fence, WorkerId("w2"))
    await jobs.begin_finalize(again.job_id, again.fence)
    await jobs.finalize(again.job_id, again.fence, "d" * 64, [])
    assert [attempt.dispatched for attempt in (await jobs.get(held.job_id)).attempts] == [sent, None]


async def test_what_is_leased_without_a_session_after_one_has_none(store):
    jobs = store.jobs
    held = await jobs.lease(await claimed(jobs, "k1"), HERE, LONG, session_id="s1")
    again = await jobs.lease(await jobs.requeue(held.job_id, held.fence, LOST, AT_ONCE), HERE, LONG)
    assert again.session_id is None


async def test_due_jobs_of_one_requester_come_in_their_order(store):
    jobs = store.jobs
    hers = [await claimed(jobs, f"a{number}", requester=ANNE) for number in range(3)]
    await claimed(jobs, "b", requester=BERT)
    assert [job.job_id for job in await jobs.due_for(ANNE, 2)] == [job.job_id for job in hers[:2]]
    held = await jobs.lease(hers[0], HERE, LONG)
    await jobs.requeue(held.job_id, held.fence, LOST, LONG)
    assert [job.job_id for job in await jobs.due_for(ANNE, 9)] == [job.job_id for job in hers[1:]]
