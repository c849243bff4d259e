"""Sessions over HTTP: who may ask, one for each owner, dispatch, and the end."""

from __future__ import annotations

import asyncio

import pytest

from gooseherd.domain.errors import StoreUnavailable

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}


@pytest.fixture(autouse=True)
async def _no_launch_outlives_the_test(town):
    yield
    await town.sessions.close()


async def started(town, **wanted):
    response = await town.http.post("/sessions", json=wanted, headers=ADMIN)
    assert response.status_code == 201, response.text
    return response.json()


async def ready(town, session_id: str):
    async with asyncio.timeout(30):
        while True:
            session = (await town.http.get(f"/sessions/{session_id}", headers=ADMIN)).json()
            if session["state"] == "ready":
                return session
            await asyncio.sleep(0.01)


async def test_every_call_needs_a_key(town):
    for method, path in (
        ("POST", "/sessions"),
        ("GET", "/sessions"),
        ("GET", "/sessions/s"),
        ("DELETE", "/sessions/s"),
        ("POST", "/sessions/s/dispatch"),
    ):
        response = await town.http.request(method, path, json={"file": "4dn/f"})
        assert response.status_code == 401, (method, path)
        assert (response.json()["type"], response.json()["scope"]) == ("/problems/key-required", "submit")


async def test_a_session_is_made_once_for_an_owner_and_becomes_ready(town):
    response = await town.http.post(
        "/sessions", json={"owner": "203.0.113.7", "size": "medium"}, headers=ADMIN
    )
    made = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/sessions/{made['session_id']}"
    assert (made["owner"], made["size"], made["idle_seconds"]) == ("203.0.113.7", "medium", 900)
    again = await town.http.post("/sessions", json={"owner": "203.0.113.7"}, headers=ADMIN)
    assert (again.status_code, again.json()["session_id"]) == (200, made["session_id"])
    session = await ready(town, made["session_id"])
    assert (session["worker_id"], session["workers_launched"], session["reason"]) == ("w", 1, None)
    assert (await started(town))["owner"] == "admin"
    listed = (await town.http.get("/sessions", headers=ADMIN)).json()["sessions"]
    assert [one["owner"] for one in listed] == ["203.0.113.7", "admin"]


async def test_there_is_a_limit_in_all(town):
    for owner in ("a", "b"):
        await started(town, owner=owner)
    response = await town.http.post("/sessions", json={"owner": "c"}, headers=ADMIN)
    assert response.status_code == 429
    assert (response.json()["limit"], response.json()["allowed"]) == ("sessions", 2)
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "wanted",
    [
        {"size": "huge"},
        {"idle_seconds": 0},
        {"max_age_seconds": 90000},
        {"owner": ""},
        {"owner": "a\n"},
        {"x": 1},
    ],
)
async def test_what_cannot_be_is_refused(town, wanted):
    response = await town.http.post("/sessions", json=wanted, headers=ADMIN)
    assert response.status_code == 422, response.text
    assert response.json()["type"].endswith("/invalid-input")


async def test_a_file_is_dispatched_in_the_name_of_the_owner(town):
    session = await started(town, owner="203.0.113.7")
    entry = await town.register()
    response = await town.http.post(
        f"/sessions/{session['session_id']}/dispatch", json={"file": entry.name}, headers=ADMIN
    )
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['job_id']}"
    assert (job["requesters"], job["priority"], job["session_id"]) == (["203.0.113.7"], "interactive", None)
    for wanted, status in (("4dn", 422), ("4dn/none", 404)):
        response = await town.http.post(
            f"/sessions/{session['session_id']}/dispatch", json={"file": wanted}, headers=ADMIN
        )
        assert response.status_code == status


async def test_a_file_that_is_there_is_dispatched_to_nobody(town):
    session = await started(town)
    made, upstreams = (
        await town.register(),
        await town.register(sidecars=[{"kind": "beddb", "access_url": "https://files.example.org/x.beddb"}]),
    )
    await town.publish(made, b"sorted")
    for entry in (made, upstreams):
        response = await town.http.post(
            f"/sessions/{session['session_id']}/dispatch", json={"file": entry.name}, headers=ADMIN
        )
        assert (response.status_code, response.json()["ready"]) == (200, True), response.text
    assert (await town.http.get("/jobs", headers=ADMIN)).json()["jobs"] == []


async def test_an_end_is_asked_for_and_its_reason_stands(town):
    session = (await started(town))["session_id"]
    await ready(town, session)
    response = await town.http.delete(f"/sessions/{session}", headers=ADMIN)
    assert response.status_code == 202
    assert (response.json()["state"], response.json()["reason"]) == ("ending", "explicit")
    await town.sessions.loop.run_once()
    assert (await town.http.get(f"/sessions/{session}", headers=ADMIN)).json()["state"] == "ended"
    assert (await town.http.get("/sessions", headers=ADMIN)).json()["sessions"] == []
    kept = (await town.http.get("/sessions", params={"ended": "true"}, headers=ADMIN)).json()["sessions"]
    assert [one["session_id"] for one in kept] == [session]
    entry = await town.register()
    response = await town.http.post(f"/sessions/{session}/dispatch", json={"file": entry.name}, headers=ADMIN)
    assert response.status_code == 404


@pytest.mark.parametrize("name", ["none", "a%20b"])
async def test_an_unknown_session_is_not_found(town, name):
    for method in ("GET", "DELETE"):
        response = await town.http.request(method, f"/sessions/{name}", headers=ADMIN)
        assert response.status_code == 404


async def test_a_store_that_is_away_is_said(town, monkeypatch):
    async def away(*_, **__):
        raise StoreUnavailable("live")

    monkeypatch.setattr(town.sessions._reservations, "live", away)
    response = await town.http.get("/sessions", headers=ADMIN)
    assert response.status_code == 503
    assert "retry-after" in response.headers


async def test_without_processing_there_are_none(build_town):
    town = await build_town(processing=False)
    assert (await town.http.get("/sessions", headers=ADMIN)).status_code == 503
