"""Which artifacts may go: pure functions of what is stored, what was read, and the policy.

| seen of an artifact | it goes |
| --- | --- |
| used within the last `GUARD`, or its content is being worked on | never |
| no manifest: parts of attempts that did not end well | unchanged for `unfinished` |
| its recipe is no longer current, since `superseded` or longer | not used for that long either |
| published, and attempts' results lie beside it | the results alone, unchanged for `unfinished` |
| no catalog entry has its content | not used for `unlisted` |
| any | not used for `idle` |
| the cache is larger than `total_bytes` | those that were not used for longest, as many as it takes |

"Used" is published or read. A read is noted at most once a day, so who was read a moment ago may say
the day before yesterday: hence the guard. What of the policy is None is never a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from gooseherd.domain.keys import CacheKey, is_result

READ_NOTED_EVERY: Final = timedelta(days=1)
"""How often it is written down that an artifact is read."""
READ_REMEMBERED: Final = timedelta(hours=12)
"""How long a process does not look again whether a read is to be noted."""
GUARD: Final = timedelta(days=2)
"""Nothing that was used since goes, whatever the policy: longer than the two above together."""
SUPERSEDED_LEAST: Final = timedelta(days=30)
"""What a version before the present one has made stays so long at least: a rollback needs it."""
UNFINISHED_LEAST: Final = timedelta(days=2)
"""What an attempt left, which may be the first half of the next one's work; longer than any attempt lasts."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """None: not a reason. `superseded` and `unfinished` have least values."""

    idle: timedelta | None = None
    superseded: timedelta | None = None
    unlisted: timedelta | None = None
    unfinished: timedelta = timedelta(days=7)
    total_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.superseded is not None and self.superseded < SUPERSEDED_LEAST:
            raise ValueError("superseded artifacts stay at least 30 days")
        if self.unfinished < UNFINISHED_LEAST:
            raise ValueError("unfinished artifacts stay at least 2 days")

    @property
    def deletes_published(self) -> bool:
        """Whether anything published can ever go."""
        rules = (self.idle, self.superseded, self.unlisted, self.total_bytes)
        return any(rule is not None for rule in rules)


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """All objects below one artifact's prefix, as they were listed."""

    prefix: str
    identity: str
    recipe: str
    """The processor, its version and the format, as they stand in the prefix."""
    keys: tuple[CacheKey, ...]
    size: int
    published: bool
    """It has a manifest."""
    changed_at: datetime
    """When its newest object was stored."""


@dataclass(frozen=True, slots=True)
class RetentionSnapshot:
    """Some of the artifacts there are, and what is known of them; times by the store's clock."""

    now: datetime
    artifacts: Sequence[StoredArtifact]
    read_at: Mapping[str, datetime]
    """When each prefix was last noted as read."""
    reads_noted_since: datetime
    """What was read before that is not known: it counts as read then."""
    current_recipes: Collection[str] = ()
    superseded_since: Mapping[str, datetime] = field(default_factory=dict)
    """When a recipe that is not current was last seen to be; one that is not here is not known to be old."""
    unlisted: Collection[str] = ()
    """Identities that no catalog entry has."""
    busy: Collection[str] = ()
    """Prefixes whose workflow has a live job."""
    cutoff: SizeCutoff | None = None
    """What is to be freed; None: the cache is not too large, or its size is not known yet."""


class RemovalCause(StrEnum):
    """Why an artifact goes; the first that holds."""

    UNFINISHED = "unfinished"
    SUPERSEDED = "superseded"
    UNLISTED = "unlisted"
    IDLE = "idle"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class RemoveArtifact:
    """`used_at` is what the decision was made of: a read since then undoes it."""

    artifact: StoredArtifact
    cause: RemovalCause
    used_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class RemoveResults:
    """The attempts' own manifests beside the one that is published, which nobody looks at any more."""

    prefix: str
    keys: tuple[CacheKey, ...]


@dataclass(frozen=True, slots=True)
class SizeCutoff:
    """To make the cache small enough, `excess` bytes of artifacts not used since `day` have to go.

    Beside those that go for another reason.
    """

    day: int
    """Days since 1970, the last one that may go."""
    excess: int


def used_at(artifact: StoredArtifact, snapshot: RetentionSnapshot) -> datetime:
    """When it was last published or read, as far as that was noted; what is not published nobody reads."""
    if not artifact.published:
        return artifact.changed_at
    read = snapshot.read_at.get(artifact.prefix, snapshot.reads_noted_since)
    return max(artifact.changed_at, read)


