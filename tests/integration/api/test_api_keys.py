"""API keys and download tokens, as those who show them see them."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gooseherd.api.callers import REMEMBERED_SECONDS, Remembered
from gooseherd.domain.artifact import Kind
from gooseherd.domain.states import Status

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
BROWSER = {"Sec-Fetch-Mode": "cors", "Origin": "https://viewer.example"}


class Clock:
    """Both clocks of an API, which a test sets forward."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._start = datetime.now(UTC)

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def wall(self) -> datetime:
        return self._start + timedelta(seconds=self.passed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def town(build_town: Any, clock: Clock) -> Any:
    return await build_town(clock=clock.monotonic, wall_clock=clock.wall)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def make(town: Any, **wanted: Any) -> dict[str, Any]:
    body = {"owner": "lab", "scopes": ["read", "submit"], "collections": ["4dn"], **wanted}
    answer = await town.http.post("/keys", json=body, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


async def hidden(town: Any, local_id: str = "hidden", **fields: Any) -> Any:
    return await town.register(local_id=local_id, data_access_level="consortium", **fields)


async def token_for(town: Any, key: dict[str, str], **wanted: str) -> Any:
    answer = await town.http.post("/tokens", json=wanted, headers=key)
    assert answer.status_code == 201, answer.text
    return answer.json()


# -- keys ------------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_kept_as_a_digest(town: Any) -> None:
    made = await make(town, label="sequencer", expires_in_seconds=60)
    assert made["key"] == f"ghk_{made['key_id']}_{made['key'].rsplit('_', 1)[1]}"
    assert len(made["key"].rsplit("_", 1)[1]) == 64
    listed = (await town.http.get("/keys", headers=ADMIN)).text
    assert made["key_id"] in listed
    assert made["key"] not in listed
    stored = await town.dependencies.keys.get(made["key_id"])
    assert made["key"].rsplit("_", 1)[1] not in repr(stored)
    (shown,) = (await town.http.get("/keys", headers=ADMIN)).json()["keys"]
    assert (shown["owner"], shown["scopes"], shown["collections"], shown["label"], shown["state"]) == (
        "lab",
        ["read", "submit"],
        ["4dn"],
        "sequencer",
        "active",
    )


async def test_a_key_is_taken_as_bearer_and_as_x_api_key_and_its_use_is_noted(town: Any) -> None:
    made = await make(town)
    for headers in (
        bearer(made["key"]),
        {"X-API-Key": made["key"]},
        {"Authorization": f"bearer {made['key']}"},
    ):
        who = (await town.http.get("/caller", headers=headers)).json()
        assert who == {
            "credential": "key",
            "owner": "lab",
            "scopes": ["read", "submit"],
            "collections": ["4dn"],
        }
    (shown,) = (await town.http.get("/keys", headers=ADMIN)).json()["keys"]
    assert shown["last_used_at"] is not None
    assert (await town.http.get("/caller")).json()["credential"] == "none"
    basic = {"Authorization": "Basic dXNlcjpwYXNz"}
    assert (await town.http.get("/caller", headers=basic)).json()["credential"] == "none"
    assert (await town.http.get("/caller", headers=bearer("the-admin-key"))).json()[
        "credential"
    ] == "admin key"


async def test_what_is_not_public_is_there_for_keys_of_its_collection_alone(town: Any) -> None:
    entry = await hidden(town)
    await town.publish(entry, b"secret bytes")
    of_it, of_another = await make(town), await make(town, collections=["hubmap"])
    everything = await make(town, collections=["*"], scopes=["read"])
    no_reading = await make(town, scopes=["submit"])
    for path in (
        f"/data/{entry.name}",
        f"/files/{entry.name}",
        f"/files/{entry.name}/",
        f"/data/{entry.name}/status",
        f"/files/{entry.name}/manifest",
        f"/contigs/{entry.name}",
    ):
        nothing = await town.http.get(path.replace("hidden", "nothing"))
        for headers in ({}, bearer(of_another["key"]), bearer(no_reading["key"])):
            answer = await town.http.get(path, headers=headers)
            assert answer.status_code == 404, path
            assert (
                answer.text.replace("hidden", "nothing").replace(
                    answer.json()["request_id"], nothing.json()["request_id"]
                )
                == nothing.text
            ), "what is hidden looks like what is not there"
        for key in (of_it, everything):
            assert (await town.http.get(path, headers=bearer(key["key"]))).status_code == 200, path
    for headers, seen in (
        ({}, []),
        (bearer(of_another["key"]), []),
        (bearer(of_it["key"]), ["hidden"]),
        (bearer(everything["key"]), ["hidden"]),
    ):
        listed = (await town.http.get("/files", headers=headers)).json()
        assert [file["local_id"] for file in listed["files"]] == seen


async def test_answers_to_a_key_are_kept_by_no_shared_cache(town: Any) -> None:
    entry = await hidden(town)
    await town.publish(entry, b"secret bytes")
    made = await make(town)
    answer = await town.http.get(f"/data/{entry.name}", headers=bearer(made["key"]))
    assert answer.headers["cache-control"].startswith("private")
    assert "Authorization" in answer.headers["vary"]
    public = await town.register(local_id="open")
    await town.publish(public, b"bytes")
    assert (await town.http.get(f"/data/{public.name}")).headers["cache-control"].startswith("public")


async def test_work_on_what_is_hidden_needs_submit_and_is_the_owners(town: Any) -> None:
    entry = await hidden(town)
    reader, lab = await make(town, scopes=["read"]), await make(town)
    refused = await town.http.get(f"/data/{entry.name}", headers=bearer(reader["key"]))
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/scope-required")
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    accepted = await town.http.get(f"/data/{entry.name}", headers=bearer(lab["key"]))
    assert accepted.status_code == 202
    path = accepted.headers["location"]
    job = (await town.http.get(path, headers=bearer(lab["key"]))).json()
    assert job["local_id"] == "hidden"
    assert (await town.http.get(path, headers=ADMIN)).json()["requesters"] == ["lab"]
    assert (await town.http.get(path)).status_code == 404
    assert (await town.http.get(f"{path}/events")).status_code == 404
    assert (await town.http.delete(path)).status_code == 404
    assert (await town.http.get("/jobs")).json()["jobs"] == []
    assert len((await town.http.get("/jobs?requester=me", headers=bearer(lab["key"]))).json()["jobs"]) == 1
    assert (await town.http.delete(path, headers=bearer(reader["key"]))).status_code == 403
    assert (await town.http.delete(path, headers=bearer(lab["key"]))).json()["status"] == "cancelled"


async def test_a_key_adds_to_what_anybody_may_do(town: Any) -> None:
    entry = await town.register(local_id="open")
    reader = await make(town, scopes=["read"], collections=[])
    answer = await town.http.get(f"/data/{entry.name}", headers=bearer(reader["key"]))
    assert answer.status_code == 202
    assert (await town.http.get("/jobs", headers=ADMIN)).json()["jobs"][0]["requesters"] == ["lab"]


async def test_who_asks_for_the_same_content_follows_its_job_without_learning_the_hidden_name(
    town: Any,
) -> None:
    secret = await hidden(town, md5="a" * 32)
    public = await town.register(local_id="open", md5="a" * 32)
    lab = await make(town)
    await town.http.get(f"/data/{secret.name}", headers=bearer(lab["key"]))
    accepted = await town.http.get(f"/data/{public.name}")
    assert "hidden" not in accepted.text
    job = await town.http.get(accepted.headers["location"])
    assert (job.status_code, job.json()["local_id"]) == (200, "hidden")
    assert secret.filename not in job.text
    assert secret.name not in job.text


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_key_that_has_ended_is_refused_everywhere_with_words(
    town: Any, clock: Clock, how: str
) -> None:
    public = await town.register(local_id="open")
    await town.publish(public, b"bytes")
    made = await make(town, expires_in_seconds=3600)
    key = bearer(made["key"])
    assert (await town.http.get(f"/data/{public.name}", headers=key)).status_code == 200
    if how == "revoked":
        ended = await town.http.delete(f"/keys/{made['key_id']}", headers=ADMIN)
        assert ended.json()["state"] == "revoked"
    else:
        clock.passed += 3601
    for path in (f"/data/{public.name}", "/files", "/caller", "/jobs"):
        answer = await town.http.get(path, headers=key)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/invalid-credential")
        assert how in answer.json()["detail"]
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (await town.http.get("/healthz", headers=key)).status_code == 200
    assert (await town.http.get(f"/data/{public.name}")).status_code == 200


async def test_another_process_refuses_a_revoked_key_within_two_seconds(
    build_town: Any, clock: Clock
) -> None:
    here = await build_town(clock=clock.monotonic, wall_clock=clock.wall)
    there = await build_town(clock=clock.monotonic, wall_clock=clock.wall, owner="two")
    made = await make(here)
    assert (await there.http.get("/caller", headers=bearer(made["key"]))).status_code == 200
    await here.http.delete(f"/keys/{made['key_id']}", headers=ADMIN)
    assert (await here.http.get("/caller", headers=bearer(made["key"]))).status_code == 401
    clock.passed += REMEMBERED_SECONDS
    assert (await there.http.get("/caller", headers=bearer(made["key"]))).status_code == 401


async def test_a_rotated_key_goes_on_for_its_overlap_and_the_new_one_may_do_the_same(
    town: Any, clock: Clock
) -> None:
    old = await make(town, label="nightly")
    answer = await town.http.post(
        f"/keys/{old['key_id']}/rotate", json={"overlap_seconds": 60}, headers=ADMIN
    )
    new = answer.json()
    assert answer.status_code == 201
    same = ("owner", "scopes", "collections", "label")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert new["key_id"] != old["key_id"]
    for key in (old, new):
        assert (await town.http.get("/caller", headers=bearer(key["key"]))).status_code == 200
    clock.passed += 120
    assert (await town.http.get("/caller", headers=bearer(old["key"]))).status_code == 401
    assert (await town.http.get("/caller", headers=bearer(new["key"]))).status_code == 200
    again = await town.http.post(f"/keys/{old['key_id']}/rotate", headers=ADMIN)
    assert (again.status_code, again.json()["field"]) == (422, "key_id")


@pytest.mark.parametrize("owner", ["admin", "203.0.113.7", "2001:db8::/64", "10.0.0.1/32"])
async def test_a_key_has_no_owner_that_stands_for_somebody_else(town: Any, owner: str) -> None:
    body = {"owner": owner, "scopes": ["read"]}
    answer = await town.http.post("/keys", json=body, headers=ADMIN)
    assert (answer.status_code, answer.json()["field"]) == (422, "owner")


async def test_keys_are_made_by_the_admin_and_by_keys_with_that_scope(town: Any) -> None:
    chief, lab = await make(town, scopes=["admin"]), await make(town)
    body = {"owner": "x", "scopes": ["read"]}
    assert (await town.http.post("/keys", json=body)).status_code == 401
    assert (await town.http.post("/keys", json=body, headers=bearer(lab["key"]))).status_code == 403
    assert (await town.http.post("/keys", json=body, headers=bearer(chief["key"]))).status_code == 201
    assert (await town.http.get("/keys", headers=bearer(lab["key"]))).status_code == 403


async def test_a_wrong_secret_of_a_known_key_and_an_unknown_key_look_alike_and_are_counted(town: Any) -> None:
    made = await make(town)
    wrong = f"ghk_{made['key_id']}_{'0' * 64}"
    unknown = f"ghk_{'0' * 12}_{'0' * 64}"
    answers = [(await town.http.get("/files", headers=bearer(text))).json() for text in (wrong, unknown)]
    assert answers[0]["detail"] == answers[1]["detail"]
    seen = [(await town.http.get("/files", headers=bearer(wrong))).status_code for _ in range(10)]
    assert seen == [401] * 8 + [429] * 2
    assert (await town.http.get("/caller", headers=bearer(made["key"]))).status_code == 200


async def test_sessions_are_the_key_owners_own(town: Any) -> None:
    lab, other = await make(town), await make(town, owner="other")
    made = (await town.http.post("/sessions", json={}, headers=bearer(lab["key"]))).json()
    assert made["owner"] == "lab"
    path = f"/sessions/{made['session_id']}"
    assert (await town.http.get(path, headers=bearer(lab["key"]))).status_code == 200
    assert (await town.http.get(path, headers=bearer(other["key"]))).status_code == 404
    assert (await town.http.delete(path, headers=bearer(other["key"]))).status_code == 404
    assert (await town.http.get("/sessions", headers=bearer(other["key"]))).json()["sessions"] == []
    foreign = await town.http.post("/sessions", json={"owner": "lab"}, headers=bearer(other["key"]))
    assert foreign.status_code == 403
    assert (await town.http.get(path, headers=ADMIN)).status_code == 200


async def test_a_batch_with_hidden_files_is_its_requesters_and_makes_them(town: Any) -> None:
    entry = await hidden(town)
    lab, reader = await make(town), await make(town, scopes=["read"], owner="reader")
    made = (await town.http.post("/batches", json={"files": [entry.name]}, headers=bearer(lab["key"]))).json()
    without = (await town.http.post("/batches", json={"files": [entry.name]})).json()
    await town.advance_batches()
    path = f"/batches/{made['batch_id']}"
    states = {}
    for batch, headers in ((made, bearer(lab["key"])), (without, {})):
        listed = await town.http.get(f"/batches/{batch['batch_id']}/files", headers=headers)
        states[batch["batch_id"]] = [(f["state"], f["reason"]) for f in listed.json()["files"]]
    assert list(states.values()) == [[("pending", None)], [("failed", "source_missing")]]
    for headers in ({}, bearer(reader["key"])):
        assert (await town.http.get(path, headers=headers)).status_code == 404
        assert (await town.http.get(f"{path}/files", headers=headers)).status_code == 404
        listed = (await town.http.get("/batches", headers=headers)).json()["batches"]
        assert [batch["batch_id"] for batch in listed] == [without["batch_id"]]
    assert (await town.http.get(path, headers=ADMIN)).status_code == 200


# -- tokens ----------------------------------------------------------------------------------


async def test_a_token_opens_one_file_by_its_url_and_stays_the_same_while_browsing(
    town: Any, clock: Clock
) -> None:
    entry, other = await hidden(town), await hidden(town, "other")
    await town.publish(entry, b"secret bytes")
    key = bearer((await make(town))["key"])
    first = await token_for(town, key, file=entry.name)
    clock.passed += 60
    assert await token_for(town, key, file=entry.name) == first
    answer = await town.http.get(f"/data/{entry.name}", params={"token": first["token"]})
    assert (answer.status_code, answer.content) == (200, b"secret bytes")
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["referrer-policy"] == "no-referrer"
    ranged = await town.http.get(
        f"/data/{entry.name}", params={"token": first["token"]}, headers={"Range": "bytes=0-5"}
    )
    assert (ranged.status_code, ranged.content) == (206, b"secret")
    assert (await town.http.get(first["url"])).content == b"secret bytes"
    assert (await town.http.get(f"/data/{other.name}", params={"token": first["token"]})).status_code == 404
    assert (await town.http.get("/keys", params={"token": first["token"]})).status_code == 403
    clock.passed += 24 * 3600
    late = await town.http.get(f"/data/{entry.name}", params={"token": first["token"]})
    assert (late.status_code, late.json()["type"]) == (401, "/problems/invalid-credential")
    assert late.headers["referrer-policy"] == "no-referrer"
    assert "expired" in late.json()["detail"]


async def test_a_token_of_a_collection_opens_all_its_files_and_their_list(town: Any) -> None:
    entry = await hidden(town)
    await town.publish(entry, b"secret bytes")
    elsewhere = await town.register(dcc="hubmap", local_id="far", data_access_level="protected")
    key = bearer((await make(town))["key"])
    token = await token_for(town, key, collection="4dn")
    for path in (f"/data/{entry.name}", f"/files/{entry.name}", "/files"):
        answer = await town.http.get(path, params={"token": token["token"]})
        assert answer.status_code == 200
        assert "far" not in answer.text
    assert (
        await town.http.get(f"/data/{elsewhere.name}", params={"token": token["token"]})
    ).status_code == 404
    assert (await town.http.post("/tokens", json={"collection": "hubmap"}, headers=key)).status_code == 404
    assert (await town.http.post("/tokens", json={"file": elsewhere.name}, headers=key)).status_code == 404


async def test_links_and_redirects_keep_the_token(build_town: Any) -> None:
    town = await build_town(wait_max_seconds=0.05)
    entry = await hidden(town)
    key = bearer((await make(town))["key"])
    token = (await token_for(town, key, file=entry.name))["token"]

    def tokens(url: str) -> list[str]:
        return parse_qs(urlsplit(url).query).get("token", [])

    accepted = await town.http.get(f"/data/{entry.name}", params={"token": token})
    assert accepted.status_code == 202
    links = [accepted.headers["location"], *(v for n, v in accepted.json().items() if n.endswith("_url"))]
    assert [tokens(link) for link in links] == [[token]] * len(links)
    job = await town.http.get(accepted.headers["location"])
    assert job.status_code == 200
    assert [tokens(part["url"]) for part in job.json()["parts"]] == [[token]] * len(job.json()["parts"])
    hop = await town.http.get(f"/data/{entry.name}", params={"token": token}, headers=BROWSER)
    assert (hop.status_code, tokens(hop.headers["location"])) == (307, [token])
    by_name = await town.http.get(f"/files/{entry.name}/{entry.filename}", params={"token": token})
    assert (by_name.status_code, tokens(by_name.headers["location"])) == (307, [token])
    shown = (await town.http.get(f"/files/{entry.name}", params={"token": token})).json()
    assert {
        name: tokens(shown[name]) for name in shown if name.endswith("_url") and name != "access_url"
    } == {
        "data_url": [token],
        "index_url": [token],
        "names_url": [token],
    }
    page = await town.http.get(
        f"/data/{entry.name}", params={"token": token}, headers={"Sec-Fetch-Mode": "navigate"}
    )
    assert page.text.count(f"token={token}") == 2, "the job's page and its events"


async def test_a_token_is_revoked_by_itself_and_the_next_one_is_another(
    build_town: Any, clock: Clock
) -> None:
    here = await build_town(clock=clock.monotonic, wall_clock=clock.wall)
    there = await build_town(clock=clock.monotonic, wall_clock=clock.wall, owner="two")
    entry = await hidden(here)
    await here.publish(entry, b"secret bytes")
    key = bearer((await make(here))["key"])
    first = await token_for(here, key, file=entry.name)
    whole = await token_for(here, key, collection="4dn")
    assert (await there.http.get(first["url"].replace(here.url, there.url))).status_code == 200
    assert (await token_for(there, key, file=entry.name))["token"] == first["token"], (
        "of every process the same"
    )
    answer = await here.http.post("/tokens/revoke", json={"token": first["token"]}, headers=key)
    assert answer.json() == {"resource": entry.name}
    clock.passed += REMEMBERED_SECONDS
    for town in (here, there):
        refused = await town.http.get(f"/data/{entry.name}", params={"token": first["token"]})
        assert (refused.status_code, "revoked" in refused.json()["detail"]) == (401, True)
        others = await town.http.get(f"/data/{entry.name}", params={"token": whole["token"]})
        assert others.status_code == 200
    second = await token_for(here, key, file=entry.name)
    assert second["token"] != first["token"]
    assert (await there.http.get(f"/data/{entry.name}", params={"token": second["token"]})).status_code == 200


async def test_a_token_ends_with_its_key(town: Any) -> None:
    entry = await hidden(town)
    await town.publish(entry, b"secret bytes")
    made = await make(town)
    token = await token_for(town, bearer(made["key"]), file=entry.name)
    await town.http.delete(f"/keys/{made['key_id']}", headers=ADMIN)
    assert (await town.http.get(token["url"])).status_code == 401


async def test_a_token_reads_and_does_nothing_else(town: Any) -> None:
    entry = await hidden(town)
    reader = bearer((await make(town, scopes=["read"]))["key"])
    token = await token_for(town, reader, collection="4dn")
    params = {"token": token["token"]}
    assert (await town.http.get(f"/data/{entry.name}", params=params)).status_code == 403, "no work either"
    for method, path in (("POST", "/batches"), ("POST", "/tokens"), ("DELETE", f"/files/{entry.name}")):
        assert (await town.http.request(method, path, params=params, json={})).status_code == 403
    assert (await town.http.post("/tokens", json={"file": entry.name})).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"),
        lambda t: t[:6] + "X" + t[7:],
        lambda t: "ght_",
        lambda t: "",
    ],
)
async def test_a_token_that_was_changed_is_none(town: Any, change: Any) -> None:
    entry = await hidden(town)
    key = bearer((await make(town))["key"])
    token = change((await token_for(town, key, file=entry.name))["token"])
    answer = await town.http.get(f"/data/{entry.name}?token={token}&x=1")
    assert answer.status_code == (401 if token else 404)


