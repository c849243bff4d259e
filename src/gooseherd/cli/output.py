"""Where `get` writes: a file, inside a folder, through a device or FIFO, or to standard output."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gooseherd.cli.outcome import CommandError, Exit

_STDOUT = 1


@dataclass(frozen=True, slots=True)
class Output:
    """One place as it was named. `path` None: standard output. `streams`: nothing can lie beside it."""

    path: Path | None
    streams: bool = False
    folder: bool = False

    def file(self, name: str) -> Path | None:
        """The path to write to: in a folder, the file called `name`."""
        return self.path / name if self.folder and self.path else self.path

    @contextlib.contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Open for writing; a regular file is there whole at the end, or as it was."""
        from gooseherd.client.destination import naming, writing

        if self.path is not None:
            with writing(self.path) as sink:
                yield sink
            return
        with naming(Path("standard output")):
            if sys.stdout is None:
                raise CommandError(Exit.USAGE, "standard output is closed")
            yield sys.stdout.buffer
            sys.stdout.flush()


STANDARD_OUTPUT = Output(None, streams=True)


def output_of(text: str | None, option: str) -> Output | None:
    """What an option names, None when it was not given; known before any work begins.

    Raises:
        CommandError: nothing can be there.
        OSError: it cannot be written.
    """
    if text is None:
        return None
    if text == "-":
        return STANDARD_OUTPUT
    from gooseherd.client.destination import Stream, destination

    path = Path(text)
    if not text:
        raise CommandError(Exit.USAGE, f"{option} names no file")
    if path.is_dir():
        return Output(path, folder=True)
    if text.endswith("/"):
        raise CommandError(Exit.USAGE, f"{text}: no such folder")
    end = destination(path)
    if isinstance(end, Stream):
        return STANDARD_OUTPUT if end.descriptor == _STDOUT else Output(path, streams=True)
    return Output(path)
