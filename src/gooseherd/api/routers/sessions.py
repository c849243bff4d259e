"""Sessions: a worker kept for one requester, whose jobs run on it in turn, for keys with the scope submit."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing
from gooseherd.api.models.artifacts import PartReadiness
from gooseherd.api.models.jobs import JobView
from gooseherd.api.models.sessions import DispatchRequest, SessionList, SessionRequest, SessionView
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.private_work import as_seen
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import Submitter, problems
from gooseherd.control.sessions import Sessions, WantedSession
from gooseherd.domain.errors import InvalidInput, NotFound, ProcessingDisabled
from gooseherd.domain.job import Requester
from gooseherd.domain.reservation import Reservation, ReservationId, ReservedSize
from gooseherd.domain.source import parse_dcc, parse_local_id


def session_routes(dependencies: Dependencies, catalog: Catalog, names: Names) -> APIRouter:
    """The routes under /sessions."""
    router = routes_under("sessions")
    describing = Describing(catalog, dependencies.sources)

    def there() -> Sessions:
        if dependencies.sessions is None:
            raise ProcessingDisabled
        return dependencies.sessions

    TheSessions = Annotated[Sessions, Depends(there)]  # noqa: N806 - a type

    def named(session_id: str) -> ReservationId:
        if not session_id.isprintable():
            raise NotFound("session", session_id)
        return ReservationId(session_id)

    Named = Annotated[ReservationId, Depends(named)]  # noqa: N806 - a type

    async def theirs(context: Submitter, sessions: TheSessions, session_id: Named) -> Reservation:
        session = await sessions.session(session_id)
        if not _is_theirs(session, context):
            raise NotFound("session", session_id)
        return session

    Theirs = Annotated[Reservation, Depends(theirs)]  # noqa: N806 - a type

    @router.post(
        "/sessions",
        status_code=201,
        responses={
            200: {"model": SessionView, "description": "The owner has one already: this one"},
            **problems(401, 403, 413, 422, 429, 503),
        },
    )
    async def create(
        context: Submitter, sessions: TheSessions, wanted: SessionRequest, response: Response
    ) -> SessionView:
        """Keep a worker for an owner: 201, or 200 with the session that the owner has already.

        Its jobs wait for the worker from now on, and then run on it one at a time, in their order.
        """
        owner = context.requester if wanted.owner is None else Requester(wanted.owner)
        if owner != context.requester:
            context.require_admin()
        if not owner.isprintable():
            raise InvalidInput("owner", "must be printable")
        session, new = await sessions.open(
            WantedSession(
                owner=owner,
                size=ReservedSize(wanted.size),
                idle_seconds=wanted.idle_seconds or dependencies.session_idle_seconds,
                max_age_seconds=wanted.max_age_seconds,
            )
        )
        response.status_code = 201 if new else 200
        response.headers["Location"] = f"{context.prefix}/sessions/{session.reservation_id}"
        return SessionView.of(session, context.link)

    @router.get("/sessions", responses=problems(401, 403, 503))
    async def list_sessions(
        context: Submitter,
        sessions: TheSessions,
        ended: Annotated[bool, Query(description="Also those that ended within a day.")] = False,
    ) -> SessionList:
        """Sessions of the key's owner, for the admin all of them, the oldest first."""
        found = [one for one in await sessions.sessions(ended=ended) if _is_theirs(one, context)]
        return SessionList(sessions=[SessionView.of(session, context.link) for session in found])

    @router.get("/sessions/{session_id}", responses=problems(401, 403, 404, 503))
    async def session(context: Submitter, session: Theirs) -> SessionView:
        """The session as it stands; after its end for a day."""
        return SessionView.of(session, context.link)

    @router.delete("/sessions/{session_id}", status_code=202, responses=problems(401, 403, 404, 503))
    async def end(context: Submitter, sessions: TheSessions, session: Theirs) -> SessionView:
        """End it: it takes no more jobs, and its worker is stopped when nothing is in flight."""
        return SessionView.of(await sessions.end(session.reservation_id), context.link)

    @router.post(
        "/sessions/{session_id}/dispatch",
        status_code=202,
        response_model=JobView,
        responses={
            200: {"model": PartReadiness, "description": "There is nothing to do: its bytes can be read"},
            **problems(401, 403, 404, 410, 413, 422, 429, 503),
        },
    )
    async def dispatch(
        context: Submitter,
        sessions: TheSessions,
        session: Theirs,
        wanted: DispatchRequest,
        response: Response,
    ) -> JobView | Response:
        """Ask for a file in the name of the session's owner; the job runs on the session's worker.

        200 without a job when the file is there already, made before or as upstream has it.
        """
        dcc, slash, local_id = wanted.file.partition("/")
        if not slash:
            raise InvalidInput("file", "must be DCC/ID")
        entry = await describing.servable(parse_dcc(dcc), parse_local_id(local_id), context.caller.visible)
        job = await sessions.dispatch(
            session.reservation_id, entry, describing.described, context.caller.visible
        )
        if job is None:
            return JSONResponse(PartReadiness(ready=True).model_dump(mode="json"))
        response.headers["Location"] = f"{context.prefix}/jobs/{job.job_id}"
        shown = as_seen(job, context.caller)
        return JobView.of(
            shown,
            context.link,
            names.paths_of_job(shown),
            artifacts=names.artifact_paths_of_job(shown),
            now=await dependencies.jobs.now(),
            place=await dependencies.queue.place(job),
            admin=context.is_admin,
        )

    return router


def _is_theirs(session: Reservation, context: RequestContext) -> bool:
    return context.is_admin or session.owner == context.requester
