"""What an attempt needs whatever its order is, made before there is one: sandbox and loaded verifier.

Starting bubblewrap, Python and pysam takes longer than sorting a small file. A worker without work
keeps one process that has done it (fork_server.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.processing import StepFailed
from gooseherd.processes import end_own_session
from gooseherd.processing.step_context import environment_of_tools
from gooseherd.processing.tools.isolation import Confinement, confinement
from gooseherd.processing.tools.mounts import MovableFolder
from gooseherd.processing.tools.verifier import LoadedVerifier
from gooseherd.worker.attempt import lower_priority, name_process
from gooseherd.worker.folders import SPARE, stand_in_below
from gooseherd.worker.resources import tool_limits, with_machine_sizes
from gooseherd.worker.sandbox_paths import hidden_paths, readable_paths
from gooseherd.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

_ORDER_BYTES: Final = 64 << 10
"""Of the longest order; paths and process names are all it holds."""


_CPU_SECONDS: Final = 600
"""Of the check of one result, which takes less than one."""


class Preparation:
    """Made by `make`; `move_to` makes it an attempt's, `close` ends it."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._folder: Path | None = None
        self._movable: MovableFolder | None = None
        self._owned = AsyncExitStack()
        self.confinement: Confinement | None = None
        self.verifier: LoadedVerifier | None = None

    async def make(self) -> None:
        """Prepare as far as it goes; what fails is left to the attempt, which says why."""
        try:
            await self._make()
        except (OSError, StepFailed, Misconfigured) as error:
            log.info("nothing is prepared for the next attempt: %s", type(error).__name__)
            await self._discard()

    async def _make(self) -> None:
        settings = with_machine_sizes(WorkerSettings.from_env())
        self._folder = folder = Path(tempfile.mkdtemp(prefix=SPARE, dir=self._work))
        stand_in = stand_in_below(self._work, os.getpid())
        stand_in.mkdir(parents=True)
        self._movable = MovableFolder(self._work, stand_in)
        limits = replace(tool_limits(settings), cpu_seconds=_CPU_SECONDS)
        self.confinement = confined = await self._owned.enter_async_context(
            confinement(
                settings.sandbox,
                limits,
                folder,
                readable_paths(settings, self._work),
                hidden_paths(self._work),
                self._movable,
            )
        )
        environment = environment_of_tools(folder)
        self.verifier = await LoadedVerifier.start(folder, environment=environment, confinement=confined)
        self._owned.push_async_callback(self.verifier.end)

    async def move_to(self, scratch: Path) -> None:
        """Rename the folder to `scratch`, the only place that tools can write to from now on."""
        if self._folder is not None:
            try:
                self._folder.rename(scratch)
                if self.confinement is not None:
                    await self.confinement.renamed(self._folder, scratch)
            except OSError as error:
                log.warning("what was prepared is gone (%s)", error.strerror)
                await self._discard()
            else:
                self._folder = None
                if self.verifier is not None:
                    self.verifier.folder = scratch

    def abandon(self) -> None:
        """End all that it started and remove its folder, at once; the process is to end then. Blocks.

        Not by `close`: who waits for something that just starts may wait for long.
        """
        end_own_session()
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        """End what it started, and remove its folder, if no attempt has that."""
        await self._discard()

    async def _discard(self) -> None:
        self.confinement = self.verifier = None
        folders = self._folders()
        self._folder = self._movable = None
        try:
            await self._owned.aclose()
        finally:
            for folder in folders:
                with suppress(OSError):
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        """Those that no attempt has."""
        stand_in = None if self._movable is None else self._movable.stand_in
        return [folder for folder in (self._folder, stand_in) if folder is not None]


async def until_ordered(preparation: Preparation, channel: socket.socket) -> tuple[bytes, int] | None:
    """Prepare, and wait for an order; it, and the descriptor that comes with it.

    None when none will come: the other end of `channel` is closed. What was prepared is there still.
    """
    lower_priority()
    name_process(b"spare attempt")
    making = asyncio.create_task(preparation.make())
    try:
        order, watchdog = await _receive(channel)
    finally:
        channel.close()
    if watchdog is None:
        return None
    await making
    return order, watchdog


async def _receive(channel: socket.socket) -> tuple[bytes, int | None]:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(channel, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(channel)
    try:
        order, descriptors, *_ = socket.recv_fds(channel, _ORDER_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", None
    return order, descriptors[0] if descriptors else None
