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

TIMED_OUT = """
import os, signal, subprocess, time
from pathlib import Path
from gooseherd.processes import end_own_session

os.setsid()
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
grandchild = int(child.stdout.readline())
kill, os.kill = os.kill, lambda pid, number: None
assert not end_own_session(timeout=0)
os.kill = kill
child.kill()
child.wait()
os.kill(grandchild, signal.SIGKILL)
while ") Z " not in Path(f"/proc/{grandchild}/stat").read_text():
    time.sleep(0.01)
assert end_own_session()
print(os.path.exists(f"/proc/{grandchild}"))
"""


def test_what_lost_its_parent_is_waited_for_by_who_ends_the_session_and_its_own_child_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True)
    grandchild, there, code = done.stdout.split()
    assert (there, code) == ("False", "-9")
    assert not Path("/proc", grandchild).exists()


def test_what_was_adopted_since_a_call_that_timed_out_is_waited_for_by_the_next() -> None:
    """It was taken for a child of the process's own, and stayed as a zombie."""
    done = subprocess.run([sys.executable, "-c", TIMED_OUT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