def plan_removals(snapshot: RetentionSnapshot, policy: RetentionPolicy, most: int) -> list[RemoveArtifact]:
    """The table above, as code; at most `most`, those not used for longest first."""
    found: list[RemoveArtifact] = []
    excess = snapshot.cutoff.excess if snapshot.cutoff is not None else 0
    for artifact in sorted(snapshot.artifacts, key=lambda a: (used_at(a, snapshot), a.prefix)):
        used = used_at(artifact, snapshot)
        if artifact.prefix in snapshot.busy or snapshot.now - used < GUARD:
            continue
        cause = _cause(artifact, used, snapshot, policy)
        if cause is None and artifact.published and snapshot.cutoff is not None:
            small_enough = excess <= 0 or day_of(used) > snapshot.cutoff.day
            cause = None if small_enough else RemovalCause.SIZE
        if cause is not None:
            excess -= artifact.size if cause is RemovalCause.SIZE else 0
            found.append(RemoveArtifact(artifact, cause, used, snapshot.read_at.get(artifact.prefix)))
    return found[:most]


def staying(
    snapshot: RetentionSnapshot, policy: RetentionPolicy, removals: Collection[RemoveArtifact]
) -> list[StoredArtifact]:
    """Published artifacts that count for the size of the cache once the `removals` are done.

    What goes for another reason does not, although it may have to wait until a later pass.
    """
    going = {removal.artifact.prefix for removal in removals}
    found = []
    for artifact in snapshot.artifacts:
        used = used_at(artifact, snapshot)
        may_go = artifact.prefix not in snapshot.busy and snapshot.now - used >= GUARD
        goes = artifact.prefix in going or (may_go and _cause(artifact, used, snapshot, policy) is not None)
        if artifact.published and not goes:
            found.append(artifact)
    return found


def unlisted_candidates(snapshot: RetentionSnapshot, policy: RetentionPolicy) -> frozenset[str]:
    """Identities of artifacts that would go if no catalog entry had them: only those need be looked for."""
    if policy.unlisted is None:
        return frozenset()
    least = max(policy.unlisted, GUARD)
    return frozenset(
        artifact.identity
        for artifact in snapshot.artifacts
        if artifact.published and snapshot.now - used_at(artifact, snapshot) >= least
    )


def plan_results(snapshot: RetentionSnapshot, policy: RetentionPolicy, most: int) -> list[RemoveResults]:
    """Of at most `most` artifacts. Without a manifest a result may yet be published, so it stays."""
    found = [
        RemoveResults(artifact.prefix, results)
        for artifact in snapshot.artifacts
        if artifact.published
        and artifact.prefix not in snapshot.busy
        and snapshot.now - artifact.changed_at >= policy.unfinished
        and (results := tuple(key for key in artifact.keys if is_result(key)))
    ]
    return found[:most]


def _cause(
    artifact: StoredArtifact, used: datetime, snapshot: RetentionSnapshot, policy: RetentionPolicy
) -> RemovalCause | None:
    unused = snapshot.now - used
    if not artifact.published:
        return RemovalCause.UNFINISHED if unused >= policy.unfinished else None
    if policy.superseded is not None and artifact.recipe not in snapshot.current_recipes:
        since = snapshot.superseded_since.get(artifact.recipe)
        if since is not None and min(snapshot.now - since, unused) >= policy.superseded:
            return RemovalCause.SUPERSEDED
    if policy.unlisted is not None and artifact.identity in snapshot.unlisted and unused >= policy.unlisted:
        return RemovalCause.UNLISTED
    if policy.idle is not None and unused >= policy.idle:
        return RemovalCause.IDLE
    return None


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def day_of(moment: datetime) -> int:
    """Days since 1970."""
    return (moment - _EPOCH).days


def size_cutoff(by_day: Mapping[int, int], total_bytes: int | None) -> SizeCutoff | None:
    """What has to go so that no more than `total_bytes` stay; None: nothing.

    `by_day` has the bytes of published artifacts by the day when they were last used: all there are,
    in bounded memory.
    """
    if total_bytes is None:
        return None
    excess = sum(by_day.values()) - total_bytes
    if excess <= 0:
        return None
    freed = 0
    for day in sorted(by_day):
        freed += by_day[day]
        if freed >= excess:
            return SizeCutoff(day, excess)
    raise AssertionError("all of it is more than the excess")


def gathered(
    objects: Iterable[tuple[CacheKey, int, datetime]], manifest: str
) -> tuple[list[StoredArtifact], list[CacheKey]]:
    """Objects in the order of their keys as artifacts, and keys that belong to none."""
    artifacts: dict[str, StoredArtifact] = {}
    others: list[CacheKey] = []
    for key, size, changed_at in objects:
        words = key.split("/")
        if len(words) != 5:
            others.append(key)
            continue
        prefix = "/".join(words[:4]) + "/"
        known = artifacts.get(prefix)
        if known is None:
            known = StoredArtifact(prefix, words[2], words[3], (), 0, False, changed_at)
        artifacts[prefix] = StoredArtifact(
            prefix,
            known.identity,
            known.recipe,
            (*known.keys, key),
            known.size + size,
            known.published or words[4] == manifest,
            max(known.changed_at, changed_at),
        )
    return list(artifacts.values()), others
