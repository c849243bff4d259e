"""From a folder to a page with one command, with a service that runs already and without one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import GooseherdClient
from gooseherd.client.local_service import find_local

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BED = "chr1\t500\t900\tb\nchr1\t100\t400\ta\n"


def folder_of(home: Path) -> Path:
    folder = home / "files" / "run 1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peaks.bed").write_text(BED)
    (folder / "genes.gff3").write_text("chr1\tx\tgene\t5\t90\t.\t+\t.\tID=g\n")
    (folder / "notes.txt").write_text("no genome file\n")
    return folder


def fetched(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "text/html,*/*"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        body: bytes = answer.read()
    return body


@contextlib.contextmanager
def viewing(user: Any, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, and after the block whatever it may have left."""
    command = user.command("view", *arguments)
    with subprocess.Popen(
        command, cwd=user.home, env=user.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def page_of(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read().decode() if process.stderr else ""
    return json.loads(line)


def processes_of(user: Any) -> list[str]:
    """Command lines that name the user's state folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(user.state) in line:
                found.append(line)
    return found


def test_a_service_is_started_for_a_folder_and_ends_with_the_command(stranger: Any) -> None:
    folder = folder_of(stranger.home)
    command = stranger.command("view", str(folder), "--at", "chr1:1-1000", "--json")
    with subprocess.Popen(
        command, cwd=stranger.home, env=stranger.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = json.loads(process.stdout.readline())
        assert sorted(told["files"]) == ["local/genes.gff3", "local/peaks.bed"]
        url = urllib.parse.urlsplit(told["url"])
        query = urllib.parse.parse_qs(url.query)
        assert query == {"files": [",".join(told["files"])], "at": ["chr1:1-1000"]}
        service = f"{url.scheme}://{url.netloc}"
        assert b"<html" in fetched(told["url"]).lower()
        # Prepared without anybody asking for it.
        for name in told["files"]:
            assert json.loads(fetched(f"{service}/data/{name}/status"))["ready"] or fetched(
                f"{service}/data/{name}?wait=50"
            )
        session = json.loads(fetched(f"{service}/tracks/igv.json?{url.query}"))
        assert session["locus"] == "chr1:1-900"  # where the last record ends: more of it is not known
        with GooseherdClient(service) as client:
            told_python = client.tracks(told["files"], viewer="python", at="chr1:1-1000")
        compile(told_python["text"], "told", "exec")
        assert "pysam.TabixFile" in told_python["text"]
        process.send_signal(signal.SIGINT)
        log = process.stderr.read().decode()
        assert process.wait(100) == 130, log
    assert "notes.txt: no known format" in log
    with pytest.raises(urllib.error.URLError):
        fetched(told["url"])


def test_a_service_that_runs_is_used_and_stays(user: Any) -> None:
    folder = folder_of(user.home)
    told = user.run("view", str(folder / "peaks.bed"), "--json")
    assert told.returncode == 0, told.stderr.decode()
    page = json.loads(told.stdout)
    assert page["files"] == ["local/peaks.bed"]
    assert b"<html" in fetched(page["url"]).lower()


def test_what_cannot_be_shown_is_said(user: Any, stranger: Any) -> None:
    assert user.run("view", "nothing.bed").returncode == 2
    assert b"no such file" in stranger.run("view", "nothing.bed").stderr
    done = user.run("view", "files", "--at", "chr1:9-3")
    assert done.returncode == 2
    assert b"positions start at 1" in done.stderr
    elsewhere = stranger.home / "elsewhere.bed"
    elsewhere.write_text(BED)
    refused = user.run("view", str(elsewhere))
    assert refused.returncode == 4
    assert b"--allow-root" in refused.stderr


def test_two_commands_at_once_have_one_service(stranger: Any) -> None:
    folder = str(folder_of(stranger.home))
    with viewing(stranger, folder, "--json") as one, viewing(stranger, folder, "--json") as other:
        pages = [page_of(one), page_of(other)]
        assert pages[0]["url"] == pages[1]["url"]
        found = find_local(stranger.state)
        assert found is not None
        starter, guest = (one, other) if parent_of(found.pid) == one.pid else (other, one)
        assert guest.wait(100) == 0
        assert starter.poll() is None
        starter.send_signal(signal.SIGINT)
        assert starter.wait(100) == 130
    assert processes_of(stranger) == []


def parent_of(pid: int) -> int:
    """As proc(5) has it: the second field behind the name, which may have anything in it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("moment", ["it starts", "files are made"])
def test_ctrl_c_leaves_nothing(stranger: Any, moment: str) -> None:
    with viewing(stranger, str(folder_of(stranger.home)), "--json") as process:
        assert process.stderr is not None
        assert b"starting a service" in process.stderr.readline()
        if moment == "files are made":
            page_of(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130
        assert b"Traceback" not in process.stderr.read()
    assert processes_of(stranger) == []


def test_ctrl_c_ends_what_is_being_made_too(stranger: Any) -> None:
    """A worker outlives its service, for the next one to find; whoever ends `view` wants none."""
    asked, over = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            asked.set()
            over.wait(120)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with viewing(stranger, f"http://127.0.0.1:{server.server_port}/x.bed", "--json") as process:
                page_of(process)
                assert asked.wait(100)
                process.send_signal(signal.SIGINT)
                assert process.wait(100) == 130
            assert processes_of(stranger) == []
        finally:
            over.set()
            server.shutdown()


def test_the_command_ends_with_its_service(stranger: Any) -> None:
    with viewing(stranger, str(folder_of(stranger.home)), "--json") as process:
        page_of(process)
        assert process.stderr is not None
        while b"Ctrl-C ends it" not in process.stderr.readline():
            assert process.poll() is None
        found = find_local(stranger.state)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        assert process.wait(100) == 3
        assert b"the service has ended" in process.stderr.read()


def test_files_that_links_lead_to_are_shown_under_the_links_names(stranger: Any) -> None:
    folder = stranger.home / "links"
    folder.mkdir()
    (folder / "peaks.bed").symlink_to(folder_of(stranger.home) / "peaks.bed")
    (stranger.home / "store").mkdir()
    (stranger.home / "store" / "5eb6.bed").write_text(BED)
    (folder / "Größe 1.bed").symlink_to("../store/5eb6.bed")
    with viewing(stranger, str(folder), "--json") as process:
        page = page_of(process)
        assert sorted(page["files"]) == ["local/Gr-e-1.bed", "local/peaks.bed"]
        service = page["url"].partition("/?")[0]
        for name in page["files"]:
            assert fetched(f"{service}/data/{name}?wait=50")
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130


def test_of_many_files_those_that_are_drawn_come_first(user: Any) -> None:
    folder = user.home / "files" / "many"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.csv").write_text("sample,age\na,1\n")
    (folder / "z.bed").write_text(BED)
    told = json.loads(user.run("view", str(folder), "--json").stdout)
    assert told["files"][0] == "local/z.bed"
    assert (len(told["files"]), told["more"]) == (10, 3)


def test_a_place_that_no_file_has_is_said(user: Any) -> None:
    peaks = str(folder_of(user.home) / "peaks.bed")
    there = user.run("view", peaks, "--at", "chr1:1-9", "--no-browser")
    assert b"no file has" not in there.stderr
    done = user.run("view", peaks, "--at", "chr9:1-9", "--no-browser")
    assert done.returncode == 0
    assert b"no file has a contig 'chr9'; there are: chr1" in done.stderr


def test_the_port_can_be_the_same_each_time(user: Any, stranger: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = stranger.run("view", str(folder_of(stranger.home)), "--port", str(port))
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert b"in use" in refused.stderr
    with viewing(stranger, str(folder_of(stranger.home)), "--port", str(port), "--json") as process:
        assert urllib.parse.urlsplit(page_of(process)["url"]).port == port
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130
    other = user.run("view", str(folder_of(user.home) / "peaks.bed"), "--port", "1", "--no-browser")
    assert b"a service runs here already, on another port than 1: http://" in other.stderr


def test_who_came_by_ssh_learns_how_to_reach_the_page(user: Any) -> None:
    peaks = str(folder_of(user.home) / "peaks.bed")
    environ = {"SSH_CONNECTION": "192.0.2.1 5 192.0.2.2 22"}
    done = user.run("view", peaks, "--no-browser", environ=environ)
    port = urllib.parse.urlsplit(done.stdout.decode().strip()).port
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in done.stderr.decode()
    assert b"ssh " not in user.run("view", peaks, "--no-browser").stderr


def test_nothing_is_started_for_nothing(stranger: Any) -> None:
    (stranger.home / "empty").mkdir()
    done = stranger.run("view", "empty")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"there is no file to add" in done.stderr
    assert not stranger.state.exists()
