"""What doctor says of the sandbox and of the filter of system calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gooseherd import doctor
from gooseherd.processing.tools import isolation as confining
from gooseherd.processing.tools.preflight import Check
from gooseherd.settings import Settings


def check(tmp_path: Path, use: str, name: str = "sandbox") -> Check:
    report = doctor.examine(Settings(gooseherd_state_dir=tmp_path, worker_sandbox=use, api_port=0), {})
    return next(check for check in report.checks if check.name == name)


@pytest.fixture
def without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("without_bubblewrap")
@pytest.mark.parametrize(("use", "state"), [("auto", "warn"), ("on", "missing"), ("off", "ok")])
def test_without_one_it_depends_on_what_was_asked_for(tmp_path: Path, use: str, state: str) -> None:
    found = check(tmp_path, use)
    assert found.state == state
    if use != "off":
        assert found.detail == "none: bwrap is not installed"
        assert "bubblewrap" in found.remedy


def test_where_it_can_be_had_it_is_said_to_be(tmp_path: Path) -> None:
    found = check(tmp_path, "auto")
    if found.state == "warn":
        pytest.skip(found.detail)
    assert found.detail == "tools run in one (bubblewrap)"


@pytest.mark.parametrize(("use", "state"), [("auto", "warn"), ("on", "warn"), ("off", "ok")])
def test_a_filter_that_is_not_built_is_told_unless_none_was_wanted(
    tmp_path: Path, use: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confining, "find_hold", lambda: None)
    found = check(tmp_path, use, "system call filter")
    assert found.state == state
    assert found.detail == ("off by WORKER_SANDBOX" if use == "off" else "none: gooseherd-hold is not built")


def test_a_kernel_without_filters_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = tmp_path / "gooseherd-hold"
    refusing.write_text("#!/bin/sh\necho the kernel refuses a filter: Invalid argument\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(confining, "find_hold", lambda: refusing)
    found = check(tmp_path, "auto", "system call filter")
    assert found.state == "warn"
    assert found.detail == "none: the kernel refuses a filter: Invalid argument"


def test_a_filter_that_holds_is_said_to(tmp_path: Path, needs: Any) -> None:
    needs("gooseherd-hold")
    found = check(tmp_path, "auto", "system call filter")
    if found.state == "warn":
        pytest.skip(found.detail)
    assert found.detail == "tools run behind one (seccomp)"


def test_on_ecs_tools_are_a_matter_of_the_workers_image(tmp_path: Path) -> None:
    settings = Settings(gooseherd_state_dir=tmp_path, ecs_cluster="herd", api_port=0)
    report = doctor.examine(settings, {"PATH": str(tmp_path)})
    assert "samtools" not in {check.name for check in report.checks}
    (tools,) = [check for check in report.checks if check.name == "tools"]
    assert (tools.state, tools.detail) == (
        "ok",
        "of tasks in herd: run their image with --doctor",
    )


def test_a_program_that_finds_its_files_outside_the_sandbox_only_is_named(
    tmp_path: Path, needs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("bwrap")
    if check(tmp_path, "auto").state != "ok":
        pytest.skip("no sandbox here")
    programs, elsewhere = tmp_path / "bin", tmp_path / "elsewhere"
    for folder in (programs, elsewhere):
        folder.mkdir()
    (elsewhere / "library").touch()
    (programs / "bgzip").write_text(f"#!/bin/sh\nexec cat {elsewhere}/library\n")
    (programs / "bgzip").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = check(tmp_path, "auto")
    assert (found.state, found.detail) == ("missing", "not everything runs in one (bubblewrap): bgzip")
    assert "WORKER_READABLE_PATHS" in found.remedy
    settings = Settings(
        gooseherd_state_dir=tmp_path, worker_sandbox="auto", api_port=0, worker_readable_paths=str(elsewhere)
    )
    (named,) = (c for c in doctor.examine(settings, {}).checks if c.name == "sandbox")
    assert named.state == "ok"


def test_a_folder_that_no_sandbox_can_show_is_told(tmp_path: Path, needs: Any) -> None:
    needs("bwrap")
    if check(tmp_path, "auto").state != "ok":
        pytest.skip("no sandbox here")
    settings = Settings(
        gooseherd_state_dir=tmp_path,
        worker_sandbox="auto",
        api_port=0,
        worker_readable_paths="/proc/self/task",
    )
    (found,) = (c for c in doctor.examine(settings, {}).checks if c.name == "sandbox")
    assert found.state == "missing"
    assert "WORKER_READABLE_PATHS" in found.detail
