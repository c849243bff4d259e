"""How large a worker is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class WorkerSize:
    """CPU units, MiB of memory, GiB of disk. Ordered by cpu, then memory, then disk."""

    cpu: int
    memory_mib: int
    disk_gib: int = 20

    def covers(self, other: WorkerSize) -> bool:
        """Whether work made for `other` can run in it."""
        return (
            self.cpu >= other.cpu and self.memory_mib >= other.memory_mib and self.disk_gib >= other.disk_gib
        )
