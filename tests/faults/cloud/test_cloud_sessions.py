"""A session on the local cloud, from the request to its end by idleness, its worker killed in the middle."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cloud.conftest import Api, Cloud

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]


def files(api: Api, mark: str, count: int, *, held: bool = False) -> list[str]:
    names = [api.library.bed(f"{mark}-{number}.bed", held=held and number == 0) for number in range(count)]
    for name in names:
        api.register(name)
    return names


def dispatched(api: Api, session_id: str, file: str) -> str:
    """Its job."""
    job = api.client.dispatch(session_id, file)
    assert job is not None
    return str(job["job_id"])


def workers_of(api: Api, job_id: str) -> list[str]:
    """Without attempts that found the worker gone before anybody knew."""
    attempts = api.client.job(job_id)["attempts"]
    return [attempt["worker_id"] for attempt in attempts if attempt["worker_id"] is not None]


def test_a_session_from_its_request_to_its_idle_end_with_its_worker_killed_in_the_middle(
    cloud: Cloud, until: Callable[..., Any]
) -> None:
    mark = uuid.uuid4().hex[:6]
    with cloud.api(WORKER_IDLE_TIMEOUT_SECONDS="2") as api:
        session = api.client.start_session(idle_seconds=4)
        assert session["state"] in ("reserving", "starting")
        assert api.client.start_session(size="large")["session_id"] == session["session_id"], "one an owner"
        names = files(api, mark, 3)
        # They are kept for its worker, which is not there yet, and run on it in their order.
        jobs = [dispatched(api, session["session_id"], f"t/{name}") for name in names]
        assert [api.completed(job) for job in jobs] == [["published"]] * 3
        ready = api.client.session(session["session_id"])
        assert ready["state"] == "ready"
        assert {worker for job in jobs for worker in workers_of(api, job)} == {ready["worker_id"]}
        starts = [api.client.job(job)["started_at"] for job in jobs]
        ends = [api.client.job(job)["finished_at"] for job in jobs]
        assert starts == sorted(starts)
        assert all(end <= start for end, start in zip(ends[:-1], starts[1:], strict=True)), "one at a time"
        assert len(cloud.tasks()) == 1

        # Its worker dies with work in flight.
        held, behind = files(api, f"{mark}-held", 2, held=True)
        jobs = [dispatched(api, session["session_id"], f"t/{name}") for name in (held, behind)]
        assert api.library.halfway[held].wait(60)
        cloud.cloud_admin.kill(ready["worker_id"])
        api.library.let_go(held)
        assert [api.completed(job)[-1] for job in jobs] == ["published"] * 2
        replaced = api.client.session(session["session_id"])
        assert (replaced["state"], replaced["workers_launched"]) == ("ready", 2)
        assert workers_of(api, jobs[0]) == [ready["worker_id"], replaced["worker_id"]]
        assert api.client.job(jobs[0])["attempts"][0]["reason"] == "worker_lost"
        assert workers_of(api, jobs[1]) == [replaced["worker_id"]]

        # Nothing is in flight: it ends, and so does its worker.
        def ended() -> Mapping[str, Any] | None:
            record = api.client.session(session["session_id"])
            return record if record["state"] == "ended" else None

        over = until(ended, "the session ends", 60)
        assert over["reason"] == "idle_timeout"
        until(lambda: not cloud.live(), "its worker ends")
        assert api.client.sessions()["sessions"] == []
        # Jobs go to any worker again.
        name = files(api, f"{mark}-after", 1)[0]
        assert api.completed(api.ask(name)) == ["published"]


def test_a_session_goes_on_when_the_process_that_made_it_is_killed(
    cloud: Cloud, until: Callable[..., Any]
) -> None:
    mark = uuid.uuid4().hex[:6]
    shared = {
        "DATABASE_URL": f"sqlite:///{cloud.folder}/{mark}.sqlite",
        "ECS_FLEET": f"fleet-{mark}",
        "WORKFLOW_S3_PREFIX": f"{mark}/",
        "WORKER_IDLE_TIMEOUT_SECONDS": "2",
    }
    with cloud.api(**shared) as survivor:
        with cloud.api(**shared) as maker:
            session = maker.client.start_session(owner="admin", idle_seconds=4)["session_id"]
            until(lambda: maker.client.session(session)["state"] == "ready", "it is ready")
            held = files(maker, mark, 1, held=True)[0]
            running = dispatched(maker, session, f"t/{held}")
            assert maker.library.halfway[held].wait(60)
            maker.kill()
        behind = dispatched(survivor, session, f"t/{files(survivor, f'{mark}-b', 1)[0]}")
        maker.library.let_go(held)
        assert survivor.completed(running)[-1] == "published"
        assert survivor.completed(behind) == ["published"]
        worker = survivor.client.session(session)["worker_id"]
        assert workers_of(survivor, running) == workers_of(survivor, behind) == [worker]
        until(lambda: survivor.client.session(session)["state"] == "ended", "it ends")
        assert survivor.client.session(session)["reason"] == "idle_timeout"


def test_a_session_whose_worker_dies_twice_ends_and_no_job_is_lost(
    cloud: Cloud, until: Callable[..., Any]
) -> None:
    mark = uuid.uuid4().hex[:6]
    with cloud.api(WORKER_IDLE_TIMEOUT_SECONDS="2") as api:
        session = api.client.start_session(idle_seconds=60)["session_id"]

        def ready_on(launched: int) -> str | None:
            record = api.client.session(session)
            fits = record["state"] == "ready" and record["workers_launched"] == launched
            return record["worker_id"] if fits else None

        for launched in (1, 2):
            worker = until(lambda number=launched: ready_on(number), f"worker {launched} is ready")
            cloud.cloud_admin.kill(worker)
        job = api.ask(files(api, mark, 1)[0])
        until(lambda: api.client.session(session)["state"] == "ended", "it ends")
        assert api.client.session(session)["reason"] == "worker_missing"
        assert api.completed(job)[-1] == "published"


def test_an_ended_session_lets_its_work_end_first_and_keeps_its_first_reason(
    cloud: Cloud, until: Callable[..., Any]
) -> None:
    mark = uuid.uuid4().hex[:6]
    with cloud.api(WORKER_IDLE_TIMEOUT_SECONDS="2") as api:
        session = api.client.start_session(idle_seconds=60)["session_id"]
        held = files(api, mark, 1, held=True)[0]
        job = dispatched(api, session, f"t/{held}")
        assert api.library.halfway[held].wait(60)
        assert api.client.end_session(session)["state"] == "ending"
        other = api.ask(files(api, f"{mark}-other", 1)[0])
        assert api.completed(other) == ["published"], "it takes no more jobs, and holds none up"
        assert api.client.session(session)["state"] == "ending"
        assert api.client.end_session(session)["reason"] == "explicit"
        api.library.let_go(held)
        assert api.completed(job) == ["published"]
        until(lambda: api.client.session(session)["state"] == "ended", "it ends")
        assert api.client.session(session)["reason"] == "explicit"
