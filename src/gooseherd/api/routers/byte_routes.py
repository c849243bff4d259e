"""The routes that api/delivery.py serves, as OpenAPI shows them; requests never come this far."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Response

from gooseherd.api.models.jobs import Accepted
from gooseherd.api.models.response import PartWord
from gooseherd.api.route_parameters import problems

_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_TEXT: Final = {"schema": {"type": "string"}}
_PART_HEADERS: Final = {
    "ETag": {**_TEXT, "description": "sha256 of the bytes, strong", "example": '"9f86d081884c7d65…"'},
    "Accept-Ranges": {**_TEXT, "example": "bytes"},
    "Content-Disposition": {**_TEXT, "example": 'attachment; filename="reads.bam"'},
    "Cache-Control": {**_TEXT, "example": "public, max-age=300, no-transform"},
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The whole part", "content": _BYTES, "headers": _PART_HEADERS},
    202: {
        "description": "It is being made; follow Location, or ask again after Retry-After seconds",
        "model": Accepted,
        "headers": {
            "Location": {**_TEXT, "example": "/jobs/5f0c2a9be1a94bb0"},
            "Retry-After": {"schema": {"type": "integer"}, "example": 2},
            "Preference-Applied": {**_TEXT, "example": "wait=30"},
        },
        "content": {
            "application/json": {
                "example": {
                    "job_id": "5f0c2a9be1a94bb0",
                    "status": "running",
                    "percent": 41.5,
                    "position": None,
                    "waiting": None,
                    "job_url": "https://herd.example.org/jobs/5f0c2a9be1a94bb0",
                    "events_url": "https://herd.example.org/jobs/5f0c2a9be1a94bb0/events",
                    "data_url": "https://herd.example.org/files/4dn/4dnfi1/reads.bam",
                    "index_url": "https://herd.example.org/files/4dn/4dnfi1/reads.bam.bai",
                }
            }
        },
    },
    206: {
        "description": "The ranges asked for; several come as multipart/byteranges",
        "content": _BYTES,
        "headers": {**_PART_HEADERS, "Content-Range": {**_TEXT, "example": "bytes 0-65535/21300000"}},
    },
    304: {"description": "Unchanged; also to a ranged request"},
    **problems(400, 401, 403, 404, 410, 412, 416, 422, 429, 502, 503),
}


def documented_routes() -> APIRouter:
    """GET and HEAD of /data, /index and /density, for the schema."""
    router = APIRouter(tags=["artifacts"])
    kinds = (
        ("data", "the data"),
        ("index", "the index into the data"),
        ("density", "how many records lie where, a bigWig"),
    )
    for kind, what in kinds:
        for method in ("GET", "HEAD"):
            router.add_api_route(
                f"/{kind}/{{dcc}}/{{local_id}}",
                _served_by_delivery,
                methods=[method],
                operation_id=f"{method.lower()}_{kind}",
                summary=f"Bytes of {what}" if method == "GET" else f"Headers of {what}",
                description=(
                    f"Byte ranges of {what}, made first if need be."
                    if method == "GET"
                    else "As GET without the body; never starts work (404 on a miss)."
                ),
                responses=_RESPONSES
                if method == "GET"
                else {k: v for k, v in _RESPONSES.items() if k not in (202, 206, 416)},
                response_class=Response,
            )
    return router


async def _served_by_delivery(
    dcc: str,
    local_id: str,
    raw: Annotated[
        bool, Query(description="Upstream's own bytes (index: its own sidecar only; density: none).")
    ] = False,
    wait: Annotated[
        float, Query(ge=0, description="Seconds to hold the request until the bytes are there.")
    ] = 0,
    retry: Annotated[
        bool, Query(description="Start over although the last job failed a moment ago.")
    ] = False,
    priority: Annotated[Literal["interactive", "normal", "batch"], Query()] = "interactive",
    part: Annotated[
        PartWord | None, Query(description="Of /data: this part of the artifact instead.")
    ] = None,
    range_: Annotated[str | None, Header(alias="Range", examples=["bytes=0-65535"])] = None,
    if_range: Annotated[str | None, Header(description="Strong ETags only.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    prefer: Annotated[str | None, Header(examples=["wait=30"])] = None,
) -> Response:
    raise AssertionError("api/delivery.py serves these")
