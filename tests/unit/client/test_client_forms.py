"""Two forms of one client: the same calls, awaited or not, and the records they give."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import inspect
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import (
    AsyncGooseherdClient,
    Changed,
    GooseherdClient,
    InvalidInput,
    Job,
    LibraryMissing,
    NoService,
    NotReachable,
    ReadyPart,
    UnexpectedResponse,
)
from gooseherd.client.frames import RegionTable, frame_of
from gooseherd.client.notebook.addresses import browser_address
from gooseherd.client.notebook.snapshot import describe
from gooseherd.client.transports import run

JOB = {
    "job_id": "j1",
    "status": "running",
    "dcc": "d",
    "local_id": "f",
    "created_at": "2026-01-01T00:00:00Z",
    "progress": {"step": "sort", "percent": 12.5, "eta_seconds": None},
    "parts": [{"kind": "data", "size": 3}],
    "attempts": [{"number": 1, "reason": None}],
    "from_tomorrow": {"a": 1},
}


@pytest.fixture
async def async_client(service: Any) -> AsyncIterator[AsyncGooseherdClient]:
    async with AsyncGooseherdClient(service.url, "key") as client:
        yield client


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}


def test_both_forms_have_the_same_calls_with_the_same_parameters() -> None:
    plain, awaited = public(GooseherdClient), public(AsyncGooseherdClient)
    assert plain.keys() - awaited.keys() == {"close", "endpoint", "to"}
    assert awaited.keys() - plain.keys() == {"aclose"}
    for name in plain.keys() & awaited.keys():
        if callable(plain[name]):
            assert inspect.signature(plain[name]) == inspect.signature(awaited[name])
            assert plain[name].__doc__ == awaited[name].__doc__


def test_no_call_of_the_plain_form_gives_something_to_await(service: Any, reply: Any) -> None:
    service.on("GET /jobs/j1", reply(200, JOB))
    with GooseherdClient(service.url) as client:
        assert isinstance(client.job("j1"), Job)
        assert inspect.isgenerator(client.jobs())


async def test_the_plain_form_works_where_a_loop_runs(service: Any, reply: Any) -> None:
    service.on("GET /jobs", reply(200, {"jobs": [JOB, JOB], "next": None}))
    with GooseherdClient(service.url) as client:
        assert next(client.jobs()).job_id == "j1"
        assert len(list(client.jobs())) == 2


def test_what_waits_for_a_loop_is_not_taken_for_a_result() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        run(asyncio.sleep(0))


def test_a_record_is_typed_and_whole(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("GET /jobs/j1", reply(200, JOB))
    job = client.job("j1")
    assert (job.status, job.progress.percent, job.file, job.ended) == ("running", 12.5, "d/f", False)
    assert job.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert (job.parts[0].kind, job.attempts[0].number) == ("data", 1)
    assert job["created_at"] == "2026-01-01T00:00:00Z"
    assert dict(job) == job == JOB
    with pytest.raises(AttributeError):
        job.status = "failed"  # type: ignore[misc]
    with pytest.raises(TypeError):
        job["status"] = "failed"  # type: ignore[index]


def test_a_record_that_is_kept_has_no_key_in_it(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("GET /jobs/j1", reply(200, JOB))
    job = client.job("j1")
    kept = pickle.dumps(job)
    assert b"the-key" not in kept
    again = pickle.loads(kept)
    assert again == job
    assert again.endpoint is None
    assert "the-key" not in repr(job) + repr(job.endpoint) + repr(client.endpoint)


def test_another_program_s_json_is_no_record(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("GET /jobs/j1", reply(200, {"hello": "world"}))
    with pytest.raises(UnexpectedResponse, match="no Job: it has no 'job_id'"):
        client.job("j1")


def test_without_an_address_it_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("GOOSEHERD_URL", raising=False)
    with pytest.raises(NoService, match="gooseherd up"):
        GooseherdClient()
    monkeypatch.setenv("GOOSEHERD_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("GOOSEHERD_API_KEY", "ghk_1")
    with GooseherdClient() as client:
        assert (client.base_url, client.endpoint.api_key) == ("http://127.0.0.1:9", "ghk_1")
    with GooseherdClient("http://127.0.0.1:10") as client:  # the key is for the service it stands beside
        assert client.endpoint.api_key is None


def test_bytes_are_read_by_range(service: Any, client: GooseherdClient, reply: Any) -> None:
    part = ReadyPart(f"{service.url}/data/d/f", '"e"', 10, None)
    service.on("GET /data/d/f", reply(206, b"234", {"ETag": '"e"', "Content-Range": "bytes 2-4/10"}))
    assert client.read_bytes(part, 2, 5) == b"234"
    assert service.asked[-1].headers["Range"] == "bytes=2-4"
    assert client.read_bytes(part, 10, 20) == b""
    with pytest.raises(InvalidInput):
        client.read_bytes(part, 5, 2)


async def test_files_are_written_in_a_thread(
    service: Any, async_client: AsyncGooseherdClient, reply: Any, tmp_path: Path
) -> None:
    there = reply(200, b"x" * 1000, {"ETag": '"e"'})
    service.on("HEAD /data/d/f", there)
    service.on("GET /data/d/f", there)
    received = await async_client.download(f"{service.url}/data/d/f", tmp_path / "f")
    assert (received.size, (tmp_path / "f").read_bytes()) == (1000, b"x" * 1000)
    part = ReadyPart(f"{service.url}/data/d/f", '"e"', 1000, None)
    service.on("GET /data/d/f", reply(206, b"xx", {"ETag": '"e"', "Content-Range": "bytes 2-3/1000"}))
    assert await async_client.read_bytes(part, 2, 4) == b"xx"


async def test_items_made_in_a_thread_come_in_order_and_end_when_nobody_takes_them(
    async_client: AsyncGooseherdClient,
) -> None:
    closed = []

    def numbers(_: Any) -> Any:
        try:
            yield from range(2000)
        finally:
            closed.append(True)

    assert [n async for n in async_client.transport.items(numbers)] == list(range(2000))
    some = async_client.transport.items(numbers)
    assert await anext(some) == 0
    await some.aclose()
    assert closed == [True, True]


def test_a_service_that_has_answered_is_waited_for_and_no_other(
    service: Any, client: GooseherdClient, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("gooseherd.client.transports.time.sleep", pauses.append)
    accepted = reply(202, {}, {"Location": "/jobs/j1"})
    lost = reply(200, b"", {"Content-Length": "9"}, cut=True)
    service.on(
        "GET /data/d/f", accepted, reply(503, {"title": "stopping"}, {"Retry-After": "3"}), reply(200, b"x")
    )
    service.on("GET /jobs/j1", lost, reply(200, {**JOB, "status": "completed"}))
    assert client.ready("d", "f").size == 1
    assert 3.0 in pauses
    with GooseherdClient("http://127.0.0.1:9") as nobody, pytest.raises(NotReachable):
        nobody.ready("d", "f")


def test_retry_after_may_be_a_date(service: Any, client: GooseherdClient, reply: Any) -> None:
    from gooseherd.client import Busy

    service.on("GET /queue", reply(503, {}, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}))
    with pytest.raises(Busy) as busy:
        client.queue()
    assert busy.value.retry_after_seconds is not None
    assert busy.value.retry_after_seconds > 1e6


def test_importing_it_is_light() -> None:
    heavy = (
        "IPython aiohttp anywidget boto3 botocore fastapi grpc numpy pandas polars pydantic pysam sqlalchemy "
        "uvicorn wool"
    )
    script = f"import sys, gooseherd.client; print(sorted(set({heavy.split()}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_library_that_is_missing_is_named_with_its_extra(
    client: GooseherdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(LibraryMissing, match=r"anywidget: pip install 'gooseherd\[notebook\]'"):
        client.view(["d/f"])
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(LibraryMissing, match=r"polars: pip install 'gooseherd\[frames\]'"):
        frame_of("polars", RegionTable({}, {}))


def test_htslib_without_libcurl_says_so(
    service: Any, client: GooseherdClient, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr("pysam.AlignmentFile", unsupported)
    names = [{"name": "f.bam", "kind": "data"}]
    service.on("GET /data/d/f", reply(200, b"x", {"ETag": '"e"'}))
    service.on("GET /files/d/f/", reply(200, {"names": names}))
    service.on("GET /files/d/f", reply(200, {"dcc": "d", "local_id": "f"}))
    with pytest.raises(LibraryMissing, match="libcurl4"):
        client.open("d", "f")


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}, "/user/me/proxy/8080"),
        ({"GOOSEHERD_BROWSER_URL": "https://hub/x/{port}/"}, "https://hub/x/8080"),
    ],
)
def test_the_browser_finds_the_service_where_the_environment_says(
    environ: dict[str, str], address: str
) -> None:
    assert browser_address("http://127.0.0.1:8080", environ) == address


def test_a_public_service_is_found_at_its_own_address_on_a_hub_too() -> None:
    hub = {"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}
    assert browser_address("https://herd.example.org", hub) == "https://herd.example.org"


def test_what_is_shown_is_escaped() -> None:
    job = Job.of({**JOB, "local_id": "<script>", "progress": {"step": "<img>", "percent": 5}})
    html = job._repr_html_()
    assert "<script>" not in html
    assert "<img>" not in html
    assert "<progress" in html


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "pending", "position": 3}, "3 before it"),
        ({"status": "pending", "position": 0}, "next in the queue"),
        (
            {
                "status": "pending",
                "waiting": {"reason": "no_capacity", "detail": "full", "next_try_seconds": 200},
            },
            "full; next try in 3 min",
        ),
        ({"status": "running", "waiting": {"reason": "launching"}}, "starting a worker"),
        ({"progress": {"step": "sort", "percent": 40.2, "eta_seconds": 30}}, "sort 40 %, 30 s left"),
        ({"status": "finalizing"}, "verifying"),
        ({"status": "completed"}, "ready"),
        ({"status": "failed", "reason": "source_invalid", "detail": "line 2"}, "failed: line 2"),
    ],
)
def test_a_job_s_state_is_said_as_the_page_says_it(changes: dict[str, Any], words: str) -> None:
    assert describe(Job.of({**JOB, **changes})) == words


def test_a_redirect_to_another_host_is_followed_without_the_key(
    service: Any, client: GooseherdClient, reply: Any, bucket: Any, tmp_path: Path
) -> None:
    content = b"0123456789"
    tag = f'"{hashlib.sha256(content).hexdigest()}"'
    service.on("HEAD /data/d/f", reply(200, content, {"ETag": tag}))
    service.on("GET /data/d/f", reply(307, b"", {"Location": f"{bucket.url}/key?signed=1"}))
    bucket.on("GET /key", reply(200, content, {"ETag": '"md5-of-the-bucket"'}))
    part = client.ready("d", "f")
    assert (part.size, part.etag) == (10, tag)
    assert client.download(part.url, tmp_path / "f").verified
    bucket.on("GET /key", reply(206, b"234", {"ETag": '"x"', "Content-Range": "bytes 2-4/10"}))
    assert client.read_bytes(part, 2, 5) == b"234"
    assert bucket.asked[-1].headers["Range"] == "bytes=2-4"
    assert not [asked for asked in bucket.asked if {"Authorization", "If-Range"} & asked.headers.keys()]
    # Another version was published meanwhile.
    service.on("HEAD /data/d/f", reply(200, content, {"ETag": '"another"'}))
    with pytest.raises(Changed):
        client.read_bytes(part, 2, 5)
    bucket.on("GET /key", reply(206, b"234", {"Content-Range": "bytes 2-4/11"}))
    with pytest.raises(Changed):
        client.read_bytes(part, 2, 5)


def test_a_redirect_within_the_service_is_followed_with_its_conditions(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("HEAD /data/d/f", reply(200, b"0123456789", {"ETag": '"e"'}))
    service.on("GET /data/d/f", reply(307, b"", {"Location": "/artifacts/d1/f?of=d/f"}))
    service.on("GET /artifacts/d1/f", reply(206, b"234", {"ETag": '"e"', "Content-Range": "bytes 2-4/10"}))
    assert client.read_bytes(client.ready("d", "f"), 2, 5) == b"234"
    assert service.asked[-1].headers["If-Range"] == '"e"'
    assert "Authorization" in service.asked[-1].headers
