"""How often each API operation was called: what a bill, a throttle and a test want to know."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

_WINDOW = 60


class CallCounter:
    """Counts by operation since the start, and over the last minute. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        with self._lock:
            self._since = time.monotonic()
            self._total: Counter[str] = Counter()
            self._recent: deque[tuple[int, Counter[str]]] = deque()
            self._busiest: Counter[str] = Counter()

    def count(self, operation: str) -> None:
        """One more call, `service:Operation`."""
        second = int(time.monotonic())
        with self._lock:
            self._total[operation] += 1
            if not self._recent or self._recent[-1][0] != second:
                self._recent.append((second, Counter()))
            self._recent[-1][1][operation] += 1
            minute = self._minute(operation, second)
            self._busiest[operation] = max(self._busiest[operation], minute)

    def as_json(self) -> dict[str, Any]:
        """Totals, calls in the last minute, and in the busiest minute, by operation."""
        second = int(time.monotonic())
        with self._lock:
            return {
                "seconds": round(time.monotonic() - self._since, 3),
                "operations": {
                    operation: {
                        "total": total,
                        "last_minute": self._minute(operation, second),
                        "busiest_minute": self._busiest[operation],
                    }
                    for operation, total in sorted(self._total.items())
                },
            }

    def _minute(self, operation: str, second: int) -> int:
        while self._recent and self._recent[0][0] <= second - _WINDOW:
            self._recent.popleft()
        return sum(counts[operation] for _, counts in self._recent)
