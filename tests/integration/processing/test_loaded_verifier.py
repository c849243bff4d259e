"""A verifier that was loaded before there was a source finds what one of its own would have found."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED, BIGBED, CRAM, Format
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.step_context import environment_of_tools
from gooseherd.processing.tools.isolation import Confinement, SandboxUse, confinement
from gooseherd.processing.tools.limits import ToolLimits
from gooseherd.processing.tools.mounts import MovableFolder
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.source_feed import Feed
from gooseherd.processing.tools.stages import PipelineResult, Stage
from gooseherd.processing.tools.verifier import LoadedVerifier, Verifier

Tool = Callable[..., bytes]
LINES = b"".join(b"chr1\t%d\t%d\titem%d\n" % (at * 50, at * 50 + 20, at) for at in range(40_000))


@pytest.fixture(params=[SandboxUse.OFF, SandboxUse.ON])
async def use(request: pytest.FixtureRequest, sandbox_refusal: str) -> SandboxUse:
    if request.param is SandboxUse.ON and sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    return SandboxUse(request.param)


class Attempt:
    """Its folder, in which a verifier waits that was started when the folder had another name."""

    def __init__(self, scratch: Path, confined: Confinement, loaded: LoadedVerifier) -> None:
        self.loaded = loaded
        self.started = 0
        self._asked = 0
        self._scratch = scratch
        self._confined = confined

    async def verify(self, data: bytes, index_of: bytes, tool: Tool, kind: Format = BED) -> int:
        """How many regions were asked."""
        work = self._scratch / "step"
        work.mkdir(exist_ok=True)
        paths = []
        self._asked += 1
        # Shorter each time: nothing of an earlier question may be taken for part of the next.
        for name, text in (("d" * (9 - 3 * self._asked), data), ("other", index_of)):
            paths.append(work / f"{name}.bed.gz")
            paths[-1].write_bytes(tool("bgzip", "-c", stdin=text))
        tool("tabix", "-f", "-p", "bed", str(paths[1]))

        async def run(stage: Stage, /, *, stdin: Feed, stdout: Path) -> PipelineResult:
            self.started += 1
            return await run_pipeline(
                [stage],
                cwd=work,
                environment=environment_of_tools(work),
                scratch_bytes=1 << 26,
                stdin=stdin,
                stdout=stdout,
                confinement=self._confined,
            )

        verifier = Verifier(
            run, work, source_format=kind, seed="x", scratch_bytes=1 << 26, loaded=self.loaded
        )
        try:
            counts = await verifier.verify("tabix", paths[0], Path(f"{paths[1]}.tbi"))
            return counts["regions"]
        finally:
            await verifier.end()


@asynccontextmanager
async def attempt(tmp_path: Path, use: SandboxUse) -> AsyncIterator[Attempt]:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (tmp_path / "stand-in").mkdir()
    movable = MovableFolder(tmp_path, tmp_path / "stand-in")
    async with confinement(use, ToolLimits(), before, movable=movable) as confined:
        environment = environment_of_tools(before)
        loaded = await LoadedVerifier.start(before, environment=environment, confinement=confined)
        try:
            before.rename(after)
            await confined.renamed(before, after)
            loaded.folder = after
            yield Attempt(after, confined, loaded)
        finally:
            await loaded.end()


async def test_it_checks_one_pair_and_the_next_one_has_a_process_of_its_own(
    tmp_path: Path, use: SandboxUse, tool: Tool
) -> None:
    async with attempt(tmp_path, use) as made:
        assert await made.verify(LINES, LINES, tool) >= 5
        assert made.started == 0
        assert await made.verify(LINES, LINES, tool) >= 5
        assert made.started == 1


async def test_what_it_refuses_is_told_in_its_words(tmp_path: Path, use: SandboxUse, tool: Tool) -> None:
    other = LINES.replace(b"chr1", b"chr2")
    async with attempt(tmp_path, use) as made:
        with pytest.raises(StepFailed, match="the result did not pass its check") as refused:
            await made.verify(LINES, other, tool)
        assert refused.value.failure.reason is Reason.TOOL_FAILED
        assert made.started == 0


@pytest.mark.parametrize("kind", [BIGBED, CRAM])
async def test_formats_that_need_more_than_it_has_loaded_get_a_process(
    tmp_path: Path, tool: Tool, kind: Format
) -> None:
    async with attempt(tmp_path, SandboxUse.OFF) as made:
        await made.verify(LINES, LINES, tool, kind)
        assert made.started == 1


async def test_one_that_was_killed_while_it_waited_is_not_used(tmp_path: Path, tool: Tool) -> None:
    async with attempt(tmp_path, SandboxUse.OFF) as made:
        for pid in made.loaded.pids():
            os.kill(pid, signal.SIGKILL)
        while made.loaded.alive:  # noqa: ASYNC110 - it is asyncio that is to notice
            await asyncio.sleep(0.01)
        assert await made.verify(LINES, LINES, tool) >= 5
        assert made.started == 1


async def test_an_unused_one_ends_with_its_attempt(tmp_path: Path, use: SandboxUse) -> None:
    async with attempt(tmp_path, use) as made:
        assert made.loaded.alive
    assert not made.loaded.alive
