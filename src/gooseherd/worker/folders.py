"""The files of an attempt, and the removal of what a dead one left behind.

`<work>/<job>.<n>/` holds spec.json, journal, log and process.json, which stay readable
until the attempt is forgotten, and scratch/, which is gone when the attempt ends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import InvalidInput, Misconfigured
from gooseherd.processes import ProcessId, end_session

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\.[0-9]{1,9}")
_DRAINING: Final = "draining"
_KEEP: Final = "keep"
_KEEP_DRAFT: Final = "keep.draft"
SECRETS: Final = "secrets"
"""Of the work folder: what no tool may read, a file an attempt."""
_MARKS: Final = frozenset({_DRAINING, _KEEP, _KEEP_DRAFT, SECRETS})
REFERENCES: Final = "references"
"""The folder of reference sequences of a worker that shares none with others (reference_store.py)."""
SPARE: Final = "spare-"
"""Of the names of folders in which processes without an order prepare (preparation.py)."""
STAND_INS: Final = "stand-ins"
"""The folder of what tools in a prepared sandbox see in place of the work folder (mounts.py)."""


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The files of one attempt. `path` need not exist yet."""

    path: Path

    @classmethod
    def of(cls, work: Path, attempt: AttemptId) -> AttemptFolder:
        """Raises InvalidInput for an id that could leave the work folder."""
        name = str(attempt)
        if not _NAME.fullmatch(name):
            raise InvalidInput("job_id", "letters, digits, '_' and '-' only")
        return cls(work / name)

    @property
    def spec(self) -> Path:
        """The order, as JSON."""
        return self.path / "spec.json"

    @property
    def credentials(self) -> Path:
        """What it signs with, renewed while it runs; there only when its order brought some.

        In a folder that tools in a sandbox do not see.
        """
        return self.path.parent / SECRETS / f"{self.path.name}.json"

    @property
    def source_access(self) -> Path:
        """What opens its source; there only when its order brought it. As hidden as the credentials."""
        return self.path.parent / SECRETS / f"{self.path.name}.source.json"

    def forget_secrets(self) -> None:
        """Nobody needs them any more."""
        self.credentials.unlink(missing_ok=True)
        self.source_access.unlink(missing_ok=True)

    @property
    def journal(self) -> Path:
        """The events of the attempt."""
        return self.path / "journal"

    @property
    def log(self) -> Path:
        """Its standard error, with tracebacks that no event carries."""
        return self.path / "log"

    @property
    def scratch(self) -> Path:
        """Source, step folders, temporary files."""
        return self.path / "scratch"

    @property
    def temporary(self) -> Path:
        """TMPDIR of the attempt and its tools."""
        return self.scratch / "tmp"

    @property
    def cancelled(self) -> Path:
        """Exists once the attempt is cancelled: a SIGTERM then means that, and not that the worker stops."""
        return self.path / "cancelled"

    def process(self) -> ProcessId | None:
        """Its process, leader of its session; None while it is being started."""
        try:
            return ProcessId.from_json(json.loads((self.path / "process.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def record_process(self, process: ProcessId) -> None:
        """Write down which process it is, so that it can be ended later."""
        write_json(self.path / "process.json", process.to_json())

    def end(self, timeout: float = 5.0) -> None:
        """Kill what still runs of it and remove its scratch and credentials. Blocks."""
        process = self.process()
        if process is not None:
            end_session(process, timeout=timeout)
        self.forget_secrets()
        shutil.rmtree(self.scratch, ignore_errors=True)


def attempt_folders(work: Path) -> list[AttemptFolder]:
    """The attempts that have a folder below `work`."""
    with suppress(FileNotFoundError):
        return [AttemptFolder(path) for path in sorted(work.iterdir()) if _NAME.fullmatch(path.name)]
    return []


def live_attempts(work: Path) -> list[str]:
    """Names of the attempts whose process lives, or is just being started."""
    return [
        folder.path.name
        for folder in attempt_folders(work)
        if (process := folder.process()) is None or process.alive
    ]


def claim(work: Path) -> None:
    """Make `work` an empty folder for a worker; what an earlier one left goes. Blocks.

    Raises:
        Misconfigured: it holds what no worker put there, which stays untouched; or it cannot be made.
    """
    try:
        if work.exists() and any(
            not (path.name in _MARKS or (_is_ours(path.name) and path.is_dir())) for path in work.iterdir()
        ):
            raise Misconfigured("WORKER_WORK_DIR", "holds other files: it must be this worker's alone")
        sweep(work)
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        (work / SECRETS).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Misconfigured("WORKER_WORK_DIR", f"cannot be made ({error.strerror})") from error


def _is_ours(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) or name.startswith(SPARE) or name in (REFERENCES, STAND_INS)


def stand_in_below(work: Path, pid: int) -> Path:
    """What tools see in place of the work folder, if that process has prepared a sandbox for them."""
    return work / STAND_INS / str(pid)


def references_below(work: Path) -> Path:
    """Where a worker that works in `work` keeps reference sequences, if it is not told otherwise."""
    return work / REFERENCES


def sweep(work: Path) -> None:
    """End every attempt below `work` and remove the folder. Blocks."""
    for folder in attempt_folders(work):
        folder.end()
    shutil.rmtree(work, ignore_errors=True)


def set_draining(work: Path, draining: bool) -> None:
    """Whether the worker refuses new attempts.

    The start of an attempt makes its folder first and checks this mark afterwards; the stop of the worker
    sets the mark first and looks for folders afterwards: one of the two sees the other.
    """
    if draining:
        (work / _DRAINING).touch()
    else:
        (work / _DRAINING).unlink(missing_ok=True)


def is_draining(work: Path) -> bool:
    """Whether the worker takes no new attempts."""
    return (work / _DRAINING).exists()


def keep(work: Path, seconds: float) -> None:
    """For so long, from now on, the worker does not end for being idle; replaces what was said before."""
    draft = work / _KEEP_DRAFT
    draft.write_text(repr(time.monotonic() + seconds))
    draft.replace(work / _KEEP)


def kept_until(work: Path) -> float:
    """Until when it does not end for being idle, by time.monotonic(); 0.0: nobody asked."""
    try:
        return float((work / _KEEP).read_text())
    except (OSError, ValueError):
        return 0.0


def write_json(path: Path, data: object) -> None:
    """Replace a small file so that readers see the old one or the new one."""
    _replace(path, data, 0o666)


def write_secret(path: Path, data: object) -> None:
    """The same for what only this user may read."""
    _replace(path, data, 0o600)


def _replace(path: Path, data: object, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(file, "w", encoding="utf-8") as text:
        text.write(json.dumps(data, separators=(",", ":")))
    draft.replace(path)
