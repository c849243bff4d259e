"""Requests for what may have to be made first: a job is started or joined, the request held or redirected."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from starlette.types import Receive, Send

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing, lacks_details
from gooseherd.api.holding import RETRY_SECONDS, hold_seconds, next_query
from gooseherd.api.models.jobs import Accepted
from gooseherd.api.names import Names
from gooseherd.api.private_work import as_seen
from gooseherd.api.problems import NotReady, Pairs
from gooseherd.api.request_context import RequestContext
from gooseherd.api.request_options import RequestOptions
from gooseherd.api.retries import Retries, TooManyRetries
from gooseherd.api.streaming import hold
from gooseherd.control.submission import Submissions
from gooseherd.domain.errors import AlreadyFailed, CacheUnavailable, LimitReached, Unavailable
from gooseherd.domain.job import Job
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.store import Claim
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PreparedRequest:
    """Of one request for the artifact of one entry. Errors are raised before anything is sent."""

    dependencies: Dependencies
    describing: Describing
    retries: Retries
    context: RequestContext
    submissions: Submissions
    entry: SourceFile
    """As it is stored: what its source says of itself is filled in before a job is made of it."""
    recipe: Recipe
    options: RequestOptions
    receive: Receive
    send: Send
    served: Callable[[SourceFile], Awaitable[bool]] = field(kw_only=True)
    """Sends the response if the artifact is published; False: it is not, and nothing was sent."""

    def watched(self) -> Job | None:
        """The job that this request waits for already, when it comes back after a hold.

        A held request that comes back would cost the cache a read and the store a write each time.
        """
        if not self.options.hop:
            return None
        return self.submissions.watched(self.entry, self.recipe, self.context.requester)

    async def submitted(self) -> Job | None:
        """The job that makes the artifact; None when it was there after all, and was served."""
        self.context.require_work_on(self.entry)
        if lacks_details(self.entry) and await self.submissions.active_job(self.entry) is None:
            known, self.entry = self.entry.identity, await self.describing.described(self.entry)
            if self.entry.identity != known and await self.served(self.entry):
                return None
        asked = partial(
            self.submissions.submit,
            self.entry,
            self.recipe,
            requester=self.context.requester,
            priority=self.options.priority,
            visible=self.context.caller.visible,
        )
        try:
            return self._noted(await asked())
        except AlreadyFailed:
            if not self.options.retry:
                raise
        self.retries.take(self.context)
        return self._noted(await asked(retry=True))

    async def awaited(self) -> Job | None:
        """The job that makes the artifact, after the wait that the client asked for; None: it was served.

        Raises:
            AlreadyFailed: the job has failed.
        """
        job = await self.submitted()
        if job is None:
            return None
        if self.options.wait_seconds > 0:
            job = await self._waited(job)
        if job.status is Status.COMPLETED:
            if not await self.served(self.entry):
                raise CacheUnavailable("reading what was just published")
            return None
        if job.status.terminal:
            raise AlreadyFailed(job.job_id, job.reason or job.status, self._detail_of(job))
        return job

    async def held(self, known: Job | None, *, browser: bool) -> None:
        """Serve it when it is made, or redirect to this very request, or at last refuse with 503.

        `known`: the job, if the request waits for it already.
        """
        holds = self.dependencies.holds
        longest = self.dependencies.wait_max_seconds if self.dependencies.hold_viewers else 0
        seconds = hold_seconds(self.options.hop, longest, browser=browser)
        if not seconds:
            job = known or await self.submitted()
            if job is not None:
                raise NotReady(job.job_id, retry_after(job))
            return
        ended: Job | None = None
        self.context.held = True
        with holds.place(self.context.requester):
            try:
                job = known or await self.submitted()
                if job is None:
                    return
                with self.submissions.watching(job.job_id) as watch:
                    await hold(self.receive, seconds, watch.ended, holds.stopping)
                    ended = watch.ended.result() if watch.ended.done() else None
            except TooManyRetries:
                raise
            except (LimitReached, Unavailable) as trouble:
                _log.info(
                    "a held request has no job yet",
                    extra={"request_id": self.context.request_id, "problem": str(trouble)},
                )
                await hold(self.receive, min(seconds, RETRY_SECONDS), holds.stopping)
        if ended is not None and ended.status is not Status.COMPLETED:
            raise AlreadyFailed(ended.job_id, ended.reason or ended.status, self._detail_of(ended))
        if ended is None or not await self.served(self.entry):
            await self._redirect(browser=browser)

    def _detail_of(self, job: Job) -> str:
        return job.detail_for(self.entry.dcc, self.entry.local_id, self.context.caller.visible)

    def _noted(self, claim: Claim) -> Job:
        if claim.created:
            self.context.affected = f"job {claim.job.job_id}"
        return claim.job

    async def _waited(self, job: Job) -> Job:
        """The job when it has ended, or as it stands when the client's patience, or ours, is at an end."""
        self.context.held = True
        holds = self.dependencies.holds
        try:
            with holds.place(self.context.requester), self.submissions.watching(job.job_id) as watch:
                await hold(self.receive, self.options.wait_seconds, watch.ended, holds.stopping)
                return watch.ended.result() if watch.ended.done() else watch.latest or job
        except LimitReached:
            return job

    async def _redirect(self, *, browser: bool) -> None:
        """To this very request, once more."""
        target = f"{self.context.target}?{next_query(self.context.query, self.options.hop)}"
        # IGV desktop follows absolute addresses only; a path is right behind any proxy.
        location = self.context.prefix + target if browser else self.context.address_of(target)
        headers: Pairs = [
            (b"location", location.encode("latin-1")),
            (b"cache-control", b"no-store"),
            (b"content-length", b"0"),
        ]
        await self.send({"type": "http.response.start", "status": 307, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})


async def send_accepted(prepared: PreparedRequest, job: Job, names: Names) -> None:
    """202: the job, and where what it makes will be."""
    context, dependencies = prepared.context, prepared.dependencies
    accepted = Accepted.of(
        as_seen(job, context.caller),
        context.link,
        # Not the job's own entry, which may be another one of the same content.
        names.paths(prepared.entry, recipe=job.recipe),
        now=await dependencies.jobs.now(),
        place=await dependencies.queue.place(job),
        admin=context.is_admin,
    )
    body = accepted.model_dump_json().encode()
    headers: Pairs = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"location", context.location(f"/jobs/{job.job_id}").encode()),
        (b"retry-after", b"%d" % retry_after(job)),
        (b"cache-control", b"no-store"),
    ]
    if prepared.options.preferred is not None:
        headers.append((b"preference-applied", b"wait=%d" % prepared.options.preferred))
    await prepared.send({"type": "http.response.start", "status": 202, "headers": headers})
    await prepared.send({"type": "http.response.body", "body": body})


def retry_after(job: Job) -> int:
    """Seconds until asking again is worth it: soon for small jobs, never far apart for long ones."""
    eta = job.progress.eta_seconds
    return 2 if eta is None else max(1, min(round(eta), 30))
