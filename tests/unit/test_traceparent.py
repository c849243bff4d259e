"""Positions in a trace as text, and spans that a worker reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gooseherd import tracing
from gooseherd.domain.traceparent import is_sampled, of_attempt, read_traceparent, span_id, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01more",
    ],
)
def test_what_is_no_traceparent_is_not_read(text):
    assert read_traceparent(text) is None


def test_a_traceparent_is_read_and_one_of_a_later_version_as_far_as_it_is_known():
    assert read_traceparent(PARENT) == PARENT
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-01-what-the-future-holds") == PARENT
    assert (trace_id(PARENT), span_id(PARENT), is_sampled(PARENT)) == (TRACE, SPAN, True)
    assert not is_sampled(f"00-{TRACE}-{SPAN}-02")


def test_an_attempt_has_a_span_of_its_own_that_everybody_can_tell():
    first, again, second = (of_attempt(PARENT, name) for name in ("job.1", "job.1", "job.2"))
    assert first == again
    assert len({PARENT, first, second}) == 3
    assert read_traceparent(first) == first
    assert trace_id(first) == TRACE


class Recorder:
    """A tracer that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []

    def start(self, name, *, parent, kind=tracing.SpanKind.INTERNAL, at=None, own_id=None):
        span = RecordedSpan(name, parent, at, own_id)
        self.spans.append(span)
        return span


class RecordedSpan:
    def __init__(self, name: str, parent: str | None, at: float | None, own_id: str | None) -> None:
        self.name, self.parent, self.at, self.own_id = name, parent, at, own_id
        self.traceparent = f"00-{TRACE}-{own_id or SPAN}-01"
        self.ended: tuple[str | None, float | None] | None = None

    def set(self, **attributes: Any) -> None:
        """Kept by nobody."""

    def end(self, error: str | None = None, at: float | None = None) -> None:
        self.ended = self.ended or (error, at)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    tracing.use(recorder)
    yield recorder
    tracing.use(None)


def reported(**changes: Any) -> dict[str, Any]:
    return {"id": "a" * 16, "parent": SPAN, "name": "step sort", "start": 5.0, **changes}


def test_a_reported_span_is_passed_on_with_its_own_times(recorder):
    spans = tracing.ReportedSpans(PARENT)
    spans.take(reported())
    spans.take(reported(end=7.5))
    (span,) = recorder.spans
    assert (span.name, span.parent, span.at, span.own_id) == ("step sort", PARENT, 5.0, "a" * 16)
    assert span.ended == (None, 7.5)


def test_a_span_that_nobody_ended_is_ended_as_an_error_with_its_attempt(recorder):
    spans = tracing.ReportedSpans(PARENT)
    spans.take(reported())
    spans.close()
    assert recorder.spans[0].ended == ("the attempt ended before it did", None)


def test_a_span_whose_beginning_another_process_saw_is_passed_on_whole(recorder):
    tracing.ReportedSpans(PARENT).take(reported(end=6.0, error="StepFailed"))
    assert recorder.spans[0].ended == ("StepFailed", 6.0)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "A" * 16},
        {"id": "0" * 16},
        {"id": "a" * 15},
        {"id": 5},
        {"parent": None},
        {"name": ["x"]},
        {"start": "soon"},
        {"start": True},
    ],
)
def test_what_is_odd_about_a_reported_span_is_dropped(recorder, change):
    tracing.ReportedSpans(PARENT).take(reported(**change))
    assert recorder.spans == []


def test_a_worker_can_report_so_many_spans_and_no_more(recorder):
    spans = tracing.ReportedSpans(PARENT)
    for number in range(1, 2000):
        spans.take(reported(id=f"{number:016x}", end=6.0))
    assert len(recorder.spans) == tracing.ReportedSpans.MOST


def test_times_that_run_backwards_or_have_no_end_are_no_times(recorder):
    spans = tracing.ReportedSpans(PARENT)
    spans.take(reported(end=1.0))
    assert recorder.spans[0].ended == (None, 5.0)
    spans.take(reported(id="b" * 16, start=float("inf")))
    spans.take(reported(id="c" * 16, start=-1.0))
    assert len(recorder.spans) == 1


def test_nothing_is_recorded_where_the_trace_is_not_sampled():
    taken: list[object] = []
    tracing.record_below(f"00-{TRACE}-{SPAN}-00", taken.append)
    with tracing.timed("x"):
        pass
    assert taken == []
