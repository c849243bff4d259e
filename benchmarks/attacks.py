"""What everybody else notices while one client attacks, and what the attacker is answered.

    ./dev bench attacks [--seconds S] [--only WORD] [--times 3.0]

A `gooseherd up` of its own under low limits, real sockets, one attack after the other from another address
and another process; meanwhile an honest client reads 4 KiB ranges of a published file. One row an attack:

    {"row": "F1", "attack": "…", "answers": {"431": 7}, "expected": true, "p50_before_ms": …,
     "p50_during_ms": …, "ratio": …, "requests_during": …, "memory_mib": …}

`row` is that of the list of attacks by which the limits were made (docs/limits.md), `expected` whether the
attacker got only what it should. The medians without and during an attack are of the same run, and attacks
are paced, so that a loaded machine shows in both. Exit code 1 when an answer is not expected or a ratio is
above `--times`.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx

HONEST: Final = "127.0.0.9"
KEY: Final = "the-admin-key"
LIMITS: Final = {
    "API_ADMIN_KEY": KEY,
    "API_HEAD_SECONDS": "2",
    "API_UNREAD_SECONDS": "2",
    "API_MAX_CONNECTIONS_PER_ADDRESS": "40",
    "API_MAX_EVENT_STREAMS_PER_REQUESTER": "20",
    "API_MAX_RETRIES_PER_REQUESTER": "3",
    "API_MAX_BYTES_PER_MINUTE_PER_REQUESTER": "64 MiB",
    "WORKER_MAX_LOCAL": "2",
    "SOURCE_ALLOW_HTTP": "true",
    "SOURCE_ALLOW_NETWORKS": "127.0.0.0/8",
}
SETTINGS: Final = (
    "GOOSEHERD_",
    "API_",
    "SOURCE_",
    "WORKFLOW_",
    "WORKER_",
    "DATABASE_",
    "SYNC_",
    "AWS_",
    "ECS_",
)
PACE_SECONDS: Final = 0.02
"""Between requests of an attack: what is measured is what one costs others, not who has the more cores."""
WAIT_SECONDS: Final = 120
SLOW_NAMES: Final = 24
"""Fewer than the resolver's threads; twice as many as once stopped everybody's reads (F5)."""
SERVICE: Final = """
import socket, time
real = socket.getaddrinfo
def getaddrinfo(host, *more, **options):
    if str(host).endswith(".slow"):  # whose name server never answers
        time.sleep(3)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return real(host, *more, **options)
