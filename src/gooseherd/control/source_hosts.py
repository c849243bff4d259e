"""Hosts of sources that fail time after time: the next tries of all their files are spread further apart.

Otherwise a host that is down, or sends a byte a second, gets every file's tries at the usual distance, and
each holds a worker.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

_REMEMBERED: Final = 1000
_FORGOTTEN_SECONDS: Final = 3600.0


class SourceHosts:
    """Of one process: what it learns from its own jobs. A host that gave a file starts anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def failed(self, url: str) -> int:
        """One more attempt ended with source_unavailable; how many of this host have, in a row."""
        host = _host(url)
        count, last = self._failures.pop(host, (0, 0.0))
        now = self._clock()
        if now - last > _FORGOTTEN_SECONDS:
            count = 0
        self._failures[host] = count + 1, now
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
        return count + 1

    def worked(self, url: str) -> None:
        """A file of it was read whole."""
        self._failures.pop(_host(url), None)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()
