"""Uploads that go on after breaks, and end when nothing goes on any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import GooseherdClient
from gooseherd.client.errors import Busy, NotReachable

STATE, MORE = "GET /uploads/u1", "PATCH /uploads/u1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "x.bed").write_bytes(b"x" * 1000)
    return tmp_path / "x.bed"


def upload(offset: int, **more: Any) -> dict[str, Any]:
    return {"upload_id": "u1", "length": 1000, "offset": offset, **more}


def sent(service: Any) -> list[tuple[str, int]]:
    return [(a.headers["Upload-Offset"], len(a.body)) for a in service.asked if a.method == "PATCH"]


REGISTERED = {"complete": True, "file": "local/x"}


@pytest.mark.parametrize(("status", "error"), [(503, Busy), (409, NotReachable)])
def test_an_upload_that_never_gets_further_ends_though_its_state_is_answered(
    service: Any,
    client: GooseherdClient,
    reply: Any,
    path: Path,
    waits: list[float],
    status: int,
    error: type[Exception],
) -> None:
    service.on(STATE, reply(200, upload(400)))
    service.on(MORE, reply(status, {}))
    with pytest.raises(error):
        client.resume_upload("u1", path)
    assert 55 < sum(waits) < 70


def test_an_upload_that_gets_further_now_and_then_goes_on(
    service: Any, client: GooseherdClient, reply: Any, path: Path, waits: list[float]
) -> None:
    states = [reply(200, upload(offset)) for offset in range(0, 1000, 100) for _ in range(2)]
    service.on(STATE, *states, reply(200, upload(1000, **REGISTERED)))
    service.on(MORE, reply(503, {}, {"Retry-After": "20"}))
    assert client.resume_upload("u1", path).file == "local/x"
    assert sum(waits) == 400


@pytest.mark.parametrize("before", [{}, {"complete": True}], ids=["not complete", "without an entry"])
def test_what_has_all_arrived_and_is_not_registered_is_asked_for_again(
    service: Any,
    client: GooseherdClient,
    reply: Any,
    path: Path,
    waits: list[float],
    before: dict[str, Any],
) -> None:
    states = [reply(200, upload(1000, **before)) for _ in range(5)]
    service.on(STATE, *states, reply(200, upload(1000, **REGISTERED)))
    service.on(MORE, reply(204))
    assert client.resume_upload("u1", path).file == "local/x"
    assert sent(service) == [("1000", 0)] * 2
    assert waits == [2.0]
    service.on(STATE, reply(200, upload(1000, **before)))
    with pytest.raises(NotReachable, match="not registered"):
        client.resume_upload("u1", path)


def test_an_index_that_is_here_before_its_file_is_done(
    service: Any, client: GooseherdClient, reply: Any, path: Path
) -> None:
    service.on(STATE, reply(200, upload(1000, complete=True, index_of="u0")))
    assert client.resume_upload("u1", path).complete
    assert sent(service) == []
