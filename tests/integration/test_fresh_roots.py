"""`./dev fresh`: the status is the command's, and nothing stays, whatever ends it.

The base is made of this machine's shell.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "deploy/fresh.py"
PROGRAMS = ("sh", "sleep", "cat", "id", "ls", "unshare", "setsid")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with a few programs, as debootstrap would have made it."""
    if (
        os.getuid() != 0
        or subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode
    ):
        pytest.skip("needs root and mounts")
    if subprocess.run(["git", "-C", PROJECT, "rev-parse", "--verify", "-q", "HEAD"], check=False).returncode:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("fresh")
    root = folder / "root"
    for name in (
        "root",
        "etc",
        "proc",
        "sys",
        "dev",
        "tmp",
        "usr/bin",
        "etc/apt/apt.conf.d",
        "usr/local/share",
        "etc/ssl/certs",
    ):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        for file in (found, *re.findall(r"(/\S+) \(0x", listed)):
            copy = root / ("usr/bin/" + program if file == found else file[1:])
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(file).resolve(), copy)
    subprocess.run(["tar", "-C", root, "-cf", folder / "bookworm.tar", "."], check=True)
    return folder / "bookworm.tar"


@pytest.fixture
def cache(base: Path, tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/bookworm.tar").symlink_to(base)
    return tmp_path / "cache"


def argv(*arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *arguments]


@pytest.fixture
def fresh(cache: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "GOOSEHERD_FRESH_DIR": str(cache)}
        return subprocess.run(
            argv(*arguments), env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    return run


def left(cache: Path) -> list[str]:
    return [path.name for path in (cache / "roots").iterdir()]


@contextmanager
def running(cache: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """The script runs in a root, in a session of its own, and has printed a line."""
    with subprocess.Popen(
        argv("sh", "-c", script),
        env={**os.environ, "GOOSEHERD_FRESH_DIR": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


def processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if line.startswith(f"sleep {mark} "):
            found.append(line)
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_has_a_clean_clone_and_its_status_is_the_answer(fresh: Run, cache: Path) -> None:
    done = fresh("bookworm", "sh", "-c", "pwd; ls; id -u; exit 7")
    assert done.returncode == 7, done.stderr
    lines = done.stdout.split()
    assert (lines[0], lines[-1]) == ("/root/gooseherd", "0")
    assert {"dev", "src", "tests"} <= set(lines)
    commit = subprocess.run(
        ["git", "-C", PROJECT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
    )
    assert f"commit {commit.stdout.strip()}" in done.stderr
    assert left(cache) == []


@pytest.mark.parametrize(("script", "status"), [("kill -KILL $$", 137), ("kill -TERM $$", 143)])
def test_a_command_that_a_signal_ends_has_the_status_of_a_shell(fresh: Run, script: str, status: int) -> None:
    assert fresh("sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "no command"),
        (("trixie",), 2, "no command"),
        (("absent",), 127, "absent: No such file"),
        (("/etc",), 126, "Permission denied"),
    ],
)
def test_what_cannot_be_run_is_named(
    fresh: Run, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = fresh(*arguments)
    assert done.returncode == status
    assert message in done.stderr


def test_user_namespaces_are_there_unless_they_are_not_wanted(fresh: Run) -> None:
    try_it = ("unshare", "--user", "--map-root-user", "id", "-u")
    if subprocess.run(try_it, capture_output=True, check=False).returncode:
        pytest.skip("not allowed on this machine")
    assert fresh(*try_it).returncode == 0
    refused = fresh("--no-userns", *try_it)
    assert refused.returncode != 0
    assert "unshare failed: Operation not permitted" in refused.stderr


def test_what_the_command_leaves_running_ends_with_it(fresh: Run, cache: Path) -> None:
    mark = f"8{os.getpid()}"
    assert fresh("sh", "-c", f"setsid sleep {mark} & exit 0").returncode == 0
    until(lambda: not processes(mark))
    assert left(cache) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_command_which_ends_as_it_likes(cache: Path, number: signal.Signals) -> None:
    mark = f"7{os.getpid()}"
    script = f"trap 'exit 9' INT TERM HUP; echo started; setsid sleep {mark} & while :; do sleep 0.05; done"
    with running(cache, script) as process:
        until(lambda: bool(processes(mark)))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # As a terminal does.
        else:
            process.send_signal(number)
        assert process.wait(60) == 9
    assert not processes(mark)
    assert left(cache) == []


def test_everything_ends_when_it_is_killed_and_the_next_run_removes_the_root(fresh: Run, cache: Path) -> None:
    mark = f"6{os.getpid()}"
    with running(cache, f"echo started; setsid sleep {mark} & sleep 1000") as process:
        until(lambda: bool(processes(mark)))
        process.kill()
        process.wait(60)
        until(lambda: not processes(mark))
    assert str(cache) not in Path("/proc/mounts").read_text()
    assert len(left(cache)) == 1
    assert fresh("id").returncode == 0
    assert left(cache) == []


def test_two_run_at_a_time_without_seeing_each_other(fresh: Run, cache: Path) -> None:
    with running(cache, "echo started; echo > /tmp/mine; sleep 1000"):
        done = fresh("sh", "-c", "ls /tmp; ls -d /proc/[0-9]* | cat")
        assert len(left(cache)) == 1, "the root in use is left alone"
    assert "mine" not in done.stdout
    assert len(done.stdout.splitlines()) <= 4


def test_a_kept_root_is_used_again_and_by_one_at_a_time(fresh: Run, tmp_path: Path) -> None:
    keep = ("--keep", str(tmp_path / "kept"))
    assert fresh(*keep, "sh", "-c", "echo > ../mark; echo > src/changed; echo > README.md").returncode == 0
    again = fresh(*keep, "sh", "-c", "cat ../mark README.md")
    assert again.returncode == 0, again.stderr
    assert "gooseherd" in again.stdout, "what is committed is as it was"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    assert "something else" in fresh("--keep", str(tmp_path / "other"), "id").stderr
    assert (tmp_path / "other/file").exists()


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fresh", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_callers_indexes_go_along_without_those_of_local_folders(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\n"
        "extra-index-url = file:///somewhere\n  https://two.example/simple\nfind-links = /somewhere\n"
    )
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "two.example")
    script.write_pip_settings(tmp_path / "made", script.pip_settings())
    lines = (tmp_path / "made").read_text().splitlines()
    assert {
        "index-url = https://one.example/simple",
        "extra-index-url = https://two.example/simple",
        "trusted-host = two.example",
    } <= set(lines)
    assert "somewhere" not in "".join(lines)
