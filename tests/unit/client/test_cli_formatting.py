"""Numbers, times and a job's news as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from gooseherd.cli import formatting
from gooseherd.cli.progress import job_bar, phase


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, ""),
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (21_300_000, "21.3 MB"),
        (999_960, "1.0 MB"),
        (123_456_789, "123 MB"),
        (20 * 1000**3, "20.0 GB"),
        (7 * 10**18, "7000 PB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-1, "0 s"),
        (0.42, "0.4 s"),
        (8, "8 s"),
        (12.4, "12 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (100_000, "1 d 3 h"),
        (10_000_000, "115 d 17 h"),
    ],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert formatting.span(seconds) == text


def test_a_time_that_cannot_be_read_is_shown_as_it_is() -> None:
    assert formatting.moment("soon") == "soon"
    assert formatting.moment(None) == ""


WAITING = {"reason": "source_unavailable", "detail": "upstream host name does not resolve"}


def test_waiting_says_why_and_when() -> None:
    job = {"status": "pending", "waiting": {**WAITING, "next_try_seconds": 12.3}}
    assert phase(job) == "waiting: upstream host name does not resolve, next try in 12 s"
    assert phase(job, remaining=3.2).endswith("next try in 3 s")
    assert phase(job, remaining=0.0).endswith(", trying again")
    queued = {"reason": "queued", "detail": "in the queue, behind 2 other jobs", "next_try_seconds": None}
    assert phase({"status": "pending", "waiting": queued}) == "waiting: in the queue, behind 2 other jobs"
    known = queued | {"detail": "in the queue, behind 2 other jobs, about 40 min", "wait_seconds": 2400.0}
    assert phase({"status": "pending", "waiting": known}).endswith("behind 2 other jobs, about 40 min")


def test_an_older_service_says_only_that_it_waits() -> None:
    assert phase({"status": "pending", "position": 3}) == "waiting in the queue behind 3"
    assert phase({"status": "running", "progress": {"step": "sort"}, "waiting": None}) == "sort"


def test_time_that_passes_is_no_news_for_lines(capsys: Any) -> None:
    with job_bar("d/f", quiet=False) as show:
        for seconds in (12.0, 11.0, 10.0):
            show({"status": "running", "waiting": {**WAITING, "next_try_seconds": seconds}})
        show({"status": "running", "progress": {"step": "sort", "percent": 20.0}})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "d/f: waiting: upstream host name does not resolve, next try in 12 s",
        "d/f: sort 20%",
    ]


def test_notes_are_few_and_short() -> None:
    assert formatting.note_lines({"notes": ["2 lines were dropped"]}) == ["note: 2 lines were dropped"]
    assert formatting.note_lines({}) == []
    lines = formatting.note_lines({"notes": ["x" * 900] * 30})
    assert len(lines) == 11
    assert max(map(len, lines)) < 320
    assert lines[-1] == "note: and 20 more; gooseherd show has them all"


def test_counts_are_words() -> None:
    assert (
        formatting.counts_text({"records": 1234567, "lines_dropped": 2})
        == "records 1,234,567, lines dropped 2"
    )
