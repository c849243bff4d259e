"""How pipelines of real processes end: well, badly, cancelled, starved."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processes import signal_child
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.progress import Watch
from gooseherd.processing.tools.stages import PipelineFailed, PipelineResult, RunningStage, Stage, end_stages
from gooseherd.processing.tools.stderr import StderrTail


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    work = tmp_path / "work"
    work.mkdir()

    async def go(*stages: Stage, **more: Any) -> PipelineResult:
        settings: dict[str, Any] = {"environment": {"PATH": os.environ["PATH"]}, "scratch_bytes": 1 << 24}
        return await run_pipeline(stages, cwd=work, **{**settings, **more})

    return go


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.01)


def running(pid: str) -> bool:
    """Not gone, and not a zombie that waits for a parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def shell(script: str, **more: Any) -> Stage:
    """A stage that misbehaves on purpose."""
    return Stage(script[:20], ("sh", "-c", script), **more)


def python(code: str, **more: Any) -> Stage:
    return Stage("python", (sys.executable, "-c", code), **more)


async def test_bytes_go_through_all_stages_unharmed(run: Callable[..., Any], tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(3_000_000))
    result = await run(Stage("cat", ("cat",)), Stage("cat", ("cat",)), stdin=source, stdout=out)
    assert out.read_bytes() == source.read_bytes()
    assert [end.returncode for end in result.stages] == [0, 0]


