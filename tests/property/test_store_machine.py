"""Any sequence of calls on jobs, reservations and batches: every store against one small model.

At most one active job a key, fences grow, ended is ended with its first reason, no job and no file of a batch
without a future, limits, permits and the floor never exceeded, and retention takes only what has ended.
"""

from __future__ import annotations

import pytest
from hypothesis.stateful import invariant
from tests.property.batch_rules import BatchRules
from tests.property.job_rules import JobRules
from tests.property.key_rules import KeyRules
from tests.property.store_machine import OpenStore, run_machine

from gooseherd.domain.batch import IN_FLIGHT, BatchId, JobOutcome, Member, member_change
from gooseherd.domain.source import Dcc, LocalId

pytestmark = pytest.mark.integration


class WholeStore(JobRules, BatchRules):
    """All of it on one store."""

    @invariant()
    def members_follow_their_jobs(self) -> None:
        for batch_id, batch in self.known_batches.items():
            stand = {
                member.number: outcome
                for member, outcome in self.run(self.batches.moved(BatchId(batch_id), 99))
            }
            for number, (state, job_id) in enumerate(zip(batch.states, batch.jobs, strict=True)):
                if state not in IN_FLIGHT or job_id is None:
                    assert number not in stand
                    continue
                job = self.known.get(job_id)
                outcome = JobOutcome(None) if job is None else JobOutcome(job.status, job.reason)
                member = Member(number, Dcc("d"), LocalId(f"f{number}"), state, job_id)
                if member_change(member, outcome) is not None:
                    assert stand[number].status is outcome.status, "a file never misses its job's end"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_sequence_of_calls_breaks_the_life_of_a_job_or_loses_a_file_of_a_batch(
    open_store: OpenStore,
) -> None:
    run_machine(WholeStore, open_store, examples=40, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_sequence_of_calls_opens_a_revoked_key_or_a_revoked_token(open_store: OpenStore) -> None:
    run_machine(KeyRules, open_store, examples=15, steps=25)
