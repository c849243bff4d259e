"""The options that let bubblewrap build a file system of named files and folders.

bubblewrap begins with an empty file system in memory. A bind mount that is read-only keeps nobody
from connecting to a socket below it, so what need not be there is not.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MOST_LINKS: Final = 40
"""On the way to one path, as in the kernel (path_resolution(7))."""
_ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True)
class MovableFolder:
    """How a folder that is renamed below `at` is renamed for those in the sandbox, too.

    A mount point follows the folder that it lies on. `stand_in` is an empty folder, which those in the
    sandbox see in place of `at`; in it is a mount point for the folder, which `moved` renames.
    """

    at: Path
    stand_in: Path

    def mount_point(self, path: Path) -> Path:
        """The folder that stands for `path`, which lies below `at`."""
        return self.stand_in / path.relative_to(self.at)

    def moved(self, before: Path, after: Path) -> None:
        """Tell those in the sandbox that the folder has another name now.

        Raises:
            OSError: the stand-in is gone.
        """
        to = self.mount_point(after)
        to.parent.mkdir(parents=True, exist_ok=True)
        self.mount_point(before).rename(to)


class Mounts:
    """What is to be in a sandbox; each path is found by its own name and where its links lead."""

    def __init__(self) -> None:
        self._made: dict[Path, tuple[str, ...]] = {}
        """What is made at each path; an option of an ancestor comes first."""
        self._folders: set[Path] = set()
        """Those that are there with all that is below them."""
        self._shown: list[Path] = []
        """All that were asked for."""
        self._hidden: list[Path] = []
        """Folders that are empty instead."""

    def copy(self) -> Mounts:
        """One that has all that this one has, for more to be added."""
        made = Mounts()
        made._made, made._folders = dict(self._made), set(self._folders)
        made._shown, made._hidden = list(self._shown), list(self._hidden)
        return made

    def show(self, paths: Iterable[Path]) -> None:
        """Files and folders to read; those that do not exist are left out."""
        real = sorted(filter(None, [self._link(path) for path in paths]))
        self._shown += real
        for path in real:
            if not self._is_shown(path):
                self._made[path] = ("--ro-bind-try", str(path), str(path))
                self._folders.add(path)

    def hide(self, paths: Sequence[Path]) -> None:
        """Of what is shown so far; a file is empty then, or cannot be read, and in a folder is no more than
        what else was to be shown.
        """
        for path in paths:
            try:
                real = path.resolve(strict=True)
            except OSError:
                continue
            if not self._is_shown(real):
                continue
            if real.is_dir():
                self._made[real] = ("--tmpfs", str(real))
                self._hidden.append(real)
                for inside in self._shown:
                    if inside.is_relative_to(real) and inside != real:
                        self._made[inside] = ("--ro-bind-try", str(inside), str(inside))
            else:
                self._made[real] = ("--ro-bind", "/dev/null", str(real))

    def let_write(self, folder: Path, movable: MovableFolder | None) -> Path:
        """The folder that can be written to; returns its real path."""
        self._link(folder)
        real = folder.resolve()
        if movable is not None:
            at = movable.at.resolve()
            self._made[at] = ("--ro-bind", str(movable.stand_in), str(at))
            for path in (*tuple(self._made), real):
                if path != at and path.is_relative_to(at):
                    self._make_in(movable.stand_in / path.relative_to(at), path)
        self._made[real] = ("--bind", str(real), str(real))
        return real

    def options(self, devices: Sequence[str]) -> list[str]:
        """For bubblewrap; nothing of it can be written to but the folder that may be.

        `devices` are the options for what no machine's folder is shown for: /dev and /proc.
        """
        made = {
            path: option
            for path, option in self._made.items()
            if option[0] != "--symlink" or not self._is_shown(path)
        }
        everything = made.pop(_ROOT, ())
        rest = [word for path in sorted(made) for word in made[path]]
        closing = [word for path in ("/dev", *self._hidden, "/") for word in ("--remount-ro", str(path))]
        return [*everything, *devices, *rest, *closing]

    def _make_in(self, place: Path, path: Path) -> None:
        """Prepare for what is to be at `path` in the folder that stands for one of its parents."""
        place.parent.mkdir(parents=True, exist_ok=True)
        option, target, *_ = self._made.get(path, ("--bind", str(path)))
        if option == "--symlink":
            place.symlink_to(target)
            del self._made[path]
        elif path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()

    def _is_shown(self, path: Path) -> bool:
        return any(folder in self._folders for folder in (path, *path.parents))

    def _link(self, path: Path) -> Path | None:
        """Make the links on the way to `path`; returns its real path, None where there is nothing."""
        links: dict[Path, str] = {}
        try:
            real = _resolve(path, links)
            real.lstat()
        except OSError:
            return None
        for link, target in links.items():
            self._made.setdefault(link, ("--symlink", target, str(link)))
        return real


def _resolve(path: Path, links: dict[Path, str]) -> Path:
    """The real path, as Path.resolve; `links` gets what each link on the way leads to."""
    waiting, at, followed = list(path.absolute().parts[1:]), _ROOT, 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            at = at.parent
            continue
        try:
            target = os.readlink(at / part)  # noqa: PTH115 - as it is written, relative or not
        except OSError:
            at /= part
            continue
        links[at / part] = target
        followed += 1
        if followed > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            at = _ROOT
        waiting[:0] = (word for word in target.split("/") if word not in ("", "."))
    return at
