"""A build that cannot succeed says what is missing, in words; one that need not compile does not."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BUILD = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]


@pytest.fixture(scope="session")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_hook", ROOT / "deploy/build_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(distributions: Any, tmp_path: Path) -> Path:
    """A source tree of the test's own."""
    return Path(shutil.copytree(distributions.tree, tmp_path / "tree"))


def packages_of_dev() -> set[str]:
    found = re.search(r"^KERNEL_PACKAGES='([^']*)'", (ROOT / "dev").read_text(), re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def test_without_a_compiler_the_packages_are_named(distributions: Any, tmp_path: Path) -> None:
    done = distributions.run([*BUILD, str(tmp_path / "out")], distributions.tree, {"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "a C compiler (cc)" in done.stderr
    assert re.search(r"sudo apt-get install (gcc|make) .*libisal-dev", done.stderr)
    assert "GOOSEHERD_PURE_WHEEL=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_library_that_is_missing_is_the_only_one_named(distributions: Any, tmp_path: Path) -> None:
    asked = subprocess.run(
        ["pkg-config", "--variable=pc_path", "pkg-config"], capture_output=True, text=True, check=True
    )
    for folder in reversed(asked.stdout.strip().split(":")):
        for file in Path(folder).glob("*.pc"):
            if file.name != "libisal.pc":
                (tmp_path / file.name).unlink(missing_ok=True)
                (tmp_path / file.name).symlink_to(file)
    done = distributions.run(
        [*BUILD, str(tmp_path / "out")], distributions.tree, {"PKG_CONFIG_LIBDIR": str(tmp_path)}
    )
    assert done.returncode == 1
    assert "missing: libisal." in done.stderr
    assert re.search(r"sudo apt-get install libisal-dev$", done.stderr, re.MULTILINE)


def test_pip_shows_the_words_and_no_traceback(distributions: Any, tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    done = distributions.run(
        [sys.executable, "-m", "pip", "wheel", *options, distributions.sdist],
        tmp_path,
        {"PATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "gooseherd cannot be built here: missing: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_the_compiler_says_is_shown(distributions: Any, tree: Path, tmp_path: Path) -> None:
    with (tree / "kernel/src/main.c").open("a") as file:
        file.write("this is no C\n")
    done = distributions.run([*BUILD, str(tmp_path / "out")], tree)
    assert done.returncode == 1
    assert "gooseherd-intervals does not compile" in done.stderr
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.whl"))


def test_an_editable_install_compiles_nothing(distributions: Any, tree: Path, tmp_path: Path) -> None:
    program = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    (tmp_path / "out").mkdir()
    done = distributions.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], tree, {"PATH": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("-py3-none-any.whl")


def test_a_pure_wheel_needs_no_compiler(distributions: Any, tree: Path, tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path), "GOOSEHERD_PURE_WHEEL": "true"}
    assert distributions.build(tree, "wheel", tmp_path / "out", environ).name.endswith("-py3-none-any.whl")


def test_every_list_of_packages_is_the_same(hook: ModuleType) -> None:
    needed = {need.package for need in hook.needs({})} - {"linux-libc-dev"}  # libc6-dev brings it
    assert needed == packages_of_dev()
    dockerfile = (ROOT / "Dockerfile.worker").read_text().split("FROM packages")[0]
    assert needed <= set(re.findall(r"[a-z0-9.+-]+", dockerfile))
    installation = (ROOT / "docs/installation.md").read_text()
    assert not [package for package in needed if package not in installation]


def test_a_library_without_its_licence_text_makes_a_wheel_for_this_machine_only(hook: ModuleType) -> None:
    machine = os.uname().machine
    assert hook.platform_tag(redistributable=False) == f"linux_{machine}"
    assert re.fullmatch(rf"manylinux_\d+_\d+_{machine}", hook.platform_tag(redistributable=True))


def test_a_machine_without_glibc_makes_a_wheel_for_itself(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> str:
        raise ValueError(name)

    monkeypatch.setattr(hook.os, "confstr", unknown)
    assert hook.platform_tag(redistributable=True).startswith("linux_")
