"""The HTTP contract as Python calls: catalog, jobs, and artifacts that are waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import httpx

from gooseherd.client import reading, sequences, transfer
from gooseherd.client.access import AccessCalls
from gooseherd.client.calls import QUIET_SECONDS
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import (
    Busy,
    JobEnded,
    TookTooLong,
    UnexpectedResponse,
)
from gooseherd.client.parts import Job, PartResponse, ReadyPart, data_path, index_path, part_path, status_path
from gooseherd.client.responses import check, content_length, filename, json_object, reaching, retry_after
from gooseherd.domain.artifact import Kind
from gooseherd.domain.region import Region, parse_region
from gooseherd.domain.states import TERMINAL, Status

OnJob = Callable[[Job], None]


class GooseherdClient(AccessCalls):
    """The whole HTTP contract: catalog, jobs, batches, artifacts (see HttpCalls)."""

    def is_ready(self) -> bool:
        """Whether the service and its dependencies are ready."""
        url = self.url("/readyz")
        with reaching(url):
            return self.http.get(url).status_code == 200

    # -- catalog ---------------------------------------------------------------------------

    def files(
        self,
        *,
        dcc: str | None = None,
        text: str | None = None,
        file_format: str | None = None,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Catalog entries in order of (dcc, local_id), page after page, at most `limit`."""
        return self._pages("/files", "files", {"dcc": dcc, "q": text, "format": file_format}, limit)

    def file(self, dcc: str, local_id: str) -> dict[str, Any]:
        """One catalog entry. Raises Missing."""
        return self._json("GET", f"/files/{quote(dcc, safe='')}/{quote(local_id, safe='~:+@=')}")

    def register(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Insert or replace one catalog entry; needs the admin key. Returns how many were `new`."""
        return self._json("POST", "/files", json=dict(entry))

    def remove(self, dcc: str, local_id: str) -> dict[str, Any]:
        """Take one catalog entry out; needs the admin key. Raises Missing when there is none.

        Returns the `job_id` that worked on its content and whether it was withdrawn
        (`job_withdrawn`): not while other entries, `same_content`, have that content too.
        """
        return self._json("DELETE", f"/files/{quote(dcc, safe='')}/{quote(local_id, safe='~:+@=')}")

    def import_files(self, lines: Iterable[bytes]) -> dict[str, Any]:
        """Insert or replace entries given as JSON lines; needs the admin key.

        Returns the counts `imported`, `new` and `failed`, with the `errors` of lines.
        """
        body = (line if line.endswith(b"\n") else line + b"\n" for line in lines)
        url, headers = self.url("/files/import"), {"Content-Type": "application/x-ndjson"}
        with reaching(url):
            response = self.http.post(url, content=body, headers=headers)
        if response.status_code == 422 and "imported" in response.text:
            return json_object(response)  # not one line was good; the counts say so
        return json_object(check(response))

    def status(self, dcc: str, local_id: str, *, kind: Kind = Kind.DATA) -> dict[str, Any]:
        """Whether a part could be read now (`ready`), else the `job_id` that is on it. Starts nothing."""
        return self._json("GET", status_path(kind, dcc, local_id))

    def manifest(self, dcc: str, local_id: str, *, contigs: bool = False) -> dict[str, Any]:
        """What was made of a file: parts, versions, counts, notes. Starts nothing. Raises Missing before."""
        query = {"contigs": "true"} if contigs else {}
        path = f"/files/{quote(dcc, safe='')}/{quote(local_id, safe='~:+@=')}/manifest"
        return self._json("GET", path, params=query)

    # -- jobs ------------------------------------------------------------------------------

    def tracks(
        self,
        files: Sequence[str],
        *,
        viewer: str = "igv",
        at: str | None = None,
        reference: str | None = None,
        assembly: str | None = None,
    ) -> dict[str, Any]:
        """What to write so that a viewer draws `files` (DCC/ID) in one view: `text`, `spec` and `notes`.

        `viewer` is gosling, igv, jbrowse, ucsc, shell or python; `at` the first view, chr7:1,000-2,000;
        `reference` the DCC/ID of a FASTA or 2bit. Starts nothing.
        """
        query = {
            "files": ",".join(files),
            "viewer": viewer,
            "at": at,
            "reference": reference,
            "assembly": assembly,
        }
        return self._json("GET", "/tracks", params={k: v for k, v in query.items() if v is not None})

    def job(self, job_id: str) -> Job:
        """The job's record. Raises Missing."""
        return self._json("GET", f"/jobs/{quote(job_id, safe='')}")

    def jobs(
        self,
        *,
        status: str | None = None,
        dcc: str | None = None,
        local_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, at most `limit`."""
        return self._pages("/jobs", "jobs", {"status": status, "dcc": dcc, "local_id": local_id}, limit)

    def cancel(self, job_id: str) -> Job:
        """Withdraw from a job; with the admin key: cancel it. Refused (409) when it is too late."""
        return self._json("DELETE", f"/jobs/{quote(job_id, safe='')}")

    def events(
        self, job_id: str, *, quiet_seconds: float = QUIET_SECONDS
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(event name, data) as the service sends them, to the end of the stream.

        Raises:
            NotReachable: also when not even a keep-alive came for `quiet_seconds`.
        """
        yield from self._events(f"/jobs/{quote(job_id, safe='')}", quiet_seconds)

    def follow(self, job_id: str, *, timeout_seconds: float | None = None) -> Iterator[Job]:
        """The job now and after each change, to its end: by events, by polling when those fail.

        A service that restarts in between is waited for.

        Raises:
            TookTooLong: not at its end in time. The job goes on.
        """
        yield from self._follow(
            f"/jobs/{quote(job_id, safe='')}",
            id_name="job_id",
            ended=lambda job: job.get("status") in TERMINAL,
            deadline=Deadline(timeout_seconds, job_id),
        )

    # -- fleet -----------------------------------------------------------------------------

    def queue(self) -> dict[str, Any]:
        """Who waits and for how long, what runs and who finalizes; `requesters` with the admin key only."""
        return self._json("GET", "/queue")

    def fleet(self) -> dict[str, Any]:
        """`workers`, those that `ended` lately, and how many `slots` are left; needs the admin key."""
        return self._json("GET", "/fleet")

    def stop_worker(self, worker_id: str, *, force: bool = False) -> dict[str, Any]:
        """Ask a worker to end; needs the admin key. Returns how it was before.

        Refused (409) when a job works on it, unless `force`: the job is then tried again.
        """
        query = {"force": "true"} if force else {}
        return self._json("DELETE", f"/fleet/{quote(worker_id, safe='')}", params=query)

    # -- sessions --------------------------------------------------------------------------

    def start_session(
        self,
        *,
        owner: str | None = None,
        size: str = "small",
        idle_seconds: float | None = None,
        max_age_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Keep a worker for `owner` (default: who asks), whose jobs run on it one after the other.

        The owner's live session if there is one. Its worker comes later: see `session`. Needs the admin
        key. Busy when there are as many sessions as may be.
        """
        wanted = {
            "owner": owner,
            "size": size,
            "idle_seconds": idle_seconds,
            "max_age_seconds": max_age_seconds,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return self._json("POST", "/sessions", json=given)

    def sessions(self, *, ended: bool = False) -> dict[str, Any]:
        """Live `sessions`, oldest first, with `ended` those of the last day too; needs the admin key."""
        return self._json("GET", "/sessions", params={"ended": "true"} if ended else {})

    def session(self, session_id: str) -> dict[str, Any]:
        """The session as it stands; needs the admin key. Raises Missing."""
        return self._json("GET", f"/sessions/{quote(session_id, safe='')}")

    def end_session(self, session_id: str) -> dict[str, Any]:
        """End it; what is in flight goes on. Needs the admin key. Raises Missing."""
        return self._json("DELETE", f"/sessions/{quote(session_id, safe='')}")

    def dispatch(self, session_id: str, file: str) -> Job:
        """Have a file (DCC/ID) prepared on the session's worker; its job. Needs the admin key."""
        return self._json("POST", f"/sessions/{quote(session_id, safe='')}/dispatch", json={"file": file})

    # -- artifacts -------------------------------------------------------------------------

    def ask(
        self, dcc: str, local_id: str, *, kind: Kind = Kind.DATA, raw: bool = False, retry: bool = False
    ) -> PartResponse:
        """Ask for a part once: it is there, or a job is making it from now on. Reads no bytes of it.

        `retry` asks for a new job although the last one failed a moment ago.
        """
        url = self.url(part_path(kind, dcc, local_id))
        query = {name: "true" for name, wanted in (("raw", raw), ("retry", retry)) if wanted}
        headers = {"Accept-Encoding": "identity"}
        asked = httpx.URL(url).copy_merge_params(query)
        with reaching(url), self.http.stream("GET", asked, headers=headers) as response:
            check(response)
            if response.status_code == 202:
                return self._accepted(url, response)
            if response.status_code != 200:
                raise UnexpectedResponse(url, f"status {response.status_code}")
            where = str(httpx.URL(url).copy_merge_params({"raw": "true"})) if raw else url
            return PartResponse(
                ready=ReadyPart(
                    where, response.headers.get("etag"), content_length(response), filename(response)
                )
            )

    def ready(
        self,
        dcc: str,
        local_id: str,
        *,
        kind: Kind = Kind.DATA,
        raw: bool = False,
        retry: bool = False,
        timeout_seconds: float | None = None,
        on_job: OnJob | None = None,
    ) -> ReadyPart:
        """Wait until a part can be read; `on_job` sees the job at each change.

        A full queue (429, or 503 with Retry-After) is waited out as the service says.

        Raises:
            JobEnded: the job failed or was cancelled.
            TookTooLong: not ready in time. The job goes on.
        """
        deadline, job = Deadline(timeout_seconds), None
        while True:
            deadline.check()
            try:
                response = self.ask(dcc, local_id, kind=kind, raw=raw, retry=retry and job is None)
            except Busy as busy:
                if busy.retry_after_seconds is None or deadline.remaining < busy.retry_after_seconds:
                    raise
                time.sleep(busy.retry_after_seconds)
                continue
            if response.ready:
                found = response.ready
                return ReadyPart(found.url, found.etag, found.size, found.filename, job)
            if response.job_id is None:
                time.sleep(deadline.at_most(response.retry_after_seconds))
                continue
            deadline.job_id = response.job_id
            try:
                for job in self.follow(response.job_id, timeout_seconds=deadline.remaining_or_none):
                    if on_job:
                        on_job(job)
            except TookTooLong as late:  # which knows the time that remained, not the one that was given
                raise TookTooLong(timeout_seconds or late.seconds, late.job_id) from None
            if job is not None and job.get("status") != Status.COMPLETED:
                raise JobEnded(job)

    def download(
        self, url: str, target: Path, *, on_bytes: transfer.OnBytes | None = None
    ) -> transfer.Received:
        """See `transfer.download`: whole and verified at `target`, resumed where an earlier one stopped."""
        return transfer.download(self.http, url, target, on_bytes=on_bytes)

    def copy_to(
        self, url: str, sink: BinaryIO, *, on_bytes: transfer.OnBytes | None = None
    ) -> transfer.Received:
        """See `transfer.copy_to`: the bytes, in order, into an open stream."""
        return transfer.copy_to(self.http, url, sink, on_bytes=on_bytes)

    def records(
        self,
        dcc: str,
        local_id: str,
        region: Region | str,
        *,
        retry: bool = False,
        timeout_seconds: float | None = None,
        on_job: OnJob | None = None,
    ) -> Iterator[str]:
        """The records that overlap `region`, one line each, once data and index are ready (see `ready`).

        SAM for alignments, else the text line. Read by byte ranges as the iterator advances, in
        bounded memory; closing it closes the connection.

        Raises:
            InvalidInput: no region can be read from the text, or the file has no such contig.
            Missing: the file has no index.
            UnexpectedResponse: data and index cannot be read together.
            Changed: the file was replaced while it was read.
        """
        wanted = parse_region(region) if isinstance(region, str) else region
        deadline = Deadline(timeout_seconds)
        data = self.ready(
            dcc, local_id, retry=retry, timeout_seconds=deadline.remaining_or_none, on_job=on_job
        )
        index = self.ready(
            dcc, local_id, kind=Kind.INDEX, timeout_seconds=deadline.remaining_or_none, on_job=on_job
        )
        yield from self.read_region(data, index, wanted)

    def read_region(self, data: ReadyPart, index: ReadyPart, region: Region) -> Iterator[str]:
        """`records` of parts that are ready."""
        version = transfer.Remote(data.size, data.etag)
        return reading.read_region(self.http, data.url, index.url, region, version)

    def read_sequence(
        self, data: ReadyPart, index: ReadyPart, blocks: ReadyPart, region: Region
    ) -> Iterator[str]:
        """The bases of `region` as lines of FASTA, of an artifact with `index` (FAI) and `gzi`."""
        version = transfer.Remote(data.size, data.etag)
        return sequences.read_sequence(self.http, data.url, index.url, blocks.url, region, version)

    def region_urls(self, dcc: str, local_id: str) -> tuple[str, str]:
        """The URLs of data and index, for a genome library or a browser. Asks nothing of the service."""
        return self.url(data_path(dcc, local_id)), self.url(index_path(dcc, local_id))

    # --------------------------------------------------------------------------------------

    def _accepted(self, url: str, response: httpx.Response) -> PartResponse:
        location = response.headers.get("location", "")
        job_id = urlsplit(location).path.rstrip("/").rsplit("/", 1)[-1] if location else None
        if not job_id:
            raise UnexpectedResponse(url, "202 without the Location of a job")
        return PartResponse(job_id=job_id, retry_after_seconds=retry_after(response) or 1.0)
