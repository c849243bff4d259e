"""What the HTTP API offers, the Python client has, in both forms: each route of /openapi.json by a call."""

from __future__ import annotations

import dataclasses
import inspect
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import AsyncGooseherdClient, GooseherdClient, Kind, ReadyPart, models
from gooseherd.client.errors import NotReachable, Refused, UnexpectedResponse
from gooseherd.client.transports import run
from gooseherd.domain.errors import GooseherdError

Call = Callable[[Any], Any]


def _part(client: Any, path: str) -> ReadyPart:
    return ReadyPart(client.url(path), '"e"', 9, None)


CALLS: dict[str, Call] = {
    "GET /artifacts/{digest}/{name}": lambda c: c.read_bytes(_part(c, "/artifacts/d1/n.bam"), 0, 3),
    "GET /batches": lambda c: c.batches(),
    "POST /batches": lambda c: c.create_batch(["d/f"]),
    "GET /batches/{batch_id}": lambda c: c.batch("b1"),
    "DELETE /batches/{batch_id}": lambda c: c.cancel_batch("b1"),
    "GET /batches/{batch_id}/events": lambda c: c.batch_events("b1"),
    "GET /batches/{batch_id}/files": lambda c: c.batch_files("b1"),
    "GET /caller": lambda c: c.caller(),
    "GET /contigs/{dcc}/{local_id}": lambda c: c.contigs("d", "f"),
    "GET /data/{dcc}/{local_id}": lambda c: c.ask("d", "f"),
    "GET /data/{dcc}/{local_id}/status": lambda c: c.status("d", "f"),
    "GET /density/{dcc}/{local_id}": lambda c: c.ask("d", "f", kind=Kind.DENSITY),
    "GET /density/{dcc}/{local_id}/status": lambda c: c.status("d", "f", kind=Kind.DENSITY),
    "GET /events": lambda c: c.changes(seconds=0),
    "GET /files": lambda c: c.files(),
    "POST /files": lambda c: c.register({"dcc": "d"}),
    "POST /files/import": lambda c: c.import_files([b"{}"]),
    "GET /files/{dcc}/{local_id}": lambda c: c.file("d", "f"),
    "DELETE /files/{dcc}/{local_id}": lambda c: c.remove("d", "f"),
    "GET /files/{dcc}/{local_id}/": lambda c: c.names("d", "f"),
    "GET /files/{dcc}/{local_id}/manifest": lambda c: c.manifest("d", "f"),
    "GET /files/{dcc}/{local_id}/tracks": lambda c: c.track("igv", "d/f"),
    "GET /files/{dcc}/{local_id}/{name}": lambda c: c.read_bytes(_part(c, "/files/d/f/n.bam"), 0, 3),
    "GET /fleet": lambda c: c.fleet(),
    "DELETE /fleet/{worker_id}": lambda c: c.stop_worker("w1"),
    "GET /healthz": lambda c: c.health(),
    "GET /hub.txt": lambda c: c.track_document("hub.txt", ["d/f"]),
    "GET /index/{dcc}/{local_id}": lambda c: c.ask("d", "f", kind=Kind.INDEX),
    "GET /index/{dcc}/{local_id}/status": lambda c: c.status("d", "f", kind=Kind.INDEX),
    "GET /jobs": lambda c: c.jobs(),
    "GET /jobs/{job_id}": lambda c: c.job("j1"),
    "DELETE /jobs/{job_id}": lambda c: c.cancel("j1"),
    "GET /jobs/{job_id}/events": lambda c: c.events("j1"),
    "GET /keys": lambda c: c.api_keys(),
    "POST /keys": lambda c: c.create_key("lab"),
    "DELETE /keys/{key_id}": lambda c: c.revoke_key("k1"),
    "POST /keys/{key_id}/rotate": lambda c: c.rotate_key("k1"),
    "GET /metrics": lambda c: c.metrics(),
    "GET /queue": lambda c: c.queue(),
    "GET /readyz": lambda c: c.readiness(),
    "GET /sessions": lambda c: c.sessions(),
    "POST /sessions": lambda c: c.start_session(),
    "GET /sessions/{session_id}": lambda c: c.session("s1"),
    "DELETE /sessions/{session_id}": lambda c: c.end_session("s1"),
    "POST /sessions/{session_id}/dispatch": lambda c: c.dispatch("s1", "d/f"),
    "POST /tokens": lambda c: c.token("d/f"),
    "POST /tokens/revoke": lambda c: c.revoke_tokens("d/f"),
    "GET /search": lambda c: c.search("gene", ["d/f"]),
    "GET /uploads": lambda c: c.uploads(),
    "POST /uploads": lambda c: c.upload(Path(__file__)),
    "GET /uploads/{upload_id}": lambda c: c.upload_state("u1"),
    "PATCH /uploads/{upload_id}": lambda c: (
        c._send_bytes("u1", Path(__file__), 0, 3)
        if isinstance(c, AsyncGooseherdClient)
        else run(c.calls._send_bytes("u1", Path(__file__), 0, 3))
    ),
    "DELETE /uploads/{upload_id}": lambda c: c.abandon_upload("u1"),
    "GET /usage": lambda c: c.usage(),
    "GET /tracks": lambda c: c.tracks(["d/f"]),
    "GET /tracks/{document}": lambda c: c.track_document("igv.json", ["d/f"]),
}
_HTSGET = "GA4GH's protocol, whose clients read its tickets; `records` and `download` read the same bytes"
_SERVICE_INFO = "asked by GA4GH's registries; `health` has the version"
NOT_CALLED: dict[str, str] = {
    "GET /htsget/{datatype}/service-info": _SERVICE_INFO,
    "GET /htsget/{datatype}/{dcc}/{local_id}": _HTSGET,
    "POST /htsget/{datatype}/{dcc}/{local_id}": _HTSGET,
    "GET /service-info": _SERVICE_INFO,
}
"""Routes that need no call, with the reason."""

