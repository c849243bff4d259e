"""`gooseherd queue`: who waits and for how long, what runs, and who finalizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gooseherd.cli import formatting
from gooseherd.cli.outcome import print_line, print_status
from gooseherd.cli.service_command import ServiceConnection, service_command


@service_command
def queue(
    service: ServiceConnection,
) -> None:
    """Show the queue: how many jobs wait and for how long, and whose they are."""
    with service.connected() as client:
        record = client.queue()
    if service.emitted(record):
        return
    for line in queue_lines(record):
        print_line(line)
    from gooseherd.cli.tables import show_table

    requesters = record.get("requesters")
    if requesters is None:
        print_status("with the admin key: by requester, too")
        return
    rows = [(name, str(jobs["pending"]), str(jobs["running"])) for name, jobs in requesters.items()]
    show_table(("requester", "pending", "running"), rows, empty="nobody waits")


def queue_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The record for people, a line each."""
    by_priority = ", ".join(f"{name} {count}" for name, count in record["pending_by_priority"].items())
    yield formatting.line("pending", f"{record['pending']} ({by_priority})")
    yield formatting.line("running", str(record["running"]))
    yield formatting.line("finalizing", str(record["finalizing"]))
    if record.get("oldest_seconds") is not None:
        yield formatting.line("oldest waits", formatting.span(record["oldest_seconds"]))
    waits = record["wait_seconds"]
    if waits["p50"] is not None:
        half, most = formatting.span(waits["p50"]), formatting.span(waits["p95"])
        yield formatting.line("waited lately", f"{half} (median), {most} (95th percentile)")
    for finalizer in record["finalizers_owned"]:
        yield formatting.line(
            "finalizes", f"{finalizer['job_id']}, for {formatting.span(finalizer['seconds'])}"
        )
