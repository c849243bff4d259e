"""Jobs as clients see them: record, list, live events, withdrawal, queue."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Progress, Requester, WorkerId
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.states import Status

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}


async def submit(town, **fields):
    entry = await town.register(**fields)
    answer = await town.http.get(f"/data/{entry.name}")
    assert answer.status_code == 202
    return entry, answer.json()["job_id"]


async def test_a_job_tells_steps_parts_progress_and_error(town):
    entry, job_id = await submit(town)
    waiting = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (waiting["status"], waiting["position"], waiting["requester_count"]) == ("pending", 0, 1)
    assert waiting["requesters"] is None
    job = await town.run(job_id)
    manifest = await town.publish(entry, b"bytes")
    await town.jobs.record_step_complete(job.job_id, job.fence, "sort", manifest.parts[:1])
    await town.jobs.record_progress(job.job_id, job.fence, Progress("index", 61.26, 10, 5, 3.5, 4))
    running = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (running["status"], running["attempt"], running["steps_completed"]) == ("running", 1, ["sort"])
    assert running["progress"] == {
        "step": "index",
        "percent": 61.3,
        "bytes_in": 10,
        "bytes_out": 5,
        "eta_seconds": 3.5,
    }
    assert running["parts"][0]["key"] == manifest.parts[0].key
    await town.fail(job, Reason.TOOL_FAILED, "sort said no")
    failed = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (failed["status"], failed["reason"], failed["detail"]) == ("failed", "tool_failed", "sort said no")
    assert failed["attempts"][0]["reason"] == "tool_failed"
    assert failed["retryable"] is True


async def test_an_unknown_job_is_404_everywhere(town):
    for method, path in (("GET", "/jobs/x"), ("GET", "/jobs/x/events"), ("DELETE", "/jobs/x")):
        answer = await town.http.request(method, path)
        assert (answer.status_code, answer.json()["what"]) == (404, "job")


async def test_events_tell_each_change_and_end_with_the_job(town):
    entry, job_id = await submit(town)
    seen: list[tuple[str, dict[str, Any], str]] = []

    async def follow():
        async with town.http.stream("GET", f"/jobs/{job_id}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["access-control-allow-origin"] == "*"
            await read_events(stream, seen)

    following = asyncio.create_task(follow())
    await until(lambda: len(seen) == 1)
    job = await town.run(job_id)
    await until(lambda: seen[-1][1]["status"] == "running")
    await town.complete(job, await town.publish(entry, b"bytes"))
    await asyncio.wait_for(following, 15)
    assert {name for name, _, _ in seen} == {"job"}
    assert seen[-1][1]["status"] == "completed"
    assert seen[-1][1] == (await town.http.get(f"/jobs/{job_id}")).json()
    assert all(event_id for _, _, event_id in seen)


async def read_events(stream, seen):
    event: dict[str, str] = {}
    async for line in stream.aiter_lines():
        if line.startswith(":"):
            continue
        if not line and event:
            seen.append((event["event"], json.loads(event["data"]), event.get("id")))
            event = {}
        elif line:
            name, _, value = line.partition(": ")
            event[name] = value


async def test_a_client_that_leaves_the_events_is_forgotten(town):
    _, job_id = await submit(town)
    async with town.http.stream("GET", f"/jobs/{job_id}/events") as stream:
        await anext(stream.aiter_lines())
        assert town.wakeups.listening
    await until(lambda: not town.wakeups.listening)


async def test_jobs_are_listed_newest_first_with_filters_and_pages(town):
    names = [(await submit(town))[0] for _ in range(3)]
    first = (await town.http.get("/jobs?limit=2")).json()
    assert [job["job_id"] for job in first["jobs"]] == ["job3", "job2"]
    rest = (await town.http.get("/jobs", params={"limit": 2, "after": first["next"]})).json()
    assert ([job["job_id"] for job in rest["jobs"]], rest["next"]) == (["job1"], None)
    await town.run("job1")
    assert [j["job_id"] for j in (await town.http.get("/jobs?status=running")).json()["jobs"]] == ["job1"]
    wanted = {"dcc": "4DN", "local_id": names[1].local_id}
    assert [j["job_id"] for j in (await town.http.get("/jobs", params=wanted)).json()["jobs"]] == ["job2"]
    assert len((await town.http.get("/jobs?requester=me")).json()["jobs"]) == 3
    assert (await town.http.get("/jobs?requester=me", headers=ADMIN)).json()["jobs"] == []
    assert (await town.http.get("/jobs?requester=9.9.9.9")).status_code == 401
    assert (await town.http.get("/jobs?requester=9.9.9.9", headers=ADMIN)).json()["jobs"] == []


@pytest.mark.parametrize(
    "query", ["status=odd", "limit=0", "limit=201", "after=nonsense", "dcc=..", "local_id=a/b"]
)
async def test_absurd_filters_are_422(town, query):
    answer = await town.http.get(f"/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/invalid-input"


async def test_the_last_requester_to_withdraw_cancels(town):
    _, job_id = await submit(town)
    answer = await town.http.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    again = await town.http.delete(f"/jobs/{job_id}")
    assert (again.status_code, again.json()["job_status"]) == (409, "cancelled")


async def test_nobody_cancels_what_others_wait_for_but_the_admin(town):
    entry = await town.register()
    claim = await town.submissions.submit(
        entry, town.submissions.recipe(entry, Kind.DATA), requester=Requester("10.1.1.1")
    )
    path = f"/jobs/{claim.job.job_id}"
    assert (await town.http.delete(path)).status_code == 401
    assert (await town.http.delete(path, headers={"X-API-Key": "wrong"})).status_code == 401
    assert (await town.jobs.get(claim.job.job_id)).status is Status.PENDING
    seen = (await town.http.get(path, headers=ADMIN)).json()
    assert seen["requesters"] == ["10.1.1.1"]
    assert (await town.http.delete(path, headers=ADMIN)).json()["status"] == "cancelled"


SOMEBODY_ELSE = Requester("10.1.1.1")


@pytest.mark.parametrize("whose", ["own", "another's"])
@pytest.mark.parametrize(
    "ended", ["cancelled while it waited", "cancelled while it ran", "completed", "failed", "finalizing"]
)
async def test_what_nobody_can_cancel_any_more_is_a_conflict_for_everybody(town, whose, ended):
    """No key would help. Whoever asked for a job that was cancelled is no longer among its requesters."""
    entry = await town.register()
    if whose == "own":
        job_id = (await town.http.get(f"/data/{entry.name}")).json()["job_id"]
    else:
        recipe = town.submissions.recipe(entry, Kind.DATA)
        job_id = (await town.submissions.submit(entry, recipe, requester=SOMEBODY_ELSE)).job.job_id
    job = await town.jobs.get(job_id)
    if ended != "cancelled while it waited":
        job = await town.run(job_id)
    if ended.startswith("cancelled"):
        assert (await town.http.delete(f"/jobs/{job_id}", headers=ADMIN)).status_code == 200
    if ended == "cancelled while it ran":
        cancelled = Failure(Reason.CANCELLED, "cancelled")
        await town.jobs.release_workflow(job.job_id, job.fence, Status.CANCELLED, cancelled)
    elif ended == "completed":
        await town.complete(job, await town.publish(entry, b"bytes"))
    elif ended == "failed":
        await town.fail(job, Reason.TOOL_FAILED)
    elif ended == "finalizing":
        await town.jobs.begin_finalize(job.job_id, job.fence)
    before = await town.jobs.get(job_id)
    for headers in ({}, ADMIN):
        answer = await town.http.delete(f"/jobs/{job_id}", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-cancellable")
        assert answer.json()["job_status"] == ended.split()[0]
    assert await town.jobs.get(job_id) == before


async def test_a_withdrawal_that_is_repeated_while_the_job_stops_is_done_already(town):
    _, job_id = await submit(town)
    await town.run(job_id)
    for _ in range(2):
        answer = await town.http.delete(f"/jobs/{job_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "running")
        assert answer.json()["requester_count"] == 0
    assert (await town.jobs.get(job_id)).cancel_requested


async def test_a_finalizing_job_cannot_be_cancelled(town):
    _, job_id = await submit(town)
    job = await town.run(job_id)
    await town.jobs.begin_finalize(job.job_id, job.fence)
    answer = await town.http.delete(f"/jobs/{job_id}", headers=ADMIN)
    assert (answer.status_code, answer.json()["job_status"]) == (409, "finalizing")


async def test_the_queue_tells_depth_and_finalizers(town):
    await submit(town)
    _, second = await submit(town)
    await town.run(second)
    body = (await town.http.get("/queue")).json()
    assert (body["pending"] + body["running"], body["active"]) == (2, 2)
    assert (body["finalizers_active"], body["finalizers_owned"], body["finalizer_defers_total"]) == (0, [], 0)
    assert sum(body["pending_by_priority"].values()) == body["pending"] == 1
    assert body["oldest_seconds"] >= 0
    assert body["wait_seconds"]["p50"] >= 0
    assert body["wait_seconds"]["p95"] >= body["wait_seconds"]["p50"]
    assert body["requesters"] is None
    admin = (await town.http.get("/queue", headers=ADMIN)).json()
    assert admin["requesters"] == {"127.0.0.1": {"pending": 1, "running": 1}}


async def test_the_gauges_of_the_queue_agree_with_it(town):
    await submit(town)
    _, second = await submit(town)
    await town.run(second)
    lines = (await town.http.get("/metrics")).text.splitlines()
    assert 'gooseherd_queue_jobs{status="pending"} 1.0' in lines
    assert 'gooseherd_queue_jobs{status="running"} 1.0' in lines
    assert 'gooseherd_queue_pending{priority="interactive"} 1.0' in lines
    assert 'gooseherd_queue_pending{priority="batch"} 0.0' in lines
    assert any(line.startswith('gooseherd_queue_wait_seconds{percentile="95"}') for line in lines)


async def test_a_job_that_waits_says_how_long_its_turn_will_take(town):
    for _ in range(4):
        _, job_id = await submit(town)
        await town.run(job_id)
    # One requester, at its limit: only an end of its own helps.
    _, last = await submit(town)
    waiting = (await town.http.get(f"/jobs/{last}")).json()["waiting"]
    assert waiting["detail"] == "in the queue, until one of the requester's running jobs ends"
    assert waiting["wait_seconds"] is None
    jobs = (await town.http.get("/jobs", params={"status": "running"})).json()["jobs"]
    await town.http.delete(f"/jobs/{jobs[0]['job_id']}", headers=ADMIN)
    ended = await town.jobs.get(jobs[0]["job_id"])
    await town.jobs.release_workflow(
        ended.job_id, ended.fence, Status.CANCELLED, Failure(Reason.CANCELLED, "stopped")
    )
    record = (await town.http.get(f"/jobs/{last}")).json()
    assert record["position"] == 0
    assert record["waiting"]["wait_seconds"] > 0


async def test_who_waits_for_long_jobs_is_told_how_long(town, monkeypatch):
    """Two at work for 40 minutes, and no other start: in the 202 and in the job's record."""
    now = town.jobs.now

    async def later():
        return await now() + timedelta(minutes=40)

    monkeypatch.setattr(town.jobs, "now", later)
    for _ in range(2):
        _, job_id = await submit(town)
        await town.run(job_id)
    details = []
    for _ in range(2):
        entry = await town.register()
        accepted = (await town.http.get(f"/data/{entry.name}")).json()
        record = (await town.http.get(f"/jobs/{accepted['job_id']}")).json()
        assert accepted["waiting"]["detail"] == record["waiting"]["detail"]
        details.append(record["waiting"]["detail"])
    assert details == [
        "next in the queue, for a worker that is free, about 20 min",
        "in the queue, behind 1 other job, about 40 min",
    ]


