"""The files of a folder that may be added, and what is left out with the reason."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from gooseherd.cli.sidecars import INDEX_SUFFIXES

NAMED: Final = 20
"""Files that are left out are named up to here; the rest is counted."""


@dataclass(slots=True)
class Skipped:
    """What was left out: how many for each reason, and the first of them by name."""

    counts: Counter[str] = field(default_factory=Counter)
    named: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: Path | str, reason: str) -> None:
        """One more."""
        self.counts[reason] += 1
        if len(self.named) < NAMED:
            self.named.append((str(path), reason))

    def lines(self) -> Iterator[str]:
        """For people: the named ones, then how many there are in all."""
        for path, reason in self.named:
            yield f"left out {path}: {reason}"
        if self.counts.total() > len(self.named):
            counts = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.most_common())
            yield f"left out {self.counts.total():,} in all: {counts}"


def files_below(
    top: Path, skipped: Skipped, *, globs: Sequence[str] = (), avoid: Collection[Path] = ()
) -> Iterator[Path]:
    """Plain files below `top` in order of their paths, links followed, no folder visited twice.

    Hidden files and folders are left out, `avoid` and all below too. With `globs` a file must
    match one: its name, or its path below `top` when the pattern has a slash.
    """
    unwanted = {_identity(folder.stat()) for folder in avoid if folder.is_dir()}
    # With those above it: a link upwards would bring in what was not asked for.
    visited = {_identity(folder.stat()) for folder in (top, *top.resolve().parents)}
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            skipped.add(folder, f"cannot be read ({error.strerror})")
            continue
        folders = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                skipped.add(path, "hidden")
                continue
            try:
                about = entry.stat()
            except OSError as error:
                skipped.add(path, "a link to nothing" if entry.is_symlink() else f"{error.strerror}")
                continue
            if stat.S_ISDIR(about.st_mode):
                if _identity(about) in unwanted:
                    skipped.add(path, "the service's own state")
                elif _identity(about) in visited:
                    skipped.add(path, "a link to a folder above it, or one that was visited")
                else:
                    visited.add(_identity(about))
                    folders.append(path)
            elif not stat.S_ISREG(about.st_mode):
                skipped.add(path, "not a plain file")
            elif globs and not _matches(path, top, globs):
                skipped.add(path, "does not match --glob")
            elif path.suffix.lower() in INDEX_SUFFIXES:
                pass  # looked at with the file it lies beside
            else:
                yield path
        pending += reversed(folders)


def _matches(path: Path, top: Path, globs: Sequence[str]) -> bool:
    below = path.relative_to(top).as_posix()
    return any(fnmatchcase(below if "/" in glob else path.name, glob) for glob in globs)


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino
