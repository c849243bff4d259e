"""Clients that ask for random ranges over kept-alive connections and never look at the bytes.

    python benchmarks/_discarding_client.py URL --connections N --seconds S --range-bytes N --file-bytes N

A client that reads 1 MiB copies it, and with the service on the same machine one core of copying is less than
one core of sending: wrk is the bound then, and what is measured. Here the kernel lets go of a body without
copying it (MSG_TRUNC, tcp(7)), as where the client is another machine. Prints one line of JSON: `requests`,
`us` (how long it took), `p50` and `p99` (microseconds from a request to its last byte) and `errors`, as
delivery.py has them of wrk.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import select
import socket
import statistics
import time
import urllib.parse

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_HEAD_BYTES = 1 << 14
_NOTHING = bytearray(1 << 20)
"""For so many bytes at most in one call. Nothing is written into it."""


class Connection:
    """One client: a request under way, and what is still to come of its response."""

    def __init__(self, url: str, range_bytes: int, file_bytes: int) -> None:
        address = urllib.parse.urlsplit(url)
        assert address.hostname is not None
        self.socket = socket.create_connection((address.hostname, address.port or 80))
        self.socket.setblocking(False)
        target = address.path + (f"?{address.query}" if address.query else "")
        self._request = f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nRange: bytes=%d-%d\r\n\r\n"
        self._range_bytes = range_bytes
        self._last_start = file_bytes - range_bytes
        self._head = b""
        self._left: int | None = None
        self._since = 0.0

    def ask(self) -> None:
        """Sends the next request, which is short enough for any socket's buffer."""
        first = random.randint(0, self._last_start)
        self._head, self._left, self._since = b"", None, time.perf_counter()
        self.socket.sendall((self._request % (first, first + self._range_bytes - 1)).encode())

    def took(self) -> float | None:
        """Reads what has come; seconds since the request, once the response is whole."""
        while True:
            try:
                if self._left is None:
                    self._read_head()
                else:
                    count = min(self._left, len(_NOTHING))
                    read = self.socket.recv_into(_NOTHING, count, socket.MSG_TRUNC)
                    assert read, "the server has closed the connection within a response"
                    self._left -= read
            except BlockingIOError:
                return None
            if self._left == 0:
                return time.perf_counter() - self._since

    def _read_head(self) -> None:
        """Up to the empty line; what of the body comes with it is counted."""
        piece = self.socket.recv(_HEAD_BYTES)
        assert piece, "the server has closed the connection instead of an answer"
        self._head += piece
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._head, 0, end + 2)
        assert length is not None, self._head[:end]
        expected = self._range_bytes if self._head.startswith(b"HTTP/1.1 206 ") else 0
        assert expected or self._head.startswith(b"HTTP/1.1 307 "), self._head[:end]
        assert int(length[1]) == expected, self._head[:end]
        self._left = expected - (len(self._head) - end - 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--range-bytes", type=int, required=True)
    parser.add_argument("--file-bytes", type=int, required=True)
    options = parser.parse_args()
    poll = select.epoll()
    clients: dict[int, Connection] = {}
    for _ in range(options.connections):
        client = Connection(options.url, options.range_bytes, options.file_bytes)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    began = time.perf_counter()
    end = began + options.seconds
    for client in clients.values():
        client.ask()
    taken: list[float] = []
    while time.perf_counter() < end:
        for descriptor, _ in poll.poll(0.1):
            seconds = clients[descriptor].took()
            if seconds is not None:
                taken.append(seconds)
                clients[descriptor].ask()
    us = (time.perf_counter() - began) * 1e6
    cuts = statistics.quantiles(taken, n=100, method="inclusive") if len(taken) > 1 else taken * 99
    found = {"requests": len(taken), "us": us, "errors": 0}
    if cuts:
        found |= {"p50": cuts[49] * 1e6, "p99": cuts[98] * 1e6}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
