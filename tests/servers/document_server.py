"""SecantusDB, the document server of older versions: their state folders are taken over (test_default_store).

Its package is GPL-2.0-only: it is run as a program, never imported, and comes with the extra `dev` only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers.server_process import ServerProcess

PROGRAM = Path(sys.executable).with_name("secantusd-py")


class DocumentServer(ServerProcess):
    @property
    def url(self) -> str:
        """Without retryable writes, of which the server reads all its records at each write."""
        return (
            f"mongodb://127.0.0.1:{self._port}/?w=majority&journal=true&retryWrites=false"
            "&serverMonitoringMode=poll"
            "&connectTimeoutMS=60000&serverSelectionTimeoutMS=60000&socketTimeoutMS=120000"
        )

    def _command(self, port: int) -> Sequence[str]:
        # An empty file of our own: without one the server reads whatever its user has in the home directory.
        (self._folder / "server.toml").write_text("")
        return [
            *(str(PROGRAM), "--config", "server.toml", "--log-level", "WARNING"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--storage-path", str(self._folder / "db"), "--cache-size", "256M", "--sync-on-commit"),
        ]