RECORDS: dict[str, type[models.Model]] = {
    "AmountsView": models.Amounts,
    "AttemptView": models.Attempt,
    "BatchFile": models.BatchFile,
    "BatchView": models.Batch,
    "BudgetView": models.UsageBudget,
    "CallerView": models.Caller,
    "Contigs": models.Contigs,
    "FileView": models.File,
    "FoundNameView": models.FoundName,
    "NameResults": models.FoundNames,
    "PendingNames": models.PendingNames,
    "UploadList": models.Uploads,
    "UploadView": models.Upload,
    "UsageLineView": models.UsageLine,
    "UsageView": models.Usage,
    "Finalizer": models.Finalizer,
    "FleetMember": models.FleetMember,
    "FleetView": models.Fleet,
    "Health": models.Health,
    "Imported": models.Imported,
    "JobSummary": models.Job,
    "JobView": models.Job,
    "KeyView": models.Key,
    "LineError": models.LineError,
    "ManifestPart": models.Part,
    "ManifestView": models.Manifest,
    "MemberCounts": models.FileCounts,
    "NameView": models.PartName,
    "NewKeyView": models.NewKey,
    "PartReadiness": models.PartStatus,
    "PartView": models.Part,
    "PriorityCounts": models.PriorityCounts,
    "ProgressView": models.Progress,
    "QueueView": models.Queue,
    "Registered": models.Registered,
    "Removed": models.Removed,
    "RequesterQueue": models.RequesterQueue,
    "ServiceReadiness": models.Readiness,
    "SessionList": models.Sessions,
    "SessionView": models.Session,
    "SidecarView": models.Sidecar,
    "TokenView": models.Token,
    "TokensRevoked": models.RevokedTokens,
    "TrackView": models.TrackText,
    "WaitingView": models.Waiting,
    "Waits": models.Waits,
}
PAGES = {
    "Accepted",
    "BatchFileList",
    "BatchList",
    "FileList",
    "JobList",
    "KeyList",
    "NameList",
    "ProblemView",
    "UploadList",
    "UploadView",
}
"""Bodies that the client takes apart, and gives the members of."""
OF_OTHER_CLIENTS = {
    "HtsgetError",
    "HtsgetRefusalView",
    "Organization",
    "RegionBody",
    "ServiceInfo",
    "ServiceType",
    "Ticket",
    "TicketBody",
    "TicketUrl",
    "TicketView",
}
"""GA4GH's, see NOT_CALLED."""


@pytest.fixture
async def document(build_town: Any) -> dict[str, Any]:
    town = await build_town()
    found: dict[str, Any] = (await town.http.get("/openapi.json")).json()
    return found


class Recorder(ThreadingHTTPServer):
    """Refuses everything and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _refuse(self) -> None:
                recorder.asked.append(f"{self.command} {self.path.partition('?')[0]}")
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _refuse  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that has hung up is no news."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        yield server
        server.shutdown()


async def test_every_route_has_a_call_or_a_reason(document: dict[str, Any]) -> None:
    routes = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method != "head"
    }
    assert routes == CALLS.keys() | NOT_CALLED.keys()


@pytest.mark.parametrize("route", CALLS)
async def test_a_call_asks_its_route_in_both_forms(recorder: Recorder, route: str) -> None:
    method, _, template = route.partition(" ")
    wanted = re.compile(f"{method} {re.sub(r'[{][a-z_]+[}]', '[^/]+', template)}")
    with GooseherdClient(recorder.url) as client:
        try:
            found = CALLS[route](client)
            list(found) if inspect.isgenerator(found) else None
        except (Refused, NotReachable, UnexpectedResponse):
            pass
    assert any(wanted.fullmatch(asked) for asked in recorder.asked), recorder.asked
    by_the_plain_form = list(recorder.asked)
    recorder.asked.clear()
    async with AsyncGooseherdClient(recorder.url) as awaited:
        try:
            found = CALLS[route](awaited)
            if isinstance(found, AsyncIterator):
                [item async for item in found]
            else:
                await found
        except GooseherdError:
            pass
    assert recorder.asked == by_the_plain_form


async def test_every_record_of_the_api_has_all_its_members_in_the_client(document: dict[str, Any]) -> None:
    missing = []
    for name, schema in document["components"]["schemas"].items():
        if (
            name.endswith(("Request", "Revocation"))
            or name in PAGES | OF_OTHER_CLIENTS
            or "properties" not in schema
        ):
            continue
        if name not in RECORDS:
            missing.append(f"no model for {name}")
            continue
        members = {field.name for field in dataclasses.fields(RECORDS[name])}
        missing += [f"{name}.{member}" for member in schema["properties"].keys() - members]
    assert missing == []


async def test_no_model_has_members_that_the_api_does_not_send(document: dict[str, Any]) -> None:
    sent: dict[type, set[str]] = {}
    for name, model in RECORDS.items():
        schema = document["components"]["schemas"].get(name)
        if schema is not None:
            sent.setdefault(model, set()).update(schema["properties"])
    unknown = {
        f"{model.__name__}.{field.name}"
        for model, members in sent.items()
        for field in dataclasses.fields(model)
        if field.name not in members
    }
    assert unknown == set()


def test_the_page_about_python_names_every_call() -> None:
    page = (Path(__file__).parents[3] / "docs/python.md").read_text(encoding="utf-8")
    calls = {
        name
        for name, value in inspect.getmembers(GooseherdClient, inspect.isfunction)
        if not name.startswith("_") and name != "to"
    }
    assert {name for name in calls if f"`{name}" not in page} == set()
