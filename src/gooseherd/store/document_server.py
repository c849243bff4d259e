"""The embedded document server: a real wire protocol on loopback, as a child process that outlives nobody.

One directory, one owner. Two locks in the directory say who is there: `owner.lock` is held
by the gooseherd process, `server.lock` by the server process itself, which holds the process
id too. So a new owner knows a live one (refused at once) from the dying child of a dead one
(waited for, then ended).

    data_dir/
      db/            what the server stores
      server.log     its last megabyte of words, with server.log.1 before
      owner.lock, server.lock, server.toml
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import logging.handlers
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import GooseherdError, Misconfigured, StoreUnavailable, Unavailable
from gooseherd.installation import extra_remedy
from gooseherd.store.mongo.connect import connect, ping, server_pid

_log = logging.getLogger(__name__)

_PROGRAM: Final = "secantusd-py"
_LOG_BYTES: Final = 1 << 20
_SHOWN_LINES: Final = 8
"""How much of the server's last words goes into an error."""
_ORPHAN_SECONDS: Final = 15.0
"""An orphan gets this long to close its files (2 to 3 s when idle) before it is asked, then made, to end."""
_POLL_SECONDS: Final = 0.05
_STEADY_SECONDS: Final = 60.0
"""A server that has run for so long died by accident; one that died sooner may do so again."""
_LONGEST_PAUSE_SECONDS: Final = 60.0
"""Between two starts."""
_START_GROWTH: Final = 8
"""So many times its start time it gets at most: what slows a start, a journal to be read or a busy
machine, would end the next one at the same point."""


