"""What a test needs of the machine: where it is missing the test is skipped, in CI it fails.

def kernel_path(needs: Needs) -> str:
    kernel = needs("gooseherd-intervals")
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from gooseherd.processing.tools.kernel import PROGRAM, find_kernel
from gooseherd.processing.tools.limits import find_hold

COMPLETE = "GOOSEHERD_TESTS_COMPLETE"
"""Set where everything has to be there: a skip would hide that it is not."""


class Needs:
    def __call__(self, *programs: str) -> list[Path]:
        """Their paths; the test ends here when one of them is not on this machine."""
        found = {program: _find(program) for program in programs}
        missing = [program for program, path in found.items() if path is None]
        if missing:
            self.missing(", ".join(missing))
        return [path for path in found.values() if path is not None]

    def missing(self, what: str) -> NoReturn:
        """End the test: `what` is not on this machine."""
        words = f"not on this machine: {what}"
        if os.environ.get(COMPLETE):
            pytest.fail(f"{words} ({COMPLETE} is set)", pytrace=False)
        pytest.skip(words)


def _find(program: str) -> Path | None:
    own: dict[str, Callable[[], Path | None]] = {PROGRAM: find_kernel, "gooseherd-hold": find_hold}
    if program in own:
        return own[program]()
    found = shutil.which(program)
    return Path(found) if found else None


_SLOW_AS_MANY = 50
"""As so many others one slow test counts."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, those that take longest come first: none is left over.

    Goes with --no-loadscope-reorder, else they come by their number of tests; the order in a file stays.
    """
    if not hasattr(config, "workerinput"):
        return
    work: Counter[str] = Counter()
    for item in items:
        work[str(item.path)] += _SLOW_AS_MANY if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -work[str(item.path)])


@pytest.fixture(scope="session")
def needs() -> Needs:
    return Needs()
