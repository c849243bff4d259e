"""Libraries that are imported when somebody wants what they make."""

from __future__ import annotations

import importlib
from typing import Any, Final

_EXTRAS: Final = {
    "anywidget": "notebook",
    "pandas": "frames",
    "polars": "frames",
    "pybigtools": "frames",
    "pyranges": "frames",
}


class LibraryMissing(ImportError):
    """What was asked for needs a library that is not installed; the message says how to get it."""


def library(name: str) -> Any:
    """The module.

    Raises:
        LibraryMissing: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = _EXTRAS.get(name)
        wanted = f"'gooseherd[{extra}]'" if extra else name
        raise LibraryMissing(f"this needs {name}: pip install {wanted} ({error})", name=name) from error
