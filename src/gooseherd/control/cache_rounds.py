"""Rounds over the whole cache, a part in each pass: how far one is, and how much is too much.

The bytes that each day's artifacts take are added up on the way. Only when that was done for the whole cache
is it known whether it is too large, so artifacts go for their size from the second round on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from gooseherd.domain.ports.access import AccessTimes
from gooseherd.domain.retention import (
    RemovalCause,
    RemoveArtifact,
    RetentionPolicy,
    RetentionSnapshot,
    SizeCutoff,
    day_of,
    size_cutoff,
    staying,
    used_at,
)

_SIZE_ACTED_UPON: Final = "size acted upon"
"""A name in the store beside the prefixes of artifacts, none of which has a space."""


@dataclass(frozen=True, slots=True)
class CacheRound:
    """How far the cache was looked at; `cutoff` is what the last round found."""

    next_shard: int = 0
    bytes: int = 0
    """Of what is published in the shards that this round has looked at."""
    by_day: dict[int, int] = field(default_factory=dict)
    """Of that what stays, by the day of its last use."""
    began: datetime | None = None
    cutoff: SizeCutoff | None = None
    counted_from: datetime | None = None
    """When the round began that found the cutoff."""
    complete: bool = False
    """It has come to the end of the cache."""

    def after(
        self,
        seen: RetentionSnapshot,
        removals: Sequence[RemoveArtifact],
        policy: RetentionPolicy,
        next_shard: int | None,
    ) -> CacheRound:
        """After a pass, as if all its removals were done: one that fails is found by the next round.

        `next_shard`: where that one goes on; None: this was the end of the cache.
        """
        before = CacheRound(cutoff=self.cutoff, counted_from=self.counted_from) if self.complete else self
        began = before.began or seen.now
        size = before.bytes + sum(artifact.size for artifact in seen.artifacts if artifact.published)
        by_day = dict(before.by_day)
        for artifact in staying(seen, policy, removals):
            day = day_of(used_at(artifact, seen))
            by_day[day] = by_day.get(day, 0) + artifact.size
        if next_shard is None:
            found = size_cutoff(by_day, policy.total_bytes)
            return CacheRound(0, size, by_day, began, found, counted_from=began, complete=True)
        cutoff = before.cutoff
        if cutoff is not None:
            # What goes here need not go elsewhere.
            freed = sum(one.artifact.size for one in removals if one.cause is RemovalCause.SIZE)
            cutoff = replace(cutoff, excess=cutoff.excess - freed)
        return CacheRound(next_shard, size, by_day, began, cutoff, before.counted_from)


class SizeTurns:
    """Of several processes over one cache, one at a time acts upon its size."""

    def __init__(self, access: AccessTimes) -> None:
        self._access = access
        self._noted_at: datetime | None = None
        """The last note of this process."""

    async def taken(self, counted_from: datetime) -> bool:
        """Note that this process acts upon what it has counted from then on.

        False: another one has acted since, and what that has removed would go twice.
        """
        noted_at = await self._last_note()
        if noted_at is not None and noted_at != self._noted_at and noted_at >= counted_from:
            return False
        await self._access.touch([_SIZE_ACTED_UPON], timedelta(0))
        self._noted_at = await self._last_note()
        return True

    async def _last_note(self) -> datetime | None:
        return (await self._access.below(_SIZE_ACTED_UPON)).get(_SIZE_ACTED_UPON)
