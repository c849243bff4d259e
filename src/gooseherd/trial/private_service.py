"""A private service as a child process: started, awaited, and surely ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gooseherd.client import GooseherdClient, NotReachable, Refused
from gooseherd.client.local_service import LocalService, find_local
from gooseherd.domain.errors import Unavailable
from gooseherd.fleet.worker_records import WorkerRecords
from gooseherd.processes import end_session

_START_SECONDS = 90.0
"""A loaded machine takes its time."""
_STOP_SECONDS = 40.0
"""Above the service's own grace for finalizers; then it is killed with all it started."""
_WORKER_STOP_SECONDS = 11.0
"""A worker needs nine at most, for its attempt and its watchers."""
_LOG_LINES = 12


@dataclass(eq=False)
class DidNotStart(Unavailable):
    """The child ended, or was not ready in time; `problem` has the last lines of its log."""

    problem: str

    def __str__(self) -> str:
        return f"the service did not start: {self.problem}"


@contextlib.contextmanager
def running_service(
    *,
    state_dir: Path,
    allow_roots: Sequence[Path],
    environ: Mapping[str, str],
    port: int = 0,
    start_seconds: float = _START_SECONDS,
) -> Iterator[LocalService]:
    """`gooseherd up` on `state_dir` for the length of the block; its log is `state_dir`/service.log.

    The child ends with this process, however this process ends: it watches its standard input.

    Raises:
        DidNotStart: with the last lines of the child's log.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "gooseherd.cli", "up", "--while-stdin-open", "--json"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--state-dir", str(state_dir)]
    for root in allow_roots:
        command += ["--allow-root", str(root)]
    log_path = state_dir / "service.log"
    child: subprocess.Popen[bytes] | None = None
    try:
        with log_path.open("wb") as log, _ctrl_c_waits():
            # A session of its own: a Ctrl-C in the terminal is ours, and we end the child in order.
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(environ),
                start_new_session=True,
            )
        yield _await_ready(child, state_dir, log_path, start_seconds)
    finally:
        if child is not None:
            _end(child)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """A Ctrl-C counts when the block has ended: within Popen it would leave a child that nobody knows."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        before(signal.SIGINT, None)


def end_workers(state_dir: Path) -> None:
    """End the workers of a service that has ended, with what they make.

    Without this they go on, to be found by the next service on the folder, and end when they have been idle.
    After it that service begins their jobs again, and clears up after them.
    """
    if find_local(state_dir) is not None:
        return
    workers = [record.process for record in WorkerRecords(state_dir / "fleet").entries() if record.alive]
    running = [process for process in workers if process is not None]
    for process in running:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + _WORKER_STOP_SECONDS
    for process in running:
        process.wait(max(deadline - time.monotonic(), 0.0))
        end_session(process)


def _await_ready(
    child: subprocess.Popen[bytes], state_dir: Path, log_path: Path, seconds: float
) -> LocalService:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise DidNotStart(_end_of_log(log_path))
        found = find_local(state_dir)
        if found is not None and found.pid == child.pid and _is_ready(found.url):
            return found
        time.sleep(0.05)
    raise DidNotStart(f"not ready after {seconds:g} s; {_end_of_log(log_path)}")


def _is_ready(url: str) -> bool:
    with GooseherdClient(url, timeout_seconds=5) as client:
        try:
            return client.is_ready()
        except (NotReachable, Refused):
            return False


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # Whatever it left behind in its own session; nothing when it ended in order.
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdin:
        child.stdin.close()


def _end_of_log(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(lines[-_LOG_LINES:]) or "its log is empty"
