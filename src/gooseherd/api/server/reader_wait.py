"""The part of one connection in the slow responses of its requester (api/slow_responses.py)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from gooseherd import telemetry
from gooseherd.api.addresses import network_of
from gooseherd.api.request_context import SCOPE_KEY, RequestContext, client_address
from gooseherd.api.slow_responses import ADMIN, SlowResponses
from gooseherd.domain.job import Requester

if TYPE_CHECKING:
    from gooseherd.api.server.protocol import LimitedProtocol

_FORWARDED: Final = re.compile(rb"\r\nx-forwarded-for:[ \t]*([^\r\n]*)", re.IGNORECASE)


class ReaderWait:
    """From the moment when a response has to wait for its reader until it is written."""

    __slots__ = ("_is_cut_off", "_protocol", "_requester", "_responses")

    def __init__(self, protocol: LimitedProtocol, responses: SlowResponses) -> None:
        self._protocol = protocol
        self._responses = responses
        self._requester: Requester | None = None
        """Among whose it is counted."""
        self._is_cut_off = False

    def begin(self) -> None:
        """Count the response under way, once. One too many is cut off, and the client sees that."""
        if self._requester is not None or self._is_cut_off:
            return
        self._requester = self._responses.begin(self._whose())
        if self._requester is None:
            self._is_cut_off = True
            telemetry.CONNECTIONS_ENDED.labels("slow").inc()
            # Later: the transport is still writing.
            self._protocol.loop.call_soon(self._protocol.transport.abort)

    def end_if_written(self) -> None:
        """The kernel has what was written; if that is all of the response, its reader is awaited no more."""
        exchange = self._protocol.answering
        if not self._protocol.flow.write_paused and (exchange is None or exchange.response_complete):
            self.end()

    def end(self) -> None:
        """It is over, or was never counted."""
        if self._requester is not None:
            requester, self._requester = self._requester, None
            self._responses.end(requester)

    def close(self) -> None:
        """The connection is lost: nothing is counted on it any more."""
        self.end()
        self._is_cut_off = True

    def _whose(self) -> Requester:
        protocol = self._protocol
        exchange, scope = protocol.answering, cast("dict[str, Any]", protocol.scope)
        if exchange is not None and not exchange.response_complete:
            scope = cast("dict[str, Any]", exchange.scope)
        elif protocol.request_cut is not None:
            # Answered at once, perhaps unparsed.
            return self._of_address(b", ".join(_FORWARDED.findall(protocol.request_cut[0])))
        context: RequestContext | None = scope.get(SCOPE_KEY)
        if context is not None:
            return ADMIN if context.is_admin else context.requester
        headers = scope.get("headers", ())
        return self._of_address(b", ".join(value for name, value in headers if name == b"x-forwarded-for"))

    def _of_address(self, forwarded_for: bytes) -> Requester:
        """Whoever is answered before anybody asks who it is has shown no key."""
        client = self._protocol.client
        peer = client[0] if client else "unknown"
        proxies = self._responses.trusted_proxies
        return Requester(network_of(client_address(peer, forwarded_for.decode("latin-1"), proxies)))
