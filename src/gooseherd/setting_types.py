"""What settings are read from: sizes, lists, switches, spans of time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from gooseherd import environment
from gooseherd.domain.quantities import size_in_bytes


def _size(value: object) -> object:
    return size_in_bytes(value) if isinstance(value, str) else value


def _split(separator: str) -> BeforeValidator:
    def split(value: object) -> object:
        return environment.words(value, separator) if isinstance(value, str) else value

    return BeforeValidator(split)


def _flag(value: object) -> object:
    return environment.switch(value) if isinstance(value, str) else value


def _blank_is_unset(value: object) -> object:
    return None if value == "" else value


def _enabled_or_disabled(value: object) -> object:
    """ECS's own words for this setting, as they stand in a service's network configuration."""
    word = value.strip().lower() if isinstance(value, str) else value
    return {"enabled": True, "disabled": False}.get(word, word) if isinstance(word, str) else word


Size = Annotated[int, BeforeValidator(_size)]
Cap = Annotated[int, BeforeValidator(_size), AfterValidator(environment.checked_cap)]
Words = Annotated[tuple[str, ...], NoDecode, _split(",")]
Paths = Annotated[tuple[Path, ...], NoDecode, _split(os.pathsep)]
AbsolutePaths = Annotated[Paths, AfterValidator(environment.absolute)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Switch = Annotated[bool, BeforeValidator(_enabled_or_disabled)]
Text = Annotated[str | None, BeforeValidator(_blank_is_unset)]
Folder = Annotated[Path | None, BeforeValidator(_blank_is_unset)]

LEAST_SPANS: Final = {
    "artifact_max_idle_seconds": (2 * 86400, "two days, or 0"),
    "artifact_unlisted_seconds": (2 * 86400, "two days, or 0"),
    "artifact_superseded_seconds": (30 * 86400, "30 days, or 0: a rollback needs what it made"),
    "workflow_keep_ended_seconds": (86400, "a day, or 0"),
}
"""What a setting must be at least, in seconds and in words, unless it is 0."""
