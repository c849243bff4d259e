"""Starts one worker process and waits for it to be ready, or learns why it is not."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.errors import LaunchFailed
from gooseherd.domain.job import WorkerId
from gooseherd.fleet.local_certificates import LocalCertificates
from gooseherd.fleet.worker_records import WorkerRecords
from gooseherd.processes import describe_exit

_POLL_SECONDS: Final = 0.05
_PATH = re.compile(r"(?:/[^\s/'\":,]+)+/")


class Launcher:
    """`environment` is all that workers see, but for what they serve with; `start_timeout` in seconds."""

    def __init__(
        self,
        records: WorkerRecords,
        environment: Mapping[str, str],
        start_timeout: float,
        certificates: LocalCertificates | None = None,
    ) -> None:
        self._records = records
        self._environment = environment
        self._start_timeout = start_timeout
        self._certificates = certificates

    def spawn(
        self, worker_id: WorkerId, work: Path, more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, so that it outlives us and our terminal. Blocks briefly.

        `more` is added to its environment.
        """
        serving = {} if self._certificates is None else self._certificates.of_workers().by_name
        with self._records.log(worker_id).open("wb") as out:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "gooseherd.worker.main", "--host", "127.0.0.1", "--port", "0"),
                    *("--worker-id", worker_id, "--work-dir", str(work)),
                    *("--announce", str(self._records.announcement(worker_id))),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env={**self._environment, **serving, **(more or {})},
                start_new_session=True,
            )

    async def announced(self, worker_id: WorkerId, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        """What the worker says of itself once it is ready.

        Raises:
            LaunchFailed: it ended, or is not ready in time.
        """
        announcement = self._records.announcement(worker_id)
        deadline = time.monotonic() + self._start_timeout
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                announced: dict[str, Any] = json.loads(announcement.read_bytes())
                return announced
            if child.poll() is not None:
                raise LaunchFailed(describe_exit(child.returncode))
            await asyncio.sleep(_POLL_SECONDS)
        raise LaunchFailed(f"not ready after {self._start_timeout:g} seconds")

    def last_lines(self, worker_id: WorkerId) -> str:
        """The end of its standard error on one line, without folders of ours; "" when it said nothing."""
        try:
            lines = self._records.log(worker_id).read_text(errors="replace").splitlines()
        except OSError:
            return ""
        text = " | ".join(_event(line.strip()) for line in lines[-3:] if line.strip())
        return f": {_PATH.sub('', text)[-500:]}" if text else ""


def _event(line: str) -> str:
    """What happened, of a log line that may be JSON."""
    with suppress(ValueError, AttributeError):
        return str(json.loads(line).get("event", line))
    return line
