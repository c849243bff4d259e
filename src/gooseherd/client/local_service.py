"""How a command finds the service of this machine: by what `gooseherd up` leaves in its state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVER_FILE = "server.json"
ADMIN_KEY_FILE = "admin-key"
ADDED = "added"
"""Folder of the state folder for what `gooseherd add -` read from a pipe; the service may read it."""


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service that was running when this was read. `admin_key` is None when we may not read it."""

    url: str
    pid: int
    profile: str
    admin_key: str | None


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """GOOSEHERD_STATE_DIR, else the place the XDG base directory specification gives for state."""
    configured = environ.get("GOOSEHERD_STATE_DIR")
    if configured:
        return Path(configured)
    home = environ.get("XDG_STATE_HOME", "")
    base = (
        Path(home)
        if home.startswith("/")
        else Path(environ.get("HOME") or "~").expanduser() / ".local" / "state"
    )
    return base / "gooseherd"


def find_local(state_dir: Path) -> LocalService | None:
    """The service that uses `state_dir`; None when there is none or it has ended without clearing up."""
    try:
        record = json.loads((state_dir / SERVER_FILE).read_text(encoding="utf-8"))
        url, pid = str(record["url"]), int(record["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _alive(pid):
        return None
    return LocalService(url, pid, str(record.get("profile", "")), read_admin_key(state_dir))


def read_admin_key(state_dir: Path) -> str | None:
    """The admin key the service made for itself, if it did and we may read it."""
    try:
        return (state_dir / ADMIN_KEY_FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
