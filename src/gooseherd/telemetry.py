"""Counters and gauges for Prometheus, each defined once; docs/metrics.md is made from here.

Labels come from closed sets (statuses, reasons, priorities, formats, routes), never from
what callers send. Importing it imports prometheus_client; who only logs uses logs.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # One more series for each counter and histogram, which nobody asks for.
REGISTRY: Final = CollectorRegistry(auto_describe=True)


class _Tallies:
    """Added to the metrics before anybody reads them: it is the registry's first collector."""

    def __init__(self) -> None:
        self.by_labels: dict[tuple[str, str, Counter], Tally] = {}

    def collect(self) -> Iterator[Metric]:
        for tally in list(self.by_labels.values()):
            tally.flush()
        return iter(())


_TALLIES: Final = _Tallies()
REGISTRY.register(_TALLIES)
ProcessCollector(registry=REGISTRY)


class Extent(StrEnum):
    """Whose a number is where several API processes run: it decides how they are put together."""

    PROCESS = "process"
    """Of this process alone: sum over the processes."""
    ALL = "all"
    """Of the store or of the fleet, the same from every process: take the maximum."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One row of the page."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str
    scope: Extent


DEFINITIONS: Final[list[MetricDefinition]] = []


def _counter(name: str, text: str, labels: Sequence[str] = (), of: Extent = Extent.PROCESS) -> Counter:
    DEFINITIONS.append(MetricDefinition(name, "counter", tuple(labels), text, of))
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, labels: Sequence[str] = (), of: Extent = Extent.PROCESS) -> Gauge:
    DEFINITIONS.append(MetricDefinition(name, "gauge", tuple(labels), text, of))
    return Gauge(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Histogram:
    DEFINITIONS.append(MetricDefinition(name, "histogram", tuple(labels), text, Extent.PROCESS))
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


_REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_CALL_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)
_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)

JOBS_SUBMITTED: Final = _counter(
    "gooseherd_jobs_submitted_total", "Jobs inserted into the queue.", ["priority"]
)
JOBS_ENDED: Final = _counter(
    "gooseherd_jobs_ended_total", "Jobs that reached a terminal state.", ["status", "reason"]
)
ATTEMPTS_ENDED: Final = _counter("gooseherd_attempts_ended_total", "Attempts by how they ended.", ["reason"])
JOB_WAIT: Final = _histogram("gooseherd_job_wait_seconds", "From enqueued to first leased.", buckets=_SECONDS)
JOB_RUN: Final = _histogram(
    "gooseherd_job_run_seconds", "From submitted to completed.", ["format"], buckets=_SECONDS
)
QUEUE_JOBS: Final = _gauge(
    "gooseherd_queue_jobs", "Active jobs of all API processes.", ["status"], of=Extent.ALL
)
QUEUE_PENDING: Final = _gauge(
    "gooseherd_queue_pending", "Jobs that wait in the queue.", ["priority"], of=Extent.ALL
)
QUEUE_OLDEST: Final = _gauge(
    "gooseherd_queue_oldest_seconds",
    "Age of the pending job that waits longest; 0 when none does.",
    of=Extent.ALL,
)
QUEUE_WAIT: Final = _gauge(
    "gooseherd_queue_wait_seconds",
    "Percentiles of the time in the queue of the 500 jobs started last.",
    ["percentile"],
    of=Extent.ALL,
)
LAUNCHES_FAILED: Final = _counter(
    "gooseherd_launches_failed_total",
    "Workers that could not be started or ended before their attempt began.",
)
CERTIFICATE_EXPIRY: Final = _gauge(
    "gooseherd_certificate_expiry_timestamp_seconds",
    "When this process's certificate for calling workers ends (api), the CA that it trusts (ca), and the "
    "first of those that workers showed it within a day (worker; of workers on hosts each by its address), "
    "in Unix time. Those of local workers, which the service renews, are not in it.",
    ["role"],
)
LAUNCH_BREAKER: Final = _gauge(
    "gooseherd_launch_breaker_open",
    "1 while this process leases at most one job at a time because workers end before they begin.",
)
RESERVATIONS: Final = _gauge(
    "gooseherd_reservations",
    "Workers reserved, by what for (floor, session) and their state; of all API processes.",
    ["purpose", "state"],
    of=Extent.ALL,
)
RESERVATIONS_ENDED: Final = _counter(
    "gooseherd_reservations_ended_total",
    "Reservations that this process ended, by why; taken: a job got a worker of the warm floor.",
    ["purpose", "reason"],
)
FINALIZERS: Final = _gauge("gooseherd_finalizers_active", "Jobs this process is finalizing.")
FINALIZER_DEFERS: Final = _counter(
    "gooseherd_finalizer_defers_total", "Stale jobs left alone because their finalizer lives."
)
LOOP_PASSES: Final = _counter(
    "gooseherd_loop_passes_total", "Passes of the control loops.", ["loop", "outcome"]
)
RECONCILER_ACTIONS: Final = _counter(
    "gooseherd_reconciler_actions_total", "What the reconciler did.", ["action"]
)
RECONCILER_HELD_BACK: Final = _gauge(
    "gooseherd_reconciler_held_back",
    "Workers to be stopped that the last pass left alone because they were too many.",
)
RETENTION_REMOVED: Final = _counter(
    "gooseherd_retention_removed_total",
    "Artifacts, results of attempts, ended jobs and batches, and drafts of killed writers that were removed.",
    ["what"],
)
ARTIFACT_BYTES: Final = _gauge(
    "gooseherd_artifact_bytes",
    "Bytes of published artifacts, as retention last counted them all.",
    of=Extent.ALL,
)
FLEET_WORKERS: Final = _gauge(
    "gooseherd_fleet_workers",
    "Workers as the reconciler last saw them; gone: those still remembered.",
    ["health"],
    of=Extent.ALL,
)
BYTES_SERVED: Final = _counter(
    "gooseherd_bytes_served_total", "Bytes of files sent to clients.", ["kind", "source"]
)
REQUESTS_HELD: Final = _gauge("gooseherd_http_requests_held", "Requests that wait for a file to be made.")
EVENT_STREAMS: Final = _gauge("gooseherd_http_event_streams", "Open streams of events of jobs and batches.")
WRONG_KEYS: Final = _counter("gooseherd_http_wrong_keys_total", "Requests with a key that is none.")
CONNECTIONS: Final = _gauge("gooseherd_http_connections", "Open connections of clients.")
SLOW_RESPONSES: Final = _gauge(
    "gooseherd_http_slow_responses", "Responses under way that wait for their clients to read them."
)
CONNECTIONS_ENDED: Final = _counter(
    "gooseherd_http_connections_ended_total",
    "Connections that a limit ended or refused: refused, descriptors, head, body, unread, slow, replaced.",
    ["limit"],
)
REQUESTS: Final = _counter(
    "gooseherd_http_requests_total", "HTTP requests by route and status.", ["route", "status"]
)

BUILD_INFO: Final = _gauge(
    "gooseherd_build_info", "1; what runs, as its labels say.", ["version", "build", "profile"]
)
REQUEST_DURATION: Final = _histogram(
    "gooseherd_http_request_duration_seconds",
    "From a request's headers to those of its response, without requests that were held.",
    ["route"],
    buckets=_REQUEST_SECONDS,
)


class Tally:
    """Counts responses of one route where each microsecond counts: in plain numbers, on one thread.

    The registry's own counters take a lock and some checks each, four times for one response.
    """

    __slots__ = ("_counted", "_duration", "_lock", "_requests", "_sent", "_totals")

    def __init__(self, requests: Counter, sent: Counter, duration: Histogram) -> None:
        self._requests, self._sent, self._duration = requests, sent, duration
        self._totals = (0, 0, 0, 0.0)
        """Responses, bytes, responses within the first bucket of the histogram, and their seconds."""
        self._counted = self._totals
        self._lock = Lock()

    def add(self, sent_bytes: int, seconds: float) -> None:
        """One response of so many bytes."""
        responses, sent, quick, quick_seconds = self._totals
        if seconds <= _REQUEST_SECONDS[0]:
            quick, quick_seconds = quick + 1, quick_seconds + seconds
        else:
            self._duration.observe(seconds)
        self._totals = responses + 1, sent + sent_bytes, quick, quick_seconds

    def flush(self) -> None:
        """Add what came since the last time. Any thread may."""
        with self._lock:
            totals, counted = self._totals, self._counted
            responses, sent, quick, seconds = (now - then for now, then in zip(totals, counted, strict=True))
            self._requests.inc(responses)
            self._sent.inc(sent)
            # There is no public way to observe many values at once.
            self._duration._buckets[0].inc(quick)
            self._duration._sum.inc(seconds)
            self._counted = totals


def tally(route: str, status: str, sent: Counter) -> Tally:
    """The one of these labels; `sent` counts its bytes."""
    labels = route, status, sent
    known = _TALLIES.by_labels.get(labels)
    if known is None:
        known = Tally(REQUESTS.labels(route, status), sent, REQUEST_DURATION.labels(route))
        _TALLIES.by_labels[labels] = known
    return known


HOLD_DURATION: Final = _histogram(
    "gooseherd_http_hold_duration_seconds",
    "The same of requests that were held until their file was made, or were sent on to wait again.",
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30),
)
STORE_DURATION: Final = _histogram(
    "gooseherd_store_request_duration_seconds",
    "Calls of the document store by part and operation, whatever their outcome.",
    ["part", "operation"],
    buckets=_CALL_SECONDS,
)
STORE_ERRORS: Final = _counter(
    "gooseherd_store_errors_total",
    "Calls of the document store that it did not answer or refused; a lost race is none.",
    ["part", "operation"],
)
STORE_UP: Final = _gauge(
    "gooseherd_store_up",
    "1 if the document store answered when these numbers were asked for; if not, those of all processes "
    "are as they were.",
)
STORAGE_DURATION: Final = _histogram(
    "gooseherd_storage_request_duration_seconds",
    "Calls of where artifacts are stored, local or s3; reading: until the first bytes are there.",
    ["storage", "operation"],
    buckets=_CALL_SECONDS,
)
STORAGE_ERRORS: Final = _counter(
    "gooseherd_storage_errors_total",
    "Calls of where artifacts are stored that it did not answer or refused.",
    ["storage", "operation"],
)
OLDEST_ATTEMPT: Final = _gauge(
    "gooseherd_oldest_attempt_seconds",
    "Since the current attempt began that runs or finalizes for longest; 0 when none does.",
    of=Extent.ALL,
)
ATTEMPT_LIMIT: Final = _gauge(
    "gooseherd_attempt_limit_seconds", "WORKFLOW_DURATION_CAP_SECONDS: longest an attempt may run."
)
LEASE_OVERDUE: Final = _gauge(
    "gooseherd_lease_overdue_seconds",
    "Since the lease ended, of all active jobs without a valid one, that ended first; 0 when all have one.",
    of=Extent.ALL,
)
WORKER_PAID: Final = _counter(
    "gooseherd_worker_paid_seconds_total",
    "Seconds that workers lived, added up by the reconciler of each process for all of them.",
    of=Extent.ALL,
)
WORKER_WORKED: Final = _counter(
    "gooseherd_worker_worked_seconds_total",
    "Of those, seconds in which a job had the worker.",
    of=Extent.ALL,
)
WARM_FLOOR_WANTED: Final = _gauge(
    "gooseherd_warm_floor_wanted", "ECS_WARM_WORKERS: idle workers to be kept ready.", of=Extent.ALL
)
FILESYSTEM_SIZE: Final = _gauge(
    "gooseherd_filesystem_size_bytes",
    "Size of the file system of a folder of this service: state, artifacts (unless they are in a bucket).",
    ["folder"],
)
FILESYSTEM_FREE: Final = _gauge(
    "gooseherd_filesystem_free_bytes", "What this service may still write there.", ["folder"]
)
