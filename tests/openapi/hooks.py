"""JSON lines and pieces of uploads, as schemathesis sends them."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


@schemathesis.serializer("application/x-ndjson")
def lines(ctx: Any, value: Any) -> bytes:
    return _as_bytes(value)


@schemathesis.serializer("application/offset+octet-stream")
def piece(ctx: Any, value: Any) -> bytes:
    return _as_bytes(value)
