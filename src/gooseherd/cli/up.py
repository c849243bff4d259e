"""`gooseherd up`: run the service in the foreground until it is stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from gooseherd.cli import options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run
from gooseherd.logs import configure_from_environment, logs_json

if TYPE_CHECKING:
    from gooseherd.settings import Settings


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on (API_HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for any free one (API_PORT).")
    ] = None,
    state_dir: options.StateDir = None,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder below which local files may be added, the current one if none is named; repeat for "
            "more (SOURCE_FILE_ROOTS). Default on a laptop: the current folder."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose pages may read everything, such as https://viewer.example.org; repeat for "
            "more (API_ALLOW_ORIGINS). Pages of this machine may, others public files from elsewhere."
        ),
    ] = None,
    devcloud: options.Devcloud = False,
    worker_image: options.WorkerImage = None,
    as_json: options.Json = False,
    while_stdin_open: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start the service and keep it running until Ctrl-C."""

    def command() -> None:
        if logs_json(os.environ):  # From the very first line on.
            configure_from_environment(os.environ, only_json=True)
        if while_stdin_open:
            _stop_when_stdin_closes()
        if worker_image is not None and not devcloud:
            raise CommandError(Exit.USAGE, "--worker-image is for --devcloud")
        with _configuration(state_dir, worker_image) if devcloud else nullcontext():
            roots = allow_root or _here(devcloud=devcloud)
            read = partial(
                read_settings, host=host, port=port, state_dir=state_dir, allow_origins=allow_origin
            )
            settings = read(allow_roots=roots)
            if settings.profile.value == "embedded":
                settings = read(allow_roots=[*roots, _folder_of_pipes(settings.gooseherd_state_dir)])
            _serve(settings, as_json=as_json)

    raise typer.Exit(run(command, as_json=as_json))


class RootsFromHere(TyperCommand):
    """Reads an `--allow-root` without a folder as the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class, with the folder filled in."""
        given = []
        for at, word in enumerate(args):
            given.append(word)
            alone = at + 1 == len(args) or args[at + 1].startswith("-")
            if word == "--allow-root" and alone:
                given.append(".")
        return super().parse_args(ctx, given)


def _folder_of_pipes(state_dir: Path) -> Path:
    """Where `gooseherd add -` puts what it read from a pipe, for the service to read."""
    from gooseherd.client.local_service import ADDED

    folder = state_dir / ADDED
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is of the last folder only
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _here(*, devcloud: bool) -> list[Path]:
    """On a laptop with nothing configured: the folder the user stands in, unless that is everything.

    Only who has the admin key, a file of the user's own, can register a file in it.
    """
    # A local cloud of our own has put its bucket into the environment; nobody has configured that.
    names = ["SOURCE_FILE_ROOTS", "DATABASE_URL", *(() if devcloud else ("WORKFLOW_S3_BUCKET",))]
    here = Path.cwd()
    if here == Path(here.anchor) or any(os.environ.get(name) for name in names):
        return []
    print_status(f"gooseherd: files below {here} may be added (--allow-root names other folders)")
    return [here]


@contextmanager
def _configuration(state_dir: Path | None, worker_image: Path | None) -> Iterator[None]:
    """A local cloud for as long as we run; from now on this process's environment points at it."""
    from gooseherd.devcloud.deployment import enter, running_local_cloud
    from gooseherd.settings import default_state_dir

    where = state_dir or Path(os.environ.get("GOOSEHERD_STATE_DIR") or default_state_dir())
    with running_local_cloud(where, worker_image=worker_image) as environment:
        enter(environment)
        print_status(f"gooseherd: local cloud at {environment['AWS_ENDPOINT_URL']}")
        yield


def read_settings(
    *,
    host: str | None = None,
    port: int | None = None,
    state_dir: Path | None = None,
    allow_roots: list[Path] | None = None,
    allow_origins: list[str] | None = None,
) -> Settings:
    """The environment's settings with the command line on top.

    Raises:
        CommandError: naming what cannot be used and the variable it came from.
    """
    from pydantic import ValidationError

    from gooseherd.settings import Settings

    overrides: dict[str, Any] = {"api_host": host, "api_port": port}
    overrides["gooseherd_state_dir"] = state_dir.absolute() if state_dir else None
    overrides = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**overrides)
        if allow_origins:
            overrides["api_allow_origins"] = (*settings.api_allow_origins, *allow_origins)
        if allow_roots:
            roots = (*settings.source_file_roots, *(_folder(root) for root in allow_roots))
            overrides["source_file_roots"] = roots
        settings = Settings(**overrides)
        return settings.checked()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise CommandError(Exit.USAGE, problems) from None


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise CommandError(Exit.USAGE, f"--allow-root {path}: no such folder")
    return path.resolve()


def _serve(settings: Settings, *, as_json: bool) -> None:
    import asyncio

    from gooseherd.serving import serve

    def on_ready(url: str) -> None:
        if as_json:
            emit({"url": url, "pid": os.getpid(), "profile": settings.profile.value})
        elif not settings.gooseherd_log_json:  # Else the log has it.
            print(f"gooseherd is ready at {url}", flush=True)

    asyncio.run(serve(settings, on_ready=on_ready))


def _stop_when_stdin_closes() -> None:
    """End with the process that started us, however it ends: its end of our stdin closes then."""

    def wait() -> None:
        # Not sys.stdin: its buffer's lock, held here, would break the interpreter's shutdown.
        while os.read(0, 4096):
            pass
        print_status("gooseherd: the process that started this one has ended")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="stdin", daemon=True).start()
