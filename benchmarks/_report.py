"""The report of a benchmark as JSON on standard output: whole, or as far as it came when told to end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Of a time limit, and of Ctrl-C."""


@contextmanager
def reporting(
    so_far: Callable[[], Mapping[str, Any]], *, indent: int | None = None
) -> Iterator[Callable[[], None]]:
    """Gives what prints the whole report, with `"complete": true`; `so_far` makes it at any moment.

    Told to end within the block, the process prints what there is with `"complete": false`, at once, and
    ends with 128 and the number of the signal when the block is left. A second signal ends it as it stands.
    A block that fails prints it, too.
    """
    process, printed = os.getpid(), False

    def write(*, complete: bool) -> None:
        nonlocal printed
        printed = True
        text = json.dumps({**so_far(), "complete": complete}, indent=indent, ensure_ascii=False) + "\n"
        # Not by print: the signal may have come in the middle of one.
        data = text.encode()
        while data:
            data = data[os.write(1, data) :]

    def on_signal(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != process:  # a fork has this handler, too
            os.kill(os.getpid(), number)
        elif not printed:
            write(complete=False)
        raise SystemExit(128 + number)

    before = [(each, signal.signal(each, on_signal)) for each in _SIGNALS]
    try:
        yield lambda: write(complete=True)
    except Exception:
        if not printed:
            write(complete=False)
        raise
    finally:
        for each, handler in before:
            signal.signal(each, handler)
