"""Commands against a service that answers as told: what is printed where, and the exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.cli.add import make
from gooseherd.client import GooseherdClient
from gooseherd.domain.source import WEAK_NOTE

CONTENT = b"sorted bytes"
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture
def gooseherd(service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOSEHERD_URL", service.url)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("API_ADMIN_KEY", raising=False)

    def run(*arguments: str, given: str | None = None) -> Any:
        return CliRunner().invoke(app, arguments, input=given, prog_name="gooseherd")

    return run


@pytest.fixture
def artifact(service: Any, reply: Any) -> None:
    headers = {"ETag": ETAG, "Content-Disposition": 'attachment; filename="r.sorted.bam"'}
    index = {"ETag": ETAG, "Content-Disposition": 'attachment; filename="r.sorted.bam.bai"'}
    density = {"ETag": ETAG, "Content-Disposition": 'attachment; filename="r.density.bw"'}
    for method in ("GET", "HEAD"):
        service.on(f"{method} /data/d/f", reply(200, CONTENT, headers))
        service.on(f"{method} /index/d/f", reply(200, CONTENT, index))
        service.on(f"{method} /density/d/f", reply(200, CONTENT, density))


def test_get_brings_data_and_index_under_their_own_names(
    gooseherd: Any, artifact: None, tmp_path: Path
) -> None:
    result = gooseherd("get", "d/f")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "sha256 verified" in result.stderr
    assert (tmp_path / "r.sorted.bam").read_bytes() == CONTENT
    assert (tmp_path / "r.sorted.bam.bai").read_bytes() == CONTENT


def test_get_puts_the_index_beside_the_named_file(gooseherd: Any, artifact: None, tmp_path: Path) -> None:
    assert gooseherd("get", "d/f", "-o", "mine.bam").exit_code == 0
    assert sorted(p.name for p in tmp_path.glob("mine*")) == ["mine.bam", "mine.bam.bai"]


def test_get_writes_nothing_but_the_bytes_to_standard_output(gooseherd: Any, artifact: None) -> None:
    result = gooseherd("get", "d/f", "-o", "-")
    assert (result.exit_code, result.stdout_bytes) == (0, CONTENT)


def test_get_as_json_tells_all_on_one_line(gooseherd: Any, artifact: None) -> None:
    result = gooseherd("get", "d/f", "--json")
    output = json.loads(result.stdout)
    assert (result.stderr, result.stdout.count("\n")) == ("", 1)
    assert (output["path"], output["verified"], output["cached"], output["job_id"]) == (
        "r.sorted.bam",
        True,
        True,
        None,
    )
    assert output["index"]["path"] == "r.sorted.bam.bai"


def test_get_brings_the_density_when_told_to(
    gooseherd: Any, service: Any, reply: Any, artifact: None, tmp_path: Path
) -> None:
    output = json.loads(gooseherd("get", "d/f", "-o", "mine.bam", "--density", "--json").stdout)
    assert output["density"]["path"] == "mine.bam.bw"
    assert (tmp_path / "mine.bam.bw").read_bytes() == CONTENT
    assert gooseherd("get", "d/f", "--density", "--region", "chr1:1-2").exit_code == 2
    service.on("GET /density/d/f", reply(404, {"title": "The artifact has no such part"}, PROBLEM))
    assert gooseherd("get", "d/f", "-o", "mine.bam", "--density").exit_code == 4


def test_get_brings_the_other_parts_too_each_where_tools_look_for_it(
    gooseherd: Any, service: Any, reply: Any, artifact: None, tmp_path: Path
) -> None:
    kinds = {"gzi": "r.sorted.bam.gzi", "annotation": "r.gff3.gz", "annotation_index": "r.gff3.gz.tbi"}
    for kind, name in kinds.items():
        headers = {
            "ETag": f'"{hashlib.sha256(kind.encode()).hexdigest()}"',
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        for method in ("GET", "HEAD"):
            service.on(f"{method} /data/d/f?part={kind}", reply(200, kind.encode(), headers))
    parts = [{"kind": kind} for kind in ("data", "index", *kinds)]
    service.on("GET /files/d/f/manifest", reply(200, {"parts": parts}))
    output = json.loads(gooseherd("get", "d/f", "-o", "mine.bam", "--json").stdout)
    assert output["gzi"]["path"] == "mine.bam.gzi"
    assert (tmp_path / "mine.bam.gzi").read_bytes() == b"gzi"
    assert (tmp_path / "r.gff3.gz").read_bytes() == b"annotation"
    assert (tmp_path / "r.gff3.gz.tbi").read_bytes() == b"annotation_index"


def test_get_without_an_index_brings_the_data_alone(
    gooseherd: Any, artifact: None, service: Any, reply: Any, tmp_path: Path
) -> None:
    service.on("GET /index/d/f", reply(404, {"title": "Not found"}, PROBLEM))
    result = gooseherd("get", "d/f", "--json")
    assert (result.exit_code, json.loads(result.stdout)["index"]) == (0, None)
    assert gooseherd("get", "d/f", "--index-out", "i").exit_code == 4


def test_get_says_once_what_it_waits_for(
    gooseherd: Any, artifact: None, service: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gooseherd.client.transports.time.sleep", lambda _: None)
    busy = reply(503, {"title": "The service is not set up for this"}, {**PROBLEM, "Retry-After": "5"})
    there = reply(200, CONTENT, {"ETag": ETAG})
    service.on("GET /data/d/f", busy, busy, there)
    result = gooseherd("get", "d/f", "-o", "-")
    assert (result.exit_code, result.stdout_bytes) == (0, CONTENT)
    assert result.stderr.count("waiting for the service: The service is not set up for this") == 1


def test_get_without_waiting_names_the_job(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /data/d/f", reply(202, {}, {"Location": "/jobs/j9", "Retry-After": "1"}))
    result = gooseherd("get", "d/f", "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "j9\n")


@pytest.mark.parametrize(("status", "code"), [(404, 4), (403, 4), (401, 4), (410, 4), (422, 1), (503, 1)])
def test_exit_codes_tell_refusals_apart(
    gooseherd: Any, service: Any, reply: Any, status: int, code: int
) -> None:
    problem = {"type": "/problems/p", "title": "T", "detail": "that is why"}
    service.on("GET /data/d/f", reply(status, problem, PROBLEM))
    result = gooseherd("get", "d/f")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "that is why" in result.stderr
    output = json.loads(gooseherd("get", "d/f", "--json").stdout)
    assert (output["error"]["detail"], output["error"]["status"]) == ("that is why", status)


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "noslash"),
        ("get", "d/f", "--region", "chr1:9-1"),
        ("get", "d/f", "--region", "chr1", "--raw"),
        ("get", "d/f", "--url", "ftp://x"),
        ("add", "/no/such/file.bam"),
        ("add", "https://h/a.bam", "--sidecar", "tbi"),
        ("add", "https://h/a.bam", "https://h/b.bam", "--id", "x"),
        ("files", "import", "/no/such.jsonl"),
        ("jobs", "nonsense"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_two_and_says_what_is_right(gooseherd: Any, arguments: tuple[str, ...]) -> None:
    result = gooseherd(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.strip()


def test_bytes_and_json_do_not_share_standard_output(gooseherd: Any) -> None:
    result = gooseherd("get", "d/f", "--json", "-o", "-")
    assert (result.exit_code, "standard output" in json.loads(result.stdout)["error"]["detail"]) == (2, True)


def test_a_pattern_is_no_name_and_the_way_to_many_files_is_said(gooseherd: Any, service: Any) -> None:
    result = gooseherd("prepare", "d/*")
    assert (result.exit_code, service.asked) == (2, [])
    assert "'d/*' is no name of a file" in result.stderr
    assert "gooseherd prepare --dcc NAME" in result.stderr


def test_of_a_service_here_without_its_key_the_state_folder_is_spoken_of(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    problem = {"type": "/problems/admin-key-required", "title": "No", "detail": "this needs the admin key"}
    service.on("GET /files", reply(401, problem, PROBLEM))
    assert "GOOSEHERD_STATE_DIR" in gooseherd("files", "ls").stderr
    assert "GOOSEHERD_STATE_DIR" in json.loads(gooseherd("files", "ls", "--json").stdout)["error"]["hint"]
    # Whoever has a key has chosen it.
    assert "GOOSEHERD_STATE_DIR" not in gooseherd("files", "ls", "--key", "k").stderr


def test_what_was_made_just_now_is_not_called_ready_before(
    service: Any, reply: Any, client: GooseherdClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that was asked for ahead may have ended before the file's turn."""
    there = reply(200, CONTENT, {"ETag": ETAG})
    service.on("GET /data/d/f", reply(202, {}, {"Location": "/jobs/j1", "Retry-After": "1"}), there)
    service.on("GET /data/d/g", there)
    done = {"job_id": "j1", "status": "completed", "notes": [WEAK_NOTE, "2 records were dropped"]}
    service.on("GET /jobs/j1", reply(200, done))
    assert make(client, [("d", "f"), ("d", "g")], as_json=False) == 0
    assert capsys.readouterr().err == (
        "d/f is ready\nnote: 2 records were dropped\nd/g is ready (it was already)\n"
    )


