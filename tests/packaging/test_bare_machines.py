"""The wheel on machines with nothing on them, as a newcomer installs it: packages come from the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GLIBC = {"bookworm": (2, 36), "trixie": (2, 41)}
SCRIPT = 'cat >"/tmp/$2" && exec sh "tests/packaging/$1.sh" "/tmp/$2"'

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def run(suite: str, script: str, file: Path) -> subprocess.CompletedProcess[str]:
    """The script of this folder on `file`, in a bare root of its own."""
    if os.geteuid() != 0:
        pytest.skip("a bare Debian root needs root")
    with file.open("rb") as given:
        return subprocess.run(
            [sys.executable, ROOT / "deploy/fresh.py", suite, "sh", "-c", SCRIPT, "sh", script, file.name],
            stdin=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=1700,
        )


@pytest.mark.parametrize("suite", GLIBC)
def test_pip_install_is_all_it_takes(distributions: Any, suite: str) -> None:
    tag = re.search(r"-manylinux_(\d+)_(\d+)_", distributions.wheel.name)
    assert tag is not None
    if (int(tag[1]), int(tag[2])) > GLIBC[suite]:
        pytest.skip(f"a wheel built here needs a newer glibc than {suite} has")
    done = run(suite, "bare_machine", distributions.wheel)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.parametrize("suite", GLIBC)
def test_a_source_distribution_builds_with_the_packages_it_names(distributions: Any, suite: str) -> None:
    done = run(suite, "bare_build", distributions.sdist)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
