"""How one variable of the environment is read: parsers and defaults that the API and its workers share.

Standard library only: settings.py builds on these with pydantic, whose import would take as long as all the
rest of a worker's start. Each parser raises ValueError with the words that follow "must be".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.quantities import LEAST_CAP, MOST_THREADS, SIZE_HINT, size_in_bytes

T = TypeVar("T")

REGION: Final = "us-east-1"
IDLE_TIMEOUT_SECONDS: Final = 60
MAX_LIFETIME_SECONDS: Final = 12 * 3600
WORKER_PORT: Final = 50051
WORKER_HEALTH_PORT: Final = 8080
"""Each task has an address of its own, so that ports can be the same for all."""
REFERENCES_MAX_BYTES: Final = 16 << 30
MIN_BYTES_PER_SECOND: Final = 16 << 10
SLOW_SECONDS: Final = 60.0

_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"", "0", "false", "f", "no", "n", "off"})


def read(environment: Mapping[str, str], name: str, parse: Callable[[str], T], default: T) -> T:
    """The value of a variable; `default` when it is unset or empty.

    Raises:
        Misconfigured: naming the variable and what it must be.
    """
    text = environment.get(name)
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise Misconfigured(name, str(error)) from None


def cap(text: str) -> int:
    """Bytes of memory for a tool to sort in: LEAST_CAP or more, or 0."""
    try:
        return checked_cap(size_in_bytes(text))
    except ValueError:
        raise ValueError(f"{SIZE_HINT}, at least {LEAST_CAP}, or 0") from None


def checked_cap(value: int) -> int:
    """Raises ValueError for a cap that no tool could work with."""
    if 0 < value < LEAST_CAP or value < 0:
        raise ValueError(f"at least {LEAST_CAP}, or 0")
    return value


def seconds(text: str) -> float:
    """A finite number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e9:
        raise ValueError("a number of seconds, 0 or more")
    return value


def threads(text: str) -> int:
    """Of one tool; 0: as many as fit the machine."""
    if not text.isdigit() or int(text) > MOST_THREADS:
        raise ValueError(f"a whole number from 1 to {MOST_THREADS}, or 0")
    return int(text)


def switch(text: str) -> bool:
    """True or false, in any of the words that pydantic takes."""
    word = text.strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise ValueError("true or false")
    return word in _TRUE


def absolute(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Raises ValueError for a relative one: workers have their own working folder."""
    if not all(path.is_absolute() for path in paths):
        raise ValueError(f"absolute paths, {os.pathsep!r} between")
    return paths


def words(text: str, separator: str = ",") -> tuple[str, ...]:
    """The words between the separators, without blanks around them; empty ones are left out."""
    return tuple(word for word in (part.strip() for part in text.split(separator)) if word)
