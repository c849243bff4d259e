"""The wheel in a virtual environment of its own, with nothing of the checkout on the path.

What it depends on is lent by the environment that runs the tests, so that no index is asked.
"""

from __future__ import annotations

import json
import os
import signal
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gooseherd

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
BUNDLED = "gooseherd/processing/bundled"


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and a folder of the user's."""

    folder: Path
    environ: dict[str, str]

    @property
    def python(self) -> Path:
        return self.folder / "venv/bin/python"

    @property
    def package(self) -> Path:
        (found,) = (self.folder / "venv/lib").glob("python3*/site-packages/gooseherd")
        return found

    def run(self, *arguments: str | Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments,
            cwd=self.folder / "home",
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def gooseherd(self, *arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        return self.run(self.folder / "venv/bin/gooseherd", *arguments, timeout=timeout)


def install(folder: Path, installer: Sequence[str], wheel: Path) -> Installed:
    """Without dependencies, and without the variables of the tests' environment."""
    ours = (
        "GOOSEHERD_",
        "API_",
        "SOURCE_",
        "WORKFLOW_",
        "WORKER_",
        "DATABASE_",
        "SYNC_",
        "AWS_",
        "ECS_",
        "PYTHON",
    )
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith((*ours, "VIRTUAL_ENV"))
    }
    environ["GOOSEHERD_STATE_DIR"] = str(folder / "state")
    (folder / "home").mkdir(parents=True)
    venv.create(folder / "venv", with_pip=False)
    its = Installed(folder, environ)
    names = {"{python}": str(its.python), "{wheel}": str(wheel)}
    done = its.run(sys.executable, "-m", *(names.get(word, word) for word in installer))
    assert done.returncode == 0, done.stderr
    return its


PIP = ("pip", "--python", "{python}", "install", "--quiet", "--no-index", "--no-deps", "{wheel}")
UV = ("uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", "{python}", "{wheel}")


def install_and_lend(folder: Path, wheel: Path) -> Installed:
    """By pip; the dependencies are those of the tests' environment, without the programs of extras."""
    its = install(folder, PIP, wheel)
    # A line of a path file adds a folder and reads none of the path files in it: not our editable install.
    (its.package.parent / "lent.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return its


@pytest.fixture(scope="module")
def bare(distributions: Any, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Without an extra."""
    return install_and_lend(tmp_path_factory.mktemp("bare"), distributions.wheel)


@pytest.mark.parametrize("installer", [PIP, UV], ids=["pip", "uv"])
def test_installers_leave_the_programs_executable(
    distributions: Any, tmp_path: Path, installer: Sequence[str]
) -> None:
    its = install(tmp_path, installer, distributions.wheel)
    for name, arguments in (("gooseherd-intervals", ["--version"]), ("gooseherd-hold", ["--probe"])):
        program = its.package / "processing/bundled" / name
        assert os.access(program, os.X_OK)
        assert its.run(program, *arguments).returncode in {0, 1}  # 1: no filters on this kernel
    listed = its.run("ldd", its.package / "processing/bundled/gooseherd-intervals").stdout
    assert f"{its.package}/processing/bundled/lib/libhts.so.3" in listed


def test_it_is_not_the_checkout_that_runs(bare: Installed) -> None:
    done = bare.run(bare.python, "-c", "import gooseherd; print(gooseherd.__file__)")
    assert done.stdout.strip() == str(bare.package / "__init__.py")


def test_the_command_tells_its_version(bare: Installed) -> None:
    done = bare.gooseherd("--version")
    assert (done.returncode, done.stdout.strip()) == (0, gooseherd.__version__)


def test_its_metadata_has_the_same_version(bare: Installed) -> None:
    done = bare.run(bare.python, "-c", "import importlib.metadata as m; print(m.version('gooseherd'))")
    assert done.stdout.strip() == gooseherd.__version__


def test_doctor_finds_the_programs_of_the_wheel(bare: Installed) -> None:
    report = json.loads(bare.gooseherd("doctor", "--json").stdout)
    found = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is True
    assert found["interval kernel"]["state"] == "ok"
    assert "is not built" not in found["system call filter"]["detail"]
    assert not [check for check in report["checks"] if "./dev" in check["remedy"]]


def test_a_program_of_the_checkout_is_not_taken(bare: Installed) -> None:
    script = "from gooseherd.processing.tools.kernel import find_kernel; print(find_kernel())"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = bare.run("env", f"PATH={path}", bare.python, "-c", script)
    assert done.stdout.strip() == str(bare.package / "processing/bundled/gooseherd-intervals")


def test_the_types_hold_for_a_strict_user(bare: Installed) -> None:
    done = bare.run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
        *("--python-executable", bare.python, "--cache-dir", bare.folder / "mypy"),
        HERE / "a_users_program.py",
    )
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


def test_a_wrong_use_of_the_sdk_is_noticed_by_its_types(bare: Installed, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from gooseherd.client import GooseherdClient\n"
        "GooseherdClient('http://127.0.0.1:1').ready('local', 7)\n"
    )
    done = bare.run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
        *("--python-executable", bare.python, "--cache-dir", bare.folder / "mypy"),
        wrong,
    )
    assert done.returncode == 1
    assert 'Argument 2 has incompatible type "int"; expected "str"' in done.stdout


def test_the_users_program_runs(bare: Installed) -> None:
    done = bare.run(bare.python, HERE / "a_users_program.py", "http://127.0.0.1:9")
    assert done.stdout.strip() == f"{gooseherd.__version__}: nothing answers at http://127.0.0.1:9/files"


@pytest.mark.e2e
def test_up_add_and_get_work(bare: Installed) -> None:
    (bare.folder / "home/few.bed").write_text("chr1\t5\t9\nchr1\t1\t4\n")
    up = subprocess.Popen(
        [bare.python.with_name("gooseherd"), "up", "--json", "--port", "0"],
        cwd=bare.folder / "home",
        env=bare.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert up.stdout is not None
    try:
        assert json.loads(up.stdout.readline())["profile"] == "embedded"
        added = bare.gooseherd("add", "few.bed")
        assert added.returncode == 0, added.stderr
        got = bare.gooseherd("get", "local/few.bed", "--region", "chr1:1-4")
        assert (got.returncode, got.stdout) == (0, "chr1\t1\t4\n"), got.stderr
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
        up.stdout.close()


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_smoke_takes_every_format_end_to_end(bare: Installed) -> None:
    done = bare.gooseherd("smoke", "--json", timeout=350)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert len(report["formats"]) >= 15
