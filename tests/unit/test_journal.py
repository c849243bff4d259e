"""An attempt's journal: what is written is read back, by anybody, at any time."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from gooseherd.domain.attempt import EventKind
from gooseherd.domain.failures import Reason
from gooseherd.worker.journal import Journal, JournalReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def read_all(path: Path):
    with JournalReader(path) as reader:
        return reader.read()


def test_positions_start_at_one_and_have_no_gaps_from_many_threads(path: Path) -> None:
    journal = Journal(path)

    def write() -> None:
        for _ in range(50):
            journal.append(EventKind.HEARTBEAT)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert [event.seq for event in read_all(path)] == list(range(1, 201))


def test_events_are_read_back_as_they_were_said(path: Path) -> None:
    journal = Journal(path, clock=lambda: 1700000000.0)
    part = {"kind": "data", "key": "k", "size": 3, "sha256": "0" * 64, "filename": "x", "media_type": "y"}
    journal.append(EventKind.ACCEPTED)
    journal.append(EventKind.STEP_COMPLETE, step="sort", parts=(part,), percent=55.0)
    result = journal.append(EventKind.FAILED, reason=Reason.TOOL_FAILED, detail="no")
    journal.close()
    events = read_all(path)
    assert [event.kind for event in events] == [EventKind.ACCEPTED, EventKind.STEP_COMPLETE, EventKind.FAILED]
    assert events[1].parts == (part,)
    assert events[2] == result
    assert events[2].at == 1700000000.0


def test_progress_is_held_to_two_a_second_and_nothing_else_is(path: Path) -> None:
    journal = Journal(path)
    for percent in range(100):
        journal.append(EventKind.PROGRESS, percent=float(percent))
        journal.append(EventKind.STEP, step=str(percent))
    journal.close()
    kinds = [event.kind for event in read_all(path)]
    assert kinds.count(EventKind.STEP) == 100
    assert kinds.count(EventKind.PROGRESS) < 50


def test_past_its_size_limit_only_what_matters_is_written(path: Path) -> None:
    journal = Journal(path, max_bytes=500)
    for _ in range(100):
        journal.append(EventKind.HEARTBEAT)
    journal.append(EventKind.DONE, manifest_digest="d")
    journal.close()
    assert path.stat().st_size < 700
    assert read_all(path)[-1].kind is EventKind.DONE


def test_nothing_follows_the_last_event(path: Path) -> None:
    journal = Journal(path)
    journal.append(EventKind.DONE, manifest_digest="d")
    assert journal.append(EventKind.FAILED, reason=Reason.CANCELLED, detail="late") is None
    assert journal.over
    journal.close()
    assert len(read_all(path)) == 1


def test_a_journal_is_never_written_by_two_lives(path: Path) -> None:
    Journal(path).close()
    with pytest.raises(FileExistsError):
        Journal(path)


def test_a_torn_last_line_is_not_seen_until_it_is_whole(path: Path) -> None:
    whole = b'{"seq":1,"kind":"accepted","at":1.0}\n{"seq":2,"kind":"heart'
    path.write_bytes(whole)
    with JournalReader(path) as reader:
        assert [event.seq for event in reader.read()] == [1]
        assert reader.read() == []
        with path.open("ab") as file:
            file.write(b'beat","at":2.0}\n')
        assert [event.seq for event in reader.read()] == [2]


def test_half_a_line_in_the_middle_is_passed_over(path: Path) -> None:
    path.write_bytes(
        b'{"seq":1,"kind":"accepted","at":1.0}\n{"seq":2,"ki\n{"seq":2,"kind":"heartbeat","at":2.0}\n'
    )
    assert [event.seq for event in read_all(path)] == [1, 2]


def test_a_full_disk_costs_heartbeats_but_is_told_for_what_matters(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path)
    journal.append(EventKind.ACCEPTED)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    assert journal.append(EventKind.HEARTBEAT) is None
    with pytest.raises(OSError, match="No space"):
        journal.append(EventKind.STEP, step="sort")
    monkeypatch.undo()
    journal.append(EventKind.FAILED, reason=Reason.OUT_OF_DISK, detail="full")
    journal.close()
    assert [(event.seq, event.kind) for event in read_all(path)] == [
        (1, EventKind.ACCEPTED),
        (2, EventKind.FAILED),
    ]


def test_a_very_long_detail_is_cut(path: Path) -> None:
    journal = Journal(path)
    journal.append(EventKind.FAILED, reason=Reason.TOOL_FAILED, detail="x" * 1_000_000)
    journal.close()
    assert len(json.loads(path.read_bytes())["detail"]) == 2000


def test_each_line_is_announced_once_it_can_be_read(path: Path) -> None:
    heard: list[list[int]] = []
    with JournalReader(path) as reader:
        journal = Journal(path, grown=lambda: heard.append([event.seq for event in reader.read()]))
        for kind in (EventKind.ACCEPTED, EventKind.STEP, EventKind.PROGRESS, EventKind.PROGRESS):
            journal.append(kind)  # The second progress is too early, and dropped.
        journal.append(EventKind.DONE, manifest_digest="d")
        journal.append(EventKind.STEP)
        journal.close()
    assert heard == [[1], [2], [3], [4]]


def test_a_removed_journal_is_read_to_its_end_by_who_had_it_open(path: Path) -> None:
    journal = Journal(path)
    with JournalReader(path) as reader:
        assert reader.read() == []
        journal.append(EventKind.ACCEPTED)
        assert [event.seq for event in reader.read()] == [1]
        path.unlink()
        journal.append(EventKind.DONE, manifest_digest="d")
        assert [event.kind for event in reader.read()] == [EventKind.DONE]
    journal.close()


def test_progress_whose_detail_is_news_is_written_at_once(path: Path) -> None:
    journal = Journal(path)
    for detail in ("", "", "no answer", "no answer", "", ""):
        journal.append(EventKind.PROGRESS, **({"detail": detail} if detail else {}))
    journal.close()
    assert [event.detail for event in read_all(path)] == ["", "no answer", ""]
