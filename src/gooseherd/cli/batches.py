"""`gooseherd prepare` and `gooseherd batches`: many files at once, followed as one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.connection import split_name
from gooseherd.cli.outcome import CommandError, Exit, emit, print_line, print_status
from gooseherd.cli.progress import batch_bar, batch_text
from gooseherd.cli.service_command import ServiceConnection, service_command

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient

app = typer.Typer(
    help="Batches: many files prepared as one thing.", no_args_is_help=True, rich_markup_mode=None
)

BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id, or its URL.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Longest wait, seconds; the batch goes on after.")]

MOST_FILES: Final = 10_000
_FAILURES_SHOWN: Final = 10


@service_command
def prepare(
    service: ServiceConnection,
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY...", help="DCC/ID, or the beginning of an id or of a word of the name."
        ),
    ] = None,
    dcc: Annotated[str | None, typer.Option(help="Only of this namespace.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="Only of this format.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole catalog.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try those again that failed a moment ago.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the work and do not wait; prints the batch's id.")
    ] = False,
    timeout: Timeout = None,
) -> None:
    """Prepare many files, so that they are ready when somebody asks; at most 10,000.

    More than 50 need a key with the scope submit. What people ask for one by one goes first. The exit
    code is 0 when every file is ready.
    """
    words = queries or []
    if not (words or dcc or file_format or everything):
        raise CommandError(Exit.USAGE, "name files or words of their names, --dcc, --format, or --all")
    with service.connected() as client:
        batch = _create(client, words, dcc=dcc, file_format=file_format, retry=retry)
        if detach:
            if not service.emitted(batch):
                print_status(
                    f"{_files(batch['total'])}; follow them with: gooseherd batches watch {batch['batch_id']}"
                )
                print(batch["batch_id"])
            return
        _follow(service, client, batch["batch_id"], timeout)


def _create(
    client: GooseherdClient, words: list[str], *, dcc: str | None, file_format: str | None, retry: bool
) -> Mapping[str, Any]:
    names = [word for word in words if "/" in word]
    texts = [word for word in words if "/" not in word]
    if not names and len(texts) <= 1:
        text = texts[0] if texts else None
        return client.create_batch(text=text, dcc=dcc, file_format=file_format, retry=retry)
    files = dict.fromkeys("/".join(_split(name)) for name in names)
    for text in texts:
        found = client.files(text=text, dcc=dcc, file_format=file_format, limit=MOST_FILES + 1)
        before = len(files)
        files |= dict.fromkeys(f"{entry['dcc']}/{entry['local_id']}" for entry in found)
        if len(files) > MOST_FILES:
            raise CommandError(Exit.REFUSED, f"more than {MOST_FILES} files: ask for fewer")
        if len(files) == before:
            print_status(f"no other file matches {text!r}")
    if not files:
        raise CommandError(Exit.REFUSED, "no file of the catalog matches")
    return client.create_batch(list(files), retry=retry)


def _split(name: str) -> tuple[str, str]:
    try:
        return split_name(name)
    except CommandError as error:
        hint = (
            "all of a namespace: gooseherd prepare --dcc NAME; by a word of the name: gooseherd prepare WORD"
        )
        raise CommandError(error.code, error.message, hint) from None


@app.command("ls")
@service_command
def ls(
    service: ServiceConnection,
    mine: Annotated[bool, typer.Option("--mine", help="Only those asked for from here.")] = False,
    limit: options.Limit = 20,
) -> None:
    """List batches, the newest first."""
    batches = service.call(lambda client: list(client.batches(mine=mine, limit=limit)))
    if service.emitted({"batches": batches}):
        return
    from gooseherd.cli.tables import Rounded, show_table

    rows = [
        (
            batch["batch_id"],
            batch["status"],
            str(batch["total"]),
            batch_text(batch),
            Rounded(batch["created_at"], formatting.moment(batch["created_at"])),
        )
        for batch in batches
    ]
    show_table(("batch", "status", "files", "of them", "created"), rows, empty="no batches")


@app.command("show")
@service_command
def show(service: ServiceConnection, batch: BatchArgument) -> None:
    """Show one batch with every file that is not ready, and why."""
    with service.connected() as client:
        record = client.batch(batch_id(batch))
        if service.as_json:
            emit({**record, "files": list(client.batch_files(record["batch_id"]))})
            return
        for line in batch_lines(record):
            print_line(line)
        from gooseherd.cli.tables import show_table

        rows = [
            (f"{file['dcc']}/{file['local_id']}", file["state"], _why(file), file["job_id"] or "")
            for file in client.batch_files(record["batch_id"])
            if file["state"] != "ready"
        ]
        show_table(("file", "state", "why", "job"), rows)


@app.command("watch")
@service_command
def watch(service: ServiceConnection, batch: BatchArgument, timeout: Timeout = None) -> None:
    """Follow one batch to its end; the exit code says whether every file is ready."""
    with service.connected() as client:
        _follow(service, client, batch_id(batch), timeout)


@app.command("cancel")
@service_command
def cancel(service: ServiceConnection, batch: BatchArgument) -> None:
    """Cancel a batch; what is ready stays, and so do jobs that somebody else wants."""
    record = service.call(lambda client: client.cancel_batch(batch_id(batch)))
    if not service.emitted(record):
        print_status(f"batch {record['batch_id']}: {_state_text(record)}")


def _follow(service: ServiceConnection, client: GooseherdClient, wanted: str, timeout: float | None) -> None:
    """Show the batch until it ends; raises typer.Exit unless every file is ready."""
    from gooseherd.client import NotReachable

    last: Mapping[str, Any] = {}
    try:
        with batch_bar(quiet=service.as_json) as bar:
            for last in client.follow_batch(wanted, timeout_seconds=timeout):
                bar(last)
    except (KeyboardInterrupt, NotReachable):
        print_status(
            f"batch {wanted} goes on; follow it with: gooseherd batches watch {wanted}; "
            f"cancel it with: gooseherd batches cancel {wanted}"
        )
        raise
    last = client.batch(wanted)
    if not service.emitted(last):
        print_status(f"batch {wanted}: {_state_text(last)}")
        for file in last.get("failures") or ():
            print_status(f"{file['dcc']}/{file['local_id']}: {_why(file)}")
        more = last["counts"]["failed"] - _FAILURES_SHOWN
        if more > 0:
            print_status(f"and {more} more; gooseherd batches show {wanted} has them all")
    if last["status"] != "completed":
        raise typer.Exit(Exit.FAILED)


def batch_lines(batch: Mapping[str, Any]) -> Iterator[str]:
    """The record for people, a line each."""
    yield formatting.line("batch", batch["batch_id"])
    yield formatting.line("status", batch["status"])
    yield formatting.line("files", f"{batch['total']} ({batch_text(batch)})")
    yield formatting.line("created", formatting.moment(batch["created_at"]))
    if batch.get("ended_at"):
        yield formatting.line("ended", formatting.moment(batch["ended_at"]))
    if batch.get("requester"):
        yield formatting.line("requester", batch["requester"])


def batch_id(text: str) -> str:
    """The id in an id, a /batches/ path or a batch's URL."""
    word = text.split("?", maxsplit=1)[0]
    for below in ("/events", "/files"):
        word = word.removesuffix(below)
    word = word.rstrip("/").rsplit("/", 1)[-1]
    if not word:
        raise CommandError(Exit.USAGE, f"{text!r} is no batch's id")
    return word


def _state_text(batch: Mapping[str, Any]) -> str:
    if batch["status"] == "completed":
        return f"{_files(batch['total'])} ready"
    if batch["status"] == "active":
        stopping = "being cancelled, " if batch.get("cancel_requested") else ""
        return f"{stopping}{batch_text(batch)}"
    return f"{batch['status']}, {batch_text(batch)}"


def _files(count: int) -> str:
    return f"{formatting.number(count)} file{'' if count == 1 else 's'}"


def _why(file: Mapping[str, Any]) -> str:
    return ": ".join(str(file[part]) for part in ("reason", "detail") if file.get(part))
