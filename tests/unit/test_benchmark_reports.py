"""A benchmark that is told to end says what it has measured so far."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.benchmark_modules import BENCHMARKS

MEASURES = {
    "waits": """
print("begun", file=sys.stderr, flush=True)
time.sleep(60)
""",
    "computes in a thread of its loop": """
async def main():
    thread = asyncio.create_task(asyncio.to_thread(time.sleep, 0.3))
    print("begun", file=sys.stderr, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
""",
    "waits for a program": """
child = subprocess.Popen(["sleep", "60"])
try:
    print("begun", file=sys.stderr, flush=True)
    child.wait()
finally:
    child.kill()
    child.wait()
    print("cleaned up", file=sys.stderr, flush=True)
""",
    "ends": """
print("begun", file=sys.stderr, flush=True)
print_whole()
time.sleep(60)
""",
    "fails": """
print("begun", file=sys.stderr, flush=True)
1 / 0
""",
    "forks": """
here, there = os.pipe()
child = os.fork()
if not child:
    os.write(there, b"x")
    time.sleep(60)
    os._exit(1)
os.read(here, 1)
os.kill(child, signal.SIGTERM)
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
print_whole()
time.sleep(60)
""",
}
HEAD = f"""
import asyncio, os, signal, subprocess, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
from _report import reporting
rows = []
with reporting(lambda: {{"rows": rows}}) as print_whole:
    rows.append({{"ms": 1.5}})
"""


@contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told_to_end(process: subprocess.Popen[str], number: int) -> tuple[int, Any, str]:
    process.send_signal(number)
    out, words = process.communicate(timeout=60)
    return process.returncode, json.loads(out), words


def measuring(how: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in MEASURES[how].strip().splitlines())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["waits", "computes in a thread of its loop", "waits for a program"])
def test_what_was_measured_is_printed_and_the_block_is_left_in_order(how: str, number: int) -> None:
    with running("-c", measuring(how)) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        code, report, words = told_to_end(process, number)
    assert (code, report) == (128 + number, {"rows": [{"ms": 1.5}], "complete": False})
    assert ("cleaned up" in words) == (how == "waits for a program")


def test_a_whole_report_says_so_and_is_printed_once() -> None:
    for how in ("ends", "forks"):
        with running("-c", measuring(how)) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert json.loads(first) == {"rows": [{"ms": 1.5}], "complete": True}
            process.terminate()
            out, _ = process.communicate(timeout=60)
            assert (process.returncode, out) == (143, "")


def test_one_that_fails_prints_what_there_is() -> None:
    with running("-c", measuring("fails")) as process:
        out, words = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["complete"]) == (1, False)
    assert "ZeroDivisionError" in words


def test_the_stores_benchmark_is_cut_off_with_its_rows(tmp_path: Path) -> None:
    options = [
        "--stores",
        "sqlite",
        "--jobs",
        "1e2,1e9",
        "--entries",
        "",
        "--processes",
        "1",
        "--seconds",
        "0.2",
    ]
    argv = [str(BENCHMARKS / "store.py"), *options, "--json", "--folder", str(tmp_path)]
    with running(*argv) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("sqlite"), first
        code, report, _ = told_to_end(process, signal.SIGTERM)
    assert (code, report["complete"]) == (143, False)
    assert report["rows"][0]["operation"] in first
    assert report["sync_ms"] > 0
    assert list(tmp_path.iterdir()) == []


def test_every_benchmark_prints_its_report_so() -> None:
    line_by_line = {"attacks"}
    """Each row is printed when it is known."""
    found = {
        path.stem: len(
            re.findall(r"^ *(?:print_whole|with reporting)\(|^ +reporting\(", path.read_text(), re.MULTILINE)
        )
        for path in BENCHMARKS.glob("[!_]*.py")
    }
    assert len(found) > 10
    assert {name for name, count in found.items() if count < 2} == line_by_line
