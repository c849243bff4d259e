"""What a process makes once and the tests would make for each of them anew: a third of their time.

Nothing of it is ours. A service makes its routes, and a program its client, once.
"""

from __future__ import annotations

import functools
from typing import Any

import fastapi._compat.v2
import httpx._transports.default
from pydantic import TypeAdapter

_adapters: dict[tuple[str, str], Any] = {}


def _type_adapter(annotation: Any, *, config: Any = None) -> Any:
    """Of parameters and bodies of routes, which each application analyses (two milliseconds each)."""
    key = repr(annotation), repr(config)
    if key not in _adapters:
        _adapters[key] = TypeAdapter(annotation, config=config)
    return _adapters[key]


def make_once() -> None:
    """From here on in this process."""
    vars(fastapi._compat.v2)["TypeAdapter"] = _type_adapter
    # The certificates of all authorities, which each client loads.
    transports = vars(httpx._transports.default)
    transports["create_ssl_context"] = functools.cache(transports["create_ssl_context"])
