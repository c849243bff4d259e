"""What a container runtime does before the program: its image for a root, and nothing of ours to write to.

Run as a program: `python -I -S image_process.py PLAN ARGV...`; PLAN is a JSON file (image.py
writes it), ARGV comes behind the image's entry point. The process becomes the program, so
its signals need no forwarding. A user namespace of one user makes this possible without
being root; network and process ids are the machine's. Standard library only, Linux only
(user_namespaces(7), mount(2)).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from contextlib import suppress

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 0x1
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MS_BITS = (
    (os.ST_NOSUID, 0x2),
    (os.ST_NODEV, 0x4),
    (os.ST_NOEXEC, 0x8),
    (os.ST_NOATIME, 0x400),
    (os.ST_NODIRATIME, 0x800),
    (os.ST_RELATIME, 0x200000),
)
"""Flags as statvfs(3) shows and mount(2) takes them; what a mount has cannot be taken from it here."""
_LIBC = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> int:
    """Become the image's program; returns only by an OSError."""
    with open(argv[0], encoding="utf-8") as file:  # noqa: PTH123 - no pathlib, as in container.py
        plan = json.load(file)
    root = plan["root"]
    _own_namespaces(plan["user"])
    _mount(None, "/", _MS_REC | _MS_PRIVATE)
    _mount(root, root, _MS_BIND | _MS_REC)
    sources = _source_folders(plan["volumes"])
    for folder in sources:
        _make_inside(root, folder)
    _make_read_only(root)
    for shared in plan["shared"]:
        if os.path.exists(shared):  # noqa: PTH110 - likewise
            _mount(shared, root + shared, _MS_BIND | _MS_REC)
    for number, volume in enumerate(plan["volumes"]):
        # The task's folder, in which we are started, goes with the task.
        folder = os.path.join(os.getcwd(), f"volume{number}")  # noqa: PTH109, PTH118
        os.mkdir(folder, 0o700)  # noqa: PTH102
        _mount(folder, root + volume, _MS_BIND)
    for source in sources:
        _make_inside(root, source)  # again: a volume may lie over it now
        _mount(source, root + source, _MS_BIND | _MS_REC)
        _make_read_only(root + source)
    os.chroot(root)
    os.chdir(plan["folder"])
    ours = {name: value for name, value in os.environ.items() if name not in plan["not_for_images"]}
    environment = {**plan["environment"], **ours}
    program = [*plan["argv"], *argv[1:]]
    _execute(program, environment)
    return 127


def _source_folders(volumes: list[str]) -> list[str]:
    """This machine's folders that local sources may be read from, as the task's variable names them."""
    named = os.environ.get("SOURCE_FILE_ROOTS", "").split(os.pathsep)
    folders = [os.path.normpath(name) for name in named if name]
    for folder in folders:
        if folder == "/" or any(f"{volume}/".startswith(f"{folder}/") for volume in volumes):
            raise OSError(errno.EBUSY, "SOURCE_FILE_ROOTS would hide the image or a volume of it", folder)
    return folders


def _make_inside(root: str, folder: str) -> None:
    """A place for it in the image, which has none of its own there."""
    target = root + folder
    if not os.path.realpath(target).startswith(os.path.realpath(root) + "/"):
        raise OSError(errno.EXDEV, "reaches out of the image", folder)
    os.makedirs(target, exist_ok=True)  # noqa: PTH103
    if os.listdir(target):  # noqa: PTH208
        raise OSError(errno.EBUSY, "SOURCE_FILE_ROOTS would hide files of the image", folder)


def _make_read_only(place: str) -> None:
    flags = os.statvfs(place).f_flag
    kept = sum(bit for result, bit in _MS_BITS if flags & result)
    _mount(None, place, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def _execute(program: list[str], environment: dict[str, str]) -> None:
    # Not os.execvpe: it imports, and what it would import is outside.
    name = program[0]
    places = [""] if "/" in name else environment.get("PATH", os.defpath).split(":")
    for place in places:
        with suppress(FileNotFoundError):
            os.execve(f"{place}/{name}" if place else name, program, environment)
    sys.stderr.write(f"{name}: not found\n")


def _own_namespaces(user: int) -> None:
    """Be `user` in namespaces of our own; outside we stay who we are."""
    outside = os.getuid(), os.getgid()
    if _LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {outside[0]} 1"),
        ("gid_map", f"{user} {outside[1]} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)


def _mount(source: str | None, target: str, flags: int) -> None:
    where = source.encode() if source else None
    if _LIBC.mount(where, target.encode(), None, ctypes.c_ulong(flags), None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(127)
