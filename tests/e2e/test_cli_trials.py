"""smoke, demo and doctor on this machine, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from gooseherd import demo as demo_module
from gooseherd.client import GooseherdClient
from gooseherd.domain.formats import ALL
from gooseherd.trial.private_service import running_service

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]


def smoke(user: Any, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        user.command("smoke", "--json", *arguments),
        env=user.environ,
        cwd=user.home,
        capture_output=True,
        timeout=350,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


def test_smoke_takes_every_format_end_to_end(stranger: Any, tmp_path: Path) -> None:
    stranger.environ["TMPDIR"] = str(tmp_path)
    code, report, words = smoke(stranger)
    assert (code, report["ok"], report["profile"], words) == (0, True, "embedded", ""), report
    assert {one["format"] for one in report["formats"]} == {one.name for one in ALL}
    assert all(set(one) == {"format", "ok", "seconds", "detail"} for one in report["formats"])
    assert not list(tmp_path.glob("gooseherd-*"))


def test_smoke_on_a_local_cloud_goes_through_tasks_and_leaves_nothing(stranger: Any) -> None:
    code, report, _ = smoke(stranger, "--devcloud")
    assert (code, report["ok"], report["profile"]) == (0, True, "devcloud"), report
    assert report["left_over"] == {"tasks": 0, "processes": 0, "staging_objects": 0}
    assert {one["format"] for one in report["formats"]} == {one.name for one in ALL}


def test_smoke_tells_which_format_failed(user: Any, tmp_path: Path) -> None:
    """The running service may not read the folder the inputs are made in."""
    url = json.loads((user.state / "server.json").read_text())["url"]
    code, report, _ = smoke(user, "--url", url, "--inputs", str(tmp_path))
    assert (code, report["ok"]) == (1, False)
    assert all(not one["ok"] and "allowed folders" in one["detail"] for one in report["formats"])


def entries_of(user: Any, dcc: str) -> list[Any]:
    return list(user.json("files", "ls", "--dcc", dcc)["files"])


def test_smoke_takes_its_entries_out_again(user: Any, tmp_path: Path) -> None:
    """Also those of formats that failed: the service may not read where the second run's inputs are."""
    url = json.loads((user.state / "server.json").read_text())["url"]
    for inputs, code in ((user.home / "files", 0), (tmp_path, 1)):
        arguments = ("--url", url, "--inputs", str(inputs), "--format", "bed", "--format", "csv")
        assert smoke(user, *arguments)[0] == code
        assert entries_of(user, "smoke") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_smoke_takes_its_entries_out_too(user: Any, number: signal.Signals) -> None:
    url = json.loads((user.state / "server.json").read_text())["url"]
    with subprocess.Popen(
        user.command("smoke", "--url", url, "--inputs", str(user.home / "files")),
        env=user.environ,
        cwd=user.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        while not entries_of(user, "smoke"):
            assert running.poll() is None
        running.send_signal(number)
        assert running.wait(60) == 130
    assert entries_of(user, "smoke") == []


def test_the_demo_ends_with_its_counts_and_keeps_serving_until_interrupted(
    stranger: Any, demo_data: Path
) -> None:
    stranger.environ["GOOSEHERD_DEMO_DATA"] = str(demo_data)
    once = stranger.run("demo", "--once")
    assert once.returncode == 0, once.stderr.decode()
    last = once.stdout.decode().splitlines()[-1]
    assert re.fullmatch(r"demo: ok \(2 formats, 2 files, [0-9.]+ s\)", last)

    with subprocess.Popen(
        stranger.command("demo"),
        env={**stranger.environ, "COLUMNS": "200"},
        cwd=stranger.home,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line.decode())
            if "until Ctrl-C" in lines[-1]:
                break
        os.killpg(demo.pid, signal.SIGINT)
        rest = demo.stdout.read().decode()
        assert (demo.wait(60), "demo: ok" in rest) == (0, True), lines

    with (
        running_service(state_dir=stranger.state, allow_roots=(), environ=stranger.environ) as service,
        GooseherdClient(service.url) as client,
    ):
        assert not list(client.files())
    result = "".join(lines)
    assert "cached" in result
    assert "curl -s -D - -o /dev/null -r 0-65535 http://127.0.0.1:" in result
    assert not (stranger.state / "server.json").exists()


def test_the_demos_real_files_hold_the_records_that_were_counted(stranger: Any) -> None:
    data = os.environ.get("GOOSEHERD_DEMO_DATA")
    if not data:
        pytest.skip("without the demo's files, which ./dev test fetches (GOOSEHERD_DEMO_DATA)")
    stranger.environ["GOOSEHERD_DEMO_DATA"] = data
    done = stranger.run("demo", "--once")
    assert done.returncode == 0, done.stderr.decode()
    assert b"demo: ok (12 formats, 14 files, " in done.stdout


def test_a_demo_whose_port_is_taken_while_it_starts_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as faster:
        taken = faster.getsockname()[1]
        answers = [taken, 0]
        monkeypatch.setattr(demo_module, "_free", lambda _: answers.pop(0))
        with demo_module._service(tmp_path / "state", tmp_path, None) as service:
            assert httpx.URL(service.url).port not in {taken, None}
    assert not answers


def test_a_demo_whose_check_fails_says_which(stranger: Any, demo_data: Path) -> None:
    manifest = json.loads((demo_data / "demo-data.json").read_text())
    manifest["files"][0]["records"] = 7
    (demo_data / "demo-data.json").write_text(json.dumps(manifest))
    stranger.environ["GOOSEHERD_DEMO_DATA"] = str(demo_data)
    done = stranger.run("demo", "--once")
    assert done.returncode == 1
    assert b"demo: failed: peaks: a scan of the source finds 2 records, 7 were counted" in done.stderr
    assert b"demo: ok" not in done.stdout


def test_a_demo_whose_data_cannot_be_fetched_says_what_is_missing(stranger: Any, tmp_path: Path) -> None:
    stranger.environ |= {"PIP_INDEX_URL": "http://127.0.0.1:9/", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    stranger.environ |= {"PIP_CONFIG_FILE": "/dev/null", "PIP_EXTRA_INDEX_URL": ""}
    done = stranger.run("demo", "--once")
    assert done.returncode == 3
    assert b"could not download pyranges-" in done.stderr
    assert b"GOOSEHERD_DEMO_DATA" in done.stderr


def test_a_demo_in_a_folder_without_data_says_how_to_get_it(stranger: Any, tmp_path: Path) -> None:
    stranger.environ["GOOSEHERD_DEMO_DATA"] = str(tmp_path)
    done = stranger.run("demo", "--once")
    assert done.returncode == 2
    assert b"python -m gooseherd.trial.demodata" in done.stderr


@pytest.fixture
def demo_data(tmp_path: Path) -> Path:
    """A demo of two small files, in the shape of the real one."""
    import hashlib

    folder = tmp_path / "data"
    folder.mkdir()
    contents = {"peaks.bed": b"chr2\t5\t9\nchr1\t50\t60\nchr1\t10\t20\n", "table.tsv": b"a\tb\n1\t2\n"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files: list[dict[str, Any]] = [
        {"id": "peaks", "file": "peaks.bed", "format": "bed", "region": "chr1:1-100", "records": 2},
        {"id": "table", "file": "table.tsv", "format": "tsv", "region": None, "records": None},
    ]
    for entry in files:
        entry["md5"] = hashlib.md5(contents[entry["file"]]).hexdigest()
        entry["description"] = "made for a test"
    (folder / "demo-data.json").write_text(json.dumps({"files": files}))
    return folder


def test_doctor_finds_this_machine_fit(user: Any, stranger: Any) -> None:
    report = stranger.json("doctor")
    assert report["ok"] is True
    names = {check["name"] for check in report["checks"]}
    assert {"python", "samtools", "bcftools", "tabix", "bgzip", "store", "disk"} <= names
    busy = user.run("doctor", "--json")
    assert busy.returncode == 0


def test_doctor_names_what_is_missing_and_where_it_comes_from(stranger: Any, tmp_path: Path) -> None:
    done = stranger.run("doctor", environ={"PATH": str(tmp_path)})
    assert done.returncode == 3
    assert b"apt-get install samtools" in done.stderr
    database = stranger.run(
        "doctor", "--json", environ={"DATABASE_URL": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"}
    )
    assert database.returncode == 3
    failed = [c["name"] for c in json.loads(database.stdout)["checks"] if c["state"] == "missing"]
    assert failed == ["store"]


def test_a_setting_that_cannot_be_used_is_named(stranger: Any) -> None:
    done = stranger.run("up", environ={"API_PORT": "many"})
    assert (done.returncode, b"API_PORT" in done.stderr) == (2, True)
