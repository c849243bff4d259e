"""Tools that want too much end with the right reason, and in a sandbox they find nothing to harm."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.tools import isolation as confining
from gooseherd.processing.tools import limits as limiting
from gooseherd.processing.tools.isolation import Confinement, SandboxUse, confinement
from gooseherd.processing.tools.limits import ToolLimits
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.stages import Stage

LIMITS = ToolLimits(memory_bytes=96 << 20)
ALONE = """
import os, time
until = time.monotonic() + 30
while len([name for name in os.listdir("/proc") if name.isdigit()]) > 3:
    assert time.monotonic() < until
    time.sleep(0.05)
"""
"""Ends well once only itself, its init and the keeper are left: init sees the others off."""
SCRATCH = 8 << 20


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch" / "step").mkdir(parents=True)
    return tmp_path / "scratch"


@pytest.fixture(params=["with limits", "in a sandbox too"])
async def held(
    request: pytest.FixtureRequest, scratch: Path, sandbox_refusal: str
) -> AsyncIterator[Confinement]:
    use = SandboxUse.OFF if request.param == "with limits" else SandboxUse.ON
    if use is SandboxUse.ON and sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    async with confinement(use, LIMITS, scratch) as made:
        yield made


@pytest.fixture
async def sandboxed(scratch: Path, sandbox_refusal: str) -> AsyncIterator[Confinement]:
    if sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    async with confinement(SandboxUse.ON, LIMITS, scratch) as made:
        yield made


@pytest.fixture
def run(scratch: Path) -> Callable[..., Any]:
    async def go(confined: Confinement, *stages: Stage, **more: Any) -> Failure | None:
        """How it failed; None: it did not."""
        given = {"scratch_bytes": SCRATCH, **more}
        try:
            await run_pipeline(
                stages,
                cwd=scratch / "step",
                environment={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                confinement=confined,
                **given,
            )
        except StepFailed as failed:
            return failed.failure
        return None

    return go


def python(code: str) -> Stage:
    return Stage("tool", (sys.executable, "-I", "-S", "-c", code))


async def test_a_tool_that_allocates_without_end_is_out_of_memory(run, held) -> None:
    failure = await run(held, python("x = [bytearray(1 << 20) for _ in range(4096)]"))
    assert failure is not None
    assert failure.reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize("use", [SandboxUse.OFF, SandboxUse.AUTO])
async def test_a_tool_that_burns_cpu_is_out_of_time(run, scratch, use) -> None:
    async with confinement(use, ToolLimits(cpu_seconds=1), scratch) as confined:
        failure = await run(confined, python("while True: pass"))
    assert failure is not None
    assert failure.reason is Reason.DEADLINE_EXCEEDED
    assert failure.detail.startswith("tool used more CPU time than an attempt has")


async def test_a_tool_that_will_not_hear_of_it_is_killed(run, monkeypatch) -> None:
    monkeypatch.setattr(limiting, "_CPU_GRACE_SECONDS", 1)
    deaf = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    failure = await run(Confinement(ToolLimits(cpu_seconds=1)), python(deaf))
    assert failure is not None


async def test_sort_and_samtools_say_that_memory_is_short_in_words_we_know(run, held, scratch) -> None:
    reads = "r\t0\tc\t9\t60\t*\t*\t0\t0\t" + "A" * 9000 + "\t" + "I" * 9000 + "\n"
    (scratch / "step" / "in.sam").write_text("@SQ\tSN:c\tLN:900\n" + reads * 12_000)
    for argv in (
        ("sort", "--buffer-size=1G", "/dev/zero"),
        ("samtools", "sort", "-m1G", "-o", "out.bam", "in.sam"),
    ):
        failure = await run(held, Stage(argv[0], argv), scratch_bytes=1 << 40)
        assert failure is not None, argv
        assert failure.reason is Reason.OUT_OF_MEMORY, argv


async def test_a_tool_that_only_reserves_memory_is_left_alone(run, held) -> None:
    reserve = "import mmap; mmap.mmap(-1, 1 << 32, prot=mmap.PROT_READ)"
    assert await run(held, python(reserve)) is None


async def test_one_file_that_grows_without_end_is_out_of_disk(run, held) -> None:
    failure = await run(held, python("f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 16))"))
    assert failure is not None
    assert failure.reason is Reason.OUT_OF_DISK


async def test_many_files_that_grow_together_are_out_of_disk(run, held) -> None:
    fill = "for n in range(4): open(str(n), 'wb').write(bytes(6 << 20))\nimport time; time.sleep(99)"
    failure = await run(held, python(fill))
    assert failure is not None
    assert failure.reason is Reason.OUT_OF_DISK
    assert str(SCRATCH) in failure.detail


async def test_files_without_a_name_count_too(run, held) -> None:
    fill = (
        "import os, time; kept = []\n"
        "for n in range(4):\n"
        "    kept.append(open('x', 'wb')); kept[-1].write(bytes(6 << 20)); kept[-1].flush(); os.unlink('x')\n"
        "time.sleep(99)"
    )
    failure = await run(held, python(fill))
    assert failure is not None
    assert failure.reason is Reason.OUT_OF_DISK


async def test_a_tool_that_opens_files_without_end_fails_itself_and_nobody_else(run, held) -> None:
    failure = await run(held, python("kept = [open('/dev/null') for _ in range(5000)]"))
    assert failure is not None
    assert failure.reason is Reason.TOOL_FAILED
    assert "Too many open files" in failure.detail


async def test_what_a_tool_left_running_is_ended_with_it(run, held) -> None:
    """It has no parent any more, and would hold the pipeline up for as long as it lives."""
    assert await run(held, Stage("sh", ("sh", "-c", "sleep 600 & exit 0"))) is None


async def test_a_tool_killed_without_a_word_is_lost(run, held) -> None:
    failure = await run(held, python("import os; os.kill(os.getpid(), 9)"))
    assert failure is not None
    assert failure.reason is Reason.WORKER_LOST


async def test_a_tool_leaves_no_core_dump(run, held, scratch) -> None:
    failure = await run(held, python("import os; os.abort()"))
    assert failure is not None
    assert failure.detail == "tool died of SIGABRT"
    assert list((scratch / "step").iterdir()) == []


async def test_a_cancelled_pipeline_leaves_nothing_in_the_sandbox(run, sandboxed, scratch) -> None:
    waits = "import time; open('here', 'w').close(); time.sleep(600)"
    running = asyncio.create_task(run(sandboxed, python(waits), python(waits)))
    async with asyncio.timeout(60):
        while not (scratch / "step" / "here").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await run(sandboxed, python(ALONE)) is None


async def test_whenever_a_pipeline_is_cancelled_nothing_of_it_stays_in_the_sandbox(run, sandboxed) -> None:
    waits = python("import time; time.sleep(600)")
    for moment in range(40):
        running = asyncio.create_task(run(sandboxed, waits, waits))
        await asyncio.sleep(moment / 1000)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await run(sandboxed, python(ALONE)) is None


async def test_the_sandbox_has_no_network(run, scratch, sandbox_refusal, monkeypatch) -> None:
    if sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    # Of itself: the filter of system calls would refuse the socket already.
    monkeypatch.setattr(confining, "find_hold", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        async with confinement(SandboxUse.ON, LIMITS, scratch) as sandboxed:
            failure = await run(sandboxed, python(connect))
        assert failure is not None
        assert failure.reason is Reason.TOOL_FAILED
        assert await run(Confinement(LIMITS), python(connect)) is None


async def test_only_the_attempts_folder_can_be_written_to(run, sandboxed, scratch) -> None:
    elsewhere = scratch.parent / "elsewhere"
    failure = await run(sandboxed, python(f"open({str(elsewhere)!r}, 'w')"))
    assert failure is not None
    assert "Read-only file system" in failure.detail
    assert not elsewhere.exists()
    assert await run(sandboxed, python(f"open({str(scratch / 'mine')!r}, 'w').write('x')")) is None
    assert (scratch / "mine").read_text() == "x"


async def test_the_mounts_of_the_sandbox_cannot_be_undone_from_inside(
    run, scratch, sandbox_refusal, monkeypatch
) -> None:
    if sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    monkeypatch.setattr(confining, "find_hold", lambda: None)
    async with confinement(SandboxUse.ON, LIMITS, scratch) as sandboxed:
        failure = await run(sandboxed, Stage("mount", ("mount", "-o", "remount,rw", "/")))
    assert failure is not None
    assert failure.detail.startswith("mount failed with status")


async def test_what_is_hidden_from_tools_is_empty_to_them(run, scratch, tmp_path, sandbox_refusal) -> None:
    if sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    folder, key, plain = tmp_path / "secrets", tmp_path / "admin-key", tmp_path / "plain"
    folder.mkdir(mode=0o700)
    for file in (folder / "a.json", key, plain):
        file.write_text("readable")
    link = tmp_path / "link"
    link.symlink_to(folder)
    look = (
        "import os\n"
        f"assert open({str(plain)!r}).read() == 'readable'\n"
        "try:\n"
        f"    assert open({str(key)!r}).read() == ''\n"
        "except PermissionError:\n"
        "    pass\n"
        f"assert os.listdir({str(folder)!r}) == os.listdir({str(link)!r}) == []\n"
        f"open({str(folder / 'new')!r}, 'w')"
    )
    hidden = (link, key, tmp_path / "none")
    async with confinement(SandboxUse.ON, LIMITS, scratch, (tmp_path,), hidden) as hiding:
        failure = await run(hiding, python(look))
    assert failure is not None
    assert "Read-only file system" in failure.detail
    assert (folder / "a.json").read_text() == key.read_text() == "readable"


async def test_no_other_process_is_seen_or_reached(run, sandboxed) -> None:
    look = (
        "import os\n"
        f"assert not os.path.exists('/proc/{os.getpid()}/environ') or {os.getpid()} < 9\n"
        f"os.kill({os.getpid()}, 0)"
    )
    failure = await run(sandboxed, python(look))
    assert failure is not None
    assert "ProcessLookupError" in failure.detail or "No such process" in failure.detail


async def test_nothing_runs_on_when_the_attempt_is_over(scratch, sandbox_refusal) -> None:
    if sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        prefix = await confined.prefix(SCRATCH, scratch / "step")
        assert prefix.inside
        left = await asyncio.create_subprocess_exec(*prefix.argv, "sleep", "600")
    async with asyncio.timeout(60):
        assert await left.wait() != 0


async def test_what_must_be_and_cannot_be_is_misconfigured(run, scratch, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(scratch))
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        failure = await run(confined, Stage("true", ("true",)))
    assert failure is not None
    assert failure.reason is Reason.MISCONFIGURED
    assert failure.detail == "WORKER_SANDBOX is on, and there is none here: bwrap is not installed"


async def test_what_may_be_and_cannot_be_is_done_without(run, scratch, monkeypatch) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(scratch))
    async with confinement(SandboxUse.AUTO, LIMITS, scratch) as confined:
        prefix = await confined.prefix(SCRATCH, scratch)
        monkeypatch.setenv("PATH", path)
        assert not prefix.inside
        assert await run(confined, python("pass")) is None


@pytest.mark.skipif(os.getuid() == 0, reason="the limit does not hold for root")
async def test_forking_without_end_stops_at_the_limit(run, sandboxed) -> None:
    failure = await run(sandboxed, python("import os, time\nwhile True:\n    os.fork() or time.sleep(600)"))
    assert failure is not None
    assert failure.reason is Reason.TOOL_FAILED
    assert "Resource temporarily unavailable" in failure.detail


@pytest.fixture
def reachable_hold(needs: Any) -> Iterator[Path]:
    """gooseherd-hold where every user may run it: root's home, and what is in it, is root's."""
    [hold] = needs("gooseherd-hold")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.copy(hold, folder))


def test_outside_a_sandbox_forking_without_end_stops_too(reachable_hold: Path) -> None:
    """As a user who is not root, for whom the limit does not hold."""
    limits = ToolLimits().command(1 << 20, alone=False, hold=reachable_hold)
    # A few more than run already, so that the test needs not start thousands.
    allowed = next(word for word in limits if word.startswith("--nproc="))
    few = f"--nproc={int(allowed.partition('=')[2]) - 4096 + 64}"
    bomb = "while :; do sleep 60 >/dev/null 2>&1 & echo; done"
    other = 65534 if os.getuid() == 0 else None
    with subprocess.Popen(
        [*(few if word == allowed else word for word in limits), "sh", "-c", bomb],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
        user=other,
        group=other,
        extra_groups=None if other is None else [],
    ) as process:
        try:
            output, words = process.communicate(timeout=100)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 126:
        pytest.skip("another user cannot reach the program")
    assert process.returncode != 0
    assert b"fork" in words
    assert output.count(b"\n") < 4096