async def test_contigs_come_in_the_shape_of_an_assembly(town):
    entry = await town.register()
    before = await town.http.get(f"/contigs/{entry.name}")
    assert (before.status_code, before.json()["retryable"]) == (404, True)
    await town.publish(entry, b"bytes")
    after = await town.http.get(f"/contigs/{entry.name}")
    assert after.json() == {
        "contigs": [["chr1", 248956422], ["chrUn", None]],
        "aliases": {"chr1": ["1", "CM000663.2", "NC_000001.11"]},
    }


@pytest.mark.parametrize(
    ("file_format", "order"),
    [("bam", [10, 2]), ("vcf", [10, 2]), ("bed", [2, 10]), ("bigbed", [2, 10]), ("bigwig", [2, 10])],
)
async def test_contigs_are_in_the_files_own_order_where_it_has_one_else_as_people_count(
    town, file_format, order
):
    entry = await town.register(filename=f"x.{file_format}", file_format=file_format)
    await town.publish(entry, b"bytes", contigs=(Contig("chr10", 50), Contig("chr2", 60)))
    found = (await town.http.get(f"/contigs/{entry.name}")).json()["contigs"]
    assert [name for name, _ in found] == [f"chr{number}" for number in order]


async def test_health_readiness_and_metrics(town):
    assert (await town.http.get("/healthz")).json() == {"status": "ok", "version": "0.1.0", "build": "test"}
    assert (await town.http.get("/readyz")).json()["status"] == "ok"
    town.readiness["store"] = "does not answer"
    unready = await town.http.get("/readyz")
    assert unready.status_code == 503
    assert unready.json() == {
        "status": "unready",
        "dependencies": {"store": "does not answer", "cache": "ok"},
    }
    await town.http.get("/nowhere/at/all")
    metrics = (await town.http.get("/metrics")).text
    assert 'gooseherd_http_requests_total{route="other",status="404"}' in metrics
    assert 'route="/readyz",status="503"' in metrics
    assert "/nowhere" not in metrics


