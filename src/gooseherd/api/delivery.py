"""Byte ranges of artifacts, in front of the framework: its router would cost three times the I/O here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gooseherd.api.allowances import Concurrent
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing, lacks_details
from gooseherd.api.holding import RETRY_SECONDS, Client, client_of, hold_seconds, next_query
from gooseherd.api.models.jobs import Accepted
from gooseherd.api.names import RESERVED, NamedPart, Names
from gooseherd.api.pages import waiting_page
from gooseherd.api.part_response import PartMissing
from gooseherd.api.problems import MethodNotAllowed, NotReady, Pairs
from gooseherd.api.published_delivery import ArtifactRoute, Connection, FoundPart, PublishedDelivery
from gooseherd.api.published_parts import PublishedParts
from gooseherd.api.request_context import RequestContext, context_of
from gooseherd.api.request_options import RequestOptions, options_of
from gooseherd.api.retries import Retries, TooManyRetries
from gooseherd.api.streaming import hold
from gooseherd.api.upstream import serve_upstream, upstream_index
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import OWN_ADDRESS, Kind, Manifest, Part
from gooseherd.domain.errors import (
    AlreadyFailed,
    CacheUnavailable,
    InvalidInput,
    LimitReached,
    NoSuchPart,
    NotFound,
    Unavailable,
)
from gooseherd.domain.job import Job
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.store import Claim
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status

_log = logging.getLogger(__name__)

_KINDS: Final = {kind.value: kind for kind in OWN_ADDRESS}


class Delivery:
    """Serves /data/{dcc}/{id}, /index/…, /density/… and /files/{dcc}/{id}/{name}; the framework the rest."""

    def __init__(
        self,
        framework: ASGIApp,
        dependencies: Dependencies,
        catalog: Catalog,
        names: Names,
        parts: PublishedParts,
    ) -> None:
        self._framework = framework
        self._dependencies = dependencies
        self._catalog = catalog
        self._names = names
        cache = dependencies.cache
        self._published = PublishedDelivery(dependencies, cache, parts) if cache is not None else None
        self._artifacts = ArtifactRoute(dependencies, catalog, names, self._published)
        self._describing = Describing(catalog, dependencies.sources)
        self._retries = Retries(dependencies)
        self._raw = Concurrent("raw responses", per_requester=dependencies.raw_per_requester)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Errors are raised; the middleware answers them."""
        words: list[str] = scope["path"].split("/") if scope["type"] == "http" else []
        if len(words) == 4 and words[1] in _KINDS and not words[0]:
            scope["gooseherd.route"] = f"/{words[1]}"
        elif len(words) == 5 and words[1] == "files" and words[4] not in RESERVED and not words[0]:
            scope["gooseherd.route"] = "/files/name"
        elif len(words) == 4 and words[1] == "artifacts" and not words[0]:
            scope["gooseherd.route"] = "/artifacts"
        else:
            await self._framework(scope, receive, send)
            return
        context = context_of(scope)
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET, HEAD, OPTIONS")
        if words[1] == "artifacts":
            await self._artifacts.serve(words[2], words[3], Connection(scope, receive, send))
            return
        entry = await self._catalog.servable(words[2], words[3], context.caller.visible)
        options = options_of(scope["query_string"], context.headers, self._dependencies.wait_max_seconds)
        named = await self._named(entry, words[4], options, context) if len(words) == 5 else None
        kind = named.kind if named is not None else _KINDS[words[1]]
        if options.part is not None:
            if named is not None or kind is not Kind.DATA:
                raise InvalidInput("part", "goes with /data alone")
            kind = options.part
        await _PartRequest(
            self._dependencies,
            self._describing,
            self._retries,
            self._raw,
            self._names,
            self._published,
            scope,
            context,
            entry,
            kind,
            named,
            options,
            receive,
            send,
        ).run()

    async def _named(
        self, entry: SourceFile, name: str, options: RequestOptions, context: RequestContext
    ) -> NamedPart:
        """Raises NotFound for a name that the file has not: an index of another kind above all."""
        submissions = self._dependencies.submissions
        recipe: Recipe | None = None
        parts: tuple[Part, ...] | None = None
        if submissions is not None and not entry.is_upstreams_pair:
            recipe = submissions.recipe(entry, Kind.DATA)
            if not options.hop or submissions.watched(entry, recipe, context.requester) is None:
                manifest = await submissions.published(entry, recipe)
                parts = manifest.parts if manifest is not None else None
        for part in self._names.of(entry, recipe=recipe, parts=parts):
            if part.name == name:
                return part
        raise NotFound("file", f"{entry.name}/{name}")


