"""The page of all metrics, made from their definitions."""

from __future__ import annotations

import sys
from typing import Final

from gooseherd.telemetry import DEFINITIONS, Extent, MetricDefinition

_PROCESS_METRICS: Final = (
    ("process_virtual_memory_bytes", "gauge", "Virtual memory."),
    ("process_resident_memory_bytes", "gauge", "Resident memory."),
    ("process_start_time_seconds", "gauge", "When it was started, Unix time."),
    ("process_cpu_seconds_total", "counter", "CPU time, user and system."),
    ("process_open_fds", "gauge", "Open file descriptors."),
    ("process_max_fds", "gauge", "Most it may have."),
)
"""Of prometheus_client's own collector."""

_HEAD: Final = """# Metrics

`/metrics` in Prometheus' text format, of each API process. Generated from `telemetry.py`. Alert rules and a
Grafana dashboard over these names: [alerts](alerts.md), `deploy/prometheus/alerts.yaml`,
`deploy/grafana/gooseherd.json`. Beside them: [logs](logs.md), [tracing](tracing.md).

`process`: the number is of the process that was asked; sum it over all (`sum by (reason) (rate(…))`).
`all`: it is read from the document store or the fleet, and every process says the same; take `max`, never
the sum. Counters of `all` begin at 0 in each process and grow at the same rate: of their rates the maximum
counts.

Workers are not scraped: they live for minutes, and what they did is in the counters of the process that
followed them. Exact seconds and bytes by requester are in the job records; the worker-seconds here are
counted from one look of the reconciler to the next (`WORKFLOW_RECONCILE_SECONDS`).

Labels have closed sets of values, so the number of series is bounded. `route` is a template (`/data`,
`/jobs/{job_id}`; `other` where there is no such route), `status` of requests is the HTTP status (499: the
client was gone), of jobs a state; `reason` a failure reason ([life of a job](life-of-a-job.md)), `priority`
interactive, normal or batch, `kind` the kind of part; `source` disk (sent by this process from its own disk),
storage (read from the bucket), nginx (handed over) or upstream; `storage` local or s3; `part` of the store
jobs, files, reservations, batches, access or keys; `operation` a method of the port.

| name | type | labels | of | what |
| --- | --- | --- | --- | --- |"""


def metrics_page() -> str:
    """docs/metrics.md."""
    own = sorted(DEFINITIONS, key=lambda one: one.name)
    process = (
        MetricDefinition(name, kind, (), text, Extent.PROCESS) for name, kind, text in _PROCESS_METRICS
    )
    rows = [
        f"| `{one.name}` | {one.type} | {', '.join(f'`{label}`' for label in one.labels)} "
        f"| {one.scope} | {one.text} |"
        for one in (*own, *process)
    ]
    return "\n".join((_HEAD, *rows)) + "\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
