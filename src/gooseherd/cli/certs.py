"""`gooseherd certs`: the certificates between API and workers, made and looked at."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gooseherd.cli import options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

app = typer.Typer(
    help="Certificates between the API and its workers.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("make")
def make(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the files.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of the two pairs.")] = 397,
    renew: Annotated[bool, typer.Option("--renew", help="Keep the CA in FOLDER, replace the pairs.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make a CA and the pairs `worker` and `api`. Keep ca.key offline: nothing that runs needs it."""

    def command() -> None:
        from gooseherd import certs

        certs.make_all(folder, days=days, renew=renew)
        _show(folder, as_json=as_json)

    raise typer.Exit(run(command, as_json=as_json))


@app.command("secret")
def secret(
    folder: Annotated[Path, typer.Argument(help="Folder that `certs make` filled.")],
    side: Annotated[str, typer.Argument(help="`api` or `worker`.")],
) -> None:
    """Print the variables of one side as a JSON object: the content of a secret, private key included."""

    def command() -> None:
        from gooseherd import certs

        if side not in {"api", "worker"}:
            raise CommandError(Exit.USAGE, f"{side}: `api` or `worker`")
        emit(certs.as_secret(folder, side))

    raise typer.Exit(run(command, as_json=True))


@app.command("host")
def host(
    name: Annotated[str, typer.Argument(metavar="HOST", help="The worker's host, as WORKER_HOSTS has it.")],
    folder: Annotated[Path, typer.Argument(help="Folder that `certs make` filled, with ca.key.")],
    into: Annotated[
        Path, typer.Option(help="Folder for this host's files, which go there and nowhere else.")
    ],
    days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of the pair.")] = 397,
    as_json: options.Json = False,
) -> None:
    """Make a pair for one host with a worker: ca.pem, worker.pem, worker.key. Again: a new pair."""

    def command() -> None:
        from gooseherd import certs

        certs.make_host(folder, name, into, days=days)
        until = certs.expiry((into / "worker.pem").read_bytes())
        if as_json:
            emit({"host": name, "folder": str(into), "valid_until": {"worker": until.isoformat()}})
        else:
            print_status(f"{into / 'worker.pem'}: for {name}, valid until {until:%Y-%m-%d}")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(help="Folder that `certs make` filled.")],
    as_json: options.Json = False,
) -> None:
    """Say until when each certificate is valid."""
    raise typer.Exit(run(lambda: _show(folder, as_json=as_json), as_json=as_json))


def _show(folder: Path, *, as_json: bool) -> None:
    from gooseherd import certs

    until = {name: certs.expiry((folder / f"{name}.pem").read_bytes()) for name in ("ca", "worker", "api")}
    if as_json:
        emit({"folder": str(folder), "valid_until": {name: at.isoformat() for name, at in until.items()}})
        return
    for name, at in until.items():
        remaining = (at - datetime.now(UTC)).days
        print_status(f"{folder / f'{name}.pem'}: valid until {at:%Y-%m-%d} ({remaining} days)")
