"""Which idle worker is handed out, and what becomes of those that are doubted, taken or gone."""

from __future__ import annotations

import dataclasses

import pytest

from gooseherd.domain.job import WorkerId
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.ecs_tasks import FleetTask
from gooseherd.fleet.worker_inventory import WorkerInventory
from gooseherd.fleet.worker_state import WorkerState

SMALL, LARGE = WorkerSize(1024, 2048), WorkerSize(2048, 4096)
A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")


def seen(worker_id: WorkerId, size: WorkerSize = SMALL) -> WorkerState:
    task = FleetTask(
        worker_id=worker_id,
        status="RUNNING",
        wanted=True,
        health="HEALTHY",
        address="10.0.0.1",
        size=size,
        launched_for=None,
        started_by="fleet",
        created_at=0.0,
        version=1,
        payload={},
    )
    return WorkerState(worker_id, 0.0, task)


class Site:
    def __init__(self) -> None:
        self.now = 0.0
        self.workers = {A: seen(A), B: seen(B), C: seen(C, LARGE)}
        self.inventory = WorkerInventory(lambda: self.workers, lambda: self.now)

    def rest(self, *workers: WorkerId) -> None:
        for worker_id in workers:
            self.now += 1
            self.inventory.mark_idle(worker_id)

    def take(self, size: WorkerSize = SMALL, longest: float = 60.0) -> WorkerId | None:
        taken = self.inventory.take("j.1", size, longest)
        return taken and taken[0]


@pytest.fixture
def site() -> Site:
    return Site()


def test_one_that_was_told_to_end_is_not_handed_out_however_it_looks(site: Site) -> None:
    site.rest(A)
    site.inventory.dismiss(A)
    assert site.take() is None
    site.inventory.mark_idle(A)  # Whoever used it until then gives it back.
    site.inventory.mark_unresponsive(A, 0.0)
    site.now += 60
    assert site.take() is None
    assert site.inventory.all_idle() == []


def test_the_smallest_that_will_do_and_of_those_the_last_used(site: Site) -> None:
    site.rest(A, B, C)
    assert [site.take() for _ in range(4)] == [B, A, C, None]


def test_one_that_is_too_small_is_left(site: Site) -> None:
    site.rest(A, C)
    assert site.take(LARGE) == C
    assert site.take(LARGE) is None
    assert site.inventory.idle() == {A: 1.0}


def test_what_is_taken_is_held_and_tells_since_when_it_was_idle(site: Site) -> None:
    site.rest(A)
    assert site.inventory.take("j.1", SMALL, 60.0) == (A, 1.0)
    assert site.inventory.held_for(A) == "j.1"
    assert not site.inventory.is_warm(A)


def test_one_about_to_end_of_itself_is_not_handed_out(site: Site) -> None:
    site.rest(A)
    site.now = 61.0
    assert site.take(longest=60.0) is None
    assert site.take(longest=60.1) == A


def test_what_has_ended_is_forgotten_whatever_it_was(site: Site) -> None:
    site.inventory.hold(A, "j.1")
    site.rest(B)
    site.inventory.mark_unresponsive(C, 0.0)
    site.workers = {A: dataclasses.replace(site.workers[A], gone=True), B: site.workers[B]}
    del site.workers[B]
    assert site.inventory.idle() == {}
    assert site.inventory.all_idle() == []
    assert site.inventory.held_for(A) is None


def test_one_that_is_not_healthy_waits(site: Site) -> None:
    site.rest(A)
    healthy = site.workers[A]
    assert healthy.task is not None
    site.workers[A] = dataclasses.replace(healthy, task=dataclasses.replace(healthy.task, health="UNHEALTHY"))
    assert site.take() is None
    site.workers[A] = healthy
    assert site.take() == A


def test_one_in_doubt_is_idle_again_after_a_while_with_its_old_age(site: Site) -> None:
    site.rest(A)
    site.inventory.mark_unresponsive(A, since=1.0)
    assert site.take() is None
    assert site.inventory.all_idle() == [A]
    site.now += 6.0
    assert site.inventory.take("j.2", SMALL, 60.0) == (A, 1.0)


def test_one_in_doubt_that_is_found_at_work_stays_with_its_attempt(site: Site) -> None:
    site.inventory.mark_unresponsive(A, since=0.0)
    site.inventory.hold(A, "j.3")
    site.now += 60.0
    assert site.take() is None
    assert site.inventory.held_for(A) == "j.3"


@pytest.mark.parametrize("before", ["held", "warm", "doubted", "unknown"])
def test_what_is_let_go_is_nothing_to_us(site: Site, before: str) -> None:
    match before:
        case "held":
            site.inventory.hold(A, "j.1")
        case "warm":
            site.rest(A)
        case "doubted":
            site.inventory.mark_unresponsive(A, 0.0)
    site.inventory.let_go(A)
    site.now += 60.0
    assert site.inventory.all_idle() == []
    assert site.inventory.held_for(A) is None
