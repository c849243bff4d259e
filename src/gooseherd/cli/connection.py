"""Finds the service a command talks to: the one that was named, else the one that runs on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gooseherd.cli.outcome import CommandError, Exit

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient


def connect(url: str | None, api_key: str | None, state_dir: Path | None) -> GooseherdClient:
    """A client for the service at `url`, or for the one that `gooseherd up` runs here.

    Raises:
        CommandError: none was named and none runs.
    """
    from gooseherd.client import GooseherdClient
    from gooseherd.client.endpoint import Endpoint
    from gooseherd.client.local_service import default_state_dir, find_local, find_local_at

    folder = state_dir or default_state_dir(os.environ)
    if url:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise CommandError(Exit.USAGE, f"{url!r} is no address: give http://HOST:PORT")
        ours = None if api_key else find_local_at(url, folder)
        if ours is not None and ours.admin_key:
            return GooseherdClient.to(Endpoint.of(ours))
        return GooseherdClient(url, api_key)
    found = find_local(folder)
    if found is None:
        raise CommandError(
            Exit.NOT_THERE,
            "no service is running here",
            "start it with: gooseherd up   (or name one with --url or GOOSEHERD_URL)",
        )
    return GooseherdClient.to(Endpoint.of(found, api_key))


def local_service(url: str, state_dir: Path | None) -> Path | None:
    """The state folder of the service at `url`, when it runs on this machine in a folder we know."""
    from gooseherd.client.local_service import default_state_dir, find_local_at

    folder = state_dir or default_state_dir(os.environ)
    return folder.absolute() if find_local_at(url, folder) else None


def split_name(name: str) -> tuple[str, str]:
    """DCC/ID in two, or a service's own URL of a file; CommandError when it is neither."""
    from gooseherd.domain.errors import InvalidInput
    from gooseherd.domain.source import parse_dcc, parse_local_id

    path = unquote(urlsplit(name).path) if "://" in name else name
    parts = path.strip("/").split("/")
    if len(parts) == 3 and parts[0] in {"data", "index", "density", "files"}:
        parts = parts[1:]
    elif len(parts) == 4 and parts[0] == "files":  # and the name of one of its parts
        parts = parts[1:3]
    try:
        dcc, local_id = parts
        return parse_dcc(dcc), parse_local_id(local_id)
    except (ValueError, InvalidInput):
        raise CommandError(
            Exit.USAGE,
            f"{name!r} is no name of a file in the catalog: write DCC/ID, such as local/reads.bam",
            "gooseherd files ls lists them",
        ) from None
