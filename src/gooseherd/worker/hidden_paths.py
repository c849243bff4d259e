"""What tools in a sandbox do not see of the file system, which they can otherwise read as their user can.

They have no network. But what they read could end up in what they write, and that is published.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gooseherd.worker.folders import SECRETS

VARIABLE: Final = "WORKER_HIDDEN_PATHS"
"""Further paths, `:` between: those of the service's state folder that hold its keys."""
_OF_HOME: Final = (
    *(".ssh", ".aws", ".gnupg", ".netrc", ".pgpass", ".docker", ".kube"),
    *(".config/gcloud", ".config/gh"),
)


def hidden_paths(work: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Paths that may or may not exist: credentials of attempts, keys of the service, the user's own."""
    home = os.path.expanduser("~")  # noqa: PTH111 - which raises nothing
    named = (Path(name) for name in environ.get(VARIABLE, "").split(os.pathsep) if name)
    return (work / SECRETS, *named, *(Path(home) / name for name in _OF_HOME))
