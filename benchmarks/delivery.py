"""What delivering a byte range costs, beside nginx and beside the least that an ASGI server can do.

    ./dev bench delivery [--seconds S] [--rounds N] [--sizes 4096,65536,1048576] [--connections 1,16,64]
                         [--servers a,b] [--client wrk|discarding] [--no-slow]

Needs nginx and wrk. The real service on SQLite, its artifacts published before; random single ranges of
200 MB in page cache over kept-alive connections. All servers share one core, the client has another. In
every cell (a size, a number of connections) they are asked one after the other, in rounds. A row has the
medians, of a ratio that of each round's, which compares what was measured in the same moments. The client is
wrk; from 512 KiB a range it is one that does not copy what comes (_discarding_client.py), because wrk's core
would be the bound (--client says which it is). Servers:

    nginx      the artifacts' folder, sendfile
    bare       uvicorn and one pread (_bare_room.py)
    proxy      /files/…/reads.bam of the service, the default
    artifacts  /artifacts/… of the service: a redirect's second hop where no other server is named
    hop2       nginx where ARTIFACT_DELIVERY=redirect with ARTIFACT_REDIRECT_URL and a secret leads
    redirect   the first hop, not followed: what a client pays once in some minutes
    accel      nginx in front, which asks the service and sends the file (deploy/nginx.conf)
    accel_lua  the same with Lua, where libnginx-mod-http-lua is installed

One row a cell and server; then the memory that 100 clients cost who read 10 GB and stop. Prints JSON; exit
code 1 when an aim is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _nginx
import httpx
from _report import reporting

from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.keys import MANIFEST, CacheKey, cache_key
from gooseherd.domain.source import SourceFile
from gooseherd.settings import Settings
from gooseherd.trial.private_service import running_service
from gooseherd.wiring.artifacts import make_registry

ROOT = Path(__file__).resolve().parents[1]
SERVERS = ("nginx", "bare", "proxy", "artifacts", "hop2", "redirect", "accel", "accel_lua")
FILE_BYTES = 200 * 10**6
LARGE_BYTES = 10 * 10**9
DISCARDED_FROM = 1 << 19
"""Bytes of a range from which copying them costs a client more than sending them costs the service."""
SLOW_READERS = 100
SECRET = "of-this-run"
AIMS = {
    "proxy": ("ratio_bare", 0.75),
    "hop2": ("ratio_nginx", 0.9),
    "accel": ("ratio_nginx", 0.9),
    "accel_lua": ("ratio_nginx", 0.9),
}
P99_TIMES = 3.0
"""Of the server that its aim compares with."""
SLOW_MIB = 100.0
_BY_NGINX = re.compile(r"\d+-\d+-\d+\.\d{3}")
"""The ids that nginx gives (deploy/nginx.conf) are not the service's."""

_WRK = """
local size, count = tonumber(os.getenv("FILE_BYTES")), tonumber(os.getenv("RANGE_BYTES"))
request = function()
  local first = math.random(0, size - count)
  return wrk.format("GET", nil, {["Range"] = "bytes=" .. first .. "-" .. (first + count - 1)})
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('\\n{"requests":%d,"us":%d,"p50":%d,"p99":%d,"errors":%d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Server:
    """Where to ask, and whose CPU time that costs."""

    url: str
    processes: tuple[int, ...]


def publish(artifacts: Path, local_id: str, size: int, *, random_bytes: bool) -> tuple[SourceFile, Manifest]:
    """As a worker does, without one: a BAM with an index, and its manifest."""
    entry = SourceFile.from_json(
        {
            "dcc": "bench",
            "local_id": local_id,
            "filename": "reads.bam",
            "access_url": f"https://files.example.org/{local_id}.bam",
            "md5": hashlib.md5(local_id.encode()).hexdigest(),
            "size_in_bytes": size,
        }
    )
    recipe = make_registry(Settings()).recipe(entry)
    content = random.Random(1)
    parts = []
    for kind, name, length in ((Kind.DATA, "reads.bam", size), (Kind.INDEX, "reads.bam.bai", 10**6)):
        key = cache_key(entry.identity, recipe, name)
        path = artifacts / key
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            if random_bytes:
                for start in range(0, length, 1 << 20):
                    piece = content.randbytes(min(1 << 20, length - start))
                    digest.update(piece)
                    file.write(piece)
            file.truncate(length)
        digest.update(f"{local_id} {kind}".encode())  # nobody compares it with the bytes here
        parts.append(Part(kind, CacheKey(key), length, digest.hexdigest(), name))
    manifest = Manifest(
        source=str(entry.identity),
        source_format="bam",
        processor=recipe.processor,
        processor_version=recipe.processor_version,
        parts=tuple(parts),
    )
    (artifacts / cache_key(entry.identity, recipe, MANIFEST)).write_bytes(manifest.to_bytes())
    return entry, manifest


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in the block stays on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def program(command: Sequence[str | Path], port: int) -> Iterator[int]:
    """Runs it until the block ends; its pid, once something listens on the port."""
    child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            assert child.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < end, f"{command[0]} does not listen"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield child.pid
    finally:
        child.terminate()
        child.wait(20)


def with_children(pid: int) -> tuple[int, ...]:
    """nginx works in a child. Another one, which looks through its cache, ends after a minute."""
    end = time.monotonic() + 20
    while not (children := [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]):
        assert time.monotonic() < end, "nginx has no worker"
        time.sleep(0.01)  # it listens before it has one
    return (pid, *(one for one in children if b"loader" not in Path(f"/proc/{one}/cmdline").read_bytes()))


def of_living(processes: Sequence[int], name: str) -> Iterator[str]:
    """That file of each in /proc. nginx's loader may not have had its name yet, and is gone by now."""
    for pid in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield Path(f"/proc/{pid}/{name}").read_text()


