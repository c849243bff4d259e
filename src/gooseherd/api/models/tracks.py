"""What to copy into a viewer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gooseherd.api.models.response import ResponseModel

ViewerWord = Literal["gosling", "igv", "jbrowse", "ucsc", "shell", "python"]


class TrackView(ResponseModel):
    """Files as one viewer wants to be told of them."""

    viewer: ViewerWord
    text: str = Field(description="To copy: JSON, a hub, commands or a program.")
    spec: dict[str, Any] | None = Field(description="The JSON as such, for viewers that read JSON.")
    notes: list[str] = Field(description="What that viewer does not draw, or does not know yet.")
