"""What the service logs: a line for people, or one JSON object a line for a collector.

With JSON nothing else is written to standard error: warnings, uncaught exceptions, what libraries print
there and what child processes write become objects too. Only a crash of the interpreter leaves plain lines.
URLs lose their query and their user, and what `hide` was given is replaced wherever it stands: more people
read a log than may use what it speaks of.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import Any, Final, TextIO

from gooseherd.terminal import visible

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LINE_BYTES: Final = 64 << 10
"""Of the longest line of others; a longer one is cut into several."""
_FLUSH_SECONDS: Final = 2.0
_LEAST_SECRET: Final = 8
"""Characters; what is shorter could be part of any word."""

_URL: Final = re.compile(
    r"""([a-z][a-z0-9+.-]{0,31}://)(?:[^\s"'/?#@\\]*@)?([^\s"'?#\\]*)(\?[^\s"'\\]*)?""", re.IGNORECASE
)
_SIGNED: Final = re.compile(
    r"\b((?:x-amz-(?:signature|credential|security-token)|signature|token|sig|api[-_]key)=)[^&\s\"'\\]+",
    re.IGNORECASE,
)
_CODE: Final = re.compile(r'File \\?"[^"\\]*?/(?:site-packages|src|lib/python3\.\d+)/')

_NONE: Final[Mapping[str, object]] = MappingProxyType({})
_fields: ContextVar[Mapping[str, object]] = ContextVar("log fields", default=_NONE)
_hidden: dict[str, str] = {}


def bind(**fields: object) -> None:
    """Add the fields to every log line of the running task, and of the tasks that it starts from now on."""
    _fields.set({**_fields.get(), **fields})


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """As `bind`, for as long as the block lasts."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def hide(text: str | None, instead: str = "[hidden]") -> None:
    """Replace that text in every log line from now on: a secret, or a path of this machine."""
    if text and len(text) >= _LEAST_SECRET:
        _hidden[text] = instead


def hide_credentials(environ: Mapping[str, str]) -> None:
    """What the environment has to sign with, and the packages' place on this machine."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        hide(environ.get(name))
    hide(sys.prefix, "<python>")


def redacted(line: str, *, paths: bool = True) -> str:
    """The line as it may be read; with `paths` not replaced for who works on this very machine."""
    for text in sorted(_hidden, key=len, reverse=True):  # A folder's folders before itself.
        if (paths or not text.startswith("/")) and text in line:
            line = line.replace(text, _hidden[text])
    if "://" in line:
        line = _URL.sub(lambda found: found[1] + found[2] + ("?[hidden]" if found[3] else ""), line)
    return _SIGNED.sub(r"\1[hidden]", line)


class _AddFields(logging.Filter):
    """Puts the fields of the process and of the running task into each record."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        super().__init__()
        self._of_process = fields

    def filter(self, record: logging.LogRecord) -> bool:
        attempt = vars(record).get("attempt")
        if isinstance(attempt, str) and attempt.rpartition(".")[2].isdigit():
            # As AttemptId writes itself: the same two fields everywhere.
            job_id, _, number = attempt.rpartition(".")
            vars(record).update(job_id=job_id, attempt=int(number))
        for name, value in {**self._of_process, **_fields.get()}.items():
            if name not in vars(record):
                setattr(record, name, value)
        return True


class _Lines(logging.Formatter):
    """`time level logger event key=value …`, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        event = f"{record.name} {record.getMessage()}"
        line = visible(f"{_stamp(record)} {record.levelname.lower():7} {event} {pairs}".rstrip())
        if record.exc_info:
            line += "\n" + visible(self.formatException(record.exc_info), allowed="\n")
        return redacted(line, paths=False)


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Code is named by its place in its package: where that is installed is this machine's business.
        return _CODE.sub(lambda _: 'File \\"', redacted(json.dumps(line, default=str)))


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


