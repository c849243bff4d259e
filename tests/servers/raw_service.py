"""A `gooseherd up` that runs, and clients of it that send and read exactly what they want to."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

SECONDS = 60
"""More than anything here takes; only a failure waits for it."""


@dataclass
class Service:
    """A running `gooseherd up` under limits."""

    process: subprocess.Popen[bytes]
    log: Path
    url: httpx.URL
    admin_key: str
    files: Path
    """Where file: sources may be."""
    sockets: ExitStack = field(default_factory=ExitStack)

    def connect(self, source: str = "127.0.0.1", *, receive_buffer: int | None = None) -> socket.socket:
        """A connection from that address; closed at the end of the test."""
        client = self.sockets.enter_context(socket.socket())
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(SECONDS)
        client.bind((source, 0))
        assert self.url.port is not None
        client.connect((self.url.host, self.url.port))
        return client

    def ask(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        """Everything that comes back to these bytes until the service closes."""
        client = self.connect(source)
        with suppress(ConnectionError):  # it may have answered and closed before all was sent
            client.sendall(request)
        return rest(client)

    def get(self, path: str = "/healthz", *headers: str, source: str = "127.0.0.1") -> bytes:
        """The response to an honest request."""
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        return self.ask("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n", source)

    def answers(self) -> bool:
        """Whether somebody else, at another address, is answered."""
        return status(self.get(source="127.0.0.9")) == 200

    def memory_mib(self) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def register(self, name: str, content_bytes: int) -> str:
        """The path that passes a new public file on as it is."""
        path = self.files / name
        with path.open("wb") as file:
            file.truncate(content_bytes)
        entry = {
            "dcc": "here",
            "local_id": name,
            "filename": f"{name}.bin.csv",
            "file_format": "csv",
            "access_url": path.as_uri(),
        }
        body = json.dumps(entry).encode()
        head = (
            f"POST /files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-Key: {self.admin_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answer = self.ask(head.encode() + body)
        assert status(answer) == 200, answer
        return f"/data/here/{name}?raw=true"


def rest(client: socket.socket) -> bytes:
    """What still comes until the service closes."""
    received = bytearray()
    try:
        while chunk := client.recv(2**20):
            received += chunk
    except ConnectionError:
        pass
    return bytes(received)


def status(answer: bytes) -> int:
    """Of the first response; 0 when there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
