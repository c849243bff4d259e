"""Waiting for an artifact: by events, by polling, through a full queue and a restart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gooseherd.client import (
    Busy,
    Denied,
    GooseherdClient,
    JobEnded,
    Missing,
    NotReachable,
    Refused,
    TookTooLong,
    UnexpectedResponse,
)
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import InvalidInput

DATA, EVENTS, JOB = "GET /data/d/f", "GET /jobs/j1/events", "GET /jobs/j1"
STREAM = {"Content-Type": "text/event-stream"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are counted, not waited."""
    waits: list[float] = []
    monkeypatch.setattr("gooseherd.client.transports.time.sleep", waits.append)
    return waits


def job(status: str, **more: Any) -> dict[str, Any]:
    return {"job_id": "j1", "status": status, "progress": {"percent": 1.0}, **more}


def entry(number: int) -> dict[str, Any]:
    return {"dcc": "d", "local_id": f"f{number}", "n": number}


def stream(*jobs: dict[str, Any]) -> bytes:
    return b"".join(b": ping\n\nevent: job\ndata: " + json.dumps(one).encode() + b"\n\n" for one in jobs)


@pytest.fixture
def bytes_there(reply: Any) -> Any:
    return reply(200, b"x" * 10, {"ETag": '"e"', "Content-Disposition": 'attachment; filename="r.bam"'})


@pytest.fixture
def accepted(reply: Any) -> Any:
    return reply(202, {"job_id": "j1"}, {"Location": "http://elsewhere/jobs/j1", "Retry-After": "1"})


def test_what_is_there_is_ready_at_once(service: Any, client: GooseherdClient, bytes_there: Any) -> None:
    service.on(DATA, bytes_there)
    ready = client.ready("d", "f")
    assert (ready.url, ready.etag, ready.size, ready.filename, ready.job) == (
        f"{service.url}/data/d/f", '"e"', 10, "r.bam", None,
    )  # fmt: skip


def test_a_job_is_followed_by_its_events(
    service: Any, client: GooseherdClient, bytes_there: Any, accepted: Any, reply: Any
) -> None:
    service.on(DATA, accepted, bytes_there)
    service.on(JOB, reply(200, job("pending")))
    service.on(EVENTS, reply(200, stream(job("running"), job("completed")), STREAM))
    seen: list[str] = []
    ready = client.ready("d", "f", on_job=lambda j: seen.append(j["status"]))
    assert seen == ["pending", "running", "completed"]
    assert ready.job is not None
    assert ready.job["status"] == "completed"


@pytest.mark.parametrize("trouble", ["no events", "no stream", "cut", "ends early"])
def test_without_events_the_job_is_polled(
    service: Any, client: GooseherdClient, bytes_there: Any, accepted: Any, reply: Any, trouble: str
) -> None:
    service.on(DATA, accepted, bytes_there)
    service.on(JOB, reply(200, job("running")), reply(200, job("finalizing")), reply(200, job("completed")))
    broken = {
        "no events": reply(503, {"title": "off"}),
        "no stream": reply(200, {"not": "a stream"}),
        "cut": reply(200, stream(job("running")), STREAM, cut=True),
        "ends early": reply(200, stream(job("running")), STREAM),
    }
    service.on(EVENTS, broken[trouble])
    seen: list[str] = []
    client.ready("d", "f", on_job=lambda j: seen.append(j["status"]))
    assert seen[-1] == "completed"


def test_a_service_that_restarts_is_waited_for(
    service: Any, client: GooseherdClient, bytes_there: Any, accepted: Any, reply: Any
) -> None:
    service.on(DATA, accepted, bytes_there)
    service.on(
        JOB,
        reply(200, job("running")),
        reply(503, {}),
        reply(200, b"", cut=True),
        reply(200, job("completed")),
    )
    assert client.ready("d", "f").job is not None


