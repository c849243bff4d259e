"""Deletes what nobody needs: ended jobs and batches, artifacts by policy, what killed writers left.

A pass looks at some of the cache: shards (keys.py: the first two digits of a content's identity), one after
the other, until enough objects were listed; the next pass goes on behind them. It follows within seconds as
long as there is more of the cache to look at, or more to remove than a pass may; else it is a tick later.
How large the cache is, a round over all of it finds out (cache_rounds.py).

An artifact is removed manifest first: from then on it is not published, and who asks for it starts a new
job. Each decision is checked again just before: a live job, or a read that was noted since, undoes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gooseherd import telemetry
from gooseherd.control.cache_rounds import CacheRound, SizeTurns
from gooseherd.control.loop import Loop, PassReport
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.errors import Conflict
from gooseherd.domain.keys import MANIFEST, PIPELINE_VERSION, CacheKey, cache_shards, workflow_key_of
from gooseherd.domain.ports.access import AccessTimes
from gooseherd.domain.ports.batches import BatchStore
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.store import FileStore, JobStore
from gooseherd.domain.retention import (
    UNFINISHED_LEAST,
    RemovalCause,
    RemoveArtifact,
    RemoveResults,
    RetentionPolicy,
    RetentionSnapshot,
    StoredArtifact,
    gathered,
    plan_removals,
    plan_results,
    unlisted_candidates,
)
from gooseherd.domain.source import Identity, IdentityKind

_log = logging.getLogger(__name__)

OBJECTS_PER_PASS: Final = 20_000
REMOVALS_PER_PASS: Final = 200
FORGOTTEN_PER_PASS: Final = 1000
"""Ended jobs, and ended batches; deleted a hundred at a time, so that others get to write."""
_FORGOTTEN_AT_ONCE: Final = 100
MORE_SECONDS: Final = 5.0
"""Until the next pass when one left something to do: as much work at a time, and others get their turn."""
_RECIPE: Final = "recipe "
_READS_NOTED: Final = "reads noted"
"""Names in the store beside the prefixes of artifacts, none of which has a space."""
_RECIPE_NOTED_EVERY: Final = timedelta(hours=12)
_FOR_EVER: Final = timedelta(days=36_500)
"""Names touched with it keep the time when they were noted first."""


class ArtifactInUse(Conflict):
    """A job works on its content, or it was read since it was looked at."""


@dataclass(frozen=True, slots=True)
class ForgetEnded:
    """Remove jobs and batches that ended before that."""

    ended_before: datetime


@dataclass(frozen=True, slots=True)
class SweepCache:
    """Free what killed writers left under no key, and reference sequences that nobody used for long."""

    older_than_seconds: float


Action = ForgetEnded | SweepCache | RemoveArtifact | RemoveResults


@dataclass(frozen=True, slots=True)
class Observation:
    """What a pass saw: of the cache some shards, if it is to be looked at at all."""

    now: datetime
    cache: RetentionSnapshot | None
    next_shard: int = 0
    """Where the next pass goes on."""

    @property
    def round_over(self) -> bool:
        """These were the last shards."""
        return self.next_shard == len(cache_shards(PIPELINE_VERSION))


def plan(seen: Observation, policy: RetentionPolicy, keep_ended: timedelta | None, most: int) -> list[Action]:
    """What goes: by the tables of domain/retention.py, and by age."""
    actions: list[Action] = []
    if keep_ended is not None:
        actions.append(ForgetEnded(seen.now - keep_ended))
    if seen.cache is not None:
        removals = plan_removals(seen.cache, policy, most)
        going = {removal.artifact.prefix for removal in removals}
        results = plan_results(seen.cache, policy, most)
        actions += removals
        actions += [results_of for results_of in results if results_of.prefix not in going]
        if seen.round_over:
            actions.append(SweepCache(UNFINISHED_LEAST.total_seconds()))
    return actions


class Retention:
    """Any number of processes may run it: each removal is idempotent, and bounded per pass.

    `recipes` are those that are current, as they stand in prefixes. Without `cache` only jobs and batches
    are looked at. `sweep_references` removes what is too old or too much of them; how many.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        files: FileStore,
        batches: BatchStore,
        access: AccessTimes,
        cache: CacheBackend | None,
        recipes: Collection[str],
        policy: RetentionPolicy,
        keep_ended: timedelta | None,
        tick_seconds: float,
        forget: Callable[[CacheKey], None] = lambda _: None,
        sweep_references: Callable[[], Awaitable[int]] | None = None,
        objects_per_pass: int = OBJECTS_PER_PASS,
    ) -> None:
        self._jobs = jobs
        self._files = files
        self._batches = batches
        self._access = access
        self._cache = cache
        self._recipes = frozenset(recipes)
        self._policy = policy
        self._keep_ended = keep_ended
        self._forget = forget
        self._sweep_references = sweep_references
        self._objects_per_pass = objects_per_pass
        self._round = CacheRound()
        self._turns = SizeTurns(access)
        self._acts = True
        """It is not only said what would go."""
        self._most = REMOVALS_PER_PASS
        self._tick_seconds = tick_seconds
        self._removed = 0
        """By this pass."""
        self._left_over = False
        """Passes of this round removed as much as they may, so another round finds more."""
        self._not_forgotten = False
        """There are more ended jobs or batches than this pass removed."""
        self.loop: Loop[Observation, Action] = Loop(
            "retention",
            observe=self._observe,
            plan=self._plan,
            act=self._act,
            wakeup=Wakeup(),
            tick_seconds=tick_seconds,
            next_pass=self._seconds_until_next,
        )

    async def run_rounds(self, *, dry_run: bool = False) -> PassReport[Action]:
        """Passes over the whole cache, removing all that may go; twice when its size matters.

        The first round finds out how large it is.
        """
        self._most, self._acts = OBJECTS_PER_PASS, not dry_run
        planned: list[Action] = []
        lost = errors = 0
        for _ in range(2 if self._policy.total_bytes is not None else 1):
            while True:
                report = await self.loop.run_once(dry_run=dry_run)
                if not report.seen:
                    return PassReport(False, planned, lost, errors)
                # What the first round finds is found again by the second.
                known = {_name(action) for action in planned}
                planned += [action for action in report.planned if _name(action) not in known]
                lost, errors = lost + report.lost_races, errors + report.errors
                if self._round.complete:
                    break
        return PassReport(True, planned, lost, errors)

    def _seconds_until_next(self, report: PassReport[Action]) -> float:
        if not report.seen:
            return self._tick_seconds
        kinds = Counter(map(type, report.planned))
        if self._removed and max(kinds[RemoveArtifact], kinds[RemoveResults]) >= self._most:
            # What is left of it lies in shards that were looked at.
            self._left_over = True
        more = self._not_forgotten or self._left_over or not self._round.complete
        if self._round.complete:
            self._left_over = False
        return min(MORE_SECONDS, self._tick_seconds) if more else self._tick_seconds

    # -- observing ---------------------------------------------------------------------------

    async def _observe(self) -> Observation:
        self._removed, self._not_forgotten = 0, False
        now = await self._jobs.now()
        if self._cache is None:
            self._round = CacheRound(complete=True)
            return Observation(now, None)
        await self._access.touch([_READS_NOTED], _FOR_EVER)
        await self._access.touch([_RECIPE + recipe for recipe in self._recipes], _RECIPE_NOTED_EVERY)
        if self._acts and self._round.cutoff is not None:
            assert self._round.counted_from is not None
            if not await self._turns.taken(self._round.counted_from):
                self._round = replace(self._round, cutoff=None)
        artifacts, shard = await self._list_some(self._cache, self._round.next_shard)
        return Observation(now, await self._snapshot(now, artifacts), shard)

    async def _list_some(self, cache: CacheBackend, shard: int) -> tuple[list[StoredArtifact], int]:
        """Artifacts of this shard and those behind it, up to so many objects; where to go on."""
        shards = cache_shards(PIPELINE_VERSION)
        found: list[tuple[CacheKey, int, datetime]] = []
        while shard < len(shards) and len(found) < self._objects_per_pass:
            found += [
                (stored.key, stored.size, datetime.fromtimestamp(stored.modified_at, UTC))
                async for stored in cache.list(shards[shard])
            ]
            shard += 1
        artifacts, others = await asyncio.to_thread(gathered, found, MANIFEST)
        if others:
            _log.warning("objects in the cache that belong to no artifact", extra={"objects": len(others)})
        return artifacts, shard

    async def _snapshot(self, now: datetime, artifacts: Sequence[StoredArtifact]) -> RetentionSnapshot:
        read_at: dict[str, datetime] = {}
        for above in sorted({artifact.prefix[: artifact.prefix.index("/", 3) + 1] for artifact in artifacts}):
            read_at |= await self._access.below(above)
        recipes = await self._access.below(_RECIPE)
        strange = {a.recipe for a in artifacts} - {name.removeprefix(_RECIPE) for name in recipes}
        if strange:
            # Made by a version that noted nothing: from now on it is known not to be current.
            await self._access.touch([_RECIPE + recipe for recipe in strange], _FOR_EVER)
        noted = await self._access.below(_READS_NOTED)
        snapshot = RetentionSnapshot(
            now=now,
            artifacts=artifacts,
            read_at=read_at,
            reads_noted_since=noted.get(_READS_NOTED, now),
            current_recipes=self._recipes,
            superseded_since={
                name.removeprefix(_RECIPE): moment
                for name, moment in recipes.items()
                if name.removeprefix(_RECIPE) not in self._recipes
            },
            cutoff=self._round.cutoff,
        )
        unlisted = {
            identity
            for identity in unlisted_candidates(snapshot, self._policy)
            if not await self._files.of_identity(_identity(identity), 1)
        }
        return replace(snapshot, unlisted=unlisted)

    def _plan(self, seen: Observation) -> Sequence[Action]:
        actions = plan(seen, self._policy, self._keep_ended, self._most)
        if seen.cache is not None:
            removals = [action for action in actions if isinstance(action, RemoveArtifact)]
            behind = None if seen.round_over else seen.next_shard
            self._round = self._round.after(seen.cache, removals, self._policy, behind)
            if seen.round_over:
                telemetry.ARTIFACT_BYTES.set(self._round.bytes)
        return actions

    # -- acting ------------------------------------------------------------------------------

    async def _act(self, action: Action) -> None:
        match action:
            case ForgetEnded(ended_before):
                await self._forget_ended(ended_before)
            case SweepCache(older_than_seconds):
                assert self._cache is not None
                swept = await self._cache.sweep(older_than_seconds)
                telemetry.RETENTION_REMOVED.labels("draft").inc(swept)
                if self._sweep_references is not None:
                    telemetry.RETENTION_REMOVED.labels("reference").inc(await self._sweep_references())
            case RemoveArtifact():
                await self._remove(action)
            case RemoveResults(prefix, keys):
                await self._remove_results(prefix, keys)

    async def _forget_ended(self, ended_before: datetime) -> None:
        for forget, what in ((self._jobs.forget_ended, "job"), (self._batches.forget_ended, "batch")):
            forgotten = 0
            while forgotten < FORGOTTEN_PER_PASS:
                some = await forget(ended_before, _FORGOTTEN_AT_ONCE)
                forgotten += some
                if some < _FORGOTTEN_AT_ONCE:
                    break
            else:
                self._not_forgotten = True
            telemetry.RETENTION_REMOVED.labels(what).inc(forgotten)
            if forgotten:
                _log.info("ended long ago, forgotten", extra={"what": what, "count": forgotten})

    async def _remove(self, action: RemoveArtifact) -> None:
        assert self._cache is not None
        artifact = action.artifact
        await self._refuse_busy(artifact.prefix)
        if not await self._access.forget(artifact.prefix, action.read_at):
            raise ArtifactInUse(artifact.prefix)
        if action.cause is RemovalCause.UNLISTED and await self._files.of_identity(
            _identity(artifact.identity), 1
        ):
            raise ArtifactInUse(artifact.prefix)
        manifest = CacheKey(artifact.prefix + MANIFEST)
        if action.cause is RemovalCause.UNFINISHED and await self._cache.head(manifest) is not None:
            raise ArtifactInUse(artifact.prefix)
        # Manifest first: what is published is whole. Who finds a part gone asks for it anew.
        for key in sorted(artifact.keys, key=lambda key: key != manifest):
            await self._cache.delete(key)
        self._forget(manifest)
        self._removed += 1
        telemetry.RETENTION_REMOVED.labels("artifact").inc()
        _log.info(
            "artifact removed",
            extra={"prefix": artifact.prefix, "cause": str(action.cause), "bytes": artifact.size},
        )

    async def _remove_results(self, prefix: str, keys: Sequence[CacheKey]) -> None:
        assert self._cache is not None
        await self._refuse_busy(prefix)
        if await self._cache.head(CacheKey(prefix + MANIFEST)) is None:
            raise ArtifactInUse(prefix)  # removed since: a result would be published again
        for key in keys:
            await self._cache.delete(key)
        self._removed += 1
        telemetry.RETENTION_REMOVED.labels("result").inc(len(keys))

    async def _refuse_busy(self, prefix: str) -> None:
        job = await self._jobs.latest(workflow_key_of(prefix))
        if job is not None and not job.status.terminal:
            raise ArtifactInUse(prefix)


def _identity(text: str) -> Identity:
    kind, _, value = text.partition("-")
    return Identity(IdentityKind(kind), value)


def _name(action: Action) -> str:
    match action:
        case RemoveArtifact():
            return action.artifact.prefix
        case RemoveResults():
            return f"results {action.prefix}"
        case _:
            return type(action).__name__
