"""What the service says about itself: log lines for people and machines, counters for Prometheus.

Metric labels come from closed sets (statuses, reasons, priorities, formats), never from
what callers send.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry(auto_describe=True)

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)

JOBS_SUBMITTED: Final = Counter(
    "gooseherd_jobs_submitted_total", "Jobs inserted into the queue.", ["priority"], registry=REGISTRY
)
JOBS_ENDED: Final = Counter(
    "gooseherd_jobs_ended_total",
    "Jobs that reached a terminal state.",
    ["status", "reason"],
    registry=REGISTRY,
)
ATTEMPTS_ENDED: Final = Counter(
    "gooseherd_attempts_ended_total", "Attempts by how they ended.", ["reason"], registry=REGISTRY
)
JOB_WAIT: Final = Histogram(
    "gooseherd_job_wait_seconds", "From enqueued to first leased.", buckets=_SECONDS, registry=REGISTRY
)
JOB_RUN: Final = Histogram(
    "gooseherd_job_run_seconds",
    "From submitted to completed.",
    ["format"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE_JOBS: Final = Gauge(
    "gooseherd_queue_jobs", "Active jobs of all API processes.", ["status"], registry=REGISTRY
)
QUEUE_PENDING: Final = Gauge(
    "gooseherd_queue_pending", "Jobs that wait in the queue.", ["priority"], registry=REGISTRY
)
QUEUE_OLDEST: Final = Gauge(
    "gooseherd_queue_oldest_seconds",
    "Age of the pending job that waits longest; 0 when none does.",
    registry=REGISTRY,
)
QUEUE_WAIT: Final = Gauge(
    "gooseherd_queue_wait_seconds",
    "Percentiles of the time in the queue of the 500 jobs started last.",
    ["quantile"],
    registry=REGISTRY,
)
LAUNCHES_FAILED: Final = Counter(
    "gooseherd_launches_failed_total",
    "Workers that could not be started or ended before their attempt began.",
    registry=REGISTRY,
)
LAUNCH_BREAKER: Final = Gauge(
    "gooseherd_launch_breaker_open",
    "1 while this process leases at most one job at a time because workers end before they begin.",
    registry=REGISTRY,
)
RESERVATIONS: Final = Gauge(
    "gooseherd_reservations",
    "Workers reserved, by what for (floor, session) and their state; of all API processes.",
    ["purpose", "state"],
    registry=REGISTRY,
)
RESERVATIONS_ENDED: Final = Counter(
    "gooseherd_reservations_ended_total",
    "Reservations that this process ended, by why; taken: a job got a worker of the warm floor.",
    ["purpose", "reason"],
    registry=REGISTRY,
)
FINALIZERS: Final = Gauge(
    "gooseherd_finalizers_active", "Jobs this process is finalizing.", registry=REGISTRY
)
FINALIZER_DEFERS: Final = Counter(
    "gooseherd_finalizer_defers_total",
    "Stale jobs left alone because their finalizer lives.",
    registry=REGISTRY,
)
LOOP_PASSES: Final = Counter(
    "gooseherd_loop_passes_total", "Passes of the control loops.", ["loop", "outcome"], registry=REGISTRY
)
RECONCILER_ACTIONS: Final = Counter(
    "gooseherd_reconciler_actions_total", "What the reconciler did.", ["action"], registry=REGISTRY
)
RECONCILER_HELD_BACK: Final = Gauge(
    "gooseherd_reconciler_held_back",
    "Workers to be stopped that the last pass left alone because they were too many.",
    registry=REGISTRY,
)
RETENTION_REMOVED: Final = Counter(
    "gooseherd_retention_removed_total",
    "Artifacts, ended jobs and batches, and drafts of killed writers that were removed.",
    ["what"],
    registry=REGISTRY,
)
ARTIFACT_BYTES: Final = Gauge(
    "gooseherd_artifact_bytes",
    "Bytes of published artifacts, as retention last counted them all.",
    registry=REGISTRY,
)
FLEET_WORKERS: Final = Gauge(
    "gooseherd_fleet_workers",
    "Workers as the reconciler last saw them; gone: those still remembered.",
    ["health"],
    registry=REGISTRY,
)
BYTES_SERVED: Final = Counter(
    "gooseherd_bytes_served_total", "Artifact bytes sent to clients.", ["kind"], registry=REGISTRY
)
REQUESTS_HELD: Final = Gauge(
    "gooseherd_http_requests_held", "Requests that wait for a file to be made.", registry=REGISTRY
)
EVENT_STREAMS: Final = Gauge(
    "gooseherd_http_event_streams", "Open streams of events of jobs and batches.", registry=REGISTRY
)
WRONG_KEYS: Final = Counter(
    "gooseherd_http_wrong_keys_total", "Requests with a key that is none.", registry=REGISTRY
)
CONNECTIONS: Final = Gauge("gooseherd_http_connections", "Open connections of clients.", registry=REGISTRY)
CONNECTIONS_ENDED: Final = Counter(
    "gooseherd_http_connections_ended_total",
    "Connections that a limit ended or turned away: refused, descriptors, head, body, unread, replaced.",
    ["limit"],
    registry=REGISTRY,
)
REQUESTS: Final = Counter(
    "gooseherd_http_requests_total",
    "HTTP requests by route and status.",
    ["route", "status"],
    registry=REGISTRY,
)

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    """`time level logger event key=value …`, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        event = f"{record.name} {record.getMessage()}"
        line = f"{_stamp(record)} {record.levelname.lower():7} {event} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """One JSON object a line, for a log collector."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def configure_logging(*, level: str = "INFO", as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send all log records to `stream` (standard error by default), once; again replaces it."""
    out = logging.StreamHandler(stream or sys.stderr)
    out.setFormatter(_Json() if as_json else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(level.upper())
    for noisy in ("pymongo", "httpx", "wool", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
