"""What tools in a sandbox find of this machine beyond programs, their scratch folder and nothing of others.

They have no network. But what they read could end up in what they write, and that is published.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gooseherd.worker.folders import SECRETS, references_below
from gooseherd.worker.reference_store import sequences_below
from gooseherd.worker.settings import WorkerSettings

HIDDEN: Final = "WORKER_HIDDEN_PATHS"
"""Further paths, `:` between: those of the service's state folder that hold its keys."""
_OF_HOME: Final = (
    *(".ssh", ".aws", ".gnupg", ".netrc", ".pgpass", ".docker", ".kube"),
    *(".config/gcloud", ".config/gh"),
)


def readable_paths(settings: WorkerSettings, work: Path) -> tuple[Path, ...]:
    """Reference sequences of this machine, where there are any, and what WORKER_READABLE_PATHS names."""
    if not settings.outbound.references:
        return settings.readable
    sequences = sequences_below(settings.outbound.references_dir or references_below(work))
    with suppress(OSError):  # Whoever needs one says so.
        sequences.mkdir(parents=True, exist_ok=True, mode=0o700)
    return (*settings.readable, sequences)


def hidden_paths(work: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Of these, paths that may or may not exist: other attempts, keys of the service, the user's own."""
    home = os.path.expanduser("~")  # noqa: PTH111 - which raises nothing
    named = (Path(name) for name in environ.get(HIDDEN, "").split(os.pathsep) if name)
    return (work, work / SECRETS, *named, *(Path(home) / name for name in _OF_HOME))
