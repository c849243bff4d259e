"""The store's clock, read from the store: a process with a wrong clock must not outlive its lease.

Measured rather than asked for with each write. `$$NOW` would need an update by pipeline,
which Amazon DocumentDB does not have in the versions that have partial indexes, and
`$currentDate` cannot add a time to live. One `hello` gives the offset between the server's
clock and this machine's count of seconds since boot, right to half its round trip; it is
asked again every `REFRESH_SECONDS`, so hot writes stay one round trip.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.store.mongo.connect import CODEC, Database

REFRESH_SECONDS: Final = 30.0
"""Crystals drift by up to 100 ppm: 3 ms in this time. A failover to another clock shows after it."""

GOOD_ROUND_TRIP_SECONDS: Final = 0.1
"""A slower sample is taken again, `SAMPLES` times at most; the fastest counts."""

SAMPLES: Final = 3

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def seconds_since_boot() -> float:
    """Monotonic and, where the system can, running on while the machine sleeps: leases do too."""
    return time.monotonic() if _SINCE_BOOT is None else time.clock_gettime(_SINCE_BOOT)


@dataclass(frozen=True, slots=True)
class _Sample:
    server: datetime
    taken: float
    round_trip: float


class StoreClock:
    """UTC as the store has it, to the millisecond (BSON keeps no more).

    One for all that a process keeps in a store: two are apart by up to half a round trip,
    and what was written second could have the earlier time.
    """

    def __init__(self, db: Database, *, refresh_seconds: float = REFRESH_SECONDS) -> None:
        self._admin = db.client.admin
        self._refresh_seconds = refresh_seconds
        self._sample: _Sample | None = None
        self._measuring = asyncio.Lock()

    async def now(self) -> datetime:
        """The store's time, wrong by at most half the round trip it was measured with.

        Raises:
            PyMongoError: the store did not answer; callers translate.
            Misconfigured: the server's `hello` has no `localTime`.
        """
        sample = self._sample
        if sample is None or seconds_since_boot() - sample.taken > self._refresh_seconds:
            async with self._measuring:
                if self._sample is sample:
                    self._sample = await self._measure()
                sample = self._sample
        assert sample is not None
        passed = timedelta(seconds=seconds_since_boot() - sample.taken)
        return whole_milliseconds(sample.server + passed)

    async def _measure(self) -> _Sample:
        best: _Sample | None = None
        for _ in range(SAMPLES):
            asked = seconds_since_boot()
            hello = await self._admin.command("hello", codec_options=CODEC)
            round_trip = seconds_since_boot() - asked
            if "localTime" not in hello:
                raise Misconfigured("DATABASE_URL", "the server's hello has no localTime")
            if best is None or round_trip < best.round_trip:
                best = _Sample(hello["localTime"], asked + round_trip / 2, round_trip)
            if round_trip <= GOOD_ROUND_TRIP_SECONDS:
                break
        assert best is not None
        return best


def whole_milliseconds(moment: datetime) -> datetime:
    """`moment` as it comes back from the store."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