socket.getaddrinfo = getaddrinfo
from gooseherd.cli import main
main()
"""
"""`gooseherd` on a machine where names below .slow are waited for."""
LEAST_REQUESTS: Final = 20
"""Of a median, however loaded the machine is."""


@dataclass(frozen=True)
class Target:
    """What attackers know."""

    port: int
    data: str
    """A published file."""
    raw: str
    """A large one that is passed on as it is."""
    broken: str
    """One whose job has failed."""
    job: str
    """Of a file that comes slowly."""


class Attacker:
    """Connections from one address, and what came back."""

    def __init__(self, target: Target, seconds: float, address: str) -> None:
        self.target = target
        self.address = address
        self._until = time.monotonic() + seconds
        self.answers: Counter[str] = Counter()
        self.held: list[socket.socket] = []

    @property
    def going(self) -> bool:
        time.sleep(PACE_SECONDS)
        return time.monotonic() < self._until

    def going_to(self, answer: str) -> bool:
        """Until its time is over and it was answered so, however loaded the machine is."""
        return self.going or (not self.answers[answer] and time.monotonic() < self._until + WAIT_SECONDS)

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.bind((self.address, 0))
        client.connect(("127.0.0.1", self.target.port))
        return client

    def read(self, client: socket.socket) -> bytes:
        received = bytearray()
        with suppress(OSError):
            while chunk := client.recv(1 << 16):
                received += chunk
        client.close()
        return bytes(received)

    def note(self, answer: bytes) -> None:
        self.answers[answer[9:12].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"] += 1

    def ask(self, request: bytes) -> bytes:
        client = self.connect()
        with suppress(OSError):
            client.sendall(request)
        answer = self.read(client)
        self.note(answer)
        return answer

    def get(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
        if not any(line.startswith("Host:") for line in headers):
            lines.insert(1, "Host: localhost")
        return self.ask("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def header_lines_without_end(a: Attacker) -> None:
    while a.going:
        a.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 20_000)


def a_header_without_end(a: Attacker) -> None:
    while a.going:
        a.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 500_000)


def headers_that_never_come(a: Attacker) -> None:
    for _ in range(30):
        client = a.connect()
        client.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        a.held.append(client)
    while a.going:
        for client in a.held:
            with suppress(OSError):
                client.send(b"a")
    for client in a.held:
        a.note(a.read(client))


def responses_that_nobody_reads(a: Attacker) -> None:
    for _ in range(20):
        client = a.connect(receive_buffer=4096)
        client.sendall(f"GET {a.target.raw} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        a.held.append(client)
    while a.going:
        pass
    for client in a.held:
        with suppress(OSError):
            a.note(client.recv(16))
        client.close()


def names_that_resolve_slowly(a: Attacker) -> None:
    """All at once, again and again: each holds a thread for as long as its name server pleases."""
    while a.going_to("502"):
        for number in range(SLOW_NAMES):
            client = a.connect()
            head = f"GET /data/here/name{number}?raw=true HTTP/1.1"
            client.sendall(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            a.held.append(client)
        while a.held:
            a.note(a.read(a.held.pop()))


def ranges_of_raw_bytes(a: Attacker) -> None:
    """Of nothing, behind the end, and more than there is."""
    while a.going:
        for wanted in ("bytes=-0", "bytes=99999999999-", "bytes=4-9"):
            a.get(a.target.raw, f"Range: {wanted}")


def headers_that_take_long_to_read(a: Attacker) -> None:
    """As long as they may be, and like what is looked for up to their last letter."""
    blank, deep = " " * 20_000, base64.urlsafe_b64encode(b"[" * 6000).decode()
    while a.going:
        a.get(a.target.raw, f"Range: bytes={blank}x")
        a.get(a.target.raw, f'If-None-Match: "a"{blank}x')
        a.get("/", "Accept: text/html", f"Accept-Encoding: gzip;q=0.{'1' * 20_000}x")
        a.get(f"/jobs?after={deep}")


def what_no_store_holds(a: Attacker) -> None:
    """By whoever may register: numbers beyond 64 bits, half of a character."""
    fields = (b'"size_in_bytes": 9223372036854775808', b'"filename": "\\ud800.bed"')
    while a.going:
        for field in fields:
            entry = (
                b'{"dcc": "here", "local_id": "odd", "access_url": "https://h.example/x.bed", ' + field + b"}"
            )
            headers = (f"X-API-Key: {KEY}", "Content-Type: application/json", f"Content-Length: {len(entry)}")
            a.get("/files", *headers, method="POST", body=entry)


def bodies_without_a_key(a: Attacker) -> None:
    """As much as an import may have, to calls that need a key or take a few fields."""
    chunk = b"10000\r\n" + b"[" * 65536 + b"\r\n"
    while a.going:
        for path in ("/keys", "/tokens", "/sessions", "/batches"):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            a.ask(head.encode() + chunk * 128)


def connections(a: Attacker) -> None:
    while a.going or len(a.held) < 60:
        client = a.connect()
        if len(a.held) < 200:
            a.held.append(client)
        else:
            client.close()
    for client in a.held:
        client.settimeout(0.01)
        try:
            a.note(client.recv(16))
        except OSError:
            a.answers["waits"] += 1


def keys_in_trailers(a: Attacker) -> None:
    chunked = (
        b"POST /files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: X-API-Key\r\n\r\n2\r\n{}\r\n0\r\nX-API-Key: " + KEY.encode() + b"\r\n\r\n"
    )
    while a.going:
        a.ask(chunked)


def retries_of_a_broken_file(a: Attacker) -> None:
    """Each is over when its job has failed once more; on to the limit, however long that takes."""
    while a.going_to("429"):
        a.get(f"{a.target.broken}?retry=true&wait=20")


def event_streams(a: Attacker) -> None:
    path = f"/jobs/{a.target.job}/events"
    while a.going_to("429"):
        if len(a.held) >= 35:
            a.held.pop(0).close()
        client = a.connect()
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with suppress(OSError):
            a.note(client.recv(64))
        a.held.append(client)


def bytes_behind_a_request(a: Attacker) -> None:
    while a.going:
        answer = a.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\x00\x01\x02garbage\r\n\r\n")
        if b"HTTP/1.1 " in answer[9:].partition(b"\r\n\r\n")[0]:
            a.answers["a response inside a response"] += 1


def forwarded_addresses(a: Attacker) -> None:
    number = 0
    while a.going_to("429"):
        number += 1
        a.get(f"{a.target.broken}?retry=true", f"X-Forwarded-For: 198.51.100.{number % 250}:4711")


def wrong_keys(a: Attacker) -> None:
    number = 0
    while a.going_to("429"):
        number += 1
        a.get("/files", f"X-API-Key: {number}")


def requests_without_a_host(a: Attacker) -> None:
    while a.going:
        a.ask(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")


def another_host(a: Attacker) -> None:
    while a.going:
        a.get("/files", "Host: rebound.example")


def a_page_elsewhere(a: Attacker) -> None:
    while a.going:
        a.get("/jobs", "Origin: https://evil.example")


def lengths_that_are_none(a: Attacker) -> None:
    while a.going:
        for length in ("-1", "abc", "1, 2", "9" * 40):
            a.get("/batches", f"Content-Length: {length}", method="POST")


def probes_and_metrics(a: Attacker) -> None:
    """Each once asked the store and the bucket, or read all running jobs."""
    while a.going:
        for path in ("/readyz", "/metrics"):
            a.get(path)


def whole_files(a: Attacker) -> None:
    while a.going_to("429"):
        a.get(a.target.raw)


def slow_sources(a: Attacker) -> None:
    """Registered by the operator, asked for by the attacker, who takes a worker by it."""
    while a.going:
        a.get("/data/here/slow", "Prefer: respond-async")


@dataclass(frozen=True)
class Attack:
    row: str
    run: Callable[[Attacker], None]
    expected: frozenset[str]
    must: str = ""
    """What at least one answer has to be."""


def _attack(row: str, run: Callable[[Attacker], None], expected: str, must: str = "") -> Attack:
    return Attack(row, run, frozenset(expected.split()), must)


# "closed": the connection was, before the response could be read; "503" and that by the limit on connections.
ATTACKS: Final = (
    _attack("F1", header_lines_without_end, "431 closed", "431"),
    _attack("F1", a_header_without_end, "431 closed", "431"),
    _attack("F2", headers_that_never_come, "408 closed", "408"),
    _attack("F2", responses_that_nobody_reads, "200 429 closed", "200"),
    _attack("F3", connections, "503 closed waits", "503"),
    _attack("F5", names_that_resolve_slowly, "429 502 503 504 closed", "502"),
    _attack("F6", keys_in_trailers, "401", "401"),
    _attack("F9", bodies_without_a_key, "401 closed", "401"),
    _attack("F10", headers_that_take_long_to_read, "200 400 422 429", "400"),
    _attack("F7", slow_sources, "202", "202"),
    _attack("F8", retries_of_a_broken_file, "202 422 429", "429"),
    _attack("M1", what_no_store_holds, "422", "422"),
    _attack("M6", ranges_of_raw_bytes, "206 416 429", "416"),
    _attack("M4", event_streams, "200 429", "429"),
    _attack("M5", bytes_behind_a_request, "200", "200"),
    _attack("M8", forwarded_addresses, "202 422 429", "429"),
    _attack("M9", wrong_keys, "401 429", "429"),
    _attack("M2", a_page_elsewhere, "403", "403"),
    _attack("M2", another_host, "421", "421"),
    _attack("L", requests_without_a_host, "400", "400"),
    _attack("–", lengths_that_are_none, "400 413", "400"),
    _attack("–", probes_and_metrics, "200", "200"),
    _attack("bytes", whole_files, "200 429", "429"),
)


@contextmanager
def source_server() -> Iterator[str]:
    """Sends /slow a kilobyte a second, and never comes to its end."""

    class Slow(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 30))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"#" * 1023 + b"\n")
                    time.sleep(1)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def service(home: Path) -> Iterator[tuple[str, int]]:
    """Its URL and its process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, "up", "--json", "--port", "0", "--allow-root", str(home)],
            env={**clean, **LIMITS, "GOOSEHERD_STATE_DIR": str(home / "state")},
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (home / "log").read_text()[-3000:]
        yield json.loads(line)["url"], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def prepared(url: str, home: Path, source: str) -> Target:
    """The files that are attacked and read."""
    rows = "".join(f"{number},{number * 7}\n" for number in range(200_000))
    (home / "table.csv").write_text("a,b\n" + rows)
    (home / "broken.bed").write_text("chr1\tabc\t5\n")
    with (home / "large.csv").open("wb") as file:
        file.truncate(8 << 20)
    with httpx.Client(
        base_url=url, headers={"X-API-Key": KEY}, trust_env=False, timeout=WAIT_SECONDS
    ) as http:

        def register(name: str, address: str) -> None:
            entry = {
                "dcc": "here",
                "local_id": name.partition(".")[0],
                "filename": name,
                "access_url": address,
            }
            assert http.post("/files", json=entry).status_code == 200

        for name in ("table.csv", "broken.bed", "large.csv"):
            register(name, (home / name).as_uri())
        register("slow.bed", f"{source}/slow.bed")
        for number in range(SLOW_NAMES):
            register(f"name{number}.csv", f"http://name{number}.slow/table.csv")
        end = time.monotonic() + WAIT_SECONDS
        for path, status in (("/data/here/table", 200), ("/data/here/broken", 422)):
            while (answer := http.get(path, params={"wait": 20})).status_code != status:
                assert time.monotonic() < end, answer.text
        job = http.get("/data/here/slow").json()["job_id"]
    port = httpx.URL(url).port
    assert port is not None
    return Target(port, "/data/here/table", "/data/here/large?raw=true", "/data/here/broken", job)