class _OnlyJson(logging.StreamHandler[TextIO]):
    """Writes to what was standard error, and takes in all that anybody else writes there."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        super().__init__(open(self._stderr, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.close(writing)
        # At a fatal error no thread reads the pipe any more: what is said of it goes past that.
        faulthandler.enable(self._stderr)
        self._reader = threading.Thread(target=self._read, args=(reading,), name="stderr", daemon=True)
        self._reader.start()

    def _read(self, reading: int) -> None:
        rest = b""
        try:
            while data := os.read(reading, _LINE_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) >= _LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._take(line)
            self._take(rest)
        except BaseException:
            # Nobody would read the pipe: once it is full, every writer to standard error would wait.
            os.dup2(self._stderr, 2)
            raise
        finally:
            os.close(reading)

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if not text:
            return
        try:
            text = self._as_object(text)
        except Exception:
            text = _as_plain_object(text)
        # Not by `handle`: at the end of the process its lock is held by who waits for this thread.
        with suppress(OSError):
            os.write(self._stderr, text.encode("utf-8", "replace") + b"\n")

    def _as_object(self, text: str) -> str:
        if _is_ours(text):  # Of a child process that logs as we do.
            return text
        level = {"levelno": logging.WARNING, "levelname": "WARNING"}
        record = logging.makeLogRecord({"name": "stderr", "msg": text, **level})
        self.filter(record)
        return self.format(record)

    def close(self) -> None:
        """Give standard error back, and write down what is still on its way. Again changes nothing."""
        if self._reader.is_alive() and threading.current_thread() is not self._reader:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(self._stderr, 2)
            # A child that still has the other end keeps it open.
            self._reader.join(_FLUSH_SECONDS)
        super().close()


def _as_plain_object(text: str) -> str:
    """For a line of which the formatter makes nothing; it is left out where that may show a secret."""
    try:
        text = redacted(text)
    except Exception:
        text = "[a line that cannot be shown]"
    return json.dumps({"level": "warning", "logger": "stderr", "event": text})


def _is_ours(text: str) -> bool:
    if not text.startswith('{"time": "'):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def configure_logging(
    *,
    level: str = "INFO",
    as_json: bool = False,
    stream: TextIO | None = None,
    only_json: bool = False,
    fields: Mapping[str, object] | None = None,
) -> None:
    """Send all log records to `stream` (standard error by default), once; again replaces it.

    With `only_json`, which is for a process's first call, all that anything writes to standard error
    becomes JSON. `fields` are added to each line.
    """
    root = logging.getLogger()
    present = next((handler for handler in root.handlers if isinstance(handler, _OnlyJson)), None)
    out: logging.Handler
    if as_json and only_json and stream is None:
        out = present or _OnlyJson()
    else:
        out = logging.StreamHandler(stream or sys.stderr)
    if present is not None and out is not present:
        present.close()
    out.filters[:] = [_AddFields(fields or {})]
    out.setFormatter(_Json() if as_json else _Lines())
    root.handlers[:] = [out]
    root.setLevel(level.upper())
    for noisy in ("pymongo", "httpx", "wool", "asyncio", "uvicorn", "opentelemetry", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if as_json:
        logging.captureWarnings(capture=True)
        warnings.formatwarning = _one_line
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread
        sys.unraisablehook = _log_unraisable


_OWN: Final = "GOOSEHERD_LOG_"
FIELDS: Final = f"{_OWN}FIELDS"
"""What is added to each line of this process and its children, as a JSON object."""


def configure_from_environment(
    environ: Mapping[str, str], *, only_json: bool = False, stream: TextIO | None = None
) -> None:
    """For processes that are told by their environment alone: GOOSEHERD_LOG_LEVEL, …_JSON, …_FIELDS."""
    level = environ.get(f"{_OWN}LEVEL", "INFO").upper()
    fields: Mapping[str, object] = {}
    with suppress(ValueError):
        given = json.loads(environ.get(FIELDS) or "{}")
        fields = given if isinstance(given, dict) else {}
    configure_logging(
        level=level if level in logging.getLevelNamesMapping() else "INFO",
        as_json=logs_json(environ),
        only_json=only_json,
        stream=stream,
        fields=fields,
    )


def logs_json(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for JSON, in the words that GOOSEHERD_LOG_JSON takes."""
    return environ.get(f"{_OWN}JSON", "").strip().lower() in {"1", "true", "t", "yes", "y", "on"}


def _one_line(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> str:
    return f"{category.__name__}: {message} ({os.path.basename(filename)})"  # noqa: PTH119


_log = logging.getLogger(__name__)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None, /
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread is not None else ""
        _log.critical(
            "uncaught exception in a thread",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
            extra={"thread_name": name},
        )


def _log_unraisable(unraisable: Any) -> None:
    error = unraisable.exc_value
    if error is not None:
        _log.error("exception ignored", exc_info=(type(error), error, unraisable.exc_traceback))
