"""The calls that ask for parts of artifacts and wait until they can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from gooseherd.client.calls import Outage
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import Busy, JobEnded, NotReachable, TookTooLong, UnexpectedResponse
from gooseherd.client.job_calls import JobCalls
from gooseherd.client.models import Job
from gooseherd.client.parts import PartResponse, ReadyPart, part_path
from gooseherd.client.responses import check, content_length, filename, reaching, retry_after
from gooseherd.domain.artifact import Kind

OnJob = Callable[[Job], None]
OnBusy = Callable[[Busy], None]


class ReadyCalls(JobCalls):
    """Asking, and waiting."""

    async def ask(
        self, dcc: str, local_id: str, *, kind: Kind = Kind.DATA, raw: bool = False, retry: bool = False
    ) -> PartResponse:
        """Ask for a part once: it is there, or a job is making it from now on. Reads no bytes of it.

        `retry` asks for a new job although the last one failed a moment ago.
        """
        url = self.endpoint.url(part_path(kind, dcc, local_id))
        query = {name: "true" for name, wanted in (("raw", raw), ("retry", retry)) if wanted}
        headers = {"Accept-Encoding": "identity"}
        asked = str(httpx.URL(url).copy_merge_params(query))
        with reaching(url):
            async with self.transport.stream("GET", asked, headers=headers) as response:
                check(response)
                if response.status_code == 202:
                    return _accepted(url, response)
                if response.status_code == 307:
                    # The bytes are elsewhere (ARTIFACT_DELIVERY); what they are is still answered here.
                    head = check(await self.transport.send("HEAD", asked, headers=headers))
                    return PartResponse(ready=_ready(url, head))
                return PartResponse(
                    ready=_ready(
                        str(httpx.URL(url).copy_merge_params({"raw": "true"})) if raw else url, response
                    )
                )

    async def ready(
        self,
        dcc: str,
        local_id: str,
        *,
        kind: Kind = Kind.DATA,
        raw: bool = False,
        retry: bool = False,
        timeout_seconds: float | None = None,
        on_job: OnJob | None = None,
        on_busy: OnBusy | None = None,
    ) -> ReadyPart:
        """Wait until a part can be read; `on_job` sees the job at each change, `on_busy` each Retry-After.

        A full queue (429, or 503 with Retry-After) is waited out as the service says, and so is a restart
        of a service that has answered.

        Raises:
            JobEnded: the job failed or was cancelled.
            TookTooLong: not ready in time. The job goes on.
        """
        deadline, job = Deadline(timeout_seconds), None
        asking: Outage | None = None
        following = Outage()
        while True:
            deadline.check()
            try:
                response = await self.ask(dcc, local_id, kind=kind, raw=raw, retry=retry and job is None)
            except Busy as busy:
                if busy.retry_after_seconds is None or deadline.remaining < busy.retry_after_seconds:
                    raise
                asking = Outage()
                if on_busy:
                    on_busy(busy)
                await self.transport.sleep(busy.retry_after_seconds)
                continue
            except NotReachable as error:
                if asking is None:
                    raise
                await self.transport.sleep(deadline.at_most(asking.pause(error)))
                continue
            asking = Outage()
            if response.ready:
                found = response.ready
                return ReadyPart(found.url, found.etag, found.size, found.filename, job)
            if response.job_id is None:
                await self.transport.sleep(deadline.at_most(response.retry_after_seconds))
                continue
            deadline.job_id = response.job_id
            try:
                changes = self.follow(response.job_id, timeout_seconds=deadline.remaining_or_none)
                async with contextlib.aclosing(changes):
                    async for job in changes:
                        following.is_over()
                        if on_job:
                            on_job(job)
            except TookTooLong as late:  # which knows the time that remained, not the one that was given
                raise TookTooLong(timeout_seconds or late.seconds, late.job_id) from None
            except (NotReachable, Busy) as error:
                await self.transport.sleep(deadline.at_most(following.pause(error)))
                continue
            if job is not None and job.status != "completed":
                raise JobEnded(job)


def _ready(url: str, response: httpx.Response) -> ReadyPart:
    if response.status_code != 200:
        raise UnexpectedResponse(url, f"status {response.status_code}")
    return ReadyPart(url, response.headers.get("etag"), content_length(response), filename(response))


def _accepted(url: str, response: httpx.Response) -> PartResponse:
    location = response.headers.get("location", "")
    job_id = urlsplit(location).path.rstrip("/").rsplit("/", 1)[-1] if location else None
    if not job_id:
        raise UnexpectedResponse(url, "202 without the Location of a job")
    return PartResponse(job_id=job_id, retry_after_seconds=retry_after(response) or 1.0)
