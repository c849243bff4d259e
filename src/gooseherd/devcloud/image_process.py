"""What a container runtime does before the program: its image for a root, and nothing of ours to write to.

Run as a program: `python -I -S image_process.py PLAN ARGV...`; PLAN is a JSON file (image.py
writes it), ARGV comes behind the image's entry point. The process becomes the program, so
its signals need no forwarding. A user namespace of one user makes this possible without
being root; network and process ids are the machine's. Standard library only, Linux only
(user_namespaces(7), mount(2)).
"""

from __future__ import annotations

import ctypes
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
    flags = os.statvfs(root).f_flag
    _mount(
        None, root, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | sum(bit for said, bit in _MS_BITS if flags & said)
    )
    for shared in plan["shared"]:
        if os.path.exists(shared):  # noqa: PTH110 - likewise
            _mount(shared, root + shared, _MS_BIND | _MS_REC)
    for number, volume in enumerate(plan["volumes"]):
        # The task's folder, in which we are started, goes with the task.
        folder = os.path.join(os.getcwd(), f"volume{number}")  # noqa: PTH109, PTH118
        os.mkdir(folder, 0o700)  # noqa: PTH102
        _mount(folder, root + volume, _MS_BIND)
    os.chroot(root)
    os.chdir(plan["folder"])
    ours = {name: value for name, value in os.environ.items() if name not in plan["not_for_images"]}
    environment = {**plan["environment"], **ours}
    program = [*plan["argv"], *argv[1:]]
    _execute(program, environment)
    return 127


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
    for name, said in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {outside[0]} 1"),
        ("gid_map", f"{user} {outside[1]} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(said)


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
