"""The spans of one attempt in the process that follows it, in the trace of the request that made its job."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from gooseherd import logs, tracing
from gooseherd.control.attempt_outcome import Ended, Outcome, Published, Stopped
from gooseherd.control.limits import attempt_traceparent
from gooseherd.domain.job import Job
from gooseherd.domain.traceparent import span_id, trace_id


class AttemptTrace:
    """Its time in the queue, the attempt itself, and what this process does for it.

    The attempt's span is written by whoever settles it, so that one that was adopted has one, too, and
    has it once.
    """

    def __init__(self, job: Job, *, adopted: bool) -> None:
        self._attempt: tracing.Span | None = None
        self._traceparent: str | None = None
        if job.traceparent is None:
            return
        logs.bind(trace_id=trace_id(job.traceparent))
        if not tracing.is_on():
            return
        current = job.current_attempt
        began = (current.started_at if current is not None else None) or job.updated_at
        if not adopted:
            due = job.not_before or job.enqueued_at
            queued = tracing.begin("queue", parent=job.traceparent, at=min(due, began).timestamp())
            if queued is not None:
                queued.end(at=began.timestamp())
        self._traceparent = own = attempt_traceparent(job)
        own_id = None if own is None else span_id(own)
        self._attempt = tracing.begin("attempt", parent=job.traceparent, at=began.timestamp(), own_id=own_id)
        self.note(job_id=job.job_id, attempt=job.attempt, adopted=adopted)

    def note(self, **attributes: str | float | bool) -> None:
        """Add attributes to the attempt's span."""
        if self._attempt is not None:
            self._attempt.set(**attributes)

    def span(self, name: str) -> AbstractContextManager[None]:
        """Something that this process does for the attempt."""
        return nullcontext() if self._traceparent is None else tracing.span(name, self._traceparent)

    def end(self, outcome: Outcome) -> None:
        """The attempt is settled."""
        if self._attempt is None:
            return
        match outcome:
            case Ended(failure):
                self.note(reason=failure.reason.value)
                self._attempt.end(error=failure.reason.value)
            case Stopped():
                self.note(reason="cancelled")
                self._attempt.end(error="cancelled")
            case Published():
                self.note(reason="published")
                self._attempt.end()
