"""Every route × every kind of caller × every access level, in one table; a route without a row fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import RSAKey

from gooseherd.api.app import create_app
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.oidc import OidcProvider, OidcRules, parse_grants
from gooseherd.api.uploads import Uploads
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.job import JobId, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.storage.uploads import UploadFolder

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ADMIN = {"X-API-Key": "the-admin-key"}
ISSUER, AUDIENCE = "https://id.example.org", "https://herd.example.org"
SIGNER = RSAKey.generate_key(2048, {"kid": "one"})
LEVELS = ("public", "consortium", "protected")
WITHOUT_A_KEY, WITHOUT_THE_SCOPE, NOT_THERE = 401, 403, 404


@dataclass(frozen=True)
class Shown:
    """A kind of caller, and what the table needs to know of it."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    valid: bool = True
    owner: str = ""
    scopes: frozenset[str] = frozenset()
    opens: bool = False
    """The tested entry, when it is not public."""
    opens_collection: bool = False

    @property
    def anonymous(self) -> bool:
        return not (self.headers or self.params)

    @property
    def token(self) -> bool:
        return bool(self.params)

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def sees(self, level: str) -> bool:
        return level == "public" or self.opens or self.admin


@dataclass
class World:
    """An API with an entry of one level, and everything that was made of it."""

    town: Any
    level: str
    entry: Any
    names: dict[str, str]
    callers: list[Shown]
    clock: Clock


Expect = Callable[[Shown, str], "int | None"]
"""What refuses this caller at this level; None: nothing does, and the answer is the admin's."""


def refusal(caller: Shown, scope: str) -> int | None:
    if caller.may(scope):
        return None
    return WITHOUT_A_KEY if caller.anonymous else WITHOUT_THE_SCOPE


def anybody(caller: Shown, level: str) -> int | None:
    return None


def of_the_entry(caller: Shown, level: str) -> int | None:
    return None if caller.sees(level) else NOT_THERE


def admins(caller: Shown, level: str) -> int | None:
    return refusal(caller, "admin")


def submitters(caller: Shown, level: str) -> int | None:
    return refusal(caller, "submit")


def of_the_session(caller: Shown, level: str) -> int | None:
    return refusal(caller, "submit") or (None if caller.owner == "lab" or caller.admin else NOT_THERE)


def of_the_job(caller: Shown, level: str) -> int | None:
    return None if caller.sees(level) or (caller.owner == "lab" and not caller.token) else NOT_THERE


def withdrawing(caller: Shown, level: str) -> int | None:
    if (hidden := of_the_job(caller, level)) is not None:
        return hidden
    if not caller.anonymous and not caller.may("submit"):
        return WITHOUT_THE_SCOPE
    return None  # the job has ended: a conflict for everybody, whose it was says test_api_jobs


def of_the_batch(caller: Shown, level: str) -> int | None:
    theirs = caller.owner == "lab" and caller.opens_collection
    return None if level == "public" or caller.admin or theirs else NOT_THERE


def cancelling(caller: Shown, level: str) -> int | None:
    if (hidden := of_the_batch(caller, level)) is not None:
        return hidden
    if not caller.anonymous and not caller.may("submit"):
        return WITHOUT_THE_SCOPE
    return None if caller.owner == "lab" else refusal(caller, "admin")


def token_makers(caller: Shown, level: str) -> int | None:
    return refusal(caller, "read") or of_the_entry(caller, level)


def owners(caller: Shown, level: str) -> int | None:
    if caller.anonymous:
        return WITHOUT_A_KEY
    return WITHOUT_THE_SCOPE if caller.token else None


def readers(caller: Shown, level: str) -> int | None:
    return refusal(caller, "read")


@dataclass(frozen=True)
class Row:
    """One route: who is refused, and which name its answer has only for those who see the entry."""

    expect: Expect
    path: str | None = None
    """With names of the world; None: the route's own, of which that is all."""
    body: Any = None
    lists: str | None = None
    """A name that stands in the answer for those alone whom `seen` does not refuse."""
    seen: Expect = of_the_entry
    essential: bool = False
    """Answered to everybody alike, whatever they show: probes have credentials for others."""
    alike: bool = True
    """Whoever is not refused gets the admin's status."""


ENTRY = {"dcc": "4dn", "local_id": "new", "access_url": "https://files.example.org/new.bam"}
OPEN, ESSENTIAL, ENTRYS = Row(anybody), Row(anybody, essential=True), Row(of_the_entry)

TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/static/{name}"): Row(anybody, path="/static/none.js"),
    ("GET", "/openapi.json"): OPEN,
    ("HEAD", "/openapi.json"): OPEN,
    ("GET", "/favicon.ico"): OPEN,
    ("GET", "/healthz"): ESSENTIAL,
    ("GET", "/readyz"): ESSENTIAL,
    ("GET", "/metrics"): ESSENTIAL,
    ("GET", "/queue"): OPEN,
    ("GET", "/caller"): OPEN,
    # -- one entry and what was made of it
    ("GET", "/data/{dcc}/{local_id}"): ENTRYS,
    ("HEAD", "/data/{dcc}/{local_id}"): ENTRYS,
    ("GET", "/index/{dcc}/{local_id}"): ENTRYS,
    ("HEAD", "/index/{dcc}/{local_id}"): ENTRYS,
    ("GET", "/density/{dcc}/{local_id}"): ENTRYS,
    ("HEAD", "/density/{dcc}/{local_id}"): ENTRYS,
    ("GET", "/data/{dcc}/{local_id}/status"): ENTRYS,
    ("GET", "/index/{dcc}/{local_id}/status"): ENTRYS,
    ("GET", "/density/{dcc}/{local_id}/status"): ENTRYS,
    ("GET", "/contigs/{dcc}/{local_id}"): ENTRYS,
    ("GET", "/files/{dcc}/{local_id}"): ENTRYS,
    ("GET", "/files/{dcc}/{local_id}/"): ENTRYS,
    ("GET", "/files/{dcc}/{local_id}/manifest"): ENTRYS,
    ("GET", "/files/{dcc}/{local_id}/{name}"): Row(of_the_entry, path="/files/4dn/{local_id}/{filename}"),
    ("HEAD", "/files/{dcc}/{local_id}/{name}"): Row(of_the_entry, path="/files/4dn/{local_id}/{filename}"),
    ("GET", "/artifacts/{digest}/{name}"): Row(
        of_the_entry, path="/artifacts/{digest}/{filename}?of=4dn/{local_id}"
    ),
    ("HEAD", "/artifacts/{digest}/{name}"): Row(
        of_the_entry, path="/artifacts/{digest}/{filename}?of=4dn/{local_id}"
    ),
    ("GET", "/files/{dcc}/{local_id}/tracks"): Row(
        of_the_entry, path="/files/4dn/{local_id}/tracks?viewer=igv"
    ),
    ("GET", "/tracks"): Row(of_the_entry, path="/tracks?viewer=igv&files=4dn/{local_id}"),
    ("GET", "/tracks/{document}"): Row(of_the_entry, path="/tracks/igv.json?files=4dn/{local_id}"),
    ("GET", "/hub.txt"): Row(of_the_entry, path="/hub.txt?files=4dn/{local_id}"),
    ("GET", "/htsget/{datatype}/{dcc}/{local_id}"): Row(of_the_entry, path="/htsget/reads/4dn/{local_id}"),
    ("HEAD", "/htsget/{datatype}/{dcc}/{local_id}"): Row(of_the_entry, path="/htsget/reads/4dn/{local_id}"),
    ("POST", "/htsget/{datatype}/{dcc}/{local_id}"): Row(
        of_the_entry, path="/htsget/reads/4dn/{local_id}", body={}
    ),
    ("GET", "/htsget/{datatype}/service-info"): Row(anybody, path="/htsget/reads/service-info"),
    ("GET", "/service-info"): OPEN,
    ("GET", "/search"): Row(of_the_entry, path="/search?q=x&files=4dn/{local_id}"),
    # -- lists
    ("GET", "/files"): Row(anybody, lists="{local_id}"),
    ("GET", "/jobs"): Row(anybody, lists="{job_id}"),
    ("GET", "/batches"): Row(anybody, lists="{batch_id}", seen=of_the_batch),
    ("GET", "/events"): Row(anybody, path="/events?seconds=0"),
    # -- jobs and batches
    ("GET", "/jobs/{job_id}"): Row(of_the_job, lists="{local_id}", seen=of_the_entry),
    ("GET", "/jobs/{job_id}/events"): Row(of_the_job, lists="{local_id}", seen=of_the_entry),
    ("DELETE", "/jobs/{job_id}"): Row(withdrawing),
    ("POST", "/batches"): Row(anybody, body={"files": ["4dn/nothing"]}, alike=False),
    ("GET", "/batches/{batch_id}"): Row(of_the_batch),
    ("GET", "/batches/{batch_id}/files"): Row(of_the_batch, lists="{local_id}", seen=of_the_batch),
    ("GET", "/batches/{batch_id}/events"): Row(of_the_batch),
    ("DELETE", "/batches/{batch_id}"): Row(cancelling),
    # -- sessions
    ("POST", "/sessions"): Row(submitters, body={}, alike=False),
    ("GET", "/sessions"): Row(submitters, lists="{session_id}", seen=of_the_session),
    ("GET", "/sessions/{session_id}"): Row(of_the_session),
    ("POST", "/sessions/{session_id}/dispatch"): Row(
        submitters, path="/sessions/none/dispatch", body={"file": "4dn/nothing"}
    ),
    ("DELETE", "/sessions/{session_id}"): Row(of_the_session),
    # -- uploads, where a key is needed
    ("GET", "/uploads"): OPEN,
    ("POST", "/uploads"): Row(submitters),
    ("GET", "/uploads/{upload_id}"): Row(submitters, path="/uploads/none"),
    ("PATCH", "/uploads/{upload_id}"): Row(submitters, path="/uploads/none"),
    ("DELETE", "/uploads/{upload_id}"): Row(submitters, path="/uploads/none"),
    # -- the admin's
    ("POST", "/files"): Row(admins, body=ENTRY),
    ("POST", "/files/import"): Row(admins, body=ENTRY),
    ("DELETE", "/files/{dcc}/{local_id}"): Row(admins, path="/files/4dn/nothing"),
    ("GET", "/usage"): Row(owners),
    ("GET", "/fleet"): Row(admins),
    ("DELETE", "/fleet/{worker_id}"): Row(admins, path="/fleet/none"),
    ("POST", "/keys"): Row(admins, body={"owner": "x", "scopes": ["read"]}),
    ("GET", "/keys"): Row(admins),
    ("DELETE", "/keys/{key_id}"): Row(admins, path="/keys/none"),
    ("POST", "/keys/{key_id}/rotate"): Row(admins, path="/keys/none/rotate"),
    # -- tokens
    ("POST", "/tokens"): Row(token_makers, body={"file": "4dn/{local_id}"}),
    ("POST", "/tokens/revoke"): Row(readers, body={"file": "4dn/nothing"}),
}

