"""`gooseherd get`: ask, wait, and bring home the artifact or one region of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from gooseherd.cli import options, words
from gooseherd.cli.connection import connect, split_name
from gooseherd.cli.outcome import Exit, Stop, emit, emit_list, run, say
from gooseherd.cli.output import STANDARD_OUTPUT, Output, output_of
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
        data_out, beside = output_of(out, "--out"), output_of(index_out, "--index-out")
        _agree(data_out, beside, region=region, raw=raw, density=density, as_json=as_json)
        with connect(url, api_key, state_dir) as client:
            request = _PartRequest(
                client, dcc, local_id, raw=raw, retry=retry, timeout=timeout, quiet=as_json
            )
            if no_wait and (job := request.not_there_yet()):
                if as_json:
                    emit({"ready": False, "job_id": job, "job_url": client.url(f"/jobs/{job}")})
                else:
                    say(f"being made; follow it with: gooseherd jobs watch {job}")
                    print(job)
            elif region:
                request.region(region, data_out, as_json=as_json)
            else:
                request.whole(data_out, beside, density=density, as_json=as_json)

    raise typer.Exit(run(command, as_json=as_json))


class _PartRequest:
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

    def whole(self, out: Output | None, index_out: Output | None, *, density: bool, as_json: bool) -> None:
        data = self._ready()
        report: dict[str, Any] = {
            "url": data.url,
            "etag": data.etag,
            "size": data.size,
            "cached": data.job is None,
        }
        report["job_id"] = data.job.get("job_id") if data.job else None
        own = data.filename or self._local_id
        target = out.file(own) if out else Path(own)
        report |= self._bring(data, target)
        report["index"] = None
        alone = self._raw or bool(out and out.streams)
        if index_out or not alone:
            index = self._part(Kind.INDEX)
            if index is None and index_out:
                raise Stop(Exit.REFUSED, f"{self._dcc}/{self._local_id} has no index")
            if index is not None:
                beside = _beside(target or Path(own), index, data)
                place = index_out.file(index.filename or beside.name) if index_out else beside
                report["index"] = {"url": index.url, "etag": index.etag, **self._bring(index, place)}
        if density:
            drawn = self._part(Kind.DENSITY)
            if drawn is None:
                raise Stop(Exit.REFUSED, f"{self._dcc}/{self._local_id} has no density")
            beside = _beside(target or Path(own), drawn, data)
            report["density"] = {"url": drawn.url, "etag": drawn.etag, **self._bring(drawn, beside)}
        noticed = self._noticed(data)
        report["notes"], report["counts"] = noticed.get("notes") or [], noticed.get("counts") or {}
        if as_json:
            emit(report)
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

    def region(self, text: str, out: Output | None, *, as_json: bool) -> None:
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
        if as_json and (out is None or out.path is None):
            emit_list({"region": str(wanted)}, "records", (_printable(line) for line in lines))
            return
        count = 0
        with (out or STANDARD_OUTPUT).writing() as sink:
            for line in lines:
                sink.write(line.encode("utf-8", "surrogateescape") + b"\n")
                count += 1
        if as_json and out:
            emit({"region": str(wanted), "path": str(out.path), "count": count})

    def _format(self) -> Format:
        from gooseherd.domain.formats import Family, resolve

        name = str(self._client.file(self._dcc, self._local_id).get("file_format"))
        found = resolve(name)
        if found is None or found.family not in {Family.ALIGNMENTS, Family.INTERVALS}:
            raise Stop(Exit.USAGE, f"{name} files have no index, so no regions; leave out --region")
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

    def _bring(self, what: Ready, target: Path | None) -> dict[str, Any]:
        """Into a file or stream; None: to standard output."""
        try:
            with byte_bar(target.name if target else self._local_id, quiet=self._quiet) as bar:
                if target is not None:
                    got = self._client.download(what.url, target, on_bytes=bar)
                else:
                    with STANDARD_OUTPUT.writing() as sink:
                        got = self._client.copy_to(what.url, sink, on_bytes=bar)
        except KeyboardInterrupt:
            if target is not None and (target.is_file() or not target.exists()):
                say("what has come is kept; the same command goes on from there")
            raise
        if target is not None and not self._quiet:
            say(f"{target}  {words.size(got.size)}" + ("  sha256 verified" if got.verified else ""))
        return {
            "path": str(target) if target else "-",
            "size": got.size,
            "sha256": got.sha256,
            "verified": got.verified,
            "resumed_from": got.resumed_from,
        }


def _agree(
    out: Output | None,
    index_out: Output | None,
    *,
    region: str | None,
    raw: bool,
    density: bool,
    as_json: bool,
) -> None:
    """Raises Stop when the options contradict each other; before any work begins."""
    to_stdout = [place for place in (out, index_out) if place and place.path is None]
    if to_stdout and as_json and not region:
        raise Stop(Exit.USAGE, "--json and the bytes both want standard output: name a file with -o")
    if out and index_out and not out.folder and out == index_out:
        raise Stop(Exit.USAGE, "data and index cannot both go to one place")
    if region and raw:
        raise Stop(Exit.USAGE, "--raw has no index to find a region with")
    if region and index_out:
        raise Stop(Exit.USAGE, "--region brings no index: leave out --index-out")
    if region and out and out.folder:
        raise Stop(Exit.USAGE, f"{out.path} is a folder; name a file for the records")
    if density and (region or raw or (out and out.streams)):
        raise Stop(
            Exit.USAGE,
            "--density lies beside the whole data: leave out --region and --raw, name a file with -o",
        )


def _printable(line: str) -> str:
    """JSON holds text: bytes that are none become U+FFFD."""
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _beside(target: Path, index: Ready, data: Ready) -> Path:
    """Where what belongs to the data goes: its suffix after the data's name, where tools look for it."""
    suffix = ""
    if index.filename:
        own = data.filename or ""
        suffix = index.filename.removeprefix(own) if own and index.filename.startswith(own) else ""
        suffix = suffix or Path(index.filename).suffix
    return target.with_name(target.name + (suffix or ".index"))
