"""Which artifacts go: the planner of retention alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain import formats
from gooseherd.domain.keys import (
    MANIFEST,
    CacheKey,
    Recipe,
    artifact_prefix,
    cache_key,
    cache_shards,
    recipe_name,
    workflow_key,
    workflow_key_of,
)
from gooseherd.domain.retention import (
    GUARD,
    READ_NOTED_EVERY,
    READ_REMEMBERED,
    RemovalCause,
    RetentionPolicy,
    RetentionSnapshot,
    SizeCutoff,
    StoredArtifact,
    day_of,
    gathered,
    plan_removals,
    size_cutoff,
    staying,
    used_at,
)
from gooseherd.domain.source import Identity, IdentityKind

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CURRENT, OLD = "bam-index-2-bam", "bam-index-1-bam"
EVERYTHING = RetentionPolicy(idle=90 * DAY, superseded=30 * DAY, unlisted=10 * DAY)


def artifact(name: str = "a", days: float = 200, **changes: Any) -> StoredArtifact:
    """One that was published so many days ago."""
    recipe = changes.pop("recipe", CURRENT)
    prefix = f"p1/ab/md5-{name}/{recipe}/"
    made = StoredArtifact(prefix, f"md5-{name}", recipe, (CacheKey(prefix + MANIFEST),), 100, True, ago(days))
    return replace(made, **changes)


def ago(days: float) -> datetime:
    return NOW - days * DAY


def seen(*artifacts: StoredArtifact, **known: Any) -> RetentionSnapshot:
    given: dict[str, Any] = {"reads_noted_since": ago(1000), "current_recipes": {CURRENT}, **known}
    read_at = {f"p1/ab/md5-{name}/{CURRENT}/": moment for name, moment in given.pop("read", {}).items()}
    return RetentionSnapshot(NOW, artifacts, read_at, **given)


def causes(snapshot: RetentionSnapshot, policy: RetentionPolicy, most: int = 99) -> dict[str, RemovalCause]:
    return {a.artifact.identity.removeprefix("md5-"): a.cause for a in plan_removals(snapshot, policy, most)}


def test_nothing_published_goes_unless_the_policy_says_so():
    old = artifact(days=5000, recipe=OLD)
    there = seen(old, unlisted={"md5-a"}, superseded_since={OLD: ago(4000)}, read={"a": ago(4000)})
    assert causes(there, RetentionPolicy()) == {}


def test_what_nobody_read_for_long_goes():
    there = seen(artifact("read"), artifact("unread"), artifact("new", days=80), read={"read": ago(80)})
    assert causes(there, EVERYTHING) == {"unread": RemovalCause.IDLE}


def test_a_read_before_reads_were_noted_is_thought_to_have_been_then():
    assert causes(seen(artifact(), reads_noted_since=ago(10)), EVERYTHING) == {}


def test_a_superseded_artifact_stays_for_as_long_as_a_rollback_may_need_it():
    old = artifact(recipe=OLD, days=85)
    for since, goes in ((ago(31), True), (ago(29), False), (None, False)):
        known = {OLD: since} if since else {}
        assert bool(causes(seen(old, superseded_since=known), EVERYTHING)) is goes
    read = seen(old, superseded_since={OLD: ago(60)})
    read = replace(read, read_at={old.prefix: ago(20)})
    assert causes(read, EVERYTHING) == {}


def test_a_policy_that_could_not_be_rolled_back_from_is_refused():
    with pytest.raises(ValueError, match="30 days"):
        RetentionPolicy(superseded=29 * DAY)
    with pytest.raises(ValueError, match="2 days"):
        RetentionPolicy(unfinished=DAY)


def test_what_no_entry_has_goes_when_nobody_reads_it():
    there = seen(artifact("a", 11), artifact("b", 9), artifact("c", 11), unlisted={"md5-a", "md5-b"})
    assert causes(there, EVERYTHING) == {"a": RemovalCause.UNLISTED}


def test_what_was_never_published_goes_after_a_week():
    there = seen(artifact("a", 8, published=False), artifact("b", 6, published=False))
    assert causes(there, RetentionPolicy()) == {"a": RemovalCause.UNFINISHED}


def test_what_a_job_works_on_stays():
    unfinished = artifact("a", 500, published=False)
    busy = {unfinished.prefix, artifact("b").prefix}
    assert causes(seen(unfinished, artifact("b"), busy=busy), EVERYTHING) == {}


def test_of_a_cache_that_is_too_large_those_go_that_were_not_used_for_longest():
    there = [artifact(name, days) for name, days in (("a", 50), ("b", 40), ("c", 30), ("d", 20))]
    by_day = {day_of(a.changed_at): a.size for a in there}
    cutoff = size_cutoff(by_day, 250)
    assert cutoff == SizeCutoff(day_of(ago(40)), 150)
    policy = RetentionPolicy(total_bytes=250)
    assert causes(seen(*there, cutoff=cutoff), policy) == {"a": RemovalCause.SIZE, "b": RemovalCause.SIZE}
    assert causes(seen(*there[2:], cutoff=cutoff), policy) == {}, "those of other shards are older"
    assert size_cutoff(by_day, 400) is None
    assert size_cutoff(by_day, None) is None
    assert size_cutoff({}, 0) is None


def test_what_was_never_published_does_not_count_for_the_size():
    left = artifact("left", 100, published=False, size=1000)
    there = [artifact("a", 50), artifact("b", 40), left]
    cutoff = size_cutoff({day_of(a.changed_at): a.size for a in there if a.published}, 100)
    found = causes(seen(*there, cutoff=cutoff), RetentionPolicy(total_bytes=100))
    assert found == {"left": RemovalCause.UNFINISHED, "a": RemovalCause.SIZE}


def test_no_more_goes_at_once_than_allowed_and_the_oldest_first():
    there = [artifact(f"{number}", 100 + number) for number in range(9)]
    assert list(causes(seen(*there), EVERYTHING, 3)) == ["8", "7", "6"]


def test_a_read_is_noted_in_time_for_the_guard():
    assert READ_NOTED_EVERY + READ_REMEMBERED < GUARD


MOMENTS = st.floats(0, 400).map(ago)
SPANS = st.one_of(st.none(), st.integers(30, 100).map(lambda days: days * DAY))


@given(
    artifacts=st.lists(
        st.builds(
            lambda number, days, recipe, published, size: artifact(
                f"{number}", days, recipe=recipe, published=published, size=size
            ),
            st.integers(0, 50),
            st.floats(0, 400),
            st.sampled_from([CURRENT, OLD]),
            st.booleans(),
            st.integers(0, 1000),
        ),
        max_size=8,
        unique_by=lambda a: a.prefix,
    ),
    reads=st.dictionaries(st.integers(0, 50), MOMENTS, max_size=8),
    busy=st.sets(st.integers(0, 50), max_size=8),
    policy=st.builds(
        RetentionPolicy,
        idle=SPANS,
        superseded=SPANS,
        unlisted=SPANS,
        total_bytes=st.one_of(st.none(), st.integers(0, 5000)),
    ),
    noted_since=MOMENTS,
    superseded_since=st.one_of(st.none(), MOMENTS),
    most=st.integers(0, 9),
)
def test_whatever_there_is_nothing_goes_that_is_needed(
    artifacts, reads, busy, policy, noted_since, superseded_since, most
):
    prefixes = {a.prefix for a in artifacts for number in busy if a.identity == f"md5-{number}"}
    snapshot = RetentionSnapshot(
        NOW,
        artifacts,
        {a.prefix: moment for a in artifacts for n, moment in reads.items() if a.identity == f"md5-{n}"},
        noted_since,
        {CURRENT},
        {OLD: superseded_since} if superseded_since else {},
        {a.identity for a in artifacts},
        prefixes,
    )
    by_day: dict[int, int] = {}
    for one in staying(snapshot, policy, []):
        day = day_of(used_at(one, snapshot))
        by_day[day] = by_day.get(day, 0) + one.size
    snapshot = replace(snapshot, cutoff=size_cutoff(by_day, policy.total_bytes))
    removals = plan_removals(snapshot, policy, most)
    assert len(removals) <= most
    for_size = [removal.artifact.size for removal in removals if removal.cause is RemovalCause.SIZE]
    if for_size:
        assert policy.total_bytes is not None
        assert sum(by_day.values()) - sum(for_size[:-1]) > policy.total_bytes, "the last one was needed"
    for removal in removals:
        gone = removal.artifact
        assert gone.prefix not in prefixes
        assert NOW - used_at(gone, snapshot) >= GUARD
        if gone.published:
            assert policy.deletes_published
        if removal.cause is RemovalCause.SUPERSEDED:
            assert gone.recipe == OLD
            assert superseded_since is not None
            assert NOW - superseded_since >= 30 * DAY
    if policy.total_bytes is not None and most == 9:
        kept = sum(a.size for a in artifacts if a.published) - sum(
            r.artifact.size for r in removals if r.artifact.published
        )
        young = [a for a in artifacts if a.published and NOW - used_at(a, snapshot) < GUARD]
        held = [a for a in artifacts if a.published and a.prefix in prefixes]
        assert kept <= policy.total_bytes or young or held


# -- keys ------------------------------------------------------------------------------------


def test_a_prefix_tells_the_workflow_key():
    identity = Identity(IdentityKind.WEAK, "ab" * 32)
    recipe = Recipe("bam-index", "3.1.0d", formats.NARROWPEAK)
    prefix = artifact_prefix(identity, recipe)
    assert workflow_key_of(prefix) == workflow_key(identity, recipe)
    assert prefix.split("/")[3] == recipe_name(recipe)
    assert prefix.startswith(cache_shards("1"))
    assert all("-" not in known.name for known in formats.ALL), "the format is what follows the last dash"


def test_objects_are_gathered_by_artifact():
    identity, recipe = Identity(IdentityKind.MD5, "ab" * 16), Recipe("bam", "1", formats.BAM)
    keys = [cache_key(identity, recipe, name) for name in ("a.bam", MANIFEST, "step-sort.json")]
    listed = [(key, 10, ago(number)) for number, key in enumerate(keys)]
    stray = CacheKey("p1/ab/stray")
    (found,), others = gathered([*listed, (stray, 1, NOW)], MANIFEST)
    assert found == StoredArtifact(
        artifact_prefix(identity, recipe), str(identity), "bam-1-bam", tuple(keys), 30, True, ago(0)
    )
    assert others == [stray]
    (unfinished,), _ = gathered(listed[:1], MANIFEST)
    assert not unfinished.published