async def test_what_is_off_on_purpose_is_told_and_is_ready(town):
    town.readiness["processing"] = "off: upstream's bytes are served"
    ready = await town.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert ready.json()["dependencies"]["processing"].startswith("off: ")
    town.readiness["store"] = "offline"
    assert (await town.http.get("/readyz")).status_code == 503


async def test_readiness_that_cannot_be_told_is_not_ready(build_town):
    async def broken():
        raise RuntimeError("boom")

    town = await build_town(readiness=broken)
    assert (await town.http.get("/readyz")).status_code == 503


async def test_programs_find_the_entry_points_at_the_root(town):
    assert (await town.http.get("/")).json()["docs"] == f"{town.url}/docs"


async def test_unknown_pages_and_methods_are_problems(town):
    missing = await town.http.get("/no/such")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    wrong = await town.http.put("/jobs", content=b"")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def until(condition, seconds=10.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_a_job_in_the_queue_says_behind_how_many_it_waits(town):
    _, first = await submit(town)
    entry, second = await submit(town)
    assert (await town.http.get(f"/jobs/{first}")).json()["waiting"] == {
        "reason": "queued",
        "detail": "next in the queue, for a worker that is free",
        "wait_seconds": None,
        "next_try_at": None,
        "next_try_seconds": None,
    }
    behind = "in the queue, behind 1 other job"
    assert (await town.http.get(f"/jobs/{second}")).json()["waiting"]["detail"] == behind
    assert (await town.http.get(f"/data/{entry.name}")).json()["waiting"]["detail"] == behind


async def test_a_job_that_is_to_be_tried_again_says_why_and_when(town):
    entry, job_id = await submit(town)
    job = await town.run(job_id)
    trouble = Failure(Reason.SOURCE_UNAVAILABLE, "upstream host name does not resolve")
    await town.jobs.requeue(job.job_id, job.fence, trouble, timedelta(minutes=2))
    record = (await town.http.get(f"/jobs/{job_id}")).json()
    waiting = record["waiting"]
    assert (waiting["reason"], waiting["detail"]) == ("source_unavailable", trouble.detail)
    assert 100 < waiting["next_try_seconds"] <= 120
    assert waiting["next_try_at"] == record["not_before"]
    for body in (
        (await town.http.get(f"/data/{entry.name}")).json(),
        (await town.http.get("/jobs")).json()["jobs"][0],
    ):
        assert (body["waiting"]["reason"], body["waiting"]["next_try_at"]) == (
            "source_unavailable",
            record["not_before"],
        )


async def test_a_job_that_is_due_again_waits_in_the_queue(town):
    _, job_id = await submit(town)
    job = await town.run(job_id)
    await town.jobs.requeue(job.job_id, job.fence, Failure(Reason.WORKER_LOST, "gone"), timedelta(0))
    assert (await town.http.get(f"/jobs/{job_id}")).json()["waiting"]["reason"] == "queued"


async def test_a_running_job_says_that_it_waits_for_its_worker_or_its_source(town):
    _, job_id = await submit(town)
    job = await town.run(job_id)
    assert (await town.http.get(f"/jobs/{job_id}")).json()["waiting"]["reason"] == "launching"
    await town.jobs.assign_worker(job.job_id, job.fence, WorkerId("w"))
    assert (await town.http.get(f"/jobs/{job_id}")).json()["waiting"] is None
    until = (await town.jobs.now() + timedelta(seconds=30)).timestamp()
    waits = Progress("fetch", waiting="upstream answered 503", waiting_until=until)
    await town.jobs.record_progress(job.job_id, job.fence, waits)
    waiting = (await town.http.get(f"/jobs/{job_id}")).json()["waiting"]
    assert (waiting["reason"], waiting["detail"]) == ("source_unavailable", "upstream answered 503")
    assert 0 < waiting["next_try_seconds"] <= 30
    await town.jobs.record_progress(job.job_id, job.fence, replace(waits, waiting_until=until - 3600))
    assert (await town.http.get(f"/jobs/{job_id}")).json()["waiting"]["next_try_seconds"] == 0
    await town.fail(job, Reason.TOOL_FAILED)
    assert (await town.http.get(f"/jobs/{job_id}")).json()["waiting"] is None


async def test_a_completed_job_tells_what_was_dropped(town):
    entry, job_id = await submit(town)
    job = await town.run(job_id)
    notes, counts = ("2 lines were dropped: no end",), {"records": 7, "dropped": 2}
    manifest = await town.publish(entry, b"bytes", notes=notes, counts=counts)
    assert (await town.http.get(f"/jobs/{job_id}")).json()["notes"] == []
    await town.complete(job, manifest)
    record = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (record["notes"], record["counts"]) == (list(notes), counts)
    (listed,) = (await town.http.get("/jobs")).json()["jobs"]
    assert (listed["notes"], listed["counts"]) == ([], {})


async def test_notes_without_end_are_cut(town):
    entry, job_id = await submit(town)
    job = await town.run(job_id)
    notes = ("x" * 5000, *(f"note {n}" for n in range(99)))
    await town.complete(job, await town.publish(entry, b"bytes", notes=notes))
    record = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (len(record["notes"]), len(record["notes"][0])) == (51, 1001)
    assert record["notes"][-1] == "50 more notes"


async def test_the_record_of_a_completed_job_is_told_while_the_cache_is_away(town):
    entry, job_id = await submit(town)
    job = await town.run(job_id)
    manifest = await town.publish(entry, b"bytes")
    await town.complete(job, manifest)
    await town.cache.delete(next(iter([o.key async for o in town.cache.list() if "manifest" in o.key])))
    record = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (record["status"], record["notes"], record["counts"]) == ("completed", [], {})


async def test_the_record_of_a_completed_job_and_its_file_are_told_while_the_storage_refuses(
    town, monkeypatch
):
    def refuses(*_: Any):
        raise StorageRefused("WORKFLOW_S3_BUCKET", "S3 refuses get to these credentials")

    entry, job_id = await submit(town)
    job = await town.run(job_id)
    await town.complete(job, await town.publish(entry, b"bytes"))
    monkeypatch.setattr(town.cache, "get", refuses)
    record = (await town.http.get(f"/jobs/{job_id}")).json()
    assert (record["status"], record["notes"], record["counts"]) == ("completed", [], {})
    file = await town.http.get(f"/files/{entry.name}")
    assert (file.status_code, file.json()["ready"]) == (200, None)
