"""The commands of the documentation are run: blocks marked `<!-- run -->`, in order, in a home of their own.

Of the pages in OPERATED every `gooseherd` line of an indented block is run, and the handbook's inline
commands, on one service with two files. A block of commands of other pages, fenced or indented, has to be on
a list below, with the reason why it is not run here. tests/unit/test_docs_cli_words.py gives every mention of
a command to the parser.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs"
READINGS = (
    ("tutorial.md", "viewers-gosling.md", "viewers-igv.md", "viewers-jbrowse.md", "viewers-ucsc.md"),
    ("certificates.md",),
    ("hosts.md",),
)
"""Pages with blocks that are run; within one reading each goes on from where the page before ended."""
PICTURE = "a drawing, no commands"
ELSEWHERE = "for a machine with root, or a cluster, of the reader's"
NOT_RUN = {
    "architecture.md": (1, PICTURE),
    "aws.md": (4, "AWS; deploying is tried on the local cloud by tests/integration"),
    "hosts.md": (3, f"{ELSEWHERE}; tests/integration/fleet/test_host_fleet.py starts such workers"),
    "http-api.md": (1, "uploads, which tests/integration/api sends"),
    "images.md": (5, "images, which .ci/run builds where it can, and scanners that need the network"),
    "installation.md": (2, "Debian packages by root; tests/packaging runs them on bare machines"),
    "life-of-a-job.md": (1, PICTURE),
    "local-cloud.md": (
        4,
        "runs until Ctrl-C; tests/e2e/test_cli_up_devcloud.py and test_cli_devcloud.py run it",
    ),
    "security.md": (1, PICTURE),
    "stores.md": (1, "tests/integration/test_store_commands.py exports and imports"),
    "tutorial.md": (1, "opens a browser until Ctrl-C; tests/e2e/test_cli_view.py runs it"),
}
"""Page: how many of its blocks are not run, and why not."""
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>run|service) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:    .*\n)+)")
TYPED = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:gooseherd|\./dev|python|pip|samtools|export|curl|docker|aws|tar) "
)
OPERATED = ("get.md", "access.md", "usage.md", "retention.md", "backup.md", "handbook.md")
NOT_OPERATED = {
    "smoke": "runs for minutes; tests/e2e/test_cli_trials.py runs it",
    "reap": "refused where a service runs; tests/integration/test_reap_command.py runs it",
    "store backup": "names no file there; tests/integration/test_store_commands.py runs it",
}
INDENTED_NOT_RUN = {
    "commands.md": (2, "lists of commands, for the parser"),
    "correctness.md": (3, "campaigns of minutes and hours; deploy/long.py runs them"),
    "http-api.md": (2, "other programs; tests/integration/test_sessions.py has sessions"),
    "performance.md": (13, "benchmarks; tests/unit/test_long_runs.py has their names"),
    "python.md": (1, "installs"),
    "security.md": (1, "AWS"),
    "tracing.md": (1, "installs, and a collector; tests/integration/signals/test_traces.py has one"),
    "viewers.md": (1, "other programs; tests/browser has them on local files"),
}


@dataclass(frozen=True)
class Block:
    page: str
    mark: str
    commands: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Blocks of commands: of a shell, or of no language."""
    for found in FENCE.finditer(page.read_text()):
        if found["language"] in {"", "sh", "console"}:
            lines = tuple(found["body"].splitlines())
            if found["language"] == "console":
                lines = tuple(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
            yield Block(page.name, found["mark"] or "", lines)


def indented(page: Path) -> Iterator[str]:
    """Indented blocks that begin with a command."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for block in INDENTED.findall(text):
        if TYPED.match(block.strip()):
            yield block


def operated(page: Path) -> Iterator[str]:
    """Lines that begin with `gooseherd` or `tar`, without what is said of them beside."""
    for block in indented(page):
        for line in block.splitlines():
            words = re.sub(r"\s(?:#.*|  +\S.*)$", "", line.strip().removeprefix("$ "))
            if words.startswith(("gooseherd ", "tar ")):
                yield words
    if page.name == "handbook.md":
        yield from re.findall(r"`(gooseherd [^`]+)`", page.read_text())


class Reader:
    """Somebody who types what the pages say."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.service: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        (home / "bin").mkdir()
        (home / "bin/gooseherd").write_text(f'#!/bin/sh\nexec {sys.executable} -m gooseherd.cli "$@"\n')
        (home / "bin/gooseherd").chmod(0o755)
        self.environ = {
            "PATH": f"{home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "API_PORT": str(self.port),
        }

    def here(self, text: str) -> str:
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def run(self, block: Block) -> str:
        done = subprocess.run(
            ["sh", "-euc", self.here("\n".join(block.commands))],
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{block.page}: {block.commands}\n{done.stdout}"
        return done.stdout

    def serve(self, block: Block) -> None:
        (command,) = block.commands
        with (self.home / "log").open("wb") as log:
            self.service = subprocess.Popen(
                ["sh", "-euc", f"exec {command}"],
                cwd=self.home,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except OSError:
                assert time.monotonic() < deadline, (self.home / "log").read_text()
                time.sleep(0.1)

    def leave(self) -> None:
        if self.service is not None:
            self.service.send_signal(signal.SIGTERM)
            self.service.wait(60)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


@pytest.mark.parametrize("pages", READINGS, ids=lambda pages: pages[0])
def test_what_the_pages_say_to_type_works(reader: Reader, pages: tuple[str, ...]) -> None:
    outputs = []
    for page in pages:
        for block in blocks(DOCS / page):
            if block.mark == "service":
                reader.serve(block)
            elif block.mark == "run":
                outputs.append(reader.run(block))
    everything = "\n".join(outputs)
    assert outputs
    if pages[0] == "tutorial.md":
        for expected in ("chr1\t100\t900\tfirst", "peaks.bed.gz", "useOneFile on"):
            assert expected in everything


def test_a_block_of_commands_is_run_or_on_the_list_of_those_that_are_not() -> None:
    unmarked = Counter(block.page for page in DOCS.glob("*.md") for block in blocks(page) if not block.mark)
    listed = {page: count for page, (count, _) in NOT_RUN.items()}
    assert dict(unmarked) == listed, (
        "mark a new block with <!-- run -->, or count it in NOT_RUN with a reason"
    )
    marked = {block.page for page in DOCS.glob("*.md") for block in blocks(page) if block.mark}
    assert marked == {page for pages in READINGS for page in pages}


def test_an_indented_block_of_commands_is_run_or_on_the_list_of_those_that_are_not() -> None:
    pages = [page for page in DOCS.glob("*.md") if page.name not in {*OPERATED, "cli.md"}]
    found = Counter(page.name for page in pages for _ in indented(page))
    assert dict(found) == {page: count for page, (count, _) in INDENTED_NOT_RUN.items()}


@pytest.mark.timeout(400)
def test_what_pages_for_operators_say_to_type_works_on_a_service_with_two_files(reader: Reader) -> None:
    for number in (1, 2):
        (reader.home / f"4dnfi{number}.bed").write_text(f"chr1\t{number}\t900\tfirst\nchr1\t10\t20\tlast\n")
    reader.serve(Block("", "service", ("gooseherd up",)))

    def run(line: str) -> str:
        return reader.run(Block("operators", "run", (line,)))

    run("gooseherd add 4dnfi1.bed 4dnfi2.bed --dcc 4dn --wait")
    named = {entry["local_id"] for entry in json.loads(run("gooseherd files ls --json"))["files"]}
    meant = {
        "4dn/4dnfi1": f"4dn/{min(named)}",
        "DCC/ID": f"4dn/{min(named)}",
        "jobs show ID": f"jobs show {json.loads(run('gooseherd jobs ls --json'))['jobs'][0]['job_id']}",
        # Of a job that has ended there is nothing to cancel.
        "jobs cancel ID": "jobs ls",
    }
    ran = 0
    for page in OPERATED:
        for number, typed in enumerate(dict.fromkeys(operated(DOCS / page))):
            if any(typed.startswith(f"gooseherd {words}") for words in NOT_OPERATED):
                continue
            line = functools.reduce(lambda text, pair: text.replace(*pair), meant.items(), typed)
            # What is there is not replaced by a second `get`.
            folder = f"{page}-{number}" if " get " in line else page
            output = run(f"mkdir -p {folder} && cd {folder} && {line}")
            ran += 1
            if "keys create" in line and "f9c2c3e99700" not in meant:
                keys = json.loads(run("gooseherd keys ls --json"))["keys"]
                meant["f9c2c3e99700"] = keys[0]["key_id"]
            assert "Traceback" not in output
    assert ran > 20
