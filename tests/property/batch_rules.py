"""Calls on batches, by callers, submitters and who comes late, against a small model."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from tests.property.store_machine import LONG, OVER, OWNERS, WHICH, WHO, StoreMachine

from gooseherd.domain.batch import (
    ENDED,
    IN_FLIGHT,
    BatchId,
    BatchStatus,
    MemberChange,
    MemberState,
    NewBatch,
)
from gooseherd.domain.errors import InvalidInput, LimitReached
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, Owner, Requester
from gooseherd.domain.ports.batches import BatchLimits, BatchQuery
from gooseherd.domain.source import Dcc, LocalId

LIMITS = BatchLimits(open_batches=4, open_per_requester=3)
JOBS = st.sampled_from([JobId(f"{number:03}") for number in range(4)])
"""Some are those of jobs that there are, as soon as a machine makes any."""
STATES = st.sampled_from(list(MemberState))


@dataclass
class KnownBatch:
    """What the model believes of one batch."""

    who: Requester
    key: str | None
    digest: str
    states: list[MemberState]
    jobs: list[JobId | None] = field(default_factory=list)
    cancelled: bool = False
    ended: bool = False
    owner: Owner | None = None
    stale: bool = True


class BatchRules(StoreMachine):
    def __init__(self, runner: asyncio.Runner, store: Any) -> None:
        super().__init__(runner, store)
        self.batches = store.batches
        self.known_batches: dict[str, KnownBatch] = {}
        self.batches_made = 0

    def pick_batch(self, which: int) -> tuple[BatchId, KnownBatch]:
        ids = sorted(self.known_batches)
        chosen = ids[which % len(ids)]
        return BatchId(chosen), self.known_batches[chosen]

    @rule(
        who=WHO,
        files=st.integers(0, 3),
        key=st.sampled_from([None, None, "k"]),
        digest=st.sampled_from(["d", "d", "d", "e"]),
    )
    def create_batch(self, who, files, key, digest):
        batch_id = BatchId(f"{self.batches_made:03}")
        names = tuple((Dcc("d"), LocalId(f"f{number}")) for number in range(files))
        new = NewBatch(batch_id, who, names, digest, key)
        there = next((i for i, b in self.known_batches.items() if key and (b.who, b.key) == (who, key)), None)
        going = [batch for batch in self.known_batches.values() if not batch.ended]
        full = len(going) >= 4 or sum(batch.who == who for batch in going) >= 3
        try:
            stored = self.run(self.batches.create(new, LIMITS))
        except InvalidInput:
            assert there is not None
            assert self.known_batches[there].digest != digest
            return
        except LimitReached:
            assert there is None
            assert full
            return
        if there is not None:
            assert (stored.created, stored.batch.batch_id) == (False, there)
            return
        assert stored.created
        assert not full
        self.batches_made += 1
        self.known_batches[batch_id] = KnownBatch(
            who, key, digest, [MemberState.WAITING] * files, [None] * files
        )

    @precondition(lambda self: self.known_batches)
    @rule(which=WHICH, owner=OWNERS, ttl=st.sampled_from([LONG, OVER]))
    def hold_batch(self, which, owner, ttl):
        batch_id, batch = self.pick_batch(which)
        free = batch.owner in (None, owner) or batch.stale
        held = self.run(self.batches.hold(batch_id, owner, ttl))
        assert held == (free and not batch.ended)
        if held:
            batch.owner, batch.stale = owner, ttl is OVER

    @precondition(lambda self: self.known_batches)
    @rule(
        which=WHICH,
        changes=st.lists(st.tuples(st.integers(0, 3), STATES, STATES), max_size=3, unique_by=lambda c: c[0]),
        job=JOBS,
    )
    def record_members(self, which, changes, job):
        batch_id, batch = self.pick_batch(which)
        # Nothing leads out of an end, and a store relies on its callers for that.
        wanted = [(number, seen, state) for number, seen, state in changes if seen not in ENDED]
        expected = [
            (number, state)
            for number, seen, state in wanted
            if number < len(batch.states) and batch.states[number] is seen
        ]
        made = [
            MemberChange(
                number,
                seen,
                state,
                job if state in IN_FLIGHT else None,
                Reason.SOURCE_INVALID if state is MemberState.FAILED else None,
            )
            for number, seen, state in wanted
        ]
        assert self.run(self.batches.record(batch_id, made)) == len(expected)
        for number, state in expected:
            batch.states[number] = state
            batch.jobs[number] = job if state in IN_FLIGHT else None

    @precondition(lambda self: self.known_batches)
    @rule(which=WHICH)
    def cancel_batch(self, which):
        batch_id, batch = self.pick_batch(which)
        shown = self.run(self.batches.cancel(batch_id))
        if not batch.ended:
            batch.cancelled = True
            batch.states = [
                MemberState.CANCELLED if state is MemberState.WAITING else state for state in batch.states
            ]
        assert shown.cancel_requested == batch.cancelled

    @precondition(lambda self: self.known_batches)
    @rule(which=WHICH)
    def end_batch(self, which):
        batch_id, batch = self.pick_batch(which)
        done = self.run(self.batches.end(batch_id))
        assert done == (not batch.ended and all(state in ENDED for state in batch.states))
        batch.ended = batch.ended or done

    @precondition(lambda self: self.known_batches)
    @rule(which=WHICH, job=JOBS, who=WHO)
    def wanted_by_another(self, which, job, who):
        batch_id, _ = self.pick_batch(which)
        others = [
            b for i, b in self.known_batches.items() if i != batch_id and b.who == who and not b.cancelled
        ]
        expected = any(
            state in IN_FLIGHT and known == job
            for other in others
            for state, known in zip(other.states, other.jobs, strict=True)
        )
        assert self.run(self.batches.wanted_by_another(batch_id, job, who)) == expected

    @rule(past=st.booleans())
    def forget_batches(self, past):
        moment = self.run(self.store.jobs.now()) + (-LONG if past else LONG)
        ended = [batch_id for batch_id, batch in self.known_batches.items() if batch.ended]
        forgotten = self.run(self.batches.forget_ended(moment, 99))
        assert forgotten == (0 if past else len(ended))
        for batch_id in () if past else ended:
            del self.known_batches[batch_id]

    @invariant()
    def batches_are_as_the_model_says(self):
        shown = {batch.batch_id: batch for batch in self.run(self.batches.find(BatchQuery(limit=99))).batches}
        assert set(shown) == set(self.known_batches)
        unfinished = {batch.batch_id for batch in self.run(self.batches.unfinished(99))}
        assert unfinished == {batch_id for batch_id, batch in self.known_batches.items() if not batch.ended}
        for batch_id, batch in self.known_batches.items():
            there = shown[batch_id]
            members = self.run(self.batches.members(BatchId(batch_id), limit=99))
            assert [member.state for member in members] == batch.states
            assert there.total == len(batch.states)
            assert {state: count for state, count in there.counts.items() if count} == Counter(batch.states)
            assert (there.ended_at is not None) == batch.ended
            # No file without a future: a batch that is active has one that waits or is in flight.
            active = any(state not in ENDED for state in batch.states)
            assert (there.status is BatchStatus.ACTIVE) == active
