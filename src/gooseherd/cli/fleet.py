"""`gooseherd fleet`: which workers there are, what they do, and how to stop one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gooseherd.cli import formatting
from gooseherd.cli.outcome import print_status
from gooseherd.cli.service_command import ServiceConnection, service_command

app = typer.Typer(help="Workers: what works, and on what.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls")
@service_command
def ls(
    service: ServiceConnection,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that ended lately, and why.")] = False,
) -> None:
    """List workers, the oldest first."""
    with service.connected() as client:
        fleet = client.fleet()
    if service.emitted(fleet):
        return
    from gooseherd.cli.tables import show_table

    workers = [*fleet["workers"], *(fleet["ended"] if ended else ())]
    rows = [
        (w["worker_id"], w["health"], _age(w), w.get("job_id") or _idle(w), w["size"], _remark(w))
        for w in workers
    ]
    show_table(("worker", "health", "age", "job", "size", "detail"), rows, empty="no workers")
    print_status(f"{fleet['slots']} more could be had")


@app.command("stop")
@service_command
def stop(
    service: ServiceConnection,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id.")],
    force: Annotated[
        bool, typer.Option("--force", help="Although a job works on it; the job is tried again.")
    ] = False,
) -> None:
    """Ask a worker to end."""
    with service.connected() as client:
        record = client.stop_worker(worker, force=force)
    if not service.emitted(record):
        lost = f"; job {record['job_id']} is tried again" if record.get("job_id") else ""
        print_status(f"worker {worker} was asked to end{lost}")


def _age(worker: Mapping[str, Any]) -> str:
    seconds = worker.get("age_seconds")
    return "" if seconds is None else formatting.span(round(seconds))


def _idle(worker: Mapping[str, Any]) -> str:
    return "(warm)" if worker.get("warm") else ""


def _remark(worker: Mapping[str, Any]) -> str:
    return str(worker.get("diagnosis") or worker.get("detail") or "")
