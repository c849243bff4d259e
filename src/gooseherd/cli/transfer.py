"""`gooseherd export` and `gooseherd import`: what must be kept of a deployment, in one checked file."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gooseherd.domain.apikey import ApiKey
    from gooseherd.domain.export_file import ExportCounts


_LISTED: Final = 200


def export(
    target: Annotated[
        str, typer.Argument(metavar="FILE.jsonl|-", help="Must not be there yet; - for stdout.")
    ],
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Write catalog and keys to a file with digests, from any store, while services go on.

    Of keys only their digests: nobody can use one who has the file. It has owners' names and addresses.
    """

    def command() -> None:
        import asyncio

        from gooseherd.cli.up import read_settings
        from gooseherd.wiring.transfer import export_store

        if target == "-" and as_json:
            raise CommandError(Exit.USAGE, "--json is for a FILE: the export itself goes to stdout")
        settings = read_settings(state_dir=state_dir)
        with _new_file(target) as lines:
            counts = asyncio.run(export_store(settings, lines.write))
        if as_json:
            emit({"files": counts.files, "keys": counts.keys})
        else:
            print_status(_text(counts))

    raise typer.Exit(run(command, as_json=as_json))


def import_(
    source: Annotated[str, typer.Argument(metavar="FILE.jsonl|-", help="As export wrote it; - for stdin.")],
    check: Annotated[bool, typer.Option("--check", help="Read it to its end, and change nothing.")] = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Put an export into the store: entries and keys of the same name are replaced. Any store.

    The file is read to its end first: one that was cut off or altered is refused with the line, and nothing
    is stored. Broken off while it stores, it leaves some of it there, and the same command completes it.
    Names its keys that work now: in an empty store also those that were revoked after the backup.
    """

    def command() -> None:
        import asyncio

        from gooseherd.cli.up import read_settings
        from gooseherd.domain.export_file import DamagedExport
        from gooseherd.wiring.transfer import check_export, import_store, lines_of

        settings = read_settings(state_dir=state_dir)
        with _seekable(source) as file:
            try:
                counts = check_export(lines_of(file))
                report = None
                if not check:
                    file.seek(0)
                    report = asyncio.run(import_store(settings, lines_of(file)))
            except DamagedExport as error:
                raise CommandError(Exit.FAILED, f"{source}: {error}", "nothing was imported") from None
        made_at = "" if counts.made_at is None else counts.made_at.isoformat()
        found: dict[str, object] = {"files": counts.files, "keys": counts.keys, "made_at": made_at}
        if report is not None:
            found |= {
                "new_files": report.new.files,
                "new_keys": report.new.keys,
                "usable_keys": [
                    {"key_id": key.key_id, "owner": key.owner, "label": key.label} for key in report.usable
                ],
            }
        if as_json:
            emit(found)
        elif report is None:
            print_status(f"{_text(counts)}, as they were written; made at {made_at}")
        else:
            print_status(f"{_text(counts)}; new: {_text(report.new)}; made at {made_at}")
            _print_usable(report.usable)

    raise typer.Exit(run(command, as_json=as_json))


def _print_usable(keys: Sequence[ApiKey]) -> None:
    if not keys:
        return
    print_status(
        "These of its keys work now. If the store was empty, some may have been revoked since the backup:"
    )
    print_status("the audit log since then has DELETE /keys/ID. gooseherd keys revoke ID ends them again.")
    for key in keys[:_LISTED]:
        print_status(f"  {key.key_id}  {key.owner}  {key.label}".rstrip())
    if len(keys) > _LISTED:
        print_status(f"  and {formatting.number(len(keys) - _LISTED)} more, see gooseherd keys ls")


def _text(counts: ExportCounts) -> str:
    return f"{formatting.number(counts.files)} entries, {formatting.number(counts.keys)} keys"


@contextmanager
def _new_file(target: str) -> Iterator[BinaryIO]:
    """A file that was not there, for its owner alone, and is removed again when the block fails."""
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    try:
        with path.open("xb") as lines:
            path.chmod(0o600)
            yield lines
    except FileExistsError:
        raise CommandError(Exit.USAGE, f"{target} is there already") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _seekable(source: str) -> Iterator[BinaryIO]:
    """It is read twice; what comes from a pipe is kept on the disk meanwhile."""
    if source != "-":
        if not Path(source).is_file():
            raise CommandError(Exit.USAGE, f"{source}: no such file")
        with Path(source).open("rb") as lines:
            yield lines
        return
    with tempfile.TemporaryFile() as kept:
        while chunk := sys.stdin.buffer.read(1 << 20):
            kept.write(chunk)
        kept.seek(0)
        yield kept
