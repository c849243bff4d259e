"""`gooseherd get`: ask, wait, and bring home the artifact or one region of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gooseherd.cli.connection import split_name
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status
from gooseherd.cli.output import Output, output_of
from gooseherd.cli.retrieval import Retrieval
from gooseherd.cli.service_command import ServiceConnection, service_command
from gooseherd.domain.artifact import Kind


class RegionPart(StrEnum):
    """Parts beside the data that are read by region."""

    ANNOTATION = Kind.ANNOTATION
    SECOND_END = Kind.SECOND_END
    DENSITY = Kind.DENSITY


@service_command
def get(
    service: ServiceConnection,
    name: Annotated[
        str, typer.Argument(metavar="DCC/ID", help="The file, as `gooseherd files ls` names it.")
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|FOLDER|-",
            help="Where to; default: the file's own name. What is no regular file (-, a FIFO, a device) takes"
            " the bytes as they come, and no index is brought unless --index-out says where to.",
        ),
    ] = None,
    index_out: Annotated[
        str | None,
        typer.Option(metavar="FILE|FOLDER|-", help="Where the index goes; default: beside the data."),
    ] = None,
    density: Annotated[
        bool, typer.Option("--density", help="Also how many records lie where, a bigWig beside the data.")
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="CHR:A-B",
            help="Only what lies in a region, as lines: records, values of a bigWig, letters.",
        ),
    ] = None,
    part: Annotated[
        RegionPart | None,
        typer.Option("--part", help="With --region: of another part than the data.", show_choices=True),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as upstream has them.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again although it failed a moment ago.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Start the work and do not wait for it.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Longest wait, seconds.")] = None,
) -> None:
    """Get a file sorted and indexed, made on the spot if need be."""
    dcc, local_id = split_name(name)
    data_out, beside = output_of(out, "--out"), output_of(index_out, "--index-out")
    _check_options(
        data_out, beside, region=region, part=part, raw=raw, density=density, as_json=service.as_json
    )
    with service.connected() as client:
        retrieval = Retrieval(
            client, dcc, local_id, raw=raw, retry=retry, timeout=timeout, quiet=service.as_json
        )
        if no_wait and (job := retrieval.job_under_way()):
            if service.as_json:
                emit({"ready": False, "job_id": job, "job_url": client.url(f"/jobs/{job}")})
            else:
                print_status(f"being made; follow it with: gooseherd jobs watch {job}")
                print(job)
        elif region:
            retrieval.write_region(region, data_out, part=Kind(part or Kind.DATA), as_json=service.as_json)
        else:
            retrieval.write_all(data_out, beside, density=density, as_json=service.as_json)


def _check_options(
    out: Output | None,
    index_out: Output | None,
    *,
    region: str | None,
    part: RegionPart | None,
    raw: bool,
    density: bool,
    as_json: bool,
) -> None:
    """Raises CommandError when the options contradict each other; before any work begins."""
    to_stdout = [place for place in (out, index_out) if place and place.path is None]
    if to_stdout and as_json and not region:
        raise CommandError(Exit.USAGE, "--json and the bytes both want standard output: name a file with -o")
    if out and index_out and not out.folder and out == index_out:
        raise CommandError(Exit.USAGE, "data and index cannot both go to one place")
    if part and not region:
        raise CommandError(Exit.USAGE, "--part is for --region: without it all parts are brought")
    if region and raw:
        raise CommandError(Exit.USAGE, "--raw has no index to find a region with")
    if region and index_out:
        raise CommandError(Exit.USAGE, "--region brings no index: leave out --index-out")
    if region and out and out.folder:
        raise CommandError(Exit.USAGE, f"{out.path} is a folder; name a file for the records")
    if density and (region or raw or (out and out.streams)):
        raise CommandError(
            Exit.USAGE,
            "--density lies beside the whole data: leave out --region and --raw, name a file with -o",
        )
