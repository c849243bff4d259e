"""A worker in a container: its address, its work folder, its secrets.

Task metadata endpoint version 4 of ECS; the address is that of the task's network interface.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import Misconfigured

METADATA: Final = "ECS_CONTAINER_METADATA_URI_V4"
_TRIES: Final = 5
_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.2
_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def in_task(environment: Mapping[str, str]) -> bool:
    """Whether a container platform (or a local cloud) started us."""
    return bool(environment.get(METADATA) or environment.get("BIND_HOST"))


def bind_address(environment: Mapping[str, str]) -> str:
    """BIND_HOST, else the task's own address, else loopback. Blocks.

    Raises:
        Misconfigured: there is a metadata endpoint, but it does not tell.
    """
    if host := environment.get("BIND_HOST"):
        return host
    if uri := environment.get(METADATA):
        return _address(uri)
    return "127.0.0.1"


def _address(uri: str) -> str:
    # Never through a proxy: the endpoint is link-local.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(_TRIES):  # The endpoint can come up after this process.
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
        try:
            with opener.open(uri, timeout=_SECONDS) as response:
                metadata = json.load(response)
        except (OSError, ValueError):
            continue
        try:
            return str(ipaddress.IPv4Address(metadata["Networks"][0]["IPv4Addresses"][0]))
        except (KeyError, IndexError, TypeError, ValueError):
            raise Misconfigured(METADATA, "tells no IPv4 address; set BIND_HOST") from None
    raise Misconfigured(METADATA, "does not answer; set BIND_HOST")


def forbid_dumps() -> None:
    """Keep tools of the same user from reading the memory and environment of this process (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def own_work_dir(environment: Mapping[str, str]) -> Path:
    """The work folder of a task without WORKER_WORK_DIR: below TMPDIR, which is the task's own."""
    return Path(environment.get("TMPDIR") or tempfile.gettempdir()) / f"gooseherd-{os.getpid()}"
