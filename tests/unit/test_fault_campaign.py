"""The schedule of a fault campaign follows from its seed, and its audit finds what it is there to find."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.faults.campaign import audit
from tests.faults.campaign.schedule import Action, schedule

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(
    number: int, began: float, ended: float | None, reason: str | None = "published"
) -> dict[str, Any]:
    return {
        "number": number,
        "started_at": at(began),
        "ended_at": None if ended is None else at(ended),
        "reason": reason,
    }


def row(job_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "local_id": "f.bed",
        "workflow_key": "key",
        "status": "completed",
        "reason": "published",
        "created_at": at(0),
        "finished_at": at(10),
        "attempts": [attempt(1, 1, 10)],
        "lease_owner": None,
        "running_slot": None,
        **fields,
    }


def test_the_seed_decides_the_schedule() -> None:
    assert schedule(1, 5) == schedule(1, 5)
    assert schedule(1, 5) != schedule(2, 5)


@pytest.mark.parametrize("seed", range(20))
def test_five_minutes_have_more_than_sixty_kills_and_a_pause_of_everybody(seed: int) -> None:
    counts = Counter(trouble.action for trouble in schedule(seed, 5))
    assert sum(times for action, times in counts.items() if action.kills) > 60
    assert {Action.KILL_API, Action.KILL_STORE, Action.PAUSE_WORKER} <= counts.keys()
    assert [trouble.at for trouble in schedule(seed, 5)] == sorted(
        trouble.at for trouble in schedule(seed, 5)
    )


def test_what_went_well_is_no_finding() -> None:
    rows = [
        row("a", status="failed", reason="worker_lost", attempts=[attempt(1, 1, 5), attempt(2, 6, 10)]),
        row("b", created_at=at(11), finished_at=at(20)),
    ]
    assert audit.lost(rows, {"a": "f.bed", "b": "f.bed"}) == []
    assert audit.duplicated(rows) == []
    assert audit.left_in_store(rows) == []
    assert audit.corrupt({("f.bed", "data"): "d"}, {("f.bed", "data"): "d"}) == []


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        ([], "is not in the store"),
        ([row("a", status="running", reason=None, finished_at=None)], "is running for ever"),
        ([row("a", reason=None)], "without a reason"),
        ([row("a", attempts=[attempt(1, 1, 10, None)])], "attempt 1 of job a ended without a reason"),
    ],
)
def test_a_lost_job_is_found(rows: list[dict[str, Any]], finding: str) -> None:
    (found,) = audit.lost(rows, {"a": "f.bed"})
    assert finding in found


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        ([row("a"), row("b", created_at=at(11))], "was completed by"),
        ([row("a", status="failed"), row("b", created_at=at(9))], "jobs a and b of key overlap"),
        ([row("a", attempts=[attempt(1, 1, 9), attempt(2, 8, 10)])], "attempts 1 and 2 of job a overlap"),
        ([row("a", attempts=[attempt(1, 1, None), attempt(2, 8, 10)])], "attempts 1 and 2 of job a overlap"),
    ],
)
def test_work_that_was_done_twice_is_found(rows: list[dict[str, Any]], finding: str) -> None:
    (found,) = audit.duplicated(rows)
    assert finding in found


def test_a_lease_and_a_slot_that_stayed_are_found() -> None:
    found = audit.left_in_store([row("a", lease_owner="one"), row("b", running_slot=0)])
    assert [finding.split()[1] for finding in found] == ["a", "b"]


def test_bytes_that_are_others_or_missing_are_found() -> None:
    clean = {("f.bed", "data"): "d", ("g.bed", "index"): "i"}
    assert len(audit.corrupt({("f.bed", "data"): "x"}, clean)) == 2


def test_work_folders_that_were_left_are_found(tmp_path: Path) -> None:
    assert audit.left_in_folders(tmp_path) == []
    (tmp_path / "task" / "work" / "a.1").mkdir(parents=True)
    (tmp_path / "task" / "work" / "a.1" / "spec.json").touch()
    assert len(audit.left_in_folders(tmp_path)) == 1
