"""`gooseherd files`: look into the catalog, fill it from a dump, take entries out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.connection import local_service, split_name
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status
from gooseherd.cli.service_command import ServiceConnection, service_command

app = typer.Typer(help="The catalog.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls")
@service_command
def ls(
    service: ServiceConnection,
    text: Annotated[
        str | None, typer.Argument(help="Beginning of an id or of a word of the file name.")
    ] = None,
    dcc: Annotated[str | None, typer.Option(help="Only of this namespace.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="Only of this format.")] = None,
    limit: options.Limit = 50,
) -> None:
    """List the catalog."""
    with service.connected() as client:
        files = list(client.files(dcc=dcc, text=text, file_format=file_format, limit=limit))
    if service.emitted({"files": files}):
        return
    from gooseherd.cli.tables import Rounded, show_table

    rows = [
        (
            f"{f['dcc']}/{f['local_id']}",
            f["file_format"],
            Rounded(f.get("size_in_bytes"), formatting.size(f.get("size_in_bytes"))),
            f.get("filename"),
        )
        for f in files
    ]
    show_table(("file", "format", "size", "name"), rows, empty="no files; add one with: gooseherd add PATH")


@app.command("import")
@service_command
def import_(
    service: ServiceConnection,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.jsonl|-|PACKAGE",
            help="One JSON entry a line, - for stdin; a folder or zip file.",
        ),
    ],
    c2m2: Annotated[
        bool, typer.Option("--c2m2", help="It is a C2M2 data package: bring the catalog to what it says.")
    ] = False,
    dcc: Annotated[
        str | None, typer.Option(help="Namespace of a package's files. Default: as its dcc.tsv says.")
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose next version it is, if not by dcc.tsv."),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            metavar="LOCAL_ID", help="Only the files of this collection of the package; none is removed."
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave entries that the package no longer has.")
    ] = False,
    remove_many: Annotated[
        bool, typer.Option("--remove-many", help="Remove them although they are many.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a package: say what would change, and change nothing.")
    ] = False,
) -> None:
    """Register every line of a dump, or every file of a C2M2 data package.

    A package is compared with what the import before has stored: what is new or has changed is stored, and
    entries of that import that the package no longer has are removed. Broken off, the same command goes on.
    """
    if c2m2:
        from gooseherd.cli.c2m2_import import import_package, show

        with service.connected() as client:
            record = import_package(
                client,
                Path(source),
                dcc=dcc,
                name=package,
                collection=collection,
                remove=not keep,
                remove_many=remove_many,
                dry_run=dry_run,
            )
        if not service.emitted(record):
            show(record)
        if record["failed"]:
            raise typer.Exit(Exit.FAILED)
        return
    if source != "-" and not Path(source).is_file():
        raise CommandError(Exit.USAGE, f"{source}: no such file")
    with service.connected() as client:
        if source == "-":
            counts = client.import_files(sys.stdin.buffer)
        else:
            with Path(source).open("rb") as lines:
                counts = client.import_files(lines)
    if not service.emitted(counts):
        _report_import(counts)
    if counts.get("failed"):
        raise typer.Exit(Exit.FAILED)


@app.command("rm")
@service_command
def rm(
    service: ServiceConnection,
    names: Annotated[list[str], typer.Argument(metavar="DCC/ID...", help="As `gooseherd files ls` says it.")],
) -> None:
    """Take entries out of the catalog; a job on content that no other entry has is cancelled.

    The source files stay, and so do finished artifacts unless a setting of retention says otherwise; a
    copy of what `gooseherd add -` read from a pipe goes.
    """
    from gooseherd.cli.piped_input import remove_piped
    from gooseherd.client import Missing

    wanted = [split_name(name) for name in names]
    removed: list[Mapping[str, Any]] = []
    missing: list[str] = []
    with service.connected() as client:
        ours = local_service(client.base_url, service.state_dir)
        for dcc, local_id in wanted:
            try:
                removed.append(client.remove(dcc, local_id))
            except Missing:
                missing.append(f"{dcc}/{local_id}")
                print_status(f"no file {dcc}/{local_id}")
                continue
            if ours is not None and not removed[-1].get("same_content"):
                remove_piped(str(removed[-1].get("access_url") or ""), ours)
            if not service.as_json:
                print_status(_removal_text(removed[-1]))
    if service.as_json:
        emit({"removed": removed, "missing": missing})
    if missing:
        raise typer.Exit(Exit.REFUSED)


def _removal_text(removal: Mapping[str, Any]) -> str:
    name = f"{removal.get('dcc')}/{removal.get('local_id')}"
    job, others = removal.get("job_id"), removal.get("same_content") or ()
    if not job:
        return f"removed {name}"
    if removal.get("job_withdrawn"):
        return f"removed {name}; its job {job} was cancelled"
    if others:
        return f"removed {name}; its job {job} goes on for {', '.join(others)}"
    return f"removed {name}; its job {job} is about to end by itself"


def _report_import(counts: Mapping[str, Any]) -> None:
    imported, new = counts.get("imported", 0), counts.get("new", 0)
    print(f"{formatting.number(imported)} imported, {formatting.number(new)} of them new")
    for error in counts.get("errors") or ():
        print_status(f"line {error.get('line')}: {error.get('field')}: {error.get('problem')}")
    if counts.get("failed"):
        print_status(f"{counts['failed']} lines were not imported")
