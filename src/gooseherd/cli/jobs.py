"""`gooseherd jobs`: what is being made, how far it is, and how to stop it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gooseherd.cli import options
from gooseherd.cli.connection import connect
from gooseherd.cli.outcome import Exit, Stop, emit, run, say
from gooseherd.cli.progress import job_bar, percent, phase

app = typer.Typer(help="Jobs: what is being made.", no_args_is_help=True, rich_markup_mode=None)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its URL.")]


@app.command("ls")
def ls(
    status: Annotated[str | None, typer.Option(help="Only with this status.")] = None,
    limit: options.Limit = 20,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """List jobs, the newest first."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            jobs = list(client.jobs(status=status, limit=limit))
        if as_json:
            emit({"jobs": jobs})
            return
        from gooseherd.cli.tables import show_table

        rows = [
            (
                j["job_id"],
                j["status"],
                f"{percent(j):.0f}%",
                file_of(j),
                j.get("reason") or "",
                j["created_at"],
            )
            for j in jobs
        ]
        show_table(("job", "status", "done", "file", "reason", "created"), rows, empty="no jobs")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("show")
def show(
    job: JobArgument,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Show one job with all its attempts."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            record = client.job(job_id(job))
        if as_json:
            emit(record)
            return
        for name, value in record.items():
            if name == "attempts" or value in (None, "", [], {}):
                continue
            print(f"{name:16} {value}")
        for attempt in record.get("attempts") or ():
            told = " ".join(f"{key}={value}" for key, value in attempt.items() if value not in (None, ""))
            print(f"{'attempt':16} {told}")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("watch")
def watch(
    job: JobArgument,
    timeout: Annotated[float | None, typer.Option(help="Seconds; the job goes on after.")] = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Follow one job to its end; the exit code says whether it was completed."""

    def command() -> None:
        last: dict[str, Any] = {}
        wanted = job_id(job)
        with connect(url, api_key, state_dir) as client, job_bar(wanted, quiet=as_json) as bar:
            for last in client.follow(wanted, timeout_seconds=timeout):
                bar(last)
                if as_json:
                    emit(last)
        if last.get("status") != "completed":
            why = ": ".join(str(last[part]) for part in ("reason", "detail") if last.get(part))
            say(f"job {wanted} {last.get('status')}: {why}" if why else f"job {wanted} {last.get('status')}")
            raise typer.Exit(Exit.FAILED)
        if not as_json:
            say(f"job {wanted} completed")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("cancel")
def cancel(
    job: JobArgument,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Cancel a job; what it has published so far stays."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            record = client.cancel(job_id(job))
        if as_json:
            emit(record)
        else:
            say(f"job {record.get('job_id', job)}: {_cancelled_words(record)}")

    raise typer.Exit(run(command, as_json=as_json))


def job_id(text: str) -> str:
    """The id in an id, a /jobs/ path or a job's URL."""
    word = text.split("?", maxsplit=1)[0].removesuffix("/events").rstrip("/").rsplit("/", 1)[-1]
    if not word:
        raise Stop(Exit.USAGE, f"{text!r} is no job's id")
    return word


def file_of(job: dict[str, Any]) -> str:
    """DCC/ID of the file a job works on."""
    if "dcc" in job:
        return f"{job['dcc']}/{job.get('local_id')}"
    source = job.get("source") or {}
    return f"{source['dcc']}/{source['local_id']}" if "dcc" in source else ""


def _cancelled_words(job: dict[str, Any]) -> str:
    return "cancelled" if job.get("status") == "cancelled" else f"asked to stop ({phase(job)})"
