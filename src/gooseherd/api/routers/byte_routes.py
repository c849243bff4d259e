"""The routes that api/delivery.py serves, as OpenAPI shows them; requests never come this far."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import Field, WithJsonSchema

from gooseherd.api.models.jobs import Accepted
from gooseherd.api.models.response import PartWord
from gooseherd.api.openapi import routes_under
from gooseherd.api.route_parameters import problems

_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_TEXT: Final = {"schema": {"type": "string"}}
_RANGE_SCHEMA: Final = {
    "type": "string",
    "pattern": r"^bytes=([0-9]+-[0-9]*|-[0-9]+)(, ?([0-9]+-[0-9]*|-[0-9]+))*$",
}
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
    307: {"description": "To a viewer: still being made, ask again at Location"},
    **problems(400, 401, 403, 404, 410, 412, 416, 422, 429, 502, 503),
}


@cache
def documented_routes() -> APIRouter:
    """GET and HEAD of /data, /index and /density, for the schema."""
    router = routes_under("artifacts")
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


@cache
def documented_artifacts() -> APIRouter:
    """GET and HEAD of parts by digest."""
    router = routes_under("artifacts")
    for method in ("GET", "HEAD"):
        router.add_api_route(
            "/artifacts/{digest}/{name}",
            _served_by_digest,
            methods=[method],
            operation_id=f"{method.lower()}_artifact",
            summary="Bytes that never change" if method == "GET" else "Headers of bytes that never change",
            description="A part by the sha256 of its bytes, for caches and redirects; jobs, files and "
            "batches list these addresses. The access rules are those of the entry. Starts nothing.",
            responses={code: answer for code, answer in _RESPONSES.items() if code != 202},
            response_class=Response,
        )
    return router


@cache
def documented_names() -> APIRouter:
    """GET and HEAD of parts by name; included after what else is in a file's folder."""
    router = routes_under("artifacts")
    for method in ("GET", "HEAD"):
        router.add_api_route(
            "/files/{dcc}/{local_id}/{name}",
            _served_by_name,
            methods=[method],
            operation_id=f"{method.lower()}_file_by_name",
            summary="Bytes of a part by its name" if method == "GET" else "Headers of a part by its name",
            description="As /data and /index, under names that tools know: reads.bam, reads.bam.bai. Held "
            "until it is made, then redirected to itself; never 202.",
            responses={code: answer for code, answer in _RESPONSES.items() if code != 202},
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
        Annotated[float, Field(ge=0, le=999_999_999)] | Literal["true"],
        Query(
            description="Seconds to hold the request until the bytes are there, `true` for as long as may be."
        ),
    ] = 0,
    retry: Annotated[
        bool, Query(description="Start over although the last job failed a moment ago.")
    ] = False,
    priority: Annotated[Literal["interactive", "normal", "batch"], Query()] = "interactive",
    part: Annotated[
        PartWord | None, Query(description="Of /data: this part of the artifact instead.")
    ] = None,
    range_: Annotated[
        str | None, WithJsonSchema(_RANGE_SCHEMA), Header(alias="Range", examples=["bytes=0-65535"])
    ] = None,
    if_range: Annotated[str | None, Header(description="Strong ETags only.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    prefer: Annotated[str | None, Header(examples=["wait=30"])] = None,
) -> Response:
    raise AssertionError("api/delivery.py serves these")


async def _served_by_name(
    dcc: str,
    local_id: str,
    name: str,
    range_: Annotated[
        str | None, WithJsonSchema(_RANGE_SCHEMA), Header(alias="Range", examples=["bytes=0-65535"])
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    raise AssertionError("api/delivery.py serves these")


async def _served_by_digest(
    digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    name: str,
    of: Annotated[str, Query(description="DCC/ID of an entry with this part.", examples=["4dn/4dnfi1"])],
    range_: Annotated[
        str | None, WithJsonSchema(_RANGE_SCHEMA), Header(alias="Range", examples=["bytes=0-65535"])
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    raise AssertionError("api/delivery.py serves these")
