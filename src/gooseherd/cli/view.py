"""`gooseherd view`: files of this machine in a browser, with one command."""

from __future__ import annotations

import fcntl
import os
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode, urlsplit

import typer

from gooseherd import __version__
from gooseherd.cli import formatting, options
from gooseherd.cli.add import make
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

if TYPE_CHECKING:
    from gooseherd.cli.adding import Adding
    from gooseherd.client import GooseherdClient
    from gooseherd.domain.region import Region

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
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of a service that is started, 0 for any free one.")
    ] = 0,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Add files, have them prepared, and open the page that shows them.

    The service of this machine is used when it runs; else one is started, and ends with Ctrl-C.
    What was prepared is kept for the next time.
    """

    def command() -> None:
        from gooseherd.client.local_service import default_state_dir
        from gooseherd.domain.region import parse_region

        place = None if at is None else parse_region(at)
        folder = (state_dir or default_state_dir(os.environ)).absolute()
        # Before a service is started: it is not needed to see that there is nothing to show.
        adding = _found(sources, glob or (), folder)
        with _service(folder, adding.folders, port) as (client, is_ours):
            names = _added(client, adding, is_ours=is_ours)
            shown, more = names[:SHOWN], len(names) - SHOWN
            query = {"files": ",".join(shown), **({"at": at} if at else {})}
            page = client.url("/") + "?" + urlencode(query, safe="/,:")
            if as_json:
                emit({"url": page, "files": shown, "more": max(0, more)})
            else:
                print(page, flush=True)
                if more > 0:
                    print_status(f"{formatting.number(more)} more files are in the list beside the view")
                if not (open_browser and _opened(page)):
                    _print_where_to_open(page)
            failed = make(client, [_ids(name) for name in shown], as_json=as_json)
            if place is not None and failed < len(shown):
                _check_place(client, shown, place)
            if is_ours:
                print_status("Ctrl-C ends it")
                _wait_for_its_end(folder)
        if failed == len(shown):
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


def _found(sources: Sequence[str], globs: Sequence[str], state_dir: Path) -> Adding:
    """What is to be shown. Raises CommandError: something is not there, or there is nothing."""
    from gooseherd.cli.adding import Adding

    adding = Adding(
        {"dcc": "local", "data_access_level": "public"},
        local_id=None,
        file_format=None,
        md5=None,
        digest=False,  # size and time of change tell that a local file is another; nobody waits for its md5
        sidecars=(),
        find_index=True,
        quiet=True,
    )
    adding.take(sources, globs, avoid=state_dir)
    return adding


@contextmanager
def _service(state_dir: Path, folders: Sequence[Path], port: int) -> Iterator[tuple[GooseherdClient, bool]]:
    """A client of the service that runs here, or of one for as long as the block lasts, and which it is."""
    from gooseherd.client import GooseherdClient
    from gooseherd.client.endpoint import Endpoint
    from gooseherd.client.local_service import find_local
    from gooseherd.trial.private_service import end_workers, running_service

    with ExitStack() as stack:
        service = find_local(state_dir)
        is_ours = False
        if service is None:
            with _one_at_a_time(state_dir):
                service = find_local(state_dir)
                if service is None:
                    is_ours = True
                    print_status(f"gooseherd: starting a service, with its state in {state_dir}")
                    stack.callback(end_workers, state_dir)  # when the service has ended
                    service = stack.enter_context(
                        running_service(
                            state_dir=state_dir, allow_roots=folders, environ=os.environ, port=port
                        )
                    )
        if not is_ours and port not in {0, urlsplit(service.url).port}:
            print_status(f"a service runs here already, on another port than {port}: {service.url}")
        # Of a service of somebody else a key may be known.
        key = None if service.admin_key else os.environ.get("GOOSEHERD_API_KEY")
        with GooseherdClient.to(Endpoint.of(service, key)) as client:
            yield client, is_ours


@contextmanager
def _one_at_a_time(state_dir: Path) -> Iterator[None]:
    """Of two commands that would start a service the second waits, and finds that of the first."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_dir / "view.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _added(client: GooseherdClient, adding: Adding, *, is_ours: bool) -> list[str]:
    """The names (DCC/ID) of what is in the catalog now; what viewers draw comes first."""
    if not is_ours:
        _tell_of_another_version(client)
    try:
        adding.register_all(client)
    except CommandError as error:
        if is_ours or error.code is not Exit.REFUSED:
            raise
        hint = f"{error.hint}; or end it, and the same command starts one that may"
        raise CommandError(error.code, error.message, hint) from None
    for line in adding.skipped.lines():
        print_status(line)
    for problem in adding.failed[:SHOWN]:
        print_status(f"not added {problem['file']}: {problem['problem']}")
    more = len(adding.failed) - SHOWN
    if more > 0:
        print_status(f"and {formatting.number(more)} more")
    if not adding.added:
        raise CommandError(Exit.FAILED, "none of the files could be added")
    drawn_first = sorted(adding.added, key=lambda one: not _is_drawn(one.entry["file_format"]))
    return list(dict.fromkeys(one.name for one in drawn_first))


def _tell_of_another_version(client: GooseherdClient) -> None:
    """A service may have been started long before this command was installed."""
    version = client.health().version
    if version != __version__:
        print_status(f"the service that runs here is version {version}, this command is {__version__}")


def _is_drawn(file_format: str) -> bool:
    from gooseherd.domain.formats import Family, resolve

    known = resolve(file_format)
    return known is not None and known.family not in {Family.TABLE, Family.MATRIX}


def _check_place(client: GooseherdClient, names: Sequence[str], place: Region) -> None:
    """Print which sequences there are, when none of the files has that of the place."""
    from gooseherd.client import Refused

    known: dict[str, None] = {}
    aliases: set[str] = set()
    for name in names:
        with suppress(Refused):  # it has none, or could not be made
            found = client.contigs(*_ids(name))
            known |= dict.fromkeys(contig for contig, _ in found.contigs)
            aliases.update(*(found.aliases or {}).values())
    if known and place.contig not in aliases.union(known):
        some = ", ".join(list(known)[:8]) + (", …" if len(known) > 8 else "")
        print_status(f"no file has a contig {place.contig!r}; there are: {some}")


def _wait_for_its_end(state_dir: Path) -> None:
    """Wait for Ctrl-C. Raises CommandError: the service has ended by itself."""
    from gooseherd.client.local_service import find_local

    while find_local(state_dir) is not None:
        time.sleep(1)
    raise CommandError(
        Exit.NOT_THERE, "the service has ended", f"the last lines of {state_dir / 'service.log'} say why"
    )


def _ids(name: str) -> tuple[str, str]:
    dcc, _, local_id = name.partition("/")
    return dcc, local_id


def _opened(page: str) -> bool:
    """Whether it is shown in the browser of whoever sits here."""
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return has_display and webbrowser.open(page)


def _print_where_to_open(page: str) -> None:
    if os.environ.get("SSH_CONNECTION"):
        port = urlsplit(page).port
        print_status(
            f"open that address in a browser of your own machine, after this there: "
            f"ssh -N -L {port}:127.0.0.1:{port} THIS-HOST"
        )
    else:
        print_status("open that address in a browser")
