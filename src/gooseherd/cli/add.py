"""`gooseherd add`: put files into the catalog, with the digest that makes their identity strong."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from gooseherd.cli import options, words
from gooseherd.cli.connection import connect, local_service
from gooseherd.cli.outcome import Exit, Stop, emit, run, say
from gooseherd.cli.progress import OnBytes, byte_bar, job_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gooseherd.cli.adding import Added, Adding
    from gooseherd.client import GooseherdClient

_SCHEMES = frozenset({"http", "https", "drs", "s3"})
_UNFIT = re.compile(r"[^A-Za-z0-9._~:+@=-]+")
_CHUNK_BYTES = 1 << 20
_TOLD = 20
"""Files are told of one by one up to here; more are counted."""
_AHEAD = 8
"""With --wait: how many files are asked for before the first is waited for."""


def add(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PATH_OR_URL...", help="Files, folders, their addresses, or - for a pipe."),
    ],
    dcc: Annotated[str, typer.Option(help="Namespace of the catalog.")] = "local",
    local_id: Annotated[
        str | None, typer.Option("--id", help="Id of the file; default: from its name.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="File name of what comes from a pipe, such as calls.vcf.gz.")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Name or EDAM id; default: from the suffix.")
    ] = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(help="Of a folder only these, such as '*.bam' or 'run1/*.vcf.gz'; repeat for more."),
    ] = None,
    md5: Annotated[str | None, typer.Option(help="Checksum, when it is known already.")] = None,
    no_digest: Annotated[bool, typer.Option("--no-digest", help="Do not read the file for its md5.")] = False,
    sidecar: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=URL", help="An index that exists already: tbi, bai, beddb or px2."),
    ] = None,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Do not use an index that lies beside a local file.")
    ] = False,
    level: Annotated[str, typer.Option(help="public, consortium or protected.")] = "public",
    wait: Annotated[bool, typer.Option("--wait", help="Also have them made now, and wait for it.")] = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Register files in the catalog; nothing is processed before somebody asks (or with --wait).

    A folder is added with all below it. A .bai or .tbi beside a local file is used when it fits: the
    file is then served as it is.
    """

    def command() -> None:
        from gooseherd.cli.adding import Adding

        _check_usage(sources, one_only=bool(local_id or md5 or sidecar), name=name)
        given = {"dcc": dcc.lower(), "data_access_level": level}
        explicit = [_sidecar(word) for word in sidecar or []]
        with connect(url, api_key, state_dir) as client:
            adding = Adding(
                client,
                given,
                local_id=local_id,
                file_format=file_format,
                md5=md5,
                digest=not no_digest,
                sidecars=explicit,
                find_index=not no_index and not explicit,
                quiet=as_json,
            )
            if sources == ["-"]:
                adding.take_pipe(local_service(client.base_url, state_dir), name or local_id)
            else:
                adding.take(sources, glob or (), avoid=local_service(client.base_url, state_dir))
            try:
                adding.register_all()
            except BaseException:
                if not as_json:
                    _tell(client, adding, as_json=False)
                raise
            _tell(client, adding, as_json=as_json)
            failed = _wait(client, adding.added, as_json=as_json) if wait else 0
        if adding.failed or failed or not adding.added:
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


def _check_usage(sources: Sequence[str], *, one_only: bool, name: str | None) -> None:
    if "-" in sources and len(sources) > 1:
        raise Stop(Exit.USAGE, "- stands for what comes from a pipe: add that on its own")
    if name and sources != ["-"]:
        raise Stop(Exit.USAGE, "--name is for what comes from a pipe; a file has a name")
    folders = [source for source in sources if "://" not in source and Path(source).is_dir()]
    if one_only and (len(sources) > 1 or folders):
        raise Stop(Exit.USAGE, "--id, --md5 and --sidecar speak of one file: add that one on its own")


def _tell(client: GooseherdClient, adding: Adding, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "added": [{**one.to_json(), **_urls(client, one)} for one in adding.added],
                "failed": adding.failed,
                "left_out": dict(adding.skipped.counts),
            }
        )
        return
    for one in adding.added:
        print(one.name)
    for line in adding.skipped.lines():
        say(line)
    if len(adding.added) > _TOLD:
        counts = ", ".join(f"{words.number(count)} {result}" for result, count in adding.results.items())
        say(f"{words.number(len(adding.added))} files: {counts}")
    for problem in adding.failed[:_TOLD]:
        say(f"not added {problem['file']}: {problem['problem']}")
    if len(adding.failed) > _TOLD:
        say(f"{words.number(len(adding.failed))} files were not added")


