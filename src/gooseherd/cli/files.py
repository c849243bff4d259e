"""`gooseherd files`: look into the catalog, fill it from a dump."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gooseherd.cli import options
from gooseherd.cli.connection import connect
from gooseherd.cli.outcome import Exit, Stop, emit, run, say

app = typer.Typer(help="The catalog.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls")
def ls(
    text: Annotated[
        str | None, typer.Argument(help="Beginning of an id or of a word of the file name.")
    ] = None,
    dcc: Annotated[str | None, typer.Option(help="Only of this namespace.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="Only of this format.")] = None,
    limit: options.Limit = 50,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """List the catalog."""

    def command() -> None:
        with connect(url, api_key, state_dir) as client:
            files = list(client.files(dcc=dcc, text=text, file_format=file_format, limit=limit))
        if as_json:
            emit({"files": files})
            return
        from gooseherd.cli.tables import show_table

        rows = [
            (f"{f['dcc']}/{f['local_id']}", f["file_format"], f.get("size_in_bytes"), f.get("filename"))
            for f in files
        ]
        show_table(
            ("file", "format", "bytes", "name"), rows, empty="no files; add one with: gooseherd add PATH"
        )

    raise typer.Exit(run(command, as_json=as_json))


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="FILE.jsonl|-", help="One JSON entry a line; - for stdin.")
    ],
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Register every line of a dump."""

    def command() -> None:
        if source != "-" and not Path(source).is_file():
            raise Stop(Exit.USAGE, f"{source}: no such file")
        with connect(url, api_key, state_dir) as client:
            if source == "-":
                counts = client.import_files(sys.stdin.buffer)
            else:
                with Path(source).open("rb") as lines:
                    counts = client.import_files(lines)
        if as_json:
            emit(counts)
        else:
            _tell(counts)
        if counts.get("failed"):
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


def _tell(counts: dict[str, Any]) -> None:
    print(f"{counts.get('imported', 0)} imported, {counts.get('new', 0)} of them new")
    for error in counts.get("errors") or ():
        say(f"line {error.get('line')}: {error.get('field')}: {error.get('problem')}")
    if counts.get("failed"):
        say(f"{counts['failed']} lines were not imported")
