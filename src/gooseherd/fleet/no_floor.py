"""A warm floor without workers, for fleets that keep none."""

from __future__ import annotations

from collections.abc import Collection

from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WarmWorkers


class NoFloor(WarmWorkers):
    """Has nothing and wants nothing."""

    def ready(self) -> Collection[WorkerId]:
        return ()

    async def take(self) -> WorkerId | None:
        return None

    def wants(self) -> int:
        return 0

    def offer(self, worker_id: WorkerId) -> bool:
        return False
