"""The calls about jobs: one by one, and many files as a batch."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gooseherd.client.calls import PAUSE_SECONDS, QUIET_SECONDS, Calls, Outage, given
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import Busy, NotReachable
from gooseherd.client.models import Batch, BatchFile, Job, Queue

TRIES: Final = 3
"""Of storing a batch, all with one idempotency key: an answer that was lost makes no second batch."""


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """One event of the whole service; `id` is where `changes` can go on behind it."""

    kind: str
    data: Mapping[str, Any]
    id: str | None = None


class JobCalls(Calls):
    """Jobs, batches, the queue."""

    async def job(self, job_id: str) -> Job:
        """The job as it stands. Raises Missing."""
        return await self._record(Job, "GET", _job(job_id))

    def jobs(
        self,
        *,
        status: str | None = None,
        dcc: str | None = None,
        local_id: str | None = None,
        mine: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Jobs, newest first, at most `limit`."""
        query = {
            "status": status,
            "dcc": dcc,
            "local_id": local_id,
            "requester": "me" if mine else None,
        }
        return self._pages(Job, "/jobs", "jobs", query, limit)

    async def cancel(self, job_id: str) -> Job:
        """Withdraw from a job; with the admin key: cancel it. Refused (409) when it is too late."""
        return await self._record(Job, "DELETE", _job(job_id))

    def events(
        self, job_id: str, *, quiet_seconds: float = QUIET_SECONDS
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """(event name, data) as the service sends them, to the end of the stream.

        Raises:
            NotReachable: also when not even a keep-alive came for `quiet_seconds`.
        """
        return self._events(f"{_job(job_id)}/events", quiet_seconds)

    def follow(self, job_id: str, *, timeout_seconds: float | None = None) -> AsyncGenerator[Job, None]:
        """The job now and after each change, to its end: by events, by polling when those fail.

        A service that restarts in between is waited for.

        Raises:
            TookTooLong: not at its end in time. The job goes on.
        """
        return self._follow(Job, _job(job_id), "job_id", Deadline(timeout_seconds, job_id))

    async def changes(
        self, *, last_event_id: str | None = None, seconds: int | None = None
    ) -> AsyncGenerator[ServiceChange, None]:
        """What changes in the service from now on: jobs, batches, the catalog, the queue's depth.

        A change of kind `resync` says that some were missed: read again what is shown. The connection is
        made again when it breaks, after the last change. With `seconds` the stream is asked for once and
        ends after that.

        Raises:
            NotReachable: the service cannot be reached, or not any more.
        """
        known, outage = last_event_id, None
        while True:
            stream = self._stream("/events", QUIET_SECONDS, known, params=given({"seconds": seconds}))
            try:
                async with contextlib.aclosing(stream):
                    async for event, data in stream:
                        known, outage = event.id or known, Outage()
                        yield ServiceChange(event.event, data, event.id or None)
                pause = PAUSE_SECONDS
            except (NotReachable, Busy) as error:
                if outage is None:
                    raise
                pause = outage.pause(error)
            if seconds is not None:
                return
            await self.transport.sleep(pause)

    async def queue(self) -> Queue:
        """Who waits and for how long, what runs and who finalizes; `requesters` with the admin key only."""
        return await self._record(Queue, "GET", "/queue")

    async def create_batch(
        self,
        files: Iterable[str] | None = None,
        *,
        text: str | None = None,
        dcc: str | None = None,
        file_format: str | None = None,
        retry: bool = False,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Prepare many files: `files` (DCC/ID each), or what the catalog has by the other arguments.

        More than 50 need a key, more than 10,000 are refused. `retry` asks for new jobs where
        the last one failed a moment ago. With an idempotency key the same call again finds the batch.
        """
        wanted: dict[str, Any] = (
            {"query": given({"q": text, "dcc": dcc, "format": file_format})}
            if files is None
            else {"files": list(files)}
        )
        body = {**wanted, "retry": retry}
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        for again in range(TRIES):
            try:
                return await self._record(Batch, "POST", "/batches", json=body, headers=headers)
            except NotReachable:
                if again == TRIES - 1:
                    raise
                await self.transport.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def batch(self, batch_id: str) -> Batch:
        """The batch as it stands. Raises Missing."""
        return await self._record(Batch, "GET", _batch(batch_id))

    def batches(self, *, mine: bool = False, limit: int | None = None) -> AsyncGenerator[Batch, None]:
        """Batches, newest first, at most `limit`."""
        query = {"requester": "me" if mine else None}
        return self._pages(Batch, "/batches", "batches", query, limit)

    def batch_files(
        self, batch_id: str, *, state: str | None = None, artifacts: bool = False, limit: int | None = None
    ) -> AsyncGenerator[BatchFile, None]:
        """What became of each file, in the order of asking: `state`, `reason`, `detail`, `job_id`, …

        `artifacts`: with `artifact_urls` of those that are ready.
        """
        query = {"state": state, "artifacts": "true" if artifacts else None}
        return self._pages(BatchFile, f"{_batch(batch_id)}/files", "files", query, limit)

    def batch_events(
        self, batch_id: str, *, quiet_seconds: float = QUIET_SECONDS
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """As `events`, of a batch."""
        return self._events(f"{_batch(batch_id)}/events", quiet_seconds)

    def follow_batch(
        self, batch_id: str, *, timeout_seconds: float | None = None
    ) -> AsyncGenerator[Batch, None]:
        """The batch now and after each change, until all its files have ended; as `follow`.

        Raises:
            TookTooLong: not at its end in time. The batch goes on.
        """
        deadline = Deadline(timeout_seconds, batch_id, what="batch")
        return self._follow(Batch, _batch(batch_id), "batch_id", deadline)

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel what has not ended, but for jobs that somebody else wants. What is ready stays."""
        return await self._record(Batch, "DELETE", _batch(batch_id))


def _job(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _batch(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"