def cpu_seconds(processes: Sequence[int]) -> float:
    total = 0
    for text in of_living(processes, "stat"):
        fields = text.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def client_seconds() -> float:
    """CPU time of the clients that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def memory_mib(processes: Sequence[int]) -> float:
    pages = sum(int(text.split()[1]) for text in of_living(processes, "statm"))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Client:
    """Who asks: wrk by that script, or one that does not copy what comes; on that core, for so long."""

    name: str | None
    script: Path
    core: int
    seconds: int

    def name_for(self, size: int) -> str:
        return self.name or ("discarding" if size >= DISCARDED_FROM else "wrk")

    def command(self, url: str, size: int, connections: int) -> list[str]:
        if self.name_for(size) == "wrk":
            return ["wrk", "-t1", f"-c{connections}", f"-d{self.seconds}s", "-s", str(self.script), url]
        command = [sys.executable, str(ROOT / "benchmarks/_discarding_client.py"), url]
        options = {
            "connections": connections,
            "seconds": self.seconds,
            "range-bytes": size,
            "file-bytes": FILE_BYTES,
        }
        return [*command, *(f"--{name}={value}" for name, value in options.items())]


def ask(server: Server, size: int, connections: int, client: Client) -> dict[str, Any]:
    """One cell for one server."""
    command = client.command(server.url, size, connections)
    environ = {**os.environ, "FILE_BYTES": str(FILE_BYTES), "RANGE_BYTES": str(size)}
    before, memory = cpu_seconds(server.processes), memory_mib(server.processes)
    clients_before = client_seconds()
    with on_core(client.core):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
    by_client = client_seconds() - clients_before
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["requests"], done.stdout
    assert not found["errors"], done.stdout
    return {
        "client": client.name_for(size),
        "requests_s": round(found["requests"] / found["us"] * 1e6),
        "p50_ms": round(found["p50"] / 1000, 3),
        "p99_ms": round(found["p99"] / 1000, 3),
        "cpu_us": round((cpu_seconds(server.processes) - before) / found["requests"] * 1e6, 1),
        # Where it is nearly 1 and the server's is not, the row says what the client can take.
        "client_core": round(by_client / found["us"] * 1e6, 2),
        "server_core": round((cpu_seconds(server.processes) - before) / found["us"] * 1e6, 2),
        "memory_mib": round(memory_mib(server.processes), 1),
        "memory_more_bytes": max(
            0, round((memory_mib(server.processes) - memory) * 2**20 / found["requests"])
        ),
    }


def slow_readers(server: Server, path: str) -> dict[str, Any]:
    """What `SLOW_READERS` clients cost that ask for 10 GB and stop reading."""
    address = httpx.URL(server.url).copy_with(raw_path=path.encode())
    assert address.port is not None
    for _ in range(4):  # it is found, remembered, and known to nginx: 1 TB is more than who asks may have
        httpx.get(address, headers={"Range": "bytes=0-0"}, trust_env=False).raise_for_status()
    before, clients = memory_mib(server.processes), []
    for _ in range(SLOW_READERS):
        client = socket.create_connection((address.host, address.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
        clients.append(client)
    for _ in range(8):
        for client in clients:
            assert client.recv(65536)
        time.sleep(0.25)
    more = memory_mib(server.processes) - before
    for client in clients:
        client.close()
    return {"readers": SLOW_READERS, "of_bytes": LARGE_BYTES, "more_mib": round(more, 1)}


def check(server: Server, expected: int) -> httpx.Response:
    """The right status and the right length, before anything is measured."""
    answer = httpx.get(server.url, headers={"Range": "bytes=100-4195"}, trust_env=False)
    assert answer.status_code == expected, (server.url, answer.status_code, answer.text[:300])
    assert expected != 206 or len(answer.content) == 4096
    return answer


def check_accel(server: Server) -> None:
    """nginx sends by itself what it has looked up, and does not ask for each range."""
    answers = [check(server, 206) for _ in range(4)]  # found, remembered, looked up
    assert _BY_NGINX.fullmatch(answers[-1].headers["x-request-id"]), "nginx asks for each range"


@contextlib.contextmanager
def servers(
    folder: Path, wanted: Sequence[str], core: int
) -> Iterator[tuple[dict[str, Server], dict[str, str]]]:
    """All servers of one run, and for some of them where the large file is."""
    artifacts = folder / "artifacts"
    entry, manifest = publish(artifacts, "reads", FILE_BYTES, random_bytes=True)
    large, large_manifest = publish(artifacts, "large", LARGE_BYTES, random_bytes=False)
    part, large_part = manifest.parts[0], large_manifest.parts[0]
    found: dict[str, Server] = {}
    large_at: dict[str, str] = {}
    environ = {
        **os.environ,
        "SYNC_DATA_DIR": str(artifacts),
        "WORKER_MAX_LOCAL": "1",
        "WORKFLOW_DENSITY": "true",
    }

    def service(stack: contextlib.ExitStack, name: str, **settings: str) -> tuple[str, int]:
        started = stack.enter_context(
            running_service(state_dir=folder / name, allow_roots=[], environ={**environ, **settings})
        )
        registered = httpx.post(
            f"{started.url}/files",
            json=[each.to_json() for each in (entry, large)],
            headers={"X-API-Key": started.admin_key or ""},
            trust_env=False,
        )
        registered.raise_for_status()
        return started.url, started.pid

    with contextlib.ExitStack() as stack:
        stack.enter_context(on_core(core))
        port, hop_port, front_port = (_nginx.free_port() for _ in range(3))
        sites = [_nginx.plain(artifacts, port), _nginx.second_hop(artifacts, hop_port, SECRET)]
        behind, accel_pid = "", 0
        if {"accel", "accel_lua"} & {*wanted}:
            # Without a limit of bytes, for which nginx would have to ask for each range.
            accel, accel_pid = service(stack, "accel", ARTIFACT_DELIVERY="accel", API_TRUSTED_PROXIES="1")
            behind = accel.removeprefix("http://")
        if "accel" in wanted:
            sites.append(_nginx.in_front(behind, artifacts, front_port, folder / "lookups"))
        pid = stack.enter_context(_nginx.running(folder / "nginx", sites, port))
        processes = with_children(pid)
        found["nginx"] = Server(f"http://127.0.0.1:{port}/{part.key}", processes)
        large_at["nginx"] = f"/{large_part.key}"
        if "bare" in wanted:
            port = _nginx.free_port()
            room = [
                sys.executable,
                str(ROOT / "benchmarks/_bare_room.py"),
                str(artifacts / part.key),
                str(port),
            ]
            found["bare"] = Server(f"http://127.0.0.1:{port}/", (stack.enter_context(program(room, port)),))
        if {"proxy", "artifacts"} & {*wanted}:
            url, pid = service(stack, "proxy")
            found["proxy"] = Server(f"{url}/files/bench/reads/reads.bam", (pid,))
            found["artifacts"] = Server(f"{url}/artifacts/{part.sha256}/reads.bam?of=bench/reads", (pid,))
            large_at["proxy"] = "/files/bench/large/reads.bam"
        if {"hop2", "redirect"} & {*wanted}:
            base = f"http://127.0.0.1:{hop_port}"
            url, pid = service(
                stack,
                "redirect",
                ARTIFACT_DELIVERY="redirect",
                ARTIFACT_REDIRECT_URL=base,
                ARTIFACT_REDIRECT_SECRET=SECRET,
                ARTIFACT_REDIRECT_SECONDS="3600",
            )
            found["redirect"] = Server(f"{url}/files/bench/reads/reads.bam", (pid,))
            found["hop2"] = Server(check(found["redirect"], 307).headers["location"], processes)
        if "accel" in wanted:
            where = f"http://127.0.0.1:{front_port}/files/bench/reads/reads.bam"
            found["accel"] = Server(where, (*processes, accel_pid))
            large_at["accel"] = "/files/bench/large/reads.bam"
        if "accel_lua" in wanted and _nginx.LUA.exists():
            port = _nginx.free_port()
            site = _nginx.in_front(behind, artifacts, port, folder / "none", lua=True)
            pid = stack.enter_context(_nginx.running(folder / "nginx-lua", [site], port))
            where = f"http://127.0.0.1:{port}/files/bench/reads/reads.bam"
            found["accel_lua"] = Server(where, (*with_children(pid), accel_pid))
            large_at["accel_lua"] = "/files/bench/large/reads.bam"
        yield found, large_at


def rows(
    found: dict[str, Server],
    sizes: Sequence[int],
    connections: Sequence[int],
    client: Client,
    rounds: int,
) -> Iterator[dict[str, Any]]:
    for size in sizes:
        for count in connections:
            cell: dict[str, list[dict[str, Any]]] = {name: [] for name in found}
            for _ in range(rounds):
                for name, server in found.items():
                    # So that the client's are not the first for a while, for which all its connections wait.
                    check(server, 307 if name == "redirect" else 206)
                    cell[name].append(ask(server, size, count, client))
            for name, asked in cell.items():
                ratios = {
                    f"ratio_{base}": _ratio(asked, cell[base]) if base in cell else None
                    for base in ("nginx", "bare")
                }
                yield {"server": name, "bytes": size, "connections": count, **_medians(asked), **ratios}


def _medians(asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str) else round(statistics.median(row[name] for row in asked), 3)
        for name, value in asked[0].items()
    }


def _ratio(asked: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> float:
    """The median of the rounds' ratios."""
    pairs = zip(asked, base, strict=True)
    ratios: list[float] = [row["requests_s"] / other["requests_s"] for row, other in pairs]
    return round(statistics.median(ratios), 3)


