"""What htsget's and GA4GH's service-info say, and the routes of api/htsget/route.py as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import JSONResponse

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.htsget.refusals import MEDIA_TYPE
from gooseherd.api.htsget.ticket_request import Datatype
from gooseherd.api.models.htsget import (
    Organization,
    ServiceInfo,
    ServiceType,
    TicketBody,
    TicketView,
)
from gooseherd.api.models.jobs import Accepted
from gooseherd.api.openapi import routes_under
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest

HTSGET_VERSION: Final = "1.3.0"
_FORMATS: Final[dict[Datatype, list[str]]] = {"reads": ["BAM", "CRAM"], "variants": ["VCF"]}
_ABOUT: Final[dict[Datatype, str]] = {
    "reads": "Reads of SAM, BAM and CRAM files, coordinate-sorted, by htsget",
    "variants": "Variants of VCF and BCF files, sorted, by htsget",
}
_DESCRIPTION: Final = (
    "The ticket of a file's records: their bytes are read by its URLs, in this order. What is not made yet "
    "is made first: the request is held, redirected to itself (307), at last refused with 503, Retry-After; "
    "with `?wait=0` or `Prefer: respond-async` it is answered 202 with the job."
)


def _content(name: str) -> dict[str, Any]:
    return {MEDIA_TYPE.partition(";")[0]: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The ticket", "model": TicketView, "content": _content("TicketView")},
    202: {
        "description": "It is being made; follow Location, or ask again after Retry-After seconds",
        "model": Accepted,
    },
    307: {"description": "Still being made, ask again at Location"},
    **{
        status: {"description": words, "content": _content("HtsgetRefusalView")}
        for status, words in {
            400: "InvalidInput, InvalidRange or UnsupportedFormat",
            401: "InvalidAuthentication",
            403: "PermissionDenied",
            404: "NotFound: no such file, or sequence; or it could not be made",
            413: "PayloadTooLarge",
            429: "A limit is reached; Retry-After says when to ask again",
            503: "It is not ready, or cannot be made now; Retry-After says when to ask again",
        }.items()
    },
}


def htsget_routes(dependencies: Dependencies) -> APIRouter:
    """/service-info and what is below /htsget."""
    router = routes_under("htsget")

    @router.get("/service-info")
    async def service_info(context: CurrentRequest) -> ServiceInfo:
        """What this service is, as GA4GH's registries ask (service-info 1.0)."""
        return ServiceInfo(
            **_described(dependencies, context, "gooseherd", "Genome files made ready for browsers"),
            type=ServiceType(group="gooseherd", artifact="gooseherd", version=dependencies.version),
        )

    @router.get("/htsget/{datatype}/service-info", response_class=JSONResponse)
    async def htsget_service_info(context: CurrentRequest, datatype: Datatype) -> ServiceInfo:
        """What the htsget service of reads, or that of variants, can do."""
        return ServiceInfo(
            **_described(dependencies, context, f"htsget-{datatype}", _ABOUT[datatype]),
            type=ServiceType(group="org.ga4gh", artifact="htsget", version=HTSGET_VERSION),
            htsget={
                "datatype": datatype,
                "formats": _FORMATS[datatype],
                "fieldsParameterEffective": False,
                "tagsParametersEffective": False,
            },
        )

    for method, called in (("GET", _by_query), ("HEAD", _by_query), ("POST", _by_body)):
        router.add_api_route(
            "/htsget/{datatype}/{dcc}/{local_id}",
            called,
            methods=[method],
            operation_id=f"{method.lower()}_htsget_ticket",
            summary={
                "GET": "A ticket of htsget",
                "HEAD": "Headers of a ticket of htsget",
                "POST": "A ticket of htsget for several regions",
            }[method],
            description=_DESCRIPTION if method != "HEAD" else "As GET without the body; never starts work.",
            responses=_RESPONSES,
            response_class=Response,
        )
    return router


def _described(
    dependencies: Dependencies, context: RequestContext, what: str, description: str
) -> dict[str, Any]:
    address = context.address_of("/")
    host = urlsplit(address).hostname or "localhost"
    # An address is no name to be turned round.
    name = host if host.replace(".", "").isdigit() or ":" in host else ".".join(reversed(host.split(".")))
    return {
        "id": f"{name}.{what}",
        "name": what,
        "description": description,
        "organization": Organization(
            name=dependencies.organization_name or host, url=dependencies.organization_url or address
        ),
        "documentationUrl": context.address_of("/docs"),
        "version": dependencies.version,
    }


async def _by_query(
    datatype: Datatype,
    dcc: str,
    local_id: str,
    format: Annotated[  # noqa: A002 - the specification's name
        str | None,
        Query(description="BAM (default) or CRAM of reads, VCF of variants, as the file is served."),
    ] = None,
    class_: Annotated[Literal["header"] | None, Query(alias="class", description="The header alone.")] = None,
    reference_name: Annotated[
        str | None, Query(alias="referenceName", description="A sequence; of reads `*`: without a place.")
    ] = None,
    start: Annotated[int | None, Query(ge=0, le=2**32 - 1, description="From 0, the first base.")] = None,
    end: Annotated[int | None, Query(ge=0, le=2**32 - 1, description="Behind the last base.")] = None,
    fields: Annotated[str | None, Query(description="Checked; records come whole.")] = None,
    tags: Annotated[str | None, Query(description="Checked; records come whole.")] = None,
    notags: Annotated[str | None, Query(description="Checked; records come whole.")] = None,
) -> Response:
    raise AssertionError("api/htsget/route.py serves these")


async def _by_body(
    datatype: Datatype, dcc: str, local_id: str, body: Annotated[TicketBody | None, Body()] = None
) -> Response:
    raise AssertionError("api/htsget/route.py serves these")
