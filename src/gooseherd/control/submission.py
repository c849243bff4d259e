"""From "somebody wants this artifact" to a published manifest or the one live job that makes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from weakref import WeakValueDictionary

from gooseherd import telemetry, tracing
from gooseherd.control.active_jobs import ActiveJobs
from gooseherd.control.budgets import Budgets
from gooseherd.control.job_watch import JobWatch, JobWatches
from gooseherd.control.limited_claims import LimitedClaims
from gooseherd.control.manifest_verification import verify_published
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.errors import (
    AlreadyFailed,
    NewerJob,
    NoSuchPart,
    NotFound,
    StoreUnavailable,
    UnsupportedFormat,
)
from gooseherd.domain.failures import remembered_for
from gooseherd.domain.job import Job, JobId, NewestSeen, Requester, Submission
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key, workflow_key
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.store import Claim, JobStore
from gooseherd.domain.queueing import Priority
from gooseherd.domain.retention import READ_REMEMBERED
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import PUBLIC_ONLY, Visibility

_log = logging.getLogger(__name__)

_MANIFEST_BYTES_KEPT = 32 << 20
"""Of manifests held in memory, as they are stored: a few KB each, but tens of MB for some. They never
change."""
_REMEMBERED_SECONDS = READ_REMEMBERED.total_seconds()
"""Retention removes nothing that was read since, so what is remembered is there."""
_LOOKS = 5
"""How often others' jobs may begin or end between two looks, or the look and the claim; each of them has a
file less to make."""
_QUICKLY_READ = 1 << 18
"""Bytes of a manifest that is read on the event loop: a few milliseconds."""


class Recipes(Protocol):
    """What would be made of a source (the processor registry, seen from above)."""

    def recipe(self, source: SourceFile) -> Recipe:
        """Raises UnsupportedFormat."""
        ...

    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        """What makes artifacts of their own beside it, for those who ask for a part of them."""
        ...

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        """What kinds of part that recipe makes."""
        ...

    def filenames(self, source: SourceFile, recipe: Recipe) -> Mapping[Kind, str]:
        """What the parts of each kind will be called; an index is the usual one for its data."""
        ...


@dataclass(frozen=True, slots=True)
class SubmissionLimits:
    """Explicit answers instead of an endless queue. Attaching to a live job is always allowed.

    They hold when many submit at once: by N processes each is exceeded by N-1 at most.
    """

    active_jobs: int
    pending_per_requester: int


class Submissions:
    """The workflow engine's entry points: look up, submit, wait, withdraw."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        cache: CacheBackend,
        recipes: Recipes,
        limits: SubmissionLimits,
        wakeups: Wakeups,
        new_id: Callable[[], JobId],
        poll_seconds: float = 1.0,
        on_read: Callable[[str], None] = lambda _: None,
        budgets: Budgets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_read` is called with the prefix of each artifact that is found published."""
        self.budgets = budgets
        self._jobs = jobs
        self._cache = cache
        self._recipes = recipes
        self._limits = limits
        self._active = ActiveJobs(jobs, limits.active_jobs, clock)
        self._pending: WeakValueDictionary[Requester, LimitedClaims] = WeakValueDictionary()
        self._wakeups = wakeups
        self._new_id = new_id
        self._poll_seconds = poll_seconds
        self._on_read = on_read
        self._clock = clock
        self._watches = JobWatches(self._changes_in_store)
        self._manifests: OrderedDict[CacheKey, tuple[Manifest, int, float]] = OrderedDict()
        self._manifest_bytes = 0

    def recipe(self, source: SourceFile, kind: Kind) -> Recipe:
        """What would be made of `source`.

        Raises:
            UnsupportedFormat: no processor reads the format.
            NoSuchPart: its processor makes no part of this kind (an index of a CSV, say).
        """
        usual = self._recipes.recipe(source)
        for recipe in (usual, *self._recipes.recipes_on_demand(source)):
            if kind in self._recipes.kinds(recipe):
                return recipe
        raise NoSuchPart(kind.value, source.name)

    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        """What makes artifacts of their own beside the usual one."""
        return self._recipes.recipes_on_demand(source)

    def filenames(self, source: SourceFile, recipe: Recipe | None = None) -> Mapping[Kind, str]:
        """What the parts made of `source` are called, by `recipe` or by the one there is now.

        Raises:
            UnsupportedFormat: no processor reads the format.
            Misconfigured: the recipe is another build's.
        """
        return self._recipes.filenames(source, recipe or self._recipes.recipe(source))

    async def published(self, source: SourceFile, recipe: Recipe) -> Manifest | None:
        """The artifact's manifest if it is published. One read of the cache at most; none when remembered."""
        key = cache_key(source.identity, recipe, MANIFEST)
        known = self.remembered(key)
        if known is not None:
            return known
        data = b"".join([chunk async for chunk in self._cache.get(key)])
        if not data:
            self._forget(key)
            return None
        self._on_read(key.removesuffix(MANIFEST))
        if len(data) <= _QUICKLY_READ:
            manifest = Manifest.from_bytes(data)
        else:
            manifest = await asyncio.to_thread(Manifest.from_bytes, data)
        self._forget(key)
        self._manifests[key] = manifest, len(data), self._clock()
        self._manifest_bytes += len(data)
        while self._manifest_bytes > _MANIFEST_BYTES_KEPT:
            self._forget(next(iter(self._manifests)))
        return manifest

    async def unmade(
        self, entry: SourceFile, described: Callable[[SourceFile], Awaitable[SourceFile]]
    ) -> tuple[SourceFile, Recipe] | None:
        """What to submit so that its bytes can be read; None: they can be, made or as upstream has them.

        `described` gives the entry once its source was asked for a size and version that it lacks.

        Raises:
            UnsupportedFormat: no processor reads the format.
        """
        if entry.is_upstreams_pair:
            return None
        recipe, known = self.recipe(entry, Kind.DATA), entry.identity
        if await self.published(entry, recipe) is not None:
            return None
        if await self.active_job(entry) is None:
            entry = await described(entry)
        if entry.identity != known and await self.published(entry, recipe) is not None:
            return None
        return entry, recipe

    def remembered(self, key: CacheKey) -> Manifest | None:
        """The manifest of that key, if it is remembered; it is read now. Quick: for each byte range."""
        known = self._manifests.get(key)
        if known is None or self._clock() - known[2] >= _REMEMBERED_SECONDS:
            return None
        self._manifests.move_to_end(key)
        self._on_read(key.removesuffix(MANIFEST))
        return known[0]

    def _forget(self, key: CacheKey) -> None:
        if known := self._manifests.pop(key, None):
            self._manifest_bytes -= known[1]

    def forget(self, source: SourceFile, recipe: Recipe) -> None:
        """Stop trusting the remembered manifest: one of its parts was not there."""
        self._forget(cache_key(source.identity, recipe, MANIFEST))

    def forget_manifest(self, key: CacheKey) -> None:
        """The manifest of that key was removed."""
        self._forget(key)

    async def submit(
        self,
        source: SourceFile,
        recipe: Recipe,
        *,
        requester: Requester,
        priority: Priority = Priority.INTERACTIVE,
        retry: bool = False,
        visible: Visibility = PUBLIC_ONLY,
    ) -> Claim:
        """Claim the mutex for this content or attach to the job that holds it.

        A job that has published the artifact since the caller looked for it is the answer too: it has
        ended. `retry` asks for a new job although the last one failed a moment ago.
        Why it failed is told as far as the caller sees its entry: by `visible`.

        Raises:
            AlreadyFailed: the last job failed and nothing has changed since.
            LimitReached: the queue, or this requester's share of it, is full, or its budget is used up
                (BudgetSpent).
        """
        submission = Submission(
            job_id=self._new_id(),
            workflow_key=workflow_key(source.identity, recipe),
            source=source,
            recipe=recipe,
            priority=priority,
            requester=requester,
            traceparent=tracing.current_traceparent(),
        )
        for _ in range(_LOOKS):
            try:
                return await self._attach_or_claim(submission, visible, retry=retry)
            except NewerJob:
                retry = False  # That was the new one.
        raise StoreUnavailable("submit")

    async def _attach_or_claim(self, submission: Submission, visible: Visibility, *, retry: bool) -> Claim:
        """Raises NewerJob: another job has begun, or ended, since this looked."""
        key, requester = submission.workflow_key, submission.requester
        job = await self._jobs.attach(key, requester, submission.priority)
        if job is not None:
            return Claim(job, created=False)
        # Each is a round trip, and somebody waits.
        pending = self._pending_of(requester)
        last, active_before, pending_before = await asyncio.gather(
            self._jobs.latest(key), self._active.counted(), pending.counted()
        )
        if last is not None and not last.status.terminal:
            # It began after the attempt to attach. As the newest that was seen it would be taken for one that
            # has ended: what it publishes before the claim would be made again.
            raise NewerJob
        if last is not None and last.status is Status.COMPLETED:
            whole = await verify_published(self._cache, submission.source, submission.recipe)
            if whole.manifest is not None:
                return Claim(last, created=False)
        if not retry:
            await self._refuse_known_failure(submission.source, last, visible)
        if self.budgets is not None:
            await self.budgets.check(requester)
        # Somebody else's job may begin and end before this call takes effect.
        newest = NewestSeen(last.job_id if last is not None else None)
        async with pending.claiming(pending_before), self._active.claiming(active_before):
            claim = await self._jobs.claim_workflow(submission, newest=newest)
        if claim.created:
            telemetry.JOBS_SUBMITTED.labels(submission.priority.label).inc()
            tracing.annotate(job_id=claim.job.job_id)
            _log.info("job submitted", extra={"job_id": claim.job.job_id, "workflow_key": key})
            self._wakeups.publish(claim.job.job_id)
            self._wakeups.work.notify()
        return claim

    async def _refuse_known_failure(self, source: SourceFile, last: Job | None, visible: Visibility) -> None:
        if (
            last is None
            or last.status is not Status.FAILED
            or last.reason is None
            or last.finished_at is None
        ):
            return
        age: timedelta = await self._jobs.now() - last.finished_at
        if age < remembered_for(last.reason):
            detail = last.detail_for(source.dcc, source.local_id, visible)
            raise AlreadyFailed(last.job_id, last.reason, detail)

    def _pending_of(self, requester: Requester) -> LimitedClaims:
        """Theirs, as long as anybody holds it."""
        if (known := self._pending.get(requester)) is not None:
            return known
        most = self._limits.pending_per_requester
        made = LimitedClaims(
            "pending jobs of this requester",
            most,
            lambda: self._jobs.pending_of(requester, most),
            self._clock,
        )
        self._pending[requester] = made
        return made

    async def job(self, job_id: JobId) -> Job:
        """Raises NotFound."""
        job = await self._jobs.get(job_id)
        if job is None:
            raise NotFound("job", job_id)
        return job

    def changes(self, job_id: JobId) -> AsyncIterator[Job]:
        """The job now, then at each change that is seen, to the terminal state.

        The store is asked once for all who follow the job. Raises NotFound before the first one.
        """
        return self._watches.changes(job_id)

    async def _changes_in_store(self, job_id: JobId) -> AsyncIterator[Job]:
        with self._wakeups.listen(job_id) as wakeup:
            job = await self.job(job_id)
            yield job
            while not job.status.terminal:
                await wakeup.wait(self._poll_seconds)
                seen, job = job, await self.job(job_id)
                if job != seen:
                    yield job

    def watching(self, job_id: JobId) -> AbstractContextManager[JobWatch]:
        """A watch of the job, shared by all who wait for it (see JobWatches)."""
        return self._watches.watching(job_id)

    def listening(self) -> AbstractContextManager[Wakeup]:
        """A wake-up at each change of a job that this process makes."""
        return self._wakeups.listen_to_all()

    async def wait(self, job_id: JobId, seconds: float) -> Job:
        """The job when it has ended, or as it stands after `seconds`."""
        with self.watching(job_id) as watch:
            await asyncio.wait({watch.ended}, timeout=seconds)
            if watch.ended.done():
                return watch.ended.result()
            return watch.latest if watch.latest is not None else await self.job(job_id)

    def watched(self, source: SourceFile, recipe: Recipe, requester: Requester) -> Job | None:
        """The live job on this content, if others wait for it here and it is this requester's already.

        As it was a moment ago: for whoever goes on to wait for it, and asks again when it has ended.
        """
        job = self._watches.live(workflow_key(source.identity, recipe))
        return job if job is not None and requester in job.requesters else None

    async def active_job(self, source: SourceFile) -> Job | None:
        """The job that makes the artifact of this content now, whichever entry it was asked for by."""
        try:
            recipe = self._recipes.recipe(source)
        except UnsupportedFormat:
            return None
        job = await self._jobs.latest(workflow_key(source.identity, recipe))
        return job if job is not None and not job.status.terminal else None

    async def withdraw(self, job_id: JobId, requester: Requester | None) -> Job:
        """Withdraw a requester, or everyone (None: an operator); the last one out cancels.

        Raises:
            NotFound: no such job.
            NotCancellable: finalizing or ended.
        """
        job = await self._jobs.request_cancel(job_id, requester)
        self._wakeups.publish(job_id)
        self._wakeups.work.notify()
        return job
