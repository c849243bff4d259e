"""The audit log: who did what to which, with what outcome. JSON lines where GOOSEHERD_LOG_JSON is set."""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

from gooseherd.api.allowances import Allowance
from gooseherd.api.catalog import Catalog
from gooseherd.api.request_context import RequestContext
from gooseherd.domain.caller import Credential
from gooseherd.domain.errors import (
    AdminKeyRequired,
    GooseherdError,
    KeyRequired,
    LimitReached,
    NoVisibleFile,
    ScopeRequired,
)
from gooseherd.domain.source import AccessLevel, parse_dcc, parse_local_id

_log = logging.getLogger("gooseherd.audit")

_REFUSED: Final = 400
_LOGGED_READS: Final = frozenset({"GET", "HEAD"})
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DENIED_LOGGED: Final = 10
_WINDOW_SECONDS: Final = 60.0
_READ_AGAIN_SECONDS: Final = 3600.0
"""A browser's view asks hundreds of ranges: of each key and entry one read in so long is written."""
_REMEMBERED: Final = 20_000
"""Reads; of more than these some are written again within the hour."""
_ADMIN_PAGES: Final = frozenset({"keys", "fleet", "usage"})
_OF_ENTRY: Final = re.compile(
    r"/(?:data|index|density|contigs|files|htsget/[^/]+)/(?P<dcc>[^/]+)/(?P<local_id>[^/]+)(?:/.*)?"
)
_OF_MANY: Final = frozenset({"files", "search", "jobs", "batches", "sessions", "events"})
"""Lists, and what names entries of a caller: written as one."""


class Audit:
    """Writes it. Of one address that is denied again and again so many a minute are written."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._clock = clock
        self._read_until: OrderedDict[tuple[str, str], float] = OrderedDict()
        """By caller and what was read, until when no more is written of it."""
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
        elif status < _REFUSED and context.method in _LOGGED_READS:
            self._note_read(context, status)

    def _note_read(self, context: RequestContext, status: int) -> None:
        """Each read that the admin alone may do; of what is not public the first within an hour."""
        page = context.path.split("/", 2)[1]
        if context.used_admin or (context.is_admin and page in _ADMIN_PAGES):
            _log.info("admin read", extra=_fields(context, status))
            return
        if context.caller.visible.public_only or (what := self._what_is_read(context, page)) is None:
            return
        now, read = self._clock(), (context.caller.name, what)
        if self._read_until.get(read, now) > now:
            return
        self._read_until[read] = now + _READ_AGAIN_SECONDS
        self._read_until.move_to_end(read)
        if len(self._read_until) > _REMEMBERED:
            self._read_until.popitem(last=False)
        _log.info("read", extra=_fields(context, status) | {"affected": what})

    def _what_is_read(self, context: RequestContext, page: str) -> str | None:
        """The entry, or the list; None: nothing that is not everybody's."""
        match = _OF_ENTRY.fullmatch(context.path)
        if match is not None:
            dcc, local_id = match["dcc"], match["local_id"]
        elif page == "artifacts":
            of = parse_qs(context.query.decode("latin-1"), max_num_fields=30).get("of", [""])[-1]
            dcc, _, local_id = of.partition("/")
        else:
            return f"/{page}" if page in _OF_MANY else None
        try:
            ids = parse_dcc(dcc), parse_local_id(local_id)
        except GooseherdError:
            return f"/{page}"  # /files/… that is no entry
        entry = self._catalog.remembered(ids)
        # Of one that is not remembered nobody knows: then it is written.
        public = entry is not None and entry.access_level is AccessLevel.PUBLIC
        return None if public else f"{ids[0]}/{ids[1]}"


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
