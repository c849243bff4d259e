"""`gooseherd add`: put files into the catalog, with the digest that makes their identity strong."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from gooseherd.cli import options
from gooseherd.cli.connection import connect
from gooseherd.cli.outcome import Exit, Stop, emit, run, say
from gooseherd.cli.progress import byte_bar

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient

_SCHEMES = frozenset({"http", "https", "drs", "s3"})
_UNFIT = re.compile(r"[^A-Za-z0-9._~:+@=-]+")
_CHUNK_BYTES = 1 << 20


def add(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH_OR_URL...", help="Files, or their addresses.")
    ],
    dcc: Annotated[str, typer.Option(help="Namespace of the catalog.")] = "local",
    local_id: Annotated[
        str | None, typer.Option("--id", help="Id of the file; default: from its name.")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Name or EDAM id; default: from the suffix.")
    ] = None,
    md5: Annotated[str | None, typer.Option(help="Checksum, when it is known already.")] = None,
    no_digest: Annotated[bool, typer.Option("--no-digest", help="Do not read the file for its md5.")] = False,
    sidecar: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=URL", help="An index that exists already: tbi, bai, beddb or px2."),
    ] = None,
    level: Annotated[str, typer.Option(help="public, consortium or protected.")] = "public",
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Register files in the catalog; nothing is processed before somebody asks."""

    def command() -> None:
        if len(sources) > 1 and (local_id or md5 or sidecar):
            raise Stop(Exit.USAGE, "--id, --md5 and --sidecar speak of one file: add that one on its own")
        sidecars = [_sidecar(word) for word in sidecar or []]
        entries = [
            {
                **describe(source, file_format=file_format, md5=md5, digest=not no_digest, quiet=as_json),
                "dcc": dcc,
                "data_access_level": level,
                "sidecars": sidecars,
            }
            for source in sources
        ]
        with connect(url, api_key, state_dir) as client:
            for entry in entries:
                entry["local_id"] = local_id or _free_id(client, entry)
                _register(client, entry)
                if not as_json:
                    say(f"added {_name(entry)} ({entry['file_format']})")
                    if not entry.get("md5"):
                        say("  without an md5 its identity is weak: a change of its content may go unseen")
        if as_json:
            emit({"added": [{"name": _name(entry), **entry} for entry in entries]})
        else:
            for entry in entries:
                print(_name(entry))

    raise typer.Exit(run(command, as_json=as_json))


def describe(
    source: str,
    *,
    file_format: str | None = None,
    md5: str | None = None,
    digest: bool = True,
    quiet: bool = True,
) -> dict[str, Any]:
    """A catalog entry of `source` but for its ids; a local file is read for its md5.

    Raises:
        Stop: no such file, no such kind of address, or no known format.
    """
    scheme = urlsplit(source).scheme.lower() if "://" in source else ""
    if scheme and scheme not in _SCHEMES | {"file"}:
        raise Stop(
            Exit.USAGE, f"{source}: {scheme}: addresses are not understood; use {', '.join(sorted(_SCHEMES))}"
        )
    if scheme in _SCHEMES:
        filename = unquote(urlsplit(source).path.rstrip("/").rsplit("/", 1)[-1]) or urlsplit(source).netloc
        entry: dict[str, Any] = {"access_url": source, "filename": filename, "md5": md5}
    else:
        path = Path(unquote(urlsplit(source).path) if scheme else source)
        entry = _local(path, md5=md5, digest=digest, quiet=quiet)
    entry["file_format"] = _format(file_format, entry["filename"])
    return entry


def id_for(filename: str) -> str:
    """A local id made of a file name, within the catalog's alphabet; the same name gives the same id."""
    word = re.sub(r"\.{2,}", ".", _UNFIT.sub("-", filename))
    return re.sub(r"^[^A-Za-z0-9]+", "", word)[:255] or "file"


def _local(path: Path, *, md5: str | None, digest: bool, quiet: bool) -> dict[str, Any]:
    if not path.exists():
        raise Stop(Exit.USAGE, f"{path}: no such file")
    if not path.is_file():
        raise Stop(Exit.USAGE, f"{path}: not a plain file")
    path = path.resolve()
    stat = path.stat()
    entry = {
        "access_url": path.as_uri(),
        "filename": path.name,
        "size_in_bytes": stat.st_size,
        "md5": md5,
        # Stands in for the digest when there is none: a rewritten file is another file.
        "version_tag": f"mtime-{stat.st_mtime_ns}",
    }
    if md5 is None and digest:
        entry["md5"] = _md5(path, stat.st_size, quiet=quiet)
    return entry


def _md5(path: Path, size: int, *, quiet: bool) -> str:
    total, there = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file, byte_bar(f"md5 of {path.name}", quiet=quiet) as show:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
            there += len(chunk)
            show(there, size)
    return total.hexdigest()


def _format(said: str | None, filename: str) -> str:
    from gooseherd.domain.formats import ALL, from_filename, resolve

    found = resolve(said) if said else from_filename(filename)
    if found is None:
        names = ", ".join(one.name for one in ALL)
        raise Stop(
            Exit.USAGE, f"{said or filename!r} tells no known format", f"say it with --format: {names}"
        )
    return found.name


def _sidecar(word: str) -> dict[str, str]:
    kind, equals, where = word.partition("=")
    if not equals or not kind or "://" not in where:
        raise Stop(Exit.USAGE, f"--sidecar {word!r}: write KIND=URL, such as tbi=https://host/x.vcf.gz.tbi")
    return {"kind": kind, "access_url": where}


def _free_id(client: GooseherdClient, entry: dict[str, Any]) -> str:
    """An id that is free, or that means this very source already."""
    from gooseherd.client import Missing

    first = id_for(entry["filename"])
    for number in range(1, 1000):
        tail = f"-{number}" if number > 1 else ""
        wanted = first[: 255 - len(tail)] + tail
        try:
            known = client.file(entry["dcc"], wanted)
        except Missing:
            return wanted
        if known.get("access_url") == entry["access_url"]:
            return wanted
    raise Stop(Exit.FAILED, f"too many files are called {first}", "choose an id with --id")


def _register(client: GooseherdClient, entry: dict[str, Any]) -> None:
    from gooseherd.client import Refused

    try:
        client.register(entry)
    except Refused as refused:
        if entry["access_url"].startswith("file:") and refused.fields.get("field") == "access_url":
            folder = Path(unquote(urlsplit(entry["access_url"]).path)).parent
            raise Stop(
                Exit.REFUSED,
                f"the service may not read {folder}: {refused}",
                f"start it with: gooseherd up --allow-root {folder}",
            ) from None
        raise


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['dcc'].lower()}/{entry['local_id']}"
