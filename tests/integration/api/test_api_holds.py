"""What a viewer gets that asks for a file before it is made: bytes in the end, never a 2xx without them."""

from __future__ import annotations

import asyncio

import pytest

from gooseherd.api.holding import Holds
from gooseherd.control.submission import SubmissionLimits
from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.ports.store import JobQuery

pytestmark = pytest.mark.integration

VIEWER = {"Sec-Fetch-Mode": "cors", "Origin": "http://portal.example.org"}
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"
PERSON = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,application/xhtml+xml"}


async def until(condition, seconds=10.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not await condition():
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def submitted(town):
    async def there():
        return bool((await town.jobs.find(JobQuery())).jobs)

    await until(there)


async def make(town, entry, data=b"the bytes"):
    await submitted(town)
    (job,) = (await town.jobs.find(JobQuery())).jobs
    await town.complete(await town.run(job.job_id), await town.publish(entry, data))


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Mode": "same-origin"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Origin": "http://portal.example.org"},
        {"User-Agent": BROWSER, "Accept": "*/*"},
    ],
)
async def test_a_viewer_gets_the_bytes_when_they_are_made(town, headers):
    entry = await town.register()
    held = asyncio.create_task(
        town.http.get(f"/data/{entry.name}", headers={**headers, "Range": "bytes=0-2"}, follow_redirects=True)
    )
    await make(town, entry)
    answer = await held
    assert (answer.status_code, answer.content) == (206, b"the")


async def test_a_hold_that_runs_out_is_a_redirect_to_itself_with_cors(build_town):
    town = await build_town(wait_max_seconds=0.05)
    entry = await town.register()
    answer = await town.http.get(f"/data/{entry.name}?token=a%2Bb", headers=VIEWER)
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/data/{entry.name}?token=a%2Bb&hop=1"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"]
    assert answer.content == b""


async def test_all_hops_together_are_one_job_and_end_in_503(build_town):
    town = await build_town(wait_max_seconds=0.02)
    entry = await town.register()
    answer = await town.http.get(f"/index/{entry.name}", headers=VIEWER, follow_redirects=True)
    assert [step.status_code for step in answer.history] == [307] * 20
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["access-control-allow-origin"] == "*"
    body = answer.json()
    assert (body["type"], body["retryable"], body["job_id"]) == ("/problems/not-ready", True, "job1")
    assert len((await town.jobs.find(JobQuery())).jobs) == 1


async def test_a_public_prefix_is_part_of_the_redirect(build_town):
    town = await build_town(wait_max_seconds=0.02, public_url="https://portal.example.org/herd/")
    entry = await town.register()
    answer = await town.http.get(f"/data/{entry.name}", headers=VIEWER)
    assert answer.headers["location"] == f"/herd/data/{entry.name}?hop=1"


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?wait=0", VIEWER), ("", {**VIEWER, "Prefer": "respond-async"}), ("", {"User-Agent": "curl/8.5.0"})],
)
async def test_who_asks_for_an_answer_at_once_gets_202_and_a_location(town, query, headers):
    entry = await town.register()
    answer = await town.http.get(f"/data/{entry.name}{query}", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (202, "/jobs/job1")
    assert "Location" in answer.headers["access-control-expose-headers"]


async def test_a_page_may_send_prefer(town):
    answer = await town.http.options(
        "/data/4dn/x", headers={"Origin": "http://x.org", "Access-Control-Request-Method": "GET"}
    )
    assert "Prefer" in answer.headers["access-control-allow-headers"]


async def test_holding_can_be_switched_off(build_town):
    town = await build_town(hold_viewers=False)
    entry = await town.register()
    assert (await town.http.get(f"/data/{entry.name}", headers=VIEWER)).status_code == 202


async def test_a_viewers_head_never_starts_work(town):
    entry = await town.register()
    assert (await town.http.head(f"/data/{entry.name}", headers=VIEWER)).status_code == 404
    assert (await town.jobs.find(JobQuery())).jobs == ()


async def test_a_held_viewer_hears_of_the_failure(town):
    entry = await town.register()
    held = asyncio.create_task(town.http.get(f"/data/{entry.name}", headers=VIEWER, follow_redirects=True))
    await submitted(town)
    await town.fail(await town.run("job1"), Reason.SOURCE_INVALID)
    answer = await held
    assert (answer.status_code, answer.json()["reason"]) == (422, "source_invalid")


async def test_a_full_queue_is_waited_for_too(build_town):
    town = await build_town(wait_max_seconds=0.05, limits=SubmissionLimits(0, 0))
    entry = await town.register()
    assert (await town.http.get(f"/data/{entry.name}")).status_code == 429
    assert (await town.http.get(f"/data/{entry.name}", headers=VIEWER)).status_code == 307


async def test_held_requests_of_one_requester_are_bounded(build_town):
    town = await build_town(holds=Holds(per_requester=1, total=10))
    entry = await town.register()
    held = asyncio.create_task(town.http.get(f"/data/{entry.name}", headers=VIEWER, follow_redirects=True))
    await submitted(town)
    refused = await town.http.get(f"/index/{entry.name}", headers=VIEWER)
    assert (refused.status_code, refused.json()["type"]) == (429, "/problems/limit-reached")
    assert int(refused.headers["retry-after"]) >= 1
    # Who waits by ?wait has another answer to go on with.
    assert (await town.http.get(f"/index/{entry.name}?wait=10")).status_code == 202
    await make(town, entry)
    assert (await held).status_code == 200
    assert (await town.http.get(f"/index/{entry.name}", headers=VIEWER)).status_code == 200


async def test_a_client_that_leaves_is_held_no_longer(build_town):
    town = await build_town(holds=Holds(per_requester=1, total=1))
    entry = await town.register()
    held = asyncio.create_task(town.http.get(f"/data/{entry.name}", headers=VIEWER))
    await submitted(town)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)

    async def free():
        try:
            with town.dependencies.holds.place("127.0.0.1"):
                return True
        except Exception:
            return False

    await until(free)


