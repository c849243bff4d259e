"""How soon `gooseherd up` answers and what it takes: on an empty state, and with a catalog of 100,000.

    python benchmarks/startup.py [--rounds N] [--entries N]

Each round starts the service anew, on SQLite in a state folder of its own. `ready_s` goes from the start of
the process to a 200 of /readyz; memory is the resident set of the service and of all its children, after
that and after the requests; `cpu_s` is what the service took until it was ready. Prints one JSON document
with medians; the exit code is 1 when an aim is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from _report import reporting

from gooseherd.domain import formats
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.sqlite import open_sqlite

AIMS = {
    "empty": {"ready_s": 1.2, "memory_mb": 110.0, "ports": 1},
    "full": {"ready_s": 1.2, "memory_mb": 130.0, "ports": 1, "list_p95_ms": 15.0},
}
"""`full` is of 100,000 entries; `memory_mb` of the service after its requests."""
COLLECTIONS = ("4dn", "encode", "gtex")
OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")
REQUESTS = 300


def entry(number: int) -> SourceFile:
    return SourceFile(
        Dcc(COLLECTIONS[number % 3]), LocalId(f"ENCFF{number:07}AB"),
        f"sample_{number:07}.rep{number % 7}.bed.gz", formats.BED,
        f"https://example.org/files/{number}", md5=f"{number:032x}", size_in_bytes=number,
    )  # fmt: skip


async def fill(path: Path, count: int) -> float:
    """Entries a second."""
    database = await open_sqlite(path, setting="GOOSEHERD_STATE_DIR")
    began = time.perf_counter()
    for start in range(0, count, 5000):
        await SqlFiles(database).put([entry(n) for n in range(start, min(start + 5000, count))])
    seconds = time.perf_counter() - began
    await database.close()
    return count / seconds


@contextmanager
def service(state: Path) -> Iterator[tuple[int, str, float]]:
    """Process id, URL, and seconds until /readyz said 200."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("gooseherd"),
            "up",
            "--json",
            "--port",
            "0",
            "--state-dir",
            str(state),
        ],
        cwd=state.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        httpx.get(f"{url}/readyz", trust_env=False, timeout=30).raise_for_status()
        yield process.pid, url, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def memory_mb(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ports(pid: int) -> int:
    """TCP ports that the service and its children listen on."""
    sockets = set()
    for one in family(pid):
        for link in Path(f"/proc/{one}/fd").iterdir():
            name = os.readlink(link) if link.is_symlink() else ""  # noqa: PTH115
            if name.startswith("socket:["):
                sockets.add(name[8:-1])
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return sum(fields[3] == "0A" and fields[9] in sockets for fields in lines)


def list_times(url: str) -> list[float]:
    """Milliseconds of GET /files?limit=50, one page after the other and searches between them."""
    took, after = [], None
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        for number in range(REQUESTS):
            options: dict[str, Any] = {"limit": 50}
            if number % 3 == 1:
                options["q"] = f"sample_{number * 37:07}"[:11]
            elif after is not None:
                options["after"] = after
            began = time.perf_counter()
            answer = http.get("/files", params=options)
            took.append((time.perf_counter() - began) * 1000)
            answer.raise_for_status()
            if number % 3 != 1:
                after = answer.json().get("next")
    return took


def measure(state: Path) -> dict[str, float]:
    with service(state) as (pid, url, ready):
        row = {"ready_s": ready, "cpu_s": cpu_seconds(pid), "memory_at_start_mb": memory_mb(pid)}
        took = sorted(list_times(url))
        row |= {"list_p50_ms": took[len(took) // 2], "list_p95_ms": took[len(took) * 95 // 100]}
        return row | {"memory_mb": memory_mb(pid), "ports": float(ports(pid))}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=100_000)
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {"empty": [], "full": []}
    about: dict[str, Any] = {"entries": options.entries}

    def rows() -> dict[str, dict[str, float]]:
        return {name: medians(measured) for name, measured in rounds.items() if measured}

    def missed() -> list[str]:
        found = rows()
        return [
            f"{name}.{what}"
            for name, aims in AIMS.items()
            if name in found
            for what, most in aims.items()
            if found[name][what] > most
        ]

    def report() -> dict[str, Any]:
        machine = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
        return {**about, **rows(), "aims": AIMS, "missed": missed(), **machine}

    with reporting(report) as print_whole:
        with tempfile.TemporaryDirectory() as folder:
            full = Path(folder) / "full"
            about["imported_per_s"] = round(asyncio.run(fill(full / "gooseherd.db", options.entries)))
            full.chmod(0o700)
            for number in range(options.rounds):
                rounds["empty"].append(measure(Path(folder) / f"empty-{number}"))
            for _ in range(options.rounds):
                rounds["full"].append(measure(full))
        print_whole()
    return 1 if missed() else 0


if __name__ == "__main__":
    sys.exit(main())
