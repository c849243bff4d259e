"""The life of a worker: bind, start Wool's server process, serve until stopped or idle, clean up."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gooseherd.certs import WORKER_IDENTITY
from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId
from gooseherd.worker import container, tls
from gooseherd.worker.folders import claim, keep, sweep, write_json
from gooseherd.worker.health_check import HealthCheck, ServerState
from gooseherd.worker.options import Options
from gooseherd.worker.settings import WorkerPlace, WorkerSettings, build_id
from gooseherd.worker.stopping import drain, until_idle_or_expired

if TYPE_CHECKING:
    import wool

log = logging.getLogger(__name__)

START_TIMEOUT_SECONDS: Final = 60.0
LAST_EVENTS_SECONDS: Final = 2.0
"""For watchers to receive the last events of their attempts."""
NOT_DUMPABLE: Final = "WORKER_KEEPS_SECRETS"
"""Set for Wool's child when it is handed a private key."""

EXIT_CHILD_DIED: Final = 70  # sysexits.h, EX_SOFTWARE
EXIT_NOT_STARTED: Final = 75  # EX_TEMPFAIL
EXIT_MISCONFIGURED: Final = 78  # EX_CONFIG

_LOG_ISOLATION_SECONDS: Final = 5.0


class Worker:
    """One worker, from bind to exit status."""

    def __init__(
        self,
        options: Options,
        settings: WorkerSettings,
        *,
        host: str = "127.0.0.1",
        certificates: tls.Certificates | None = None,
    ) -> None:
        self._options = options
        self._settings = settings
        self._host = host
        self._certificates = certificates
        self._work = options.work_dir
        self._claimed = False
        """The work folder belongs to this worker, with all that is in it."""
        self._runtime: Path | None = None
        self._stop = asyncio.Event()
        self._child: wool.LocalWorker | None = None
        self._health = HealthCheck(self._work, self._server_state, self._stop.is_set)
        self._isolation_log: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serve until a signal, the idle timeout or a failure; leaves no files and no processes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._begin()
            return await self._serve()
        except _StopRequested:
            return 0
        except _NotStarted as error:
            log.error("worker did not start: %s", error)
            return EXIT_NOT_STARTED
        except Misconfigured as error:
            log.error("worker is misconfigured: %s", error)
            return EXIT_MISCONFIGURED
        finally:
            await self._end()

    def _on_signal(self, number: int) -> None:
        log.info("worker got a signal to stop", extra={"signal": number})
        if self._stop.is_set():  # The second time: at once.
            self._clean()
            os._exit(128 + number)
        self._stop.set()

    async def _begin(self) -> None:
        await asyncio.to_thread(claim, self._work)
        self._claimed = True
        if self._settings.keep:
            keep(self._work, self._settings.keep)
        # Wool binds a socket below XDG_RUNTIME_DIR, and a socket's path may have 107 bytes at most.
        base = os.environ.get("XDG_RUNTIME_DIR", "")
        if not 0 < len(base) <= 40:
            base = "/tmp"  # noqa: S108 - mkdtemp makes a folder of our own in it
        self._runtime = Path(tempfile.mkdtemp(prefix="gh-", dir=base))
        os.environ["XDG_RUNTIME_DIR"] = str(self._runtime)
        me = ProcessId.of(os.getpid())
        assert me is not None
        WorkerPlace(self._work, me).export()
        if self._options.health_port is not None:
            try:
                await self._health.open(self._host, self._options.health_port)
            except OSError as error:
                raise _NotStarted(f"health port {self._options.health_port}: {error.strerror}") from error
        _refuse_taken_port(self._host, self._options.port)
        self._child = child = self._make_child(self._runtime)
        await self._start(child)
        shutil.rmtree(self._runtime / "tls", ignore_errors=True)
        log.info("worker is ready", extra={"worker": self._options.worker_id, "address": child.address})
        self._health.changed()
        self._isolation_log = asyncio.create_task(self._log_isolation())
        if self._options.announce is not None:
            extra = {
                "worker_id": self._options.worker_id,
                "address": child.address,
                "process": me.to_json(),
                "child_pid": _process(child).pid,
                "runtime": str(self._runtime),
                "build": build_id(),
                "started": time.time(),
            }
            write_json(self._options.announce, extra)

    async def _log_isolation(self) -> None:
        """Log how tools are isolated on this machine; each attempt finds out for itself."""
        # The first attempt is about to start: it needs the cores more than the log needs this.
        await asyncio.sleep(_LOG_ISOLATION_SECONDS)
        from gooseherd.processing.tools.isolation import SandboxUse, try_filter, try_sandbox
        from gooseherd.worker.resources import tool_limits

        settings = self._settings
        there, how = await try_sandbox(settings.sandbox, self._work)
        _, filtered = await try_filter(settings.sandbox)
        extra = {
            "sandbox": how,
            "system_call_filter": filtered,
            "bytes_a_tool": tool_limits(settings).memory_bytes,
        }
        if there or settings.sandbox is not SandboxUse.ON:
            log.info("tools run %s a sandbox", "in" if there else "without", extra=extra)
        else:
            log.error("WORKER_SANDBOX is on and there is none: no attempt can succeed", extra=extra)

    def _server_state(self) -> ServerState:
        if self._child is None or self._child.address is None:
            return ServerState.STARTING
        return ServerState.RUNNING if _process(self._child).is_alive() else ServerState.DIED

    def _make_child(self, runtime: Path) -> wool.LocalWorker:
        import wool  # Late: its import would hold up the health port, and the fork server in the child.

        credentials = None
        if self._certificates is not None:
            # Wool's child reads them at its start; afterwards no secret that came as text stays
            # where an attempt, which runs as the same user, could read it.
            (runtime / "tls").mkdir(mode=0o700)
            files = self._certificates.as_files(runtime / "tls")
            credentials = files.to_serve(reloadable=self._certificates.are_files)
            for name in tls.VARIABLES:
                os.environ.pop(name, None)
            os.environ[NOT_DUMPABLE] = "1"
            container.forbid_dumps()
        return wool.LocalWorker(
            host=self._host,
            port=self._options.port,
            shutdown_grace_period=LAST_EVENTS_SECONDS,
            worker_id=self._options.worker_id,
            credentials=credentials,
            identity=WORKER_IDENTITY if credentials else None,
        )

    async def _start(self, child: wool.LocalWorker) -> None:
        # Wool waits its whole timeout for a child that crashed at boot; we look at the child too.
        starting = asyncio.create_task(child.start(timeout=START_TIMEOUT_SECONDS))
        while not starting.done():
            await asyncio.wait({starting}, timeout=0.1)
            process = _process(child)
            if not starting.done() and process.pid is not None and not process.is_alive():
                raise _NotStarted(f"the server process ended with {process.exitcode}")
            if self._stop.is_set():
                starting.cancel()
                raise _StopRequested
        if (error := starting.exception()) is not None:
            raise _NotStarted(str(error)) from error

    async def _serve(self) -> int:
        assert self._child is not None
        died = asyncio.Event()
        loop = asyncio.get_running_loop()
        sentinel = _process(self._child).sentinel
        loop.add_reader(sentinel, died.set)
        unneeded = asyncio.create_task(
            until_idle_or_expired(
                self._work,
                idle_timeout=self._settings.idle_timeout,
                max_lifetime=self._settings.max_lifetime,
            )
        )
        watching = [
            asyncio.create_task(died.wait()),
            asyncio.create_task(self._stop.wait()),
            unneeded,
        ]
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            if unneeded.done() and unneeded.exception() is None:
                log.info("worker is no longer needed", extra={"worker": self._options.worker_id})
        finally:
            loop.remove_reader(sentinel)
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        if died.is_set():
            log.error("worker's server process died", extra={"exitcode": _process(self._child).exitcode})
            return EXIT_CHILD_DIED
        await asyncio.to_thread(drain, self._work)
        # Watchers receive the last events before the server ends. By a signal (Wool: SIGINT drains,
        # SIGTERM cuts off), because a worker's certificate lets it call nobody, itself included.
        process = _process(self._child)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)
        await asyncio.to_thread(process.reap, LAST_EVENTS_SECONDS)
        return EXIT_MISCONFIGURED if self._health.tools_missing else 0

    async def _end(self) -> None:
        if self._isolation_log is not None:
            self._isolation_log.cancel()
            await asyncio.gather(self._isolation_log, return_exceptions=True)
        await self._health.close()
        await asyncio.to_thread(self._clean)

    def _clean(self) -> None:
        if self._child is not None:
            _process(self._child).reap(0)
        if self._claimed:
            sweep(self._work)
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)
        if self._options.announce is not None:
            self._options.announce.unlink(missing_ok=True)


class _NotStarted(Exception):
    """Wool's server process did not come up."""


class _StopRequested(Exception):
    """By a signal, before it came up."""


def _process(worker: wool.LocalWorker) -> wool.runtime.worker.process.WorkerProcess:
    # Wool has no public way to learn that a worker's process died.
    return worker._worker_process


def _refuse_taken_port(host: str, port: int) -> None:
    """A second gRPC server on a port would start without an error and silently share its calls."""
    with socket.socket() as probe, suppress(OverflowError):
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            raise _NotStarted(f"port {port} is not free: {error.strerror}") from error
