"""The fleet as the admin sees it: who works on what, who ended and why, and stopping one."""

from __future__ import annotations

import time

import pytest

from gooseherd.domain.errors import NotFound, WorkerLost
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}


class Barracks:
    """A fleet that consists of what it says."""

    def __init__(self) -> None:
        self.workers: list[WorkerView] = []
        self.stopped: list[tuple[str, str]] = []
        self.blind = False

    async def survey(self, also=()):
        if self.blind:
            raise WorkerLost("nobody answers")
        return self.workers

    async def stop(self, worker_id, reason):
        if worker_id not in {worker.worker_id for worker in self.workers}:
            raise NotFound("worker", worker_id)
        self.stopped.append((worker_id, reason))

    def slots(self) -> int:
        return 7 - len(self.workers)

    def add(self, name: str, health=WorkerHealth.HEALTHY, age: float = 60.0, **more) -> None:
        started = time.time() - age if age else 0.0
        self.workers.append(WorkerView(WorkerId(name), health, started, **more))


@pytest.fixture
def barracks() -> Barracks:
    return Barracks()


@pytest.fixture
async def town(build_town, barracks):
    return await build_town(fleet=barracks)


async def running_on(town, worker: str) -> str:
    entry = await town.register()
    job_id = (await town.http.get(f"/data/{entry.name}")).json()["job_id"]
    job = await town.run(job_id)
    await town.jobs.assign_worker(job.job_id, job.fence, WorkerId(worker))
    return str(job_id)


async def test_the_fleet_tells_who_works_on_what_and_why_others_ended(town, barracks) -> None:
    job_id = await running_on(town, "busy")
    barracks.add("new", WorkerHealth.STARTING, age=0)
    barracks.add("idle", warm=True, age=30)
    barracks.add("busy", age=3600, size="1 vCPU", launched_for="other.1", detail="running, healthy")
    barracks.add("first", WorkerHealth.GONE, detail="it was killed", stoppable=False)
    barracks.add("last", WorkerHealth.GONE, detail="it ended by itself", stoppable=False, age=20)
    body = (await town.http.get("/fleet", headers=ADMIN)).json()
    assert [worker["worker_id"] for worker in body["workers"]] == ["busy", "idle", "new"]
    busy, idle, new = body["workers"]
    assert (busy["job_id"], busy["attempt"]) == (job_id, f"{job_id}.1")
    assert busy["job_url"].endswith(f"/jobs/{job_id}")
    assert (busy["health"], busy["size"], busy["launched_for"]) == ("healthy", "1 vCPU", "other.1")
    assert busy["age_seconds"] >= 3600
    assert (idle["job_id"], idle["attempt"], idle["warm"]) == (None, None, True)
    assert (new["health"], new["started_at"], new["age_seconds"]) == ("starting", None, None)
    assert [(worker["worker_id"], worker["diagnosis"]) for worker in body["ended"]] == [
        ("last", "it ended by itself"),
        ("first", "it was killed"),
    ]
    assert body["slots"] == 2


async def test_a_worker_launched_for_a_job_that_has_none_yet_is_that_job_s(town, barracks) -> None:
    entry = await town.register()
    job_id = (await town.http.get(f"/data/{entry.name}")).json()["job_id"]
    await town.run(job_id)
    barracks.add("starts", WorkerHealth.STARTING, launched_for=f"{job_id}.1")
    [worker] = (await town.http.get("/fleet", headers=ADMIN)).json()["workers"]
    assert worker["job_id"] == job_id


async def test_only_fifty_that_ended_are_told(town, barracks) -> None:
    for number in range(60):
        barracks.add(f"g{number}", WorkerHealth.GONE, age=0)
    ended = (await town.http.get("/fleet", headers=ADMIN)).json()["ended"]
    assert [worker["worker_id"] for worker in ended] == [f"g{n}" for n in range(59, 9, -1)]


async def test_an_idle_worker_is_stopped_and_told_as_it_was(town, barracks) -> None:
    barracks.add("idle", warm=True)
    answer = await town.http.delete("/fleet/idle", headers=ADMIN)
    assert (answer.status_code, answer.json()["worker_id"], answer.json()["warm"]) == (200, "idle", True)
    assert barracks.stopped == [("idle", "an operator asked for it")]


async def test_a_busy_worker_is_stopped_only_with_force(town, barracks) -> None:
    job_id = await running_on(town, "busy")
    barracks.add("busy")
    refused = await town.http.delete("/fleet/busy", headers=ADMIN)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/worker-in-use")
    assert (refused.json()["worker_id"], refused.json()["job_id"]) == ("busy", job_id)
    assert barracks.stopped == []
    forced = await town.http.delete("/fleet/busy", params={"force": "true"}, headers=ADMIN)
    assert (forced.status_code, forced.json()["job_id"]) == (200, job_id)
    assert [name for name, _ in barracks.stopped] == ["busy"]


async def test_who_is_not_there_or_has_ended_cannot_be_stopped(town, barracks) -> None:
    barracks.add("over", WorkerHealth.GONE)
    for name in ("over", "never", "w%20x"):
        answer = await town.http.delete(f"/fleet/{name}", headers=ADMIN)
        assert (answer.status_code, answer.json()["what"]) == (404, "worker")


async def test_the_fleet_is_the_admin_s_only(town, barracks) -> None:
    barracks.add("idle")
    for method, path in (("GET", "/fleet"), ("DELETE", "/fleet/idle")):
        for headers in ({}, {"X-API-Key": "guess"}):
            assert (await town.http.request(method, path, headers=headers)).status_code == 401
    assert barracks.stopped == []


async def test_a_fleet_that_cannot_be_seen_is_not_half_told(town, barracks) -> None:
    barracks.blind = True
    answer = await town.http.get("/fleet", headers=ADMIN)
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


async def test_without_processing_there_is_no_fleet(build_town) -> None:
    town = await build_town(processing=False)
    answer = await town.http.get("/fleet", headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/processing-disabled")
