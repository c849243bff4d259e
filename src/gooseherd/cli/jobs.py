"""`gooseherd jobs`: what is being made, how far it is, and how to stop it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_line, print_status
from gooseherd.cli.progress import job_bar, percent, phase
from gooseherd.cli.service_command import ServiceConnection, service_command

app = typer.Typer(help="Jobs: what is being made.", no_args_is_help=True, rich_markup_mode=None)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its URL.")]


@app.command("ls")
@service_command
def ls(
    service: ServiceConnection,
    status: Annotated[str | None, typer.Option(help="Only with this status.")] = None,
    limit: options.Limit = 20,
) -> None:
    """List jobs, the newest first."""
    with service.connected() as client:
        jobs = list(client.jobs(status=status, limit=limit))
    if service.emitted({"jobs": jobs}):
        return
    from gooseherd.cli.tables import Rounded, show_table

    rows = [
        (
            j["job_id"],
            j["status"],
            f"{percent(j):.0f}%",
            file_of(j),
            j.get("reason") or "",
            Rounded(j["created_at"], formatting.moment(j["created_at"])),
            formatting.waiting(j),
        )
        for j in jobs
    ]
    show_table(("job", "status", "done", "file", "reason", "created", ""), rows, empty="no jobs")


@app.command("show")
@service_command
def show(
    service: ServiceConnection,
    job: JobArgument,
) -> None:
    """Show one job with all its attempts."""
    with service.connected() as client:
        record = client.job(job_id(job))
    if service.emitted(record):
        return
    for line in job_lines(record):
        print_line(line)


@app.command("watch")
@service_command
def watch(
    service: ServiceConnection,
    job: JobArgument,
    timeout: Annotated[float | None, typer.Option(help="Seconds; the job goes on after.")] = None,
) -> None:
    """Follow one job to its end; the exit code says whether it was completed."""
    last: Mapping[str, Any] = {}
    wanted = job_id(job)
    with service.connected() as client, job_bar(wanted, quiet=service.as_json) as bar:
        for last in client.follow(wanted, timeout_seconds=timeout):
            bar(last)
            if service.as_json:
                emit(last)
    if last.get("status") != "completed":
        why = ": ".join(str(last[part]) for part in ("reason", "detail") if last.get(part))
        print_status(
            f"job {wanted} {last.get('status')}: {why}" if why else f"job {wanted} {last.get('status')}"
        )
        raise typer.Exit(Exit.FAILED)
    if not service.as_json:
        print_status(f"job {wanted} completed")
        for line in formatting.note_lines(last):
            print_status(line)


@app.command("cancel")
@service_command
def cancel(
    service: ServiceConnection,
    job: JobArgument,
) -> None:
    """Cancel a job; what it has published so far stays."""
    with service.connected() as client:
        record = client.cancel(job_id(job))
    if not service.emitted(record):
        print_status(f"job {record.get('job_id', job)}: {_cancellation_text(record)}")


_TIMES = frozenset({"created_at", "enqueued_at", "updated_at", "started_at", "finished_at", "not_before"})
_APART = frozenset({"attempt", "attempts", "parts", "progress", "waiting", "notes", "counts"})


def job_lines(job: Mapping[str, Any]) -> Iterator[str]:
    """A job's record for people: what is known of it, a line each."""
    for name, value in job.items():
        if name in _APART or value in (None, "", [], {}):
            continue
        shown = formatting.moment(value) if name in _TIMES else value
        yield formatting.line(name, ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown))
    progress = job.get("progress") or {}
    if job.get("status") == "running":
        yield formatting.line("progress", _progress_text(job, progress))
    if why := formatting.waiting(job):
        yield formatting.line("waiting", why.removeprefix("waiting: "))
    for attempt in job.get("attempts") or ():
        yield formatting.line("attempt", _attempt_text(attempt))
    for part in job.get("parts") or ():
        yield formatting.line(
            part["kind"], f"{part['filename']}  {formatting.size(part['size'])}  sha256 {part['sha256']}"
        )
    if counts := job.get("counts"):
        yield formatting.line("counts", formatting.counts_text(counts))
    for note in job.get("notes") or ():
        yield formatting.line("note", str(note))


def _progress_text(job: Mapping[str, Any], progress: Mapping[str, Any]) -> str:
    parts = [str(progress.get("step") or ""), f"{percent(job):.0f}%"]
    if progress.get("bytes_in"):
        parts.append(f"{formatting.size(progress['bytes_in'])} read")
    if progress.get("bytes_out"):
        parts.append(f"{formatting.size(progress['bytes_out'])} written")
    if progress.get("eta_seconds") is not None:
        parts.append(f"about {formatting.span(round(progress['eta_seconds']))} left")
    return ", ".join(part for part in parts if part)


def _attempt_text(attempt: Mapping[str, Any]) -> str:
    ended = attempt.get("ended_at")
    parts = [
        f"{attempt.get('number')}, {formatting.moment(attempt.get('started_at'))}",
        f"to {formatting.moment(ended)}" if ended else "under way",
        ": ".join(str(attempt[part]) for part in ("reason", "detail") if attempt.get(part)),
        f"on {attempt['worker_id']}" if attempt.get("worker_id") else "",
    ]
    return ", ".join(part for part in parts if part)


def job_id(text: str) -> str:
    """The id in an id, a /jobs/ path or a job's URL."""
    word = text.split("?", maxsplit=1)[0].removesuffix("/events").rstrip("/").rsplit("/", 1)[-1]
    if not word:
        raise CommandError(Exit.USAGE, f"{text!r} is no job's id")
    return word


def file_of(job: Mapping[str, Any]) -> str:
    """DCC/ID of the file a job works on."""
    if "dcc" in job:
        return f"{job['dcc']}/{job.get('local_id')}"
    source = job.get("source") or {}
    return f"{source['dcc']}/{source['local_id']}" if "dcc" in source else ""


def _cancellation_text(job: Mapping[str, Any]) -> str:
    return "cancelled" if job.get("status") == "cancelled" else f"asked to stop ({phase(job)})"
