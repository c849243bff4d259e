"""Jobs: look, follow live, list, withdraw; and the queue they stand in."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.event_streams import EventStreams
from gooseherd.api.models.jobs import JobList, JobView, QueueView
from gooseherd.api.models.response import StatusWord
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.private_work import as_seen, sees_job
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest, problems, whose
from gooseherd.api.streaming import until
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Manifest
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import (
    CacheUnavailable,
    InvalidInput,
    NotCancellable,
    NotFound,
    ProcessingDisabled,
)
from gooseherd.domain.job import Job, JobId
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.ports.store import JobQuery
from gooseherd.domain.source import parse_dcc, parse_local_id
from gooseherd.domain.states import Status, may


def job_routes(dependencies: Dependencies, names: Names, streams: EventStreams) -> APIRouter:
    """The routes under /jobs, and /queue."""
    router = routes_under("jobs")

    async def found(job_id: str, context: CurrentRequest) -> Job:
        job = await dependencies.jobs.get(JobId(job_id)) if job_id.isprintable() else None
        if job is None or not sees_job(context, job):
            raise NotFound("job", job_id)
        return job

    @router.get("/jobs", responses=problems(401, 403, 422, 503))
    async def jobs(
        context: CurrentRequest,
        status: StatusWord | None = None,
        requester: Annotated[str | None, Query(description="`me`; the admin may name anyone.")] = None,
        dcc: str | None = None,
        local_id: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[str | None, Query(max_length=8192, description="`next` of the page before.")] = None,
    ) -> JobList:
        """Jobs, newest first."""
        page = await dependencies.jobs.find(
            JobQuery(
                status=Status(status) if status else None,
                requester=whose(requester, context),
                dcc=parse_dcc(dcc) if dcc else None,
                local_id=parse_local_id(local_id) if local_id else None,
                limit=limit,
                after=after,
                visible=context.caller.visible,
            )
        )
        admin = context.is_admin
        now = await dependencies.jobs.now()
        return JobList(
            jobs=[
                JobView.of(
                    job,
                    context.link,
                    names.paths_of_job(job),
                    artifacts=names.artifact_paths_of_job(job),
                    now=now,
                    admin=admin,
                )
                for job in page.jobs
            ],
            next=page.next,
        )

    @router.get("/jobs/{job_id}", responses=problems(404, 503))
    async def job(context: CurrentRequest, job: Annotated[Job, Depends(found)]) -> JobView:
        """The job as it stands."""
        return await _view(dependencies, names, job, context)

    @router.get(
        "/jobs/{job_id}/events",
        response_class=EventSourceResponse,
        responses=problems(404, 429, 503),
        dependencies=[Depends(streams.place)],
    )
    async def events(
        context: CurrentRequest,
        job: Annotated[Job, Depends(found)],
        submissions: Annotated[Submissions, Depends(lambda: _processing(dependencies))],
    ) -> AsyncIterator[ServerSentEvent]:
        """Event `job` now and at each change, with the job as GET returns it; ends with the job.

        Or when the service stops: a browser connects again by itself.
        """
        async for seen in until(dependencies.holds.stopping, submissions.changes(job.job_id)):
            if not await context.is_still_known():
                return
            view = await _view(dependencies, names, seen, context)
            yield ServerSentEvent(
                event="job",
                raw_data=view.model_dump_json(),
                id=f"{seen.fence}-{seen.progress.seq}-{seen.status}",
            )

    @router.delete("/jobs/{job_id}", responses=problems(401, 403, 404, 409, 503))
    async def withdraw(
        context: CurrentRequest,
        job: Annotated[Job, Depends(found)],
        submissions: Annotated[Submissions, Depends(lambda: _processing(dependencies))],
    ) -> JobView:
        """Withdraw from a job; the last one out cancels it. With the admin key: cancel it for everyone.

        409 for everybody once it is finalizing or has ended. A job that is being cancelled stays as it is.
        """
        whose = None if context.is_admin else context.requester
        if whose is not None:
            if not context.caller.is_anonymous:
                context.require(Scope.SUBMIT)
            # No key would help: those who asked for it may be gone from it, as after a cancellation.
            if not may(job.status, Status.CANCELLED):
                raise NotCancellable(job.job_id, job.status)
            nobody_waits = job.cancel_requested and not job.requesters
            if whose not in job.requesters and not nobody_waits:
                context.require_admin()
        return await _view(dependencies, names, await submissions.withdraw(job.job_id, whose), context)

    @router.get("/queue", tags=["operation"], responses=problems(503))
    async def queue(context: CurrentRequest) -> QueueView:
        """Who waits and for how long, what runs, and who finalizes."""
        return QueueView.of(await dependencies.queue.snapshot(), admin=context.is_admin)

    return router


def _processing(dependencies: Dependencies) -> Submissions:
    if dependencies.submissions is None:
        raise ProcessingDisabled
    return dependencies.submissions


async def _view(dependencies: Dependencies, names: Names, job: Job, context: RequestContext) -> JobView:
    shown = as_seen(job, context.caller)
    return JobView.of(
        shown,
        context.link,
        names.paths_of_job(shown),
        artifacts=names.artifact_paths_of_job(shown),
        now=await dependencies.jobs.now(),
        place=await dependencies.queue.place(job),
        manifest=await _published_by(dependencies, job),
        admin=context.is_admin,
    )


async def _published_by(dependencies: Dependencies, job: Job) -> Manifest | None:
    """What a completed job published; None when that cannot be read: the record is then sent without it."""
    if job.status is not Status.COMPLETED or dependencies.submissions is None:
        return None
    try:
        return await dependencies.submissions.published(job.source, job.recipe)
    except (CacheUnavailable, StorageRefused, InvalidInput):
        return None
