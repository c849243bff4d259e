"""Tools are missing when their trial says so, not when it was killed."""

from __future__ import annotations

from pathlib import Path

from gooseherd.worker.selfcheck import missing_tools


async def test_a_trial_that_is_killed_is_made_again(tmp_path: Path) -> None:
    killed_once = f"mkdir {tmp_path}/tried || exit 0; kill -9 $$"
    assert await missing_tools({"killed": ("sh", "-c", killed_once)}) == []


async def test_what_fails_hangs_on_being_killed_or_is_not_there_is_missing(tmp_path: Path) -> None:
    trials = {
        "fails": ("false",),
        "killed": ("sh", "-c", "kill -9 $$"),
        "not there": (str(tmp_path / "none"),),
        "well": ("true",),
    }
    assert await missing_tools(trials) == ["fails", "killed", "not there"]
