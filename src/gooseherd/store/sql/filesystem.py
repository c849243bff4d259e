"""Whether a folder lies where SQLite's locks hold: on a file system of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gooseherd.domain.errors import Misconfigured

_MOUNTS: Final = Path("/proc/self/mountinfo")

_SHARED: Final = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.gcsfuse", "fuse.mount-s3",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4",
        "ocfs2", "orangefs", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip
"""Other machines may write there. A write-ahead log needs memory that all its processes share, and
locks over a network are not to be relied on (sqlite.org/wal.html, sqlite.org/faq.html#q5)."""


def refuse_network_file_system(folder: Path, setting: str) -> None:
    """Raises Misconfigured, naming `setting`, when the folder is on a file system that machines share."""
    kind, shared = file_system_of(folder)
    if shared:
        raise Misconfigured(
            setting,
            f"the folder is on a network file system ({kind}), where a database file is not safe: choose a "
            "folder on a local disk, or a database server by DATABASE_URL",
        )


def file_system_of(folder: Path) -> tuple[str | None, bool]:
    """The type of the file system that holds `folder`, None if unknown, and whether machines share it."""
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # another system than Linux: nothing is known
        return None, False
    kind = file_system(folder.resolve(), mounts)
    return kind, kind in _SHARED


def file_system(folder: Path, mounts: str) -> str | None:
    """The type of the file system that holds `folder`, by the text of /proc/self/mountinfo (proc(5))."""
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = Path(_unescaped(fields[4]))
        # Of several on one place the last one is seen.
        if len(point.parts) >= best[0] and (folder == point or point in folder.parents):
            best = len(point.parts), right.split(" ")[0]
    return best[1]


def _unescaped(text: str) -> str:
    """Blanks and backslashes stand there in octal."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text
