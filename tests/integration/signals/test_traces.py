"""One trace from the request to the artifact, as a collector receives it; nothing at all when it is off."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.integration.signals.conftest import ADMIN_KEY, Busy
from tests.integration.signals.otlp_receiver import ReceivedSpan, Receiver, receiving

pytestmark = pytest.mark.integration
SERVER = 2  # SPAN_KIND_SERVER
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENTS_SPAN = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Busy]:
    """It sends traces to the receiver at once."""
    service = Busy(tmp_path_factory.mktemp("traced"))
    service.extra = {
        "API_ADMIN_KEY": ADMIN_KEY,
        "GOOSEHERD_LOG_JSON": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    try:
        service.start()
        yield service
    finally:
        service.clean_up()


def ask(busy: Busy, name: str, trace: str, *, content: bytes | None = None) -> str:
    """A GET within a trace of the client's, of a file that has to be made; its job."""
    file = busy.prepare(name, content)
    headers = {"traceparent": f"00-{trace}-{CLIENTS_SPAN}-01", "X-Request-Id": f"req-{name}"}
    response = httpx.get(f"{busy.url}/data/{file}", headers=headers, timeout=60)
    assert response.status_code == 202, response.text
    return str(response.json()["job_id"])


def large() -> bytes:
    """Intervals that take some seconds to sort."""
    starts = ((n * 7919) % 100_000_000 for n in range(1_500_000))
    return b"".join(b"chr1\t%d\t%d\n" % (start, start + 50) for start in starts)


