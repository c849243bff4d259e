"""Which hosts have workers: a list, or a file that is read again when it changes."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import Misconfigured

log = logging.getLogger(__name__)

SETTING: Final = "WORKER_HOSTS"
_ADDRESS: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?:[0-9]{1,5}")
_MOST_HOSTS: Final = 1000


class HostList:
    """`value` is host:port, comma-separated, or the absolute path of a file with one a line (#: comments).

    Raises:
        Misconfigured: an address is none, or the file cannot be read.
    """

    def __init__(self, value: str) -> None:
        self._path = Path(value) if value.startswith("/") else None
        self._stamp: tuple[int, int, int] | None = None
        self._reported = False
        if self._path is None:
            self.addresses = parse(value.replace(",", "\n"))
        else:
            try:
                self.addresses = self._read(self._path)
            except OSError as error:
                raise Misconfigured(SETTING, f"the file cannot be read: {error.strerror}") from None

    def refresh(self) -> tuple[str, ...]:
        """The addresses of now. A file that cannot be read, or is wrong, changes nothing. Blocks briefly."""
        if self._path is None:
            return self.addresses
        try:
            if _stamp(self._path) != self._stamp:
                self.addresses = self._read(self._path)
                log.info("list of worker hosts read", extra={"hosts": len(self.addresses)})
            self._reported = False
        except (OSError, Misconfigured) as error:
            if not self._reported:
                log.error("list of worker hosts not read, the last one stays", extra={"error": str(error)})
            self._reported = True
        return self.addresses

    def _read(self, path: Path) -> tuple[str, ...]:
        stamp = _stamp(path)
        addresses = parse(path.read_text(encoding="utf-8", errors="replace"))
        self._stamp = stamp
        return addresses


def parse(text: str) -> tuple[str, ...]:
    """Addresses in their order, each once. Raises Misconfigured for what is none."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        address = line.partition("#")[0].strip()
        if not address:
            continue
        if not _ADDRESS.fullmatch(address) or not 0 < int(address.rpartition(":")[2]) < 65536:
            raise Misconfigured(SETTING, f"{address[:80]!r} is no host:port (a name or an IPv4 address)")
        found[address.lower()] = None
    if len(found) > _MOST_HOSTS:
        raise Misconfigured(SETTING, f"at most {_MOST_HOSTS} hosts")
    return tuple(found)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
