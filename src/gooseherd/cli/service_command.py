"""The frame of commands that talk to a service: their options, the connection, `--json`, the exit code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints
from urllib.parse import urlsplit

import typer

from gooseherd.cli import options
from gooseherd.cli.connection import connect
from gooseherd.cli.outcome import emit, run

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient

_OTHER_FOLDER: Final = (
    "one that `gooseherd up` runs here made a key for itself: name its state folder, with --state-dir or "
    "GOOSEHERD_STATE_DIR"
)


class ServiceConnection:
    """The service that a command was given, and how its result is to be shown."""

    def __init__(
        self, url: str | None, api_key: str | None, state_dir: Path | None, *, as_json: bool
    ) -> None:
        self._url, self._api_key = url, api_key
        self.state_dir = state_dir
        self.as_json = as_json

    @contextmanager
    def connected(self) -> Iterator[GooseherdClient]:
        """A client, for as long as the block lasts. Raises CommandError: there is no service."""
        from gooseherd.client import Denied
        from gooseherd.client.endpoint import LOOPBACK

        with connect(self._url, self._api_key, self.state_dir) as client:
            try:
                yield client
            except Denied as error:
                here = urlsplit(client.base_url).hostname in LOOPBACK
                if error.status == 401 and here and not client.endpoint.api_key:
                    # A service of this machine is known by its state folder, and this one is not in ours.
                    error.add_note(_OTHER_FOLDER)
                raise

    def call(self, request: Callable[[GooseherdClient], Any]) -> Any:
        """What one request answers."""
        with self.connected() as client:
            return request(client)

    def emitted(self, record: object) -> bool:
        """Print `record` for programs, if that is what they want; else it is to be printed for people."""
        if self.as_json:
            emit(record)
        return self.as_json


def service_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options of a service; expected errors become a message and an exit code.

    Its own first parameter is the ServiceConnection, the others are its arguments and options for typer.
    """
    hints = get_type_hints(command, include_extras=True)
    shared = {
        "url": options.Url,
        "api_key": options.ApiKey,
        "state_dir": options.StateDir,
        "as_json": options.Json,
    }
    own = list(inspect.signature(command).parameters.values())[1:]
    defaults = {"url": None, "api_key": None, "state_dir": None, "as_json": False}
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own] + [
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=defaults[name]
        )
        for name, annotation in shared.items()
    ]

    @functools.wraps(command)
    def framed(**given: Any) -> None:
        of_service = {name: given.pop(name) for name in shared}
        as_json = of_service.pop("as_json")
        service = ServiceConnection(**of_service, as_json=as_json)
        raise typer.Exit(run(lambda: command(service, **given), as_json=as_json))

    # What typer looks at; without the original it would find the ServiceConnection there.
    del framed.__wrapped__
    framed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    framed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return framed
