"""`gooseherd fleet`: which workers there are, what they do, and how to stop one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.connection import connect
from gooseherd.cli.outcome import emit, print_status, run

app = typer.Typer(help="Workers: what works, and on what.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls")
def ls(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that ended lately, and why.")] = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """List workers, the oldest first."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            fleet = client.fleet()
        if as_json:
            emit(fleet)
            return
        from gooseherd.cli.tables import show_table

        workers = [*fleet["workers"], *(fleet["ended"] if ended else ())]
        rows = [
            (w["worker_id"], w["health"], _age(w), w.get("job_id") or _idle(w), w["size"], _remark(w))
            for w in workers
        ]
        show_table(("worker", "health", "age", "job", "size", "detail"), rows, empty="no workers")
        print_status(f"{fleet['slots']} more could be had")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("stop")
def stop(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id.")],
    force: Annotated[
        bool, typer.Option("--force", help="Although a job works on it; the job is tried again.")
    ] = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Ask a worker to end."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            record = client.stop_worker(worker, force=force)
        if as_json:
            emit(record)
        else:
            lost = f"; job {record['job_id']} is tried again" if record.get("job_id") else ""
            print_status(f"worker {worker} was asked to end{lost}")

    raise typer.Exit(run(command, as_json=as_json))


def _age(worker: dict[str, Any]) -> str:
    seconds = worker.get("age_seconds")
    return "" if seconds is None else formatting.span(round(seconds))


def _idle(worker: dict[str, Any]) -> str:
    return "(warm)" if worker.get("warm") else ""


def _remark(worker: dict[str, Any]) -> str:
    return str(worker.get("diagnosis") or worker.get("detail") or "")
