"""Parts of artifacts: where they are, and what the service says when it is asked for one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from gooseherd.client.models import Job
from gooseherd.domain.artifact import OWN_ADDRESS, Kind
from gooseherd.domain.source import parse_dcc, parse_local_id

_IN_NO_PATH: Final = re.compile(r"[\x00-\x1f\x7f/\\]")
"""What the service refuses in any path, without saying which id it was meant for."""


@dataclass(frozen=True, slots=True)
class ReadyPart:
    """A part of an artifact that can be read. `job` made it while we waited; None: it was there already."""

    url: str
    etag: str | None
    size: int | None
    filename: str | None
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class PartResponse:
    """The response to one GET: either `ready`, or the id of the job to follow and when to look again."""

    ready: ReadyPart | None = None
    job_id: str | None = None
    retry_after_seconds: float = 1.0


def part_path(kind: Kind, dcc: str, local_id: str) -> str:
    """Where the part of that kind is."""
    return _path(kind, dcc, local_id, "")


def status_path(kind: Kind, dcc: str, local_id: str) -> str:
    """Where the service says whether that part can be read."""
    return _path(kind, dcc, local_id, "/status")


def _path(kind: Kind, dcc: str, local_id: str, below: str) -> str:
    own = kind in OWN_ADDRESS
    path = f"/{kind if own else Kind.DATA}/{ids_path(dcc, local_id)}{below}"
    return path if own else f"{path}?part={kind}"


def data_path(dcc: str, local_id: str) -> str:
    """Where the bytes are."""
    return part_path(Kind.DATA, dcc, local_id)


def index_path(dcc: str, local_id: str) -> str:
    """Where the index into them is."""
    return part_path(Kind.INDEX, dcc, local_id)


def file_path(dcc: str, local_id: str) -> str:
    """Where the catalog entry is, and below it what belongs to the file."""
    return f"/files/{ids_path(dcc, local_id)}"


def ids_path(dcc: str, local_id: str) -> str:
    """Both ids of a file as they stand in a path.

    Raises:
        InvalidInput: no id can have that in it, and no path either: slashes, control characters.
    """
    if _IN_NO_PATH.search(dcc):
        parse_dcc(dcc)
    if _IN_NO_PATH.search(local_id):
        parse_local_id(local_id)
    return f"{quote(dcc, safe='')}/{quote(local_id, safe='~:+@=')}"
