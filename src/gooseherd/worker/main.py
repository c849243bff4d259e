"""The worker's entrypoint: a Wool server on one port, ending itself when it has nothing to do.

`python -m gooseherd.worker.main`. Wool serves from a child process that imports this
module again, so it is as light as it can be and acts only below the last line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gooseherd.certs import WORKER_IDENTITY
from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId
from gooseherd.telemetry import configure_logging
from gooseherd.worker import container, tls
from gooseherd.worker.folders import (
    attempt_folders,
    claim,
    is_draining,
    live_attempts,
    set_draining,
    sweep,
    write_json,
)
from gooseherd.worker.options import Options, check, parse
from gooseherd.worker.settings import WorkerPlace, WorkerSettings, build_id
from gooseherd.worker.watchdog import STOP_SECONDS

if TYPE_CHECKING:
    import wool

    from gooseherd.worker.health import Condition, HealthPort

log = logging.getLogger("gooseherd.worker.main")  # Not __main__, which it mostly runs as.

START_TIMEOUT_SECONDS: Final = 60.0
FAREWELL_SECONDS: Final = 2.0
"""For watchers to hear why their attempt has ended."""

_TELL_AFTER_SECONDS: Final = 5.0

_SECRETIVE: Final = "WORKER_KEEPS_SECRETS"
"""Set for Wool's child when it is handed a private key."""

EXIT_CHILD_DIED: Final = 70  # sysexits.h, EX_SOFTWARE
EXIT_NOT_STARTED: Final = 75  # EX_TEMPFAIL
EXIT_MISCONFIGURED: Final = 78  # EX_CONFIG


class Worker:
    """One worker's life, from bind to exit status."""

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
        """The work folder is ours, and so is all that is in it."""
        self._runtime: Path | None = None
        self._stop = asyncio.Event()
        self._child: wool.LocalWorker | None = None
        self._health: HealthPort | None = None
        self._checking: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._missing: list[str] | None = None
        self._began = time.monotonic()

    async def run(self) -> int:
        """Serve until told to stop, idle for too long, or broken; leaves no files and no processes."""
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
        log.info("worker told to stop", extra={"signal": number})
        if self._stop.is_set():  # The second time: at once.
            self._clean()
            os._exit(128 + number)
        self._stop.set()

    async def _begin(self) -> None:
        await asyncio.to_thread(claim, self._work)
        self._claimed = True
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
            await self._open_health(self._options.health_port)
        _refuse_taken(self._host, self._options.port)
        self._child = child = self._make_child(self._runtime)
        await self._start(child)
        shutil.rmtree(self._runtime / "tls", ignore_errors=True)
        log.info("worker is ready", extra={"worker": self._options.worker_id, "address": child.address})
        if self._health is not None:
            self._health.tell()
        self._telling = asyncio.create_task(self._tell_limits())
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

    async def _tell_limits(self) -> None:
        """What holds the tools of attempts here, for the log; each attempt sees for itself."""
        # The first attempt is about to come: it needs these cores more than the log needs this.
        await asyncio.sleep(_TELL_AFTER_SECONDS)
        from gooseherd.processing.tools.isolation import SandboxUse, filter_trial, trial
        from gooseherd.worker.resources import tool_limits

        settings = self._settings
        there, how = await trial(settings.sandbox, self._work)
        _, filtered = await filter_trial(settings.sandbox)
        extra = {
            "sandbox": how,
            "system_call_filter": filtered,
            "bytes_a_tool": tool_limits(settings).memory_bytes,
        }
        if there or settings.sandbox is not SandboxUse.ON:
            log.info("tools run %s a sandbox", "in" if there else "without", extra=extra)
        else:
            log.error("WORKER_SANDBOX is on and there is none: no attempt can succeed", extra=extra)

    async def _open_health(self, port: int) -> None:
        # Both take longer to import than the local form, which needs neither, takes to start.
        from gooseherd.worker.health import HealthPort
        from gooseherd.worker.selfcheck import missing_tools

        async def check() -> None:
            self._missing = await missing_tools()
            if self._missing:
                log.error("tools are missing: %s", ", ".join(self._missing))
                set_draining(self._work, True)
            health.tell()

        self._health = health = HealthPort(self._look, self._host, port)
        try:
            await health.open()
        except OSError as error:
            raise _NotStarted(f"health port {port}: {error.strerror}") from error
        self._checking = asyncio.create_task(check())

    def _look(self) -> Condition:
        from gooseherd.worker.health import Condition

        problem = ""
        if self._missing:
            status, problem = "broken", f"tools are missing: {', '.join(self._missing)}"
        elif self._child is None or self._child.address is None or self._missing is None:
            status = "starting"
        elif not _process(self._child).is_alive():
            status, problem = "broken", "the server process died"
        else:
            status = "draining" if self._stop.is_set() or is_draining(self._work) else "healthy"
        return Condition(
            status, build_id(), time.monotonic() - self._began, tuple(live_attempts(self._work)), problem
        )

    def _make_child(self, runtime: Path) -> wool.LocalWorker:
        import wool  # Late: its import would hold up the health port, and the fork server in the child.

        credentials = None
        if self._certificates is not None:
            # Wool's child reads them at its start; afterwards nothing of what came as text is
            # left where an attempt, which runs as the same user, could read it.
            (runtime / "tls").mkdir(mode=0o700)
            files = self._certificates.as_files(runtime / "tls")
            credentials = files.to_serve(reloadable=self._certificates.are_files)
            for name in tls.VARIABLES:
                os.environ.pop(name, None)
            os.environ[_SECRETIVE] = "1"
            container.keep_to_ourselves()
        return wool.LocalWorker(
            host=self._host,
            port=self._options.port,
            shutdown_grace_period=FAREWELL_SECONDS,
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
        watching = [
            asyncio.create_task(died.wait()),
            asyncio.create_task(self._stop.wait()),
            asyncio.create_task(self._until_useless()),
        ]
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(sentinel)
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        if died.is_set():
            log.error("worker's server process died", extra={"exitcode": _process(self._child).exitcode})
            return EXIT_CHILD_DIED
        try:
            set_draining(self._work, True)
        except OSError as error:  # A full disk, or a folder that was removed: no reason not to end in order.
            log.warning("cannot say that the worker drains: %s", error.strerror)
        await asyncio.to_thread(self._drain)
        # In-flight watchers hear the last events before the server goes. Told by a signal (Wool: SIGINT
        # drains, SIGTERM cuts off), because a worker's certificate lets it call nobody, itself included.
        process = _process(self._child)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)
        await asyncio.to_thread(process.reap, FAREWELL_SECONDS)
        return EXIT_MISCONFIGURED if self._missing else 0

    async def _until_useless(self) -> None:
        """Return when no attempt has lived for the idle timeout, or the lifetime is over and none lives."""
        idle, lifetime = self._settings.idle_timeout, self._settings.max_lifetime
        pause = min([1.0, *(seconds / 4 for seconds in (idle, lifetime) if seconds)])
        began = busy_at = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            old = bool(lifetime) and now - began > lifetime
            if old:
                set_draining(self._work, True)
            if live_attempts(self._work):
                busy_at = now
            elif old or (idle and now - busy_at > idle):
                set_draining(self._work, True)
                # Looked at again with the door shut: one may have started between the two.
                if not live_attempts(self._work):
                    log.info("worker is no longer needed", extra={"worker": self._options.worker_id})
                    return
                set_draining(self._work, old)

    def _drain(self) -> None:
        """Let live attempts say that the worker stops; what is left after the grace is killed."""
        folders = attempt_folders(self._work)
        asked = [process for folder in folders if (process := folder.process()) is not None]
        deadline = time.monotonic() + STOP_SECONDS
        for process in asked:
            process.signal(signal.SIGTERM)
        for process in asked:
            process.wait(deadline - time.monotonic())
        for folder in folders:
            folder.end()

    async def _end(self) -> None:
        for beside in filter(None, (self._checking, self._telling)):
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
        if self._health is not None:
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