def test_nobody_at_the_address_is_three(gooseherd: Any) -> None:
    result = gooseherd("jobs", "ls", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 3
    assert "gooseherd up" in result.stderr


def test_nothing_running_here_is_three_and_says_how_to_start(
    gooseherd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOSEHERD_URL")
    result = gooseherd("files", "ls")
    assert (result.exit_code, "gooseherd up" in result.stderr) == (3, True)


def test_a_running_service_is_found_with_its_key(
    gooseherd: Any, service: Any, reply: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOSEHERD_URL")
    state = tmp_path / "state"
    state.mkdir()
    (state / "server.json").write_text(
        json.dumps({"url": service.url, "pid": os.getpid(), "profile": "embedded"})
    )
    (state / "admin-key").write_text("secret\n")
    service.on("GET /files", reply(200, {"files": [], "next": None}))
    assert gooseherd("files", "ls").exit_code == 0
    assert service.asked[-1].headers["Authorization"] == "Bearer secret"


def test_the_local_key_is_not_sent_to_another_host(
    gooseherd: Any, service: Any, reply: Any, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    (state / "admin-key").write_text("secret\n")
    service.on("GET /files", reply(200, {"files": [], "next": None}))
    gooseherd("files", "ls")
    assert "Authorization" not in service.asked[-1].headers


def test_what_a_dead_service_left_behind_is_not_a_service(
    gooseherd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOSEHERD_URL")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "server.json").write_text(
        json.dumps({"url": "http://127.0.0.1:1", "pid": ended.pid})
    )
    assert gooseherd("files", "ls").exit_code == 3


def test_add_registers_a_file_and_prints_its_name(
    gooseherd: Any, service: Any, reply: Any, tmp_path: Path
) -> None:
    (tmp_path / "my reads.bam").write_bytes(b"x")
    service.on("POST /files", reply(200, {"imported": 1, "new": 1}))
    result = gooseherd("add", "my reads.bam", "--dcc", "Lab", "--sidecar", "bai=https://h/x.bai")
    assert (result.exit_code, result.stdout) == (0, "lab/my-reads.bam\n")
    entry = json.loads(service.asked[-1].body)
    assert entry["md5"] == hashlib.md5(b"x").hexdigest()
    assert entry["sidecars"] == [{"kind": "bai", "access_url": "https://h/x.bai"}]


A_BAM = {"dcc": "local", "local_id": "a.bam"}


def test_add_takes_another_id_when_the_name_is_another_file_s(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    service.on("GET /files/local/a.bam", reply(200, {**A_BAM, "access_url": "https://other/a.bam"}))
    service.on("POST /files", reply(200, {"imported": 1, "new": 1}))
    result = gooseherd("add", "https://h/a.bam")
    assert result.stdout == "local/a.bam-2\n"
    assert "identity is weak" in result.stderr
    service.on("GET /files/local/a.bam", reply(200, {**A_BAM, "access_url": "https://h/a.bam"}))
    assert gooseherd("add", "https://h/a.bam").stdout == "local/a.bam\n"


def test_add_says_how_to_allow_a_folder(gooseherd: Any, service: Any, reply: Any, tmp_path: Path) -> None:
    (tmp_path / "a.bam").write_bytes(b"x")
    problem = {
        "type": "/problems/invalid-input",
        "title": "T",
        "detail": "not allowed",
        "field": "access_url",
    }
    service.on("POST /files", reply(422, problem, PROBLEM))
    result = gooseherd("add", "a.bam")
    assert result.exit_code == 4
    assert f"gooseherd up --allow-root {tmp_path}" in result.stderr


def test_import_tells_bad_lines_and_fails(gooseherd: Any, service: Any, reply: Any) -> None:
    counts = {"imported": 1, "new": 1, "failed": 1, "errors": [{"line": 2, "field": "dcc", "problem": "bad"}]}
    service.on("POST /files/import", reply(200, counts))
    result = gooseherd("files", "import", "-", given='{"a":1}\n{}\n')
    assert (result.exit_code, result.stdout) == (1, "1 imported, 1 of them new\n")
    assert "line 2: dcc: bad" in result.stderr
    assert service.asked[-1].body == b'{"a":1}\n{}\n'
    assert json.loads(gooseherd("files", "import", "-", "--json", given="{}").stdout) == counts


def test_lists_are_tab_separated_for_programs(gooseherd: Any, service: Any, reply: Any) -> None:
    entry = {"dcc": "d", "local_id": "f", "file_format": "bam", "size_in_bytes": 3, "filename": "f.bam"}
    service.on("GET /files", reply(200, {"files": [entry], "next": None}))
    assert gooseherd("files", "ls").stdout == "d/f\tbam\t3\tf.bam\n"
    assert json.loads(gooseherd("files", "ls", "--json").stdout) == {"files": [entry]}


def test_watch_ends_with_the_job_s_own_verdict(gooseherd: Any, service: Any, reply: Any) -> None:
    for status, code in (("completed", 0), ("failed", 1), ("cancelled", 1)):
        record = {"job_id": "j", "status": status, "reason": "tool_failed", "detail": "sort died"}
        service.on("GET /jobs/j", reply(200, record))
        result = gooseherd("jobs", "watch", "j")
        assert result.exit_code == code
        lines = gooseherd("jobs", "watch", "j", "--json").stdout.splitlines()
        assert [json.loads(line)["status"] for line in lines] == [status]


def test_cancel_too_late_is_a_failure_with_the_service_s_words(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    service.on("DELETE /jobs/j", reply(409, {"title": "T", "detail": "job j is finalizing"}, PROBLEM))
    result = gooseherd("jobs", "cancel", "http://h/jobs/j")
    assert (result.exit_code, "finalizing" in result.stderr) == (1, True)


def fleet_worker(name: str, **more: Any) -> dict[str, Any]:
    given = {"worker_id": name, "health": "healthy", "age_seconds": 3725.4, "size": "1 vCPU", **more}
    return {"job_id": None, "warm": False, "detail": "running", "diagnosis": None, **given}


def test_the_fleet_is_listed_with_jobs_and_on_demand_with_those_that_ended(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    fleet = {
        "slots": 3,
        "workers": [
            fleet_worker("w1", job_id="j1"),
            fleet_worker("w2", warm=True, age_seconds=None),
            fleet_worker("w3", age_seconds=61),
        ],
        "ended": [fleet_worker("w0", health="gone", diagnosis="it was killed", age_seconds=None)],
    }
    service.on("GET /fleet", reply(200, fleet))
    result = gooseherd("fleet", "ls")
    assert result.stdout.splitlines() == [
        "w1\thealthy\t1 h 2 min\tj1\t1 vCPU\trunning",
        "w2\thealthy\t\t(warm)\t1 vCPU\trunning",
        "w3\thealthy\t1 min 1 s\t\t1 vCPU\trunning",
    ]
    assert "3 more could be had" in result.stderr
    assert gooseherd("fleet", "ls", "--ended").stdout.splitlines()[-1].endswith("it was killed")
    assert json.loads(gooseherd("fleet", "ls", "--json").stdout) == fleet


def test_a_worker_is_stopped_and_a_busy_one_only_with_force(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("DELETE /fleet/w1", reply(200, fleet_worker("w1")))
    result = gooseherd("fleet", "stop", "w1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "asked to end" in result.stderr
    problem = {"type": "/problems/worker-in-use", "title": "T", "detail": "worker w2 works on job j2"}
    service.on("DELETE /fleet/w2", reply(409, problem, PROBLEM))
    refused = gooseherd("fleet", "stop", "w2")
    assert (refused.exit_code, "works on job j2" in refused.stderr) == (1, True)
    service.on("DELETE /fleet/w2", reply(200, fleet_worker("w2", job_id="j2")))
    forced = gooseherd("fleet", "stop", "w2", "--force")
    assert (forced.exit_code, "job j2 is tried again" in forced.stderr) == (0, True)
    assert service.asked[-1].path.endswith("force=true")
    assert json.loads(gooseherd("fleet", "stop", "w2", "--force", "--json").stdout)["job_id"] == "j2"


def test_beside_a_running_service_reconciling_is_left_to_it(
    gooseherd: Any, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "ECS_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("gooseherd.logs.configure_logging", lambda **_: None)
    (tmp_path / "state").mkdir()
    running = {"url": service.url, "pid": os.getpid(), "profile": "embedded"}
    (tmp_path / "state" / "server.json").write_text(json.dumps(running))
    result = gooseherd("reconcile", "--once")
    assert (result.exit_code, "reconciles its own workers" in result.stderr) == (2, True)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['gooseherd', '--help']\n"
        "from gooseherd.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'httpx', 'rich', 'pydantic', 'pysam', 'fastapi', 'wool', 'pymongo', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: gooseherd" in done.stdout
    assert done.stderr == "[]\n"


def test_the_module_is_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gooseherd.cli", "version", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "version" in json.loads(done.stdout)


REMOVED: dict[str, Any] = {
    "dcc": "d",
    "local_id": "f",
    "job_id": None,
    "job_withdrawn": False,
    "same_content": [],
}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "removed d/f\n"),
        ({"job_id": "j1", "job_withdrawn": True}, "removed d/f; its job j1 was cancelled\n"),
        ({"job_id": "j1", "same_content": ["d/g"]}, "removed d/f; its job j1 goes on for d/g\n"),
        ({"job_id": "j1"}, "removed d/f; its job j1 is about to end by itself\n"),
    ],
)
def test_files_rm_says_what_it_did(
    gooseherd: Any, service: Any, reply: Any, answer: dict[str, Any], words: str
) -> None:
    service.on("DELETE /files/d/f", reply(200, {**REMOVED, **answer}))
    result = gooseherd("files", "rm", "d/f")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", words)


def test_files_rm_goes_on_after_a_name_that_is_not_there(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("DELETE /files/d/f", reply(200, REMOVED))
    result = gooseherd("files", "rm", "d/x", "d/f", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout) == {"removed": [REMOVED], "missing": ["d/x"]}
    assert [asked.path for asked in service.asked] == ["/files/d/x", "/files/d/f"]


def test_files_rm_reads_all_names_before_it_removes_any(gooseherd: Any, service: Any) -> None:
    assert gooseherd("files", "rm", "d/f", "nonsense").exit_code == 2
    assert service.asked == []


JOB: dict[str, Any] = {
    "job_id": "j1",
    "status": "completed",
    "dcc": "d",
    "local_id": "f",
    "created_at": "2026-03-01T10:20:30.123456Z",
    "reason": "published",
    "attempts": [{"number": 1, "started_at": "2026-03-01T10:20:31Z", "ended_at": None}],
    "parts": [{"kind": "data", "filename": "f.bed.gz", "size": 21_300_000, "sha256": "0" * 64}],
    "progress": {"step": "", "percent": 100.0},
    "waiting": None,
    "notes": ["2 lines were dropped: no end"],
    "counts": {"records": 7, "dropped": 2},
}
MANIFEST = {
    "processor": "intervals",
    "processor_version": "4",
    "parts": [{**JOB["parts"][0], "media_type": "m", "url": "http://h/data/d/f"}],
    "contig_count": 25,
    "contigs": None,
    "counts": JOB["counts"],
    "notes": JOB["notes"],
    "tools": {"htslib": "1.21"},
}
ENTRY = {"dcc": "d", "local_id": "f", "file_format": "bed", "size_in_bytes": 21_300_000, "sidecars": []}


def test_get_tells_what_was_dropped_when_the_artifact_was_made(
    gooseherd: Any, service: Any, reply: Any, artifact: None
) -> None:
    service.on("GET /files/d/f/manifest", reply(200, MANIFEST))
    assert "note: 2 lines were dropped: no end\n" in gooseherd("get", "d/f").stderr
    output = json.loads(gooseherd("get", "d/f", "--json").stdout)
    assert (output["notes"], output["counts"]) == (JOB["notes"], JOB["counts"])


def test_jobs_show_tells_notes_counts_and_rounded_numbers(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /jobs/j1", reply(200, JOB))
    result = gooseherd("jobs", "show", "j1")
    for words in ("2 lines were dropped", "records 7, dropped 2", "21.3 MB"):
        assert words in result.stdout
    assert "21300000" not in result.stdout
    assert ".123456" not in result.stdout


def test_jobs_ls_says_why_a_job_waits(gooseherd: Any, service: Any, reply: Any) -> None:
    waiting = {"reason": "source_unavailable", "detail": "upstream answered 503", "next_try_seconds": 30.0}
    job = {**JOB, "status": "pending", "waiting": waiting}
    service.on("GET /jobs", reply(200, {"jobs": [job], "next": None}))
    row = gooseherd("jobs", "ls").stdout.rstrip("\n").split("\t")
    assert row[-1] == "waiting: upstream answered 503, next try in 30 s"
    assert row[-2] == JOB["created_at"]


def test_show_tells_entry_readiness_job_and_manifest(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /files/d/f", reply(200, ENTRY))
    service.on("GET /data/d/f/status", reply(200, {"ready": True, "size": 21_300_000, "job_id": None}))
    problem = {"type": "/problems/no-such-part", "title": "T", "detail": "it has no index"}
    service.on("GET /index/d/f/status", reply(404, problem, PROBLEM))
    service.on("GET /density/d/f/status", reply(404, problem, PROBLEM))
    service.on("GET /jobs", reply(200, {"jobs": [JOB], "next": None}))
    service.on("GET /jobs/j1", reply(200, JOB))
    service.on("GET /files/d/f/manifest", reply(200, MANIFEST))
    text = gooseherd("show", "d/f").stdout
    for words in ("d/f\n", "21.3 MB", "it has no index", "intervals 4", "http://h/data/d/f", "htslib 1.21"):
        assert words in text
    assert text.count("2 lines were dropped") == 1
    known = json.loads(gooseherd("show", "d/f", "--json").stdout)
    assert (known["file"], known["job"], known["manifest"]) == (ENTRY, JOB, MANIFEST)
    assert known["ready"]["data"]["ready"] is True
    assert known["ready"]["index"]["problem"] == "no-such-part"


def test_show_is_written_for_people(gooseherd: Any, service: Any, reply: Any) -> None:
    """What an entry nests is told line by line, and the job once."""
    urls = {"data": "http://h/artifacts/1/f.bed.gz", "index": "http://h/artifacts/2/f.bed.gz.tbi"}
    entry = {**ENTRY, "ready": True, "job": JOB, "urls": urls, "artifact_urls": urls}
    service.on("GET /files/d/f", reply(200, entry))
    for kind in ("data", "index", "density"):
        service.on(f"GET /{kind}/d/f/status", reply(200, {"ready": False}))
    service.on("GET /jobs", reply(200, {"jobs": [JOB], "next": None}))
    service.on("GET /jobs/j1", reply(200, JOB))
    text = gooseherd("show", "d/f").stdout
    assert "{" not in text
    assert "urls              data http://h/artifacts/1/f.bed.gz\n" in text
    assert text.count("http://h/artifacts/1/f.bed.gz") == 1


def test_what_failed_before_is_told_in_the_words_of_commands(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    problem = {
        "type": "/problems/already-failed",
        "title": "The artifact could not be made",
        "detail": "source_invalid: the file is empty (job j1; ask with ?retry=true to try again)",
        "job_id": "j1",
        "reason": "source_invalid",
        "reason_detail": "the file is empty",
    }
    service.on("GET /files/d/f", reply(200, ENTRY))
    service.on("GET /data/d/f", reply(422, problem, PROBLEM))
    result = gooseherd("get", "d/f")
    assert result.exit_code == 1
    assert "gooseherd: job j1 failed before: source_invalid: the file is empty\n" in result.stderr
    assert "?retry" not in result.stderr
    assert "--retry" in result.stderr


@pytest.mark.parametrize("detail", [{}, {"reason_detail": ""}, {"reason_detail": None}])
def test_what_failed_before_under_a_hidden_name_is_told_by_its_reason(
    gooseherd: Any, service: Any, reply: Any, detail: dict[str, Any]
) -> None:
    problem = {"type": "/problems/already-failed", "title": "x", "job_id": "j1", "reason": "source_invalid"}
    service.on("GET /files/d/f", reply(200, ENTRY))
    service.on("GET /data/d/f", reply(422, {**problem, **detail}, PROBLEM))
    assert "gooseherd: job j1 failed before: source_invalid\n" in gooseherd("get", "d/f").stderr


def test_show_of_what_nobody_asked_for_starts_nothing(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /files/d/f", reply(200, ENTRY))
    for kind in ("data", "index", "density"):
        service.on(f"GET /{kind}/d/f/status", reply(200, {"ready": False}))
    service.on("GET /jobs", reply(200, {"jobs": [], "next": None}))
    result = gooseherd("show", "d/f")
    assert (result.exit_code, result.stdout.count("not asked for yet")) == (0, 3)
    assert {asked.method for asked in service.asked} == {"GET"}
    assert "/data/d/f" not in {asked.path for asked in service.asked}


def test_show_of_an_unknown_file_is_refused(gooseherd: Any) -> None:
    assert gooseherd("show", "d/none").exit_code == 4


def test_what_programs_read_is_not_rounded(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /files", reply(200, {"files": [{**ENTRY, "filename": "f.bed"}], "next": None}))
    assert gooseherd("files", "ls").stdout == "d/f\tbed\t21300000\tf.bed\n"


QUEUE: dict[str, Any] = {
    "pending": 1203,
    "running": 2,
    "finalizing": 1,
    "active": 1206,
    "pending_by_priority": {"interactive": 3, "normal": 0, "batch": 1200},
    "oldest_seconds": 125.0,
    "wait_seconds": {"p50": 0.42, "p95": 61.0},
    "finalizers_active": 1,
    "finalizers_owned": [{"job_id": "j1", "seconds": 12.0}],
    "finalizer_defers_total": 0,
    "requesters_running": 2,
}


def test_queue_tells_who_waits_and_for_how_long(gooseherd: Any, service: Any, reply: Any) -> None:
    requesters = {"admin": {"pending": 1200, "running": 1}, "10.0.0.7": {"pending": 3, "running": 1}}
    service.on("GET /queue", reply(200, {**QUEUE, "requesters": requesters}))
    result = gooseherd("queue")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "pending           1203 (interactive 3, normal 0, batch 1200)",
        "running           2",
        "finalizing        1",
        "oldest waits      2 min 5 s",
        "waited lately     0.4 s (median), 1 min 1 s (95th percentile)",
        "finalizes         j1, for 12 s",
        "admin\t1200\t1",
        "10.0.0.7\t3\t1",
    ]


def test_an_empty_queue_says_nothing_of_waits_and_who_has_no_key_sees_no_requesters(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    empty = {
        **QUEUE,
        "pending": 0,
        "running": 0,
        "finalizing": 0,
        "pending_by_priority": {"interactive": 0, "normal": 0, "batch": 0},
        "oldest_seconds": None,
        "wait_seconds": {"p50": None, "p95": None},
        "finalizers_owned": [],
    }
    service.on("GET /queue", reply(200, empty), reply(200, {**empty, "requesters": {}}))
    result = gooseherd("queue")
    assert result.stdout.splitlines() == [
        "pending           0 (interactive 0, normal 0, batch 0)",
        "running           0",
        "finalizing        0",
    ]
    assert result.stderr == "with the admin key: by requester, too\n"
    assert gooseherd("queue").stderr == "nobody waits\n"


def test_queue_as_json_is_the_record(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /queue", reply(200, QUEUE))
    result = gooseherd("queue", "--json")
    assert (json.loads(result.stdout), result.stderr) == (QUEUE, "")


def test_queue_without_a_service_is_exit_code_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOSEHERD_URL", raising=False)
    result = CliRunner().invoke(app, ["queue", "--state-dir", str(tmp_path), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["detail"] == "no service is running here"


def session(**more: Any) -> dict[str, Any]:
    return {
        "session_id": "s1", "state": "ready", "owner": "admin", "size": "small", "worker_id": "w1",
        "workers_launched": 1, "workers_lost": 0, "created_at": "2026-01-01T00:00:00Z", "idle_since": None,
        "idle_seconds": 900.0, "reason": None, "detail": "", **more,
    }  # fmt: skip


def test_sessions_are_started_listed_shown_and_ended(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("POST /sessions", reply(201, session(state="starting", worker_id=None)))
    service.on("GET /sessions", reply(200, {"sessions": [session(), session(session_id="s2")]}))
    service.on("GET /sessions/s1", reply(200, session(workers_lost=1, idle_since="2026-01-01T00:00:00Z")))
    service.on("DELETE /sessions/s1", reply(202, session(state="ending", reason="explicit")))
    result = gooseherd("sessions", "start", "--size", "medium", "--idle", "60")
    assert (result.exit_code, result.stdout) == (0, "s1\n")
    assert json.loads(service.asked[-1].body) == {"size": "medium", "idle_seconds": 60.0}
    assert [line.split()[0] for line in gooseherd("sessions", "ls").stdout.splitlines()[-2:]] == ["s1", "s2"]
    shown = gooseherd("sessions", "show", "s1").stdout
    assert "a worker of it was lost" in shown
    assert "idle since" in shown
    assert "ending (explicit)" in gooseherd("sessions", "end", "http://x/sessions/s1").stderr
    assert gooseherd("sessions", "ls", "--json").stdout.startswith("{")


PENDING = {"status": "pending"}


def test_files_are_dispatched_to_a_session(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on(
        "POST /sessions/s1/dispatch",
        reply(202, PENDING | {"job_id": "j1"}),
        reply(202, PENDING | {"job_id": "j2"}),
    )
    result = gooseherd("sessions", "dispatch", "s1", "d/f", "d/g")
    assert (result.exit_code, result.stdout) == (0, "j1\nj2\n")
    assert [json.loads(asked.body) for asked in service.asked] == [{"file": "d/f"}, {"file": "d/g"}]


def test_files_that_are_there_are_named_and_have_no_job(gooseherd: Any, service: Any, reply: Any) -> None:
    answers = [reply(200, {"ready": True}), reply(202, PENDING | {"job_id": "j2"})]
    service.on("POST /sessions/s1/dispatch", *answers, *answers)
    result = gooseherd("sessions", "dispatch", "s1", "d/f", "d/g")
    assert (result.exit_code, result.stdout) == (0, "j2\n")
    assert "d/f is there already" in result.stderr
    shown = json.loads(gooseherd("sessions", "dispatch", "s1", "d/f", "d/g", "--json").stdout)
    assert ([job["job_id"] for job in shown["jobs"]], shown["ready"]) == (["j2"], ["d/f"])


def test_a_session_that_is_not_there_is_said(gooseherd: Any, service: Any) -> None:
    result = gooseherd("sessions", "show", "none")
    assert result.exit_code != 0
    assert "no /sessions/none" in result.stderr
