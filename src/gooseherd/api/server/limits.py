"""What one client, and all of them together, may ask of the server before a route sees anything."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

ESSENTIAL_CONNECTIONS: Final = 16
"""Connections beyond the limit that are still read: liveness, readiness, metrics and the admin key pass."""
_RESERVED_DESCRIPTORS: Final = 256
"""For the store, S3, workers' pipes and the log, which need some also while clients hold the rest."""
_DESCRIPTORS_PER_CONNECTION: Final = 2
"""The socket, and what its response is read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bytes, lines, seconds and connections. The defaults and their reasons are those of `settings.py`."""

    request_line_bytes: int = 16 * 1024
    header_lines: int = 100
    header_bytes: int = 32 * 1024
    body_bytes: int = 2**30
    head_seconds: float = 20.0
    """For a request's line and headers, from its first byte; on a new connection from its start."""
    body_seconds: float = 30.0
    """For a body, and one second more for every `MIN_BODY_BYTES_A_SECOND` that came."""
    idle_seconds: float = 75.0
    """Between a response and the next request."""
    unread_seconds: float = 60.0
    """For a response of which the client takes nothing."""
    connections: int = 4096
    connections_per_network: int = 512
    """Of one address, or one /64 of IPv6. 0: not limited, because a proxy's address is everybody's."""


MIN_BODY_BYTES_A_SECOND: Final = 500
DROPPED_SECONDS: Final = 30.0
"""For the rest of a body whose request was answered without it: a client that sends it first, and reads then,
finds its answer, and one that sends it slowly holds its connection no longer than that."""


def connections_within_descriptors(wanted: int, soft_limit: int | None = None) -> int:
    """`wanted`, or what the process's limit of open files leaves room for if that is fewer."""
    soft = soft_limit if soft_limit is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return wanted
    room = (soft - reserved_descriptors(soft)) // _DESCRIPTORS_PER_CONNECTION - ESSENTIAL_CONNECTIONS
    return max(min(wanted, room), 1)


def reserved_descriptors(soft_limit: int) -> int:
    """How many descriptors connections leave alone."""
    return min(_RESERVED_DESCRIPTORS, soft_limit // 4)
