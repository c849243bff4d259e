"""Spans of distributed traces, without naming who records them; does nothing until `use` was called.

In the API a tracer may be set, and spans go to it. In an attempt spans are events of its journal: whoever
follows the attempt passes them on (docs/adr/0038-tracing.md).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, Final, Protocol, TypeGuard

from gooseherd.domain.traceparent import is_sampled, span_id, trace_id


class SpanKind(StrEnum):
    """As OpenTelemetry has it."""

    SERVER = "server"
    INTERNAL = "internal"


class Span(Protocol):
    """Something that takes a time."""

    traceparent: str

    def set(self, **attributes: str | float | bool) -> None:
        """Add attributes; dots are written as two underscores."""
        ...

    def end(self, error: str | None = None, at: float | None = None) -> None:
        """It is over, now or at that Unix time; `error`: why it did not succeed. Again changes nothing."""
        ...


class Tracer(Protocol):
    """Records spans."""

    def start(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = SpanKind.INTERNAL,
        at: float | None = None,
        own_id: str | None = None,
    ) -> Span:
        """Begin a span, now or at that Unix time, below a traceparent; `own_id`: 16 hex digits."""
        ...


_tracer: Tracer | None = None
_current: ContextVar[Span | None] = ContextVar("current span", default=None)


def use(tracer: Tracer | None) -> None:
    """Record spans from now on; None: no more."""
    global _tracer  # noqa: PLW0603 - of the process, as its log is
    _tracer = tracer


def is_on() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def current_traceparent() -> str | None:
    """Of the span in which this is called; None: there is none."""
    span = _current.get()
    return None if span is None else span.traceparent


def annotate(**attributes: str | float | bool) -> None:
    """Add attributes to the span in which this is called, if there is one."""
    span = _current.get()
    if span is not None:
        span.set(**attributes)


def begin(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    at: float | None = None,
    own_id: str | None = None,
) -> Span | None:
    """A span whose end is the caller's to tell; None: nothing is recorded."""
    if _tracer is None:
        return None
    return _tracer.start(name, parent=parent, kind=kind, at=at, own_id=own_id)


@contextmanager
def inside(span: Span | None) -> Iterator[None]:
    """What happens in the block happens in that span, which ends with it."""
    if span is None:
        yield
        return
    token = _current.set(span)
    try:
        yield
    except BaseException as error:
        span.end(error=type(error).__name__)
        raise
    finally:
        _current.reset(token)
        span.end()


@contextmanager
def span(name: str, parent: str | None = None) -> Iterator[None]:
    """A span around the block, below the current one or, where that is given, below `parent`."""
    if _tracer is None:
        yield
        return
    with inside(begin(name, parent=parent or current_traceparent())):
        yield


# -- in an attempt -------------------------------------------------------------------------------

SpanSink = Callable[[Mapping[str, Any]], object]
_MOST_NAME: Final = 100


class _Recorded:
    """Where spans of this task go, and the id of the one in which it is."""

    def __init__(self, sink: SpanSink, parent: str) -> None:
        self.sink = sink
        self.parent = parent


_recorded: ContextVar[_Recorded | None] = ContextVar("recorded spans", default=None)


def record_below(traceparent: str | None, sink: SpanSink) -> None:
    """Give each span of this task, and of those that it starts, to `sink`: when it begins, and when it ends.

    Nothing is recorded where the trace is not.
    """
    if traceparent is not None and is_sampled(traceparent):
        _recorded.set(_Recorded(sink, span_id(traceparent)))


@contextmanager
def timed(name: str) -> Iterator[None]:
    """A span around the block."""
    recorded = _recorded.get()
    if recorded is None:
        yield
        return
    own_id = secrets.token_hex(8)
    fields = {
        "id": own_id,
        "parent": recorded.parent,
        "name": name[:_MOST_NAME],
        "start": time.time(),
    }
    recorded.sink(fields)
    token = _recorded.set(_Recorded(recorded.sink, own_id))
    error: dict[str, str] = {}
    try:
        yield
    except BaseException as raised:
        error = {"error": type(raised).__name__}
        raise
    finally:
        _recorded.reset(token)
        recorded.sink({**fields, "end": time.time(), **error})


class ReportedSpans:
    """Spans that a worker reports of one attempt, passed on to the tracer. Untrusted: what is odd is dropped.

    One whose beginning was reported to another process is passed on whole when it ends.
    """

    MOST: Final = 1000

    def __init__(self, attempt_traceparent: str | None) -> None:
        self._of = attempt_traceparent
        self._open: dict[str, Span] = {}
        self._seen = 0

    def take(self, fields: Mapping[str, Any]) -> None:
        """One beginning or end."""
        if _tracer is None or self._of is None:
            return
        name, own_id, parent, start = (fields.get(key) for key in ("name", "id", "parent", "start"))
        if not (_is_id(own_id) and _is_id(parent) and isinstance(name, str) and _is_time(start)):
            return
        span = self._open.get(own_id)
        if span is None:
            if self._seen >= self.MOST:
                return
            self._seen += 1
            below = f"00-{trace_id(self._of)}-{parent}-{self._of[53:55]}"
            span = self._open[own_id] = _tracer.start(
                name[:_MOST_NAME], parent=below, at=start, own_id=own_id
            )
        end, error = fields.get("end"), fields.get("error")
        if _is_time(end):
            del self._open[own_id]
            span.end(error=error[:_MOST_NAME] if isinstance(error, str) else None, at=max(end, start))

    def close(self) -> None:
        """The attempt is over: what it did not end, nobody will."""
        for span in self._open.values():
            span.end(error="the attempt ended before it did")
        self._open.clear()


def _is_time(value: object) -> TypeGuard[float]:
    """Unix seconds, of the next thousands of years."""
    return isinstance(value, float) and 0 <= value < 1e11


def _is_id(text: object) -> TypeGuard[str]:
    return (
        isinstance(text, str)
        and len(text) == 16
        and all(digit in "0123456789abcdef" for digit in text)
        and text.strip("0") != ""
    )
