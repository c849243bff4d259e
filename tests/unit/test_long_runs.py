"""deploy/long.py: steps one after another, a table at the end, a status that tells."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/long.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("long_runs", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "long_runs", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(module.os, "getuid", lambda: 0)
    return module


def planned(script: ModuleType, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    steps = [
        script.Step(name, ("sh", "-c", command), "" if command else "no such thing here")
        for name, command in commands.items()
    ]
    monkeypatch.setattr(script, "steps", lambda: iter(steps))


def test_a_failed_step_shows_its_end_and_the_others_still_run(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    planned(
        script, monkeypatch, good="echo fine", bad="seq 100; echo why >&2; exit 4", absent="", last="true"
    )
    assert script.main([]) == 1
    printed = capfd.readouterr().out
    assert "fine" not in printed.splitlines()
    assert "    why\n" in printed
    assert "    1\n" not in printed
    words = [line.split(" s  ")[-1] for line in printed.splitlines()[-5:-1]]
    assert words == ["ok", "FAILED (4)", "left out: no such thing here", "ok"]
    assert [path.name for path in sorted(script.LOGS.iterdir())] == [
        "01-good.log",
        "02-bad.log",
        "04-last.log",
    ]


def test_steps_are_chosen_by_a_part_of_their_name(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    planned(script, monkeypatch, first="exit 1", second="true")
    assert script.main(["sec"]) == 0
    assert script.main(["third"]) == 2
    assert script.main(["--list"]) == 0
    assert capfd.readouterr().out.splitlines()[-2:] == ["first", "second"]


def folders_of_long_tests() -> set[Path]:
    """Of the modules that have such tests; found in their text: collecting all tests takes half a minute."""
    tests = SCRIPT.parents[1] / "tests"
    marker = "pytest.mark." + "long"
    return {path for path in tests.rglob("*.py") if re.search(rf"{re.escape(marker)}\b", path.read_text())}


def test_each_long_test_is_run_by_a_step(script: ModuleType) -> None:
    project = SCRIPT.parents[1]
    run: list[Path] = []
    for step in script.steps():
        if "long" in step.command and step.command[1:4] == ("test", "-m", "long"):
            run += [project / word for word in step.command if word.startswith("tests")]
    found = folders_of_long_tests()
    assert found, "none has the marker"
    missing = [str(path.relative_to(project)) for path in found if not any(map(path.is_relative_to, run))]
    assert not missing, f"no step of deploy/long.py runs them: {sorted(missing)}"


def test_steps_have_names_of_their_own_and_what_they_name_is_there(script: ModuleType) -> None:
    steps = list(script.steps())
    assert len({step.name for step in steps}) == len(steps)
    project = SCRIPT.parents[1]
    for step in steps:
        for word in step.command:
            if word.startswith(("tests", "kernel/", "./")):
                assert (project / word).exists(), word
    assert os.access(project / ".ci/run", os.X_OK)
