"""The options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="GOOSEHERD_URL",
        help="The service's address; default: the one running on this machine.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        "--api-key",
        envvar=["GOOSEHERD_API_KEY", "API_ADMIN_KEY"],
        help="An API key or the admin key; default: what the service on this machine made for itself.",
        show_envvar=True,
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", envvar="GOOSEHERD_STATE_DIR", help="Where the service keeps its state."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output only, on standard output.")]
Devcloud = Annotated[
    bool,
    typer.Option("--devcloud", help="On a local cloud: RunTask starts processes, its S3 holds artifacts."),
]
WorkerImage = Annotated[
    Path | None,
    typer.Option(
        "--worker-image",
        exists=True,
        dir_okay=False,
        help="With --devcloud: tasks run this image, as `docker save` wrote it; default: what is installed.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
