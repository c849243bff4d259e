"""Parts of the HTTP edge that need no server: errors told, clients named, entries remembered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from gooseherd.api.addresses import network_of
from gooseherd.api.app import ERROR_STATUS, Dependencies, create_app
from gooseherd.api.catalog import REMEMBERED_ENTRIES, Catalog
from gooseherd.api.problems import INTERNAL, problem, problem_type
from gooseherd.api.request_context import client_address, header_map, last_hops
from gooseherd.api.streaming import ClientDisconnected, hold, relay, wait_for_disconnect
from gooseherd.domain import errors
from gooseherd.domain.errors import GooseherdError, NotFound
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.ports.store import StoreRefused
from gooseherd.domain.source import SourceFile
from gooseherd.domain.visibility import EVERYTHING, PUBLIC_ONLY
from gooseherd.storage.memory import MemoryCache


def leaves(cls):
    found = cls.__subclasses__()
    return {cls} | {leaf for sub in found for leaf in leaves(sub)} if found else {cls}


def test_every_rejection_conflict_and_outage_has_a_status():
    for error in leaves(errors.Rejected) | leaves(errors.Conflict) | leaves(errors.Unavailable):
        assert problem_type(error.__new__(error)) is not INTERNAL


def test_slugs_are_one_to_a_title():
    titles: dict[str, str] = {}
    for result in ERROR_STATUS.values():
        assert titles.setdefault(result.slug, result.title) == result.title


@pytest.mark.parametrize(
    ("error", "status", "again", "header"),
    [
        (errors.RangeNotSatisfiable(12), 416, False, (b"content-range", b"bytes */12")),
        (errors.LimitReached("jobs", 5, 5, 7), 429, True, (b"retry-after", b"7")),
        (errors.StoreUnavailable("read"), 503, True, (b"retry-after", b"5")),
        (errors.ProcessingDisabled(), 503, False, None),
        (errors.Misconfigured("WORKFLOW_S3_BUCKET", "no such bucket"), 503, False, None),
        (StoreRefused("DATABASE_URL", "refused"), 503, True, (b"retry-after", b"5")),
        (StorageRefused("WORKFLOW_S3_BUCKET", "refused"), 503, True, (b"retry-after", b"5")),
        (errors.AdminKeyRequired(), 401, False, (b"www-authenticate", b'Bearer realm="gooseherd"')),
        (errors.AlreadyFailed("j", "source_invalid", "no header"), 422, False, None),
        (errors.AlreadyFailed("j", "worker_lost", ""), 422, True, (b"retry-after", b"30")),
        (errors.AlreadyFailed("j", "not a reason", ""), 422, False, None),
        (errors.OutboundRefused("http://10.0.0.1/", "private address"), 502, False, None),
        (errors.LeaseLost("j", 3), 409, True, None),
        (ValueError("/secret"), 500, False, None),
    ],
)
def test_errors_are_told_with_status_and_whether_a_retry_helps(error, status, again, header):
    result = problem(error, instance="/x", request_id="r")
    body = json.loads(result.body)
    assert (result.status, body["status"], body["retryable"]) == (status, status, again)
    assert (b"content-type", b"application/problem+json") in result.headers
    assert (b"cache-control", b"no-store") in result.headers
    if header:
        assert header in result.headers
    else:
        assert b"retry-after" not in dict(result.headers)


@pytest.mark.parametrize(
    "error",
    [
        errors.WorkerLost("10.9.8.7:5000 hung up"),
        errors.LaunchFailed("arn:aws:ecs:secret"),
        errors.NoCapacity("subnet-1"),
        errors.Misconfigured("DATABASE_URL", "mongodb://user:pw@host"),
        errors.UpstreamUnavailable("file:///secret/x", 500),
        errors.OutboundRefused("https://host.example/?token=secret", "rule"),
        RuntimeError("/secret/path"),
        GooseherdError("secret"),
    ],
)
def test_hosts_paths_and_secrets_stay_in_the_log(error):
    body = problem(error, instance="/x", request_id="r").body.decode()
    for word in ("secret", "10.9.8.7", "arn:", "subnet", "mongodb", "host.example", "file:"):
        assert word not in body


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "client"),
    [
        ("10.0.0.2", "1.1.1.1", 0, "10.0.0.2"),
        ("10.0.0.2", "1.1.1.1", 1, "1.1.1.1"),
        ("10.0.0.2", "6.6.6.6, 1.1.1.1", 1, "1.1.1.1"),
        ("10.0.0.2", "6.6.6.6, 1.1.1.1, 10.0.0.3", 2, "1.1.1.1"),
        ("10.0.0.2", "", 1, "10.0.0.2"),
        ("10.0.0.2", "[2001:DB8::1]", 1, "2001:db8::1"),
        ("10.0.0.2", "nonsense", 1, "10.0.0.2"),
        ("10.0.0.2", "1.1.1.1:4711", 1, "1.1.1.1"),
        ("10.0.0.2", "[2001:db8::1]:4711", 1, "2001:db8::1"),
        ("10.0.0.2", '"[2001:db8::1]:4711"', 1, "2001:db8::1"),
        ("10.0.0.2", "2001:db8::1", 1, "2001:db8::1"),
        ("10.0.0.2", "1.1.1.1:x", 1, "10.0.0.2"),
        ("10.0.0.2", " , ", 3, "10.0.0.2"),
        ("10.0.0.2", "6.6.6.6,, 1.1.1.1 ,, ", 1, "1.1.1.1"),
        ("10.0.0.2", f"fe80::1%{'z' * 30_000}", 1, "10.0.0.2"),
    ],
)
def test_the_client_is_counted_from_the_right(peer, forwarded, proxies, client):
    assert client_address(peer, forwarded, proxies) == client


def test_of_forwarded_addresses_only_what_our_proxies_wrote_is_kept():
    assert last_hops("6.6.6.6, 1.1.1.1, 10.0.0.3", 0) == ()
    assert last_hops("6.6.6.6, 1.1.1.1, 10.0.0.3", 2) == ("1.1.1.1", "10.0.0.3")
    assert sum(map(len, last_hops("9" * 30_000 + "," + "8" * 30_000, 2))) <= 200


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("unknown", "unknown"),
    ],
)
def test_all_addresses_of_one_customer_are_one_client(address: str, client: str) -> None:
    assert network_of(address) == client


def test_header_lines_of_one_name_are_joined():
    assert header_map([(b"range", b"bytes=0-1"), (b"range", b"bytes=2-3")]) == {
        b"range": b"bytes=0-1, bytes=2-3"
    }


class Files:
    """In memory, of which only reading and writing single entries is used here."""

    def __init__(self):
        self.entries, self.reads = {}, 0
        self.pause = asyncio.Event()
        self.pause.set()

    async def get(self, dcc, local_id):
        self.reads += 1
        found = self.entries.get((dcc, local_id))
        await self.pause.wait()
        return found

    async def put(self, entries):
        self.entries.update({(e.dcc, e.local_id): e for e in entries})
        return len(entries)


def entry(local_id="a", **fields):
    return SourceFile.from_json(
        {"dcc": "d", "local_id": local_id, "access_url": "https://x.example/a.bam", **fields}
    )


IDS = entry().dcc, entry().local_id


async def catalog_of_one() -> tuple[Any, Catalog, list[float]]:
    """The files behind it, a catalog with `entry()`, and its clock."""
    files: Any = Files()
    now = [0.0]
    catalog = Catalog(files, lambda: now[0])
    await catalog.put([entry()])
    return files, catalog, now


async def test_an_entry_is_read_once_in_two_seconds_and_again_after():
    files, catalog, now = await catalog_of_one()
    for now[0] in (0.0, 0.5, 0.9):
        await catalog.entry("D", "a", EVERYTHING)
    assert files.reads == 1
    now[0] = 2.0
    await catalog.entry("d", "a", EVERYTHING)
    assert files.reads == 2


async def test_an_entry_in_use_is_read_again_before_it_is_forgotten_and_nobody_waits_for_it():
    files, catalog, now = await catalog_of_one()
    first = await catalog.entry("d", "a", EVERYTHING)
    files.pause.clear()
    for now[0] in (1.0, 1.5, 1.9):
        assert catalog.remembered(IDS) is first
        await asyncio.sleep(0)
    assert files.reads == 2
    files.entries = {("d", "a"): entry()}  # another object, and no other entry
    files.pause.set()
    await asyncio.sleep(0.01)
    now[0] = 2.5
    assert catalog.remembered(IDS) is first


async def test_an_entry_that_changed_is_another_one_once_it_was_read_again():
    files, catalog, now = await catalog_of_one()
    await catalog.entry("d", "a", EVERYTHING)
    files.entries = {("d", "a"): entry(data_access_level="protected")}  # by another process
    now[0] = 1.0
    assert catalog.remembered(IDS) == entry()
    await asyncio.sleep(0.01)
    assert catalog.remembered(IDS) == entry(data_access_level="protected")
    files.entries = {}
    now[0] = 2.0
    catalog.remembered(IDS)
    await asyncio.sleep(0.01)
    assert catalog.remembered(IDS) is None


async def test_an_entry_that_cannot_be_read_again_is_served_to_the_end_of_its_time_and_tried_once():
    files, catalog, now = await catalog_of_one()
    await catalog.entry("d", "a", EVERYTHING)

    async def fail(*_):
        files.reads += 1
        raise errors.StoreUnavailable("files.get")

    files.get = fail
    for now[0] in (1.0, 1.2, 1.9):
        assert catalog.remembered(IDS) is not None
        await asyncio.sleep(0.01)
    assert files.reads == 2
    now[0] = 2.0
    with pytest.raises(errors.StoreUnavailable):
        await catalog.entry("d", "a", EVERYTHING)


async def test_an_entry_that_many_ask_for_is_read_once():
    files: Any = Files()
    catalog = Catalog(files, lambda: 0.0)
    await catalog.put([entry()])
    files.pause.clear()
    asking = [asyncio.create_task(catalog.entry("d", "a", EVERYTHING)) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()  # whoever asked first leaves
    await asyncio.sleep(0)
    files.pause.set()
    assert set(await asyncio.gather(*asking[1:])) == {entry()}
    assert files.reads == 1


async def test_who_asks_after_a_write_does_not_get_what_was_read_before_it():
    files: Any = Files()
    catalog = Catalog(files, lambda: 0.0)
    await files.put([entry()])
    files.pause.clear()
    before = asyncio.create_task(catalog.entry("d", "a", EVERYTHING))
    await asyncio.sleep(0)
    await catalog.put([entry(filename="new.bam")])
    after = asyncio.create_task(catalog.entry("d", "a", EVERYTHING))
    await asyncio.sleep(0)
    files.pause.set()
    await before
    assert (await after).filename == "new.bam"
    assert (await catalog.entry("d", "a", EVERYTHING)).filename == "new.bam"


async def test_a_read_that_a_write_overtook_is_not_remembered():
    files: Any = Files()
    catalog = Catalog(files, lambda: 0.0)
    await files.put([entry()])
    files.pause.clear()
    reading = asyncio.create_task(catalog.entry("d", "a", EVERYTHING))
    await asyncio.sleep(0)
    await catalog.put([entry(data_access_level="protected")])
    files.pause.set()
    await reading
    with pytest.raises(errors.NotFound):
        await catalog.servable("d", "a", PUBLIC_ONLY)


async def test_an_older_read_does_not_replace_what_was_read_anew():
    files: Any = Files()
    catalog = Catalog(files, lambda: 0.0)
    await files.put([entry(filename="old.bam")])
    files.pause.clear()
    older = asyncio.create_task(catalog.entry("d", "a", EVERYTHING))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it has read, and not answered yet
    await files.put([entry(filename="new.bam")])  # by another process
    older_answers, files.pause = files.pause, asyncio.Event()
    files.pause.set()
    assert (await catalog.refreshed(entry())).filename == "new.bam"
    older_answers.set()
    await older
    assert (await catalog.entry("d", "a", EVERYTHING)).filename == "new.bam"


async def test_the_memory_of_entries_is_bounded():
    files: Any = Files()
    catalog = Catalog(files, lambda: 0.0)
    await catalog.put([entry(f"f{n}") for n in range(REMEMBERED_ENTRIES + 50)])
    for n in range(REMEMBERED_ENTRIES + 50):
        await catalog.entry("d", f"f{n}", EVERYTHING)
    assert len(catalog._known) == REMEMBERED_ENTRIES
    with pytest.raises(NotFound):
        await catalog.entry("d", "none", EVERYTHING)


async def never():
    await asyncio.Event().wait()


async def disconnected():
    return {"type": "http.disconnect"}


async def test_a_hold_ends_when_the_client_leaves_and_what_it_waits_for_goes_on():
    shared = asyncio.get_running_loop().create_future()
    with pytest.raises(ClientDisconnected):
        await hold(disconnected, 10, shared)
    assert not shared.done()
    await wait_for_disconnect(disconnected)


async def test_a_hold_ends_when_one_of_its_futures_is_done_or_its_time_is_up():
    loop = asyncio.get_running_loop()
    never_done, done = loop.create_future(), loop.create_future()
    done.set_result(None)
    await hold(never, 10, never_done, done)
    await hold(never, 0.01, never_done)
    assert not never_done.done()


async def test_a_body_stops_being_read_when_the_client_has_left():
    read, closed, sent = [], asyncio.Event(), []

    async def body():
        try:
            for n in range(1000):
                read.append(n)
                yield b"x" * 10
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def send(message):
        sent.append(message)
        await asyncio.sleep(0)

    await relay(200, [(b"content-length", b"10000")], body(), receive=disconnected, send=send)
    assert closed.is_set()
    assert len(read) < 20
    assert sent[-1].get("more_body") is True


async def test_a_send_that_fails_closes_the_body():
    closed = asyncio.Event()

    async def body():
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.set()

    async def send(message):
        if message["type"] == "http.response.body":
            raise OSError("gone")

    await relay(200, [], body(), receive=never, send=send)
    assert closed.is_set()


async def ready():
    return {}


def unused() -> dict[str, Any]:
    """What an application needs and these tests never ask."""
    return {"files": Files(), "jobs": None, "queue": None, "sources": None}


def test_cache_and_submissions_come_together():
    with pytest.raises(ValueError):
        Dependencies(**unused(), readiness=ready, cache=MemoryCache())


async def test_the_schema_tells_of_every_answer_of_the_byte_routes():
    app = create_app(Dependencies(**unused(), readiness=ready, version="9"))
    schema = json.loads(await body_of_get(app, "/openapi.json"))
    get = schema["paths"]["/data/{dcc}/{local_id}"]["get"]
    assert {"200", "202", "206", "304", "400", "403", "404", "410", "416", "422", "429", "502", "503"} <= set(
        get["responses"]
    )
    assert "application/problem+json" in get["responses"]["416"]["content"]
    assert get["responses"]["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/Accepted")
    assert {p["name"] for p in get["parameters"]} >= {"raw", "wait", "retry", "priority", "Range"}
    head = schema["paths"]["/index/{dcc}/{local_id}"]["head"]
    assert "202" not in head["responses"]
    assert {
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/events",
        "/files",
        "/files/import",
        "/contigs/{dcc}/{local_id}",
        "/queue",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= set(schema["paths"])
    ids = [op["operationId"] for path in schema["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))


async def test_the_first_request_finds_its_route_prepared(monkeypatch):
    app = create_app(Dependencies(**unused(), readiness=ready, version="9"))

    def prepared_now(*_, **__):
        raise AssertionError("validators are made when the application is")

    monkeypatch.setattr(TypeAdapter, "__init__", prepared_now)
    assert json.loads(await body_of_get(app, "/healthz"))


async def body_of_get(app, path):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "root_path": "",
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent[1:])
