"""An environment of its own for cooler, hictkpy and py2bit, which take 400 MB: matrices.txt has its lock.

`./dev lock` makes the lock, of matrices.in. The environment lies below .dev and is made when it is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gooseherd.trial.index import NotDownloaded, index_settings

HERE = Path(__file__).parent
LOCK = HERE / "matrices.txt"
_SECONDS = 900


class NotMade(Exception):
    """A program or an environment is missing, or failed; a sentence says which."""


def matrices_python(kept: Path = HERE.parent / ".dev" / "matrices") -> Path:
    """The environment's interpreter; made once for each state of the lock and version of Python.

    Raises:
        NotMade: it cannot be installed.
    """
    state = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    made = kept / state
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for older in kept.iterdir():
                if older.is_dir():
                    shutil.rmtree(older)
            work = kept / "work"
            _run("uv", "venv", "--quiet", "--relocatable", "--python", sys.executable, work)
            python = work / "bin" / "python"
            _run("uv", "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK)
            work.rename(made)
    return made / "bin" / "python"


def _run(program: str, *options: str | Path) -> None:
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise NotMade(f"{program} is not installed")
    argv = [found, *map(str, options)]
    done = subprocess.run(argv, env=_environ(), capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise NotMade(f"{program} {options[0]}: {done.stderr.strip()[-300:]}")


def _environ() -> dict[str, str]:
    """Ours, with the index that pip would ask, as ./dev has it for uv."""
    found = dict(os.environ)
    try:
        settings = index_settings(found)
    except NotDownloaded as error:
        raise NotMade(str(error)) from None
    if not found.get("UV_DEFAULT_INDEX") and not found.get("UV_INDEX_URL"):
        found["UV_DEFAULT_INDEX"] = settings.urls[0]
    if settings.cert and not found.get("SSL_CERT_FILE"):
        found["SSL_CERT_FILE"] = settings.cert
    return found
