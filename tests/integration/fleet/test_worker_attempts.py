"""A real worker over gRPC: attempts are started once, watched by anybody, adopted and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gooseherd.domain.attempt import AttemptId, Event, EventKind, TemporaryCredentials
from gooseherd.domain.errors import Misconfigured, NotFound, WorkerBusy, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.processes import ProcessId

pytestmark = pytest.mark.integration


async def test_an_attempt_is_started_and_heard_to_its_end(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        events = [event async for event in link.watch_attempt(spec.attempt, 1)]
    written = [event for event in events if event.kind is not EventKind.HEARTBEAT]
    assert written[0].kind is EventKind.ACCEPTED
    assert written[-1].kind is EventKind.DONE
    assert [event.seq for event in written] == sorted({event.seq for event in written})


async def test_starting_again_changes_nothing(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await asyncio.gather(*(link.start_attempt(spec) for _ in range(5)))
        assert [event async for event in link.watch_attempt(spec.attempt, 1)][-1].kind is EventKind.DONE
        await link.start_attempt(spec)
    assert yard.runs() == 1


async def test_a_second_attempt_is_refused_while_one_lives(yard) -> None:
    fleet, spec, other = yard.fleet(), yard.spec("hold"), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        with pytest.raises(WorkerBusy, match=str(spec.attempt)):
            await link.start_attempt(other)
        await link.cancel_attempt(spec.attempt)
        await link.start_attempt(other)
        assert [event async for event in link.watch_attempt(other.attempt, 1)][-1].kind is EventKind.DONE


async def test_another_build_is_refused(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick", build="another")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        with pytest.raises(Misconfigured, match="build"):
            await link.start_attempt(spec)


async def test_an_id_that_would_leave_the_work_folder_is_refused(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        with pytest.raises(Misconfigured):
            await link.start_attempt(replace(spec, attempt=AttemptId(JobId("../../x"), 1)))


async def test_an_unknown_attempt_cannot_be_watched_but_can_be_cancelled(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        with pytest.raises(NotFound):
            _ = [event async for event in link.watch_attempt(spec.attempt, 1)]
        await link.cancel_attempt(spec.attempt)


async def test_a_watcher_that_leaves_does_not_end_the_attempt_and_the_next_one_continues(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    first: list[Event] = []
    heard = asyncio.Event()

    async def watch() -> None:
        async with yard.workers.connect(worker) as link:
            await link.start_attempt(spec)
            async for event in link.watch_attempt(spec.attempt, 1):
                first.append(event)
                heard.set()

    watching = asyncio.create_task(watch())
    attempt, *_ = await yard.pids()
    async with asyncio.timeout(30):
        await heard.wait()  # A heartbeat at the least: the watcher must have begun before it leaves.
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert ProcessId.of(attempt) is not None
    yard.open_gate()
    async with yard.workers.connect(worker) as link:
        rest = [event async for event in link.watch_attempt(spec.attempt, first[-1].seq + 1)]
    written = [event.seq for event in [*first, *rest] if event.kind is not EventKind.HEARTBEAT]
    assert written == list(dict.fromkeys(written))
    assert rest[-1].kind is EventKind.DONE
    assert yard.runs() == 1


async def test_who_asks_past_the_end_still_hears_how_it_ended(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        last = [event async for event in link.watch_attempt(spec.attempt, 1)][-1]
        again = [event async for event in link.watch_attempt(spec.attempt, last.seq + 1)]
    assert again[-1] == last


async def test_cancelling_empties_the_processes_and_the_folder(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        pids = await yard.pids()
        watching = asyncio.create_task(_last(link.watch_attempt(spec.attempt, 1)))
        await asyncio.sleep(0)
        await link.cancel_attempt(spec.attempt)
        assert [pid for pid in pids if ProcessId.of(pid)] == []
        assert not yard.folder(worker, spec).exists()
        with contextlib.suppress(NotFound):  # The watcher may have come too late to know it.
            assert (await watching).reason is Reason.CANCELLED


@pytest.mark.slow
async def test_cancelling_ends_an_attempt_that_does_not_listen(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("deaf")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        pids = await yard.pids()
        await link.cancel_attempt(spec.attempt)
    assert [pid for pid in pids if ProcessId.of(pid)] == []
    assert not yard.folder(worker, spec).exists()


@pytest.mark.slow
async def test_an_attempt_without_news_sends_heartbeats(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("deaf")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        async for event in link.watch_attempt(spec.attempt, 1):
            if event.kind is EventKind.HEARTBEAT:
                break
        await link.cancel_attempt(spec.attempt)


async def test_the_wall_limit_ends_an_attempt_with_its_reason(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold", wall=1.0)
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        last = await _last(link.watch_attempt(spec.attempt, 1))
        assert last.reason is Reason.DEADLINE_EXCEEDED
        assert not (yard.folder(worker, spec) / "scratch").exists()


async def test_an_attempt_does_not_see_the_workers_credentials(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        attempt, *_ = await yard.pids()
        environment = await asyncio.to_thread(Path(f"/proc/{attempt}/environ").read_bytes)
        assert b"AWS_SECRET" not in environment
        assert b"SYNC_DATA_DIR" in environment
        assert os.getpriority(os.PRIO_PROCESS, attempt) == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
        assert os.getsid(attempt) == attempt


async def test_the_credentials_of_an_order_are_for_its_attempt_alone_and_go_with_it(yard) -> None:
    credentials = TemporaryCredentials("ID", "the-secret", "token", 2e9)
    fleet, spec = yard.fleet(), replace(yard.spec("hold"), credentials=credentials)
    worker = await fleet.acquire(yard.need(spec))
    folder = yard.folder(worker, spec)
    file = folder.parent / "secrets" / f"{folder.name}.json"

    def look() -> tuple[int, str, bool]:
        """(mode, key id, whether another file of the work folder has the secret)"""
        others = [path for path in folder.rglob("*") if path.is_file()]
        leaked = any(b"the-secret" in path.read_bytes() for path in others)
        return file.stat().st_mode & 0o777, json.loads(file.read_text())["key_id"], leaked

    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        await yard.pids()
        assert await asyncio.to_thread(look) == (0o600, "ID", False)
        await link.renew_credentials(spec.attempt, replace(credentials, key_id="NEW"))
        assert await asyncio.to_thread(look) == (0o600, "NEW", False)
        await link.cancel_attempt(spec.attempt)
        assert not file.exists()
        with pytest.raises(NotFound):
            await link.renew_credentials(spec.attempt, credentials)
        assert not file.exists()


async def test_a_routine_can_be_asked_what_the_worker_does(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        result = await link.describe()
    assert result["attempts"] == [str(spec.attempt)]
    assert result["draining"] is False


async def test_an_attempt_that_has_said_its_last_word_is_not_at_work(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        await _last(link.watch_attempt(spec.attempt, 1))
        assert (await link.describe())["attempts"] == []


async def test_nobody_at_the_address_is_a_lost_worker(yard) -> None:
    with pytest.raises(WorkerLost):
        async with yard.workers.connect(WorkerHandle(WorkerId("w"), "127.0.0.1:1")):
            pass


async def _last(events: AsyncIterator[Event]) -> Event:
    return [event async for event in events][-1]
