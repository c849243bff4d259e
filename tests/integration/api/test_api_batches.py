"""Batches as clients see them, and the loop that submits their files."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from gooseherd.control.submission import SubmissionLimits
from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, Requester
from gooseherd.domain.ports.batches import BatchLimits
from gooseherd.domain.ports.store import JobQuery
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import Status
from gooseherd.store.sql.schema import batches as batches_table

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
ME = Requester("127.0.0.1")


async def registered(town, count, **fields):
    return [await town.register(**fields) for _ in range(count)]


async def post(town, body, headers=None, status=202):
    answer = await town.http.post("/batches", json=body, headers=headers or {})
    assert answer.status_code == status, answer.text
    return answer.json()


async def batch_of(town, entries, headers=None, **more):
    return await post(town, {"files": [entry.name for entry in entries], **more}, headers)


async def counts(town, batch_id):
    answer = await town.http.get(f"/batches/{batch_id}")
    return {state: count for state, count in answer.json()["counts"].items() if count}


async def pending(town):
    return (await town.jobs.find(JobQuery(status=Status.PENDING, limit=200))).jobs


async def test_a_batch_is_taken_in_at_once_and_submitted_by_the_loop_at_priority_batch(town):
    entries = await registered(town, 3)
    answer = await town.http.post("/batches", json={"files": [entry.name for entry in entries]})
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/batches/{made['batch_id']}")
    assert (made["status"], made["total"], made["percent"], made["requester"]) == ("active", 3, 0.0, None)
    assert await counts(town, made["batch_id"]) == {"waiting": 3}
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"pending": 3}
    jobs = await pending(town)
    assert {job.priority for job in jobs} == {Priority.BATCH}
    assert {job.requesters for job in jobs} == {(ME,)}


async def test_each_file_of_a_batch_ends_in_its_own_way(town):
    ready, pair, makes, breaks = await registered(town, 4)
    await town.publish(ready, b"bytes")
    pair = await town.register(
        local_id="pair", sidecars=[{"kind": "beddb", "access_url": "https://files.example.org/x.beddb"}]
    )
    secret = await town.register(local_id="secret", data_access_level="protected")
    taken_back = await town.register(local_id="back", status="withdrawn")
    cram = await town.register(local_id="cram", filename="x.cram")
    wanted = [ready, pair, makes, breaks, secret, taken_back, cram]
    made = await post(town, {"files": [*(entry.name for entry in wanted), "4dn/nobody"]})
    await town.advance_batches()
    by_key = {job.source.local_id: job for job in await pending(town)}
    job = await town.run(by_key[makes.local_id].job_id)
    await town.complete(job, await town.publish(makes, b"more"))
    await town.fail(await town.run(by_key[breaks.local_id].job_id), Reason.SOURCE_INVALID, "line 2")
    await town.advance_batches()

    shown = (await town.http.get(f"/batches/{made['batch_id']}")).json()
    assert (shown["status"], shown["percent"]) == ("partial", 100.0)
    assert shown["ended_at"] is not None
    files = (await town.http.get(f"/batches/{made['batch_id']}/files")).json()
    assert files["next"] is None
    assert [(f["local_id"], f["state"], f["reason"]) for f in files["files"]] == [
        (ready.local_id, "ready", None),
        ("pair", "ready", None),
        (makes.local_id, "ready", None),
        (breaks.local_id, "failed", "source_invalid"),
        ("secret", "failed", "source_missing"),
        ("back", "failed", "source_missing"),
        ("cram", "failed", "unsupported_format"),
        ("nobody", "failed", "source_missing"),
    ]
    assert files["files"][3]["detail"] == "line 2"
    assert [f["local_id"] for f in shown["failures"]] == [breaks.local_id, "secret", "back", "cram", "nobody"]
    page = (await town.http.get(f"/batches/{made['batch_id']}/files?state=failed&limit=2")).json()
    assert (len(page["files"]), page["next"]) == (2, 4)


async def test_what_failed_a_moment_ago_is_tried_again_only_when_asked_for(town):
    (entry,) = await registered(town, 1)
    first = await batch_of(town, [entry])
    await town.advance_batches()
    await town.fail(await town.run((await pending(town))[0].job_id), Reason.SOURCE_INVALID)
    await town.advance_batches()
    assert await counts(town, first["batch_id"]) == {"failed": 1}
    second, third = await batch_of(town, [entry]), await batch_of(town, [entry], retry=True)
    await town.advance_batches()
    assert await counts(town, second["batch_id"]) == {"failed": 1}
    assert await counts(town, third["batch_id"]) == {"pending": 1}


async def test_a_catalog_query_is_answered_by_what_the_catalog_has_now(town):
    await registered(town, 2)
    other = await town.register(dcc="encode", filename="other.bed", file_format="bed")
    made = await post(town, {"query": {"dcc": "4DN"}})
    assert made["total"] == 2
    assert (await post(town, {"query": {"q": "other", "format": "bed"}}))["total"] == 1
    assert (await post(town, {"query": {}}))["total"] == 3
    for nothing in ({"query": {"q": "nothing like it"}}, {"query": {"format": "nonsense"}}):
        assert (await post(town, nothing, status=422))["type"].endswith("invalid-input")
    assert other.dcc == "encode"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": []},
        {"files": ["noslash"]},
        {"files": ["4dn/a", "4dn/.."]},
        {"files": ["4dn/a"], "query": {}},
        {"files": ["4dn/a"], "priority": "interactive"},
        {"files": "4dn/a"},
        ["4dn/a"],
    ],
)
async def test_a_body_that_is_no_batch_is_refused_with_its_field(town, body):
    answer = await post(town, body, status=422)
    assert answer["field"]
    assert (await town.http.get("/batches")).json()["batches"] == []


async def test_more_than_fifty_files_need_a_key(town):
    names = [f"4dn/f{number}" for number in range(51)]
    assert (await post(town, {"files": names}, status=401))["type"].endswith("/key-required")
    assert (await post(town, {"files": [*names[:50], names[0]]}))["total"] == 50
    assert (await post(town, {"files": names}, ADMIN))["total"] == 51
    await town.files.put([await town.register() for _ in range(51)])
    assert (await post(town, {"query": {"dcc": "4dn"}}, status=401))["type"].endswith("/key-required")
    assert (await post(town, {"query": {"dcc": "4dn"}}, ADMIN))["total"] == 51


async def test_ten_thousand_files_are_one_batch_and_more_are_refused(town):
    names = [f"4dn/f{number}" for number in range(10_001)]
    await post(town, {"files": names}, ADMIN, status=422)
    made = await post(town, {"files": names[:-1]}, ADMIN)
    assert (made["total"], made["requester"]) == (10_000, "admin")
    await town.advance_batches()
    page = (await town.http.get(f"/batches/{made['batch_id']}/files?state=failed&limit=1")).json()
    assert page["files"][0]["detail"] == "no file '4dn/f0' that this caller may see"


async def test_an_idempotency_key_finds_the_batch_again(town):
    (entry,) = await registered(town, 1)
    body, key = {"files": [entry.name]}, {"Idempotency-Key": "once"}
    first = await post(town, body, key)
    assert (await post(town, body, key))["batch_id"] == first["batch_id"]
    assert (await post(town, body))["batch_id"] != first["batch_id"]
    assert (await post(town, {"files": ["4dn/x"]}, key, status=422))["field"] == "Idempotency-Key"
    await post(town, body, {"Idempotency-Key": ""}, status=422)


async def test_batches_under_way_are_limited(build_town):
    town = await build_town(batch_limits=BatchLimits(9, 1))
    (entry,) = await registered(town, 1)
    await batch_of(town, [entry])
    refused = await post(town, {"files": [entry.name]}, status=429)
    assert (refused["allowed"], refused["current"]) == (1, 1)


async def test_a_batch_fills_half_of_its_requesters_pending_limit_and_loses_no_file(build_town):
    town = await build_town(limits=SubmissionLimits(active_jobs=100, pending_per_requester=4))
    made = await batch_of(town, await registered(town, 7))
    seen: list[dict[str, int]] = []
    while not seen or "ready" not in seen[-1] or seen[-1]["ready"] < 7:
        await town.advance_batches()
        jobs = await pending(town)
        assert len(jobs) <= 2
        # A click of the same requester still finds room.
        if not seen:
            assert (await town.http.get(f"/data/{(await town.register()).name}")).status_code == 202
            jobs = [job for job in await pending(town) if job.priority is Priority.BATCH]
        for job in jobs:
            held = await town.run(job.job_id)
            await town.complete(held, await town.publish(held.source, b"bytes"))
        await town.advance_batches()
        seen.append(await counts(town, made["batch_id"]))
        assert len(seen) < 20
    assert sum(seen[0].values()) == 7
    assert (await town.http.get(f"/batches/{made['batch_id']}")).json()["status"] == "completed"


async def test_batches_of_one_requester_share_what_is_left_of_the_limit(build_town):
    town = await build_town(limits=SubmissionLimits(active_jobs=100, pending_per_requester=8))
    one, other = [await batch_of(town, await registered(town, 9)) for _ in range(2)]
    await town.advance_batches()
    assert await counts(town, one["batch_id"]) == {"waiting": 7, "pending": 2}
    assert await counts(town, other["batch_id"]) == {"waiting": 7, "pending": 2}


async def test_a_full_queue_makes_a_batch_wait(build_town):
    town = await build_town(limits=SubmissionLimits(active_jobs=1, pending_per_requester=50))
    made = await batch_of(town, await registered(town, 3))
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"waiting": 2, "pending": 1}
    await town.jobs.request_cancel((await pending(town))[0].job_id, None)
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"waiting": 1, "pending": 1, "cancelled": 1}


async def test_another_process_goes_on_where_one_that_died_stopped(build_town):
    limits = SubmissionLimits(active_jobs=100, pending_per_requester=4)
    first = await build_town(limits=limits)
    made = await batch_of(first, await registered(first, 5))
    await first.advance_batches()
    other = await build_town(limits=limits, owner="two")
    await other.advance_batches()
    assert await counts(other, made["batch_id"]) == {"waiting": 3, "pending": 2}, "it is held by the first"
    await first.batch_loop._batches.hold(made["batch_id"], "one", timedelta(0))
    for job in await pending(first):
        await first.jobs.request_cancel(job.job_id, None)
    report = await other.advance_batches()
    assert (len(report.planned), report.errors) == (1, 0)
    assert await counts(other, made["batch_id"]) == {"cancelled": 2, "pending": 2, "waiting": 1}


async def test_a_process_that_was_restarted_goes_on_at_once(build_town):
    limits = SubmissionLimits(active_jobs=100, pending_per_requester=4)
    before = await build_town(limits=limits)
    made = await batch_of(before, await registered(before, 3))
    await before.advance_batches()
    after = await build_town(limits=limits)
    for job in await pending(after):
        await after.jobs.request_cancel(job.job_id, None)
    await after.advance_batches()
    assert await counts(after, made["batch_id"]) == {"cancelled": 2, "pending": 1}


async def test_a_file_that_was_submitted_and_not_recorded_gets_no_second_job(town):
    (entry,) = await registered(town, 1)
    made = await batch_of(town, [entry])
    recipe = town.submissions.recipe(entry, Kind.DATA)
    # As by a process that died just after it.
    claim = await town.submissions.submit(entry, recipe, requester=ME, priority=Priority.BATCH)
    await town.advance_batches()
    (file,) = (await town.http.get(f"/batches/{made['batch_id']}/files")).json()["files"]
    assert file["job_id"] == claim.job.job_id
    assert len(await pending(town)) == 1


async def test_a_file_that_was_published_since_it_was_looked_up_is_ready(town, monkeypatch):
    (entry,) = await registered(town, 1)
    claim = await town.submissions.submit(
        entry, town.submissions.recipe(entry, Kind.DATA), requester=ME, priority=Priority.BATCH
    )
    made = await batch_of(town, [entry])
    published = town.submissions.published

    async def published_meanwhile(*asked):
        found = await published(*asked)
        monkeypatch.undo()
        await town.complete(await town.run(claim.job.job_id), await town.publish(entry, b"bytes"))
        return found

    monkeypatch.setattr(town.submissions, "published", published_meanwhile)
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"ready": 1}
    assert await pending(town) == ()


async def test_a_file_whose_job_waited_too_long_in_the_queue_waits_again(town):
    made = await batch_of(town, await registered(town, 1))
    await town.advance_batches()
    await town.jobs.expire(await town.jobs.now() + timedelta(hours=1), 9)
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) in ({"waiting": 1}, {"pending": 1})
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"pending": 1}


async def test_a_batch_past_its_time_to_live_gives_up_what_still_waits(build_town):
    town = await build_town(batch_ttl=timedelta(0))
    made = await batch_of(town, await registered(town, 2))
    await asyncio.sleep(0.01)
    await town.advance_batches()
    shown = (await town.http.get(f"/batches/{made['batch_id']}")).json()
    assert (shown["status"], shown["failures"][0]["reason"]) == ("failed", "queue_expired")


async def test_cancelling_withdraws_from_what_nobody_else_wants_and_keeps_what_is_ready(town):
    ready, mine, shared, clicked, running, finalizing = await registered(town, 6)
    await town.publish(ready, b"bytes")
    one = await batch_of(town, [ready, mine, shared, clicked, running, finalizing])
    other = await batch_of(town, [shared])
    await town.advance_batches()
    assert (await town.http.get(f"/data/{clicked.name}")).status_code == 202
    by_file = {job.source.local_id: job.job_id for job in await pending(town)}
    held = await town.run(by_file[running.local_id])
    late = await town.run(by_file[finalizing.local_id])
    await town.jobs.begin_finalize(late.job_id, late.fence)
    await town.advance_batches()

    answer = await town.http.delete(f"/batches/{one['batch_id']}")
    assert (answer.status_code, answer.json()["cancel_requested"]) == (200, True)
    await town.advance_batches()
    assert await counts(town, one["batch_id"]) == {"ready": 1, "cancelled": 4, "running": 1}
    status = {name: (await town.jobs.get(job_id)).status for name, job_id in by_file.items()}
    assert status[mine.local_id] is Status.CANCELLED
    assert status[shared.local_id] is Status.PENDING
    assert status[clicked.local_id] is Status.PENDING
    assert (await town.jobs.get(held.job_id)).cancel_requested
    await town.jobs.finalize(late.job_id, late.fence, "d" * 64, [])
    await town.advance_batches()
    shown = (await town.http.get(f"/batches/{one['batch_id']}")).json()
    assert (shown["status"], shown["counts"]["ready"], shown["counts"]["cancelled"]) == ("cancelled", 2, 4)
    assert await counts(town, other["batch_id"]) == {"pending": 1}
    assert JobId(by_file[shared.local_id])


async def test_a_batch_whose_jobs_waited_too_long_ends_when_it_is_cancelled(town):
    made = await batch_of(town, await registered(town, 3))
    await town.advance_batches()
    # Before the loop looks again, and would submit them again.
    assert len(await town.jobs.expire(await town.jobs.now() + timedelta(hours=1), 99)) == 3
    await town.http.delete(f"/batches/{made['batch_id']}")
    await town.advance_batches()
    shown = (await town.http.get(f"/batches/{made['batch_id']}")).json()
    assert (shown["status"], shown["counts"]["cancelled"]) == ("cancelled", 3)
    files = (await town.http.get(f"/batches/{made['batch_id']}/files")).json()["files"]
    assert {file["reason"] for file in files} == {"cancelled"}


async def test_a_batch_that_was_cancelled_by_half_ends(build_town):
    town = await build_town(limits=SubmissionLimits(active_jobs=100, pending_per_requester=4))
    made = await batch_of(town, await registered(town, 5))
    await town.advance_batches()
    # As on MongoDB by a process that died after the first of two writes.
    flag = update(batches_table).values(cancel_requested=True)
    await town.batch_loop._batches._database.write("flag", lambda tx: tx.connection.execute(flag).close())
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"cancelled": 5}
    assert (await town.http.get(f"/batches/{made['batch_id']}")).json()["ended_at"] is not None
    assert not await pending(town)


async def test_what_is_submitted_while_the_batch_is_cancelled_is_withdrawn(town):
    (entry,) = await registered(town, 1)
    made = await batch_of(town, [entry])
    store, jobs = town.batch_loop._batches, town.jobs
    record = store.record

    async def cancelled_just_before(batch_id, changes):
        await store.cancel(batch_id)
        store.record = record
        return await record(batch_id, changes)

    store.record = cancelled_just_before
    await town.advance_batches()
    assert await counts(town, made["batch_id"]) == {"cancelled": 1}
    (job,) = (await jobs.find(JobQuery())).jobs
    assert job.status is Status.CANCELLED


async def test_a_batch_is_cancelled_by_who_asked_for_it_and_by_the_admin(town):
    (entry,) = await registered(town, 1)
    of_admin, mine = await batch_of(town, [entry], ADMIN), await batch_of(town, [entry])
    assert (await town.http.delete(f"/batches/{of_admin['batch_id']}")).status_code == 401
    wrong = {"X-API-Key": "wrong"}
    assert (await town.http.delete(f"/batches/{mine['batch_id']}", headers=wrong)).status_code == 401
    assert (await town.http.delete(f"/batches/{of_admin['batch_id']}", headers=ADMIN)).status_code == 200
    assert (await town.http.delete(f"/batches/{mine['batch_id']}", headers=ADMIN)).status_code == 200


async def test_the_list_shows_ones_own_and_to_the_admin_whose(town):
    (entry,) = await registered(town, 1)
    of_admin, mine = await batch_of(town, [entry], ADMIN), await batch_of(town, [entry])
    everything = (await town.http.get("/batches")).json()
    assert [b["batch_id"] for b in everything["batches"]] == [mine["batch_id"], of_admin["batch_id"]]
    assert {b["requester"] for b in everything["batches"]} == {None}
    own = (await town.http.get("/batches?requester=me")).json()["batches"]
    assert [b["batch_id"] for b in own] == [mine["batch_id"]]
    assert (await town.http.get("/batches?requester=admin")).status_code == 401
    shown = (await town.http.get("/batches?requester=admin", headers=ADMIN)).json()["batches"]
    assert [b["requester"] for b in shown] == ["admin"]


async def test_an_unknown_batch_is_404_everywhere(town):
    for method, path in (("GET", ""), ("GET", "/files"), ("GET", "/events"), ("DELETE", "")):
        answer = await town.http.request(method, f"/batches/x{path}")
        assert (answer.status_code, answer.json()["what"]) == (404, "batch")


async def test_without_processing_there_are_no_batches(build_town):
    town = await build_town(processing=False)
    assert (await town.http.post("/batches", json={"files": ["4dn/a"]})).status_code == 503
    assert (await town.http.get("/batches")).status_code == 503


async def test_events_tell_each_change_and_end_with_the_batch(town):
    (entry,) = await registered(town, 1)
    made = await batch_of(town, [entry])
    seen: list[dict[str, object]] = []
    begun = asyncio.Event()

    async def follow():
        async with town.http.stream("GET", f"/batches/{made['batch_id']}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    seen.append(json.loads(line.removeprefix("data:")))
                    begun.set()

    async with asyncio.timeout(20):
        following = asyncio.create_task(follow())
        await begun.wait()
        await town.advance_batches()
        job = await town.run((await pending(town))[0].job_id)
        await town.complete(job, await town.publish(entry, b"bytes"))
        await town.advance_batches()
        await following
    assert (seen[0]["status"], seen[0]["percent"]) == ("active", 0.0)
    assert (seen[-1]["status"], seen[-1]["percent"]) == ("completed", 100.0)


async def test_all_who_follow_a_batch_cost_one_look_at_a_time(town):
    made = await batch_of(town, await registered(town, 1))
    store, looks = town.batch_loop._batches, []
    get = store.get

    async def counted(batch_id):
        looks.append(batch_id)
        return await get(batch_id)

    store.get = counted
    following = [town.dependencies.batches.changes(made["batch_id"]) for _ in range(20)]
    for changes in following:
        await anext(changes)
    first = len(looks)
    await store.cancel(made["batch_id"])
    async with asyncio.timeout(20):
        seen = await asyncio.gather(*(anext(changes) for changes in following))
    assert {batch.cancel_requested for batch in seen} == {True}
    assert len(looks) - first < 5
    for changes in following:
        await changes.aclose()


async def test_events_end_when_the_service_stops(town):
    made = await batch_of(town, await registered(town, 1))
    async with (
        asyncio.timeout(20),
        town.http.stream("GET", f"/batches/{made['batch_id']}/events") as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        town.dependencies.holds.stop()
        async for _ in lines:
            pass
