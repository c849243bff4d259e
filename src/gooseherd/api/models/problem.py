"""The body of an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ProblemView(BaseModel):
    """RFC 9457 problem details; an error's own members follow the standard ones."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/problems/not-found"], description="Stable; compare it, not the title.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    request_id: str
