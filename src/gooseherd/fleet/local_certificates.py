"""The certificates of workers on this machine, made when the first one is started.

Loopback is open to every user of a machine, and who is heard by a worker's port has code run by its user's
rights. The files lie in the state folder, which only that user can read.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gooseherd.worker.tls import Certificates

_RENEWED_BEFORE: Final = timedelta(days=60)
"""Of the end: longer than any worker lives, and than most services run without a restart."""


class LocalCertificates:
    """A CA, a worker's pair and an API's pair in `folder`; renewed long before they end. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def of_workers(self) -> Certificates:
        """What a worker serves with. Blocks, the first time for tenths of a second."""
        return self._made("worker")

    def of_callers(self) -> Certificates:
        """What a caller shows. Blocks likewise."""
        return self._made("api")

    def _made(self, side: str) -> Certificates:
        from gooseherd.worker.tls import Certificates

        with self._lock:
            self._make_or_renew()
        files = (self._folder / name for name in ("ca.pem", f"{side}.pem", f"{side}.key"))
        return Certificates(*map(str, files))

    def _make_or_renew(self) -> None:
        # cryptography takes a tenth of a second to load, which a service without workers needs not.
        from gooseherd.certs import expiry, make_all

        if not self._folder.exists():
            make_all(self._folder)
        elif expiry((self._folder / "worker.pem").read_bytes()) - datetime.now(UTC) < _RENEWED_BEFORE:
            make_all(self._folder, renew=True)
