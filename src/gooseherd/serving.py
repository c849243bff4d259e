"""The service as a process: it listens, announces itself, and shuts down in order on a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from gooseherd import logs
from gooseherd.api.app import create_app
from gooseherd.api.server.http_server import HttpServer
from gooseherd.api.server.limits import HttpLimits, connections_within_descriptors
from gooseherd.domain.errors import Misconfigured
from gooseherd.settings import Settings
from gooseherd.statedir import StateDir
from gooseherd.wiring import Service, running

_log = logging.getLogger(__name__)

_OPEN_REQUESTS_SECONDS = 5
"""How long requests under way may take at shutdown. Those held until a file is made end at once."""
_OPEN_FILES = 65536
"""Connections and files of this process; the usual soft limit of 1,024 is for programs that select()."""

_BACKLOG = 2048


async def serve(settings: Settings, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the service until SIGINT or SIGTERM; a second signal ends it at once.

    `on_ready` is called with the base URL once requests are accepted.

    Raises:
        Misconfigured, StoreUnavailable: it could not start.
    """
    settings.checked()
    _raise_open_files()
    logs.configure_logging(
        level=settings.gooseherd_log_level, as_json=settings.gooseherd_log_json, only_json=True
    )
    _hide_in_logs(settings)
    stop_requested = _stop_signal()
    with StateDir(settings.gooseherd_state_dir) as state, listen(settings) as listener:
        settings = as_bound(settings, listener)
        async with AsyncExitStack() as stack:
            starting = asyncio.ensure_future(stack.enter_async_context(running(settings, state)))
            if not await _first(starting, stop_requested):
                return
            service = starting.result()
            logs.hide(service.dependencies.admin_key)
            server = _server(settings, service)
            _spare_from_collections()
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            serving.add_done_callback(lambda _: server.accepting.set())
            if await _first(asyncio.create_task(server.accepting.wait()), stop_requested) and server.started:
                url = _url(listener)
                state.announce(url, settings.profile)
                _log.info("ready", extra={"url": url, "profile": str(settings.profile)})
                if on_ready is not None:
                    on_ready(url)
                await asyncio.wait({serving, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
            _log.info("stopping")
            state.withdraw()
            server.should_exit = True
            await serving


def _spare_from_collections() -> None:
    """What there is now stays: a collection of it all takes 70 ms, and 64 new connections bring one about."""
    gc.collect()
    gc.freeze()


def _hide_in_logs(settings: Settings) -> None:
    """Secrets that are known by now, and where things lie on this machine."""
    for secret in (settings.api_admin_key, settings.artifact_redirect_secret):
        logs.hide(secret)
    logs.hide_credentials(os.environ)
    logs.hide(str(settings.gooseherd_state_dir.absolute()), "<state>")
    if settings.artifacts_dir is not None:
        logs.hide(str(settings.artifacts_dir), "<artifacts>")
    for root in settings.source_file_roots:
        logs.hide(str(root), "<files>")


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_signal() -> asyncio.Future[None]:
    """Done at the first SIGINT or SIGTERM; the second ends the process, leaving all to the next start."""
    loop = asyncio.get_running_loop()
    stop_requested: asyncio.Future[None] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if stop_requested.done():
            os._exit(128 + number)
        stop_requested.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    return stop_requested


async def _first(work: asyncio.Future[Any], stop_requested: asyncio.Future[None]) -> bool:
    """Whether `work` was done before the stop; if not it is cancelled. Its error is raised."""
    await asyncio.wait({work, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return False
    work.result()
    return True


def _server(settings: Settings, service: Service) -> HttpServer:
    dependencies = service.dependencies
    return HttpServer(
        create_app(dependencies),
        limits=_http_limits(settings),
        holds=dependencies.holds,
        slow_responses=dependencies.slow_responses,
        cors_origins=dependencies.origins.allowed,
        shutdown_seconds=_OPEN_REQUESTS_SECONDS,
    )


def _http_limits(settings: Settings) -> HttpLimits:
    return HttpLimits(
        request_line_bytes=settings.api_max_request_line_bytes,
        header_lines=settings.api_max_header_lines,
        header_bytes=settings.api_max_header_bytes,
        body_bytes=settings.api_max_body_bytes,
        head_seconds=settings.api_head_seconds,
        body_seconds=settings.api_body_seconds,
        idle_seconds=settings.api_idle_seconds,
        unread_seconds=settings.unread_seconds,
        connections=connections_within_descriptors(settings.api_max_connections),
        connections_per_network=0
        if settings.api_trusted_proxies
        else settings.api_max_connections_per_address,
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


_FIRST_GIVEN = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


def _given_socket() -> socket.socket | None:
    """The listening socket that systemd, or whoever speaks its protocol, opened for this process.

    It stays open while the service is restarted: who connects meanwhile is served by the next process.

    Raises:
        Misconfigured: what was given is no single listening socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # workers are not meant
    try:
        if count != "1":
            raise OSError
        given = socket.socket(fileno=_FIRST_GIVEN)
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if not listens or given.family not in (socket.AF_INET, socket.AF_INET6):
            raise OSError
    except OSError:
        raise Misconfigured("LISTEN_FDS", "exactly one listening TCP socket can be used") from None
    given.set_inheritable(False)
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return given


def as_bound(settings: Settings, listener: socket.socket) -> Settings:
    """With the address that the socket really has: whoever gave it to us knows nothing of API_HOST.

    What only this machine can reach has other rules (pages of other origins, names, limits).
    """
    return settings.model_copy(update={"api_host": listener.getsockname()[0]})


def listen(settings: Settings) -> socket.socket:
    """Where requests come in: the socket that this process was given, else one by the settings.

    Raises:
        Misconfigured: the address cannot be had.
    """
    given = _given_socket()
    if given is not None:
        return given
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        listener = socket.create_server(
            (settings.api_host, settings.api_port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        where = f"{settings.api_host}:{settings.api_port}"
        # Python's own text has the address once more.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Misconfigured(
            "API_PORT", f"cannot listen on {where} ({why}); choose another (--port)"
        ) from None
    # Every connection inherits it. Head and body of a response are two writes: without it the second
    # waits until the client acknowledges the first, which it may put off for 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
