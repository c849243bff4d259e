"""`gooseherd show`: all that is known of one file, without starting anything."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gooseherd.cli import formatting
from gooseherd.cli.connection import split_name
from gooseherd.cli.jobs import job_lines
from gooseherd.cli.outcome import print_line
from gooseherd.cli.service_command import ServiceConnection, service_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gooseherd.client import GooseherdClient

_SHOWN_ELSEWHERE: Final = frozenset({"dcc", "local_id", "ready", "job", "artifact_urls"})
"""Of an entry; its `urls` are its `artifact_urls` as soon as there are any."""


@service_command
def show(
    service: ServiceConnection,
    name: Annotated[
        str, typer.Argument(metavar="DCC/ID", help="The file, as `gooseherd files ls` names it.")
    ],
    contigs: Annotated[bool, typer.Option("--contigs", help="The contigs too, with their lengths.")] = False,
) -> None:
    """Show a file's catalog entry, whether it is ready, its last job, and what was made of it."""
    dcc, local_id = split_name(name)
    with service.connected() as client:
        known = _look(client, dcc, local_id, contigs=contigs)
    if service.emitted(known):
        return
    for title, lines in _sections(known):
        print_line(title)
        for line in lines:
            print_line(f"  {line}")


def _look(client: GooseherdClient, dcc: str, local_id: str, *, contigs: bool) -> dict[str, Any]:
    """`file`, `ready` by kind, `job` and `manifest`; what cannot be had is null, with the `reason`."""
    from gooseherd.client import Missing
    from gooseherd.domain.artifact import OWN_ADDRESS

    entry = client.file(dcc, local_id)
    states = {
        str(kind): _or_problem(partial(client.status, dcc, local_id, kind=kind)) for kind in OWN_ADDRESS
    }
    job_id = next((state["job_id"] for state in states.values() if state.get("job_id")), None)
    job = None
    if job_id is not None:
        with contextlib.suppress(Missing):
            job = client.job(job_id)
    if job is None:
        job = next(client.jobs(dcc=entry["dcc"], local_id=local_id, limit=1), None)
        if job is not None:
            job = client.job(job["job_id"])
    manifest = _or_problem(partial(client.manifest, dcc, local_id, contigs=contigs))
    return {
        "file": entry,
        "ready": states,
        "job": job,
        "manifest": None if "problem" in manifest else manifest,
    }


def _or_problem(call: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """The response, or why there is none."""
    from gooseherd.client import Refused

    try:
        return call()
    except Refused as refused:
        return {"ready": False, "problem": refused.kind or str(refused.status), "detail": str(refused)}


def _sections(known: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    entry, manifest = known["file"], known["manifest"]
    yield f"{entry['dcc']}/{entry['local_id']}", list(_entry_lines(entry))
    yield "ready", [_ready_line(kind, state) for kind, state in known["ready"].items()]
    if manifest is not None:
        yield "made of it", list(_manifest_lines(manifest))
    if known["job"] is not None:
        # The manifest has shown these already.
        job = {**known["job"], **({"parts": [], "counts": {}, "notes": []} if manifest else {})}
        yield "last job", list(job_lines(job))


def _entry_lines(entry: dict[str, Any]) -> Iterator[str]:
    for name, value in entry.items():
        if value in (None, "", []) or name in _SHOWN_ELSEWHERE:
            continue
        if name == "size_in_bytes":
            yield f"{'size':17} {formatting.size(value)}"
        elif name == "sidecars":
            for sidecar in value:
                yield f"{'index':17} {sidecar['kind']} {sidecar.get('access_url') or ''}".rstrip()
        elif isinstance(value, Mapping):
            for kind, each in value.items():
                yield f"{name:17} {kind} {each}"
        else:
            yield f"{name:17} {value}"


def _ready_line(kind: str, state: dict[str, Any]) -> str:
    if state.get("ready"):
        return f"{kind:17} yes  {formatting.size(state.get('size'))}".rstrip()
    why = state.get("detail") or (
        f"job {state['job_id']} {state.get('status')}" if state.get("job_id") else ""
    )
    return f"{kind:17} no  {why or 'not asked for yet'}"


def _manifest_lines(manifest: dict[str, Any]) -> Iterator[str]:
    yield f"{'processor':17} {manifest['processor']} {manifest['processor_version']}"
    for part in manifest["parts"]:
        size = formatting.size(part["size"])
        yield f"{part['kind']:17} {part['filename']}  {size}  sha256 {part['sha256']}"
        yield f"{'':17} {part['url']}"
    yield f"{'contigs':17} {formatting.number(manifest['contig_count'])}"
    for contig, length in manifest.get("contigs") or ():
        yield f"{'':17} {contig}  {formatting.number(length) if length is not None else 'length not known'}"
    if manifest["counts"]:
        yield f"{'counts':17} {formatting.counts_text(manifest['counts'])}"
    for note in manifest["notes"]:
        yield f"{'note':17} {note}"
    for tool, version in manifest["tools"].items():
        yield f"{'tool':17} {tool} {version}"
