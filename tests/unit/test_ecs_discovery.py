"""One poller for everybody: how often it asks, what it tells whom, and that Wool can live with it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import cloudpickle
import pytest
import wool

from gooseherd.domain.job import WorkerId
from gooseherd.fleet.discovery import EcsDiscovery
from gooseherd.fleet.ecs_api import BATCH, CloudUnavailable, Described, EcsApi
from gooseherd.fleet.ecs_tasks import FleetTask
from gooseherd.worker import routines


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: whatever time was to pass has passed."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout is not None:
            self.skipped += timeout
        return events


class SimulatedTime(asyncio.SelectorEventLoop):
    """A loop in which an hour of waiting takes no time."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped


class SimulatedEcs:
    """ECS with tasks that are only documents; counts requests as AWS would."""

    def __init__(self) -> None:
        self.tasks: dict[WorkerId, dict[str, Any]] = {}
        self.down = False
        self.lists = 0
        self.describes = 0
        self.concurrent = 0

    def put(
        self, name: str, status: str = "RUNNING", health: str = "HEALTHY", address: str = "10.0.0.1"
    ) -> WorkerId:
        version = self.tasks.get(WorkerId(name), {"version": 0})["version"]
        self.tasks[WorkerId(name)] = {
            "taskArn": f"arn:x:task/c/{name}",
            "startedBy": "fleet",
            "lastStatus": status,
            "desiredStatus": "STOPPED" if status == "STOPPED" else "RUNNING",
            "healthStatus": health,
            "version": version + 1,
            "attachments": [
                {
                    "type": "ElasticNetworkInterface",
                    "details": [{"name": "privateIPv4Address", "value": address}],
                }
            ],
        }
        return WorkerId(name)

    async def list_tasks(self, started_by: str, *, tries: int = 2) -> frozenset[WorkerId]:
        live = [w for w, task in self.tasks.items() if task["desiredStatus"] == "RUNNING"]
        self.lists += max(1, -(-len(live) // BATCH))
        await asyncio.sleep(0.05)
        if self.down:
            raise CloudUnavailable("list_tasks", "down")
        return frozenset(live)

    async def describe_tasks(self, worker_ids: Sequence[WorkerId], *, tries: int = 2) -> Described:
        self.describes += -(-len(worker_ids) // BATCH)
        await asyncio.sleep(0.05)
        if self.down:
            raise CloudUnavailable("describe_tasks", "down")
        shown = {w: FleetTask.read(dict(self.tasks[w])) for w in worker_ids if w in self.tasks}
        return Described(shown, frozenset(worker_ids) - shown.keys())


async def appears(discovery: EcsDiscovery, name: str) -> None:
    while name not in discovery.healthy():
        await discovery.changed()


def simulate(scene: Callable[[SimulatedEcs, EcsDiscovery], Awaitable[None]], **more: Any) -> SimulatedEcs:
    ecs = SimulatedEcs()

    async def play() -> None:
        clock = asyncio.get_running_loop().time
        discovery = EcsDiscovery(cast(EcsApi, ecs), "fleet", worker_port=50051, clock=clock, **more)
        try:
            await scene(ecs, discovery)
        finally:
            await discovery.close()

    with asyncio.Runner(loop_factory=SimulatedTime) as runner:
        runner.run(play())
    return ecs


@pytest.mark.parametrize("count", [0, 1, 100, 1000])
@pytest.mark.parametrize("starting", [False, True], ids=["running", "starting"])
def test_reads_a_minute_are_bounded_for_any_fleet(count, starting, capsys) -> None:
    minutes = 4
    busiest = 0

    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        nonlocal busiest
        for n in range(count):
            ecs.put(f"w{n}", "PENDING" if starting else "RUNNING", "UNKNOWN" if starting else "HEALTHY")
        await discovery.swept()
        for _ in range(minutes):
            before = ecs.lists + ecs.describes
            for second in range(60):
                if starting and count:
                    ecs.put(f"w{second % count}", "PENDING", "UNKNOWN")
                discovery.poll_soon()
                await asyncio.sleep(1)
            busiest = max(busiest, ecs.lists + ecs.describes - before)

    ecs = simulate(scene)
    with capsys.disabled():
        print(
            f"\n  {count} workers {'starting' if starting else 'running'}, nudged every second: "
            f"{busiest} reads in the busiest minute "
            f"({ecs.lists / minutes:g} ListTasks, {ecs.describes / minutes:g} DescribeTasks a minute)"
        )
    assert busiest <= 120 + 20


@pytest.mark.parametrize(("count", "most"), [(0, 1), (1, 14), (100, 14), (1000, 84)])
def test_a_quiet_fleet_is_read_seldom(count, most) -> None:
    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        for n in range(count):
            ecs.put(f"w{n}")
        await discovery.swept()
        ecs.lists = ecs.describes = 0
        await asyncio.sleep(600)

    ecs = simulate(scene)
    assert (ecs.lists + ecs.describes) / 10 <= most


def test_a_worker_that_was_just_launched_is_seen_within_a_second_of_each_change() -> None:
    seen: list[float] = []

    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        await discovery.swept()
        discovery.expect(ecs.put("w", "PENDING", "UNKNOWN"))
        now = asyncio.get_running_loop().time
        await asyncio.sleep(30)
        ecs.put("w", "RUNNING", "HEALTHY")
        began = now()
        await discovery.until(WorkerId("w"), lambda state: state.healthy)
        seen.append(now() - began)

    simulate(scene)
    assert seen[0] < 1.2


def test_a_worker_that_answers_itself_does_not_wait_for_ecs() -> None:
    seen: list[float] = []
    ready = False

    async def probe(address: str) -> bool:
        return ready

    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        nonlocal ready
        discovery.expect(ecs.put("w", "PENDING", "UNKNOWN"))
        await asyncio.sleep(30)
        assert not discovery.healthy()
        ready = True
        now = asyncio.get_running_loop().time
        began = now()
        await discovery.until(WorkerId("w"), lambda state: state.healthy)
        seen.append(now() - began)
        # Later ECS says so itself, or the contrary, which counts.
        ecs.put("w", "RUNNING", "UNHEALTHY")
        discovery.poll_soon()
        await discovery.until(WorkerId("w"), lambda state: not state.healthy)

    simulate(scene, probe=probe)
    assert seen[0] <= 0.051


def test_an_outage_drops_nobody_and_is_over_when_it_is_over() -> None:
    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        ecs.put("w")
        await discovery.swept()
        ecs.down = True
        await asyncio.sleep(120)
        assert list(discovery.healthy()) == ["w"]
        assert ecs.lists < 20
        ecs.down = False
        ecs.put("w2")
        await appears(discovery, "w2")

    simulate(scene)


def test_workers_of_other_fleets_are_nobodys_business() -> None:
    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        ecs.tasks[ecs.put("w")]["startedBy"] = "other"
        await discovery.swept()
        assert not discovery.states()

    simulate(scene)


def test_the_end_of_the_oldest_worker_is_told_however_many_ended_before() -> None:
    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        old = ecs.put("old")
        await discovery.swept()
        going = asyncio.ensure_future(discovery.until(old, lambda seen: seen.gone))
        for generation in range(3):
            workers = [ecs.put(f"w{generation}-{n}") for n in range(600)]
            await appears(discovery, workers[-1])
            for worker_id in workers:
                ecs.put(worker_id, "STOPPED")
            discovery.poll_soon()
            for worker_id in workers:
                await discovery.until(worker_id, lambda seen: seen.gone)
        assert len(discovery.states()) < 1700
        ecs.put(old, "STOPPED")
        discovery.poll_soon()
        assert (await going).gone

    simulate(scene)


def test_who_asks_while_a_look_is_under_way_gets_a_newer_one() -> None:
    seen: list[float] = []

    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        worker_id = ecs.put("w")
        await discovery.swept()
        before = dict(ecs.tasks)
        described = asyncio.create_task(discovery.changed())
        await asyncio.sleep(0)
        describes = ecs.describes
        discovery.poll_soon(worker_id)
        while ecs.describes == describes:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        ecs.put(worker_id, "STOPPED")
        after, ecs.tasks = ecs.tasks, before  # The look under way has been answered already.
        discovery.poll_soon(worker_id)
        await described
        ecs.tasks = after
        now = asyncio.get_running_loop().time
        began = now()
        await discovery.until(worker_id, lambda state: state.gone)
        seen.append(now() - began)

    simulate(scene)
    assert seen[0] < 2  # Not with the next sweep.


# -- Wool ----------------------------------------------------------------------------------


async def take(stream: Any, count: int) -> list[tuple[str, str]]:
    events = [await anext(stream) for _ in range(count)]
    return [(event.type, event.metadata.address) for event in events]


def test_streams_tell_who_comes_and_goes_and_late_ones_hear_of_everybody() -> None:
    async def scene(ecs: SimulatedEcs, discovery: EcsDiscovery) -> None:
        assert isinstance(discovery, wool.DiscoveryLike)
        ecs.put("a", address="10.0.0.1")
        ecs.put("b", health="UNKNOWN", address="10.0.0.2")
        early = aiter(discovery.subscribe())
        assert await take(early, 1) == [("worker-added", "10.0.0.1:50051")]
        ecs.put("b", address="10.0.0.2")
        await appears(discovery, "b")
        late = aiter(discovery.subscriber)
        assert sorted(await take(late, 2)) == [
            ("worker-added", "10.0.0.1:50051"),
            ("worker-added", "10.0.0.2:50051"),
        ]
        only = aiter(discovery.subscribe(lambda metadata: "b" in metadata.tags))
        assert await take(only, 1) == [("worker-added", "10.0.0.2:50051")]
        ecs.put("a", "STOPPED", "UNKNOWN")
        discovery.poll_soon()
        events = await take(late, 1)
        assert ("worker-dropped", "10.0.0.1:50051") in events
        # Known ones are said again after each sweep, which heals what Wool evicted.
        assert await take(only, 2) == [("worker-updated", "10.0.0.2:50051")] * 2
        for stream in (early, late, only):
            await stream.aclose()

    simulate(scene)


async def test_on_the_wire_a_subscriber_falls_silent() -> None:
    discovery = EcsDiscovery(cast(EcsApi, SimulatedEcs()), "fleet", worker_port=1)
    stream = aiter(cloudpickle.loads(cloudpickle.dumps(discovery.subscribe())))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(stream)
    await stream.aclose()


async def test_a_wool_pool_reaches_a_worker_through_it(monkeypatch) -> None:
    monkeypatch.delenv("SYNC_DATA_DIR", raising=False)
    worker = wool.LocalWorker()
    await worker.start(timeout=30)
    host, _, port = worker.address.rpartition(":")
    ecs = SimulatedEcs()
    ecs.put("w", address=host)
    discovery = EcsDiscovery(cast(EcsApi, ecs), "fleet", worker_port=int(port))
    try:
        async with wool.WorkerPool(discovery=discovery, quorum_timeout=20):
            result = await routines.describe()
        assert "failed" in result  # It has no place to work in, and says so: it was reached.
    finally:
        await discovery.close()
        await worker.stop()
