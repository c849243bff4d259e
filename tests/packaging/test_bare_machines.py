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
SCRIPT = 'cat >"/tmp/$1" && exec sh tests/packaging/bare_machine.sh "/tmp/$1"'


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", GLIBC)
def test_pip_install_is_all_it_takes(distributions: Any, suite: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("a bare Debian root needs root")
    wheel = distributions.wheel
    tag = re.search(r"-manylinux_(\d+)_(\d+)_", wheel.name)
    assert tag is not None
    if (int(tag[1]), int(tag[2])) > GLIBC[suite]:
        pytest.skip(f"a wheel built here needs a newer glibc than {suite} has")
    with wheel.open("rb") as given:
        done = subprocess.run(
            [sys.executable, ROOT / "deploy/fresh.py", suite, "sh", "-c", SCRIPT, "sh", wheel.name],
            stdin=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=1700,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