@pytest.mark.parametrize("trouble", ["busy", "cut"])
def test_a_job_that_is_never_answered_ends_the_wait_though_the_part_is(
    service: Any, client: GooseherdClient, accepted: Any, reply: Any, waits: list[float], trouble: str
) -> None:
    service.on(DATA, accepted)
    service.on(JOB, reply(503, {}) if trouble == "busy" else reply(200, b"", cut=True))
    with pytest.raises((NotReachable, Busy)):
        client.ready("d", "f")
    assert 55 < sum(waits) < 70


def test_a_job_that_is_answered_after_a_moment_is_waited_for(
    service: Any, client: GooseherdClient, bytes_there: Any, accepted: Any, reply: Any, waits: list[float]
) -> None:
    service.on(DATA, accepted, accepted, bytes_there)
    service.on(JOB, reply(503, {}), reply(200, job("completed")))
    assert client.ready("d", "f").size == 10
    assert waits == [2.0]


def test_a_failed_job_is_told_with_its_reason(
    service: Any, client: GooseherdClient, accepted: Any, reply: Any
) -> None:
    service.on(DATA, accepted)
    service.on(JOB, reply(200, job("failed", reason="source_invalid", detail="no header")))
    with pytest.raises(JobEnded, match="job j1 failed: source_invalid: no header"):
        client.ready("d", "f")


def test_a_wait_that_takes_too_long_names_the_job(
    service: Any, client: GooseherdClient, accepted: Any, reply: Any
) -> None:
    service.on(DATA, accepted)
    service.on(JOB, reply(200, job("running")))
    with pytest.raises(TookTooLong) as late:
        client.ready("d", "f", timeout_seconds=0.3)
    assert late.value.job_id == "j1"


def test_a_full_queue_is_waited_out_as_told(
    service: Any, client: GooseherdClient, bytes_there: Any, reply: Any, no_waiting: list[float]
) -> None:
    service.on(DATA, reply(429, {"title": "full"}, {"Retry-After": "7"}), bytes_there)
    client.ready("d", "f")
    assert no_waiting == [7.0]


@pytest.mark.parametrize("call", ["records", "frame", "open"])
def test_who_reads_is_told_that_the_service_is_full(
    service: Any, client: GooseherdClient, reply: Any, no_waiting: list[float], call: str
) -> None:
    service.on(DATA, reply(429, {"title": "full"}, {"Retry-After": "7"}), reply(404, {"title": "none"}))
    told: list[Busy] = []
    place = [] if call == "open" else ["chr1:1-9"]
    with pytest.raises(Missing):
        result = getattr(client, call)("d", "f", *place, on_busy=told.append)
        list(result)
    assert [busy.title for busy in told] == ["full"]
    assert no_waiting == [7.0]


def test_what_waiting_does_not_heal_is_told_at_once(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on(DATA, reply(503, {"title": "Processing is off"}))
    with pytest.raises(Busy, match="Processing is off"):
        client.ready("d", "f")


def test_retry_is_asked_for_once(
    service: Any, client: GooseherdClient, bytes_there: Any, accepted: Any, reply: Any
) -> None:
    service.on(DATA, accepted, bytes_there)
    service.on(JOB, reply(200, job("completed")))
    client.ready("d", "f", retry=True)
    assert [a.path for a in service.asked if a.path.startswith("/data")] == [
        "/data/d/f?retry=true",
        "/data/d/f",
    ]


def test_asking_does_not_read_the_bytes(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("GET /index/d/f", reply(200, b"12", cut=True))
    answer = client.ask("d", "f", kind=Kind.INDEX)
    assert answer.ready is not None


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Denied), (401, Denied), (404, Missing), (410, Missing), (429, Busy), (422, Refused)],
)
def test_refusals_are_told_by_kind(
    service: Any, client: GooseherdClient, reply: Any, status: int, kind: type[Refused]
) -> None:
    problem = {"type": "/problems/some-thing", "title": "T", "detail": "because", "field": "x"}
    service.on(DATA, reply(status, problem, {"Content-Type": "application/problem+json"}))
    with pytest.raises(kind) as refused:
        client.ask("d", "f")
    assert (str(refused.value), refused.value.kind, refused.value.fields["field"]) == (
        "because",
        "some-thing",
        "x",
    )
    assert type(refused.value) is kind


