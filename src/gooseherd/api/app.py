"""The application: the edge middleware, behind it our pages, byte delivery, and the framework last."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from gooseherd.api.allowances import byte_budget
from gooseherd.api.callers import Callers
from gooseherd.api.catalog import Catalog
from gooseherd.api.delivery import Delivery
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing
from gooseherd.api.event_streams import EventStreams
from gooseherd.api.failed_requests import log_failed_request
from gooseherd.api.head import HeadByGet
from gooseherd.api.holding import Client, client_of
from gooseherd.api.htsget.refusals import PREFIX, as_htsget
from gooseherd.api.htsget.route import HtsgetRoute
from gooseherd.api.methods import Methods, routes_of
from gooseherd.api.middleware import EdgeMiddleware, problem_for
from gooseherd.api.names import Names
from gooseherd.api.openapi import DescribedFramework, operation_id
from gooseherd.api.origins import Origins
from gooseherd.api.pages import problem_page
from gooseherd.api.problems import (
    ERROR_STATUS,
    InvalidRequest,
    MethodNotAllowed,
    Problem,
    ProblemType,
    render,
)
from gooseherd.api.published_parts import PublishedFirst, PublishedParts
from gooseherd.api.request_context import RequestContext, context_of
from gooseherd.api.retries import Retries
from gooseherd.api.routers.artifacts import artifact_routes
from gooseherd.api.routers.batches import batch_routes
from gooseherd.api.routers.byte_routes import (
    documented_artifacts,
    documented_names,
    documented_routes,
)
from gooseherd.api.routers.events import event_routes
from gooseherd.api.routers.files import file_routes
from gooseherd.api.routers.fleet import fleet_routes
from gooseherd.api.routers.htsget import htsget_routes
from gooseherd.api.routers.jobs import job_routes
from gooseherd.api.routers.keys import key_routes
from gooseherd.api.routers.names import name_routes
from gooseherd.api.routers.operation import operation_routes
from gooseherd.api.routers.search import search_routes
from gooseherd.api.routers.sessions import session_routes
from gooseherd.api.routers.tracks import track_routes
from gooseherd.api.routers.uploads import upload_routes
from gooseherd.api.routers.usage import usage_routes
from gooseherd.api.static_files import StaticFiles
from gooseherd.domain.errors import GooseherdError, NotFound

__all__ = ["ERROR_STATUS", "Dependencies", "create_app"]


_DESCRIPTION = """Sorted, indexed, byte-range-ready genome files on demand.

The first GET of a file starts its workflow and answers 202 with a job to follow; later ones answer byte
ranges. Errors are RFC 9457 problem+json with a stable `type`, and say whether a retry helps."""


def create_app(dependencies: Dependencies) -> ASGIApp:
    """The whole API as one ASGI application. Starts nothing and needs no lifespan."""
    callers = Callers(dependencies)
    catalog = dependencies.catalog or Catalog(dependencies.files, dependencies.clock)
    names = Names(dependencies.submissions)
    streams = EventStreams(dependencies)
    describing, retries = Describing(catalog, dependencies.sources), Retries(dependencies)
    routers = (
        documented_routes(),
        documented_artifacts(),
        artifact_routes(dependencies, catalog, names),
        job_routes(dependencies, names, streams),
        event_routes(dependencies, catalog, streams),
        batch_routes(dependencies, catalog, names, streams),
        session_routes(dependencies, catalog, names),
        file_routes(dependencies, catalog, names),
        upload_routes(dependencies),
        name_routes(dependencies, catalog, names),
        track_routes(dependencies, catalog, names, callers),
        htsget_routes(dependencies),
        search_routes(dependencies, catalog, describing, retries),
        fleet_routes(dependencies),
        usage_routes(dependencies),
        key_routes(dependencies, catalog, names, callers),
        operation_routes(dependencies),
        documented_names(),
    )
    framework = DescribedFramework(
        routers,
        title="gooseherd",
        version=dependencies.version,
        description=_DESCRIPTION,
        docs_url=None,  # static_files serves it
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    methods = Methods(routes_of(routers))
    _add_error_handlers(framework, methods)
    origins = Origins(dependencies.origins, catalog)
    budget = byte_budget(dependencies.bytes_per_minute, dependencies.clock)
    parts = PublishedParts(dependencies, catalog, origins, budget)
    tickets = HtsgetRoute(HeadByGet(framework), dependencies, catalog, names, callers, describing, retries)
    behind = Delivery(tickets, dependencies, catalog, names, parts, describing, retries)
    inside = StaticFiles(behind, delivery=dependencies.delivery)
    edge = EdgeMiddleware(inside, dependencies, origins, budget, callers, methods, catalog)
    return PublishedFirst(parts, edge)


def _add_error_handlers(framework: FastAPI, methods: Methods) -> None:
    """Every error behind the routes becomes a problem+json of one shape."""

    async def known(request: Request, error: Exception) -> Response:
        context = context_of(request.scope)
        context.error = error
        log_failed_request(error, context, request.method)
        return _response(request, problem_for(error, context))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        context = context_of(request.scope)
        if error.status_code == 404:
            return await known(request, NotFound("page", context.path))
        if error.status_code == 405:
            return await known(request, MethodNotAllowed(methods.allowed(context.path)))
        return _response(request, _plain(error.status_code, str(error.detail), context))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        context = context_of(request.scope)
        found = [
            {"field": ".".join(map(str, item["loc"][1:])) or str(item["loc"][0]), "problem": item["msg"]}
            for item in error.errors()
        ]
        first = found[0] if found else {"field": "request", "problem": "cannot be used"}
        refusal = InvalidRequest(first["field"], first["problem"], tuple(found))
        return _response(request, problem_for(refusal, context))

    async def unforeseen(request: Request, error: Exception) -> Response:
        context = context_of(request.scope)
        log_failed_request(error, context, request.method)
        return _response(request, problem_for(error, context))

    framework.add_exception_handler(Exception, unforeseen)
    framework.add_exception_handler(GooseherdError, known)
    framework.add_exception_handler(HTTPException, refused)
    framework.add_exception_handler(RequestValidationError, invalid)


def _plain(status: int, detail: str, context: RequestContext) -> Problem:
    """A problem for a bare status (the framework's own refusals)."""
    phrase = HTTPStatus(status).phrase
    return render(
        ProblemType(status, phrase.lower().replace(" ", "-"), phrase),
        detail,
        again=False,
        extra={},
        headers=[],
        instance=context.path,
        request_id=context.request_id,
    )


def _response(request: Request, rendered: Problem) -> Response:
    context = context_of(request.scope)
    if context.path.startswith(PREFIX):
        rendered = as_htsget(rendered, context.error)
    elif client_of(context.headers) is Client.NAVIGATION:
        rendered = problem_page(rendered)
    response = Response(rendered.body, status_code=rendered.status)
    response.raw_headers = rendered.headers
    return response
