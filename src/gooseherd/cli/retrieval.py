"""Brings one file: waits for its artifact, then writes it with its index, or the records of a region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from gooseherd.cli import formatting
from gooseherd.cli.outcome import CommandError, Exit, emit, emit_list, print_status
from gooseherd.cli.output import STANDARD_OUTPUT, Output
from gooseherd.cli.progress import busy_lines, byte_bar, job_bar
from gooseherd.domain.artifact import OWN_ADDRESS, Kind

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient, ReadyPart


class Retrieval:
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
        self._job: Mapping[str, Any] | None = None
        self._on_busy = busy_lines(f"{dcc}/{local_id}", quiet=quiet)

    def job_under_way(self) -> str | None:
        """Ask once; the id of the job that is on it now, None when there is nothing to wait for."""
        return self._client.ask(self._dcc, self._local_id, raw=self._raw, retry=self._retry).job_id

    def write_all(
        self, out: Output | None, index_out: Output | None, *, density: bool, as_json: bool
    ) -> None:
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
        report |= self._write_part(data, target)
        report["index"] = None
        alone = self._raw or bool(out and out.streams)
        if index_out or not alone:
            index = self._part(Kind.INDEX)
            if index is None and index_out:
                raise CommandError(Exit.REFUSED, f"{self._dcc}/{self._local_id} has no index")
            if index is not None:
                beside = _beside(target or Path(own), index, data)
                place = index_out.file(index.filename or beside.name) if index_out else beside
                report["index"] = {"url": index.url, "etag": index.etag, **self._write_part(index, place)}
        if density:
            density_part = self._part(Kind.DENSITY)
            if density_part is None:
                raise CommandError(Exit.REFUSED, f"{self._dcc}/{self._local_id} has no density")
            beside = _beside(target or Path(own), density_part, data)
            report["density"] = {
                "url": density_part.url,
                "etag": density_part.etag,
                **self._write_part(density_part, beside),
            }
        if not alone:
            for kind in self._more_kinds():
                part = self._part(kind)
                if part is not None:
                    place = _place_of(kind, part, target or Path(own), data)
                    report[str(kind)] = {"url": part.url, "etag": part.etag, **self._write_part(part, place)}
        record = self._notes_and_counts(data)
        report["notes"], report["counts"] = record.get("notes") or [], record.get("counts") or {}
        if as_json:
            emit(report)
        else:
            for line in formatting.note_lines(record):
                print_status(line)

    def _more_kinds(self) -> list[Kind]:
        """Of the parts without which the data cannot be read, or that are as much: by the manifest."""
        from gooseherd.client import Refused

        try:
            parts = self._client.manifest(self._dcc, self._local_id)["parts"]
        except Refused:
            return []
        named = {part["kind"] for part in parts}
        return [kind for kind in Kind if kind in named and kind not in OWN_ADDRESS]

    def _notes_and_counts(self, data: ReadyPart) -> Mapping[str, Any]:
        """What was dropped or changed when the artifact was made, now or earlier."""
        from gooseherd.client import Refused

        if self._raw or data.job:
            return data.job or {}
        try:
            return self._client.manifest(self._dcc, self._local_id)
        except Refused:
            return {}

    def write_region(self, text: str, out: Output | None, *, part: Kind, as_json: bool) -> None:
        from gooseherd.client.region_calls import check_has_records
        from gooseherd.domain.formats import resolve
        from gooseherd.domain.region import parse_region

        wanted = parse_region(text)
        # Before anything is made of it.
        check_has_records(resolve(str(self._client.file(self._dcc, self._local_id).get("file_format"))))
        self._ready(part)
        lines = self._client.records(
            self._dcc,
            self._local_id,
            wanted,
            part=part,
            timeout_seconds=self._timeout,
            on_busy=self._on_busy,
        )
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

    def _ready(self, kind: Kind = Kind.DATA) -> ReadyPart:
        from gooseherd.client import JobEnded, Refused

        def on_job(job: Mapping[str, Any]) -> None:
            self._job = job
            bar(job)

        try:
            with job_bar(f"{self._dcc}/{self._local_id}", quiet=self._quiet) as bar:
                return self._client.ready(
                    self._dcc,
                    self._local_id,
                    kind=kind,
                    raw=self._raw,
                    retry=self._retry,
                    timeout_seconds=self._timeout,
                    on_job=on_job,
                    on_busy=self._on_busy,
                )
        except KeyboardInterrupt:
            if self._job:
                job_id = self._job["job_id"]
                print_status(f"job {job_id} goes on; cancel it with: gooseherd jobs cancel {job_id}")
            raise
        except (JobEnded, Refused) as error:
            forbidden = (
                error.job.get("reason") == "source_forbidden"
                if isinstance(error, JobEnded)
                else error.kind == "source-refused" or error.fields.get("reason") == "source_forbidden"
            )
            if forbidden and (folder := self._local_folder()):
                hint = f"to allow a folder: gooseherd up --allow-root {folder}, then get it with --retry"
                raise CommandError(Exit.REFUSED, str(error), hint) from None
            raise

    def _local_folder(self) -> Path | None:
        """Where the source lies, when it is a file of this machine."""
        where = str(self._client.file(self._dcc, self._local_id).get("access_url") or "")
        return Path(unquote(urlsplit(where).path)).parent if where.startswith("file:") else None

    def _part(self, kind: Kind) -> ReadyPart | None:
        """What belongs to the data; None: it has none."""
        from gooseherd.client import Missing, Refused

        try:
            return self._client.ready(
                self._dcc,
                self._local_id,
                kind=kind,
                raw=self._raw,
                timeout_seconds=self._timeout,
                on_busy=self._on_busy,
            )
        except Missing:
            return None
        except Refused as refused:
            if refused.kind == "unsupported-format":
                return None
            raise

    def _write_part(self, part: ReadyPart, target: Path | None) -> dict[str, Any]:
        """Into a file or stream; None: to standard output."""
        try:
            with byte_bar(target.name if target else self._local_id, quiet=self._quiet) as bar:
                if target is not None:
                    received = self._client.download(part.url, target, on_bytes=bar)
                else:
                    with STANDARD_OUTPUT.writing() as sink:
                        received = self._client.copy_to(part.url, sink, on_bytes=bar)
        except KeyboardInterrupt:
            if target is not None and (target.is_file() or not target.exists()):
                print_status("what has come is kept; the same command goes on from there")
            raise
        if target is not None and not self._quiet:
            print_status(
                f"{target}  {formatting.size(received.size)}"
                + ("  sha256 verified" if received.verified else "")
            )
        return {
            "path": str(target) if target else "-",
            "size": received.size,
            "sha256": received.sha256,
            "verified": received.verified,
            "resumed_from": received.resumed_from,
        }


def _printable(line: str) -> str:
    """JSON holds text: bytes that are none become U+FFFD."""
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _place_of(kind: Kind, part: ReadyPart, target: Path, data: ReadyPart) -> Path:
    """Where one of the other parts goes: what is data too, and its index, have names of their own."""
    if kind is Kind.GZI or not part.filename:
        return _beside(target, part, data)
    return target.with_name(Path(part.filename).name)


def _beside(target: Path, index: ReadyPart, data: ReadyPart) -> Path:
    """Where what belongs to the data goes: its suffix after the data's name, where tools look for it."""
    suffix = ""
    if index.filename:
        own = data.filename or ""
        suffix = index.filename.removeprefix(own) if own and index.filename.startswith(own) else ""
        suffix = suffix or Path(index.filename).suffix
    return target.with_name(target.name + (suffix or ".index"))
