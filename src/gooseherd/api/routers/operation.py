"""For operators: liveness, readiness, metrics, and the list of entry points at /."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gooseherd import telemetry
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.operation import Health, ServiceReadiness
from gooseherd.api.openapi import routes_under
from gooseherd.api.route_parameters import CurrentRequest
from gooseherd.domain.errors import GooseherdError

_log = logging.getLogger(__name__)

_READINESS_SECONDS = 5.0
"""A load balancer's probe gives up about then."""
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#3a6ea5" d="M2 11c3 4 9 4 11 0 '
    '1-2 0-4-2-4-2 0-2-2-1-3s0-3-2-3-3 2-2 4c0 2-1 3-3 3-1 0-2 1-1 3z"/></svg>'
)
"""A goose, small enough to stand here."""
_ENTRY_POINTS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "files": "/files",
    "jobs": "/jobs",
    "batches": "/batches",
    "queue": "/queue",
    "search": "/search",
    "service_info": "/service-info",
    "health": "/healthz",
    "ready": "/readyz",
    "metrics": "/metrics",
}


def operation_routes(dependencies: Dependencies) -> APIRouter:
    """/healthz, /readyz, /metrics and /."""
    router = routes_under("operation")

    @router.get("/healthz")
    async def healthz() -> Health:
        """The process answers; says nothing of its dependencies."""
        return Health(status="ok", version=dependencies.version, build=dependencies.build)

    @router.get(
        "/readyz",
        response_model=ServiceReadiness,
        responses={503: {"model": ServiceReadiness, "description": "A dependency does not answer"}},
    )
    async def readyz() -> JSONResponse:
        """Each dependency: "ok", "off: …" when it is switched off on purpose, or its problem."""
        states = await _dependencies(dependencies)
        ready = all(state == "ok" or state.startswith(("off: ", "degraded: ")) for state in states.values())
        body = ServiceReadiness(status="ok" if ready else "unready", dependencies=dict(states))
        return JSONResponse(
            body.model_dump(), status_code=200 if ready else 503, headers={"Cache-Control": "no-store"}
        )

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters and gauges for Prometheus. Those of the queue stay as they were when the store is away."""
        try:
            async with asyncio.timeout(_READINESS_SECONDS):
                await dependencies.refresh_metrics()
                await dependencies.queue.refresh_metrics()
            telemetry.STORE_UP.set(1)
        except (GooseherdError, TimeoutError) as error:
            telemetry.STORE_UP.set(0)
            _log.warning("the queue could not be read for its metrics", extra={"error": str(error)})
        return Response(generate_latest(telemetry.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(_ICON, headers={"Content-Type": "image/svg+xml", "Cache-Control": "max-age=86400"})

    @router.get("/", include_in_schema=False)
    async def front(context: CurrentRequest) -> Response:
        """For programs; browsers get the page (static_files)."""
        links = {name: context.link(path) for name, path in _ENTRY_POINTS.items()}
        return JSONResponse(
            {"name": "gooseherd", "version": dependencies.version, **links}, headers={"Vary": "Accept"}
        )

    return router


async def _dependencies(dependencies: Dependencies) -> Mapping[str, str]:
    try:
        async with asyncio.timeout(_READINESS_SECONDS):
            return await dependencies.readiness()
    except Exception as error:
        # A probe must get an answer: whatever went wrong, this process is not ready.
        _log.warning("the readiness check failed", exc_info=error)
        return {"readiness": "could not be checked"}
