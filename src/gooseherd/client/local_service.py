"""How a command finds the service of this machine: by what `gooseherd up` leaves in its state folder."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gooseherd.processes import ProcessId, boot_id, is_hidden

SERVER_FILE = "server.json"
ADMIN_KEY_FILE = "admin-key"
ADDED = "added"
"""Folder of the state folder for what `gooseherd add -` read from a pipe; the service may read it."""


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service that was running when this was read. `admin_key` is None when we may not read it,
    or when its process is hidden from us.

    Its process holds the socket of `url` itself, so a key that is sent there is sent to it, for as long as
    the service runs: see `KeyOfLocalService`.
    """

    url: str
    pid: int
    profile: str
    admin_key: str | None
    state_dir: Path

    def is_at(self, url: str) -> bool:
        """Whether `url` is an address of this service, whichever way it is spelled.

        Of the two addresses that `localhost` means another program may have the one that is not in
        `self.url`: connect to that.
        """
        try:
            named, own = urlsplit(url), urlsplit(self.url)
            address = ipaddress.ip_address(own.hostname or "")
            if (named.scheme, named.port or 80) != (own.scheme, own.port or 80):
                return False
            if "@" in named.netloc or named.path.strip("/") or named.query or named.fragment:
                return False
            if named.hostname == "localhost":
                return address.is_loopback
            return _reached_as(named.hostname or "") == str(address)
        except ValueError:  # no address, or no port
            return False


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
        state_dir = state_dir.absolute()  # What is found is looked up again after os.chdir.
        with (state_dir / SERVER_FILE).open(encoding="utf-8") as file:
            author, record = os.fstat(file.fileno()).st_uid, json.load(file)
        url, pid = _reachable(str(record["url"])), int(record["pid"])
        alive = _alive(pid, record.get("process"))
        if alive is False:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    key = read_admin_key(state_dir, of=author) if alive else None
    return LocalService(url, pid, str(record.get("profile", "")), key, state_dir)


def find_local_at(url: str, state_dir: Path) -> LocalService | None:
    """The service that uses `state_dir`, when `url` is an address of it."""
    found = find_local(state_dir)
    return found if found is not None and found.is_at(url) else None


def read_admin_key(state_dir: Path, *, of: int | None = None) -> str | None:
    """The admin key the service made for itself, if it did and we may read it.

    `of`: only if that user has written it. Others may have the right to write to the folder, and whoever
    announces a service there is not to get the key of another's.
    """
    try:
        with (state_dir / ADMIN_KEY_FILE).open(encoding="utf-8") as file:
            if of is not None and os.fstat(file.fileno()).st_uid != of:
                return None
            return file.read().strip() or None
    except OSError:
        return None


def _alive(pid: int, process: Any) -> bool | None:
    """Whether the process that wrote the record runs; without its name (older services) whether one with its
    pid does. None: one with its pid does, but it is hidden, so it may be another one.
    """
    name = ProcessId.from_json(process) if process is not None else None
    if name.alive if name is not None else ProcessId.of(pid) is not None:
        return True
    if name is not None and name.boot != boot_id():
        return False
    return None if is_hidden(pid if name is None else name.pid) else False


def _reachable(url: str) -> str:
    """Where a program of this machine connects to what listens at `url`, maybe on all its addresses."""
    where = urlsplit(url)
    address = _reached_as(where.hostname or "")
    host = f"[{address}]" if ":" in address else address
    return f"{where.scheme}://{host}:{where.port}" if where.port else f"{where.scheme}://{host}"


def _reached_as(host: str) -> str:
    """The address in its usual form; of all addresses of this machine that on loopback.

    Raises:
        ValueError: it is a name.
    """
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return "::1" if address.is_unspecified else str(address)
        address = address.ipv4_mapped
    return "127.0.0.1" if address.is_unspecified else str(address)
