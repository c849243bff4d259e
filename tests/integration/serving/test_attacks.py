"""The attacks of `./dev bench attacks`: what the attacker is answered, and what others notice."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmark_modules import load_benchmark

pytestmark = pytest.mark.integration

attacks: Any = load_benchmark("attacks")
MOST_TIMES = 3.0
TRIES = 3


@pytest.mark.timeout(600)
def test_whoever_attacks_gets_refusals_and_others_their_bytes() -> None:
    rows = list(attacks.attacked(1.0))
    assert len(rows) == len(attacks.ATTACKS)
    assert [row for row in rows if not row["expected"]] == []
    assert max(row["memory_mib"] for row in rows) < 2 * rows[0]["memory_mib"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_during_an_attack_others_wait_at_most_three_times_as_long() -> None:
    """In one of three runs: what else the machine does comes and goes, what an attack costs stays."""
    slow = {attack.run.__name__.replace("_", " ") for attack in attacks.ATTACKS}
    for _ in range(TRIES):
        for row in attacks.attacked(10.0):
            if row["expected"] and row["ratio"] <= MOST_TIMES:
                slow.discard(row["attack"])
    assert slow == set()
