"""Notes that artifacts are read, at most once a day each, without making a read wait for it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.ports.access import AccessTimes
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.retention import READ_NOTED_EVERY, READ_REMEMBERED

_REMEMBERED: Final = 100_000
"""Artifacts; of more than that some are looked at in the store more often."""
_WRITTEN_AT_ONCE: Final = 1000


class ReadNotes:
    """What was read and is not written down yet. `clock` gives seconds."""

    def __init__(
        self, access: AccessTimes, *, tick_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._access = access
        self._clock = clock
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._due: set[str] = set()
        self.loop: Loop[Sequence[str], Sequence[str]] = Loop(
            "read_notes",
            observe=self._observe,
            plan=lambda due: [due] if due else [],
            act=self._act,
            wakeup=Wakeup(),
            tick_seconds=tick_seconds,
        )

    def note(self, prefix: str) -> None:
        """The artifact below `prefix` is read now. Quick: it is called for each byte range."""
        until = self._noted.get(prefix)
        now = self._clock()
        if until is not None and until > now:
            return
        self._noted[prefix] = now + READ_REMEMBERED.total_seconds()
        self._noted.move_to_end(prefix)
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)
        self._due.add(prefix)

    async def flush(self) -> None:
        """Write down what is due: before the process ends."""
        while due := await self._observe():
            await self._act(due)

    async def _observe(self) -> Sequence[str]:
        return sorted(self._due)[:_WRITTEN_AT_ONCE]

    async def _act(self, due: Sequence[str]) -> None:
        self._due.difference_update(due)
        try:
            await self._access.touch(due, READ_NOTED_EVERY)
        except STORE_AWAY:
            self._due.update(due)
            raise
