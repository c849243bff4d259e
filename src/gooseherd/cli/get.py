"""`gooseherd get`: ask, wait, and bring home the artifact or one region of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO
from urllib.parse import unquote, urlsplit

import typer

from gooseherd.cli import options, words
from gooseherd.cli.connection import connect, split_name
from gooseherd.cli.outcome import Exit, Stop, emit, run, say
from gooseherd.cli.progress import byte_bar, job_bar
from gooseherd.domain.artifact import Kind

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient, Ready
    from gooseherd.domain.formats import Format


def get(
    name: Annotated[
        str, typer.Argument(metavar="DCC/ID", help="The file, as `gooseherd files ls` names it.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE|-", help="Where to; default: the file's own name."),
    ] = None,
    index_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the index goes; default: beside the data.")
    ] = None,
    density: Annotated[
        bool, typer.Option("--density", help="Also how many records lie where, a bigWig beside the data.")
    ] = False,
    region: Annotated[
        str | None, typer.Option(metavar="CHR:A-B", help="Only the records of a region, as lines.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as upstream has them.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again although it failed a moment ago.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Start the work and do not wait for it.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Longest wait, seconds.")] = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Get a file sorted and indexed, made on the spot if need be."""

    def command() -> None:
        dcc, local_id = split_name(name)
        if out == "-" and as_json and not region:
            raise Stop(Exit.USAGE, "--json and -o - both want standard output")
        if region and raw:
            raise Stop(Exit.USAGE, "--raw has no index to find a region with")
        if density and (region or raw or out == "-"):
            raise Stop(Exit.USAGE, "--density lies beside the whole data: leave out --region, --raw and -o -")
        with connect(url, api_key, state_dir) as client:
            errand = _Errand(client, dcc, local_id, raw=raw, retry=retry, timeout=timeout, quiet=as_json)
            if no_wait and (job := errand.not_there_yet()):
                if as_json:
                    emit({"ready": False, "job_id": job, "job_url": client.url(f"/jobs/{job}")})
                else:
                    say(f"being made; follow it with: gooseherd jobs watch {job}")
                    print(job)
            elif region:
                errand.region(region, out, as_json=as_json)
            else:
                errand.whole(out, index_out, density=density, as_json=as_json)

    raise typer.Exit(run(command, as_json=as_json))


