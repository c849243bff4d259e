"""What a GET of an artifact that is not there does: one job, a place to look, bytes in the end."""

from __future__ import annotations

import asyncio
import hashlib

import httpx
import pytest

from gooseherd.control.submission import SubmissionLimits
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import StoreUnavailable, UpstreamUnavailable
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.store import JobQuery
from gooseherd.domain.queueing import Priority
from gooseherd.sources.http import HttpSources
from gooseherd.sources.urlguard import UrlGuard

pytestmark = pytest.mark.integration


async def only_job(town):
    page = await town.jobs.find(JobQuery())
    assert len(page.jobs) == 1
    return page.jobs[0]


async def until(condition, seconds=10.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not await condition():
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_a_miss_is_202_with_a_job_to_follow(town):
    entry = await town.register()
    answer = await town.http.get(f"/data/{entry.name}", headers={"Range": "bytes=0-9"})
    assert answer.status_code == 202
    assert answer.headers["location"] == "/jobs/job1"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.pop("waiting")["reason"] == "queued"
    assert body == {
        "job_id": "job1",
        "status": "pending",
        "percent": 0.0,
        "position": 0,
        "job_url": f"{town.url}/jobs/job1",
        "events_url": f"{town.url}/jobs/job1/events",
        "data_url": f"{town.url}/files/{entry.name}/reads%200.bam",
        "index_url": f"{town.url}/files/{entry.name}/reads%200.bam.bai",
    }


async def test_50_cold_gets_of_data_and_index_are_one_job(town):
    entry = await town.register()
    paths = [f"/{kind}/{entry.name}" for kind in ("data", "index")] * 25
    answers = await asyncio.gather(*(town.http.get(path) for path in paths))
    assert {(a.status_code, a.headers["location"]) for a in answers} == {
        (202, f"/jobs/{(await only_job(town)).job_id}")
    }


async def test_head_never_starts_work(town):
    entry = await town.register()
    answer = await town.http.head(f"/data/{entry.name}?wait=5")
    assert (answer.status_code, answer.content) == (404, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert (await town.jobs.find(JobQuery())).jobs == ()


async def test_status_tells_without_side_effect(town):
    entry = await town.register()
    path = f"/data/{entry.name}"
    cold = (await town.http.get(f"{path}/status")).json()
    assert (cold["ready"], cold["job_id"]) == (False, None)
    assert (await town.jobs.find(JobQuery())).jobs == ()
    job_id = (await town.http.get(path)).json()["job_id"]
    asked = (await town.http.get(f"/index/{entry.name}/status")).json()
    assert (asked["ready"], asked["job_id"], asked["status"]) == (False, job_id, "pending")
    await town.publish(entry, b"bytes")
    there = (await town.http.get(f"{path}/status")).json()
    assert (there["ready"], there["size"]) == (True, 5)


@pytest.mark.parametrize("how", ["query", "header"])
async def test_a_held_request_gets_the_bytes_when_they_are_there(town, how):
    entry = await town.register()
    query = "?wait=15" if how == "query" else ""
    headers = {"Prefer": "respond-async, wait=15"} if how == "header" else {}
    held = asyncio.create_task(
        town.http.get(f"/data/{entry.name}{query}", headers={**headers, "Range": "bytes=0-3"})
    )

    async def submitted():
        return len((await town.jobs.find(JobQuery())).jobs) == 1

    await until(submitted)
    job = await town.run("job1")
    await town.complete(job, await town.publish(entry, b"the bytes"))
    answer = await held
    assert (answer.status_code, answer.content) == (206, b"the ")
    assert answer.headers.get("preference-applied") == ("wait=15" if how == "header" else None)


@pytest.mark.parametrize(("ask", "applied"), [("?wait=0.05", None), ("", "wait=0"), ("?wait", None)])
async def test_a_hold_is_bounded_and_then_202(build_town, ask, applied):
    town = await build_town(wait_max_seconds=0.2)
    entry = await town.register()
    headers = {} if ask else {"Prefer": "wait=999999"}
    answer = await town.http.get(f"/data/{entry.name}{ask}", headers=headers)
    assert answer.status_code == 202
    assert answer.headers.get("preference-applied") == applied


async def test_a_held_request_hears_of_the_failure(town):
    entry = await town.register()
    held = asyncio.create_task(town.http.get(f"/data/{entry.name}?wait=15"))

    async def submitted():
        return len((await town.jobs.find(JobQuery())).jobs) == 1

    await until(submitted)
    await town.fail(await town.run("job1"), Reason.SOURCE_INVALID)
    answer = await held
    body = answer.json()
    assert answer.status_code == 422
    assert (body["type"], body["reason"], body["retryable"]) == (
        "/problems/already-failed",
        "source_invalid",
        False,
    )
    assert body["job_id"] == "job1"


async def test_a_known_failure_is_told_until_a_retry_is_asked_for(town):
    entry = await town.register()
    path = f"/data/{entry.name}"
    await town.http.get(path)
    await town.fail(await town.run("job1"), Reason.SOURCE_INVALID)
    assert (await town.http.get(path)).status_code == 422
    again = await town.http.get(f"{path}?retry=true")
    assert again.status_code == 202
    job = (await town.http.get(again.headers["location"])).json()
    assert job["job_id"] != "job1"
    assert job["status"] == "pending"


async def test_a_failure_that_may_pass_says_when_to_come_back(town):
    entry = await town.register()
    await town.http.get(f"/data/{entry.name}")
    await town.fail(await town.run("job1"), Reason.WORKER_LOST)
    answer = await town.http.get(f"/data/{entry.name}")
    assert answer.json()["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0


async def test_a_client_that_leaves_a_hold_is_not_waited_for(town):
    entry = await town.register()
    reader, writer = await asyncio.open_connection(*town.address)
    writer.write(f"GET /data/{entry.name}?wait=15 HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def listening():
        return town.wakeups.listening > 0

    await until(listening)
    writer.transport.abort()

    async def left():
        return town.wakeups.listening == 0

    await until(left)
    assert reader is not None


async def test_priority_is_an_enum_on_the_wire(town):
    entry = await town.register()
    await town.http.get(f"/data/{entry.name}?priority=batch")
    assert (await only_job(town)).priority is Priority.BATCH
    answer = await town.http.get(f"/data/{entry.name}?priority=urgent")
    assert (answer.status_code, answer.json()["field"]) == (422, "priority")


@pytest.mark.parametrize(
    "query", ["wait=abc", "wait=-1", "wait=1e9", "wait=nan", "raw=maybe", "&".join(["a=1"] * 50)]
)
async def test_absurd_parameters_are_422(town, query):
    entry = await town.register()
    answer = await town.http.get(f"/data/{entry.name}?{query}")
    assert answer.status_code == 422
    assert (await town.jobs.find(JobQuery())).jobs == ()


async def test_an_evicted_part_is_made_again(town):
    entry = await town.register()
    manifest = await town.publish(entry, b"the bytes")
    path = f"/data/{entry.name}"
    assert (await town.http.get(path)).status_code == 200
    await town.cache.delete(manifest.part(Kind.DATA).key)
    assert (await town.http.head(path)).status_code == 404
    for headers in ({}, {"Range": "bytes=0-3"}, {"Range": "bytes=0-0,-1"}):
        answer = await town.http.get(path, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (202, "/jobs/job1")
    await town.cache.put_if_absent(manifest.part(Kind.DATA).key, b"the bytes")
    assert (await town.http.get(path)).content == b"the bytes"


@pytest.mark.parametrize("level", ["consortium", "protected"])
async def test_files_that_are_not_public_never_leave_and_never_enter_a_workflow(town, level):
    entry = await town.register(
        data_access_level=level, sidecars=[{"kind": "bai", "access_url": "https://x.example/i"}]
    )
    await town.publish(entry, b"secret")
    for path in (
        f"/data/{entry.name}",
        f"/index/{entry.name}",
        f"/data/{entry.name}?raw=true",
        f"/index/{entry.name}?raw=true",
        f"/data/{entry.name}/status",
        f"/index/{entry.name}/status",
        f"/contigs/{entry.name}",
        f"/data/{entry.name}?wait=1",
    ):
        answer = await town.http.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found"), path
        assert b"secret" not in answer.content
    assert (await town.http.head(f"/data/{entry.name}")).status_code == 404
    assert town.upstream.asked == []
    assert (await town.jobs.find(JobQuery())).jobs == ()


@pytest.mark.parametrize(
    ("status", "code"), [("deleted", 410), ("withdrawn", 410), ("draft", 404), ("active", 202)]
)
async def test_a_file_that_was_taken_back_is_gone(town, status, code):
    entry = await town.register(status=status)
    assert (await town.http.get(f"/data/{entry.name}")).status_code == code


async def test_what_no_processor_makes_is_said(town):
    cram = await town.register(filename="reads.cram")
    answer = await town.http.get(f"/data/{cram.name}")
    assert (answer.status_code, answer.json()["supported"]) == (422, ["bam", "csv"])
    csv = await town.register(filename="table.csv")
    answer = await town.http.get(f"/index/{csv.name}")
    assert (answer.status_code, answer.json()["what"]) == (404, "index")
    assert (await town.http.get("/data/4dn/unknown")).status_code == 404


async def test_a_reached_limit_says_its_numbers(build_town):
    town = await build_town(limits=SubmissionLimits(active_jobs=100, pending_per_requester=1))
    first, second = await town.register(), await town.register()
    assert (await town.http.get(f"/data/{first.name}")).status_code == 202
    answer = await town.http.get(f"/data/{second.name}")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "30"
    assert (answer.json()["allowed"], answer.json()["current"]) == (1, 1)
    assert (await town.http.get(f"/data/{first.name}")).status_code == 202  # attaching is always allowed


async def test_a_failed_file_is_tried_again_only_so_often(build_town):
    town = await build_town(retries_per_requester=2)
    entry = await town.register()
    path = f"/data/{entry.name}"
    accepted = await town.http.get(path)
    for _ in range(2):
        job = await town.run(accepted.json()["job_id"])
        await town.fail(job, Reason.SOURCE_INVALID)
        assert (await town.http.get(path)).status_code == 422
        accepted = await town.http.get(path, params={"retry": "true"})
        assert accepted.status_code == 202
        # Whoever asks while it is tried again attaches, and uses nothing up.
        assert (await town.http.get(path, params={"retry": "true"})).status_code == 202
    await town.fail(await town.run(accepted.json()["job_id"]), Reason.SOURCE_INVALID)
    refused = await town.http.get(path, params={"retry": "true"})
    assert (refused.status_code, refused.json()["allowed"]) == (429, 2)
    assert 500 < int(refused.headers["retry-after"]) <= 601
    viewer = await town.http.get(path, params={"retry": "true"}, headers={"Sec-Fetch-Mode": "cors"})
    assert viewer.status_code == 429
    admin = await town.http.get(path, params={"retry": "true"}, headers={"X-API-Key": "the-admin-key"})
    assert admin.status_code == 202


async def test_a_store_that_does_not_answer_is_503_and_retryable(town, monkeypatch):
    async def broken(*_):
        raise StoreUnavailable("read")

    monkeypatch.setattr(town.files, "get", broken)
    answer = await town.http.get("/data/4dn/some")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/data/4dn/some", "/files/4dn/some"])
async def test_the_unforeseen_is_500_without_internals(town, monkeypatch, path, caplog):
    async def broken(*_):
        raise RuntimeError("/secret/path on db-host-7")

    monkeypatch.setattr(town.files, "get", broken)
    answer = await town.http.get(path)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "secret" not in answer.text
    assert "db-host" not in answer.text
    logged = [r for r in caplog.records if r.message == "request failed"]
    assert [r.request_id for r in logged] == [answer.headers["x-request-id"]]


# -- upstream's own bytes ------------------------------------------------------------------


async def test_raw_is_upstreams_bytes_with_ranges_passed_on(town):
    entry = await town.register()
    data = bytes(range(256)) * 40
    town.upstream.files[entry.access_url] = data
    whole = await town.http.get(f"/data/{entry.name}?raw=true")
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in whole.headers
    assert "secret-host" not in str(whole.headers)
    part = await town.http.get(
        f"/data/{entry.name}?raw=true", headers={"Range": "bytes=5-9", "If-Range": whole.headers["etag"]}
    )
    assert (part.status_code, part.content, part.headers["content-range"]) == (
        206,
        data[5:10],
        "bytes 5-9/10240",
    )
    assert town.upstream.asked[-1][1]["if-range"] == whole.headers["etag"]
    assert "cookie" not in town.upstream.asked[-1][1]
    assert (await town.jobs.find(JobQuery())).jobs == ()
    assert town.upstream.open_bodies == 0


async def test_raw_tells_what_upstream_said(town):
    entry = await town.register()
    data = bytes(5000)
    path = f"/data/{entry.name}?raw=true"
    assert (await town.http.get(path)).status_code == 404
    town.upstream.files[entry.access_url] = data
    past = await town.http.get(path, headers={"Range": "bytes=5000-"})
    assert (past.status_code, past.headers["content-range"]) == (416, "bytes */5000")
    assert (await town.http.get(path, headers={"Range": "bytes=x"})).status_code == 400
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    same = await town.http.get(path, headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert (await town.http.get(path, headers={"If-Match": etag})).status_code == 200
    assert (await town.http.get(path, headers={"If-Match": '"other"'})).status_code == 412
    head = await town.http.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5000", b"")
    several = await town.http.get(path, headers={"Range": "bytes=0-1,4-5"})
    assert (several.status_code, len(several.content)) == (200, 5000)
    town.upstream.error = UpstreamUnavailable("https://user:pw@inner.example/x", 500)
    broken = await town.http.get(path)
    assert (broken.status_code, broken.json()["upstream_status"]) == (502, 500)
    assert "inner.example" not in broken.text


async def test_a_range_of_nothing_is_416_with_the_size_that_upstream_tells(town):
    entry = await town.register()
    town.upstream.files[entry.access_url] = bytes(5000)
    town.upstream.reply = (416, {"content-range": "bytes */5000"})
    answer = await town.http.get(f"/data/{entry.name}?raw=true", headers={"Range": "bytes=-0"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */5000")


@pytest.mark.parametrize(
    ("wanted", "status", "headers"),
    [
        (None, 206, {"content-range": "bytes 0-99/5000", "content-length": "100"}),
        ("bytes=0-9,20-29", 206, {"content-range": "bytes 0-99/5000", "content-length": "100"}),
        ("bytes=100-199", 206, {"content-range": "bytes 0-99/5000", "content-length": "100"}),
        ("bytes=100-199", 206, {"content-range": "bytes 100-299/5000", "content-length": "200"}),
        ("bytes=100-199", 206, {"content-range": "bytes 100-199/5000", "content-length": "300"}),
        ("bytes=100-199", 206, {"content-range": "bytes 100-199/150", "content-length": "100"}),
        ("bytes=100-199", 206, {"content-range": "bytes 199-100/5000"}),
        ("bytes=-100", 206, {"content-range": "bytes 0-99/5000", "content-length": "100"}),
        (None, 304, {}),
        (None, 416, {"content-range": "bytes */5000"}),
    ],
)
async def test_an_answer_to_what_was_not_asked_is_502(town, wanted, status, headers):
    entry = await town.register()
    town.upstream.files[entry.access_url] = bytes(5000)
    town.upstream.reply = (status, headers)
    asked = {"Range": wanted} if wanted else {}
    answer = await town.http.get(f"/data/{entry.name}?raw=true", headers=asked)
    assert (answer.status_code, answer.json()["upstream_status"]) == (502, status)
    assert town.upstream.open_bodies == 0


async def test_larger_files_than_are_fetched_are_not_passed_on(build_town):
    town = await build_town(source_max_bytes=4000)
    entry = await town.register()
    path = f"/data/{entry.name}?raw=true"
    town.upstream.files[entry.access_url] = bytes(4000)
    assert (await town.http.get(path)).content == bytes(4000)
    town.upstream.files[entry.access_url] = bytes(4001)
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = await town.http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["limit_bytes"]) == (422, 4000)
    town.upstream.reply = (200, {})  # of no length
    with pytest.raises(httpx.RemoteProtocolError):
        await town.http.get(path)
    assert town.upstream.open_bodies == 0


async def test_an_address_that_may_not_be_fetched_is_the_catalogs_fault(town):
    entry = await town.register(access_url="http://10.0.0.1/x.bam")
    answer = await town.http.get(f"/data/{entry.name}?raw=true")
    assert (answer.status_code, answer.json()["type"]) == (502, "/problems/source-refused")
    assert "catalog entry" in answer.json()["detail"]
    assert "10.0.0.1" not in answer.text


async def test_upstreams_index_that_nobody_checks_is_served_before_any_workflow(town):
    sidecars = [
        {"kind": "px2", "access_url": "https://files.example.org/a.px2"},
        {"kind": "beddb", "access_url": "https://files.example.org/a.beddb"},
    ]
    entry = await town.register(filename="a.bed", sidecars=sidecars)
    town.upstream.files["https://files.example.org/a.beddb"] = b"an index"
    for query in ("", "?raw=true"):
        answer = await town.http.get(f"/index/{entry.name}{query}")
        assert (answer.status_code, answer.content) == (200, b"an index")
        assert answer.headers["content-disposition"] == 'attachment; filename="a.bed.beddb"'
    assert (await town.http.get(f"/index/{entry.name}/status")).json()["ready"] is True
    assert (await town.jobs.find(JobQuery())).jobs == ()


async def test_upstreams_index_that_can_be_checked_is_served_when_it_was(town):
    sidecars = [
        {"kind": "beddb", "access_url": "https://files.example.org/a.beddb"},
        {"kind": "tbi", "access_url": "https://files.example.org/a.tbi"},
    ]
    entry = await town.register(filename="a.bed", sidecars=sidecars)
    town.upstream.files["https://files.example.org/a.tbi"] = b"TBI\1"
    town.upstream.files["https://files.example.org/a.beddb"] = b"an index"
    assert (await town.http.get(f"/index/{entry.name}/status")).json()["ready"] is False
    assert (await town.http.get(f"/index/{entry.name}?raw=true")).content == b"TBI\1"
    assert (await town.http.get(f"/index/{entry.name}")).status_code == 202
    await town.publish(entry, b"the data", b"checked", index_name="a.bed.tbi")
    assert (await town.http.get(f"/index/{entry.name}")).content == b"checked"
    assert (await town.http.get(f"/index/{entry.name}/status")).json()["ready"] is True
    assert (await town.http.get(f"/files/{entry.name}/a.bed.beddb")).content == b"an index"


@pytest.mark.parametrize("filename", ["a.sam", "a.bb", "a.bcf", "a.csv"])
async def test_upstreams_index_of_a_format_that_has_none_is_not_served_with_what_is_made(town, filename):
    sidecar = {"kind": "bai", "access_url": "https://files.example.org/a.bai"}
    entry = await town.register(filename=filename, sidecars=[sidecar])
    town.upstream.files[sidecar["access_url"]] = b"BAI\1"
    town.upstream.files[entry.access_url] = b"unchecked"
    assert (await town.http.get(f"/data/{entry.name}")).status_code == 202
    assert (await town.http.get(f"/index/{entry.name}/status")).content != b'{"ready":true}'
    assert (await town.http.get(f"/index/{entry.name}")).status_code == (404 if "csv" in filename else 202)
    assert (await town.http.get(f"/index/{entry.name}?raw=true")).content == b"BAI\1"


async def test_a_raw_index_without_a_sidecar_is_404_and_starts_nothing(town):
    entry = await town.register()
    assert (await town.http.get(f"/index/{entry.name}?raw=true")).status_code == 404
    assert (await town.jobs.find(JobQuery())).jobs == ()


@pytest.mark.parametrize("suffix", ["bam", "cram", "vcf", "bed", "bw", "csv"])
async def test_with_processing_off_the_data_of_every_format_are_upstreams_bytes(build_town, suffix):
    town = await build_town(processing=False)
    entry = await town.register(filename=f"x.{suffix}")
    town.upstream.files[entry.access_url] = data = bytes(range(200))
    path = f"/data/{entry.name}"
    whole = await town.http.get(path)
    assert (whole.status_code, whole.content) == (200, data)
    part = await town.http.get(path, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, data[5:10])
    past = await town.http.get(path, headers={"Range": "bytes=200-"})
    assert (past.status_code, past.headers["content-range"]) == (416, "bytes */200")
    head = await town.http.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "200", b"")
    assert (await town.http.get(f"{path}/status")).json()["ready"] is True
    assert (await town.jobs.find(JobQuery())).jobs == ()


async def test_with_processing_off_an_index_is_upstreams_own_or_404(build_town):
    town = await build_town(processing=False)
    sidecar = {"kind": "bai", "access_url": "https://files.example.org/x.bai"}
    town.upstream.files[sidecar["access_url"]] = b"BAI\1"
    bare, indexed = await town.register(), await town.register(sidecars=[sidecar])
    for method in ("GET", "HEAD"):
        found = await town.http.request(method, f"/index/{indexed.name}")
        assert (found.status_code, found.headers["content-length"]) == (200, "4")
        for path in (f"/index/{bare.name}", f"/density/{bare.name}", f"/density/{indexed.name}"):
            assert (await town.http.request(method, path)).status_code == 404, (method, path)
    assert (await town.http.get(f"/index/{indexed.name}/status")).json()["ready"] is True
    for path in (f"/index/{bare.name}", f"/index/{bare.name}/status", f"/density/{bare.name}/status"):
        missing = await town.http.get(path)
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found"), path
        assert missing.json()["retryable"] is False


async def test_with_processing_off_contigs_say_so(build_town):
    town = await build_town(processing=False)
    entry = await town.register()
    answer = await town.http.get(f"/contigs/{entry.name}")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/processing-disabled")
    assert answer.json()["retryable"] is False
    assert (await town.http.get("/jobs/none")).status_code == 404


async def test_links_name_the_public_address(build_town):
    town = await build_town(public_url="https://herd.example.org/goose/")
    entry = await town.register()
    answer = await town.http.get(f"/data/{entry.name}")
    assert answer.headers["location"] == "/goose/jobs/job1"
    assert answer.json()["job_url"] == "https://herd.example.org/goose/jobs/job1"
    assert (await town.jobs.get(JobId("job1"))).requesters == ("127.0.0.1",)


async def test_a_clients_own_forwarding_headers_are_not_believed(town):
    entry = await town.register()
    headers = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Host": "evil.example", "Host": "a~b"}
    answer = await town.http.get(f"/data/{entry.name}", headers=headers)
    assert answer.json()["job_url"].startswith(town.url)
    assert (await only_job(town)).requesters == ("127.0.0.1",)


async def test_behind_a_proxy_of_ours_the_client_is_who_it_says(build_town):
    town = await build_town(trusted_proxies=1)
    entry = await town.register()
    headers = {
        "X-Forwarded-For": "1.1.1.1, 2001:DB8::1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "herd.example",
    }
    answer = await town.http.get(f"/data/{entry.name}", headers=headers)
    assert answer.json()["job_url"] == "https://herd.example/jobs/job1"
    assert (await only_job(town)).requesters == ("2001:db8::/64",)


async def test_the_real_sources_pass_a_local_file_through(build_town, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"x,y\n" * 100_000)
    (tmp_path / "secret.csv").write_bytes(b"secret")
    sources = HttpSources(UrlGuard(schemes=frozenset({"https", "file"}), file_roots=(folder,)))
    town = await build_town(sources=sources)
    inside = await town.register(filename="a.csv", access_url=f"{folder.as_uri()}/a.csv")
    path = f"/data/{inside.name}?raw=true"
    whole = await town.http.get(path)
    assert (whole.status_code, whole.content) == (200, b"x,y\n" * 100_000)
    part = await town.http.get(path, headers={"Range": "bytes=4-6", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, b"x,y")
    assert (await town.http.get(path, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
    assert (await town.http.get(path, headers={"Range": "bytes=400000-"})).headers[
        "content-range"
    ] == "bytes */400000"
    for url, code in (
        (f"{tmp_path.as_uri()}/secret.csv", 502),
        (f"{folder.as_uri()}/../secret.csv", 502),
        (f"{folder.as_uri()}/none.csv", 404),
        ("http://127.0.0.1:1/x.csv", 502),
        ("s3://no", 502),
        ("https://10.0.0.1/x.csv", 502),
    ):
        entry = await town.register(filename="b.csv", access_url=url)
        answer = await town.http.get(f"/data/{entry.name}?raw=true")
        assert (answer.status_code, b"secret" in answer.content) == (code, False), url
        assert str(tmp_path) not in answer.text
        assert "10.0.0.1" not in answer.text
    await sources.close()