def latencies(target: Target, until: Callable[[], bool]) -> list[float]:
    """Milliseconds of an honest client's ranges, one after the other on one connection."""
    found = []
    transport = httpx.HTTPTransport(local_address=HONEST)
    with httpx.Client(
        base_url=f"http://127.0.0.1:{target.port}", transport=transport, trust_env=False, timeout=60
    ) as http:
        number = 0
        while not until() or number < LEAST_REQUESTS:
            number += 1
            first = number * 4096 % 1_000_000
            began = time.perf_counter()
            answer = http.get(target.data, headers={"Range": f"bytes={first}-{first + 4095}"})
            found.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 206, answer.status_code
            time.sleep(0.01)
    return found


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


def measured(attack: Attack, target: Target, pid: int, seconds: float) -> dict[str, Any]:
    """One row."""
    before = latencies(target, after(seconds / 2))
    child = subprocess.Popen(
        [sys.executable, __file__, "--as", attack.run.__name__, json.dumps(vars(target)), str(seconds)],
        stdout=subprocess.PIPE,
    )
    during = latencies(target, lambda: child.poll() is not None)
    assert child.stdout is not None
    answers: Mapping[str, int] = json.loads(child.stdout.read() or b"{}")
    child.stdout.close()
    before += latencies(target, after(seconds / 2))
    usual, then = statistics.median(before), statistics.median(during)
    expected = set(answers) <= attack.expected and (not attack.must or attack.must in answers)
    return {
        "row": attack.row,
        "attack": attack.run.__name__.replace("_", " "),
        "answers": answers,
        "expected": expected,
        "p50_before_ms": round(usual, 2),
        "p50_during_ms": round(then, 2),
        "ratio": round(then / usual, 2),
        "requests_during": len(during),
        "memory_mib": memory_mib(pid),
    }


def attacked(seconds: float, only: str = "") -> Iterator[dict[str, Any]]:
    """The rows, each as soon as it is there."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder, source_server() as source:
        home = Path(folder).resolve()
        with service(home) as (url, pid):
            target = prepared(url, home, source)
            for attack in ATTACKS:
                if only in attack.run.__name__:
                    yield measured(attack, target, pid, seconds)


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--as"]:
        number, attack = next(
            (number, attack) for number, attack in enumerate(ATTACKS) if attack.run.__name__ == arguments[1]
        )
        # Each has an address of its own: what one attack has used up is not what the next is refused by.
        attacker = Attacker(Target(**json.loads(arguments[2])), float(arguments[3]), f"127.0.0.{66 + number}")
        attack.run(attacker)
        print(json.dumps(attacker.answers))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each attack")
    parser.add_argument("--only", default="", help="attacks with that in their name")
    parser.add_argument("--times", type=float, default=3.0, help="most that the median may grow by")
    options = parser.parse_args(arguments)
    held = True
    for row in attacked(options.seconds, options.only.replace(" ", "_")):
        print(json.dumps(row, ensure_ascii=False), flush=True)
        held = held and row["expected"] and row["ratio"] <= options.times
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