def _refuse_taken(host: str, port: int) -> None:
    """A second gRPC server on a port would start without an error and silently share its calls."""
    with socket.socket() as probe, suppress(OverflowError):
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            raise _NotStarted(f"port {port} is not free: {error.strerror}") from error


def _report_preflight(work_dir: Path) -> int:
    """Print the findings; EXIT_MISCONFIGURED when something is missing without which no attempt succeeds."""
    from gooseherd.worker.image_doctor import examine

    try:
        report = examine(WorkerSettings.from_env(), work_dir)
    except Misconfigured as error:
        log.error("worker is misconfigured: %s", error)
        return EXIT_MISCONFIGURED
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    sys.stdout.flush()
    return 0 if report["ok"] else EXIT_MISCONFIGURED


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker; the exit status says how it ended."""
    configure_logging()
    options = parse(argv)
    if options.doctor:
        return _report_preflight(options.work_dir)
    try:
        host = options.host or container.bind_address(os.environ)
        certificates = tls.Certificates.from_env(os.environ)
        check(host, certificates)
        settings = WorkerSettings.from_env()
    except Misconfigured as error:
        log.error("worker is misconfigured: %s", error)
        return EXIT_MISCONFIGURED
    worker = Worker(options, settings, host=host, certificates=certificates)
    # Not asyncio.run, whose end waits for threads: one may wait for a child that will never answer.
    return asyncio.new_event_loop().run_until_complete(worker.run())


if __name__ == "__mp_main__":  # Wool's child, before Wool sets up logging of its own kind.
    from gooseherd.worker.spawning import spawner

    spawner().warm_up()  # Imports at the same time as we do.
    # Loaded now, not by the first call: that would be done on the loop that answers gRPC.
    from gooseherd.worker import (
        attempts,  # noqa: F401
        routines,  # noqa: F401
    )

    if os.environ.pop(_SECRETIVE, None):
        container.keep_to_ourselves()
    configure_logging()
    # A worker that would not start its first attempt at once is not ready; the first attempt tells why.
    spawner().wait_warm(START_TIMEOUT_SECONDS / 2)

if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)  # Nor for such threads here.