def _urls(client: GooseherdClient, one: Added) -> dict[str, str | None]:
    """Where what is made of the file can be had; None: nothing of that kind is."""
    from gooseherd.client import part_path
    from gooseherd.domain.artifact import Kind
    from gooseherd.domain.formats import Family, resolve

    dcc, local_id = one.entry["dcc"], one.entry["local_id"]
    known = resolve(one.entry["file_format"])
    as_it_is = bool(one.entry["sidecars"])
    indexed = known is not None and known.family in {Family.ALIGNMENTS, Family.INTERVALS}
    kinds = {Kind.DATA: True, Kind.INDEX: indexed or as_it_is, Kind.DENSITY: indexed and not as_it_is}
    urls = {
        f"{kind}_url": client.url(part_path(kind, dcc, local_id)) if there else None
        for kind, there in kinds.items()
    }
    return {**urls, "status_url": client.url(part_path(Kind.DATA, dcc, local_id) + "/status")}


def _wait(client: GooseherdClient, added: Sequence[Added], *, as_json: bool) -> int:
    """Have all of them made; how many could not be."""
    from gooseherd.client import JobEnded, Refused

    failed, asked = 0, 0
    for at, one in enumerate(added):
        ids = one.entry["dcc"], one.entry["local_id"]
        for ahead in added[asked : at + _AHEAD]:
            with contextlib.suppress(Refused):  # its turn comes, and says so
                client.ask(ahead.entry["dcc"], ahead.entry["local_id"])
            asked += 1
        try:
            with job_bar(one.name, quiet=as_json) as bar:
                ready = client.ready(*ids, on_job=bar)
        except (JobEnded, Refused) as error:
            failed += 1
            say(f"{one.name}: {error}")
            continue
        if not as_json:
            say(f"{one.name} is ready" + ("" if ready.job else " (it was already)"))
            for line in words.note_lines(ready.job or {}):
                say(line)
    return failed


def describe(
    source: str,
    *,
    file_format: str | None = None,
    md5: str | None = None,
    digest: bool = True,
    quiet: bool = True,
    on_bytes: OnBytes | None = None,
) -> dict[str, Any]:
    """A catalog entry of `source` but for its ids; a local file is read for its md5.

    `on_bytes` hears of that in place of a bar on the terminal.

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
        entry = _local(path, md5=md5, digest=digest, quiet=quiet, on_bytes=on_bytes)
    entry["file_format"] = format_of(file_format, entry["filename"])
    return entry


def id_for(filename: str) -> str:
    """A local id made of a file name, within the catalog's alphabet; the same name gives the same id."""
    word = re.sub(r"\.{2,}", ".", _UNFIT.sub("-", filename))
    return re.sub(r"^[^A-Za-z0-9]+", "", word)[:255] or "file"


def _local(
    path: Path, *, md5: str | None, digest: bool, quiet: bool, on_bytes: OnBytes | None = None
) -> dict[str, Any]:
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
        if on_bytes is not None:
            entry["md5"] = md5_of(path, on_bytes)
        else:
            with byte_bar(f"md5 of {path.name}", quiet=quiet) as bar:
                entry["md5"] = md5_of(path, lambda there, _: bar(there, stat.st_size))
    return entry


def md5_of(path: Path, on_bytes: OnBytes) -> str:
    """Lowercase hex; `on_bytes` hears how many bytes were read."""
    total, there = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
            there += len(chunk)
            on_bytes(there, None)
    return total.hexdigest()


def format_of(result: str | None, filename: str) -> str:
    """The format's name. Raises Stop."""
    from gooseherd.domain.formats import ALL, from_filename, resolve

    found = resolve(result) if result else from_filename(filename)
    if found is None:
        names = ", ".join(one.name for one in ALL)
        raise Stop(
            Exit.USAGE, f"{result or filename!r} tells no known format", f"say it with --format: {names}"
        )
    return found.name


def _sidecar(word: str) -> dict[str, str]:
    kind, equals, where = word.partition("=")
    if not equals or not kind or "://" not in where:
        raise Stop(Exit.USAGE, f"--sidecar {word!r}: write KIND=URL, such as tbi=https://host/x.vcf.gz.tbi")
    return {"kind": kind, "access_url": where}
