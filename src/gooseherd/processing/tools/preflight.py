"""The preflight: whether this machine has what attempts need, as a report of checks with remedies.

`gooseherd doctor` (doctor.py) and a worker's `--doctor` (worker/preflight.py) choose from these checks.
They read, and change nothing.
"""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gooseherd.installation import apt_remedy, native_program_remedy, remedy
from gooseherd.processing.tools.isolation import SandboxUse, not_running_in_sandbox, try_filter, try_sandbox
from gooseherd.processing.tools.kernel import PROGRAM, find_kernel
from gooseherd.processing.tools.sandbox import NoSandbox

State = Literal["ok", "warn", "missing"]

PACKAGES = {
    "samtools": "samtools",
    "bcftools": "bcftools",
    "tabix": "tabix",
    "bgzip": "tabix",
}
"""Program to the Debian package that carries it."""
_VERSION = re.compile(r"(?<!\d)\d++(?:\.\d++)+")
_LITTLE_DISK_BYTES, _NO_DISK_BYTES = 10 * 2**30, 2**30
"""A sort of a 3 GB BAM needs about 10 GB for source, spill and artifact; 1 GB is for demos."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `missing` is what the work cannot be done without, `warn` what will hurt some day."""

    name: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings. `about` is what else is known of the process that made it."""

    profile: str
    checks: tuple[Check, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing that is needed is missing."""
        return all(check.state != "missing" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """profile, ok, what `about` holds, and checks."""
        return {
            "profile": self.profile,
            "ok": self.ok,
            **self.about,
            "checks": [asdict(check) for check in self.checks],
        }


def tools(use: SandboxUse, environ: Mapping[str, str], readable: Sequence[Path] = ()) -> Iterator[Check]:
    """The programs, the interval kernel, the sandbox and the filter. Takes a few seconds at most.

    `readable`: WORKER_READABLE_PATHS.
    """
    yield from (_program(name, environ) for name in PACKAGES)
    yield _kernel()
    yield _sandbox(use, readable)
    yield _filter(use)


def _program(name: str, environ: Mapping[str, str]) -> Check:
    install = apt_remedy(PACKAGES[name])
    where = shutil.which(name, path=environ.get("PATH"))
    if where is None:
        return Check(name, "missing", "not on PATH", install)
    try:
        done = _version_output(where)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "missing", f"{where} does not run: {error}", install)
    version = _VERSION.search(done.stdout + done.stderr)
    if done.returncode != 0 or version is None:
        return Check(name, "missing", f"{where} does not print its version (exit {done.returncode})", install)
    return Check(name, "ok", version[0])


def _version_output(program: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "--version"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )


def _kernel() -> Check:
    """Optional: without it GNU sort does the same work."""
    name = "interval kernel"
    where = find_kernel()
    if where is None:
        slower = "not installed: VCF, GFF and BED take several times longer"
        return Check(name, "warn", slower, native_program_remedy())
    try:
        done = _version_output(where)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "warn", f"{where} does not run: {error}", native_program_remedy())
    if done.returncode != 0:
        return Check(name, "warn", f"{where} does not run", native_program_remedy())
    return Check(name, "ok", f"{PROGRAM} {done.stdout.split()[-1]}")


def _sandbox(use: SandboxUse, readable: Sequence[Path]) -> Check:
    """Optional: without it tools still have their limits."""
    name = "sandbox"
    lacking: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            there, how = asyncio.run(try_sandbox(use, Path(folder)))
            if there:
                lacking = asyncio.run(not_running_in_sandbox(Path(folder), readable))
    except OSError as error:
        there, how = False, f"no temporary folder: {error.strerror}"
    except NoSandbox as error:
        # Without further folders there is one.
        problem = f"none with what WORKER_READABLE_PATHS names: {error}"
        return Check(name, "missing", problem, "docs/limits.md")
    if lacking:
        problem = f"not everything runs in one ({how}): {', '.join(lacking)}"
        return Check(
            name,
            "missing",
            problem,
            "name the folders of its libraries: WORKER_READABLE_PATHS; docs/limits.md",
        )
    if there:
        return Check(name, "ok", f"tools run in one ({how})")
    if use is SandboxUse.OFF:
        return Check(name, "ok", how)
    return Check(name, "missing" if use is SandboxUse.ON else "warn", f"none: {how}", _sandbox_remedy())


def _sandbox_remedy() -> str:
    by_apt = f"{apt_remedy('bubblewrap')}, on a kernel with user namespaces; docs/limits.md"
    image = "images are made without one, as ECS allows none; docs/limits.md"
    return remedy(checkout=by_apt, package=by_apt, image=image)


def _filter(use: SandboxUse) -> Check:
    """Optional, as the sandbox is; each holds without the other."""
    name = "system call filter"
    there, how = asyncio.run(try_filter(use))
    if there:
        return Check(name, "ok", f"tools run behind one ({how})")
    if use is SandboxUse.OFF:
        return Check(name, "ok", how)
    return Check(name, "warn", f"none: {how}", f"{native_program_remedy()}; docs/limits.md")


def writable(name: str, path: Path, variable: str) -> Check:
    """Whether a file can be made there, or in the nearest folder above that is there."""
    there = existing(path)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(
            name, "missing", f"{path}: {error.strerror}", f"set {variable} to a folder you may write to"
        )
    return Check(name, "ok", str(path) if there == path else f"{path} (will be made)")


def disk(path: Path) -> Check:
    """How much room there is for files of attempts."""
    free = shutil.disk_usage(existing(path)).free
    free_space = f"{free / 2**30:.1f} GiB free"
    if free < _NO_DISK_BYTES:
        return Check("disk", "missing", free_space, "make room: less than 1 GiB is left")
    if free < _LITTLE_DISK_BYTES:
        return Check("disk", "warn", free_space, "large files need three times their size")
    return Check("disk", "ok", free_space)


def soft_limit(name: str, which: int, enough: int, remedy: str) -> Check:
    """Whether a resource limit of this process is `enough`; `which` is one of resource.RLIMIT_..."""
    soft, _ = resource.getrlimit(which)
    if soft == resource.RLIM_INFINITY:
        return Check(name, "ok", "no limit")
    if soft >= enough:
        return Check(name, "ok", f"limit {soft}")
    return Check(name, "warn", f"limit {soft}", remedy)


def existing(path: Path) -> Path:
    """The nearest folder that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
