"""The process of programs/verify.py that checks a finished pair of data and index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from gooseherd.domain.formats import BIGBED, CRAM, Format
from gooseherd.processing.tools.isolation import Confinement
from gooseherd.processing.tools.pipelines import WaitingProgram
from gooseherd.processing.tools.source_feed import Feed, PendingFile
from gooseherd.processing.tools.stages import PipelineResult, Stage, program_stage
from gooseherd.tasks import ended

LOADS_MORE: Final = frozenset({BIGBED, CRAM})
"""Their check needs another library, or an environment of its own: a process is started for each."""

READ_SOURCE: Final = "read-source"
"""The first word of an order that precedes the one to verify."""

_FILE_BYTES: Final = 256 << 20
"""Of the largest file that the check writes: it copies the beginning of some sources."""
_OUTPUT: Final = "verified"


class RunStage(Protocol):
    """StepContext.run."""

    def __call__(
        self, stage: Stage, /, *, stdin: Feed, stdout: Path
    ) -> Coroutine[Any, Any, PipelineResult]: ...


class LoadedVerifier:
    """The process, loaded before there is a source; for one check, or none."""

    def __init__(self, program: WaitingProgram, folder: Path) -> None:
        self.folder = folder
        """Where its output is. Who renames the folder says so here."""
        self._program = program
        self._used = False

    @classmethod
    async def start(
        cls, folder: Path, *, environment: Mapping[str, str], confinement: Confinement
    ) -> LoadedVerifier:
        """Start it in `folder`, which gets its output.

        Raises:
            StepFailed: misconfigured; there must be a sandbox and there is none.
        """
        program = await WaitingProgram.start(
            program_stage("verify", "-"),
            cwd=Path("/"),  # The folder may be renamed before the process has entered the sandbox.
            environment=environment,
            file_bytes=_FILE_BYTES,
            stdout=folder / _OUTPUT,
            confinement=confinement,
        )
        return cls(program, folder)

    def take(self, source_format: Format) -> WaitingProgram | None:
        """The program, for whoever comes first with a format that it can check."""
        if self._used or source_format in LOADS_MORE or not self._program.alive:
            return None
        self._used = True
        return self._program

    @property
    def alive(self) -> bool:
        return self._program.alive

    def pids(self) -> list[int]:
        """The process that was started, and the program, where that is another: inside a sandbox."""
        return self._program.pids()

    async def end(self) -> None:
        """The process is gone when this returns, whether it was used or not."""
        await self._program.end()


class Verifier:
    """Started before it is needed, because importing pysam takes longer than the queries."""

    def __init__(
        self,
        run: RunStage,
        work: Path,
        *,
        source_format: Format,
        seed: str,
        scratch_bytes: int,
        loaded: LoadedVerifier | None = None,
    ) -> None:
        self._refusal, self._output = work / "verified.json", work / _OUTPUT
        self._seed = seed
        self._order = PendingFile(work / "to-verify")
        stage = program_stage("verify", source_format.name, refusal=self._refusal)
        feed = Feed(self._order.path, self._order)
        program = None if loaded is None else loaded.take(source_format)
        running: Coroutine[Any, Any, PipelineResult]
        if loaded is not None and program is not None:
            self._output = loaded.folder / _OUTPUT
            running = program.run(stage, feed, cwd=work, scratch_bytes=scratch_bytes)
        else:
            running = run(stage, stdin=feed, stdout=self._output)
        self._running = asyncio.create_task(running, name="verify")

    async def read_source(self, source: Path, format_name: str) -> None:
        """Read records of the source, all of which is there, while its index is made; before `verify`."""
        argv = (READ_SOURCE, str(source), format_name, self._seed)
        await self._order.append(json.dumps(argv).encode() + b"\n")

    async def verify(self, kind: str, data: Path, index: Path, *options: str) -> Mapping[str, int]:
        """Check one pair; can be called once. `kind` and `options` are those of verify.py.

        Raises:
            StepFailed: tool_failed; data and index do not agree.
        """
        argv = (kind, str(data), str(index), *options, "--report", str(self._refusal), "--seed", self._seed)
        await self._order.append(json.dumps(argv).encode() + b"\n", last=True)
        await self._running
        counts: Mapping[str, int] = json.loads(await asyncio.to_thread(self._output.read_bytes))
        return counts

    async def end(self) -> None:
        """The process is gone when this returns, whether it was used or not."""
        await ended(self._running)
