"""The local fleet: workers are launched, reused, found again, counted, and gone without a trace."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from gooseherd.domain.errors import LaunchFailed, NoCapacity, NotFound
from gooseherd.domain.job import WorkerId
from gooseherd.processes import ProcessId

pytestmark = pytest.mark.integration

LONG_ENOUGH_SECONDS = 3
"""For a worker that is ready to be handed out and given an attempt, on a slow machine."""


async def test_one_attempt_gets_one_worker_however_often_it_asks(yard) -> None:
    fleet, need = yard.fleet(), yard.need(yard.spec("quick"))
    workers = await asyncio.gather(*(fleet.acquire(need) for _ in range(5)))
    assert len(set(workers)) == 1
    assert await fleet.acquire(need) == workers[0]
    assert [view.health for view in await fleet.view()] == ["healthy"]


async def test_a_warm_worker_is_used_before_another_is_launched(yard) -> None:
    fleet = yard.fleet()
    first = await fleet.acquire(yard.need(yard.spec("quick")))
    assert fleet.slots() == 1
    await fleet.release(first.worker_id, reusable=True)
    assert fleet.slots() == 2
    assert await fleet.acquire(yard.need(yard.spec("quick"))) == first


async def test_no_more_workers_than_allowed(yard) -> None:
    fleet = yard.fleet(max_workers=1)
    worker = await fleet.acquire(yard.need(yard.spec("quick")))
    assert fleet.slots() == 0
    with pytest.raises(NoCapacity):
        await fleet.acquire(yard.need(yard.spec("quick")))
    with pytest.raises(NoCapacity):  # Those of another process count as well.
        await yard.fleet(max_workers=1).acquire(yard.need(yard.spec("quick")))
    await fleet.release(worker.worker_id, reusable=False)
    assert fleet.slots() == 1


async def test_a_worker_that_is_not_reusable_is_gone_with_everything(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    pids = await yard.pids()
    await fleet.release(worker.worker_id, reusable=False)
    assert [pid for pid in pids if ProcessId.of(pid)] == []
    assert await fleet.find(worker.worker_id) is None
    await fleet.release(worker.worker_id, reusable=False)
    await fleet.release(WorkerId("w-unknown"), reusable=True)


async def test_busy_workers_outlive_the_fleet_and_are_found_by_the_next(yard) -> None:
    first, spec, idle = yard.fleet(), yard.spec("hold"), yard.spec("quick")
    worker = await first.acquire(yard.need(spec))
    other = await first.acquire(yard.need(idle))
    await first.release(other.worker_id, reusable=True)
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    await first.close()
    second = yard.fleet()
    assert await second.find(worker.worker_id) == worker
    assert await second.find(other.worker_id) is None
    yard.open_gate()
    async with yard.workers.connect(worker) as link:
        assert [event async for event in link.watch_attempt(spec.attempt, 1)][-1].last
    await second.release(worker.worker_id, reusable=True)
    assert await second.acquire(yard.need(yard.spec("quick"))) == worker


async def test_the_end_of_a_worker_is_seen_by_who_is_not_its_parent(yard) -> None:
    first, second = yard.fleet(), yard.fleet()
    worker = await first.acquire(yard.need(yard.spec("quick")))
    going = asyncio.create_task(second.gone(worker.worker_id))
    assert not (await asyncio.wait({going}, timeout=0.3))[0]
    yard.entry(worker).process.signal(signal.SIGKILL)
    assert (await going).startswith("worker process")
    assert await first.gone(worker.worker_id) == "worker process killed by signal 9"
    assert await second.find(worker.worker_id) is None


async def test_a_worker_nobody_knows_has_ended(yard) -> None:
    assert await yard.fleet().gone(WorkerId("w-unknown")) == "the worker ended earlier"


async def test_an_idle_worker_ends_itself_without_a_trace(yard, until) -> None:
    fleet = yard.fleet(idle=LONG_ENOUGH_SECONDS)
    worker = await fleet.acquire(yard.need(yard.spec("quick")))
    runtime = yard.entry(worker).runtime
    await fleet.release(worker.worker_id, reusable=True)
    assert await fleet.gone(worker.worker_id) == "worker process exited 0"
    assert not runtime.exists()
    assert await fleet.view() == []


async def test_a_worker_with_a_long_attempt_is_not_idle(yard) -> None:
    fleet, spec = yard.fleet(idle=LONG_ENOUGH_SECONDS), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        progress = 0
        async for event in link.watch_attempt(spec.attempt, 1):
            progress += event.kind == "progress"
            if progress == 3 * LONG_ENOUGH_SECONDS:  # Each comes half a second after the one before.
                yard.open_gate()
    assert event.kind == "done"


async def test_a_worker_past_its_lifetime_takes_nothing_new(yard) -> None:
    fleet = yard.fleet(WORKER_MAX_LIFETIME_SECONDS=str(LONG_ENOUGH_SECONDS))
    worker = await fleet.acquire(yard.need(yard.spec("quick")))
    assert await fleet.gone(worker.worker_id) == "worker process exited 0"
    assert await fleet.acquire(yard.need(yard.spec("quick"))) != worker


async def test_a_worker_that_crashes_at_start_says_why(yard) -> None:
    fleet = yard.fleet(CFDB_SORT_MEMORY_CAP="lots")
    with pytest.raises(LaunchFailed, match=r"exited 78.*CFDB_SORT_MEMORY_CAP"):
        await fleet.acquire(yard.need(yard.spec("quick")))
    assert await fleet.view() == []
    assert fleet.slots() == 2


async def test_a_launch_failure_does_not_tell_paths(yard, tmp_path) -> None:
    fleet = yard.fleet(PYTHONHOME=str(tmp_path))
    with pytest.raises(LaunchFailed) as failed:
        await fleet.acquire(yard.need(yard.spec("quick")))
    assert str(tmp_path) not in str(failed.value)


async def test_who_gives_up_waiting_leaves_the_worker_to_others(yard, until) -> None:
    fleet = yard.fleet(max_workers=1)
    giving_up = asyncio.create_task(fleet.acquire(yard.need(yard.spec("quick"))))
    await until(lambda: yard.registry.entries())
    giving_up.cancel()
    await asyncio.gather(giving_up, return_exceptions=True)
    await until(lambda: fleet.slots() == 1 and yard.registry.entries()[0].attempt is None)
    assert await fleet.acquire(yard.need(yard.spec("quick")))


async def test_a_survey_shows_who_is_warm_and_who_ended_and_stop_says_why(yard) -> None:
    fleet, other = yard.fleet(), yard.fleet()
    warm = await fleet.acquire(yard.need(yard.spec("quick")))
    busy = await fleet.acquire(yard.need(spec := yard.spec("hold")))
    async with yard.workers.connect(busy) as link:
        await link.start_attempt(spec)
    await fleet.release(warm.worker_id, reusable=True)
    shown = {view.worker_id: view for view in await other.survey()}
    assert [shown[w.worker_id].warm for w in (warm, busy)] == [True, False]
    assert shown[busy.worker_id].attempt == str(spec.attempt)
    await other.stop(busy.worker_id, "nobody works with it")
    shown = {view.worker_id: view for view in await other.survey([busy.worker_id, WorkerId("w-else")])}
    assert (shown[busy.worker_id].health, shown[busy.worker_id].stoppable) == ("gone", False)
    assert shown[busy.worker_id].detail == "the worker was stopped: nobody works with it"
    assert WorkerId("w-else") not in shown
    for name in (busy.worker_id, WorkerId("w-else")):
        with pytest.raises(NotFound):
            await other.stop(name, "again")


async def test_a_worker_held_by_a_dead_process_is_reused_once_it_is_idle(yard) -> None:
    fleet = yard.fleet(max_workers=1)
    worker = await fleet.acquire(yard.need(yard.spec("quick")))
    dead = subprocess.Popen([sys.executable, "-c", "pass"])  # noqa: ASYNC220
    owner = ProcessId.of_child(dead.pid)
    dead.wait()
    with yard.registry.locked():
        yard.registry.put(replace(yard.entry(worker), owner=owner))
    assert await fleet.acquire(yard.need(yard.spec("quick"))) == worker


async def test_a_reused_pid_is_not_taken_for_the_worker(yard) -> None:
    fleet = yard.fleet()
    worker = await fleet.acquire(yard.need(yard.spec("quick")))
    entry = yard.entry(worker)
    stranger = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220
    try:
        pretender = replace(entry.process, pid=stranger.pid, started=entry.process.started)
        with yard.registry.locked():
            yard.registry.put(
                replace(entry, worker_id=WorkerId("w-old"), process=pretender, work=yard.root / "work/w-old")
            )
        assert await yard.fleet().find(WorkerId("w-old")) is None
        await yard.fleet().release(WorkerId("w-old"), reusable=False)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_worker_refuses_an_address_others_can_reach(yard) -> None:
    command = [
        sys.executable,
        "-m",
        "gooseherd.worker.main",
        "--host",
        "0.0.0.0",
        "--work-dir",
        str(yard.root / "w"),
    ]
    worker = await asyncio.create_subprocess_exec(*command, env=yard.environment(), stderr=subprocess.PIPE)
    _, output = await worker.communicate()
    assert worker.returncode == 78
    assert b"mutual TLS" in output
    assert list(yard.root.iterdir()) == []


async def test_work_folders_that_nobody_knows_are_removed(yard) -> None:
    stray = yard.root / "work" / "w-stray" / "job.1" / "scratch"
    stray.mkdir(parents=True)
    await yard.fleet().acquire(yard.need(yard.spec("quick")))
    assert not (yard.root / "work" / "w-stray").exists()
