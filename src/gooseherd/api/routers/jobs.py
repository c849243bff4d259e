"""Jobs: look, follow live, list, withdraw; and the queue they stand in."""

# Annotations here name the dependencies of one desk, so they are evaluated where they stand.

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gooseherd import telemetry
from gooseherd.api.dependencies import Desk
from gooseherd.api.models import JobList, JobView, QueueView, StatusWord
from gooseherd.api.request_context import Visit
from gooseherd.api.route_parameters import Visiting, problems
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Manifest
from gooseherd.domain.errors import (
    AdminKeyRequired,
    CacheUnavailable,
    InvalidInput,
    NotFound,
    ProcessingDisabled,
)
from gooseherd.domain.job import Job, JobId, Requester
from gooseherd.domain.ports import JobQuery
from gooseherd.domain.source import parse_dcc, parse_local_id
from gooseherd.domain.states import Status


def job_routes(desk: Desk) -> APIRouter:
    """The routes under /jobs, and /queue."""
    router = APIRouter(tags=["jobs"])

    async def found(job_id: str) -> Job:
        job = await desk.jobs.get(JobId(job_id)) if job_id.isprintable() else None
        if job is None:
            raise NotFound("job", job_id)
        return job

    @router.get("/jobs", responses=problems(422, 503))
    async def jobs(
        visit: Visiting,
        status: StatusWord | None = None,
        requester: Annotated[str | None, Query(description="`me`; the admin may name anyone.")] = None,
        dcc: str | None = None,
        local_id: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[str | None, Query(max_length=8192, description="`next` of the page before.")] = None,
    ) -> JobList:
        """Jobs, newest first."""
        page = await desk.jobs.find(
            JobQuery(
                status=Status(status) if status else None,
                requester=_whose(requester, visit),
                dcc=parse_dcc(dcc) if dcc else None,
                local_id=parse_local_id(local_id) if local_id else None,
                limit=limit,
                after=after,
            )
        )
        admin = visit.is_admin
        now = await desk.jobs.now()
        return JobList(
            jobs=[JobView.of(job, visit.link, now=now, admin=admin) for job in page.jobs], next=page.next
        )

    @router.get("/jobs/{job_id}", responses=problems(404, 503))
    async def job(visit: Visiting, job: Annotated[Job, Depends(found)]) -> JobView:
        """The job as it stands."""
        return await _view(desk, job, visit)

    @router.get(
        "/jobs/{job_id}/events",
        response_class=EventSourceResponse,
        responses=problems(404, 503),
    )
    async def events(
        visit: Visiting,
        job: Annotated[Job, Depends(found)],
        submissions: Annotated[Submissions, Depends(lambda: _processing(desk))],
    ) -> AsyncIterator[ServerSentEvent]:
        """Event `job` now and at each change, with the job as GET tells it; ends after the terminal state."""
        async for seen in submissions.changes(job.job_id):
            view = await _view(desk, seen, visit)
            yield ServerSentEvent(
                event="job",
                raw_data=view.model_dump_json(),
                id=f"{seen.fence}-{seen.progress.seq}-{seen.status}",
            )

    @router.delete("/jobs/{job_id}", responses=problems(401, 404, 409, 503))
    async def withdraw(
        visit: Visiting,
        job: Annotated[Job, Depends(found)],
        submissions: Annotated[Submissions, Depends(lambda: _processing(desk))],
    ) -> JobView:
        """Withdraw from a job; the last one out cancels it. With the admin key: cancel it for everyone."""
        if visit.is_admin:
            whose = None
        elif b"x-api-key" in visit.headers or visit.requester not in job.requesters:
            raise AdminKeyRequired
        else:
            whose = visit.requester
        return await _view(desk, await submissions.withdraw(job.job_id, whose), visit)

    @router.get("/queue", tags=["operation"], responses=problems(503))
    async def queue(visit: Visiting) -> QueueView:
        """Depth by status, and who finalizes."""
        counts = await desk.jobs.counts()
        running = await desk.jobs.running_by_requester()
        return QueueView(
            pending=counts.get(Status.PENDING, 0),
            running=counts.get(Status.RUNNING, 0),
            finalizing=counts.get(Status.FINALIZING, 0),
            active=sum(counts.values()),
            finalizers_active=_gauge("gooseherd_finalizers_active"),
            finalizer_defers_total=_gauge("gooseherd_finalizer_defers_total"),
            requesters_running=len(running),
            requesters={str(name): count for name, count in running.items()} if visit.is_admin else None,
        )

    return router


def _whose(requester: str | None, visit: Visit) -> Requester | None:
    if requester is None:
        return None
    if requester == "me":
        return visit.requester
    visit.require_admin()
    return Requester(requester)


def _processing(desk: Desk) -> Submissions:
    if desk.submissions is None:
        raise ProcessingDisabled
    return desk.submissions


async def _view(desk: Desk, job: Job, visit: Visit) -> JobView:
    return JobView.of(
        job,
        visit.link,
        now=await desk.jobs.now(),
        position=await desk.jobs.position(job) if job.status is Status.PENDING else None,
        manifest=await _published_by(desk, job),
        admin=visit.is_admin,
    )


async def _published_by(desk: Desk, job: Job) -> Manifest | None:
    """What a completed job published; None when it cannot be had: the record is told without it."""
    if job.status is not Status.COMPLETED or desk.submissions is None:
        return None
    try:
        return await desk.submissions.published(job.source, job.recipe)
    except (CacheUnavailable, InvalidInput):
        return None


def _gauge(name: str) -> int:
    return int(telemetry.REGISTRY.get_sample_value(name) or 0)
