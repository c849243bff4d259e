"""Any sequence of calls on batches, by callers, submitters and who comes late, against a small model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

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

pytestmark = pytest.mark.integration

LONG, OVER = timedelta(hours=1), timedelta(0)
LIMITS = BatchLimits(open_batches=4, open_per_requester=3)
WHO = st.sampled_from([Requester("anne"), Requester("bert")])
OWNERS = st.sampled_from([Owner("here"), Owner("there")])
STATES = st.sampled_from(list(MemberState))
WHICH = st.integers(0, 99)


@dataclass
class Known:
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


class BatchStoreMachine(RuleBasedStateMachine):
    def __init__(self, runner: asyncio.Runner, store: Any) -> None:
        super().__init__()
        self.runner, self.store, self.batches = runner, store, store.batches
        self.known: dict[str, Known] = {}
        self.made = 0
        self.run(store.forget_jobs())

    def run(self, work: Awaitable[Any]) -> Any:
        async def call() -> Any:
            return await work

        return self.runner.run(call())

    def pick(self, which: int) -> tuple[BatchId, Known]:
        ids = sorted(self.known)
        chosen = ids[which % len(ids)]
        return BatchId(chosen), self.known[chosen]

    @rule(
        who=WHO,
        files=st.integers(0, 3),
        key=st.sampled_from([None, None, "k"]),
        digest=st.sampled_from(["d", "d", "d", "e"]),
    )
    def create(self, who, files, key, digest):
        batch_id = BatchId(f"{self.made:03}")
        names = tuple((Dcc("d"), LocalId(f"f{number}")) for number in range(files))
        new = NewBatch(batch_id, who, names, digest, key)
        there = next((i for i, b in self.known.items() if key and (b.who, b.key) == (who, key)), None)
        going = [batch for batch in self.known.values() if not batch.ended]
        full = len(going) >= 4 or sum(batch.who == who for batch in going) >= 3
        try:
            stored = self.run(self.batches.create(new, LIMITS))
        except InvalidInput:
            assert there is not None
            assert self.known[there].digest != digest
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
        self.made += 1
        self.known[batch_id] = Known(who, key, digest, [MemberState.WAITING] * files, [None] * files)

    @precondition(lambda self: self.known)
    @rule(which=WHICH, owner=OWNERS, ttl=st.sampled_from([LONG, OVER]))
    def hold(self, which, owner, ttl):
        batch_id, batch = self.pick(which)
        free = batch.owner in (None, owner) or batch.stale
        held = self.run(self.batches.hold(batch_id, owner, ttl))
        assert held == (free and not batch.ended)
        if held:
            batch.owner, batch.stale = owner, ttl is OVER

    @precondition(lambda self: self.known)
    @rule(
        which=WHICH,
        changes=st.lists(st.tuples(st.integers(0, 3), STATES, STATES), max_size=3, unique_by=lambda c: c[0]),
        job=st.sampled_from([JobId("j1"), JobId("j2")]),
    )
    def record(self, which, changes, job):
        batch_id, batch = self.pick(which)
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

    @precondition(lambda self: self.known)
    @rule(which=WHICH)
    def cancel(self, which):
        batch_id, batch = self.pick(which)
        shown = self.run(self.batches.cancel(batch_id))
        if not batch.ended:
            batch.cancelled = True
            batch.states = [
                MemberState.CANCELLED if state is MemberState.WAITING else state for state in batch.states
            ]
        assert shown.cancel_requested == batch.cancelled

    @precondition(lambda self: self.known)
    @rule(which=WHICH)
    def end(self, which):
        batch_id, batch = self.pick(which)
        done = self.run(self.batches.end(batch_id))
        assert done == (not batch.ended and all(state in ENDED for state in batch.states))
        batch.ended = batch.ended or done

    @precondition(lambda self: self.known)
    @rule(which=WHICH, job=st.sampled_from([JobId("j1"), JobId("j2")]), who=WHO)
    def wanted(self, which, job, who):
        batch_id, _ = self.pick(which)
        others = [b for i, b in self.known.items() if i != batch_id and b.who == who and not b.cancelled]
        expected = any(
            state in IN_FLIGHT and known == job
            for other in others
            for state, known in zip(other.states, other.jobs, strict=True)
        )
        assert self.run(self.batches.wanted_by_another(batch_id, job, who)) == expected

    @rule(past=st.booleans())
    def forget(self, past):
        moment = self.run(self.store.jobs.now()) + (-LONG if past else LONG)
        ended = [batch_id for batch_id, batch in self.known.items() if batch.ended]
        forgotten = self.run(self.batches.forget_ended(moment, 99))
        assert forgotten == (0 if past else len(ended))
        for batch_id in () if past else ended:
            del self.known[batch_id]

    @invariant()
    def the_store_is_as_the_model_says(self):
        shown = {batch.batch_id: batch for batch in self.run(self.batches.find(BatchQuery(limit=99))).batches}
        assert set(shown) == set(self.known)
        unfinished = {batch.batch_id for batch in self.run(self.batches.unfinished(99))}
        assert unfinished == {batch_id for batch_id, batch in self.known.items() if not batch.ended}
        for batch_id, batch in self.known.items():
            there = shown[batch_id]
            members = self.run(self.batches.members(BatchId(batch_id), limit=99))
            assert [member.state for member in members] == batch.states
            assert there.total == len(batch.states)
            assert {state: count for state, count in there.counts.items() if count} == Counter(batch.states)
            assert (there.ended_at is not None) == batch.ended
            # No file without a future: a batch that is active has one that waits or is in flight.
            active = any(state not in ENDED for state in batch.states)
            assert (there.status is BatchStatus.ACTIVE) == active


@pytest.mark.slow
def test_no_sequence_of_calls_loses_a_file_of_a_batch(
    open_store: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    with asyncio.Runner() as runner:
        opened = open_store()
        store = runner.run(opened.__aenter__())
        try:
            run_state_machine_as_test(
                partial(BatchStoreMachine, runner, store),  # type: ignore[arg-type]  # any callable will do
                settings=settings(
                    max_examples=30,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
