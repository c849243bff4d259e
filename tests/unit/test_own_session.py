"""A process that ends takes along what it has started, and what that has started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDING = """
import os, subprocess, sys
from gooseherd.processes import end_own_session

os.setsid()
# A shell and, in its background, a grandchild, which loses its parent when both are killed.
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
grandchild = int(child.stdout.readline())
assert end_own_session()
print(grandchild, os.path.exists(f"/proc/{grandchild}"), child.wait())
"""


def test_what_lost_its_parent_is_waited_for_by_who_ends_the_session_and_its_own_child_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True)
    grandchild, there, code = done.stdout.split()
    assert (there, code) == ("False", "-9")
    assert not Path("/proc", grandchild).exists()
