"""Whether the programs and libraries that attempts need are there and run, checked once at start.

Without this check, an image that lacks one would fail every attempt, each after its download.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from typing import Final

from gooseherd.processes import signal_child
from gooseherd.processing.tools.installed_files import TRIALS

log = logging.getLogger(__name__)

_SECONDS: Final = 30.0
"""For one program, on a machine that is busy with other starts."""
_TRIES: Final = 3


async def missing_tools(checks: Mapping[str, tuple[str, ...]] = TRIALS) -> list[str]:
    """Names of those that are not there, fail or hang; [] when all is well."""
    # One by one: the server process is starting at the same time.
    return [name for name, argv in checks.items() if not await _runs(argv)]


async def _runs(argv: tuple[str, ...]) -> bool:
    for _ in range(_TRIES):
        status = await _status(argv)
        if status != -signal.SIGKILL:
            return status == 0
        # What was killed has said nothing of itself.
        log.warning("%s was killed while it was tried", argv[0])
    return False


async def _status(argv: tuple[str, ...]) -> int | None:
    """The exit status; None: there is none, it cannot be started or hangs."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        log.error("%s cannot be started: %s", argv[0], error.strerror)
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            signal_child(process, signal.SIGKILL)
            await process.wait()
