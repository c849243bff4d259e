"""The schedule of a fault campaign follows from its seed, and its audit finds what it is there to find."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.faults.campaign import audit, stored
from tests.faults.campaign.limit_watch import LimitWatch, exceeded
from tests.faults.campaign.run import Report
from tests.faults.campaign.schedule import Action, schedule

from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.job import Requester
from gooseherd.domain.reservation import EndReason, Purpose, Reservation, ReservationId, ReservationState

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


def in_session(number: int, began: float, ended: float, session: str) -> dict[str, Any]:
    return {**attempt(number, began, ended), "dispatched": {"session_id": session}}


def test_two_jobs_at_a_time_in_one_session_are_found() -> None:
    one = row("a", attempts=[in_session(1, 1, 10, "s")])
    other = row("b", attempts=[in_session(1, 9, 20, "s")])
    (found,) = audit.two_in_a_session([one, other])
    assert "a and b" in found
    assert audit.two_in_a_session([one, {**other, "attempts": [in_session(1, 9, 20, "t")]}]) == []
    assert audit.two_in_a_session([one, {**other, "attempts": [in_session(1, 10, 20, "s")]}]) == []
    assert audit.attempts_in_sessions([one, other, row("c")]) == 2


def reservation(name: str, reason: EndReason | None) -> Reservation:
    return Reservation(
        reservation_id=ReservationId(name),
        purpose=Purpose.SESSION,
        owner=Requester("anne"),
        slot=0,
        state=ReservationState.ENDED,
        build="b",
        deployed_at=START,
        created_at=START,
        changed_at=START,
        reason=reason,
    )


def test_a_session_that_ended_without_a_reason_or_for_another_one_than_the_first_is_found() -> None:
    ended = [reservation("s", EndReason.EXPLICIT), reservation("t", None)]
    found = audit.wrong_reservations(ended, {"s": "idle_timeout", "gone": "explicit"})
    assert [finding.split()[1] for finding in found] == ["t", "s", "gone"]
    assert audit.wrong_reservations(ended[:1], {"s": "explicit"}) == []


def test_a_key_with_two_batches_and_a_batch_that_is_not_the_told_one_are_found() -> None:
    assert audit.wrong_batches({"k": ["a"], "lost answer": ["b"]}, {"k": "a", "lost answer": None}) == []
    assert len(audit.wrong_batches({"k": ["a", "b"]}, {"k": "a"})) == 1
    assert len(audit.wrong_batches({"k": ["a"]}, {"k": "b"})) == 1
    assert len(audit.wrong_batches({}, {"k": "b"})) == 1


@pytest.mark.parametrize("reason", ["launch_failed", "out_of_memory", "no_capacity", "source_invalid"])
def test_a_job_that_is_blamed_for_the_death_of_its_workers_is_found(reason: str) -> None:
    blamed = row("a", status="failed", reason=reason, detail="")
    (found,) = audit.misattributed([blamed, row("b", status="failed", reason="worker_lost", detail="")])
    assert "job a" in found
    assert reason in found


def test_an_attempt_that_is_said_to_have_run_out_of_memory_is_found() -> None:
    killed = row("a", attempts=[{**attempt(1, 1, 2, "out_of_memory"), "detail": ""}, attempt(2, 3, 4)])
    (found,) = audit.misattributed([killed])
    assert "attempt 1 of job a" in found


def test_a_job_that_was_cancelled_while_somebody_waited_for_it_is_found() -> None:
    rows = [
        row("a", status="cancelled"),
        row("b", status="cancelled"),
        row("c", status="cancelled"),
        row("d"),
    ]
    wanted = {"a": {"192.0.2.1"}, "b": set[str](), "c": {"192.0.2.1"}, "d": {"192.0.2.1"}}
    (found,) = audit.cancelled_for_nobody(rows, wanted, {"c"})
    assert "job a" in found


def test_limits_that_are_exceeded_are_found() -> None:
    floor, session = {"purpose": "floor", "owner": "floor-0"}, {"purpose": "session", "owner": "anne"}
    assert exceeded({"anne": 3}, [floor, session]) == []
    assert len(exceeded({"anne": 4}, [])) == 1
    assert len(exceeded({}, [floor, floor])) == 1
    assert len(exceeded({}, [session, session])) == 1


def test_a_watch_that_broke_or_never_saw_the_limits_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def watched(error: Exception | None) -> LimitWatch:
        def running(_: str) -> dict[str, int]:
            asked.set()
            if error is not None:
                raise error
            return {}

        asked.clear()
        monkeypatch.setattr(stored, "running", running)
        monkeypatch.setattr(stored, "live_owners", lambda _: [])
        with LimitWatch("") as watch:
            assert asked.wait(60)
        return watch

    sound = watched(None)
    assert (sound.findings, sound.looked > 0) == ([], True)
    assert "KeyError" in watched(KeyError("running")).findings[0]
    (never,) = watched(StoreUnavailable("campaign")).findings
    assert "looked at 0 times" in never


@pytest.mark.parametrize(
    ("minutes", "jobs", "kills", "enough"),
    [(5.0, 200, 60, True), (5.0, 199, 60, False), (7.5, 200, 59, False), (0.4, 3, 1, True)],
)
def test_a_run_of_five_minutes_with_few_jobs_or_kills_proves_too_little(
    minutes: float, jobs: int, kills: int, enough: bool
) -> None:
    done = Counter({Action.KILL_WORKER.value: kills, Action.PAUSE_API.value: 100})
    report = Report(1, minutes, jobs, done=done)
    assert report.sound
    assert (report.too_little is None) == enough