IN_FRONT = {
    ("GET", "/files/{dcc}/{local_id}/{name}"),
    ("GET", "/artifacts/{digest}/{name}"),
    ("GET", "/docs"),
    ("GET", "/static/{name}"),
}
"""What is answered before the framework's routes."""


def routes() -> set[tuple[str, str]]:
    """(method, path) of all routes of the application, hidden ones too."""
    nothing: Any = None
    app = create_app(
        Dependencies(files=nothing, jobs=nothing, sources=nothing, readiness=nothing, queue=nothing)
    )
    return {(method, route.path) for route in _leaves(_framework(app).routes) for method in route.methods}


def _framework(app: Any) -> FastAPI:
    while not isinstance(app, FastAPI):
        app = next(
            value
            for name, value in vars(app).items()
            if name in ("_inside", "_framework") and callable(value)
        )
    return app


def _leaves(found: Any) -> Iterator[Any]:
    for route in found:
        if hasattr(route, "path"):
            yield route
        else:  # a router that was included
            yield from _leaves(next(v for v in vars(route).values() if hasattr(v, "routes")).routes)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    found = routes()
    assert len(found) > 40
    assert found | IN_FRONT == set(TABLE)


class Clock:
    """Of keys, tokens and tries; set forward by tests."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._start = datetime.now(UTC)

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def wall(self) -> datetime:
        return self._start + timedelta(seconds=self.passed)


def identity_provider(clock: Clock) -> OidcProvider:
    async def fetch(url: str) -> Any:
        if url.endswith("openid-configuration"):
            return {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        return {"keys": [SIGNER.as_dict(private=False)]}

    rules = OidcRules(ISSUER, AUDIENCE, parse_grants(["groups=lab:read+submit@4dn"]))
    return OidcProvider(rules, fetch, clock=clock.monotonic, wall_clock=clock.wall)


def signed(clock: Clock, audience: str, **claims: Any) -> str:
    expires = int(clock.wall().timestamp()) + 20 * 3600
    payload = {"iss": ISSUER, "aud": audience, "sub": "anne", "exp": expires, **claims}
    return jwt.encode({"alg": "RS256", "kid": "one"}, payload, SIGNER)


async def all_callers(town: Any, clock: Clock, entry: Any) -> list[Shown]:
    http = town.http

    async def key(
        owner: str = "lab", scopes: tuple[str, ...] = ("read", "submit"), *dccs: str, **more: Any
    ) -> Any:
        body = {"owner": owner, "scopes": scopes, "collections": dccs or ["4dn"], **more}
        return (await http.post("/keys", json=body, headers=ADMIN)).json()

    def bearer(text: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {text}"}

    async def token(made: Any, **wanted: str) -> dict[str, str]:
        answer = await http.post("/tokens", json=wanted, headers=bearer(made["key"]))
        return {"token": answer.json()["token"]}

    file, both = {"file": entry.name}, frozenset({"read", "submit"})
    expired = await key(expires_in_seconds=60)
    old_token = await token(await key(), **file)
    clock.passed += 25 * 3600
    revoked, sometimes = await key(), await key()
    taken_back = await token(sometimes, **file)
    ends_with_it = await token(revoked, **file)
    await http.delete(f"/keys/{revoked['key_id']}", headers=ADMIN)
    await http.post("/tokens/revoke", json=taken_back, headers=bearer(sometimes["key"]))
    reader, submitter, lab = await key("lab", ("read",)), await key("lab", ("submit",)), await key()
    far, chief = await key("far", ("read", "submit"), "hubmap"), await key("chief", ("admin",))
    everywhere = await key("lab", ("read",), "*")
    read, submit = frozenset({"read"}), frozenset({"submit"})
    other = await town.register(local_id="another", data_access_level="consortium")
    return [
        Shown("anonymous"),
        Shown("the admin key", ADMIN, scopes=frozenset({"admin"}), owner="admin"),
        Shown("a wrong key", {"X-API-Key": "wrong"}, valid=False),
        Shown("an unknown key", bearer(f"ghk_{'0' * 12}_{'0' * 64}"), valid=False),
        Shown("an expired key", bearer(expired["key"]), valid=False),
        Shown("a revoked key", bearer(revoked["key"]), valid=False),
        Shown("a read key", bearer(reader["key"]), {}, True, "lab", read, True, True),
        Shown("a submit key", bearer(submitter["key"]), {}, True, "lab", submit),
        Shown("a read and submit key", bearer(lab["key"]), {}, True, "lab", both, True, True),
        Shown("another collection's key", bearer(far["key"]), {}, True, "far", both),
        Shown("a key of all collections", bearer(everywhere["key"]), {}, True, "lab", read, True, True),
        Shown("an admin's key", bearer(chief["key"]), {}, True, "chief", frozenset({"admin"}), True, True),
        Shown("a file token", {}, await token(lab, **file), True, "lab", both, True),
        Shown("a reader's file token", {}, await token(reader, **file), True, "lab", read, True),
        Shown("another file's token", {}, await token(lab, file=other.name), True, "lab", both),
        Shown("a collection token", {}, await token(lab, collection="4dn"), True, "lab", both, True, True),
        Shown("an expired token", {}, old_token, valid=False),
        Shown("a revoked token", {}, taken_back, valid=False),
        Shown("a revoked key's token", {}, ends_with_it, valid=False),
        Shown("a token that is none", {}, {"token": "ght_x.y"}, valid=False),
        Shown(
            "somebody signed in", bearer(signed(clock, AUDIENCE, groups=["lab"])), {}, True, "oidc:anne",
            both, True, True,
        ),
        Shown("a stranger signed in", bearer(signed(clock, AUDIENCE)), {}, True, "oidc:anne"),
        Shown("somebody signed in elsewhere", bearer(signed(clock, "https://other")), valid=False),
    ]  # fmt: skip


async def world_of(build_town: Any, level: str, folder: Path) -> World:
    clock = Clock()
    catalog = Catalog((await build_town()).files, clock.monotonic)
    uploads = Uploads(UploadFolder(folder), catalog, most_bytes=1000, expires_seconds=3600, without_key=False)
    town = await build_town(
        clock=clock.monotonic,
        wall_clock=clock.wall,
        identity_provider=identity_provider(clock),
        uploads=uploads,
        catalog=catalog,
    )
    entry = await town.register(local_id="examined", filename="reads.bam", data_access_level=level)
    manifest = await town.publish(entry, b"secret bytes", density=b"density")
    callers = await all_callers(town, clock, entry)
    lab = next(caller for caller in callers if caller.name == "a read and submit key")
    submission = Submission(
        JobId("thejob"), WorkflowKey("k"), entry, Recipe("bam", "1", formats.BAM), Priority.NORMAL,
        Requester("lab"),
    )  # fmt: skip
    await town.jobs.claim_workflow(submission)
    await town.complete(await town.run("thejob"), manifest)
    made = await town.http.post("/batches", json={"files": [entry.name]}, headers=lab.headers)
    session = await town.http.post("/sessions", json={}, headers=lab.headers)
    await town.advance_batches()
    data = manifest.part(Kind.DATA)
    assert data is not None
    names = {
        "dcc": "4dn", "local_id": "examined", "job_id": "thejob", "batch_id": made.json()["batch_id"],
        "session_id": session.json()["session_id"], "digest": data.sha256, "filename": data.filename,
    }  # fmt: skip
    return World(town, level, entry, names, callers, clock)


async def ask(world: World, method: str, route: str, row: Row, caller: Shown) -> Any:
    path = (row.path or route).format_map(world.names)
    body = row.body
    if isinstance(body, dict) and body.get("file") == "4dn/{local_id}":
        body = {"file": world.entry.name}
    if not caller.valid:
        world.clock.passed += 7  # ten wrong ones within a minute are too many
    if caller.params:
        path += f"{'&' if '?' in path else '?'}token={caller.params['token']}"
    return await world.town.http.request(method, path, headers=caller.headers, json=body)


@pytest.mark.parametrize("level", LEVELS)
async def test_each_caller_gets_what_the_table_says(build_town: Any, level: str, tmp_path: Path) -> None:
    world = await world_of(build_town, level, tmp_path / "uploads")
    wrong: list[str] = []
    began = time.monotonic()
    for (method, route), row in TABLE.items():
        admin = next(caller for caller in world.callers if caller.admin)
        right = (await ask(world, method, route, row, admin)).status_code
        if right in (401, 403, 405) or (right == 404 and not (row.path or "").count("no")):
            wrong.append(f"{method} {route}: the admin gets {right}")
        for caller in world.callers:
            expected: int | None
            if row.essential:
                expected = None
            elif not caller.valid:
                expected = WITHOUT_A_KEY
            elif caller.token and method not in ("GET", "HEAD"):
                expected = WITHOUT_THE_SCOPE
            else:
                expected = row.expect(caller, level)
            answer = await ask(world, method, route, row, caller)
            got = answer.status_code
            who = f"{method} {route}, {caller.name}, {level}"
            if expected is not None or row.alike:
                if got != (expected or right):
                    wrong.append(f"{who}: {got} instead of {expected or right}")
            elif got in (401, 403, 404):
                wrong.append(f"{who}: {got}")
            if got in (401, 403, 404) and method != "HEAD":
                asked = answer.request.url.path
                leaked = [w for w in ("reads.bam", "secret bytes") if w in answer.text and w not in asked]
                wrong += [f"{who}: the refusal has {word!r}" for word in leaked]
            if row.lists and expected is None:
                stands = row.lists.format_map(world.names) in answer.text
                if stands != (row.seen(caller, level) is None):
                    wrong.append(f"{who}: listed is {stands}")
    assert wrong == [], f"{len(wrong)} of the table, after {time.monotonic() - began:.0f} s"


async def test_a_name_that_is_hidden_is_answered_as_one_that_is_not_there(
    build_town: Any, tmp_path: Path
) -> None:
    """Byte for byte, but for the name and the request's id: nobody can try which names there are."""
    world = await world_of(build_town, "protected", tmp_path / "uploads")
    anonymous = world.callers[0]
    for (method, route), row in TABLE.items():
        if "{local_id}" not in (row.path or route) or row.expect is not of_the_entry or method == "HEAD":
            continue
        hidden = await ask(world, method, route, row, anonymous)
        world.names["local_id"], known = "missing0", world.names["local_id"]
        missing = await ask(world, method, route, row, anonymous)
        world.names["local_id"] = known
        assert _comparable(hidden, known) == _comparable(missing, "missing0"), route


def _comparable(answer: Any, name: str) -> tuple[int, str, set[str]]:
    text = answer.text.replace(name, "*").replace(answer.headers["x-request-id"], "*")
    return answer.status_code, text, set(answer.headers) - {"content-length"}
