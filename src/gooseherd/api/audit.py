"""The audit log: who did what to which, with what outcome. JSON lines where GOOSEHERD_LOG_JSON is set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from gooseherd.api.allowances import Allowance
from gooseherd.api.request_context import RequestContext
from gooseherd.domain.caller import Credential
from gooseherd.domain.errors import (
    AdminKeyRequired,
    KeyRequired,
    LimitReached,
    NoVisibleFile,
    ScopeRequired,
)

_log = logging.getLogger("gooseherd.audit")

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DENIED_LOGGED: Final = 10
_WINDOW_SECONDS: Final = 60.0


class Audit:
    """Writes it. Of one address that is denied again and again so many a minute are written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._denied = Allowance("lines of the audit log", _DENIED_LOGGED, _WINDOW_SECONDS, clock)

    def note(self, context: RequestContext, status: int, error: BaseException | None) -> None:
        """A request has ended with that status; `error`: what refused it, if anything did."""
        if _is_denial(error):
            try:
                self._denied.take(context.network)
            except LimitReached:
                return
            _log.warning("denied", extra=_fields(context, status))
        elif context.caller.is_anonymous:
            return
        elif context.method not in _READING:
            admin = context.caller.credential is Credential.ADMIN_KEY
            _log.info("admin call" if admin else "call with a key", extra=_fields(context, status))
        elif context.affected:
            _log.info("submitted", extra=_fields(context, status))


def _is_denial(error: BaseException | None) -> bool:
    if isinstance(error, NoVisibleFile):
        return error.hidden
    return isinstance(error, AdminKeyRequired | KeyRequired | ScopeRequired)


def _fields(context: RequestContext, status: int) -> dict[str, object]:
    """Neither the query, which may have a token, nor any secret."""
    return {
        "request_id": context.request_id,
        "address": context.address,
        "credential": context.caller.credential.value,
        "who": context.caller.name,
        "owner": context.caller.owner or "",
        "method": context.method,
        "path": context.path,
        "affected": context.affected,
        "status": status or 499,
    }
