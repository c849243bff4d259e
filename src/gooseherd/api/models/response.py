"""What all responses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

Link = Callable[[str], str]
"""From a path of this API to an absolute URL."""

StatusWord = Literal["pending", "running", "finalizing", "completed", "failed", "cancelled"]
PartWord = Literal[
    "data",
    "index",
    "density",
    "gzi",
    "annotation",
    "annotation_index",
    "second_end",
    "second_end_index",
    "names",
    "names_index",
]
"""domain.artifact.Kind."""
PriorityWord = Literal["interactive", "normal", "batch"]


class ResponseModel(BaseModel):
    """The body of a response; members may be added, so readers ignore what they do not know."""

    model_config = ConfigDict(extra="forbid")
