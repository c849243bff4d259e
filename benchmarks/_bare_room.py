"""The least that an ASGI server can do for a byte range: one pread, and two messages.

    python benchmarks/_bare_room.py FILE PORT

What byte delivery is compared with (benchmarks/delivery.py): uvicorn as it comes, without a framework,
without conditions, errors, other pages' rights or a word in a log.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import uvicorn

_RANGE = re.compile(rb"bytes=(\d+)-(\d+)")


class BareRoom:
    """Answers every request with its range of one file."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDONLY)
        self._size = os.fstat(self._descriptor).st_size

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        wanted = next(value for name, value in scope["headers"] if name == b"range")
        found = _RANGE.fullmatch(wanted)
        assert found is not None
        first, last = int(found[1]), int(found[2])
        body = os.pread(self._descriptor, last - first + 1, first)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % len(body)),
            (b"content-range", b"bytes %d-%d/%d" % (first, last, self._size)),
            (b"accept-ranges", b"bytes"),
        ]
        await send({"type": "http.response.start", "status": 206, "headers": headers})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        BareRoom(Path(sys.argv[1])),
        port=int(sys.argv[2]),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