def test_an_error_page_of_a_proxy_is_told_by_its_status(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on(DATA, reply(502, b"<html>bad gateway</html>"))
    with pytest.raises(Refused, match="Bad Gateway"):
        client.ask("d", "f")


def test_another_program_at_the_address_is_recognized(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("GET /jobs/j1", reply(200, b"<html>hello</html>"))
    with pytest.raises(UnexpectedResponse):
        client.job("j1")


def test_nobody_at_the_address_is_not_reachable() -> None:
    with GooseherdClient("http://127.0.0.1:9") as client, pytest.raises(NotReachable):
        client.job("j1")


def test_pages_are_walked_to_the_limit(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on(
        "GET /files",
        reply(200, {"files": [entry(1), entry(2)], "next": "a b"}),
        reply(200, {"files": [entry(3)]}),
    )
    assert [f["n"] for f in client.files(text="x")] == [1, 2, 3]
    assert [a.path for a in service.asked] == ["/files?q=x&limit=200", "/files?q=x&after=a+b&limit=200"]
    service.on("GET /jobs", reply(200, {"jobs": [job("running", n=1), job("running", n=2)], "next": "y"}))
    assert [j["n"] for j in client.jobs(limit=3)] == [1, 2, 1]


@pytest.mark.parametrize("trouble", ["busy", "cut"])
def test_a_page_that_fails_is_asked_for_again_and_the_first_is_not(
    service: Any, client: GooseherdClient, reply: Any, waits: list[float], trouble: str
) -> None:
    away = reply(503, {}) if trouble == "busy" else reply(200, b"", cut=True)
    first = reply(200, {"files": [entry(1)], "next": "a"})
    service.on("GET /files", first, away, away, reply(200, {"files": [entry(2)]}))
    assert [f["n"] for f in client.files(states=False)] == [1, 2]
    assert waits == [2.0, 2.0]
    assert service.asked[-1].path == "/files?states=false&after=a&limit=200"
    service.on("GET /files", first, away)
    with pytest.raises((Busy, NotReachable)):
        list(client.files())
    assert 55 < sum(waits[2:]) < 70
    waits.clear()
    service.on("GET /files", away)
    with pytest.raises((Busy, NotReachable)):
        list(client.files())
    assert waits == []


def test_an_import_in_which_no_line_was_good_still_tells_the_counts(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("POST /files/import", reply(422, {"imported": 0, "new": 0, "failed": 1, "errors": []}))
    assert client.import_files([b'{"a": 1}', b"{}\n"])["failed"] == 1
    assert service.asked[-1].body == b'{"a": 1}\n{}\n'
    assert service.asked[-1].headers["Authorization"] == "Bearer the-key"


def test_ids_are_quoted_in_paths(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("GET /files/d/a~b:c+d@e=f", reply(200, entry(1)))
    assert client.file("d", "a~b:c+d@e=f") == entry(1)
    with pytest.raises(Missing):
        client.file("d", "a?b#c")
    assert service.asked[-1].path == "/files/d/a%3Fb%23c"


def test_an_id_with_a_slash_is_refused_and_nothing_is_asked(service: Any, client: GooseherdClient) -> None:
    for dcc, local_id in (("d", "../../jobs/x"), ("d/x", "f"), ("d", "a\\b"), ("d", "a\nb")):
        with pytest.raises(InvalidInput):
            client.file(dcc, local_id)
    assert service.asked == []


def test_a_wait_that_is_too_long_is_told_as_it_was_given(service: Any, reply: Any, client: Any) -> None:
    service.on("GET /data/d/f", reply(202, {}, {"Location": "/jobs/j1"}))
    service.on("GET /jobs/j1", reply(200, {"job_id": "j1", "status": "running"}))
    with pytest.raises(TookTooLong) as late:
        client.ready("d", "f", timeout_seconds=0.5)
    assert str(late.value) == "not ready after 0.5 s; job j1 goes on"
