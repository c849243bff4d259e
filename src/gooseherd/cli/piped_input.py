"""What comes through a pipe, kept as a file that the service may read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

from gooseherd.cli.outcome import CommandError, Exit
from gooseherd.cli.progress import byte_bar
from gooseherd.client.local_service import ADDED

_CHUNK_BYTES: Final = 1 << 20


def store_piped(stream: BinaryIO, folder: Path, filename: str, *, quiet: bool) -> tuple[Path, str]:
    """Copy `stream` into a file below `folder` that is named after its content; the file and its md5.

    It is whole and durable when this returns; the same bytes under the same name are one file.

    Raises:
        CommandError: the stream is empty.
        OSError: the disk is full; nothing is left behind.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft_folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder))
    try:
        draft, digest, size = draft_folder / "draft", hashlib.md5(usedforsecurity=False), 0
        with draft.open("xb") as file, byte_bar(f"reading {filename}", quiet=quiet) as bar:
            while chunk := stream.read(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                bar(size, None)
            file.flush()
            os.fsync(file.fileno())
        if not size:
            raise CommandError(Exit.FAILED, "nothing came through the pipe")
        target = folder / digest.hexdigest() / filename
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if not target.exists():  # one that is there has these very bytes, and its time must not change
            draft.replace(target)
        return target, digest.hexdigest()
    finally:
        shutil.rmtree(draft_folder, ignore_errors=True)


def remove_piped(access_url: str, state_dir: Path) -> bool:
    """Remove the copy that `store_piped` made for an entry that is gone; whether there was one."""
    path = Path(unquote(urlsplit(access_url).path))
    added = (state_dir / ADDED).resolve()
    if not access_url.startswith("file:") or path.parent.parent != added or not path.is_file():
        return False
    path.unlink()
    with contextlib.suppress(OSError):  # another name for the same bytes
        path.parent.rmdir()
    return True