async def test_a_hundred_held_requests_ask_the_store_no_more_than_one_does(town):
    entry = await town.register()
    asked = 0
    get = town.jobs.get

    async def counted(job_id):
        nonlocal asked
        asked += 1
        return await get(job_id)

    town.submissions._jobs.get = counted
    held = [
        asyncio.create_task(town.http.get(f"/data/{entry.name}", headers=VIEWER, follow_redirects=True))
        for _ in range(100)
    ]
    await submitted(town)
    await asyncio.sleep(1.0)  # the store is polled every 50 ms here
    assert 5 < asked < 60
    await make(town, entry)
    assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}


@pytest.mark.parametrize("gone", ["data", "manifest"])
async def test_an_artifact_that_goes_away_in_mid_view_is_made_again_before_the_viewer_is_answered(town, gone):
    entry = await town.register()
    manifest = await town.publish(entry, b"first version")
    ranged = {**VIEWER, "Range": "bytes=0-4"}
    first = await town.http.get(f"/data/{entry.name}", headers=ranged)
    assert first.content == b"first"
    data = manifest.part(Kind.DATA)
    assert data is not None
    prefix = data.key.rpartition("/")[0]
    async for stored in town.cache.list(prefix):
        await town.cache.delete(stored.key)
    if gone == "manifest":
        town.submissions.forget(entry, town.submissions.recipe(entry, Kind.DATA))
    held = asyncio.create_task(town.http.get(f"/data/{entry.name}", headers=ranged, follow_redirects=True))
    await make(town, entry, b"other bytes")
    second = await held
    assert (second.status_code, second.content) == (206, b"other")
    assert second.headers["etag"] != first.headers["etag"]
    # What was begun with the first version is not gone on with: the whole second one comes.
    mixed = await town.http.get(f"/data/{entry.name}", headers={**ranged, "If-Range": first.headers["etag"]})
    assert (mixed.status_code, mixed.content) == (200, b"other bytes")


@pytest.mark.parametrize("headers", [VIEWER, {}], ids=["viewer", "client"])
async def test_what_was_published_since_a_request_looked_for_it_is_served_and_not_made_again(
    town, monkeypatch, headers
):
    entry = await town.register()
    published = town.submissions.published

    async def published_meanwhile(*asked):
        found = await published(*asked)
        monkeypatch.undo()
        await town.http.get(f"/data/{entry.name}", headers={"Prefer": "respond-async"})
        await make(town, entry, b"bytes")
        return found

    monkeypatch.setattr(town.submissions, "published", published_meanwhile)
    answer = await town.http.get(f"/data/{entry.name}", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"bytes")
    assert len((await town.jobs.find(JobQuery())).jobs) == 1


async def test_a_stop_answers_held_requests_at_once(town):
    entry = await town.register()
    viewer = asyncio.create_task(town.http.get(f"/data/{entry.name}", headers=VIEWER))
    waiting = asyncio.create_task(town.http.get(f"/data/{entry.name}?wait=15"))
    await submitted(town)
    await asyncio.sleep(0.1)
    town.dependencies.holds.stop()
    first, second = await asyncio.wait_for(asyncio.gather(viewer, waiting), 5)
    assert (first.status_code, first.headers["location"]) == (307, f"/data/{entry.name}?hop=1")
    assert first.headers["access-control-allow-origin"] == "*"
    assert second.status_code == 202


async def test_what_the_server_cuts_off_at_its_end_is_a_problem_with_cors(build_town):
    reached = asyncio.Event()

    async def slow():
        reached.set()
        await asyncio.Event().wait()

    town = await build_town(readiness=slow)
    # Longer than the server's patience at shutdown, shorter than the probe's.
    asking = asyncio.create_task(town.http.get("/readyz", headers={"Origin": "http://x.org"}))
    await reached.wait()
    town.dependencies.holds.stop()
    await town.stop()
    answer = await asking
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


async def test_a_person_who_opens_a_cold_file_sees_how_far_the_job_is(town):
    entry = await town.register(filename="<reads>.bam")
    answer = await town.http.get(f"/data/{entry.name}", headers=PERSON)
    assert answer.status_code == 202
    assert answer.headers["content-type"].startswith("text/html")
    assert (answer.headers["location"], answer.headers["cache-control"]) == ("/jobs/job1", "no-store")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "/jobs/job1/events" in answer.text
    assert "&lt;reads&gt;.bam" in answer.text
    assert "<reads>" not in answer.text
    await make(town, entry)
    assert (await town.http.get(f"/data/{entry.name}", headers=PERSON)).content == b"the bytes"


@pytest.mark.parametrize("path", ["/data/4dn/nothing", "/files/4dn/nothing", "/nowhere", "/data/4dn/%00"])
async def test_a_person_gets_an_error_as_a_page(town, path):
    answer = await town.http.get(path, headers=PERSON)
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-request-id"] in answer.text
    plain = await town.http.get(path)
    assert plain.headers["content-type"] == "application/problem+json"