class _Errand:
    """One file to bring; knows the job under way, so that an interruption can name it."""

    def __init__(
        self,
        client: GooseherdClient,
        dcc: str,
        local_id: str,
        *,
        raw: bool,
        retry: bool,
        timeout: float | None,
        quiet: bool,
    ) -> None:
        self._client, self._dcc, self._local_id = client, dcc, local_id
        self._raw, self._retry, self._timeout, self._quiet = raw, retry, timeout, quiet
        self._job: dict[str, Any] | None = None

    def not_there_yet(self) -> str | None:
        """Ask once; the id of the job that is on it now, None when there is nothing to wait for."""
        return self._client.ask(self._dcc, self._local_id, raw=self._raw, retry=self._retry).job_id

    def whole(self, out: str | None, index_out: Path | None, *, density: bool, as_json: bool) -> None:
        data = self._ready()
        if out == "-":
            self._client.copy_to(data.url, sys.stdout.buffer)
            sys.stdout.flush()
            if index_out is None:
                return
        told: dict[str, Any] = {
            "url": data.url,
            "etag": data.etag,
            "size": data.size,
            "cached": data.job is None,
        }
        told["job_id"] = data.job.get("job_id") if data.job else None
        target = None
        if out != "-":
            target = Path(out) if out else Path(data.filename or self._local_id)
            told |= self._bring(data, target)
        index = None if self._raw and index_out is None else self._part(Kind.INDEX)
        if index is None and index_out is not None:
            raise Stop(Exit.REFUSED, f"{self._dcc}/{self._local_id} has no index")
        told["index"] = None
        if index is not None:
            beside = index_out or _beside(target or Path(self._local_id), index, data)
            told["index"] = {"url": index.url, "etag": index.etag, **self._bring(index, beside)}
        if density:
            drawn = self._part(Kind.DENSITY)
            if drawn is None:
                raise Stop(Exit.REFUSED, f"{self._dcc}/{self._local_id} has no density")
            beside = _beside(target or Path(self._local_id), drawn, data)
            told["density"] = {"url": drawn.url, "etag": drawn.etag, **self._bring(drawn, beside)}
        noticed = self._noticed(data)
        told["notes"], told["counts"] = noticed.get("notes") or [], noticed.get("counts") or {}
        if as_json:
            emit(told)
        else:
            for line in words.note_lines(noticed):
                say(line)

    def _noticed(self, data: Ready) -> Mapping[str, Any]:
        """What was dropped or changed when the artifact was made, now or earlier."""
        from gooseherd.client import Refused

        if self._raw or data.job:
            return data.job or {}
        try:
            return self._client.manifest(self._dcc, self._local_id)
        except Refused:
            return {}

    def region(self, text: str, out: str | None, *, as_json: bool) -> None:
        from gooseherd.client.region import parse_region

        wanted = parse_region(text)
        file_format = self._format()
        data = self._ready()
        index = self._part(Kind.INDEX)
        if index is None:
            raise Stop(
                Exit.USAGE, f"{file_format.name} files have no index, so no regions; leave out --region"
            )
        lines = self._client.read_region(data, index, wanted)
        if as_json:
            emit({"region": str(wanted), "records": list(lines)})
            return
        with _sink(out) as sink:
            for line in lines:
                sink.write(line.encode("utf-8", "surrogateescape") + b"\n")

    def _format(self) -> Format:
        from gooseherd.domain.formats import Family, resolve

        said = str(self._client.file(self._dcc, self._local_id).get("file_format"))
        found = resolve(said)
        if found is None or found.family not in {Family.ALIGNMENTS, Family.INTERVALS}:
            raise Stop(Exit.USAGE, f"{said} files have no index, so no regions; leave out --region")
        return found

    def _ready(self) -> Ready:
        from gooseherd.client import JobEnded, Refused

        def on_job(job: dict[str, Any]) -> None:
            self._job = job
            bar(job)

        try:
            with job_bar(f"{self._dcc}/{self._local_id}", quiet=self._quiet) as bar:
                return self._client.ready(
                    self._dcc,
                    self._local_id,
                    raw=self._raw,
                    retry=self._retry,
                    timeout_seconds=self._timeout,
                    on_job=on_job,
                )
        except KeyboardInterrupt:
            if self._job:
                job_id = self._job["job_id"]
                say(f"job {job_id} goes on; cancel it with: gooseherd jobs cancel {job_id}")
            raise
        except (JobEnded, Refused) as error:
            forbidden = (
                error.job.get("reason") == "source_forbidden"
                if isinstance(error, JobEnded)
                else error.kind == "source-refused" or error.fields.get("reason") == "source_forbidden"
            )
            if forbidden and (folder := self._local_folder()):
                hint = f"to allow a folder: gooseherd up --allow-root {folder}, then get it with --retry"
                raise Stop(Exit.REFUSED, str(error), hint) from None
            raise

    def _local_folder(self) -> Path | None:
        """Where the source lies, when it is a file of this machine."""
        where = str(self._client.file(self._dcc, self._local_id).get("access_url") or "")
        return Path(unquote(urlsplit(where).path)).parent if where.startswith("file:") else None

    def _part(self, kind: Kind) -> Ready | None:
        """What belongs to the data; None: it has none."""
        from gooseherd.client import Missing, Refused

        try:
            return self._client.ready(
                self._dcc, self._local_id, kind=kind, raw=self._raw, timeout_seconds=self._timeout
            )
        except Missing:
            return None
        except Refused as refused:
            if refused.kind == "unsupported-format":
                return None
            raise

    def _bring(self, what: Ready, target: Path) -> dict[str, Any]:
        try:
            with byte_bar(target.name, quiet=self._quiet) as bar:
                got = self._client.download(what.url, target, on_bytes=bar)
        except KeyboardInterrupt:
            say("what has come is kept; the same command goes on from there")
            raise
        if not self._quiet:
            say(f"{target}  {words.size(got.size)}" + ("  sha256 verified" if got.verified else ""))
        return {
            "path": str(target),
            "size": got.size,
            "sha256": got.sha256,
            "verified": got.verified,
            "resumed_from": got.resumed_from,
        }


def _beside(target: Path, index: Ready, data: Ready) -> Path:
    """Where what belongs to the data goes: its suffix after the data's name, where tools look for it."""
    suffix = ""
    if index.filename:
        own = data.filename or ""
        suffix = index.filename.removeprefix(own) if own and index.filename.startswith(own) else ""
        suffix = suffix or Path(index.filename).suffix
    return target.with_name(target.name + (suffix or ".index"))


@contextlib.contextmanager
def _sink(out: str | None) -> Iterator[BinaryIO]:
    if out in {None, "-"}:
        yield sys.stdout.buffer
        sys.stdout.flush()
    else:
        with Path(out or "").open("wb") as file:
            yield file
