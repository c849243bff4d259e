"""What every Workers promises: real workers over Wool, and the double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from tests.doubles import FleetDouble, WorkersDouble
from tests.integration.fleet.conftest import Yard

from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind, TemporaryCredentials
from gooseherd.domain.errors import NotFound, WorkerBusy, WorkerLost
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import WorkerLink, Workers

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Place(Protocol):
    """One worker, and attempts that end at once (quick) or when they may (hold)."""

    workers: Workers
    worker: WorkerHandle

    def spec(self, wish: str) -> AttemptSpec: ...
    def let_go(self) -> None:
        """Attempts that are held go on to their end."""

    async def kill(self) -> None:
        """The worker ends, whatever it does."""


class Real:
    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._fleet = yard.fleet(max_workers=1)
        self.workers: Workers = yard.workers

    async def open(self) -> Real:
        self.worker = await self._fleet.acquire(self._yard.need(self._yard.spec("quick")))
        return self

    def spec(self, wish: str) -> AttemptSpec:
        return self._yard.spec(wish)

    def let_go(self) -> None:
        self._yard.open_gate()

    async def kill(self) -> None:
        await self._fleet.release(self.worker.worker_id, reusable=False)


class Doubled:
    def __init__(self, yard: Yard) -> None:
        self._yard = yard  # Only for its specs: no process is started.
        self._fleet = FleetDouble()
        self._held: set[AttemptId] = set()
        self._go_on = asyncio.Event()
        self.workers: Workers = WorkersDouble(self._fleet.machine, self._script)

    async def open(self) -> Doubled:
        self.worker = await self._fleet.acquire(self._yard.need(self._yard.spec("quick")))
        return self

    def spec(self, wish: str) -> AttemptSpec:
        spec = self._yard.spec(wish)
        if wish == "hold":
            self._held.add(spec.attempt)
        return spec

    async def _script(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.ACCEPTED, 0.0)
        yield Event(2, EventKind.STEP, 0.0, step="data")
        if attempt in self._held:
            await self._go_on.wait()
        yield Event(3, EventKind.DONE, 0.0, manifest_digest="0" * 64)

    def let_go(self) -> None:
        self._go_on.set()

    async def kill(self) -> None:
        await self._fleet.release(self.worker.worker_id, reusable=False)


@pytest.fixture(params=["wool", "double"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    yard = Yard(tmp_path)
    yield await (Real(yard) if request.param == "wool" else Doubled(yard)).open()
    await yard.close()


async def told(link: WorkerLink, spec: AttemptSpec, from_seq: int = 1) -> list[Event]:
    """What is in the attempt's journal from there on; heartbeats are not."""
    events = [event async for event in link.watch_attempt(spec.attempt, from_seq)]
    return [event for event in events if event.kind is not EventKind.HEARTBEAT]


async def test_events_have_numbers_without_gaps_to_the_last_one(place: Place) -> None:
    spec = place.spec("quick")
    async with place.workers.connect(place.worker) as link:
        await link.start_attempt(spec)
        events = await told(link, spec)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.last for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].kind is EventKind.DONE


async def test_a_watcher_begins_where_it_says_and_past_the_end_it_gets_the_last_event(place: Place) -> None:
    spec = place.spec("quick")
    async with place.workers.connect(place.worker) as link:
        await link.start_attempt(spec)
        events = await told(link, spec)
    async with place.workers.connect(place.worker) as link:
        assert await told(link, spec, 2) == events[1:]
        assert (await told(link, spec, events[-1].seq + 1))[-1] == events[-1]


async def test_an_attempt_that_is_started_twice_runs_once_and_another_one_is_refused(place: Place) -> None:
    spec, other = place.spec("hold"), place.spec("quick")
    async with place.workers.connect(place.worker) as link:
        await link.start_attempt(spec)
        await link.start_attempt(spec)
        with pytest.raises(WorkerBusy):
            await link.start_attempt(other)
        assert list((await link.describe())["attempts"]) == [str(spec.attempt)]
        place.let_go()
        assert [event.kind for event in await told(link, spec)].count(EventKind.ACCEPTED) == 1
        await link.start_attempt(other)
        assert (await told(link, other))[-1].last


async def test_a_link_that_is_closed_leaves_the_attempt_running(place: Place) -> None:
    spec = place.spec("hold")
    async with place.workers.connect(place.worker) as link:
        await link.start_attempt(spec)
        async with aclosing(link.watch_attempt(spec.attempt, 1)) as events:  # type: ignore[type-var]
            first = await anext(events)
    async with place.workers.connect(place.worker) as link:
        assert list((await link.describe())["attempts"]) == [str(spec.attempt)]
        place.let_go()
        assert (await told(link, spec, first.seq + 1))[-1].kind is EventKind.DONE


async def test_an_unknown_attempt_cannot_be_watched_and_may_be_cancelled(place: Place) -> None:
    spec = place.spec("quick")
    async with place.workers.connect(place.worker) as link:
        with pytest.raises(NotFound):
            await told(link, replace(spec, attempt=spec.attempt._replace(number=7)))
        await link.cancel_attempt(spec.attempt)


async def test_a_cancelled_attempt_makes_room_for_another(place: Place) -> None:
    spec, other = place.spec("hold"), place.spec("quick")
    async with place.workers.connect(place.worker) as link:
        await link.start_attempt(spec)
        await link.cancel_attempt(spec.attempt)
        assert list((await link.describe())["attempts"]) == []
        await link.start_attempt(other)
        assert (await told(link, other))[-1].kind is EventKind.DONE


async def test_credentials_of_a_running_attempt_are_renewed_and_of_no_other(place: Place) -> None:
    credentials = TemporaryCredentials("ID", "secret", "token", 2e9)
    spec = replace(place.spec("hold"), credentials=credentials)
    async with place.workers.connect(place.worker) as link:
        with pytest.raises(NotFound):
            await link.renew_credentials(spec.attempt, credentials)
        await link.start_attempt(spec)
        await link.renew_credentials(spec.attempt, replace(credentials, key_id="NEW"))
        await link.cancel_attempt(spec.attempt)


async def test_a_worker_that_ended_answers_nothing(place: Place) -> None:
    spec = place.spec("quick")
    await place.kill()
    with pytest.raises(WorkerLost):
        async with place.workers.connect(place.worker) as link:
            await link.start_attempt(spec)
    with pytest.raises(WorkerLost):
        async with place.workers.connect(place.worker) as link:
            await link.describe()
