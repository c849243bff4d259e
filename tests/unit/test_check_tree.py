"""deploy/check_tree.py: what the repository must not hold, in a repository of its own."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/check_tree.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in runpy.run_path(str(SCRIPT))["BIG"]:
        add(tmp_path, name, b"x" * 300_000)
    return tmp_path


def add(checkout: Path, name: str, data: bytes, *, tracked: bool = True) -> None:
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_bytes(data)
    if tracked:
        subprocess.run(["git", "-C", checkout, "add", "-f", "--", name], check=True)


def checked(checkout: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, SCRIPT, checkout], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, [line.split(":")[0] for line in done.stdout.splitlines()] or [done.stderr]


def test_sources_test_data_and_files_that_are_not_tracked_pass(checkout: Path) -> None:
    add(checkout, "src/ä b.py", "µ".encode() * 1000)
    add(checkout, "tests/data/few.bam", b"\0" * 100)
    add(checkout, "left.bin", b"\0" * 500_000, tracked=False)
    add(checkout, "empty", b"")
    (checkout / "link").symlink_to("left.bin")
    subprocess.run(["git", "-C", checkout, "add", "link"], check=True)
    assert checked(checkout) == (0, [""])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("src/o.gz", b"\x1f\x8b\x08\0"),
        ("src/o.tbi", b"TBI\1\0\0"),
        ("src/list.txt", b"line\n" * 50_000),
        ("tests/data/big.bam", b"\0" * 200_001),
    ],
)
def test_what_a_trial_left_behind_is_named(checkout: Path, name: str, data: bytes) -> None:
    add(checkout, name, data)
    assert checked(checkout) == (1, [name])


def test_a_reason_for_a_file_that_is_gone_is_named(checkout: Path) -> None:
    subprocess.run(["git", "-C", checkout, "rm", "-q", "--cached", "deploy/requirements.txt"], check=True)
    assert checked(checkout) == (1, ["deploy/requirements.txt"])


def test_it_is_silent_about_no_fault_of_the_tree_but_not_about_a_missing_repository(tmp_path: Path) -> None:
    status, _ = checked(tmp_path / "absent")
    assert status == 1
