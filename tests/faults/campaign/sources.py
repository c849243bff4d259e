"""Sources by http, each of them made when it is named: small ones of every format, larger ones, slow ones."""

from __future__ import annotations

import hashlib
import random
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gooseherd.domain import formats
from gooseherd.trial import inputs

_FORMATS: Final = (
    formats.BED,
    formats.NARROWPEAK,
    formats.GFF3,
    formats.GTF,
    formats.VCF,
    formats.SAM,
    formats.BAM,
    formats.BIGBED,
    formats.CSV,
)
_LARGER: Final = 0.1
"""Of all files: so large that they are met in the middle."""
_SLOW: Final = 0.08
"""Likewise: their source takes this long to arrive."""
_SLOW_SECONDS: Final = 5.0
_PIECES: Final = 10


class SourceServer:
    """Serves them for as long as the block lasts; what they hold follows from the seed and their number."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"sources {seed}")
        self._files: dict[str, bytes] = {}
        self._slow: set[str] = set()
        self.fetched: Counter[str] = Counter()
        """How often the bytes of each were asked for."""
        self.in_a_hurry = False
        """Slow ones are slow no more."""
        sources = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                sources.send(self, body=False)

            def do_GET(self) -> None:
                sources.send(self, body=True)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # Who asked was killed.
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="sources", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def make(self, number: int) -> dict[str, Any]:
        """A new file and its catalog entry; to be called in the order of numbers."""
        slow, larger, with_md5 = (self._chance.random() < share for share in (_SLOW, _LARGER, 0.7))
        if larger:
            name, content = f"f{number}.bed", _intervals(number, 60_000)
        else:
            with tempfile.TemporaryDirectory() as folder:
                file_format = self._chance.choice(_FORMATS)
                made = inputs.make(file_format, Path(folder), str(number))
                name, content = f"f{number}.{file_format.suffixes[0]}", made.path.read_bytes()
        if slow:
            self._slow.add(name)
        self._files[name] = content
        entry = {
            "dcc": "t",
            "local_id": name,
            "filename": name,
            "access_url": f"http://127.0.0.1:{self._server.server_address[1]}/{name}",
            "size_in_bytes": len(content),
        }
        return entry | ({"md5": hashlib.md5(content).hexdigest()} if with_md5 else {})

    def send(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        name = request.path[1:]
        content = self._files[name]
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("ETag", f'"{len(content)}"')
        request.end_headers()
        if not body:
            return
        self.fetched[name] += 1
        if name not in self._slow or self.in_a_hurry:
            request.wfile.write(content)
            return
        size = len(content) // _PIECES + 1
        for start in range(0, len(content), size):
            request.wfile.write(content[start : start + size])
            request.wfile.flush()
            time.sleep(_SLOW_SECONDS / _PIECES)


def _intervals(number: int, lines: int) -> bytes:
    chance = random.Random(number)
    starts = [chance.randrange(200_000_000) for _ in range(lines)]
    return "".join(f"chr{at % 22 + 1}\t{at}\t{at + 9}\tn{number}\n" for at in starts).encode()
