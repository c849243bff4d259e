"""`gooseherd queue`: who waits and for how long, what runs, and who finalizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.connection import connect
from gooseherd.cli.outcome import emit, print_status, run


def queue(
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Show the queue: how many jobs wait and for how long, and whose they are."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            record = client.queue()
        if as_json:
            emit(record)
            return
        for line in queue_lines(record):
            print(line)
        from gooseherd.cli.tables import show_table

        requesters = record.get("requesters")
        if requesters is None:
            print_status("with the admin key: by requester, too")
            return
        rows = [(name, str(jobs["pending"]), str(jobs["running"])) for name, jobs in requesters.items()]
        show_table(("requester", "pending", "running"), rows, empty="nobody waits")

    raise typer.Exit(run(command, as_json=as_json))


def queue_lines(record: dict[str, Any]) -> Iterator[str]:
    """The record for people, a line each."""
    by_priority = ", ".join(f"{name} {count}" for name, count in record["pending_by_priority"].items())
    yield _line("pending", f"{record['pending']} ({by_priority})")
    yield _line("running", str(record["running"]))
    yield _line("finalizing", str(record["finalizing"]))
    if record.get("oldest_seconds") is not None:
        yield _line("oldest waits", formatting.span(record["oldest_seconds"]))
    waits = record["wait_seconds"]
    if waits["p50"] is not None:
        half, most = formatting.span(waits["p50"]), formatting.span(waits["p95"])
        yield _line("waited lately", f"{half} (median), {most} (95th percentile)")
    for finalizer in record["finalizers_owned"]:
        yield _line("finalizes", f"{finalizer['job_id']}, for {formatting.span(finalizer['seconds'])}")


def _line(name: str, value: str) -> str:
    return f"{name:17} {value}"
