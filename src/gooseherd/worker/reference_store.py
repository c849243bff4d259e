"""A folder of reference sequences that the attempts of a machine share: a file each, called by its M5.

    sequences/<M5>     the bases, in upper case; read-only, complete from its first moment
    drafts/            sequences that are being written
    uses/              what each living attempt uses: one M5 a line
    contents/          which sequences a FASTA has that was read once
    locks/             held while a source is read

The folder is bounded: what was not used for longest goes first, and nothing goes that a living attempt uses.
Locks (flock) end with the process that holds them, so a killed attempt holds nothing. All functions block.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed

SETTING: Final = "SOURCE_REFERENCES_MAX_BYTES"
_CHUNK: Final = 1 << 20
_SHARE_OF_DISK: Final = 2
"""References take at most one part in so many of what they and free space are together."""
_UNUSED_SECONDS: Final = 30 * 86400
_CONTENTS_MOST: Final = 64 << 20
_CONTENTS_SECONDS: Final = 86400
"""Later the file behind the same URL may be another one."""


def sequences_below(root: Path) -> Path:
    """The one folder of all that tools read."""
    return root / "sequences"


class DraftSequence:
    """Bases on their way into the folder; gone unless `publish` is called."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / secrets.token_hex(16)
        self._file = self._path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def publish(self, to: Path) -> None:
        """Under that name; who came before with the same bases keeps it."""
        self._file.flush()
        os.fchmod(self._file.fileno(), 0o444)
        self._path.replace(to)
        self._file.close()

    def discard(self) -> None:
        """Idempotent, and does nothing after `publish`."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()


class ReferenceUse:
    """Keeps its sequences in the folder until it is closed, or its process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("x", encoding="ascii")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def add(self, m5s: Iterable[str]) -> None:
        self._file.writelines(f"{m5}\n" for m5 in m5s)
        self._file.flush()

    def close(self) -> None:
        """Idempotent."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()


class ReferenceStore:
    """The folder at `root`, made if need be, of at most `most_bytes`.

    Raises:
        OSError: it cannot be made or used.
    """

    def __init__(self, root: Path, most_bytes: int) -> None:
        self._root = root
        self._most_bytes = most_bytes
        self.sequences = sequences_below(root)
        self._drafts, self._uses = root / "drafts", root / "uses"
        self._contents, self._locks = root / "contents", root / "locks"
        for folder in (self.sequences, self._drafts, self._uses, self._contents, self._locks):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin_use(self) -> ReferenceUse:
        """A use without sequences so far."""
        with self._locked():
            return ReferenceUse(self._uses / f"{os.getpid()}-{secrets.token_hex(8)}")

    def use(self, use: ReferenceUse, m5s: Collection[str], stop: threading.Event) -> frozenset[str]:
        """Those of `m5s` that are here, bases verified; they stay while `use` does. `stop` ends it early."""
        with self._locked():
            here = [m5 for m5 in m5s if self.has(m5)]
            use.add(here)
        found = set()
        for m5 in here:
            if stop.is_set():
                break
            path = self.sequences / m5
            if _md5_of(path, stop) == m5:
                os.utime(path)
                found.add(m5)
            elif not stop.is_set():
                path.unlink(missing_ok=True)
        return frozenset(found)

    def draft(self) -> DraftSequence:
        """A sequence to be written."""
        with self._locked():  # Or it could be swept before it is locked.
            return DraftSequence(self._drafts)

    def has(self, m5: str) -> bool:
        """Whether it is here at the moment."""
        return (self.sequences / m5).is_file()

    def publish(self, draft: DraftSequence, m5: str, use: ReferenceUse | None) -> None:
        """Put a draft, whose M5 is known, among the sequences; it stays while `use` does."""
        with self._locked():
            if use is not None:
                use.add([m5])
            draft.publish(self.sequences / m5)

    def make_room(self, size: int) -> None:
        """Remove what is in nobody's use, oldest use first, until `size` more bytes are within the bound.

        Also what was not used for long, and what killed writers left.

        Raises:
            StepFailed: out_of_disk; what is in use leaves too little.
        """
        with self._locked():
            held, most, _ = self._evict(size)
            if held + size > most:
                raise StepFailed.because(
                    Reason.OUT_OF_DISK,
                    f"reference sequences of {size} bytes do not fit: {held} bytes are in use, and at most "
                    f"{most} may be ({SETTING}, and half of the disk)",
                )

    def sweep(self) -> int:
        """Remove what is beyond the bound or was not used for long, and is not used; how many sequences."""
        with self._locked():
            return self._evict(0)[2]

    def _evict(self, size: int) -> tuple[int, int, int]:
        """(bytes that are left, how many may be, how many sequences went)."""
        _remove_dead(self._drafts)
        used = self._in_use()
        stats = list(_stats(self.sequences))
        held = sum(found.st_size for _, found in stats)
        most = min(self._most_bytes, (held + shutil.disk_usage(self._root).free) // _SHARE_OF_DISK)
        horizon, gone = time.time() - _UNUSED_SECONDS, 0
        for path, found in sorted(stats, key=lambda pair: pair[1].st_mtime):
            if held + size <= most and found.st_mtime > horizon:
                break
            if path.name not in used:
                path.unlink(missing_ok=True)
                held, gone = held - found.st_size, gone + 1
        return held, most, gone

    def lock_of(self, name: str) -> BinaryIO | None:
        """The lock of that source, held until it is closed; None while another process has it."""
        lock = (self._locks / name).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock

    def contents(self, name: str) -> Mapping[str, str]:
        """M5s by sequence of a source that was read today; nothing of one that was not."""
        with suppress(OSError, ValueError):
            path = self._contents / name
            found = path.stat()
            if found.st_size <= _CONTENTS_MOST and found.st_mtime > time.time() - _CONTENTS_SECONDS:
                contents = json.loads(path.read_bytes())
                if isinstance(contents, dict):
                    return {str(key): str(value) for key, value in contents.items()}
        return {}

    def remember(self, name: str, contents: Mapping[str, str]) -> None:
        """What `contents` will say of that source."""
        draft = self._contents / f"{name}.{secrets.token_hex(8)}"
        draft.write_text(json.dumps(contents))
        draft.replace(self._contents / name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time decides what is here and what goes; never held for longer than that."""
        with (self._locks / "folder").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _in_use(self) -> frozenset[str]:
        _remove_dead(self._uses)
        used: set[str] = set()
        for path in self._uses.iterdir():
            with suppress(FileNotFoundError):
                used.update(path.read_text(encoding="ascii").split())
        return frozenset(used)


def _remove_dead(folder: Path) -> None:
    """Remove the files whose process, which held a lock on each, is no more."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _stats(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            yield path, path.stat()


def _md5_of(path: Path, stop: threading.Event) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while not stop.is_set() and (data := file.read(_CHUNK)):
                md5.update(data)
    except FileNotFoundError:
        return ""
    return md5.hexdigest()