class DocumentServer:
    """Owns one data directory and the server process on it; restarts the server if it dies.

    Start it from the thread that lives longest (the event loop's): the child is told to end
    when the thread that forked it does.
    """

    def __init__(self, data_dir: Path, *, port: int = 0, start_seconds: float = 30.0) -> None:
        self._dir = data_dir.absolute()
        self._port = port
        self._start_seconds = start_seconds
        self._owner_lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._words: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._reader: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why it does not answer and when it is tried again, without paths; None while it is up."""
        return self._trouble

    @property
    def pid(self) -> int | None:
        """The server's process id while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def url(self) -> str:
        """Where it answers; every write through this URL is on disk when acknowledged.

        Without retryable writes: the server reads its records of them, of up to 30 minutes, at each
        write. After 4,000 a write took 9 ms with them and 2 ms without. Whoever writes can repeat it.
        """
        return f"mongodb://127.0.0.1:{self._port}/?w=majority&journal=true&retryWrites=false"

    async def start(self) -> str:
        """Start the server and wait until it answers; gives the URL.

        Raises:
            Misconfigured: the program is missing, another process owns the directory, or the
                server does not come up (with its last words).
        """
        await asyncio.to_thread(self._prepare)
        try:
            await self._wait_for_orphan()
            await self._launch(self._start_seconds)
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())
        return self.url

    async def stop(self) -> None:
        """End the server in order, by force after ten seconds, and let go of the directory. Idempotent."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._end_process()
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None

    # -- the directory ---------------------------------------------------------------------

    def _prepare(self) -> None:
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._dir / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise Misconfigured(
                "state directory",
                f"{self._dir} is in use by another gooseherd process; stop it or use another",
            ) from None
        self._owner_lock = lock
        # An empty file of our own: without one the server reads whatever its user has in the home directory.
        (self._dir / "server.toml").write_text("")

    async def _wait_for_orphan(self) -> None:
        """Wait till no server process holds the directory; one that stays is ended, it has no owner."""
        began = time.monotonic()
        asked = False
        while (pid := self._orphan()) is not None:
            waited = time.monotonic() - began
            if not asked and waited > _ORPHAN_SECONDS / 3:
                _log.warning("ending an ownerless document server", extra={"server_pid": pid})
                asked = True
                _signal(pid, signal.SIGTERM)
            if waited > _ORPHAN_SECONDS:
                _signal(pid, signal.SIGKILL)
            if waited > _ORPHAN_SECONDS + 5:
                raise Misconfigured(
                    "state directory", f"{self._dir} is held by process {pid}, which does not end"
                )
            await asyncio.sleep(_POLL_SECONDS)

    def _orphan(self) -> int | None:
        """The process that holds `server.lock`: it inherited the descriptor, so it is our server."""
        with contextlib.suppress(FileNotFoundError), (self._dir / "server.lock").open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or 0)
        return None

    # -- the process -----------------------------------------------------------------------

    async def _launch(self, start_seconds: float) -> None:
        chosen = self._port
        for last in (False, False, True):
            self._port = chosen or _free_port()
            await self._spawn()
            try:
                await self._wait_until_up(start_seconds)
            except StoreUnavailable:
                await self._end_process()
                words = " | ".join(self._words) or "it said nothing"
                taken = "Address already in use" in words
                if taken and chosen == 0 and not last:
                    continue  # somebody took the free port first
                setting = "document server port" if taken else "document server"
                raise Misconfigured(setting, f"does not start: {words}") from None
            return

    async def _spawn(self) -> None:
        program = Path(sys.executable).parent / _PROGRAM
        if not program.exists():
            problem = f"not set, and {_PROGRAM} for the embedded profile is not installed"
            raise Misconfigured("DATABASE_URL", f"{problem}; {extra_remedy('embedded')}")
        command = [
            str(program),
            *("--config", "server.toml"),
            *("--host", "127.0.0.1"),
            *("--port", str(self._port)),
            *("--storage-path", str(self._dir / "db")),
            *("--cache-size", "256M"),
            *("--log-level", "WARNING"),
            "--sync-on-commit",
        ]
        setpriv = shutil.which("setpriv")
        if setpriv is not None:
            command[:0] = [setpriv, "--pdeathsig", "TERM", "--"]
        self._words.clear()
        lock = os.open(self._dir / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            # Forked here, in the loop's thread: the death signal follows the forking thread, not the process.
            self._process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._dir,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is for us; the server is stopped after its last client
            )
            os.pwrite(lock, str(self._process.pid).encode(), 0)
        finally:
            os.close(lock)  # the child's copy keeps the lock
        self._reader = asyncio.create_task(self._keep_words(self._process))

    async def _wait_until_up(self, start_seconds: float) -> None:
        process = self._process
        assert process is not None
        db = connect(self.url + "&serverSelectionTimeoutMS=1000", "admin")
        deadline = time.monotonic() + start_seconds
        try:
            while time.monotonic() < deadline and process.returncode is None:
                with contextlib.suppress(Unavailable):
                    # Whoever took the port first would answer a ping too.
                    if _listening(self._port) and await server_pid(db) == process.pid:
                        await ping(db)
                        return
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await db.client.close()
        raise StoreUnavailable("start")

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            _signal(process.pid, signal.SIGKILL)
            await process.wait()
        if self._reader is not None:
            await self._reader  # ends with the pipe

    async def _supervise(self) -> None:
        """Start it again, on the same port, when it dies, and for ever; clients reconnect by themselves."""
        failures = 0
        while True:
            if self._process is not None:
                began = time.monotonic()
                code = await self._process.wait()
                failures = 0 if time.monotonic() - began > _STEADY_SECONDS else failures + 1
                words = " | ".join(self._words)
                _log.error("document server died", extra={"exit_code": code, "words": words})
            pause = _pause(failures)
            if pause:
                self._trouble = (
                    f"the document server is down, {failures} times in a row; next try in {pause:g} s"
                )
                _log.critical("document server stays down for now", extra={"next_try_in_seconds": pause})
                await asyncio.sleep(pause)
            self._trouble = "the document server died and is being started again"
            try:
                await self._launch(self._start_seconds * min(2**failures, _START_GROWTH))
            except (GooseherdError, OSError):
                failures += 1
                _log.critical("document server does not come back", exc_info=True)
                continue
            self._trouble = None
            _log.warning("document server is back", extra={"server_pid": self.pid})

    async def _keep_words(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        log = logging.handlers.RotatingFileHandler(
            self._dir / "server.log", maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8", delay=True
        )
        try:
            while chunk := await process.stdout.read(65536):
                for line in chunk.decode("utf-8", "replace").splitlines():
                    if line.strip():
                        self._words.append(line.strip()[:300])
                        log.emit(logging.makeLogRecord({"msg": "%s", "args": (line,)}))
        finally:
            log.close()


def _pause(failures: int) -> float:
    """Seconds before the next start: none at first, then growing."""
    return 0.0 if failures < 2 else min(2.0 ** (min(failures, 32) - 2), _LONGEST_PAUSE_SECONDS)


def _signal(pid: int, number: signal.Signals) -> None:
    if pid > 0:  # 0 would be our own process group; it stands for a server that died before its id was noted
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
