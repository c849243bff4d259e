"""What this machine lacks for the configured profile, and how to get it.

Looks, changes nothing. Each check says what it found; a remedy is a command or a setting.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gooseherd.client.local import find_local
from gooseherd.domain.errors import GooseherdError
from gooseherd.processing.confinement import SandboxUse, filter_trial, trial
from gooseherd.processing.native.kernel import PROGRAM, find_kernel
from gooseherd.settings import Profile, Settings

State = Literal["ok", "warn", "missing"]

_PACKAGES = {
    "samtools": "samtools",
    "bcftools": "bcftools",
    "tabix": "tabix",
    "bgzip": "tabix",
}
"""Program to the Debian package that carries it."""
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_LITTLE_DISK_BYTES, _NO_DISK_BYTES = 10 * 2**30, 2**30
"""A sort of a 3 GB BAM needs about 10 GB for source, spill and artifact; 1 GB is for demos."""
_OPEN_FILES = 4096
"""A held request, its upstream and its artifact are three; hundreds of clients are common."""
_PROCESSES = 256


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `missing` is what the service cannot work without, `warn` what will hurt some day."""

    name: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings."""

    profile: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing that is needed is missing."""
        return all(check.state != "missing" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """profile, ok, checks."""
        return {"profile": self.profile, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def examine(settings: Settings, environ: Mapping[str, str]) -> Report:
    """Check everything the profile of `settings` needs. Takes a few seconds at most."""
    checks = [_python(), *(_program(name, environ) for name in _PACKAGES), _kernel()]
    checks += [_sandbox(settings), _filter(settings)]
    checks.append(_database(settings) if settings.database_url else _document_server())
    checks += _folders(settings)
    checks += [_port(settings), _open_files(), _process_count()]
    return Report(settings.profile.value, tuple(checks))


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Check("python", "ok", found)
    return Check("python", "missing", found, "use Python 3.11, 3.12 or 3.13")


def _program(name: str, environ: Mapping[str, str]) -> Check:
    remedy = f"sudo apt-get install {_PACKAGES[name]}"
    where = shutil.which(name, path=environ.get("PATH"))
    if where is None:
        return Check(name, "missing", "not on PATH", remedy)
    try:
        done = subprocess.run(
            [where, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "missing", f"{where} does not run: {error}", remedy)
    version = _VERSION.search(done.stdout + done.stderr)
    if done.returncode != 0 or version is None:
        return Check(name, "missing", f"{where} does not tell its version (exit {done.returncode})", remedy)
    return Check(name, "ok", version[0])


def _kernel() -> Check:
    """Optional: without it GNU sort does the same work."""
    name = "interval kernel"
    where = find_kernel()
    if where is None:
        remedy = "./dev builds it where gcc and libhts-dev are; the worker image has it"
        return Check(name, "warn", "not built: VCF, GFF and BED take several times longer", remedy)
    try:
        done = subprocess.run(
            [where, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "warn", f"{where} does not run: {error}", "build it anew, or remove it")
    if done.returncode != 0:
        return Check(name, "warn", f"{where} does not run", "build it anew, or remove it")
    return Check(name, "ok", f"{PROGRAM} {done.stdout.split()[-1]}")


def _sandbox(settings: Settings) -> Check:
    """Optional: without it tools still have their limits."""
    name, use = "sandbox", SandboxUse(settings.worker_sandbox)
    with tempfile.TemporaryDirectory() as folder:
        there, how = asyncio.run(trial(use, Path(folder)))
    if there:
        return Check(name, "ok", f"tools run in one ({how})")
    if use is SandboxUse.OFF:
        return Check(name, "ok", how)
    remedy = "sudo apt-get install bubblewrap, on a kernel with user namespaces; docs/limits.md"
    return Check(name, "missing" if use is SandboxUse.ON else "warn", f"none: {how}", remedy)


def _filter(settings: Settings) -> Check:
    """Optional, as the sandbox is; each holds without the other."""
    name, use = "system call filter", SandboxUse(settings.worker_sandbox)
    there, how = asyncio.run(filter_trial(use))
    if there:
        return Check(name, "ok", f"tools run behind one ({how})")
    if use is SandboxUse.OFF:
        return Check(name, "ok", how)
    remedy = "./dev builds it where gcc is; the worker image has it; docs/limits.md"
    return Check(name, "warn", f"none: {how}", remedy)


def _document_server() -> Check:
    """The embedded profile's own; it lies beside the interpreter, where its package put it."""
    name, program = "document server", Path(sys.executable).with_name("secantusd-py")
    if not program.exists():
        remedy = "pip install 'gooseherd[embedded]', or set DATABASE_URL to a MongoDB"
        return Check(name, "missing", "secantusd-py is not installed", remedy)
    try:
        return Check(name, "ok", f"secantusdb {importlib.metadata.version('secantusdb')}")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "ok", "secantusd-py, of an unknown version")


def _database(settings: Settings) -> Check:
    from gooseherd.store.connect import connect, ping

    async def reach() -> None:
        database = connect(settings.database_url or "", settings.database_name)
        try:
            await ping(database)
        finally:
            await database.client.close()

    try:
        asyncio.run(reach())
    except GooseherdError as error:
        return Check("DATABASE_URL", "missing", str(error), "start the server it names, or correct it")
    return Check("DATABASE_URL", "ok", "answers")


def _folders(settings: Settings) -> Iterator[Check]:
    state, artifacts = settings.gooseherd_state_dir, settings.artifacts_dir
    yield _writable("state folder", state, "GOOSEHERD_STATE_DIR")
    if artifacts is None:
        if settings.profile is Profile.EMBEDDED:
            remedy = "set SYNC_DATA_DIR or WORKFLOW_S3_BUCKET"
            yield Check("artifacts", "warn", "no place for them: only upstream bytes are served", remedy)
        yield _disk(state)
        return
    yield _writable("artifacts folder", artifacts, "SYNC_DATA_DIR")
    if _existing(state).stat().st_dev == _existing(artifacts).stat().st_dev:
        yield Check("file system", "ok", "work and artifacts share one")
    else:
        remedy = "put SYNC_DATA_DIR and GOOSEHERD_STATE_DIR on one file system"
        yield Check(
            "file system", "warn", "work and artifacts lie on two: every artifact is copied once more", remedy
        )
    yield _disk(artifacts)


def _writable(name: str, path: Path, variable: str) -> Check:
    there = _existing(path)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(
            name, "missing", f"{path}: {error.strerror}", f"set {variable} to a folder you may write to"
        )
    return Check(name, "ok", str(path) if there == path else f"{path} (will be made)")


def _disk(path: Path) -> Check:
    free = shutil.disk_usage(_existing(path)).free
    told = f"{free / 2**30:.1f} GiB free"
    if free < _NO_DISK_BYTES:
        return Check("disk", "missing", told, "make room: less than 1 GiB is left")
    if free < _LITTLE_DISK_BYTES:
        return Check("disk", "warn", told, "large files need three times their size")
    return Check("disk", "ok", told)


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def _port(settings: Settings) -> Check:
    where = f"{settings.api_host}:{settings.api_port}"
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        socket.create_server((settings.api_host, settings.api_port), family=family).close()
    except OSError as error:
        found = find_local(settings.gooseherd_state_dir)
        if found is not None and found.url.endswith(f":{settings.api_port}"):
            return Check("port", "ok", f"gooseherd runs at {found.url}")
        if error.errno == errno.EADDRINUSE:
            return Check(
                "port", "warn", f"{where} is taken", "choose another: gooseherd up --port N, or API_PORT"
            )
        return Check(
            "port", "missing", f"{where}: {error.strerror}", "set API_HOST to an address of this machine"
        )
    return Check("port", "ok", f"{where} is free")


def _open_files() -> Check:
    return _limit("open files", resource.RLIMIT_NOFILE, _OPEN_FILES, "ulimit -n")


def _process_count() -> Check:
    return _limit("processes", resource.RLIMIT_NPROC, _PROCESSES, "ulimit -u")


def _limit(name: str, which: int, enough: int, command: str) -> Check:
    soft, _ = resource.getrlimit(which)
    if soft == resource.RLIM_INFINITY:
        return Check(name, "ok", "no limit")
    if soft >= enough:
        return Check(name, "ok", f"limit {soft}")
    return Check(name, "warn", f"limit {soft}", f"{command} {enough}")
