"""The viewers of tests/browser/viewers, and the libraries by which they read, as their lock file has them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
VIEWERS: Final = ROOT / "tests" / "browser" / "viewers"
_SOURCES: Final = ("package.json", "package-lock.json", "bundle.mjs", "driver.mjs", "readers.mjs")
_SECONDS: Final = 600


class NotBundled(Exception):
    """They cannot be installed; a sentence says why."""


def bundle_of_viewers() -> Path:
    """A folder with the viewers, their pages and the programs; made once for each state of the lock file.

    Raises:
        NotBundled: node or npm are missing, or failed.
    """
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise NotBundled(f"{program} is not installed")
    digest = hashlib.sha256(b"".join((VIEWERS / name).read_bytes() for name in _SOURCES)).hexdigest()[:16]
    kept = Path(os.environ.get("GOOSEHERD_VIEWERS") or ROOT / ".dev/viewers")
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = kept / digest
        if not made.exists():
            work = kept / "work"
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(VIEWERS, work)
            (work / "out").mkdir()
            for command in (["npm", "ci", "--no-progress"], ["node", "bundle.mjs", "out"]):
                done = subprocess.run(
                    command, cwd=work, capture_output=True, text=True, timeout=_SECONDS, check=False
                )
                if done.returncode:
                    raise NotBundled(f"the viewers ({' '.join(command)}: {done.stderr.strip()[-300:]})")
            (work / "out").rename(made)
            shutil.rmtree(work)
    for page in (*VIEWERS.glob("*.html"), VIEWERS / "assembly.chrom.sizes"):
        shutil.copyfile(page, made / page.name)
    return made


class Readers:
    """The libraries, in a process of Node (readers.mjs)."""

    def __init__(self, program: Path) -> None:
        self._node = subprocess.Popen(
            ["node", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, kind: str, urls: Mapping[str, str], regions: Sequence[Any], **options: Any) -> Any:
        """What is found in each region, and the header.

        Raises:
            AssertionError: with the words of the library that failed.
        """
        assert self._node.stdin
        assert self._node.stdout
        print(
            json.dumps({"kind": kind, "urls": urls, "regions": regions, **options}),
            file=self._node.stdin,
            flush=True,
        )
        answer = json.loads(self._node.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["found"], answer["header"]

    def close(self) -> None:
        """End the process."""
        assert self._node.stdin
        assert self._node.stdout
        self._node.stdin.close()
        self._node.wait(20)
        self._node.stdout.close()


if __name__ == "__main__":  # Ahead of tests that keep the machine busy; what is missing these say.
    with contextlib.suppress(NotBundled):
        bundle_of_viewers()
