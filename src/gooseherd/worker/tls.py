"""The certificates of one side of the worker's port: read from files or variables, handed to Wool.

Who reaches a worker's port without them runs code there; these are all that stands before it.
Each side checks the other's CA; callers check the worker's name as well: that of its host where the
address is known beforehand (WORKER_HOSTS), else a logical one, for addresses of tasks are in no certificate.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

import wool

from gooseherd.certs import WORKER_IDENTITY, expiries, write_private
from gooseherd.domain.errors import InvalidInput, Misconfigured

CA: Final = "WORKER_TLS_CA"
CERT: Final = "WORKER_TLS_CERT"
KEY: Final = "WORKER_TLS_KEY"
VARIABLES: Final = (CA, CERT, KEY)

_FRESH_FOR: Final = timedelta(minutes=1)
"""From new files to their use; a handshake in between uses the old ones."""
_PEM: Final = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the three variables say: each a path to a PEM file, or the PEM text itself (a secret of ECS)."""

    ca: str
    cert: str
    key: str

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self | None:
        """None when none of them is set. Raises Misconfigured: some are, or one cannot be read."""
        values = {name: environment.get(name, "") for name in VARIABLES}
        if not any(values.values()):
            return None
        for name, value in values.items():
            if not value:
                raise Misconfigured(name, f"{', '.join(VARIABLES)} belong together: set all or none")
        made = cls(*values.values())
        made.check()
        return made

    @property
    def by_name(self) -> dict[str, str]:
        """Variable to value."""
        return {CA: self.ca, CERT: self.cert, KEY: self.key}

    def check(self) -> None:
        """Raises Misconfigured for what is no readable PEM, naming the variable and never its value.

        Also when the key is another certificate's. Dates are not looked at: handshakes do that.
        """
        for name, value in self.by_name.items():
            try:
                data = _read(value)
            except OSError as error:
                raise Misconfigured(name, f"cannot be read ({error.strerror})") from None
            if _PEM not in data.decode(errors="replace"):
                raise Misconfigured(name, "neither PEM text nor a PEM file")
        with tempfile.TemporaryDirectory(prefix="gh-") as folder:  # mode 0700
            self.as_files(Path(folder))._check_pair()

    def as_files(self, folder: Path) -> Certificates:
        """All as paths; texts become files in `folder` (one's own, mode 0700) that only we can read."""
        paths = {}
        for name, value in self.by_name.items():
            paths[name] = value
            if _is_text(value):
                path = folder / f"{name.lower()}.pem"
                write_private(path, _read(value))
                paths[name] = str(path)
        return Certificates(paths[CA], paths[CERT], paths[KEY])

    def _check_pair(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError:
            raise Misconfigured(CA, "holds no certificate") from None
        try:
            # A password is asked for on the terminal otherwise.
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")
        except ssl.SSLError:
            raise Misconfigured(f"{CERT}, {KEY}", "not a certificate and its unencrypted key") from None

    def expiries(self, role: str) -> dict[str, datetime]:
        """When the pair of this side, named `role`, ends, and the last of the CAs that it trusts.

        Read anew: files may have been replaced. Raises Misconfigured: one cannot be read now.
        """
        found = {}
        for name, variable, value in ((role, CERT, self.cert), ("ca", CA, self.ca)):
            try:
                ends = expiries(_read(value))
            except (OSError, InvalidInput):
                raise Misconfigured(variable, "cannot be read") from None
            # A file with a pair may have the certificates of its issuers behind its own.
            found[name] = ends[0] if name == role else max(ends)
        return found

    @property
    def are_files(self) -> bool:
        """Whether all are paths, whose files may be replaced while we run."""
        return not any(map(_is_text, self.by_name.values()))

    def to_serve(self, *, reloadable: bool) -> wool.WorkerCredentialsProvider:
        """For a worker; `reloadable`: the files stay and may change. Read once at once in any case."""
        return self._provider(None, reloadable)

    def to_call(self, identity: str = WORKER_IDENTITY) -> wool.WorkerCredentialsProvider:
        """For callers: a worker is whom they expect, or there is no conversation."""
        return self._provider(identity, self.are_files)

    def _provider(self, peers: str | None, reloadable: bool) -> wool.WorkerCredentialsProvider:
        # Files are read again, so that new ones are taken up without a restart; texts never change.
        return wool.WorkerCredentialsProvider(
            _Source(self), peers=peers, reloadable=reloadable, fresh_for=_FRESH_FOR
        )


@dataclass(frozen=True)
class _Material(wool.WorkerCredentials):  # type: ignore[misc]  # wool has no types
    """What a worker serves with, given to gRPC once.

    gRPC (1.85) asks for a configuration at each handshake, and makes of what it is given, under a lock, what
    other handshakes are using without that lock: some at a time, by anybody without a certificate, end the
    process by SIGSEGV. None says that nothing has changed, and nothing is replaced.
    """

    _to_be_given: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def server_certificate_configuration(self) -> Any:
        if not self._to_be_given.acquire(blocking=False):
            return None
        return super().server_certificate_configuration()


@dataclass(slots=True)
class _Source:
    """Wool calls it for the certificates of the moment; it travels to the worker's child process."""

    certificates: Certificates
    _current: _Material | None = field(default=None, init=False)

    def __call__(self) -> wool.WorkerCredentials:
        files = self.certificates
        read = _Material(
            ca_cert=_read(files.ca), worker_key=_read(files.key), worker_cert=_read(files.cert), mutual=True
        )
        if read != self._current:
            self._current = read
        return self._current

    def __reduce__(self) -> tuple[type[_Source], tuple[Certificates]]:
        return _Source, (self.certificates,)


def _is_text(value: str) -> bool:
    return _PEM in value


def _read(value: str) -> bytes:
    if _is_text(value):
        # Some secret stores and shells keep line ends only as \n in two characters.
        return value.replace("\\n", "\n").strip().encode() + b"\n"
    return Path(value).read_bytes()
