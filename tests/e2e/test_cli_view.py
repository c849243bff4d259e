"""From a folder to a page with one command, with a service that runs already and without one."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import GooseherdClient

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
        assert session["locus"] == "chr1:1-1000"
        with GooseherdClient(service) as client:
            told_python = client.tracks(told["files"], viewer="python", at="chr1:1-1000")
        compile(told_python["text"], "told", "exec")
        assert "pysam.TabixFile" in told_python["text"]
        process.send_signal(signal.SIGINT)
        log = process.stderr.read().decode()
        assert process.wait(60) == 130, log
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
