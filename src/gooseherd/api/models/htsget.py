"""Tickets and refusals of htsget, and what GA4GH's service-info says of a service."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TicketUrl(BaseModel):
    """One block of data; all together, in this order, they are the file."""

    model_config = ConfigDict(populate_by_name=True)

    url: str = Field(description="`http(s):`, or `data:` with the bytes.")
    headers: dict[str, str] | None = Field(None, description="To be sent with the request for `url`.")
    kind: Literal["header", "body"] = Field(alias="class")


class Ticket(BaseModel):
    """Where the data is."""

    format: Literal["BAM", "CRAM", "VCF"]
    urls: list[TicketUrl]


class TicketView(BaseModel):
    """The response of htsget."""

    htsget: Ticket


class HtsgetError(BaseModel):
    """Why there is no ticket."""

    error: str = Field(
        description="InvalidAuthentication, PermissionDenied, NotFound, PayloadTooLarge, UnsupportedFormat, "
        "InvalidInput, InvalidRange, or in words what else it is."
    )
    message: str


class HtsgetRefusalView(BaseModel):
    """A refusal of htsget."""

    htsget: HtsgetError


class RegionBody(BaseModel):
    """One region; positions count from 0, `end` is not part of it."""

    referenceName: str = Field(min_length=1)  # noqa: N815 - the specification's name
    start: int | None = Field(None, ge=0, le=2**32 - 1)
    end: int | None = Field(None, ge=0, le=2**32 - 1)


class TicketBody(BaseModel):
    """What a POST asks for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    format: str | None = None
    kind: Literal["header"] | None = Field(None, alias="class")
    fields_wanted: list[str] | None = Field(None, alias="fields")
    tags: list[str] | None = None
    notags: list[str] | None = None
    regions: list[RegionBody] | None = Field(None, min_length=1, max_length=10_000)


class ServiceType(BaseModel):
    """Which API a service has."""

    group: str
    artifact: str
    version: str


class Organization(BaseModel):
    """Who runs it."""

    name: str
    url: str


class ServiceInfo(BaseModel):
    """GA4GH service-info 1.0."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="Unique: the host's name backwards, and what it is.")
    name: str
    type: ServiceType
    description: str
    organization: Organization
    documentationUrl: str  # noqa: N815 - the specification's name
    version: str
    htsget: dict[str, Any] | None = None
