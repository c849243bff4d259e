"""The local cloud's own access key: whoever has it may do everything there, nobody else anything.

The server makes it and writes it to a file of mode 0600 beside its other state, in the form of AWS's shared
credentials files. Never in a command line: those can be read by every user of the machine.
"""

from __future__ import annotations

import configparser
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

ID_VARIABLE: Final = "DEVCLOUD_ACCESS_KEY_ID"
SECRET_VARIABLE: Final = "DEVCLOUD_SECRET_ACCESS_KEY"  # noqa: S105 - its name
"""The key that a server is to take instead of making one: for tests, and for clouds that share one."""
FILE: Final = "credentials"
_ENDPOINT: Final = "endpoint"
_ID: Final = re.compile(r"[A-Z0-9]{16,64}")
_CREDENTIALS: Final = (
    *("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
"""With any of these somebody has said whose credentials are to be used."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key id and its secret."""

    key_id: str
    secret: str = field(repr=False)

    @classmethod
    def made(cls) -> Self:
        """A new one that nobody can guess."""
        # 20 capitals and digits, as AWS's are.
        return cls(f"DEVCLOUD{secrets.token_hex(6).upper()}", secrets.token_urlsafe(30))

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self | None:
        """The one that ID_VARIABLE and SECRET_VARIABLE name. Raises ValueError when it cannot be one."""
        key_id, secret = environ.get(ID_VARIABLE), environ.get(SECRET_VARIABLE)
        if not key_id and not secret:
            return None
        if not (key_id and secret and _ID.fullmatch(key_id) and len(secret) >= 16):
            raise ValueError(
                f"{ID_VARIABLE}: 16 or more capitals and digits, {SECRET_VARIABLE}: 16 characters"
            )
        return cls(key_id, secret)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The one of the local cloud whose state lies in `folder`; None when there is none to be read."""
        parsed = configparser.ConfigParser(interpolation=None)
        try:
            parsed.read_string((folder / FILE).read_text(encoding="utf-8"))
            section = parsed["default"]
            return cls(section["aws_access_key_id"], section["aws_secret_access_key"])
        except (OSError, KeyError, ValueError, configparser.Error):
            return None

    def write(self, folder: Path) -> None:
        """For the owner's eyes only, whatever the umask."""
        draft = folder / f".{FILE}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as text:
            text.write(
                f"[default]\naws_access_key_id = {self.key_id}\naws_secret_access_key = {self.secret}\n"
            )
        draft.replace(folder / FILE)

    def environment(self) -> dict[str, str]:
        """The variables by which AWS's libraries find it."""
        return {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret}


def folder_of(state_dir: Path) -> Path:
    """Where a local cloud keeps its state, in the state folder of the service."""
    return state_dir.absolute() / "devcloud"


def recorded_endpoint(state_dir: Path) -> str | None:
    """Where the local cloud below `state_dir` listens, if one does."""
    try:
        return (folder_of(state_dir) / _ENDPOINT).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def endpoint_file(state_dir: Path) -> Path:
    """What `recorded_endpoint` reads."""
    return folder_of(state_dir) / _ENDPOINT


def of_endpoint(endpoint_url: str | None, state_dir: Path) -> AccessKey | None:
    """The key of the cloud at that address, if it is the one whose state lies below `state_dir`."""
    recorded = recorded_endpoint(state_dir)
    if endpoint_url is None or recorded is None or endpoint_url.rstrip("/") != recorded.rstrip("/"):
        return None
    return AccessKey.read(folder_of(state_dir))


def names_credentials(environ: Mapping[str, str]) -> bool:
    """Whether the environment says whose credentials AWS's libraries are to use."""
    return any(environ.get(name) for name in _CREDENTIALS)
