"""`gooseherd sessions`: workers that are kept for one requester each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from gooseherd.cli import formatting
from gooseherd.cli.outcome import print_line, print_status
from gooseherd.cli.service_command import ServiceConnection, service_command

app = typer.Typer(
    help="Sessions: a worker kept for one requester.", no_args_is_help=True, rich_markup_mode=None
)

SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id, or its URL.")]


@app.command("ls")
@service_command
def ls(
    service: ServiceConnection,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that ended within a day.")] = False,
) -> None:
    """List sessions, the oldest first."""
    with service.connected() as client:
        record = client.sessions(ended=ended)
    if service.emitted(record):
        return
    from gooseherd.cli.tables import show_table

    rows = [
        (
            one["session_id"],
            one["state"],
            one["owner"],
            one["size"],
            one.get("worker_id") or "",
            one.get("reason") or "",
        )
        for one in record["sessions"]
    ]
    show_table(("session", "state", "owner", "size", "worker", "reason"), rows, empty="no sessions")


@app.command("start")
@service_command
def start(
    service: ServiceConnection,
    owner: Annotated[
        str | None, typer.Option(help="Whose jobs run on it: an address, or admin. Default: yours.")
    ] = None,
    size: Annotated[str, typer.Option(help="small, medium or large.")] = "small",
    idle_seconds: Annotated[
        float | None, typer.Option("--idle", metavar="SECONDS", help="It ends when idle for so long.")
    ] = None,
) -> None:
    """Keep a worker for an owner, or find the one that is kept already."""
    with service.connected() as client:
        record = client.start_session(owner=owner, size=size, idle_seconds=idle_seconds)
    if not service.emitted(record):
        print(record["session_id"])
        print_status(f"session of {record['owner']}: {record['state']}")


@app.command("show")
@service_command
def show(service: ServiceConnection, session: SessionArgument) -> None:
    """Show one session."""
    with service.connected() as client:
        record = client.session(_session_id(session))
    if service.emitted(record):
        return
    for line in session_lines(record):
        print_line(line)


@app.command("end")
@service_command
def end(service: ServiceConnection, session: SessionArgument) -> None:
    """End a session: what is in flight goes on, then its worker is stopped."""
    with service.connected() as client:
        record = client.end_session(_session_id(session))
    if not service.emitted(record):
        print_status(f"session {record['session_id']}: {record['state']} ({record['reason']})")


@app.command("dispatch")
@service_command
def dispatch(
    service: ServiceConnection,
    session: SessionArgument,
    files: Annotated[list[str], typer.Argument(metavar="DCC/ID...", help="Files of the catalog.")],
) -> None:
    """Have files prepared on the session's worker, one after the other."""
    with service.connected() as client:
        found = {file: client.dispatch(_session_id(session), file) for file in files}
    jobs = [job for job in found.values() if job is not None]
    ready = [file for file, job in found.items() if job is None]
    if service.emitted({"jobs": jobs, "ready": ready}):
        return
    for file in ready:
        print_status(f"{file} is there already")
    for job in jobs:
        print(job["job_id"])


def session_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The record for people, a line each."""
    yield _line("session", record["session_id"])
    yield _line("state", record["state"])
    yield _line("owner", record["owner"])
    yield _line("size", record["size"])
    yield _line("worker", record.get("worker_id") or "not yet")
    if record["workers_lost"]:
        yield _line("replaced", "a worker of it was lost")
    yield _line("created", formatting.moment(record["created_at"]))
    if record.get("idle_since"):
        yield _line("idle since", formatting.moment(record["idle_since"]))
    yield _line("ends when idle", f"for {formatting.span(record['idle_seconds'])}")
    if record.get("reason"):
        yield _line("ended", f"{record['reason']}: {record['detail']}")


def _line(name: str, value: str) -> str:
    return f"{name:17} {value}"


def _session_id(text: str) -> str:
    return text.rstrip("/").rsplit("/", 1)[-1]
