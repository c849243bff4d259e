"""What doctor says of the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from gooseherd import doctor
from gooseherd.settings import Settings


def check(tmp_path: Path, use: str) -> doctor.Check:
    report = doctor.examine(Settings(gooseherd_state_dir=tmp_path, worker_sandbox=use, api_port=0), {})
    return next(check for check in report.checks if check.name == "sandbox")


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