async def test_a_stage_sees_only_what_it_is_given(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    out = tmp_path / "out"
    await run(Stage("env", ("env",)), stdout=out, environment={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    assert out.read_text().splitlines() == [f"PATH={os.environ['PATH']}", "LC_ALL=C"]


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_failure_anywhere_fails_the_pipeline(run: Callable[..., Any], position: int) -> None:
    stages = [shell("cat; echo fine >&2") for _ in range(3)]
    stages[position] = shell("cat; echo it broke >&2; exit 3")
    with pytest.raises(PipelineFailed) as caught:
        await run(*stages)
    assert caught.value.failure.reason is Reason.TOOL_FAILED
    assert "status 3: it broke" in caught.value.failure.detail


async def test_a_broken_pipe_is_blamed_on_the_reader_that_failed(run: Callable[..., Any]) -> None:
    with pytest.raises(PipelineFailed) as caught:
        await run(Stage("yes", ("yes",)), shell("head -c 100 >/dev/null; echo no more >&2; exit 4"))
    assert "no more" in caught.value.failure.detail


async def test_a_reader_that_leaves_early_and_happily_is_a_failure_too(run: Callable[..., Any]) -> None:
    with pytest.raises(PipelineFailed, match="SIGPIPE"):
        await run(Stage("yes", ("yes",)), Stage("head", ("head", "-c", "9")))


async def test_an_error_line_of_htslib_counts_although_the_status_is_zero(run: Callable[..., Any]) -> None:
    with pytest.raises(PipelineFailed, match="reported an error: odd one"):
        await run(shell("echo '[E::hts_idx_push] odd one' >&2"))
    # Also when so much follows that it would have scrolled away.
    with pytest.raises(PipelineFailed, match="reported an error: odd one"):
        await run(shell("echo '[E::hts_idx_push] odd one' >&2; yes warning | head -c 300000 >&2"))


async def test_words_of_a_program_of_ours_are_taken_as_they_are(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    refusal = tmp_path / "refusal"
    refusal.write_text('{"reason": "source_invalid", "detail": "line 7: odd"}')
    with pytest.raises(PipelineFailed) as caught:
        await run(shell("exit 65", refusal=refusal), Stage("sort", ("sort",)))
    assert (caught.value.failure.reason, caught.value.failure.detail) == (
        Reason.SOURCE_INVALID,
        "line 7: odd",
    )


async def test_a_stage_that_is_killed_without_a_word_was_lost(run: Callable[..., Any]) -> None:
    with pytest.raises(PipelineFailed) as caught:
        await run(shell("kill -9 $$"), Stage("cat", ("cat",)))
    assert caught.value.failure.reason is Reason.WORKER_LOST


@pytest.fixture
async def ends_noticed_by_the_loop() -> AsyncIterator[None]:
    """asyncio learns of a child's end in its loop, as it does from Python 3.12 on, and not in a thread."""
    if sys.version_info >= (3, 12):
        yield
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.set_child_watcher(watcher)
    yield
    asyncio.set_child_watcher(None)  # type: ignore[arg-type]  # the default again
    watcher.close()


async def killed_but_not_noticed() -> asyncio.subprocess.Process:
    """The loop does not run between its end and the return."""
    process = await asyncio.create_subprocess_exec("sleep", "600")
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - on purpose
    return process


@pytest.mark.usefixtures("ends_noticed_by_the_loop")
async def test_a_signal_to_a_child_that_has_ended_leaves_its_exit_status() -> None:
    process = await killed_but_not_noticed()
    assert not signal_child(process, signal.SIGTERM)
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.usefixtures("ends_noticed_by_the_loop")
async def test_a_stage_that_was_killed_before_we_stopped_it_failed_of_itself() -> None:
    process, reader = await killed_but_not_noticed(), asyncio.create_task(asyncio.sleep(0))
    stage = RunningStage(Stage("sort", ("sort",)), process, False, reader, 0, StderrTail(None))
    await end_stages([stage])
    assert (stage.ended().returncode, stage.failed) == (-signal.SIGKILL, True)


@pytest.mark.parametrize("through", ["a file that is too large", "many files"])
async def test_a_stage_that_writes_too_much_ran_out_of_disk(
    run: Callable[..., Any], tmp_path: Path, through: str
) -> None:
    script = {
        "a file that is too large": "head -c 3000000 /dev/zero > big",
        "many files": "i=0; while :; do i=$((i+1)); head -c 400000 /dev/zero > f$i; done",
    }[through]
    with pytest.raises(PipelineFailed) as caught:
        await run(shell(script), scratch_bytes=1_000_000)
    assert caught.value.failure.reason is Reason.OUT_OF_DISK


async def test_a_missing_program_is_an_operators_matter(run: Callable[..., Any]) -> None:
    with pytest.raises(StepFailed) as caught:
        await run(Stage("cat", ("cat", "/dev/zero")), Stage("x", ("no-such-program",)))
    assert caught.value.failure.reason is Reason.MISCONFIGURED
    assert "no-such-program" in caught.value.failure.detail


async def test_what_is_kept_of_standard_error_is_bounded(run: Callable[..., Any]) -> None:
    result = await run(shell("yes x | head -c 1000000 >&2; echo last >&2"))
    assert len(result.stages[0].stderr) <= 64 << 10
    assert result.stages[0].stderr.endswith("last\n")


@pytest.mark.parametrize("stubborn", [False, True])
async def test_cancellation_ends_every_stage_before_it_returns(
    run: Callable[..., Any], tmp_path: Path, stubborn: bool
) -> None:
    trap = "trap '' TERM; " if stubborn else ""
    ready = tmp_path / "ready"
    task = asyncio.create_task(
        run(
            shell(f"{trap}touch {ready}; while :; do sleep 0.1; done"),
            Stage("cat", ("cat",)),
            Stage("cat", ("cat",)),
        )
    )
    await eventually(ready.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_twice_still_leaves_no_process(run: Callable[..., Any], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    task = asyncio.create_task(run(shell(f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done")))
    await eventually(ready.exists)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stages_die_with_the_process_that_runs_them(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import asyncio, os
from pathlib import Path
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.stages import Stage
sleeper = Stage("sh", ("sh", "-c", "echo $$ >> {pids}; exec sleep 600"))
here = Path({str(tmp_path)!r})
asyncio.run(run_pipeline([sleeper] * 2, cwd=here, environment=dict(os.environ), scratch_bytes=9999))
"""
    runner = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    runner.kill()
    await runner.wait()
    await eventually(lambda: not any(running(pid) for pid in pids.read_text().split()))


async def test_stages_stay_in_the_callers_process_group(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    await run(python("import os; print(os.getpgrp(), os.getsid(0))"), stdout=out)
    assert out.read_text().split() == [str(os.getpgrp()), str(os.getsid(0))]


async def test_limits_hold_for_every_stage_from_its_first_moment(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    await run(shell("ulimit -f; ulimit -c"), stdout=out, scratch_bytes=512_000)
    assert out.read_text().split() == ["1000", "0"]


async def test_progress_grows_with_what_has_been_read(run: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"x" * 1000)
    seen: list[tuple[float, int, int]] = []
    go = tmp_path / "go"
    watch = Watch(source, tmp_path / "out", 1000, lambda *now: seen.append(now), reading=0.5, span=(0.0, 0.8))
    reader = python(
        f"import os, time\nf = open({str(source)!r}, 'rb', buffering=0)\nf.read(500)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\nf.read()"
    )
    task = asyncio.create_task(run(reader, stdout=tmp_path / "out", watch=watch))
    await eventually(lambda: any(read == 500 for _, read, _ in seen))
    go.touch()
    await task
    fraction = next(fraction for fraction, read, _ in seen if read == 500)
    assert fraction == pytest.approx(0.2)
    assert all(0 <= fraction <= 0.8 for fraction, _, _ in seen)


async def test_nothing_is_interpreted_by_a_shell(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    await run(Stage("echo", ("echo", "$(id)", "`id`", ";", "*")), stdout=out)
    assert out.read_text() == "$(id) `id` ; *\n"