def missed(report: Sequence[dict[str, Any]], slow: dict[str, Any]) -> list[str]:
    """The aims that were not met, in words."""
    at = {(row["server"], row["bytes"], row["connections"]): row for row in report}
    found = []
    for (name, size, count), row in at.items():
        if name not in AIMS:
            continue
        ratio, least = AIMS[name]
        base = at.get((ratio.removeprefix("ratio_"), size, count))
        where = f"{name} at {size} over {count}"
        if row[ratio] is not None and row[ratio] < least:
            found.append(f"{where}: {row[ratio]} instead of {least}")
        if base is not None and row["p99_ms"] > P99_TIMES * base["p99_ms"]:
            found.append(f"{where}: p99 {row['p99_ms']} ms, of {base['server']} {base['p99_ms']}")
    found += [
        f"slow readers of {name}: {row['more_mib']} MiB"
        for name, row in slow.items()
        if name in AIMS and row["more_mib"] > SLOW_MIB
    ]
    return found


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=int, default=1, help="of a server in a round (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="in a cell (default: %(default)s)")
    parser.add_argument("--sizes", type=numbers, default=[4096, 65536, 1 << 20], help="bytes of a range")
    parser.add_argument("--connections", type=numbers, default=[1, 16, 64])
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--client", choices=["wrk", "discarding"], help="of all cells (default: by the size)")
    parser.add_argument("--no-slow", action="store_true", help="without the slow readers")
    options = parser.parse_args()
    lacking = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if lacking:
        parser.exit(2, f"needs {' and '.join(lacking)}: apt-get install {' '.join(lacking)}\n")
    wanted = [name for name in options.servers.split(",") if name]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    cores = sorted(os.sched_getaffinity(0))
    server_core, client_core = cores[0], cores[-1]
    load = os.getloadavg()[0]
    report: list[dict[str, Any]] = []
    slow: dict[str, Any] = {}

    def so_far() -> dict[str, Any]:
        failures = missed(report, slow)
        return {"rows": report, "slow_readers": slow, "missed": failures, "load": load, "cores": len(cores)}

    with (
        reporting(so_far, indent=1) as print_whole,
        tempfile.TemporaryDirectory(prefix="gooseherd-delivery-") as name,
    ):
        folder = Path(name)
        folder.chmod(0o755)  # for nginx's worker, if it gives its rights up
        script = folder / "ranges.lua"
        script.write_text(_WRK)
        with servers(folder, wanted, server_core) as (all_found, large_at):
            found = {name: server for name, server in all_found.items() if name in wanted}
            for each, server in found.items():
                check(server, 307 if each == "redirect" else 206)
            for each in {"accel", "accel_lua"} & {*found}:
                check_accel(found[each])
            client = Client(options.client, script, client_core, options.seconds)
            for row in rows(found, options.sizes, options.connections, client, options.rounds):
                report.append(row)  # noqa: PERF402 - it is looked at while it grows
            for each, path in large_at.items():
                if each in found and not options.no_slow:
                    slow[each] = slow_readers(all_found[each], path)
        print_whole()
    return 1 if missed(report, slow) else 0


if __name__ == "__main__":
    sys.exit(main())
