"""The worker's entrypoint: a Wool server on one port, ending itself when it has nothing to do.

`python -m gooseherd.worker.main`. Wool serves from a child process that imports this
module again, so it is as light as it can be and acts only below the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import wool

from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId
from gooseherd.telemetry import configure_logging
from gooseherd.worker.folders import attempt_folders, live_attempts, set_draining, sweep, write_json
from gooseherd.worker.settings import WorkerPlace, WorkerSettings, build_id

log = logging.getLogger("gooseherd.worker.main")  # Not __main__, which it mostly runs as.

START_TIMEOUT_SECONDS: Final = 60.0
STOP_GRACE_SECONDS: Final = 2.0
"""For attempts to say why they end, and then for watchers to hear it."""

EXIT_CHILD_DIED: Final = 70  # sysexits.h, EX_SOFTWARE
EXIT_NOT_STARTED: Final = 75  # EX_TEMPFAIL
EXIT_MISCONFIGURED: Final = 78  # EX_CONFIG


@dataclass(frozen=True, slots=True)
class Options:
    """The command line; each flag has a twin in the environment, WORKER_ and its name."""

    host: str
    port: int
    worker_id: str
    work_dir: Path
    announce: Path | None


def parse(argv: Sequence[str] | None = None) -> Options:
    """Flags win over the environment. Exits with status 2 when one is missing or wrong."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="gooseherd.worker.main", description="Run one gooseherd worker.")
    parser.add_argument(
        "--host", default=env.get("WORKER_HOST", "127.0.0.1"), help="loopback address to bind"
    )
    parser.add_argument("--port", type=int, default=env.get("WORKER_PORT", "0"), help="0: any free port")
    parser.add_argument("--worker-id", default=env.get("WORKER_ID", "worker"))
    parser.add_argument(
        "--work-dir", type=Path, default=env.get("WORKER_WORK_DIR"), help="this worker's alone"
    )
    parser.add_argument(
        "--announce", type=Path, default=env.get("WORKER_ANNOUNCE"), help="JSON file, when ready"
    )
    given = parser.parse_args(argv)
    if given.work_dir is None:
        parser.error("--work-dir or WORKER_WORK_DIR is required")
    return Options(given.host, given.port, given.worker_id, given.work_dir.absolute(), given.announce)


class Worker:
    """One worker's life, from bind to exit status."""

    def __init__(self, options: Options, settings: WorkerSettings) -> None:
        self._options = options
        self._settings = settings
        self._work = options.work_dir
        self._runtime: Path | None = None
        self._stop = asyncio.Event()
        self._child: wool.LocalWorker | None = None

    async def run(self) -> int:
        """Serve until told to stop, idle for too long, or broken; leaves no files and no processes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        try:
            await self._begin()
            return await self._serve()
        except _NotStarted as error:
            log.error("worker did not start: %s", error)
            return EXIT_NOT_STARTED
        finally:
            await self._end()

    def _told(self, number: int) -> None:
        log.info("worker told to stop", extra={"signal": number})
        if self._stop.is_set():  # The second time: at once.
            self._clean()
            os._exit(128 + number)
        self._stop.set()

    async def _begin(self) -> None:
        await asyncio.to_thread(sweep, self._work)
        self._work.mkdir(parents=True, mode=0o700)
        # Wool binds a socket below XDG_RUNTIME_DIR, and a socket's path may have 107 bytes at most.
        base = os.environ.get("XDG_RUNTIME_DIR", "")
        if not 0 < len(base) <= 40:
            base = "/tmp"  # noqa: S108 - mkdtemp makes a folder of our own in it
        self._runtime = Path(tempfile.mkdtemp(prefix="gh-", dir=base))
        os.environ["XDG_RUNTIME_DIR"] = str(self._runtime)
        me = ProcessId.of(os.getpid())
        assert me is not None
        WorkerPlace(self._work, me).export()
        _refuse_taken(self._options.host, self._options.port)
        child = wool.LocalWorker(
            host=self._options.host,
            port=self._options.port,
            shutdown_grace_period=STOP_GRACE_SECONDS,
            worker_id=self._options.worker_id,
        )
        await self._start(child)
        self._child = child
        log.info("worker is ready", extra={"worker": self._options.worker_id, "address": child.address})
        if self._options.announce is not None:
            said = {
                "worker_id": self._options.worker_id,
                "address": child.address,
                "process": me.to_json(),
                "child_pid": _process(child).pid,
                "runtime": str(self._runtime),
                "build": build_id(),
                "started": time.time(),
            }
            write_json(self._options.announce, said)

    async def _start(self, child: wool.LocalWorker) -> None:
        # Wool waits its whole timeout for a child that crashed at boot; we look at the child too.
        starting = asyncio.create_task(child.start(timeout=START_TIMEOUT_SECONDS))
        while not starting.done():
            await asyncio.wait({starting}, timeout=0.1)
            process = _process(child)
            if not starting.done() and process.pid is not None and not process.is_alive():
                raise _NotStarted(f"the server process ended with {process.exitcode}")
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
        set_draining(self._work, True)
        await asyncio.to_thread(self._drain)
        # In-flight watchers hear the last events before the server goes.
        await self._child.stop(grace=STOP_GRACE_SECONDS)
        return 0

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
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        for process in asked:
            process.signal(signal.SIGTERM)
        for process in asked:
            process.wait(deadline - time.monotonic())
        for folder in folders:
            folder.end()

    async def _end(self) -> None:
        await asyncio.to_thread(self._clean)

    def _clean(self) -> None:
        if self._child is not None:
            _process(self._child).reap(0)
        sweep(self._work)
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)
        if self._options.announce is not None:
            self._options.announce.unlink(missing_ok=True)


class _NotStarted(Exception):
    """Wool's server process did not come up."""


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


def check(options: Options) -> None:
    """Raises Misconfigured for an address that others could reach: who reaches the port runs code here."""
    try:
        loopback = ipaddress.IPv4Address(options.host).is_loopback
    except ValueError:
        loopback = options.host == "localhost"
    if not loopback:
        raise Misconfigured(
            "WORKER_HOST", "loopback only (127.0.0.1): without mutual TLS an open port runs anybody's code"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker; the exit status says how it ended."""
    configure_logging()
    options = parse(argv)
    try:
        check(options)
        settings = WorkerSettings.from_env()
    except Misconfigured as error:
        log.error("worker is misconfigured: %s", error)
        return EXIT_MISCONFIGURED
    return asyncio.run(Worker(options, settings).run())


if __name__ == "__mp_main__":  # Wool's child, before Wool sets up logging of its own kind.
    # Loaded now, not by the first call: that would be done on the loop that answers gRPC.
    from gooseherd.worker import host, routines  # noqa: F401

    configure_logging()

if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Threads that still wait for a child that will never answer must not hold the exit up.
    os._exit(status)
