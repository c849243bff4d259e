"""`gooseherd store`: check, compact and copy the store, and move a catalog from one store to another."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn, TextIO

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run
from gooseherd.domain.foreign_json import read_json

if TYPE_CHECKING:
    from gooseherd.domain.source import SourceFile
    from gooseherd.settings import Settings

app = typer.Typer(
    help="Jobs and the catalog where they are kept: DATABASE_URL, or the state folder.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_BATCH = 1000
_LONGEST_LINE = 1 << 20
_VENDORS = {
    "check": ("pg_amcheck --all", "db.jobs.validate(), db.files.validate()"),
    "vacuum": ("VACUUM (ANALYZE) jobs, files", "db.runCommand({compact: 'jobs'}), also for files"),
    "backup": (
        'pg_dump --format=custom --file=FILE "$DATABASE_URL"',
        'mongodump --uri="$DATABASE_URL" --archive=FILE',
    ),
}
"""Of PostgreSQL and MongoDB."""


@app.command("check")
def check(state_dir: options.StateDir = None, as_json: options.Json = False) -> None:
    """Read a SQLite store to its end and say what is wrong with it; exit code 1 when something is."""

    def command() -> None:
        from gooseherd.store.sql import maintenance

        file = _sqlite_file(state_dir, "check")
        findings = maintenance.check(file)
        if as_json:
            emit({"file": str(file), "ok": not findings, "findings": findings})
        else:
            for finding in findings:
                print(finding)
            print_status(f"{file}: {'damaged; restore a copy' if findings else 'ok'}")
        if findings:
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


@app.command("vacuum")
def vacuum(state_dir: options.StateDir = None, as_json: options.Json = False) -> None:
    """Give the disk back what removed entries and old jobs took in a SQLite store; writers wait meanwhile."""

    def command() -> None:
        from gooseherd.store.sql import maintenance

        file = _sqlite_file(state_dir, "vacuum")
        before, after = maintenance.vacuum(file)
        if as_json:
            emit({"file": str(file), "bytes_before": before, "bytes_after": after})
        else:
            print_status(f"{file}: {formatting.size(before)} before, {formatting.size(after)} now")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Must not be there yet.")],
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Copy a SQLite store as it is at one moment, while services go on. The copy is checked.

    To restore: stop the services, put the copy in the place of the file, remove FILE-wal and FILE-shm there.
    """

    def command() -> None:
        from gooseherd.store.sql import maintenance

        file = _sqlite_file(state_dir, "backup")
        copied = maintenance.backup(file, target.absolute())
        if as_json:
            emit({"file": str(file), "backup": str(target.absolute()), "bytes": copied})
        else:
            print_status(f"{target}: {formatting.size(copied)}, checked")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("export")
def export(
    target: Annotated[
        str, typer.Argument(metavar="FILE.jsonl|-", help="Must not be there yet; - for stdout.")
    ],
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Write the catalog, one JSON entry a line, as `gooseherd files import` reads it, too. Any store."""

    def command() -> None:
        import asyncio

        if target == "-" and as_json:
            raise CommandError(Exit.USAGE, "--json is for a FILE: the catalog itself goes to stdout")
        settings = _settings(state_dir)
        with _new_text(target) as lines:
            count = asyncio.run(_export(settings, lines))
        if as_json:
            emit({"exported": count})
        else:
            print_status(f"{formatting.number(count)} entries")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="FILE.jsonl|-", help="As export wrote it; - for stdin.")],
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Put every entry of an export into the store; entries of the same name are replaced. Any store.

    Ends at the first line that is no entry; those before it may be in the store then. Again is safe.
    """

    def command() -> None:
        import asyncio

        settings = _settings(state_dir)
        with _lines_of(source) as lines:
            imported, new = asyncio.run(_import(settings, lines))
        if as_json:
            emit({"imported": imported, "new": new})
        else:
            print_status(f"{formatting.number(imported)} imported, {formatting.number(new)} of them new")

    raise typer.Exit(run(command, as_json=as_json))


@contextmanager
def _new_text(target: str) -> Iterator[TextIO]:
    """A file that was not there, and is removed again when the block fails; or standard output."""
    if target == "-":
        yield sys.stdout
        return
    path = Path(target)
    try:
        with path.open("x", encoding="utf-8") as lines:
            yield lines
    except FileExistsError:
        raise CommandError(Exit.USAGE, f"{target} is there already") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _lines_of(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    if not Path(source).is_file():
        raise CommandError(Exit.USAGE, f"{source}: no such file")
    with Path(source).open("rb") as lines:
        yield lines


def _settings(state_dir: Path | None) -> Settings:
    from gooseherd.cli.up import read_settings

    return read_settings(state_dir=state_dir)


def _sqlite_file(state_dir: Path | None, command: str) -> Path:
    from gooseherd.wiring.store import sqlite_file

    settings = _settings(state_dir)
    file = sqlite_file(settings)
    if file is None:
        _refer_to_vendor(settings, command)
    return file


def _refer_to_vendor(settings: Settings, command: str) -> NoReturn:
    postgresql, mongodb = _VENDORS[command]
    product, theirs = (
        ("MongoDB", mongodb)
        if (settings.database_url or "").startswith("mongodb")
        else ("PostgreSQL", postgresql)
    )
    raise CommandError(
        Exit.USAGE, f"this is for SQLite; DATABASE_URL names {product}", f"its own way: {theirs}"
    )


async def _export(settings: Settings, lines: TextIO) -> int:
    from gooseherd.wiring.store import open_store
    from gooseherd.wiring.transfer import every_entry

    count = 0
    async with open_store(settings) as store:
        async for entry in every_entry(store.files):
            lines.write(json.dumps(entry.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    lines.flush()
    return count


async def _import(settings: Settings, lines: BinaryIO) -> tuple[int, int]:
    from gooseherd.wiring.store import open_store

    imported = new = 0
    async with open_store(settings) as store:
        batch: list[SourceFile] = []
        for entry in _entries(iter(lambda: lines.readline(_LONGEST_LINE + 1), b"")):
            batch.append(entry)
            if len(batch) == _BATCH:
                new += await store.files.put(batch)
                imported += len(batch)
                batch = []
        new += await store.files.put(batch)
        return imported + len(batch), new


def _entries(lines: Iterable[bytes]) -> Iterator[SourceFile]:
    from gooseherd.domain.errors import InvalidInput
    from gooseherd.domain.source import SourceFile

    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST_LINE:
            raise CommandError(Exit.FAILED, f"line {number}: longer than {_LONGEST_LINE} bytes")
        if not line.strip():
            continue
        try:
            data = read_json(line)
            if not isinstance(data, dict):
                raise InvalidInput("line", "must be a JSON object")
            yield SourceFile.from_json(data)
        except ValueError:
            raise CommandError(Exit.FAILED, f"line {number}: not JSON") from None
        except InvalidInput as error:
            raise CommandError(Exit.FAILED, f"line {number}: {error}") from None
