"""What held requests cost: the service's memory and CPU time, and warm ranges read beside them.

    python benchmarks/holds.py [--held N] [--files N] [--seconds S]

One service on SQLite. N viewers ask for cold files whose source never sends its last byte, each on a
connection of its own, and follow every redirect. Three phases of S seconds, with the same reads of 64 KiB
of a warm file by one client, one after the other: `none` held; `first`, right after the viewers came, with
their short holds; `long`, when each is held for `API_WAIT_MAX_SECONDS`. Then the service is stopped: every
held request must have been redirected. Prints one JSON document; the exit code is 1 when an aim is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import os
import resource
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from _report import reporting

from gooseherd.api.holding import SHORT_HOLDS
from gooseherd.trial.private_service import running_service

AIMS = {"kb_for_one_held": 100.0, "p50_ratio": 1.5}
"""`p50_ratio` of the phase `long` to the phase `none`."""
SPAN = 64 << 10
HEADERS = "Sec-Fetch-Mode: cors\r\nOrigin: http://portal.example.org\r\n"


class Origin:
    """Announces any file, and never sends more than its first byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.recv(8192)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "1"\r\n\r\nc')
            self._open.append(connection)


# -- the viewers: a process of their own ---------------------------------------------------


async def _view(host: str, port: int, path: str, seen: Counter[int], release: asyncio.Event) -> None:
    """Ask, and follow redirects, until the service ends the connection or `release` is set."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while True:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{HEADERS}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            status = int(head.split(" ", 2)[1])
            seen[status] += 1
            if status != 307 or release.is_set():
                return
            path = head.partition("\r\nlocation: ")[2].partition("\r\n")[0]
    except (OSError, EOFError):
        seen[0] += 1
    finally:
        writer.close()


async def _views(host: str, port: int, paths: list[str], pipe: Connection) -> None:
    seen: Counter[int] = Counter()
    release = asyncio.Event()
    viewers = []
    for number, path in enumerate(paths):
        viewers.append(asyncio.create_task(_view(host, port, path, seen, release)))
        if number % 50 == 49:
            await asyncio.sleep(0.02)
    pipe.send("begun")
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, pipe.recv)
    release.set()
    before = dict(seen)
    pipe.send("released")
    began = time.perf_counter()
    await asyncio.gather(*viewers)
    at_the_stop = {str(status): seen[status] - before.get(status, 0) for status in seen}
    pipe.send({"before": before, "at_the_stop": at_the_stop, "stop_s": time.perf_counter() - began})


def views(host: str, port: int, paths: list[str], pipe: Connection) -> None:
    _open_files(len(paths) + 100)
    asyncio.run(_views(host, port, paths, pipe))


def _open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))


# -- measuring -----------------------------------------------------------------------------


def memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def phase(pid: int, host: str, port: int, path: str, seconds: float) -> dict[str, float]:
    """Reads of one range with a pause of 5 ms between them, as a person who scrolls makes them at most."""
    took: list[float] = []
    client = http.client.HTTPConnection(host, port, timeout=60)
    cpu, end = cpu_seconds(pid), time.monotonic() + seconds
    while time.monotonic() < end:
        start = (len(took) * SPAN) % (8 << 20)
        began = time.perf_counter()
        client.request("GET", path, headers={"Range": f"bytes={start}-{start + SPAN - 1}"})
        response = client.getresponse()
        assert len(response.read()) == SPAN
        took.append((time.perf_counter() - began) * 1000)
        assert response.status == 206, response.status
        time.sleep(0.005)
    client.close()
    took.sort()
    return {
        "reads": len(took),
        "p50_ms": round(statistics.median(took), 3),
        "p95_ms": round(took[len(took) * 95 // 100], 3),
        "p99_ms": round(took[len(took) * 99 // 100], 3),
        "memory_mb": round(memory_mb(pid), 1),
        "cpu_s_per_s": round((cpu_seconds(pid) - cpu) / seconds, 3),
    }


def measure(held: int, files: int, seconds: float, rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Its phases are added to `rows`, each when it is over."""
    with tempfile.TemporaryDirectory(prefix="gooseherd-holds-") as name:
        folder, origin = Path(name), Origin()
        given = folder / "given"
        given.mkdir()
        lines = "".join(f"chr1,{n},{os.urandom(40).hex()}\n" for n in range(100_000))
        (given / "warm.csv").write_text("chrom,start,name\n" + lines)
        environ = {
            **os.environ,
            "SOURCE_ALLOW_HTTP": "true",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
            "API_MAX_HOLDS_PER_REQUESTER": str(held + 10),
            "API_MAX_CONNECTIONS": str(2 * held + 200),
            "API_MAX_CONNECTIONS_PER_ADDRESS": str(2 * held + 100),
            "WORKER_MAX_LOCAL": "1",
        }
        with (
            running_service(state_dir=folder / "state", allow_roots=[given], environ=environ) as service,
            httpx.Client(
                base_url=service.url,
                headers={"X-API-Key": service.admin_key or ""},
                timeout=90,
                trust_env=False,
            ) as http_client,
        ):
            warm = {"dcc": "bench", "local_id": "warm", "filename": "warm.csv", "version_tag": "1"}
            http_client.post(
                "/files", json={**warm, "access_url": (given / "warm.csv").as_uri()}
            ).raise_for_status()
            cold = [
                {
                    "dcc": "bench",
                    "local_id": f"cold{number}",
                    "filename": f"cold{number}.bed",
                    "access_url": f"{origin.url}/cold{number}.bed",
                    "version_tag": "1",
                    "size_in_bytes": 1000,
                }
                for number in range(files)
            ]
            http_client.post("/files", json=cold).raise_for_status()
            assert http_client.get("/data/bench/warm", params={"wait": 60}).status_code == 200
            place = urlsplit(service.url)
            assert place.hostname is not None
            assert place.port is not None
            where = place.hostname, place.port
            phase(service.pid, *where, "/data/bench/warm", 2)
            rows["none"] = phase(service.pid, *where, "/data/bench/warm", seconds)
            paths = [f"/data/bench/cold{number % files}" for number in range(held)]
            here, there = multiprocessing.Pipe()
            viewers = multiprocessing.get_context("spawn").Process(target=views, args=(*where, paths, there))
            viewers.start()
            try:
                assert here.recv() == "begun"
                began = time.monotonic()
                rows["first"] = phase(service.pid, *where, "/data/bench/warm", seconds)
                time.sleep(max(0.0, began + sum(SHORT_HOLDS) + 5 - time.monotonic()))
                rows["long"] = phase(service.pid, *where, "/data/bench/warm", seconds)
                metrics = http_client.get("/metrics").text
                gauge = next(
                    line for line in metrics.splitlines() if line.startswith("gooseherd_http_requests_held ")
                )
                here.send("release")
                assert here.recv() == "released"
                os.kill(service.pid, signal.SIGTERM)
                ended = here.recv()
            finally:
                viewers.join(30)
                viewers.kill()
    return {
        "held": int(float(gauge.split()[1])),
        "files": files,
        "phases": rows,
        "kb_for_one_held": round((rows["long"]["memory_mb"] - rows["none"]["memory_mb"]) * 1000 / held, 1),
        "p50_ratio": round(rows["long"]["p50_ms"] / rows["none"]["p50_ms"], 2),
        "redirects_before": ended["before"],
        "answers_to_the_stop": ended["at_the_stop"],
        "stop_s": round(ended["stop_s"], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--held", type=int, default=2000, help="viewers (default: %(default)s)")
    parser.add_argument(
        "--files", type=int, default=100, help="cold files they ask for (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of a phase (default: %(default)s)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    phases: dict[str, dict[str, float]] = {}
    report: dict[str, Any] = {"files": options.files, "phases": phases, "aims": AIMS}
    report |= {"load": load, "cores": os.cpu_count()}
    with reporting(lambda: report) as print_whole:
        report |= measure(options.held, options.files, options.seconds, phases)
        missed = [name for name, most in AIMS.items() if report[name] > most]
        if report["answers_to_the_stop"] != {"307": options.held}:
            missed.append("answers")
        report["missed"] = missed
        print_whole()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
