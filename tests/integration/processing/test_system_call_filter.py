"""What no tool needs of the kernel is refused, and what tools do need goes on working."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.tools import isolation as confining
from gooseherd.processing.tools.isolation import Confinement, SandboxUse, confinement, try_filter
from gooseherd.processing.tools.limits import ToolLimits, find_hold
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.stages import Stage

LIMITS = ToolLimits(memory_bytes=96 << 20)

TRIES = """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, *arguments):
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        done = getattr(libc, name)(*(a.encode() if isinstance(a, str) else a for a in arguments))
        os._exit(100 if done >= 0 else ctypes.get_errno())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps([tried(*call) for call in json.loads(CALLS)]))
"""
"""The calls as they are answered: an errno, 100 for success, below 0 the signal that ended the caller.
Each is such that it would do no harm if it were let through."""

FATAL: list[list[Any]] = [
    ["mount", None, None, None, 0, None], ["umount2", "", 0], ["chroot", ""], ["unshare", 0x10000000],
    ["unshare", 0x00020000], ["setns", -1, 0], ["swapon", "", 0], ["reboot", 0x0BAD],
]  # fmt: skip
REFUSED: list[list[Any]] = [
    ["ptrace", 0, 0, None, None], ["personality", 0x0040000], ["sethostname", None, 1],
    ["process_vm_readv", 1, None, 0, None, 0, 0], ["acct", None], ["quotactl", 0, None, 0, None],
    ["socket", 1, 1, 0], ["socket", 1, 2, 0], ["socket", 2, 1, 0], ["socket", 10, 2, 0],
    ["socket", 16, 3, 0], ["socket", 17, 3, 0],
    ["socket", 38, 5, 0],
    ["socketpair", 2, 1, 0, None], ["ioctl", 0, 0x5412, None],
    ["syscall", 425, 0, None], ["syscall", 438, -1, 0, 0],
]  # fmt: skip
REFUSED_ON_X86_64: list[list[Any]] = [
    # bpf, keyctl, add_key, perf_event_open, userfaultfd; clone with a new user namespace
    ["syscall", 321, 99, None, 0], ["syscall", 250, 99], ["syscall", 248, None, None, None, 0, 0],
    ["syscall", 298, None, 0, 0, 0, 0], ["syscall", 323, -1],
    ["syscall", 56, 0x10000011, None, None, None, 0],
]  # fmt: skip
HARMLESS: list[list[Any]] = [["personality", -1], ["getpid"]]


@pytest.fixture(autouse=True)
async def filtered(needs: Any) -> None:
    needs("gooseherd-hold")
    there, how = await try_filter(SandboxUse.AUTO)
    if not there:
        pytest.skip(f"no filter: {how}")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    async def go(code: str, confined: Confinement | None = None) -> Failure | str:
        """What it wrote, or how it failed."""
        try:
            await run_pipeline(
                [Stage("tool", (sys.executable, "-I", "-S", "-c", code))],
                cwd=tmp_path,
                environment={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                scratch_bytes=8 << 20,
                stdout=tmp_path / "said",
                confinement=confined or Confinement(LIMITS),
            )
        except StepFailed as failed:
            return failed.failure
        return (tmp_path / "said").read_text()

    return go


def tries(calls: list[list[Any]]) -> str:
    return f"CALLS = {json.dumps(calls)!r}" + TRIES


async def test_what_only_an_intruder_calls_ends_it(run) -> None:
    output = await run(tries(FATAL))
    assert isinstance(output, str), output
    answers = dict(zip((json.dumps(call) for call in FATAL), json.loads(output), strict=True))
    assert answers == dict.fromkeys(answers, -signal.SIGSYS)


async def test_what_a_tool_can_do_without_is_refused(run) -> None:
    calls = REFUSED + (REFUSED_ON_X86_64 if platform.machine() == "x86_64" else [])
    output = await run(tries(calls))
    assert isinstance(output, str), output
    answers = dict(zip((json.dumps(call) for call in calls), json.loads(output), strict=True))
    assert answers == dict.fromkeys(answers, errno.EPERM)


async def test_what_tools_do_is_let_through(run) -> None:
    output = await run(tries(HARMLESS))
    assert isinstance(output, str), output
    assert json.loads(output) == [100] * len(HARMLESS)


async def test_threads_processes_and_local_sockets_work(run) -> None:
    code = (
        "import socket, subprocess, threading\n"
        "thread = threading.Thread(target=print, args=('thread',), kwargs={'flush': True})\n"
        "thread.start(); thread.join()\n"
        "subprocess.run(['sh', '-c', 'echo child | cat'], check=True)\n"
        "one, other = socket.socketpair(); one.send(b'socket'); print(other.recv(9).decode())"
    )
    assert await run(code) == "thread\nchild\nsocket\n"


@pytest.mark.parametrize("use", [SandboxUse.OFF, SandboxUse.AUTO])
async def test_a_socket_of_another_program_on_this_machine_is_out_of_reach(
    run, tmp_path: Path, use: SandboxUse
) -> None:
    """A tool sees the folders in which programs keep them: a container engine's, a database's."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        code = (
            f"import socket; socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r}); print('heard')"
        )
        subprocess.run([sys.executable, "-I", "-c", code], check=True)  # noqa: ASYNC221 - it is short
        (tmp_path / "work").mkdir()
        async with confinement(SandboxUse.AUTO, LIMITS, tmp_path / "work") as confined:
            failure = await run(code, Confinement(LIMITS) if use is SandboxUse.OFF else confined)
    assert isinstance(failure, Failure), failure
    assert "Operation not permitted" in failure.detail


