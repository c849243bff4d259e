"""Threads of a campaign. One that broke is a finding: what it would have done or seen, nobody did."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def thread_of(findings: list[str], what: str, work: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """Not started. An error of it goes to `findings` and nowhere else."""

    def run() -> None:
        try:
            work(*arguments)
        except Exception as error:
            findings.append(f"{what} broke: {type(error).__name__}: {error}")

    return threading.Thread(target=run, name=what, daemon=True)
