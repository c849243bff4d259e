"""Measures from outside how far tools are: what they have read of the source, what they have written."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gooseherd.domain.processing import Report


@dataclass(frozen=True, slots=True)
class Watch:
    """What to look at, and what it means.

    `span` is the part of the step's 0..1 that this pipeline fills; `reading` is the share
    of it that is done when the whole source has been read.
    """

    source: Path
    output: Path
    expected_bytes: int
    report: Report
    reading: float = 0.5
    span: tuple[float, float] = (0.0, 1.0)

    def fraction(self, read: int, size: int, written: int) -> float:
        """Below the span's end as long as the pipeline runs."""
        done = self.reading * min(read / max(size, 1), 1.0)
        done += (1 - self.reading) * min(written / max(self.expected_bytes, 1), 0.99)
        return self.span[0] + (self.span[1] - self.span[0]) * done


def folder_bytes(folder: Path) -> int:
    """The size of all files in `folder`, links not followed."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def free_bytes(folder: Path) -> int:
    """Free bytes of the file system that `folder` is on."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def unlinked_bytes(pids: Sequence[int]) -> int:
    """The size of files that have no name any more and that the processes have open."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for opened in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    about = opened.stat()
                    if stat.S_ISREG(about.st_mode) and not about.st_nlink:
                        sizes[about.st_dev, about.st_ino] = about.st_size
    return sum(sizes.values())


def kill_holders(pipes: Collection[int]) -> None:
    """SIGKILL to every other process that has one of the pipes (inodes) open."""
    names = {f"pipe:[{inode}]" for inode in pipes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if any(str(opened.readlink()) in names for opened in (process / "fd").iterdir()):
                os.kill(int(process.name), signal.SIGKILL)


def positions(source: Path, output: Path, pids: Sequence[int]) -> tuple[int | None, int, int]:
    """(how far the source has been read, or None when nobody has it open; its size; the output's size)."""
    known = source.stat()
    furthest: int | None = None
    for pid in pids:
        # The process may be gone, or going: then it reads nothing any more.
        with contextlib.suppress(OSError, ValueError):
            for opened in Path(f"/proc/{pid}/fd").iterdir():
                about = opened.stat()
                if (about.st_dev, about.st_ino) == (known.st_dev, known.st_ino):
                    position = Path(f"/proc/{pid}/fdinfo/{opened.name}").read_text().split()[1]
                    furthest = max(furthest or 0, int(position))
    try:
        written = output.stat().st_size
    except FileNotFoundError:
        written = 0
    return furthest, known.st_size, written
