"""A storm is not the job's fault: 45 workers killed in three minutes, on the virtual clock."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from tests.simulation.storm import KILLS, storm

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(5))
def test_no_job_is_blamed_for_workers_that_are_killed_as_fast_as_they_come(seed: int) -> None:
    seen = storm(seed)
    assert seen.kills == KILLS
    assert seen.violations == []
    assert seen.killed_at_work > 0
    assert seen.attempts["launch_failed"] + seen.attempts["worker_lost"] > 0
    # Of a death that nothing is known of, nothing is said; and who never began has lost no try by it.
    assert seen.attempts["out_of_memory"] == 0
    allowed = {"completed: published", "failed: worker_lost"}
    assert seen.ends.keys() <= allowed, seen.ends
