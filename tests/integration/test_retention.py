"""Retention over a real store and a real cache: what goes, what stays, and who undoes a decision."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gooseherd.control.read_notes import ReadNotes
from gooseherd.control.retention import ForgetEnded, Retention, SweepCache
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.batch import BatchId, MemberChange, MemberState, NewBatch
from gooseherd.domain.errors import CacheUnavailable, StoreUnavailable
from gooseherd.domain.job import JobId, Requester, Submission
from gooseherd.domain.keys import (
    MANIFEST,
    CacheKey,
    Recipe,
    artifact_prefix,
    cache_key,
    result_name,
    workflow_key,
)
from gooseherd.domain.ports.batches import BatchLimits
from gooseherd.domain.ports.store import StoreRefused
from gooseherd.domain.queueing import Priority
from gooseherd.domain.retention import GUARD, RemovalCause, RemoveArtifact, RemoveResults, RetentionPolicy
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.storage.local import LocalFsCache
from gooseherd.store.sql.access import SqlAccessTimes
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.schema import access_times
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
RECIPE, OLD = Recipe("bam", "2", formats.BAM), Recipe("bam", "1", formats.BAM)
ANNE = Requester("anne")


def entry(number: int) -> SourceFile:
    url = f"https://example.org/{number}.bam"
    return SourceFile(
        Dcc("4dn"), LocalId(f"f{number}"), "reads.bam", formats.BAM, url, md5=f"{number:02x}" + "0" * 30
    )


@dataclass
class Place:
    """A store and a cache, and the hands that make both older than they are."""

    database: Any
    jobs: SqlJobs
    files: SqlFiles
    batches: SqlBatches
    access: SqlAccessTimes
    cache: LocalFsCache
    root: Path

    def retention(self, policy: RetentionPolicy | None = None, **changes: Any) -> Retention:
        options: dict[str, Any] = {
            "jobs": self.jobs,
            "files": self.files,
            "batches": self.batches,
            "access": self.access,
            "cache": self.cache,
            "recipes": {"bam-2-bam"},
            "policy": policy or RetentionPolicy(),
            "keep_ended": None,
            "tick_seconds": 60,
        }
        return Retention(**{**options, **changes})

    async def publish(
        self, source: SourceFile, recipe: Recipe = RECIPE, *, days: float = 0, size: int = 100
    ) -> str:
        data = cache_key(source.identity, recipe, "sorted.bam")
        await self.cache.put_if_absent(data, bytes(size))
        part = Part(Kind.DATA, data, size, "0" * 64, "sorted.bam")
        manifest = Manifest(str(source.identity), "bam", recipe.processor, recipe.processor_version, (part,))
        await self.cache.put_if_absent(cache_key(source.identity, recipe, MANIFEST), manifest.to_bytes())
        prefix = artifact_prefix(source.identity, recipe)
        self.age(prefix, days)
        return prefix

    def age(self, prefix: str, days: float) -> None:
        for path in (self.root / prefix).iterdir():
            moment = path.stat().st_mtime - days * 86400
            os.utime(path, (moment, moment))

    async def age_notes(self, days: float, prefix: str = "") -> None:
        """As if what is noted with a time had been noted so long before."""

        def older(tx: Any) -> None:
            for row in tx.connection.execute(access_times.select()).all():
                if row.name.startswith(prefix):
                    its = access_times.update().where(access_times.c.name == row.name)
                    tx.connection.execute(its.values(at=row.at - days * DAY))

        await self.database.write("age", older)

    async def there(self, prefix: str) -> list[str]:
        return [found.key.rpartition("/")[2] async for found in self.cache.list(prefix)]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    cache = LocalFsCache(tmp_path / "cache")
    yield Place(
        database,
        SqlJobs(database),
        SqlFiles(database),
        SqlBatches(database),
        SqlAccessTimes(database),
        cache,
        tmp_path / "cache",
    )
    await cache.close()
    await database.close()


def removals(report: Any) -> dict[str, RemovalCause]:
    return {a.artifact.prefix: a.cause for a in report.planned if isinstance(a, RemoveArtifact)}


IDLE = RetentionPolicy(idle=30 * DAY)


async def noted(place: Place, days: float) -> None:
    """Reads have been noted for so long."""
    await place.retention().loop.run_once(dry_run=True)
    await place.age_notes(days)


async def test_by_default_nothing_published_goes_and_what_was_left_unpublished_goes_after_a_week(place):
    published = await place.publish(entry(1), days=5000)
    old, young = entry(2), entry(3)
    for source in (old, young):
        await place.cache.put_if_absent(cache_key(source.identity, RECIPE, "sorted.bam"), b"half")
    place.age(artifact_prefix(old.identity, RECIPE), 8)
    await noted(place, 5000)
    report = await place.retention().run_rounds()
    assert removals(report) == {artifact_prefix(old.identity, RECIPE): RemovalCause.UNFINISHED}
    assert (report.errors, report.lost_races) == (0, 0)
    assert await place.there(published) == [MANIFEST, "sorted.bam"]
    assert await place.there(artifact_prefix(old.identity, RECIPE)) == []
    assert await place.there(artifact_prefix(young.identity, RECIPE)) == ["sorted.bam"]


async def test_what_nobody_read_goes_whole_and_what_was_read_stays(place):
    unread, read = [await place.publish(entry(number), days=60) for number in (1, 2)]
    await noted(place, 60)
    await place.access.touch([read], DAY)
    seen = await place.retention(IDLE).run_rounds(dry_run=True)
    assert removals(seen) == {unread: RemovalCause.IDLE}
    assert await place.there(unread) == [MANIFEST, "sorted.bam"], "nothing is done in a dry run"
    done = await place.retention(IDLE).run_rounds()
    assert removals(done) == removals(seen)
    assert await place.there(unread) == []
    assert await place.there(read) == [MANIFEST, "sorted.bam"]


async def test_an_artifact_that_a_live_job_needs_stays(place):
    source = entry(1)
    prefix = await place.publish(source, days=60)
    await noted(place, 60)
    key = workflow_key(source.identity, RECIPE)
    job = (
        await place.jobs.claim_workflow(Submission(JobId("j1"), key, source, RECIPE, Priority.NORMAL, ANNE))
    ).job
    report = await place.retention(IDLE).run_rounds()
    assert (report.lost_races, report.errors) == (1, 0)
    assert await place.there(prefix) == [MANIFEST, "sorted.bam"]
    await place.jobs.request_cancel(job.job_id, None)
    await place.retention(IDLE).run_rounds()
    assert await place.there(prefix) == []


async def test_a_read_between_the_look_and_the_removal_undoes_it(place):
    prefix = await place.publish(entry(1), days=60)
    await noted(place, 60)
    retention = place.retention(IDLE)
    seen = await retention.loop.run_once(dry_run=True)
    (action,) = [action for action in seen.planned if isinstance(action, RemoveArtifact)]
    await place.access.touch([prefix], DAY)
    with pytest.raises(Exception, match="p1/"):
        await retention._act(action)
    assert await place.there(prefix) == [MANIFEST, "sorted.bam"]


async def test_what_was_published_since_it_was_seen_unfinished_stays(place):
    source = entry(1)
    await place.cache.put_if_absent(cache_key(source.identity, RECIPE, "step-sort.json"), b"{}")
    prefix = artifact_prefix(source.identity, RECIPE)
    place.age(prefix, 8)
    retention = place.retention()
    seen = await retention.loop.run_once(dry_run=True)
    (action,) = [action for action in seen.planned if isinstance(action, RemoveArtifact)]
    await place.publish(source)
    with pytest.raises(Exception, match="p1/"):
        await retention._act(action)
    assert MANIFEST in await place.there(prefix)


async def test_results_of_attempts_go_a_week_after_one_was_published_and_never_before(place):
    published, young, unpublished = entry(1), entry(2), entry(3)
    for source in (published, young, unpublished):
        for attempt in ("job.1", "job.2"):
            await place.cache.put_if_absent(cache_key(source.identity, RECIPE, result_name(attempt)), b"{}")
    old = await place.publish(published, days=8)
    recent = await place.publish(young, days=6)
    alone = artifact_prefix(unpublished.identity, RECIPE)
    place.age(alone, 6)
    report = await place.retention().run_rounds()
    assert (report.errors, report.lost_races) == (0, 0)
    assert await place.there(old) == [MANIFEST, "sorted.bam"]
    results = ["result-job.1.json", "result-job.2.json"]
    assert await place.there(recent) == [MANIFEST, *results, "sorted.bam"]
    assert await place.there(alone) == results


async def test_a_result_stays_while_a_job_runs_and_when_the_manifest_went(place):
    source = entry(1)
    result = cache_key(source.identity, RECIPE, result_name("j1.1"))
    await place.cache.put_if_absent(result, b"{}")
    prefix = await place.publish(source, days=8)
    key = workflow_key(source.identity, RECIPE)
    submission = Submission(JobId("j1"), key, source, RECIPE, Priority.NORMAL, ANNE)
    await place.jobs.claim_workflow(submission)
    report = await place.retention().run_rounds()
    assert (report.errors, report.lost_races) == (0, 1)
    await place.jobs.request_cancel(JobId("j1"), None)
    retention = place.retention()
    seen = await retention.loop.run_once(dry_run=True)
    (action,) = [action for action in seen.planned if isinstance(action, RemoveResults)]
    await place.cache.delete(cache_key(source.identity, RECIPE, MANIFEST))
    with pytest.raises(Exception, match="p1/"):
        await retention._act(action)
    assert result_name("j1.1") in await place.there(prefix)


async def test_a_version_that_is_not_current_goes_30_days_after_it_was_last_current(place):
    policy = RetentionPolicy(superseded=30 * DAY)
    old = await place.publish(entry(1), OLD, days=400)
    before = place.retention(policy, recipes={"bam-1-bam"})
    await before.run_rounds()
    await place.age_notes(400)
    await before.run_rounds()  # the old program still runs
    current = await place.publish(entry(1), days=400)
    assert removals(await place.retention(policy).run_rounds()) == {}
    await place.age_notes(29)
    assert removals(await place.retention(policy).run_rounds()) == {}
    await place.age_notes(2)
    assert removals(await place.retention(policy).run_rounds()) == {old: RemovalCause.SUPERSEDED}
    assert await place.there(current) == [MANIFEST, "sorted.bam"]


async def test_a_version_that_nobody_has_noted_is_known_to_be_old_from_now_on(place):
    policy = RetentionPolicy(superseded=30 * DAY)
    old = await place.publish(entry(1), OLD, days=400)
    await noted(place, 0)
    assert removals(await place.retention(policy).run_rounds()) == {}
    await place.age_notes(31)
    assert removals(await place.retention(policy).run_rounds()) == {old: RemovalCause.SUPERSEDED}


async def test_what_left_the_catalog_goes_unless_another_entry_has_its_content(place):
    policy = RetentionPolicy(unlisted=10 * DAY)
    alone, shared = entry(1), entry(2)
    twin = replace(shared, local_id=LocalId("twin"))
    prefixes = [await place.publish(source, days=60) for source in (alone, shared)]
    await place.files.put([alone, shared, twin])
    await noted(place, 60)
    assert removals(await place.retention(policy).run_rounds()) == {}
    for source in (alone, shared):
        await place.files.remove(source.dcc, source.local_id)
    assert removals(await place.retention(policy).run_rounds()) == {prefixes[0]: RemovalCause.UNLISTED}
    await place.files.remove(twin.dcc, twin.local_id)
    assert removals(await place.retention(policy).run_rounds()) == {prefixes[1]: RemovalCause.UNLISTED}


async def test_the_catalog_is_asked_for_no_artifact_that_stays_anyway(place):
    """Each process asked for each artifact of the cache, one after the other, in each round."""
    asked = []

    class Counting:
        async def of_identity(self, identity, limit):
            asked.append(identity)
            return await place.files.of_identity(identity, limit)

    ages = {1: 1, 2: 9, 3: 60}
    await place.files.put([entry(number) for number in ages])
    for number, days in ages.items():
        await place.publish(entry(number), days=days)
    await noted(place, 60)
    policy = RetentionPolicy(unlisted=10 * DAY)
    assert removals(await place.retention(policy, files=Counting()).run_rounds()) == {}
    assert asked == [entry(3).identity]


async def test_a_cache_that_is_too_large_gives_up_what_was_not_used_for_longest(place):
    prefixes = [await place.publish(entry(number), days=10 * number + 10, size=1000) for number in range(5)]
    await noted(place, 100)
    size = sum([found.size async for found in place.cache.list()])
    one = size // 5
    policy = RetentionPolicy(total_bytes=3 * one)
    for pages in ({}, {"objects_per_pass": 1}):
        seen = await place.retention(policy, **pages).run_rounds(dry_run=True)
        assert removals(seen) == dict.fromkeys(prefixes[3:], RemovalCause.SIZE)
    await place.retention(policy).run_rounds()
    assert sum([found.size async for found in place.cache.list()]) <= 3 * one
    assert removals(await place.retention(policy).run_rounds()) == {}


@pytest.mark.parametrize("pages", [{}, {"objects_per_pass": 1}])
@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_goes_for_another_reason_need_not_go_for_the_size_again(place, pages, dry_run):
    """What had left the catalog was counted as there, and as much of what was in use went with it."""
    listed, unlisted = [entry(number) for number in (1, 2, 3)], [entry(number) for number in (0, 4)]
    await place.files.put(listed)
    for source in listed:
        await place.publish(source, days=90, size=1000)
    going = [await place.publish(source, days=40, size=1000) for source in unlisted]
    await noted(place, 100)
    size = sum([found.size async for found in place.cache.list()])
    policy = RetentionPolicy(unlisted=10 * DAY, total_bytes=size * 3 // 5 + 10)
    report = await place.retention(policy, **pages).run_rounds(dry_run=dry_run)
    assert removals(report) == dict.fromkeys(going, RemovalCause.UNLISTED)


async def test_what_has_gone_for_the_size_is_not_counted_once_more(place, monkeypatch):
    """Of a day's artifacts each round took as much as the first had."""
    monkeypatch.setattr("gooseherd.control.retention.REMOVALS_PER_PASS", 2)
    for number in range(9):
        await place.publish(entry(number), days=40, size=1000)
    await noted(place, 100)
    size = sum([found.size async for found in place.cache.list()])
    retention = place.retention(RetentionPolicy(total_bytes=size * 6 // 9 + 10), objects_per_pass=4)
    gone = [removals(await retention.loop.run_once()) for _ in range(40)]
    assert sum(map(len, gone)) == 3


async def test_what_another_process_has_removed_for_the_size_does_not_go_twice(place):
    for number in range(9):
        await place.publish(entry(number), days=40, size=1000)
    await noted(place, 100)
    size = sum([found.size async for found in place.cache.list()])
    policy = RetentionPolicy(total_bytes=size * 6 // 9 + 10)
    one, other = place.retention(policy), place.retention(policy)
    gone = [removals(await retention.loop.run_once()) for retention in (one, other, one, other, one, other)]
    assert list(map(len, gone)) == [0, 0, 3, 0, 0, 0]
    for number in range(9, 14):
        await place.publish(entry(number), days=40, size=1000)
    gone = [removals(await retention.loop.run_once()) for retention in (other, one, other, one)]
    assert list(map(len, gone)) == [0, 0, 5, 0], "who comes first, whoever that was before"


async def test_what_was_used_a_moment_ago_stays_however_large_the_cache_is(place):
    prefix = await place.publish(entry(1))
    await noted(place, 100)
    assert removals(await place.retention(RetentionPolicy(total_bytes=1)).run_rounds()) == {}
    place.age(prefix, GUARD / DAY + 1)
    report = await place.retention(RetentionPolicy(total_bytes=1)).run_rounds()
    assert removals(report) == {prefix: RemovalCause.SIZE}


async def test_a_pass_looks_at_a_part_of_the_cache_and_the_next_one_goes_on(place):
    prefixes = [await place.publish(entry(number), days=60) for number in (1, 2, 250)]
    await noted(place, 60)
    retention = place.retention(IDLE, objects_per_pass=1)
    found = [removals(await retention.loop.run_once()) for _ in range(4)]
    assert [list(some) for some in found[:3]] == [[prefix] for prefix in prefixes]
    assert found[3] == {}


async def test_a_loop_removes_so_many_at_a_time_and_the_command_all(place, monkeypatch):
    monkeypatch.setattr("gooseherd.control.retention.REMOVALS_PER_PASS", 2)
    for number in range(5):
        await place.publish(entry(number), days=60 + number)
    await noted(place, 60)
    assert len(removals(await place.retention(IDLE).loop.run_once())) == 2
    assert len(removals(await place.retention(IDLE).run_rounds())) == 3


async def until_gone(look: Callable[[], Awaitable[bool]], retention: Retention) -> None:
    """Run the loop until nothing is left; TimeoutError after a minute, which no tick of these tests takes."""
    running = asyncio.create_task(retention.loop.run())
    try:
        async with asyncio.timeout(60):
            while await look():  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_a_pass_leaves_is_removed_soon_after_and_not_a_tick_later(place, monkeypatch):
    monkeypatch.setattr("gooseherd.control.retention.MORE_SECONDS", 0.01)
    monkeypatch.setattr("gooseherd.control.retention.REMOVALS_PER_PASS", 1)
    prefixes = [await place.publish(entry(number), days=60) for number in (1, 2, 3, 250)]
    await noted(place, 60)

    async def some() -> bool:
        return any([await place.there(prefix) for prefix in prefixes])

    await until_gone(some, place.retention(IDLE, objects_per_pass=5, tick_seconds=3600))


async def test_more_ended_jobs_than_a_pass_forgets_are_forgotten_soon_after(place, monkeypatch):
    monkeypatch.setattr("gooseherd.control.retention.MORE_SECONDS", 0.01)
    monkeypatch.setattr("gooseherd.control.retention.FORGOTTEN_PER_PASS", 2)
    monkeypatch.setattr("gooseherd.control.retention._FORGOTTEN_AT_ONCE", 2)
    for number in range(7):
        source = entry(number)
        key = workflow_key(source.identity, RECIPE)
        await place.jobs.claim_workflow(
            Submission(JobId(f"j{number}"), key, source, RECIPE, Priority.NORMAL, ANNE)
        )
        await place.jobs.request_cancel(JobId(f"j{number}"), None)
    await asyncio.sleep(0.01)

    async def some() -> bool:
        return any([await place.jobs.get(JobId(f"j{number}")) for number in range(7)])

    await until_gone(some, place.retention(cache=None, keep_ended=timedelta(0), tick_seconds=3600))


async def test_with_nothing_left_to_do_the_next_pass_is_a_tick_later(place, monkeypatch):
    monkeypatch.setattr("gooseherd.control.retention.REMOVALS_PER_PASS", 2)
    for number in (1, 2, 3, 250):
        await place.publish(entry(number), days=60)
    await noted(place, 60)
    retention = place.retention(IDLE, objects_per_pass=5, keep_ended=DAY, tick_seconds=3600)
    pauses = [retention._seconds_until_next(await retention.loop.run_once()) for _ in range(5)]
    # Two of the first three went, then the one at the end; another round finds the one that was left.
    assert pauses == [5, 5, 3600, 3600, 3600]


async def test_what_cannot_be_removed_is_not_tried_again_at_once(place, monkeypatch):
    monkeypatch.setattr("gooseherd.control.retention.REMOVALS_PER_PASS", 1)
    await place.publish(entry(1), days=60)
    await noted(place, 60)

    async def refused(key: CacheKey) -> None:
        raise CacheUnavailable("delete")

    monkeypatch.setattr(place.cache, "delete", refused)
    retention = place.retention(IDLE, tick_seconds=3600)
    report = await retention.loop.run_once()
    assert (report.errors, retention._seconds_until_next(report)) == (1, 3600)


async def test_ended_jobs_and_batches_are_forgotten_and_the_cache_is_swept(place):
    source = entry(1)
    key = workflow_key(source.identity, RECIPE)
    for number in (1, 2):
        wanted = Submission(JobId(f"j{number}"), key, source, RECIPE, Priority.NORMAL, ANNE)
        await place.jobs.claim_workflow(wanted)
        if number == 1:
            await place.jobs.request_cancel(JobId("j1"), None)
    await place.batches.create(
        NewBatch(BatchId("b1"), ANNE, ((source.dcc, source.local_id),), "d"), BatchLimits(9, 9)
    )
    await place.batches.record(BatchId("b1"), [MemberChange(0, MemberState.WAITING, MemberState.READY)])
    await place.batches.end(BatchId("b1"))
    kept = await place.retention(keep_ended=DAY).run_rounds()
    assert {type(action) for action in kept.planned} == {ForgetEnded, SweepCache}
    assert await place.jobs.get(JobId("j1")) is not None
    await asyncio.sleep(0.01)
    await place.retention(keep_ended=timedelta(0)).run_rounds()
    assert await place.jobs.get(JobId("j1")) is None
    assert await place.batches.get(BatchId("b1")) is None
    assert await place.jobs.get(JobId("j2")) is not None


async def test_without_a_cache_only_the_store_is_looked_at(place):
    prefix = await place.publish(entry(1), days=500)
    report = await place.retention(IDLE, cache=None, keep_ended=DAY).run_rounds()
    assert [type(action) for action in report.planned] == [ForgetEnded]
    assert await place.there(prefix) == [MANIFEST, "sorted.bam"]


async def test_a_store_that_is_away_ends_the_pass_with_nothing_removed(place):
    prefix = await place.publish(entry(1), days=60)
    await noted(place, 60)

    class Away(SqlAccessTimes):
        async def below(self, prefix: str) -> Any:
            raise StoreUnavailable("below")

    report = await place.retention(IDLE, access=Away(place.database)).run_rounds()
    assert (report.seen, list(report.planned)) == (False, [])
    assert await place.there(prefix) == [MANIFEST, "sorted.bam"]


# -- reads -----------------------------------------------------------------------------------


class Recipes:
    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        return ()

    def recipe(self, source: SourceFile) -> Recipe:
        return RECIPE

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        return frozenset(Kind)

    def filenames(self, source: SourceFile, recipe: Recipe) -> dict[Kind, str]:
        return {}


def submissions(place: Place, note: Callable[[str], None], clock: Callable[[], float]) -> Submissions:
    return Submissions(
        jobs=place.jobs,
        cache=place.cache,
        recipes=Recipes(),
        limits=SubmissionLimits(9, 9),
        wakeups=Wakeups(),
        new_id=lambda: JobId("j"),
        on_read=note,
        clock=clock,
    )


async def test_a_read_is_noted_once_in_half_a_day_whoever_remembers_the_manifest(place):
    prefix = await place.publish(entry(1), days=60)
    times = [0.0]
    notes = ReadNotes(place.access, tick_seconds=60, clock=lambda: times[0])
    service = submissions(place, notes.note, lambda: times[0])
    written = []
    touch = place.access.touch

    async def counted(names: Any, not_since: timedelta) -> None:
        written.append(list(names))
        await touch(names, not_since)

    place.access.touch = counted
    for _ in range(5):
        assert await service.published(entry(1), RECIPE) is not None
        await notes.loop.run_once()
    assert written == [[prefix]]
    times[0] += 13 * 3600
    assert await service.published(entry(1), RECIPE) is not None
    await notes.flush()
    assert written == [[prefix], [prefix]]
    assert set(await place.access.below("p1/")) == {prefix}


@pytest.mark.parametrize("error", [StoreUnavailable("touch"), StoreRefused("DATABASE_URL", "no password")])
async def test_what_could_not_be_noted_is_noted_later(place, error):
    notes = ReadNotes(place.access, tick_seconds=60)
    notes.note("p1/a/")
    touch = place.access.touch

    async def away(*_: Any) -> None:
        raise error

    place.access.touch = away
    report = await notes.loop.run_once()
    assert report.errors == 1
    place.access.touch = touch
    await notes.flush()
    assert set(await place.access.below("")) == {"p1/a/"}


async def test_a_manifest_is_not_remembered_for_longer_than_retention_leaves_it(place):
    source, times = entry(1), [0.0]
    await place.publish(source)
    service = submissions(place, lambda _: None, lambda: times[0])
    assert await service.published(source, RECIPE) is not None
    await place.cache.delete(CacheKey(artifact_prefix(source.identity, RECIPE) + MANIFEST))
    assert await service.published(source, RECIPE) is not None
    times[0] += 13 * 3600
    assert await service.published(source, RECIPE) is None
    assert await service.published(source, RECIPE) is None
