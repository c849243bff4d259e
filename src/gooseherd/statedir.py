"""The folder a process keeps its state in: one process at a time, one identity for life."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId

_SECRETS: Final = (
    *("admin-key", "certs", "gooseherd.db", "gooseherd.db-wal", "devcloud/credentials", "devcloud/certs"),
)


def secrets_of(state_dir: Path) -> tuple[Path, ...]:
    """What of a state folder is not for tools that read foreign bytes, whether it exists or not."""
    return tuple(state_dir.absolute() / name for name in _SECRETS)


def make_private(folder: Path) -> None:
    """Make the folder, or keep other users out of one of ours: it holds the catalog and keys."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = folder.stat()
    if about.st_mode & 0o007 and about.st_uid == os.geteuid():
        folder.chmod(about.st_mode & 0o770)


class StateDir:
    """Locked for as long as the block lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        make_private(self.path)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise Misconfigured(
                "GOOSEHERD_STATE_DIR",
                f"another gooseherd runs on it{self._running_at()}; stop it or choose another",
            ) from None
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self.withdraw()
            os.close(self._lock)

    def _running_at(self) -> str:
        try:
            return f" at {json.loads((self.path / 'server.json').read_text())['url']}"
        except (OSError, ValueError, KeyError):
            return ""

    def remembered(self, name: str, make: Callable[[], str]) -> str:
        """The content of a private file, made at first use and the same ever after."""
        path = self.path / name
        with suppress(FileNotFoundError):
            return path.read_text().strip()
        value = make()
        draft = path.with_name(f"{name}.new")
        draft.touch(mode=0o600)
        draft.write_text(value + "\n")
        draft.replace(path)
        return value

    def announce(self, url: str, profile: str) -> None:
        """Tell commands on this machine where the service is: this process, which listens there.

        They send their keys there, so it is withdrawn before the socket is closed.
        """
        process = ProcessId.of(os.getpid())
        assert process is not None
        record = {"url": url, "pid": process.pid, "process": process.to_json(), "profile": profile}
        draft = self.path / "server.json.new"
        draft.write_text(json.dumps(record))
        draft.replace(self.path / "server.json")

    def withdraw(self) -> None:
        """What was announced holds no longer; idempotent."""
        with suppress(FileNotFoundError):
            (self.path / "server.json").unlink()
