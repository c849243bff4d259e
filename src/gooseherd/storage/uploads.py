"""Uploads in a folder of the service's own: bytes as they arrive, and whole files, each its upload's alone.

    unfinished/ID.json, unfinished/ID.part
    files/ID/NAME        what catalog entries name

All of it is the owner's alone. Methods block.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gooseherd.domain.errors import NotFound
from gooseherd.domain.foreign_json import read_json
from gooseherd.domain.upload import FileUpload, UploadId

_ID: Final = re.compile(r"[0-9a-f]{32}")
_CHUNK: Final = 1 << 20


class UploadFolder:
    """The folder, made if need be."""

    def __init__(self, root: Path) -> None:
        self._unfinished, self.files = root / "unfinished", root / "files"
        for folder in (root, self._unfinished, self.files):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, upload: FileUpload) -> None:
        """Raises OSError."""
        descriptor = os.open(self._part(upload.upload_id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.close(descriptor)
        self.save(upload)

    def save(self, upload: FileUpload) -> None:
        """Replace its record."""
        path = self._record(upload.upload_id)
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(upload.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def read(self, upload_id: str) -> tuple[FileUpload, int, float]:
        """The upload, how many bytes of it are here, and when the last ones came (Unix seconds).

        Raises:
            NotFound: there is none.
        """
        if _ID.fullmatch(upload_id):
            with suppress(OSError, KeyError, TypeError, ValueError):
                upload = FileUpload.from_json(read_json(self._record(UploadId(upload_id)).read_text()))
                if upload.complete:
                    return upload, upload.length, self._record(upload.upload_id).stat().st_mtime
                about = self._part(upload.upload_id).stat()
                return upload, about.st_size, about.st_mtime
        raise NotFound("upload", upload_id)

    def all(self) -> Iterator[tuple[FileUpload, int, float]]:
        """As `read`, of each that there is."""
        for path in sorted(self._unfinished.glob("*.json")):
            with suppress(NotFound):
                yield self.read(path.stem)

    def append(self, upload_id: UploadId, offset: int, chunk: bytes) -> None:
        """Raises OSError: none of it, or the first bytes of it, were written."""
        descriptor = os.open(self._part(upload_id), os.O_WRONLY | os.O_CLOEXEC)
        try:
            view = memoryview(chunk)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(descriptor)

    def flush(self, upload_id: UploadId) -> None:
        """What was written survives a power cut."""
        descriptor = os.open(self._part(upload_id), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def md5(self, upload_id: UploadId) -> Any:
        """The running digest of what is here."""
        digest = hashlib.md5(usedforsecurity=False)
        with self._part(upload_id).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest

    def keep(self, upload: FileUpload) -> None:
        """Store the whole file under the upload's id and its name. Again changes nothing.

        Raises:
            OSError: FileNotFoundError when it is neither there nor here.
        """
        target, part = self.path_of(upload), self._part(upload.upload_id)
        if target.exists():
            return  # its time must not change
        self.flush(upload.upload_id)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        part.replace(target)
        for changed in (target.parent, self.files):
            folder = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def path_of(self, upload: FileUpload) -> Path:
        """Where `keep` stores it: the same bytes of another upload lie elsewhere, so each has one owner."""
        return self.files / upload.upload_id / upload.filename

    def forget(self, upload_id: UploadId) -> None:
        """Remove the upload and what is unfinished of it; a file that was kept stays."""
        self._part(upload_id).unlink(missing_ok=True)
        self._record(upload_id).unlink(missing_ok=True)

    def remove(self, url: str) -> bool:
        """Remove a file that was kept, by its URL; whether there was one."""
        if not url.startswith("file:"):
            return False
        path = Path(unquote(urlsplit(url).path))
        if path.parent.parent != self.files or ".." in path.parts or not path.is_file():
            return False
        path.unlink()
        with suppress(OSError):  # not empty: from versions that had all names of the same bytes in one folder
            path.parent.rmdir()
        return True

    def free_bytes(self) -> int:
        """Of the file system, for us."""
        about = os.statvfs(self._unfinished)
        return about.f_bavail * about.f_frsize

    def _part(self, upload_id: UploadId) -> Path:
        return self._unfinished / f"{upload_id}.part"

    def _record(self, upload_id: UploadId) -> Path:
        return self._unfinished / f"{upload_id}.json"
