"""Which named reason an attempt ends with, for every exception that can reach its top."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from gooseherd.domain.errors import (
    AccessDenied,
    CacheUnavailable,
    InvalidInput,
    Misconfigured,
    NotFound,
    OutboundRefused,
    UnsupportedFormat,
    UpstreamUnavailable,
)
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.processing import StepFailed

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
EXIT_NO_ROOM: Final = 74  # sysexits.h, EX_IOERR
"""Of an attempt that could not write its last event: its journal is on that disk."""
FULL_DISK: Final = Failure(Reason.OUT_OF_DISK, "no space left for the attempt's files")

_BY_TYPE: tuple[tuple[type[Exception], Reason], ...] = (
    (NotFound, Reason.SOURCE_MISSING),
    (AccessDenied, Reason.SOURCE_FORBIDDEN),
    (OutboundRefused, Reason.MISCONFIGURED),
    (UpstreamUnavailable, Reason.SOURCE_UNAVAILABLE),
    (UnsupportedFormat, Reason.UNSUPPORTED_FORMAT),
    (StorageRefused, Reason.STORE_UNAVAILABLE),
    (Misconfigured, Reason.MISCONFIGURED),
    (InvalidInput, Reason.MISCONFIGURED),
    (CacheUnavailable, Reason.STORE_UNAVAILABLE),
)


def lacks_room(error: BaseException) -> bool:
    """Whether a full disk is the cause."""
    return any(isinstance(cause, OSError) and cause.errno in _NO_ROOM for cause in _causes(error))


def failure_of(error: BaseException) -> Failure:
    """The failure to report. Of an unexpected error only the type's name is kept: its text may hold paths."""
    if isinstance(error, StepFailed):
        return error.failure
    if lacks_room(error):
        return FULL_DISK
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        return Failure(Reason.OUT_OF_MEMORY, "the attempt ran out of memory")
    for kind, reason in _BY_TYPE:
        if isinstance(error, kind):
            return Failure(reason, str(error))
    return Failure(Reason.TOOL_FAILED, f"unexpected {type(error).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
