"""The `gooseherd` command: parses, calls, and reports how it went; the work is done elsewhere.

Nothing heavy is imported before a command runs, so that help is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gooseherd.cli import (
    add,
    batches,
    certs,
    devcloud,
    files,
    fleet,
    gc,
    get,
    jobs,
    keys,
    queue,
    reap,
    reconcile,
    sessions,
    show,
    store,
    transfer,
    trials,
    up,
    usage,
    view,
    worker,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        trials.version()
        raise typer.Exit


app = typer.Typer(
    name="gooseherd",
    help="Sorted, indexed, byte-range-ready genome files on demand.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: rich alone would take longer to import than the rest of the command.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up", cls=up.RootsFromHere)(up.up)
app.command("view")(view.view)
app.command("add")(add.add)
app.command("get")(get.get)
app.command("prepare")(batches.prepare)
app.command("show")(show.show)
app.add_typer(jobs.app, name="jobs")
app.add_typer(batches.app, name="batches")
app.command("queue")(queue.queue)
app.command("usage")(usage.usage)
app.add_typer(files.app, name="files")
app.add_typer(fleet.app, name="fleet")
app.add_typer(keys.app, name="keys")
app.add_typer(sessions.app, name="sessions")
app.add_typer(store.app, name="store")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.command("reconcile")(reconcile.reconcile)
app.command("reap")(reap.reap)
app.command("gc")(gc.gc)
app.add_typer(certs.app, name="certs")
app.add_typer(devcloud.app, name="devcloud")
app.command("worker")(worker.worker)
app.command("smoke")(trials.smoke)
app.command("demo")(trials.demo)
app.command("doctor")(trials.doctor)
app.command("version")(trials.version)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run one command and exit with its code (see `outcome.Exit`)."""
    # httpx loads a command line of its own unless that is missing: half of a command's start-up.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    app(args=sys.argv[1:], prog_name="gooseherd")