@dataclass(slots=True)
class _PartRequest:
    """One GET or HEAD of one kind of one servable entry. Errors are raised before anything is sent."""

    dependencies: Dependencies
    describing: Describing
    retries: Retries
    raw: Concurrent
    names: Names
    published: PublishedDelivery | None
    scope: Scope
    context: RequestContext
    entry: SourceFile
    kind: Kind
    named: NamedPart | None
    """What it was asked for by; None: by its kind."""
    options: RequestOptions
    receive: Receive
    send: Send

    @property
    def method(self) -> str:
        """GET or HEAD."""
        method: str = self.scope["method"]
        return method

    async def run(self) -> None:
        """Upstream's bytes, the artifact's bytes, or the job that makes them."""
        name = self.named.name if self.named is not None else None
        if self.kind is Kind.INDEX:
            if self.named is not None:
                sidecar = self.named.sidecar
            else:
                sidecar = upstream_index(self.entry, as_upstream=self._as_upstream)
            if sidecar is not None:
                await self._upstream(sidecar.access_url, name or f"{self.entry.filename}.{sidecar.kind}")
                return
        if self._as_upstream or self.dependencies.submissions is None or self.dependencies.cache is None:
            if self.kind is not Kind.DATA:
                raise NotFound(f"upstream {self.kind}", self.entry.name)
            await self._upstream(self.entry.access_url, name or self.entry.filename)
            return
        await self._artifact(self.dependencies.submissions, self.dependencies.cache)

    @property
    def _as_upstream(self) -> bool:
        without = self.dependencies.submissions is None or self.dependencies.cache is None
        return self.options.raw or without

    async def _artifact(self, submissions: Submissions, cache: CacheBackend) -> None:
        recipe = submissions.recipe(self.entry, self.kind)
        # A held request that comes back would cost the cache a read and the store a write each time.
        known = submissions.watched(self.entry, recipe, self.context.requester) if self.options.hop else None
        if known is None and await self._served(submissions, cache, recipe):
            return
        if self.method == "HEAD" and self.named is None:
            raise NotFound("artifact", self.entry.name)
        client = client_of(self.context.headers)
        viewer = client is Client.VIEWER and self.dependencies.hold_viewers
        named = self.named is not None and client is not Client.NAVIGATION
        if (viewer or named) and not self.options.asynchronous:
            await self._held(submissions, cache, recipe, known, client)
            return
        job = await self._submitted(submissions, cache, recipe)
        if job is None:
            return
        if self.options.wait_seconds > 0:
            job = await self._waited(submissions, job)
        if job.status is Status.COMPLETED:
            if not await self._served(submissions, cache, recipe):
                raise CacheUnavailable("reading what was just published")
        elif job.status.terminal:
            raise AlreadyFailed(job.job_id, job.reason or job.status, job.detail)
        elif client is Client.NAVIGATION:
            await self._page(job)
        elif self.named is not None:
            raise NotReady(job.job_id, retry_after(job))
        else:
            await self._accepted(job)

    async def _submitted(self, submissions: Submissions, cache: CacheBackend, recipe: Recipe) -> Job | None:
        """The job that makes the artifact; None when it was there after all, and was served."""
        self.context.require_work_on(self.entry)
        if lacks_details(self.entry) and await submissions.active_job(self.entry) is None:
            known, self.entry = self.entry.identity, await self.describing.described(self.entry)
            if self.entry.identity != known and await self._served(submissions, cache, recipe):
                return None
        asked = partial(
            submissions.submit,
            self.entry,
            recipe,
            requester=self.context.requester,
            priority=self.options.priority,
        )
        try:
            return self._noted(await asked())
        except AlreadyFailed:
            if not self.options.retry:
                raise
        self.retries.take(self.context)
        return self._noted(await asked(retry=True))

    def _noted(self, claim: Claim) -> Job:
        if claim.created:
            self.context.affected = f"job {claim.job.job_id}"
        return claim.job

    async def _waited(self, submissions: Submissions, job: Job) -> Job:
        """The job when it has ended, or as it stands when the client's patience, or ours, is at an end."""
        self.context.held = True
        holds = self.dependencies.holds
        try:
            with holds.place(self.context.requester), submissions.watching(job.job_id) as watch:
                await hold(self.receive, self.options.wait_seconds, watch.ended, holds.stopping)
                return watch.ended.result() if watch.ended.done() else watch.latest or job
        except LimitReached:
            return job

    async def _held(
        self,
        submissions: Submissions,
        cache: CacheBackend,
        recipe: Recipe,
        known: Job | None,
        client: Client,
    ) -> None:
        """The bytes when they are made, or a redirect to this very request, or at last 503."""
        holds, browser = self.dependencies.holds, client is Client.VIEWER
        longest = self.dependencies.wait_max_seconds if self.dependencies.hold_viewers else 0
        seconds = hold_seconds(self.options.hop, longest, browser=browser)
        if not seconds:
            job = known or await self._submitted(submissions, cache, recipe)
            if job is not None:
                raise NotReady(job.job_id, retry_after(job))
            return
        ended: Job | None = None
        self.context.held = True
        with holds.place(self.context.requester):
            try:
                job = known or await self._submitted(submissions, cache, recipe)
                if job is None:
                    return
                with submissions.watching(job.job_id) as watch:
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
            raise AlreadyFailed(ended.job_id, ended.reason or ended.status, ended.detail)
        if ended is None or not await self._served(submissions, cache, recipe):
            await self._redirect(browser=browser)

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

    async def _page(self, job: Job) -> None:
        """For a person: how far the job is, and then the file."""
        page = waiting_page(job, self.context.location, self.entry.filename)
        headers: Pairs = [
            *page.headers,
            (b"location", self.context.location(f"/jobs/{job.job_id}").encode()),
            (b"retry-after", b"%d" % retry_after(job)),
        ]
        await self.send({"type": "http.response.start", "status": 202, "headers": headers})
        await self.send({"type": "http.response.body", "body": page.body})

    async def _served(self, submissions: Submissions, cache: CacheBackend, recipe: Recipe) -> bool:
        """Serve the published part; False when there is none, and nothing was sent."""
        manifest: Manifest | None = await submissions.published(self.entry, recipe)
        if manifest is None:
            return False
        part = manifest.part(self.kind)
        if part is None:
            raise NoSuchPart(self.kind.value, self.entry.name)
        part = self.names.served_as(self.entry, recipe, manifest, part)
        if self.named is not None and self.named.name != part.filename:
            # Asked for before it was made, when another kind of index was expected.
            raise NotFound("file", f"{self.entry.name}/{self.named.name}")
        assert self.published is not None  # there is one where there is a cache
        connection = Connection(self.scope, self.receive, self.send, self.options.preferred)
        try:
            await self.published.deliver(FoundPart(self.entry, recipe, manifest, part), connection)
        except PartMissing:
            _log.warning(
                "published part is gone", extra={"key": part.key, "request_id": self.context.request_id}
            )
            submissions.forget(self.entry, recipe)
            return False
        return True

    async def _upstream(self, url: str, filename: str) -> None:
        with self.raw.place(self.context.requester):
            await serve_upstream(
                self.dependencies.sources,
                self.entry,
                url,
                filename,
                self.kind,
                method=self.method,
                headers=self.context.headers,
                max_bytes=self.dependencies.source_max_bytes,
                receive=self.receive,
                send=self.send,
            )

    async def _accepted(self, job: Job) -> None:
        accepted = Accepted.of(
            job,
            self.context.link,
            # Not the job's own entry, which may be another one of the same content.
            self.names.paths(self.entry, recipe=job.recipe),
            now=await self.dependencies.jobs.now(),
            place=await self.dependencies.queue.place(job),
        )
        body = accepted.model_dump_json().encode()
        headers: Pairs = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"location", self.context.location(f"/jobs/{job.job_id}").encode()),
            (b"retry-after", b"%d" % retry_after(job)),
            (b"cache-control", b"no-store"),
        ]
        if self.options.preferred is not None:
            headers.append((b"preference-applied", b"wait=%d" % self.options.preferred))
        await self.send({"type": "http.response.start", "status": 202, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def retry_after(job: Job) -> int:
    """Seconds until asking again is worth it: soon for small jobs, never far apart for long ones."""
    eta = job.progress.eta_seconds
    return 2 if eta is None else max(1, min(round(eta), 30))
