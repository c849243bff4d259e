"""One stream of all that changes, for pages that show the whole service."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.event_streams import EventStreams
from gooseherd.api.models.batches import BatchView
from gooseherd.api.models.jobs import JobSummary, QueueView
from gooseherd.api.openapi import routes_under
from gooseherd.api.private_work import as_seen, sees_batch, sees_job
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.api.streaming import until
from gooseherd.control.change_feed import CatalogChange, ChangeFeed, FeedChange, Resync
from gooseherd.control.queue_statistics import QueueSnapshot
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.batch import Batch
from gooseherd.domain.job import Job

_LONGEST_SECONDS: Final = 3600
"""A browser connects again by itself, perhaps to another process."""
_RECONNECT_MILLISECONDS: Final = 1000
_KEPT_VIEWS: Final = 1000
"""Of jobs: whoever else follows gets the same bytes."""


def event_routes(dependencies: Dependencies, catalog: Catalog, streams: EventStreams) -> APIRouter:
    """/events."""
    router = routes_under("jobs")
    submissions = dependencies.submissions
    feed = ChangeFeed(
        jobs=dependencies.jobs,
        files=dependencies.files,
        queue=dependencies.queue,
        batches=dependencies.batches,
        catalog_writes=lambda: catalog.changes,
        listening=submissions.listening if submissions is not None else lambda: nullcontext(Wakeup()),
        clock=dependencies.clock,
    )

    views = _JobViews()

    @router.get(
        "/events",
        response_class=EventSourceResponse,
        responses=problems(422, 429, 503),
        dependencies=[Depends(streams.place)],
    )
    async def events(
        context: CurrentRequest,
        seconds: Annotated[
            int, Query(ge=0, le=_LONGEST_SECONDS, description="The stream ends after that; 0: at once.")
        ] = _LONGEST_SECONDS,
        last_event_id: Annotated[
            str | None, Header(max_length=100, description="To go on behind that event.")
        ] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """Changes of jobs and batches that the caller may see, of the catalog, and of the queue's depth.

        Event `job` has the job in short, `batch` the batch as GET returns it, `queue` the queue without
        names; `catalog` says that entries were registered, replaced or removed. `resync` comes first, and
        where events were missed: read again what is shown. With `Last-Event-ID` what follows is sent if it
        is still known.
        """
        async for change in until(dependencies.holds.stopping, feed.follow(last_event_id, seconds)):
            if not await context.is_still_known():
                return
            if isinstance(change, Resync):
                yield ServerSentEvent(
                    event="resync", raw_data="{}", id=change.bookmark, retry=_RECONNECT_MILLISECONDS
                )
                continue
            shown = _shown(change, context, views)
            if shown is not None:
                event, data = shown
                yield ServerSentEvent(event=event, raw_data=data, id=change.bookmark)

    return router


class _JobViews:
    """The jobs of changes as all see them who may see the file, made once for each form of our address."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str, bool], tuple[FeedChange, str]] = OrderedDict()
        """By the change's identity, which is its own for as long as it is kept here."""

    def of(self, change: FeedChange, job: Job, context: RequestContext) -> str:
        """The event's data."""
        if not context.caller.sees(job.source):
            hidden = JobSummary.of(as_seen(job, context.caller), context.link, now=change.now)
            return hidden.model_dump_json()
        # Links have the token of the request, if it came with one: so do the keys.
        key = id(change), context.link("/"), context.is_admin
        if key not in self._kept:
            view = JobSummary.of(job, context.link, now=change.now, admin=context.is_admin).model_dump_json()
            self._kept[key] = change, view
            if len(self._kept) > _KEPT_VIEWS:
                self._kept.popitem(last=False)
        return self._kept[key][1]


def _shown(change: FeedChange, context: RequestContext, views: _JobViews) -> tuple[str, str] | None:
    """The event's name and data as the caller may see them; None: not at all."""
    match change.subject:
        case Job() as job:
            if not sees_job(context, job):
                return None
            return "job", views.of(change, job, context)
        case Batch() as batch:
            if not sees_batch(context, batch):
                return None
            return "batch", BatchView.of(batch, context.link, admin=context.is_admin).model_dump_json()
        case QueueSnapshot() as queue:
            return "queue", QueueView.of(queue, admin=False).model_dump_json()
        case CatalogChange():
            return "catalog", "{}"
