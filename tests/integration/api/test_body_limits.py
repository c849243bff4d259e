"""Bodies: the key is asked for before a byte is read, and what is held of one is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from gooseherd.api.app import create_app
from gooseherd.api.route_parameters import needs_key
from gooseherd.api.small_bodies import SMALL_BODY_BYTES

pytestmark = pytest.mark.integration

ADMIN = ((b"x-api-key", b"the-admin-key"),)
CHUNK = b" " * 16384
REGISTRATION_BYTES, TICKET_BYTES = 8 * 1024 * 1024, 256 * 1024
OTHER_LIMITS = {
    "/files": REGISTRATION_BYTES,
    "/batches": REGISTRATION_BYTES,
    "/htsget/{datatype}/{dcc}/{local_id}": TICKET_BYTES,
}
WRITTEN_AS_THEY_COME = {"/files/import", "/uploads", "/uploads/{upload_id}"}
"""Of those nothing is held; API_MAX_BODY_BYTES is their limit."""


class Client:
    """Sends chunks for as long as it is asked for more, to the application itself."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.asked_bytes = 0
        self.status = 0
        self.body = b""

    async def send(self, method: str, path: str, *headers: tuple[bytes, bytes]) -> None:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *headers],
            "client": ("127.0.0.1", 4711),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "http_version": "1.1",
        }
        await self.app(scope, self._receive, self._respond)

    async def _receive(self) -> Any:
        self.asked_bytes += len(CHUNK)
        assert self.asked_bytes < 64 * 1024 * 1024, "whatever comes is read"
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    async def _respond(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


async def operations_with_body(town: Any) -> list[tuple[str, str]]:
    schema = (await town.http.get("/openapi.json")).json()
    return [
        (method.upper(), path)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    ]


def routes(app: Any) -> Iterator[APIRoute]:
    """Found behind whatever stands in front."""
    while not hasattr(app, "routes"):
        app = next(
            value
            for name, value in vars(app).items()
            if name in ("_inside", "_framework") and callable(value)
        )
    yield from (route for route in app.routes if isinstance(route, APIRoute))


async def test_more_than_a_call_takes_is_413_while_it_arrives(town: Any) -> None:
    entry = await town.register()
    app = create_app(town.dependencies)
    checked = set()
    for method, path in await operations_with_body(town):
        if path in WRITTEN_AS_THEY_COME:
            continue
        checked.add(path)
        client = Client(app)
        names = {"datatype": "reads", "dcc": entry.dcc, "local_id": entry.local_id}
        filled = path.format(**names, key_id="k", session_id="s")
        await client.send(method, filled, *ADMIN)
        limit = OTHER_LIMITS.get(path, SMALL_BODY_BYTES)
        assert (path, client.status, client.asked_bytes) == (path, 413, limit + len(CHUNK))
    assert checked >= {
        *OTHER_LIMITS,
        *("/keys", "/keys/{key_id}/rotate", "/tokens", "/tokens/revoke"),
        *("/sessions", "/sessions/{session_id}/dispatch"),
    }


async def test_a_declared_length_beyond_the_limit_is_413_unread(town: Any) -> None:
    client = Client(create_app(town.dependencies))
    await client.send("POST", "/keys", *ADMIN, (b"content-length", b"65537"))
    assert (client.status, client.asked_bytes) == (413, 0)


async def test_where_a_key_is_needed_nothing_is_read_before_it_is_there(town: Any) -> None:
    app = create_app(town.dependencies)
    with_key = [
        (method, route.path)
        for route in routes(app)
        if needs_key(route)
        for method in route.methods or ()
        if (method, route.path) in set(await operations_with_body(town))
    ]
    assert {path for _, path in with_key} >= {
        *("/files", "/files/import", "/keys", "/keys/{key_id}/rotate", "/tokens", "/tokens/revoke"),
        *("/sessions", "/sessions/{session_id}/dispatch"),
    }
    for method, path in with_key:
        client = Client(app)
        await client.send(method, path.format(key_id="k", session_id="s"))
        assert (path, client.status, client.asked_bytes) == (path, 401, 0)


async def test_without_a_key_a_batch_has_the_bytes_of_the_files_that_it_may_name(town: Any) -> None:
    client = Client(create_app(town.dependencies))
    await client.send("POST", "/batches")
    assert (client.status, client.asked_bytes) == (401, SMALL_BODY_BYTES + len(CHUNK))
    assert json.loads(client.body)["type"].endswith("key-required")


async def test_a_body_of_the_largest_size_is_read_whole(town: Any) -> None:
    wanted = json.dumps({"owner": "lab", "scopes": ["read"]}).encode()
    for size, status in ((SMALL_BODY_BYTES, 201), (SMALL_BODY_BYTES + 1, 413)):
        response = await town.http.post(
            "/keys",
            content=wanted + b" " * (size - len(wanted)),
            headers={"X-API-Key": "the-admin-key", "Content-Type": "application/json"},
        )
        assert response.status_code == status
