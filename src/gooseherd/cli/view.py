"""`gooseherd view`: files of this machine in a browser, with one command."""

from __future__ import annotations

import os
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

import typer

from gooseherd.cli import options
from gooseherd.cli.add import make
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient

SHOWN: Final = 10
"""Files that are prepared and shown at first; a browser draws so many well."""


def view(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH_OR_URL...", help="Files, folders, or their addresses.")
    ],
    at: Annotated[str | None, typer.Option(help="The first view, such as chr7:1,000-2,000.")] = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(help="Of a folder only these, such as '*.bam' or 'run1/*.vcf.gz'; repeat for more."),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, or only print its address.")
    ] = True,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Add files, have them prepared, and open the page that shows them.

    The service of this machine is used when it runs; else one is started, and ends with Ctrl-C.
    What was prepared is kept for the next time.
    """

    def command() -> None:
        from gooseherd.domain.region import parse_region

        if at is not None:
            parse_region(at)
        with _service(sources, state_dir) as (client, is_ours):
            names = _added(client, sources, glob or (), state_dir)
            shown, more = names[:SHOWN], len(names) - SHOWN
            query = {"files": ",".join(shown), **({"at": at} if at else {})}
            page = client.url("/") + "?" + urlencode(query, safe="/,:")
            if as_json:
                emit({"url": page, "files": shown, "more": max(0, more)})
            else:
                print(page, flush=True)
                if more > 0:
                    print_status(f"{more} more files are in the list beside the view")
            if open_browser and not as_json:
                _open(page)
            failed = make(client, [_ids(name) for name in shown], as_json=as_json)
            if is_ours:
                print_status("Ctrl-C ends it")
                threading.Event().wait()
        if failed == len(shown):
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


@contextmanager
def _service(sources: Sequence[str], state_dir: Path | None) -> Iterator[tuple[GooseherdClient, bool]]:
    """A client of the service that runs here, or of one for as long as the block lasts, and which it is."""
    from gooseherd.client import GooseherdClient
    from gooseherd.client.endpoint import Endpoint
    from gooseherd.client.local_service import default_state_dir, find_local
    from gooseherd.trial.private_service import running_service

    folder = (state_dir or default_state_dir(os.environ)).absolute()
    found = find_local(folder)
    if found is not None:
        with GooseherdClient.to(Endpoint.of(found)) as client:
            yield client, False
        return
    print_status(f"gooseherd: starting a service, with its state in {folder}")
    with (
        running_service(state_dir=folder, allow_roots=_roots(sources), environ=os.environ) as service,
        GooseherdClient.to(Endpoint.of(service)) as client,
    ):
        yield client, True


def _roots(sources: Sequence[str]) -> list[Path]:
    """The folders that the service has to read."""
    folders = []
    for source in sources:
        if "://" in source:
            continue
        path = Path(source)
        if not path.exists():
            raise CommandError(Exit.USAGE, f"{path}: no such file or folder")
        folders.append((path if path.is_dir() else path.parent).resolve())
    return list(dict.fromkeys(folders))


def _added(
    client: GooseherdClient, sources: Sequence[str], globs: Sequence[str], state_dir: Path | None
) -> list[str]:
    """The names (DCC/ID) of what is in the catalog now."""
    from gooseherd.cli.adding import Adding
    from gooseherd.cli.connection import local_service

    adding = Adding(
        client,
        {"dcc": "local", "data_access_level": "public"},
        local_id=None,
        file_format=None,
        md5=None,
        digest=False,  # size and time of change tell that a local file is another; nobody waits for its md5
        sidecars=(),
        find_index=True,
        quiet=True,
    )
    adding.take(sources, globs, avoid=local_service(client.base_url, state_dir))
    adding.register_all()
    for line in adding.skipped.lines():
        print_status(line)
    for problem in adding.failed[:SHOWN]:
        print_status(f"not added {problem['file']}: {problem['problem']}")
    if not adding.added:
        raise CommandError(Exit.FAILED, "none of the files could be added")
    return [one.name for one in adding.added]


def _ids(name: str) -> tuple[str, str]:
    dcc, _, local_id = name.partition("/")
    return dcc, local_id


def _open(page: str) -> None:
    """In the browser of whoever sits here; who sits elsewhere has the address."""
    seen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if not seen or not webbrowser.open(page):
        print_status("open that address in a browser")
