"""How a command ends: text for people on standard error, JSON on standard output, an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Final

from gooseherd.domain.errors import GooseherdError, InvalidInput, Misconfigured, UnsupportedFormat
from gooseherd.terminal import visible

_KEPT_BYTES = 8 << 20
"""Of a list, before it goes to a temporary file."""


_HINTS: Final = {
    "401": "show a key: --key (--api-key) or GOOSEHERD_API_KEY; the admin makes one: gooseherd keys create",
    "invalid-credential": "show another key: --key (or --api-key) or GOOSEHERD_API_KEY; the admin has them",
    "already-failed": "to have it tried again: gooseherd get DCC/ID --retry",
    "scope-required": "ask the admin for a key with that scope; what this one may do: gooseherd keys whoami",
}
"""What to do about it, by the kind of problem."""


class Exit(IntEnum):
    """Exit codes, promised in the documentation."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_THERE = 3
    """The service, or a program this machine needs, is not there."""
    REFUSED = 4
    """No such file or job, or no right to it."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    """Who read the output has gone: as a shell reports a program that SIGPIPE ended."""


class CommandError(Exception):
    """Ends the command with this message and exit code; no traceback is shown."""

    def __init__(self, code: Exit, message: str, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.fields = code, message, hint, fields


def print_status(line: str) -> None:
    """Print a line for people to standard error."""
    print(visible(line, allowed="\n"), file=sys.stderr, flush=True)


def print_line(line: str) -> None:
    """Print a line for people to standard output."""
    print(visible(line))


def emit(value: object) -> None:
    """One JSON document, on one line, for programs."""
    print(json.dumps(value, ensure_ascii=False, default=_json_value), flush=True)


def _json_value(value: object) -> object:
    """A record of the service as its JSON; what JSON does not know as text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def emit_list(fields: Mapping[str, Any], name: str, items: Iterable[str]) -> None:
    """As `emit` of `fields` and, under `name`, a list too long for memory; nothing when `items` fails."""
    import shutil
    import tempfile

    with tempfile.SpooledTemporaryFile(_KEPT_BYTES, "w+", encoding="utf-8") as spool:
        for number, item in enumerate(items):
            spool.write((", " if number else "") + json.dumps(item, ensure_ascii=False))
        spool.seek(0)
        head = json.dumps({**fields, name: []}, ensure_ascii=False, default=_json_value)
        print(head.removesuffix("]}"), end="")
        if sys.stdout is not None:
            shutil.copyfileobj(spool, sys.stdout)
        print("]}", flush=True)


def run(command: Callable[[], None], *, as_json: bool) -> int:
    """Run `command` and turn every expected error into a message and an exit code."""
    try:
        command()
    except CommandError as error:
        return _end(error, as_json=as_json)
    except GooseherdError as error:
        return _end(_command_error(error), as_json=as_json)
    except ImportError as error:
        from gooseherd.client.libraries import LibraryMissing

        if not isinstance(error, LibraryMissing):
            raise
        return _end(CommandError(Exit.NOT_THERE, str(error)), as_json=as_json)
    except KeyboardInterrupt:
        print_status("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _flush_or_close_stdout()
        return Exit.BROKEN_PIPE
    except OSError as error:
        _flush_or_close_stdout()
        return _end(CommandError(Exit.FAILED, _plain(error)), as_json=as_json)
    return Exit.OK


def _flush_or_close_stdout() -> None:
    """Write no more when standard output is closed: neither an error's JSON nor at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        sys.stdout = None


def _end(error: CommandError, *, as_json: bool) -> int:
    print_status(f"gooseherd: {error.message}")
    if error.hint:
        print_status(error.hint)
    if as_json:
        try:
            emit(
                {
                    "error": {
                        "detail": error.message,
                        **({"hint": error.hint} if error.hint else {}),
                        **error.fields,
                    }
                }
            )
        except OSError:
            _flush_or_close_stdout()
    return error.code


def _command_error(error: GooseherdError) -> CommandError:
    from gooseherd.client import errors

    match error:
        case errors.NotReachable():
            return CommandError(Exit.NOT_THERE, str(error), "is it running? start it with: gooseherd up")
        case errors.UnexpectedResponse():
            return CommandError(Exit.NOT_THERE, str(error), "is this a gooseherd service?")
        case errors.Missing() | errors.Denied():
            hint = _HINTS.get(error.kind, _HINTS["401"] if error.status == 401 else "")
            hint = "\n".join((hint, *getattr(error, "__notes__", ()))).strip()
            return CommandError(Exit.REFUSED, str(error), hint, **_problem(error))
        case errors.Refused():
            return CommandError(Exit.FAILED, str(error), _HINTS.get(error.kind, ""), **_problem(error))
        case errors.JobEnded():
            return CommandError(Exit.FAILED, str(error), job=dict(error.job))
        case InvalidInput() | UnsupportedFormat():
            return CommandError(Exit.USAGE, str(error))
        case Misconfigured():
            return CommandError(Exit.USAGE, str(error))
        case _:
            return CommandError(Exit.FAILED, str(error))


def _problem(error: Any) -> Mapping[str, Any]:
    return {"status": error.status, "type": error.type, "title": error.title}


def _plain(error: OSError) -> str:
    if error.strerror and not error.filename:
        return error.strerror
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