async def test_another_admin_key_ends_all_tokens(build_town: Any) -> None:
    before = await build_town()
    entry = await hidden(before)
    await before.publish(entry, b"secret bytes")
    token = await token_for(before, ADMIN, file=entry.name)
    assert (await before.http.get(token["url"])).status_code == 200
    after = await build_town(admin_key="another", owner="two")
    assert (await after.http.get(token["url"].replace(before.url, after.url))).status_code == 401


async def test_neither_keys_nor_tokens_are_logged(town: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    entry = await hidden(town)
    made = await make(town)
    key = bearer(made["key"])
    token = (await token_for(town, key, file=entry.name))["token"]
    for params in ({"token": token}, {"token": token + "x"}):
        await town.http.get(f"/data/{entry.name}", params=params)
        await town.http.get(f"/nothing/{entry.name}", params=params)
    await town.http.post("/tokens/revoke", json={"token": token}, headers=key)
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert ours
    text = "\n".join(repr(record.__dict__) for record in ours)
    assert made["key"] not in text
    assert token not in text
    assert token.rsplit(".", 1)[1] not in text


async def test_the_audit_log_says_who_did_what_with_what_outcome(town: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "gooseherd.audit")
    entry = await hidden(town)
    made = await make(town)
    key = bearer(made["key"])
    job = (await town.http.get(f"/data/{entry.name}", headers=key)).json()["job_id"]
    await town.http.get(f"/data/{entry.name}")
    await town.http.get("/keys", headers=key)
    new = (await town.http.post(f"/keys/{made['key_id']}/rotate", headers=ADMIN)).json()
    await town.http.delete(f"/keys/{made['key_id']}", headers=ADMIN)
    seen = [(r.getMessage(), r.who, r.owner, r.method, r.affected, r.status) for r in caplog.records]
    assert seen == [
        ("admin call", "admin", "admin", "POST", f"key {made['key_id']}", 201),
        ("submitted", made["key_id"], "lab", "GET", f"job {job}", 202),
        ("denied", "", "", "GET", "", 404),
        ("denied", made["key_id"], "lab", "GET", "", 403),
        ("admin call", "admin", "admin", "POST", f"key {new['key_id']}", 201),
        ("admin call", "admin", "admin", "DELETE", "", 200),
    ]


def audited(caplog: Any, *events: str) -> list[tuple[Any, ...]]:
    records = [record for record in caplog.records if record.getMessage() in events]
    return [(r.getMessage(), r.who, r.method, r.path, r.affected) for r in records]


async def test_the_audit_log_has_each_read_that_is_the_admin_s_alone(town: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "gooseherd.audit")
    for _ in range(2):
        for path in ("/keys", "/jobs?requester=somebody"):
            assert (await town.http.get(path, headers=ADMIN)).status_code == 200
    await town.http.get("/keys")
    await town.http.get("/caller", headers=ADMIN)
    got = audited(caplog, "admin read")
    assert [(line[1], line[3]) for line in got] == [("admin", "/keys"), ("admin", "/jobs")] * 2


async def test_the_audit_log_has_who_read_what_is_not_public_once_an_hour(
    build_town: Any, caplog: Any
) -> None:
    now = [1000.0]
    town = await build_town(clock=lambda: now[0], admin_key="the-admin-key")
    caplog.set_level(logging.INFO, "gooseherd.audit")
    entry = await hidden(town)
    manifest = await town.publish(entry, b"secret bytes")
    public = await town.register(local_id="open")
    await town.publish(public, b"open bytes")
    made, other = await make(town), await make(town)
    one, two = bearer(made["key"]), bearer(other["key"])
    token = (await town.http.post("/tokens", json={"file": entry.name}, headers=one)).json()["token"]
    caplog.clear()

    async def reads(**asking: Any) -> None:
        for _ in range(2):
            await town.http.get(f"/data/{entry.name}", **asking, follow_redirects=False)
            await town.http.head(f"/files/{entry.name}/{manifest.part(Kind.DATA).filename}", **asking)
            await town.http.get(f"/files/{entry.name}", **asking)
            await town.http.get(f"/data/{public.name}", **asking)

    for asking in ({"headers": one}, {"headers": two}, {"params": {"token": token}}, {}):
        await reads(**asking)
    who = [(line[1], line[4]) for line in audited(caplog, "read")]
    by_token = f"{made['key_id']}:{entry.name}"
    assert who == [(name, entry.name) for name in (made["key_id"], other["key_id"], by_token)]
    assert token not in repr([record.__dict__ for record in caplog.records])
    caplog.clear()
    await town.http.get("/files", headers=one)
    await town.http.get("/files", headers=one)
    assert [(line[1], line[4]) for line in audited(caplog, "read")] == [(made["key_id"], "/files")]
    caplog.clear()
    now[0] += 3601
    await reads(headers=one)
    assert [(line[1], line[4]) for line in audited(caplog, "read")] == [(made["key_id"], entry.name)]


async def test_published_parts_of_a_hidden_file_are_served_to_its_keys_by_every_way(town: Any) -> None:
    entry = await hidden(town)
    manifest = await town.publish(entry, b"secret bytes")
    assert manifest.part(Kind.DATA) is not None
    made = await make(town)
    key = bearer(made["key"])
    for path in (f"/data/{entry.name}", f"/files/{entry.name}/{manifest.part(Kind.DATA).filename}"):
        assert (await town.http.get(path, headers=key)).content == b"secret bytes"
        assert (await town.http.head(path, headers=key)).status_code == 200
        assert (await town.http.head(path)).status_code == 404
    assert Status.COMPLETED.terminal


async def test_a_stream_of_events_ends_when_its_key_was_revoked(town: Any) -> None:
    entry = await hidden(town)
    made = await make(town)
    key = bearer(made["key"])
    job_id = (await town.http.get(f"/data/{entry.name}", headers=key)).json()["job_id"]
    seen = []
    async with town.http.stream("GET", f"/jobs/{job_id}/events", headers=key) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                seen.append(json.loads(line.removeprefix("data:"))["status"])
                await town.http.delete(f"/keys/{made['key_id']}", headers=ADMIN)
                await town.run(job_id)
    assert seen == ["pending"]


async def test_a_look_that_a_revocation_overtook_is_not_remembered() -> None:
    stored, looking, go_on = ["active"], asyncio.Event(), asyncio.Event()

    async def look_up(name: str) -> str:
        found = stored[0]
        looking.set()
        await go_on.wait()
        return found

    known = Remembered(look_up, lambda: 0.0)
    first = asyncio.create_task(known.get("key"))
    await looking.wait()
    stored[0] = "revoked"
    known.forget("key")
    go_on.set()
    assert await first == "active"
    assert await known.get("key") == "revoked"


async def test_names_that_are_not_there_are_revoked_so_often_and_others_always(
    town: Any, clock: Clock
) -> None:
    entry = await hidden(town)
    key = bearer((await make(town))["key"])

    async def revoked(headers: dict[str, str], **wanted: str) -> int:
        return int((await town.http.post("/tokens/revoke", json=wanted, headers=headers)).status_code)

    for number in range(100):
        assert await revoked(key, file=f"4dn/invented{number}") == 200
    assert await revoked(key, file="4dn/one-more") == 429
    assert await revoked(key, collection="elsewhere") == 429
    assert await revoked(key, file=entry.name) == 200
    assert await revoked(key, collection="4dn") == 200
    assert await revoked(ADMIN, file="4dn/one-more") == 200
    clock.passed += 86401
    assert await revoked(key, file="4dn/one-more") == 200
