"""`gooseherd add`: put files into the catalog, with the digest that makes their identity strong."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gooseherd.cli import formatting
from gooseherd.cli.connection import local_service
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status
from gooseherd.cli.progress import busy_lines, job_bar
from gooseherd.cli.service_command import ServiceConnection, service_command
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.source import WEAK_NOTE, parse_dcc, parse_local_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gooseherd.cli.added import Added
    from gooseherd.cli.adding import Adding
    from gooseherd.client import GooseherdClient, ReadyPart

_LISTED = 20
"""So many files that failed are listed; more are only counted."""
_AHEAD = 8
"""With --wait: how many files are asked for before the first is waited for."""


@service_command
def add(
    service: ServiceConnection,
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
) -> None:
    """Register files in the catalog; nothing is processed before somebody asks (or with --wait).

    A folder is added with all below it. A .bai or .tbi beside a local file is used when it fits: the
    file is then served as it is.
    """
    from gooseherd.cli.adding import Adding

    _check_usage(sources, one_only=bool(local_id or md5 or sidecar), name=name)
    # Before anything is asked: a service could only say that the path is none.
    given = {"dcc": _parsed("--dcc", parse_dcc, dcc), "data_access_level": level}
    if local_id is not None:
        _parsed("--id", parse_local_id, local_id)
    explicit = [_sidecar(word) for word in sidecar or []]
    with service.connected() as client:
        adding = Adding(
            given,
            local_id=local_id,
            file_format=file_format,
            md5=md5,
            digest=not no_digest,
            sidecars=explicit,
            find_index=not no_index and not explicit,
            quiet=service.as_json,
        )
        if sources == ["-"]:
            adding.take_pipe(local_service(client.base_url, service.state_dir), name or local_id)
        else:
            adding.take(sources, glob or (), avoid=local_service(client.base_url, service.state_dir))
        try:
            adding.register_all(client)
        except BaseException:
            if not service.as_json:
                _report(client, adding, as_json=False)
            raise
        _report(client, adding, as_json=service.as_json)
        ids = [(one.entry["dcc"], one.entry["local_id"]) for one in adding.added]
        failed = make(client, ids, as_json=service.as_json) if wait else 0
    if adding.failed or failed or not adding.added:
        raise typer.Exit(Exit.FAILED)


def _parsed(option: str, parse: Callable[[str], str], word: str) -> str:
    try:
        return parse(word)
    except InvalidInput as error:
        raise CommandError(Exit.USAGE, f"{option} {word!r}: {error.problem}") from None


def _check_usage(sources: Sequence[str], *, one_only: bool, name: str | None) -> None:
    if "-" in sources and len(sources) > 1:
        raise CommandError(Exit.USAGE, "- stands for what comes from a pipe: add that on its own")
    if name and sources != ["-"]:
        raise CommandError(Exit.USAGE, "--name is for what comes from a pipe; a file has a name")
    folders = [source for source in sources if "://" not in source and Path(source).is_dir()]
    if one_only and (len(sources) > 1 or folders):
        raise CommandError(Exit.USAGE, "--id, --md5 and --sidecar are for one file: add that one on its own")


def _report(client: GooseherdClient, adding: Adding, *, as_json: bool) -> None:
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
        print_status(line)
    if len(adding.added) > _LISTED:
        counts = ", ".join(f"{formatting.number(count)} {result}" for result, count in adding.results.items())
        print_status(f"{formatting.number(len(adding.added))} files: {counts}")
    for problem in adding.failed[:_LISTED]:
        print_status(f"not added {problem['file']}: {problem['problem']}")
    if len(adding.failed) > _LISTED:
        print_status(f"{formatting.number(len(adding.failed))} files were not added")


def _urls(client: GooseherdClient, one: Added) -> dict[str, str | None]:
    """Where what is made of the file can be had; None: nothing of that kind is."""
    from gooseherd.client import part_path, status_path
    from gooseherd.domain.artifact import Kind
    from gooseherd.domain.formats import EMBL, FASTA, GENBANK, Family, resolve

    dcc, local_id = one.entry["dcc"], one.entry["local_id"]
    known = resolve(one.entry["file_format"])
    as_it_is = bool(one.entry["sidecars"])
    family = None if known is None else known.family
    is_sorted = family in {Family.ALIGNMENTS, Family.INTERVALS}
    kinds = {
        Kind.DATA: True,
        Kind.INDEX: is_sorted or as_it_is or known in (FASTA, GENBANK, EMBL),
        Kind.DENSITY: is_sorted and not as_it_is,
    }
    urls = {
        f"{kind}_url": client.url(part_path(kind, dcc, local_id)) if there else None
        for kind, there in kinds.items()
    }
    return {**urls, "status_url": client.url(status_path(Kind.DATA, dcc, local_id))}


def make(client: GooseherdClient, files: Sequence[tuple[str, str]], *, as_json: bool) -> int:
    """Have all of these (dcc, local_id) made, with a bar for each; how many could not be."""
    from gooseherd.client import JobEnded, Refused

    failed, asked = 0, 0
    jobs: dict[tuple[str, str], str] = {}
    """That were begun ahead, and may have ended before their file's turn."""
    for at, ids in enumerate(files):
        name = "/".join(ids)
        for ahead in files[asked : at + _AHEAD]:
            with contextlib.suppress(Refused):  # its own turn reports it
                if job_id := client.ask(*ahead).job_id:
                    jobs[ahead] = job_id
            asked += 1
        try:
            with job_bar(name, quiet=as_json) as bar:
                part = client.ready(*ids, on_job=bar, on_busy=busy_lines(name, quiet=as_json))
        except (JobEnded, Refused) as error:
            failed += 1
            print_status(f"{name}: {error}")
            continue
        if not as_json:
            was_there = part.job is None and ids not in jobs
            print_status(f"{name} is ready" + (" (it was already)" if was_there else ""))
            for line in formatting.note_lines(_notes(client, part, jobs.get(ids))):
                print_status(line)
    return failed


def _notes(client: GooseherdClient, part: ReadyPart, job_id: str | None) -> Mapping[str, Any]:
    """What was noticed when the file was made just now, but for its weak identity: adding has said that."""
    from gooseherd.client import Missing

    job = part.job
    if job is None and job_id is not None:
        with contextlib.suppress(Missing):
            job = client.job(job_id)
    return {"notes": [note for note in job.notes if note != WEAK_NOTE] if job else []}


def _sidecar(word: str) -> dict[str, str]:
    kind, equals, where = word.partition("=")
    if not equals or not kind or "://" not in where:
        raise CommandError(
            Exit.USAGE, f"--sidecar {word!r}: write KIND=URL, such as tbi=https://host/x.vcf.gz.tbi"
        )
    return {"kind": kind, "access_url": where}
