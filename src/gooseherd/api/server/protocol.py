"""One connection: uvicorn's protocol, with limits on what arrives and on the time that it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from math import inf
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gooseherd import telemetry
from gooseherd.api.server.at_once import KNOWN, AtOnce
from gooseherd.api.server.connections import Connections
from gooseherd.api.server.exchange import Exchange, LastResponse
from gooseherd.api.server.framing import check_head, describe_target
from gooseherd.api.server.known_heads import Cut, KnownHeads, cut
from gooseherd.api.server.limits import DROPPED_SECONDS, MIN_BODY_BYTES_A_SECOND
from gooseherd.api.server.phases import RequestPhase
from gooseherd.api.server.reader_wait import ReaderWait
from gooseherd.api.server.refusals import (
    NOT_HTTP,
    WHILE_PARSING,
    BodyTooLarge,
    HeadersTooLarge,
    MalformedRequest,
    RequestTooSlow,
    SentAhead,
    TargetTooLong,
    TooManyConnections,
)
from gooseherd.api.server.scope import ESSENTIAL_KEY, REFUSAL_KEY, Answered
from gooseherd.api.server.sent_bytes import unacknowledged_bytes

_PIPELINED: Final = 32
"""Requests that may wait for their turn; a client that sends more gets the answers to these alone."""
_ESSENTIAL_HEAD_SECONDS: Final = 5.0
_LINGER_SECONDS: Final = 2.0
"""After a refusal: closing with unread bytes would make the kernel take back the answer (RFC 9112 §9.6)."""


class LimitedProtocol(HttpToolsProtocol):
    """Refuses by a response of its own, in its turn, and then reads nothing more.

    A response under way is never written into: a request that breaks while it is being answered ends
    with that answer, and one that cannot be parsed is refused after the answers to those before it.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        connections: Connections,
        network: str,
        essential: bool,
        answered: Answered | None = None,
        known_heads: KnownHeads | None = None,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # It asks whether its logger has any handler, and would write whole URLs, which may have a token.
        self.access_log = False
        self._registry = connections
        self._limits = connections.limits
        self._network: str | None = network
        self._essential = essential
        seconds = self._limits.head_seconds
        self._head_seconds = min(seconds, _ESSENTIAL_HEAD_SECONDS) if essential else seconds
        self._answered = answered
        self._known_heads = known_heads if not essential else None
        self._respond = AtOnce(self, KNOWN, keep_alive=True)
        self.request_cut: Cut | None = None
        """Of what is being parsed, if it may be a request whose head is to be remembered."""
        self.answering: Exchange | None = None
        self._phase = RequestPhase.HEAD
        self._begun = False
        """Whether anything of any request has come."""
        self._deadline = inf
        self._enforced_at = 0.0
        self._url_bytes = self._header_bytes = self._header_lines = self._body_bytes = 0
        self._undelivered_bytes = 0
        """Fed to the parser since it last called back: what it holds of a header, or skips."""
        self._read_at = 0.0
        """When the client last took something of what it is being sent."""
        self._unread_bytes = 0
        self.reader_wait = ReaderWait(self, connections.slow_responses)

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count its time from here: a client that connects has something to ask."""
        super().connection_made(cast("asyncio.Transport", transport))
        # Writing pauses as soon as the kernel takes no more: of a slow reader nothing piles up here.
        self.transport.set_write_buffer_limits(0)
        self._registry.watch(self)
        if self._phase is RequestPhase.ENDING:
            transport.close()
        now = self._enforced_at = self._read_at = self.loop.time()
        self._deadline = now + self._head_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave, and tell every request that its client is gone."""
        self._registry.unwatch(self)
        self.leave()
        self.reader_wait.close()
        for cycle in (self.answering, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cast("Exchange", cycle).disconnect()
        self.pipeline.clear()
        super().connection_lost(exc)

    def let_go(self) -> None:
        """Close it and leave: its place is needed."""
        telemetry.CONNECTIONS_ENDED.labels("replaced").inc()
        self.leave()
        self._phase = RequestPhase.ENDING
        if self.transport is not None:  # else: accepted a moment ago
            self.transport.close()

    def leave(self) -> None:
        """Give its place back, once."""
        if self._network is not None:
            self._registry.leave(self, self._network)
            self._network = None

    # -- what arrives

    def data_received(self, data: bytes) -> None:
        """Parse, as long as there is something to expect."""
        if self._phase is RequestPhase.ENDING or self._is_known(data):
            return
        self._undelivered_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self._undelivered_bytes > self._limits.header_bytes + len(data):
                # Within one header, chunk extension or trailer: the parser would keep or skip it for ever.
                raise self._endless()
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, SentAhead):
                self._last_is(self.cycle)
            else:
                self._refuse(cause if isinstance(cause, WHILE_PARSING) else MalformedRequest(NOT_HTTP))
        except httptools.HttpParserUpgrade:
            # Nothing is spoken here beside HTTP/1.1, in which the request is answered.
            self._last_is(self.cycle)
        except httptools.HttpParserError:
            self._refuse(MalformedRequest(NOT_HTTP))
        except WHILE_PARSING as error:
            self._refuse(error)

    def _is_known(self, data: bytes) -> bool:
        """Whether this was a whole request with a known head, and is answered; else nothing has happened."""
        known, self.request_cut = self._known_heads, None
        if known is None or self._undelivered_bytes or (self._begun and self._phase is not RequestPhase.IDLE):
            return False
        self.request_cut = found = cut(data)
        if found is None or (repeat := known.find(found[0])) is None:
            return False
        if not repeat(found[1], self.client, self._respond):
            return False
        self._begun = True
        self._registry.has_request(self)
        self._is_whole()
        return True

    def _endless(self) -> Exception:
        if self._phase is RequestPhase.IDLE or not self._begun:
            return MalformedRequest(NOT_HTTP)
        return HeadersTooLarge(self._limits.header_bytes)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if len(self.pipeline) >= _PIPELINED:
            raise SentAhead
        super().on_message_begin()
        self._begun = True
        if self._phase is not RequestPhase.HEAD:  # else: the first one, timed from the connection's start
            self._phase = RequestPhase.HEAD
            self._deadline = self.loop.time() + self._head_seconds
        self._url_bytes = self._header_bytes = self._header_lines = self._body_bytes = 0
        self._undelivered_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url_bytes += len(url)
        if self._url_bytes > self._limits.request_line_bytes:
            raise TargetTooLong(self._limits.request_line_bytes)
        self._undelivered_bytes = 0
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header line; a trailer is counted like one and dropped (RFC 9110 §6.5.1)."""
        self._undelivered_bytes = 0
        self._header_lines += 1
        self._header_bytes += len(name) + len(value)
        limits = self._limits
        if self._header_lines > limits.header_lines or self._header_bytes > limits.header_bytes:
            raise HeadersTooLarge(limits.header_bytes)
        if self._phase is RequestPhase.HEAD:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request, or raise why it cannot be one."""
        check_head(self.headers, self.parser.get_http_version(), self._limits.body_bytes)
        self._registry.has_request(self)
        self._phase = RequestPhase.BODY
        self._undelivered_bytes = 0
        self._deadline = self.loop.time() + self._limits.body_seconds
        scope = cast("dict[str, Any]", self.scope)
        describe_target(scope, self.url, self.parser)
        essential = self._essential
        if essential:
            scope[ESSENTIAL_KEY] = TooManyConnections(self._limits.connections)
        before = cast("Exchange | None", self.cycle)
        free = before is None or before.response_complete
        keep_alive = not essential and scope["http_version"] == "1.1" and self.parser.should_keep_alive()
        if free and self._answered and self._answered(scope, AtOnce(self, scope, keep_alive=keep_alive)):
            if keep_alive and self.request_cut is not None and self._known_heads is not None:
                self._known_heads.remember(self.request_cut, scope)
            return
        self.cycle = exchange = Exchange(
            self, scope, expect_100_continue=self.expect_100_continue, keep_alive=keep_alive
        )
        if free:
            self._start_asgi_task(exchange, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def continue_with(self, rest: Coroutine[Any, Any, None]) -> None:
        """Run what is left of the response of `cycle`."""
        self.answering = cast("Exchange", self.cycle)
        task = self.loop.create_task(rest)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.answering = cast("Exchange", cycle)
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._undelivered_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise BodyTooLarge(self._limits.body_bytes)
        self._deadline += 0 if self.cycle.response_complete else len(body) / MIN_BODY_BYTES_A_SECOND
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._undelivered_bytes = 0
        self._is_whole()

    def _is_whole(self) -> None:
        if self.cycle.response_complete:
            self._wait_for_request()
        else:
            self._phase = RequestPhase.RESPONSE
            self._deadline = inf

    def on_response_complete(self) -> None:
        """Start the next request if it is there, or wait for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or (self._phase is RequestPhase.ENDING and not self.pipeline):
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase is RequestPhase.RESPONSE:
            self._wait_for_request()
        elif self._phase is RequestPhase.BODY and self.cycle.response_complete:
            self._deadline = min(self._deadline, self.loop.time() + DROPPED_SECONDS)

    def _wait_for_request(self) -> None:
        self._phase = RequestPhase.IDLE
        self._deadline = self.loop.time() + self._limits.idle_seconds
        self._registry.awaits_request(self)

    # -- refusals

    def _refuse(self, error: BaseException) -> None:
        """Answer with `error`, after what is being answered, and read no more."""
        begun = self._begun and self._phase in (RequestPhase.HEAD, RequestPhase.BODY)
        broken = self.cycle if self._phase is RequestPhase.BODY else None
        self._phase = RequestPhase.ENDING
        self._deadline = inf
        self._registry.has_request(self)
        if broken is not None and (broken.response_started or broken.response_complete):
            self._last_is(broken)
            return
        if broken is not None:
            cast("Exchange", broken).disconnect()
            self.pipeline = type(self.pipeline)(entry for entry in self.pipeline if entry[0] is not broken)
        self.cycle = self._refusal(error, of_request=begun)
        answering = self.answering
        if answering is None or answering is broken or answering.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.pipeline.appendleft((self.cycle, self.app))

    def _refusal(self, error: BaseException, *, of_request: bool) -> Exchange:
        """A request for this error, made of what is known of the one that it is about."""
        if not of_request:
            super().on_message_begin()
        elif self._url_bytes:
            self.scope["method"] = self.parser.get_method().decode()
        scope: dict[str, Any] = {
            "method": "GET",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            **self.scope,
            REFUSAL_KEY: error,
        }
        cycle = Exchange(
            self, scope, transport=LastResponse(self), expect_100_continue=False, keep_alive=False
        )
        cycle.more_body = False
        return cycle

    def _last_is(self, cycle: RequestResponseCycle) -> None:
        """Close the connection after this response, or now if it is complete."""
        self._phase = RequestPhase.ENDING
        self._deadline = inf
        cycle.keep_alive = False
        if cycle.response_complete:
            self.linger()
        else:
            cycle.transport = cast("asyncio.Transport", LastResponse(self))

    def linger(self) -> None:
        """Close for writing now and for reading soon: the client shall find the answer it was sent."""
        if self.transport.is_closing():
            return
        self._phase = RequestPhase.ENDING
        self._deadline = self.loop.time() + _LINGER_SECONDS
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    # -- time

    def enforce(self, now: float) -> None:
        """Let go of what has overrun its time; `now` is the loop's."""
        since, self._enforced_at = now - self._enforced_at, now
        unread = self.transport.get_write_buffer_size()
        if self.answering is not None:
            unread += self.answering.unsent_bytes
        if unread:
            unread += unacknowledged_bytes(self.transport)
        if unread != self._unread_bytes or not unread:
            self._unread_bytes, self._read_at = unread, now
        elif now - self._read_at > self._limits.unread_seconds:
            telemetry.CONNECTIONS_ENDED.labels("unread").inc()
            self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self._deadline += since  # the client may be sending; it is this side that does not read
        elif now > self._deadline:
            self._overdue()

    def pause_writing(self) -> None:
        """The kernel did not take all of what was written."""
        super().pause_writing()
        self.reader_wait.begin()

    def resume_writing(self) -> None:
        """The client has taken what was written."""
        self._read_at = self.loop.time()
        super().resume_writing()
        self.reader_wait.end_if_written()

    def _overdue(self) -> None:
        match self._phase:
            case RequestPhase.HEAD if not self._begun:
                self.transport.close()  # a browser that connected ahead of any request
            case RequestPhase.HEAD:
                telemetry.CONNECTIONS_ENDED.labels("head").inc()
                self._refuse(RequestTooSlow("the headers", self._head_seconds))
            case RequestPhase.BODY:
                telemetry.CONNECTIONS_ENDED.labels("body").inc()
                self._refuse(RequestTooSlow("the body", self._limits.body_seconds))
            case _:
                self.transport.close()
