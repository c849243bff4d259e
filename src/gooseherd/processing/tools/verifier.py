"""The process of programs/verify.py that checks a finished pair of data and index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from gooseherd.processing.tools.source_feed import Feed, PendingFile
from gooseherd.processing.tools.stages import PipelineResult, program_stage
from gooseherd.tasks import ended

RunStage = Callable[..., Coroutine[Any, Any, PipelineResult]]
"""StepContext.run."""


class Verifier:
    """Started before it is needed, because importing pysam takes longer than the queries."""

    def __init__(self, run: RunStage, work: Path, *, source_format: str, seed: str) -> None:
        self._refusal, self._output = work / "verified.json", work / "verified"
        self._seed = seed
        self._order = PendingFile(work / "to-verify")
        stage = program_stage("verify", source_format, refusal=self._refusal)
        running = run(stage, stdin=Feed(self._order.path, self._order), stdout=self._output)
        self._running = asyncio.create_task(running, name="verify")

    async def verify(self, kind: str, data: Path, index: Path, *options: str) -> Mapping[str, int]:
        """Check one pair; can be called once. `kind` and `options` are those of verify.py.

        Raises:
            StepFailed: tool_failed; data and index do not agree.
        """
        argv = (kind, str(data), str(index), *options, "--report", str(self._refusal), "--seed", self._seed)
        await self._order.write(json.dumps(argv).encode() + b"\n")
        await self._running
        counts: Mapping[str, int] = json.loads(await asyncio.to_thread(self._output.read_bytes))
        return counts

    async def end(self) -> None:
        """The process is gone when this returns, whether it was used or not."""
        await ended(self._running)
