"""Whether the programs and libraries that attempts need are there and run, asked once at start.

An image that lacks one would otherwise fail every file it is given, each after its download.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from typing import Final

log = logging.getLogger(__name__)

CHECKS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name, "--version") for name in ("samtools", "bcftools", "tabix", "bgzip", "sort", "wc")},
    # Here and not in this process: they would stay in its memory for nothing.
    "libraries of Python": (sys.executable, "-I", "-c", "import backports.zstd, pyBigWig, pysam"),
}
_SECONDS: Final = 30.0
"""Of one program on a machine that is busy starting everything else too."""


async def missing_tools(checks: Mapping[str, tuple[str, ...]] = CHECKS) -> list[str]:
    """Names of those that are not there, fail or hang; [] when all is well."""
    answers = [await _runs(argv) for argv in checks.values()]  # One by one: the server starts meanwhile.
    return [name for name, runs in zip(checks, answers, strict=True) if not runs]


async def _runs(argv: tuple[str, ...]) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        log.error("%s cannot be started: %s", argv[0], error.strerror)
        return False
    try:
        async with asyncio.timeout(_SECONDS):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
