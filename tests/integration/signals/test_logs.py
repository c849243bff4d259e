"""The log of a service that works: one JSON object a line, ids that join, nothing that nobody may read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.signals.conftest import ADMIN_KEY, SECRET_TOKEN, Busy

pytestmark = pytest.mark.integration
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


class Logs:
    """All lines of the service and of its workers."""

    def __init__(self, busy: Busy, key: str) -> None:
        self.key = key
        self.text = {"api": busy.log.read_text()}
        self.text |= {path.name: path.read_text() for path in busy.state.glob("fleet/*.log")}

    @property
    def lines(self) -> Iterator[dict[str, Any]]:
        for name, text in self.text.items():
            for line in text.splitlines():
                yield {"of": name, **json.loads(line)}

    def find(self, **wanted: object) -> list[dict[str, Any]]:
        return [line for line in self.lines if wanted.items() <= line.items()]


@pytest.fixture(scope="module")
def logs(busy: Busy) -> Logs:
    busy.round()
    made = httpx.post(
        f"{busy.url}/keys", json={"owner": "a reader", "scopes": ["read"]}, headers=busy.admin, timeout=30
    )
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    with httpx.Client(base_url=busy.url, timeout=30) as client:
        assert client.get("/files", headers={"X-API-Key": key}).status_code == 200
        signed = "https://upstream.invalid/x.bed?X-Amz-Signature=0123456789abcdef&X-Amz-Expires=60"
        entry = {"dcc": "t", "local_id": "signed", "access_url": signed, "filename": "x.bed"}
        assert client.post("/files", json=entry, headers=busy.admin).status_code == 200
        assert client.get("/data/t/signed?raw=true").status_code == 502
        assert client.get("/data/t/signed?wait=2").status_code == 202
    return Logs(busy, key)


def test_every_line_is_one_json_object(logs):
    assert len(logs.text) > 1, "no worker has a log"
    for name, text in logs.text.items():
        for line in text.splitlines():
            parsed = json.loads(line) if line.startswith("{") else None
            assert isinstance(parsed, dict), f"{name}: {line}"
            assert {"time", "level", "logger", "event"} <= parsed.keys(), f"{name}: {line}"


def test_nothing_in_it_is_a_secret_or_a_path_of_this_machine(logs, busy):
    root = busy.state.parent
    forbidden = {
        "the admin's key": ADMIN_KEY,
        "a key": logs.key,
        "a token of a query": SECRET_TOKEN,
        "a signature": "0123456789abcdef",
        "a folder of the service": str(root),
        "where Python is": sys.prefix,
        "the code's place": str(Path(__file__).resolve().parents[3]),
    }
    for name, text in logs.text.items():
        for what, word in forbidden.items():
            at = text.find(word)
            assert at < 0, f"{name}: {what}: …{text[max(at - 200, 0) : at + 100]}"


def test_a_request_its_job_its_attempt_and_its_worker_are_joined_by_ids(logs):
    (submitted,) = [line for line in logs.find(event="job submitted") if "request_id" in line][:1]
    job = submitted["job_id"]
    (followed,) = [line for line in logs.find(event="following job", job_id=job) if line["attempt"] == 1]
    assert followed["of"] == "api"
    (completed,) = logs.find(event="job completed", job_id=job)
    assert completed["worker"]
    (started,) = logs.find(event="attempt started", job_id=job, attempt=1)
    assert started["of"] != "api"
    assert started["worker"] == completed["worker"]


def run(code: str, **environ: str) -> list[dict[str, Any]]:
    """The lines that a program writes whose standard error is JSON alone."""
    return [json.loads(line) for line in stderr_of(code, **environ).splitlines()]


def stderr_of(code: str, **environ: str) -> str:
    head = (
        "import logging, os, sys, warnings\n"
        "from gooseherd import logs\n"
        "logs.configure_from_environment(os.environ, only_json=True)\n"
        "logs.hide_credentials(os.environ)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        env={**os.environ, "GOOSEHERD_LOG_JSON": "true", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr


def test_warnings_and_what_libraries_print_are_objects_too():
    lines = run(
        "warnings.warn('old')\n"
        "print('from a library', file=sys.stderr)\n"
        "os.system('echo from a child >&2')\n"
        "os.write(2, b'no end of line')\n"
    )
    assert [line["event"].split(" (")[0] for line in lines] == [
        "UserWarning: old",
        "from a library",
        "from a child",
        "no end of line",
    ]


def test_an_exception_that_nobody_caught_is_one_object():
    (line,) = run("raise ValueError('a\\nb')\n")
    assert (line["event"], line["level"]) == ("uncaught exception", "critical")
    assert line["exception"].endswith("ValueError: a\nb")


def test_lines_of_a_child_that_logs_json_pass_as_they_are():
    child = "import logging, os; from gooseherd import logs; logs.configure_from_environment(os.environ)"
    (line,) = run(
        "import subprocess\n"
        f"subprocess.run([sys.executable, '-c', {child!r} + '; logging.warning(\"hello\")'])\n",
        GOOSEHERD_LOG_FIELDS='{"worker": "w1"}',
    )
    assert (line["event"], line["worker"], line["logger"]) == ("hello", "w1", "root")


MORE_THAN_A_PIPE_HOLDS = "for _ in range(4000): print('x' * 60, file=sys.stderr)\n"


def test_a_line_that_is_no_json_for_its_depth_is_a_line_like_others():
    begins = '{"time": "x", "a": '
    lines = run(f"print({begins!r} + '[' * 60000, file=sys.stderr)\n" + MORE_THAN_A_PIPE_HOLDS)
    assert len(lines) == 4001
    assert lines[0]["event"].startswith(begins + "[[[")


@pytest.mark.parametrize("error", ["RuntimeError", "RecursionError", "MemoryError"])
def test_a_line_of_which_nothing_can_be_made_stops_no_writer(error):
    lines = run(
        "def broken(*_): raise " + error + "\n"
        "logging.getLogger().handlers[0].formatter.format = broken\n"
        f"print('signed with {AWS_SECRET}', file=sys.stderr)\n" + MORE_THAN_A_PIPE_HOLDS,
        AWS_SECRET_ACCESS_KEY=AWS_SECRET,
    )
    assert len(lines) == 4001
    assert lines[0] == {"level": "warning", "logger": "stderr", "event": "signed with [hidden]"}


def test_without_its_reader_standard_error_is_what_it_was():
    code = "logs._OnlyJson._take = lambda *_: sys.exit()\nprint('x', file=sys.stderr)\n"
    wait = "logging.getLogger().handlers[0]._reader.join()\n"
    assert stderr_of(code + wait + MORE_THAN_A_PIPE_HOLDS) == ("x" * 60 + "\n") * 4000


def test_a_crash_of_the_interpreter_says_where():
    text = stderr_of("import faulthandler\nfaulthandler._sigsegv()\n")
    assert "Fatal Python error: Segmentation fault" in text
    assert 'File "<string>", line 6 in <module>' in text


def test_users_queries_and_signing_keys_are_left_out_wherever_they_stand():
    lines = run(
        "logging.warning('GET %s failed', 'https://me:pw@host.example/a/b.bam?sig=abc')\n"
        "logging.warning('store', extra={'url': 'postgresql://user:pw@db.example:5432/x'})\n"
        f"logging.warning('signed with {AWS_SECRET}')\n"
        "logging.warning('X-Amz-Signature=12345&x=1')\n",
        AWS_SECRET_ACCESS_KEY=AWS_SECRET,
    )
    assert lines[0]["event"] == "GET https://host.example/a/b.bam?[hidden] failed"
    assert lines[1]["url"] == "postgresql://db.example:5432/x"
    assert lines[2]["event"] == "signed with [hidden]"
    assert lines[3]["event"] == "X-Amz-Signature=[hidden]&x=1"


def test_a_service_that_cannot_start_says_so_in_json(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gooseherd.cli", "up", "--state-dir", str(tmp_path)],
        env={**os.environ, "GOOSEHERD_LOG_JSON": "true", "WORKFLOW_STALE_SECONDS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "WORKFLOW_STALE_SECONDS" in json.loads(done.stderr.splitlines()[-1])["event"]
    assert all(json.loads(line)["level"] for line in done.stderr.splitlines())
