"""What tools in a sandbox find of the machine: what they need to run, neither files nor sockets of others."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.step_context import environment_of_tools
from gooseherd.processing.tools import isolation as confining
from gooseherd.processing.tools.isolation import Confinement, SandboxUse, confinement
from gooseherd.processing.tools.limits import ToolLimits, find_hold
from gooseherd.processing.tools.pipelines import run_pipeline
from gooseherd.processing.tools.stages import Stage

LIMITS = ToolLimits(memory_bytes=256 << 20)


@pytest.fixture(autouse=True)
def without_filter(sandbox_refusal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where gooseherd-hold is not built: the filter alone would refuse all sockets."""
    if sandbox_refusal:
        pytest.skip(f"no sandbox: {sandbox_refusal}")
    monkeypatch.setattr(confining, "find_hold", lambda: None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Of an attempt, in a work folder that has others."""
    made = tmp_path / "work" / "mine.1" / "scratch"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def run(scratch: Path) -> Callable[..., Any]:
    async def go(stage: Stage, confined: Confinement, *, cwd: Path = scratch) -> Failure | str:
        """What it wrote, or how it failed."""
        output = cwd / "output"
        try:
            await run_pipeline(
                [stage],
                cwd=cwd,
                environment=environment_of_tools(cwd),
                scratch_bytes=8 << 20,
                stdout=output,
                confinement=confined,
            )
        except StepFailed as failed:
            return failed.failure
        return output.read_text(errors="replace")

    return go


def python(code: str) -> Stage:
    return Stage("tool", (sys.executable, "-I", "-S", "-c", code))


@pytest.fixture(params=["/run", "/tmp", "~"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of another program."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="gh-", dir=Path(request.param).expanduser()))
    except OSError:
        pytest.skip(f"this user may not write to {request.param}")
    yield folder
    shutil.rmtree(folder)


async def test_a_socket_of_the_machine_is_out_of_reach_without_the_filter_too(
    run, scratch: Path, elsewhere: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(elsewhere / "s"))
        listening.listen()
        call = python(
            f"import socket; socket.socket(socket.AF_UNIX).connect({str(elsewhere / 's')!r}); print('heard')"
        )
        assert await run(call, Confinement(LIMITS)) == "heard\n"
        async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
            failure = await run(call, confined)
    assert isinstance(failure, Failure), failure
    assert "No such file or directory" in failure.detail


async def test_a_file_of_the_machine_is_not_there(run, scratch: Path, elsewhere: Path) -> None:
    (elsewhere / "private").write_text("secret")
    read = python(f"print(open({str(elsewhere / 'private')!r}).read())")
    assert await run(read, Confinement(LIMITS)) == "secret\n"
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        failure = await run(read, confined)
    assert isinstance(failure, Failure), failure
    assert "No such file or directory" in failure.detail


async def test_of_the_work_folder_an_attempt_finds_its_own_scratch_alone(run, scratch: Path) -> None:
    work = scratch.parent.parent
    (work / "other.1" / "scratch").mkdir(parents=True)
    (work / "mine.1" / "spec.json").write_text("{}")
    look = python(
        "import os\n"
        f"print([sorted(os.listdir(f)) for f in ({str(work)!r}, {str(work / 'mine.1')!r})])\n"
        f"open({str(scratch / 'new')!r}, 'w').close()"
    )
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        assert await run(look, confined) == "[['mine.1'], ['scratch']]\n"
    assert (scratch / "new").exists()


async def test_nothing_but_the_scratch_can_be_written_to(run, scratch: Path) -> None:
    write = (
        "import os\n"
        "def writable(folder):\n"
        "    try:\n"
        "        open(os.path.join(folder, 'new'), 'w').close()\n"
        "    except OSError:\n"
        "        return False\n"
        "    return True\n"
        "def folders(folder, depth):\n"
        "    yield folder\n"
        "    for entry in os.scandir(folder) if depth else ():\n"
        "        if entry.is_dir(follow_symlinks=False) and entry.path not in ('/proc', '/usr'):\n"
        "            yield from folders(entry.path, depth - 1)\n"
        f"print([f for f in folders('/', {len(scratch.parts)}) if writable(f)])"
    )
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        assert await run(python(write), confined) == f"{[str(scratch)]}\n"


@pytest.mark.parametrize("name", ["samtools", "bcftools", "tabix", "bgzip", "sort", "wc", "gzip"])
async def test_the_programs_of_an_attempt_run(run, scratch: Path, name: str, needs: Any) -> None:
    needs(name)
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        output = await run(Stage(name, (name, "--version")), confined)
    assert isinstance(output, str), output
    assert name in output


async def test_the_libraries_of_our_programs_are_imported(run, scratch: Path) -> None:
    modules = "gooseherd.processing.programs.verify, backports.zstd, pyBigWig, pysam, numpy, Bio.SeqIO, ssl"
    imports = Stage("python", (sys.executable, "-I", "-c", f"import {modules}; print('all')"))
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        assert await run(imports, confined) == "all\n"


async def test_our_native_programs_run(run, scratch: Path, needs: Any) -> None:
    needs("gooseherd-hold")
    hold = find_hold()
    assert hold is not None
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        output = await run(Stage("hold", (str(hold), "--", "wc", "--version")), confined)
    assert isinstance(output, str), output
    assert output.startswith("wc")


async def test_a_program_in_a_home_folder_runs_and_what_is_beside_it_is_not_there(
    run, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `make prefix=~/.local install`."""
    home = tmp_path / "home"
    programs, notes = home / ".local" / "bin", home / ".local" / "share" / "notes"
    programs.mkdir(parents=True)
    notes.mkdir(parents=True)
    (home / "notes").write_text("private")
    (programs / "bgzip").symlink_to("../versions/bgzip-1")
    (home / ".local" / "versions").mkdir()
    shutil.copy("/bin/sh", home / ".local" / "versions" / "bgzip-1")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    look = f"ls {home} {notes} 2>&1 || true"
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        output = await run(Stage("bgzip", ("bgzip", "-c", f"echo {home}/*; {look}; ls -A {home}")), confined)
    assert isinstance(output, str), output
    assert output.startswith(f"{home}/*"), output
    assert "No such file or directory" in output
    assert output.endswith("\n.local\n")


async def test_beside_a_program_anywhere_only_what_belongs_to_programs_is_there(
    run, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where samtools is in /data/bin, and a service has its state beside it."""
    data = tmp_path / "data"
    for folder in ("bin", "lib", "state"):
        (data / folder).mkdir(parents=True)
        (data / folder / "file").touch()
    shutil.copy("/bin/sh", data / "bin" / "bgzip")
    monkeypatch.setenv("PATH", f"{data / 'bin'}{os.pathsep}{os.environ['PATH']}")
    async with confinement(SandboxUse.ON, LIMITS, scratch) as confined:
        output = await run(Stage("bgzip", ("bgzip", "-c", f"cd {data} && echo * */*")), confined)
    assert output == "bin lib bin/bgzip bin/file lib/file\n"


async def test_a_work_folder_behind_a_link_is_found_by_both_names(run, scratch: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("work")
    cwd = link / "mine.1" / "scratch"
    look = python(f"import os; print(os.listdir({str(scratch)!r}), os.listdir({str(cwd)!r}))")
    async with confinement(SandboxUse.ON, LIMITS, cwd) as confined:
        assert await run(look, confined, cwd=cwd) == "['output'] ['output']\n"


async def test_what_is_named_can_be_read_and_what_is_hidden_in_it_cannot(
    run, scratch: Path, tmp_path: Path
) -> None:
    shared, absent = tmp_path / "shared", tmp_path / "absent"
    (shared / "keys").mkdir(parents=True)
    (shared / "keys" / "key").write_text("secret")
    (shared / "token").write_text("secret")
    (shared / "genome.fa").write_text("bases")
    look = python(
        "import os\n"
        f"os.chdir({str(shared)!r})\n"
        "print(open('genome.fa').read(), os.listdir('keys'), os.path.getsize('token'))\n"
        "open('new', 'w')"
    )
    hidden = (shared / "keys", shared / "token", tmp_path / "other")
    async with confinement(SandboxUse.ON, LIMITS, scratch, (shared, absent), hidden) as confined:
        failure = await run(look, confined)
        assert (scratch / "output").read_text() == "bases [] 0\n"
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.TOOL_FAILED
    assert "Read-only file system" in failure.detail


async def test_a_named_folder_around_the_work_folder_shows_no_other_attempt(
    run, scratch: Path, tmp_path: Path
) -> None:
    work = scratch.parent.parent
    (work / "other.1").mkdir()
    look = python(f"import os; print(os.listdir({str(work)!r}))")
    async with confinement(SandboxUse.ON, LIMITS, scratch, (tmp_path,), (work,)) as confined:
        assert await run(look, confined) == "['mine.1']\n"
