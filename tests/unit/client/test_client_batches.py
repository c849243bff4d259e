"""Batches from Python, sync and async, and from the command line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.client import AsyncGooseherdClient, Busy, GooseherdClient, Missing, TookTooLong

STREAM = {"Content-Type": "text/event-stream"}
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gooseherd.client.calls.POLL_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("gooseherd.client.job_calls.PAUSE_SECONDS", 0.0)


@pytest.fixture
async def async_client(service: Any) -> AsyncIterator[AsyncGooseherdClient]:
    async with AsyncGooseherdClient(service.url, "key") as client:
        yield client


def batch(status: str = "active", **counts: int) -> dict[str, Any]:
    states = ("waiting", "pending", "running", "ready", "failed", "cancelled")
    return {
        "batch_id": "b1",
        "status": status,
        "total": sum(counts.values()),
        "counts": dict.fromkeys(states, 0) | counts,
        "percent": 0.0,
        "created_at": "2026-01-01T00:00:00Z",
        "ended_at": None,
        "cancel_requested": False,
        "failures": [],
    }


def failure(local_id: str) -> dict[str, Any]:
    return {
        "dcc": "d",
        "local_id": local_id,
        "state": "failed",
        "reason": "source_invalid",
        "detail": "line 2",
        "job_id": "j1",
    }


def stream(*records: dict[str, Any]) -> bytes:
    return b"".join(b": ping\n\nevent: batch\ndata: " + json.dumps(r).encode() + b"\n\n" for r in records)


WAITING, DONE = batch(waiting=2), batch("completed", ready=2)


def test_a_batch_is_asked_for_by_names_or_by_a_query(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("POST /batches", reply(202, WAITING))
    assert client.create_batch(["d/a", "d/b"])["batch_id"] == "b1"
    client.create_batch(dcc="d", text="x", retry=True, idempotency_key="k")
    first, second = service.asked
    assert json.loads(first.body) == {"files": ["d/a", "d/b"], "retry": False}
    assert json.loads(second.body) == {"query": {"dcc": "d", "q": "x"}, "retry": True}
    assert second.headers["Idempotency-Key"] == "k"
    assert len(first.headers["Idempotency-Key"]) == 32


def test_a_lost_answer_makes_no_second_batch(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on(
        "POST /batches", reply(202, b'{"batch_', {"Content-Length": "99"}, cut=True), reply(202, WAITING)
    )
    assert client.create_batch(["d/a"])["batch_id"] == "b1"
    assert len({asked.headers["Idempotency-Key"] for asked in service.asked}) == 1


def test_a_refusal_is_not_asked_again(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("POST /batches", reply(429, {"title": "full"}, {**PROBLEM, "Retry-After": "30"}))
    with pytest.raises(Busy):
        client.create_batch(["d/a"])
    assert len(service.asked) == 1


def test_a_batch_is_followed_by_its_events_to_its_end(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("GET /batches/b1", reply(200, WAITING))
    service.on("GET /batches/b1/events", reply(200, stream(WAITING, DONE), STREAM))
    assert [record["status"] for record in client.follow_batch("b1")] == ["active", "active", "completed"]


def test_without_events_a_batch_is_looked_at_again_and_again(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("GET /batches/b1", reply(200, WAITING), reply(503, {}), reply(200, WAITING), reply(200, DONE))
    service.on("GET /batches/b1/events", reply(503, {}))
    assert [record["status"] for record in client.follow_batch("b1")] == ["active", "completed"]


def test_who_waits_too_long_is_told_that_the_batch_goes_on(
    service: Any, client: GooseherdClient, reply: Any
) -> None:
    service.on("GET /batches/b1", reply(200, WAITING))
    service.on("GET /batches/b1/events", reply(503, {}))
    with pytest.raises(TookTooLong, match="batch b1 goes on"):
        list(client.follow_batch("b1", timeout_seconds=0))


def test_files_of_a_batch_come_page_by_page(service: Any, client: GooseherdClient, reply: Any) -> None:
    service.on("GET /batches/b1/files", reply(200, {"files": [failure("a")], "next": 0}))
    service.on("GET /batches/b1/files?after=0&limit=200", reply(200, {"files": [failure("b")], "next": None}))
    assert [file["local_id"] for file in client.batch_files("b1")] == ["a", "b"]


async def test_the_async_client_does_the_same(
    service: Any, async_client: AsyncGooseherdClient, reply: Any
) -> None:
    service.on("POST /batches", reply(202, b'{"b', {"Content-Length": "99"}, cut=True), reply(202, WAITING))
    service.on("GET /batches/b1", reply(200, WAITING))
    service.on("GET /batches/b1/events", reply(200, stream(WAITING, DONE), STREAM))
    service.on("GET /batches", reply(200, {"batches": [WAITING, DONE], "next": "x"}))
    service.on("GET /batches/b1/files", reply(200, {"files": [failure("a")], "next": 0}))
    service.on("GET /batches/b1/files?after=0&limit=200", reply(200, {"files": [failure("b")], "next": None}))
    service.on("DELETE /batches/b1", reply(200, batch("cancelled", cancelled=2)))
    made = await async_client.create_batch(["d/a"])
    followed = [record["status"] async for record in async_client.follow_batch(made["batch_id"])]
    assert followed == ["active", "active", "completed"]
    assert len([b async for b in async_client.batches(mine=True, limit=2)]) == 2
    assert [file["local_id"] async for file in async_client.batch_files("b1")] == ["a", "b"]
    assert (await async_client.cancel_batch("b1"))["status"] == "cancelled"
    assert len({a.headers["Idempotency-Key"] for a in service.asked if a.method == "POST"}) == 1


async def test_the_async_client_polls_and_gives_up_as_the_other_does(
    service: Any, async_client: AsyncGooseherdClient, reply: Any
) -> None:
    service.on("GET /batches/b1", reply(200, WAITING), reply(503, {}), reply(200, DONE))
    service.on("GET /batches/b1/events", reply(503, {}))
    assert [r["status"] async for r in async_client.follow_batch("b1")] == ["active", "completed"]
    service.on("GET /batches/b2", reply(200, WAITING))
    service.on("GET /batches/b2/events", reply(503, {}))
    with pytest.raises(TookTooLong):
        [record async for record in async_client.follow_batch("b2", timeout_seconds=0)]
    with pytest.raises(Missing):
        await async_client.batch("nobody")


# -- commands --------------------------------------------------------------------------------


@pytest.fixture
def gooseherd(service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setenv("GOOSEHERD_URL", service.url)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("API_ADMIN_KEY", raising=False)
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="gooseherd")


@pytest.fixture
def prepared(service: Any, reply: Any) -> Any:
    """A batch that ends so."""

    def ends(last: dict[str, Any]) -> None:
        service.on("POST /batches", reply(202, WAITING))
        service.on("GET /batches/b1", reply(200, WAITING), reply(200, last))
        service.on("GET /batches/b1/events", reply(200, stream(WAITING, last), STREAM))

    return ends


def body(service: Any) -> Any:
    return json.loads(next(asked for asked in service.asked if asked.method == "POST").body)


def test_prepare_waits_and_says_that_all_is_ready(gooseherd: Any, service: Any, prepared: Any) -> None:
    prepared(DONE)
    result = gooseherd("prepare", "d/a", "d/b")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "0 of 2: 2 waiting" in result.stderr
    assert "batch b1: 2 files ready" in result.stderr
    assert body(service) == {"files": ["d/a", "d/b"], "retry": False}


def test_prepare_says_what_failed_and_why(gooseherd: Any, prepared: Any) -> None:
    prepared({**batch("partial", ready=1, failed=12), "failures": [failure(f"f{n}") for n in range(10)]})
    result = gooseherd("prepare", "reads", "--format", "bam")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "batch b1: partial, 1 ready, 12 failed" in result.stderr
    assert "d/f0: source_invalid: line 2" in result.stderr
    assert "and 2 more; gooseherd batches show b1 has them all" in result.stderr


def test_prepare_as_json_is_the_batch_at_its_end(gooseherd: Any, service: Any, prepared: Any) -> None:
    prepared(DONE)
    result = gooseherd("prepare", "reads", "--dcc", "d", "--retry", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["status"] == "completed"
    assert body(service) == {"query": {"q": "reads", "dcc": "d"}, "retry": True}


def test_prepare_detached_prints_the_id_and_does_not_wait(
    gooseherd: Any, service: Any, prepared: Any
) -> None:
    prepared(DONE)
    result = gooseherd("prepare", "--all", "--detach")
    assert (result.exit_code, result.stdout) == (0, "b1\n")
    assert "gooseherd batches watch b1" in result.stderr
    assert [asked.method for asked in service.asked] == ["POST"]
    assert body(service)["query"] == {}


def test_prepare_gathers_several_queries_into_one_batch(
    gooseherd: Any, service: Any, prepared: Any, reply: Any
) -> None:
    prepared(DONE)
    entries = [{"dcc": "d", "local_id": "a"}, {"dcc": "d", "local_id": "b"}]
    service.on("GET /files", reply(200, {"files": entries, "next": None}))
    assert gooseherd("prepare", "d/b", "reads", "peaks").exit_code == 0
    assert body(service)["files"] == ["d/b", "d/a"]


def test_prepare_of_nothing_is_wrong_usage(gooseherd: Any) -> None:
    assert gooseherd("prepare").exit_code == 2
    assert gooseherd("prepare", "a/b/c/d").exit_code == 2


def test_prepare_says_that_many_files_need_the_key(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("POST /batches", reply(401, {"title": "The admin key is required"}, PROBLEM))
    result = gooseherd("prepare", "--all")
    assert (result.exit_code, "--api-key" in result.stderr) == (4, True)


def test_an_interrupted_prepare_says_that_the_batch_goes_on(
    gooseherd: Any, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(DONE)

    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(GooseherdClient, "follow_batch", interrupted)
    result = gooseherd("prepare", "d/a", "d/b")
    assert result.exit_code == 130
    assert "batch b1 goes on" in result.stderr
    assert "gooseherd batches cancel b1" in result.stderr


def test_batches_are_listed_shown_watched_and_cancelled(gooseherd: Any, service: Any, reply: Any) -> None:
    mixed = batch("partial", ready=1, failed=1)
    service.on("GET /batches", reply(200, {"batches": [mixed], "next": None}))
    service.on("GET /batches/b1", reply(200, mixed))
    service.on("GET /batches/b1/files", reply(200, {"files": [failure("a")], "next": None}))
    service.on("DELETE /batches/b1", reply(200, {**batch(running=1, cancelled=1), "cancel_requested": True}))
    assert gooseherd("batches", "ls").stdout.startswith("b1\tpartial\t2\t1 ready, 1 failed\t")
    shown = gooseherd("batches", "show", f"{service.url}/batches/b1/events").stdout
    assert "files             2 (1 ready, 1 failed)" in shown
    assert "d/a\tfailed\tsource_invalid: line 2\tj1" in shown
    assert json.loads(gooseherd("batches", "show", "b1", "--json").stdout)["files"][0]["local_id"] == "a"
    assert gooseherd("batches", "watch", "b1").exit_code == 1
    cancelled = gooseherd("batches", "cancel", "b1")
    assert (cancelled.exit_code, cancelled.stdout) == (0, "")
    assert "batch b1: being cancelled, 1 cancelled, 1 running" in cancelled.stderr
    assert gooseherd("batches", "show", "nobody").exit_code == 4