def attempts_of(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    return sorted((span for span in spans if span.name == "attempt"), key=lambda span: span.start)


def assert_whole(spans: list[ReceivedSpan]) -> None:
    """Every parent is there, but the client's own; the request is the root, and all lie below it."""
    by_id = {span.span_id: span for span in spans}
    # Whoever adopts an attempt reads on where the job's record stands: what was reported since is sent again,
    # as the same span.
    assert {(one.span_id, one.name, one.parent) for one in spans} == {
        (one.span_id, one.name, one.parent) for one in by_id.values()
    }, Counter(span.name for span in spans)
    roots = [span for span in spans if span.parent not in by_id]
    assert [(span.name, span.kind, span.parent) for span in roots] == [("GET", SERVER, CLIENTS_SPAN)]
    assert all(span.end >= span.start for span in spans)


def test_one_trace_goes_from_the_get_to_the_published_artifact(traced, receiver):
    job = ask(traced, "one.bed", TRACE)
    assert traced.ended(job)["status"] == "completed"
    traced.until(lambda: attempts_of(receiver.of_trace(TRACE)), "the attempt's span arrives")
    spans = receiver.of_trace(TRACE)
    assert_whole(spans)
    names = {span.name for span in spans}
    assert {"GET", "queue", "attempt", "launch", "run", "fetch", "publish", "settle"} <= names
    assert [name for name in names if name.startswith("step ")]
    assert [name for name in names if name.startswith("tools: ")]
    by_id = {span.span_id: span for span in spans}

    def path(span: ReceivedSpan) -> list[str]:
        above = by_id.get(span.parent)
        return [*(path(above) if above else []), span.name.partition(" ")[0]]

    tool = next(span for span in spans if span.name.startswith("tools: "))
    assert path(tool)[:4] == ["GET", "attempt", "run", "step"]
    (attempt,) = attempts_of(spans)
    assert attempt.attributes["job_id"] == job
    assert attempt.attributes["reason"] == "published"
    assert attempt.attributes["worker"]
    (request,) = [span for span in spans if span.kind == SERVER]
    assert request.attributes["http.route"] == "/data"
    assert request.attributes["http.response.status_code"] == "202"
    assert request.service == "gooseherd"
    assert receiver.paths == {"/v1/traces"}


def test_log_lines_of_api_and_worker_have_the_trace(traced):
    texts = [traced.log.read_text(), *(path.read_text() for path in traced.state.glob("fleet/*.log"))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    job = ask(traced, "logged.bed", "c" * 32)
    traced.ended(job)
    texts = [traced.log.read_text(), *(path.read_text() for path in traced.state.glob("fleet/*.log"))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    of_trace = {line["event"] for line in lines if line.get("trace_id") == "c" * 32}
    assert {"job submitted", "following job", "job completed"} <= of_trace


@pytest.mark.fault
def test_the_attempt_after_a_killed_worker_is_in_the_same_trace(traced, receiver):
    trace = "d" * 32
    job = ask(traced, "killed.bed", trace, content=large())

    def working() -> bool:
        record = traced.job(job)
        return bool(record["status"] == "running" and record["progress"]["step"] and traced.attempts())

    traced.until(working, "the attempt runs")
    for worker in traced.workers():
        os.kill(worker["process"]["pid"], signal.SIGKILL)
    record = traced.ended(job)
    assert record["status"] == "completed", (record["reason"], record["attempts"])
    traced.until(lambda: len(attempts_of(receiver.of_trace(trace))) == 2, "both attempts arrive")
    spans = receiver.of_trace(trace)
    assert_whole(spans)
    first, second = attempts_of(spans)
    assert (first.failed, first.attributes["reason"], first.attributes["attempt"]) == (
        True,
        "worker_lost",
        "1",
    )
    assert (second.failed, second.attributes["attempt"]) == (False, "2")
    assert len([span for span in spans if span.name == "queue"]) == 2
    cut_off = [span for span in spans if span.parent == first.span_id and span.name == "run"]
    assert [span.failed for span in cut_off] == [True]


@pytest.mark.fault
def test_an_attempt_that_another_process_adopts_is_in_the_trace_once(traced, receiver):
    trace = "b" * 32
    job = ask(traced, "adopted.bed", trace, content=large())

    def working() -> bool:
        record = traced.job(job)
        return bool(record["status"] == "running" and record["progress"]["step"] and traced.attempts())

    traced.until(working, "the attempt runs")
    traced.until(lambda: {"GET", "queue"} <= {one.name for one in receiver.of_trace(trace)}, "spans arrive")
    traced.kill()
    traced.start()
    record = traced.ended(job)
    assert [attempt["reason"] for attempt in record["attempts"]] == ["published"]
    traced.until(lambda: attempts_of(receiver.of_trace(trace)), "the attempt's span arrives")
    spans = receiver.of_trace(trace)
    assert_whole(spans)
    (attempt,) = attempts_of(spans)
    assert attempt.attributes["adopted"] == "True"
    assert "run" in {span.name for span in spans}


def test_a_job_of_a_request_without_a_trace_begins_one(traced, receiver):
    file = traced.prepare("no-trace.bed")
    response = httpx.get(f"{traced.url}/data/{file}", headers={"traceparent": "00-zz-zz-01"}, timeout=60)
    job = response.json()["job_id"]
    traced.ended(job)

    def found() -> list[str]:
        # Those of the tests before may still arrive.
        attempts = [span for span in receiver.spans if span.name == "attempt"]
        return [span.trace_id for span in attempts if span.attributes["job_id"] == job]

    (trace,) = traced.until(found, "its attempt arrives")
    assert re.fullmatch(r"[0-9a-f]{32}", trace)
    roots = [span for span in receiver.of_trace(trace) if not span.parent]
    assert [span.kind for span in roots] == [SERVER]


def test_what_the_client_does_not_sample_is_not_sent(traced, receiver):
    file = traced.prepare("unsampled.bed")
    headers = {"traceparent": f"00-{'e' * 32}-{CLIENTS_SPAN}-00"}
    job = httpx.get(f"{traced.url}/data/{file}", headers=headers, timeout=60).json()["job_id"]
    traced.ended(job)
    later = ask(traced, "sampled.bed", "f" * 32)
    traced.ended(later)
    traced.until(lambda: attempts_of(receiver.of_trace("f" * 32)), "the later one arrives")
    assert receiver.of_trace("e" * 32) == []


def imported(tmp_path: Path, **environ: str) -> set[str]:
    """OpenTelemetry's modules that a service has imported once it runs."""
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from gooseherd.settings import Settings\n"
        "from gooseherd.statedir import StateDir\n"
        "from gooseherd.wiring import running\n"
        "async def main():\n"
        "    settings = Settings(gooseherd_state_dir=Path(sys.argv[1]))\n"
        "    with StateDir(settings.gooseherd_state_dir) as state:\n"
        "        async with running(settings, state):\n"
        "            print(*(name for name in sys.modules if name.startswith('opentelemetry.')))\n"
        "asyncio.run(main())\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_nothing_of_opentelemetry_is_imported_when_it_is_off(tmp_path, environ):
    assert not [
        name
        for name in imported(tmp_path, **environ)
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
    ]


def test_a_collector_that_is_not_there_keeps_nothing_from_working(tmp_path):
    assert "opentelemetry.sdk.trace" in imported(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