async def test_being_ended_for_a_call_is_the_tools_failure_and_says_so(run) -> None:
    failure = await run("import ctypes; ctypes.CDLL(None).chroot(b'')")
    assert failure == Failure(Reason.TOOL_FAILED, "tool was ended for a system call that no tool needs")


async def test_it_cannot_be_shaken_off_by_running_something_else(run) -> None:
    failure = await run("import os; os.execvp('unshare', ['unshare', '--user', 'true'])")
    assert isinstance(failure, Failure)
    assert "system call" in failure.detail


async def test_inside_the_sandbox_it_holds_as_well(run, tmp_path) -> None:
    async with confinement(SandboxUse.AUTO, LIMITS, tmp_path) as confined:
        output = await run(tries([["socket", 2, 1, 0], ["setns", -1, 0]]), confined)
    assert isinstance(output, str), output
    assert json.loads(output) == [errno.EPERM, -signal.SIGSYS]


async def test_without_the_sandbox_by_setting_there_is_no_filter_either(run, tmp_path) -> None:
    assert await try_filter(SandboxUse.OFF) == (False, "off by WORKER_SANDBOX")
    async with confinement(SandboxUse.OFF, LIMITS, tmp_path) as confined:
        assert await run(tries([["socket", 2, 1, 0]]), confined) == "[100]\n"


async def test_where_our_program_is_not_built_the_limits_hold_all_the_same(run, monkeypatch) -> None:
    monkeypatch.setattr(confining, "find_hold", lambda: None)
    assert await try_filter(SandboxUse.AUTO) == (False, "gooseherd-hold is not built")
    confined = Confinement(ToolLimits(memory_bytes=96 << 20, cpu_seconds=60, open_files=64))
    look = "import resource as r; print(r.getrlimit(r.RLIMIT_CPU), r.getrlimit(r.RLIMIT_NOFILE)[0])"
    assert await run(look, confined) == "(60, 65) 64\n"
    failure = await run("x = bytearray(1 << 30)", confined)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.OUT_OF_MEMORY


async def test_our_program_sets_the_same_limits(run) -> None:
    confined = Confinement(ToolLimits(memory_bytes=96 << 20, cpu_seconds=60, open_files=64))
    look = (
        "import resource as r\n"
        "limits = r.RLIMIT_CPU, r.RLIMIT_NOFILE, r.RLIMIT_DATA, r.RLIMIT_CORE, r.RLIMIT_FSIZE\n"
        "print(*map(r.getrlimit, limits))"
    )
    wanted = [(60, 65), (64, 64), (96 << 20, 96 << 20), (0, 0), (8 << 20, 8 << 20)]
    assert await run(look, confined) == " ".join(map(str, wanted)) + "\n"


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        ((), 2, "usage"),
        (("--filter", "--"), 2, "usage"),
        (("--cpu=-1", "--", "true"), 2, "not a number"),
        (("--cpu=9:x", "--", "true"), 2, "not a number"),
        (("--stack=9", "--", "true"), 2, "unknown"),
        (("--", "no such program"), 127, "No such file"),
        (("--", "/etc/passwd"), 126, "Permission denied"),
        (("--cpu=60", "--filter", "--", "sh", "-c", "exit 7"), 7, ""),
    ],
)
def test_our_program_says_what_is_wrong(argv: tuple[str, ...], status: int, words: str) -> None:
    hold = find_hold()
    assert hold is not None
    done = subprocess.run([hold, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert words in done.stderr
