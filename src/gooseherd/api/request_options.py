"""What the query and the Prefer header of a request for a part ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.queueing import Priority

_PREFERRED_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.ASCII | re.IGNORECASE)
_RESPOND_ASYNC = re.compile(r"(?:^|[,;])\s*respond-async\s*(?=$|[,;])", re.IGNORECASE)
_HOP = re.compile(r"\d{1,9}", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_TRUE: Final = frozenset({"", "1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What the query and the Prefer header ask for."""

    raw: bool = False
    retry: bool = False
    wait_seconds: float = 0.0
    preferred: int | None = None
    """The wait granted to a Prefer header, to be told back."""
    asynchronous: bool = False
    """The client says itself how long it waits, or that it does not."""
    hop: int = 0
    """How often the request was held and redirected already."""
    priority: Priority = Priority.INTERACTIVE
    of: str | None = None
    """Of an artifact's address: the entry, DCC/ID, by which it may be read."""
    part: Kind | None = None
    """The part that is asked for; None: the one whose address it is."""


_DEFAULT: Final = RequestOptions()


def options_of(query: bytes, headers: Mapping[bytes, bytes], longest_wait: float) -> RequestOptions:
    """Raises InvalidInput; a Prefer header that cannot be read is ignored (RFC 7240 §2)."""
    prefer = headers.get(b"prefer")
    if not query and prefer is None:
        return _DEFAULT
    try:
        params = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise InvalidInput("query", "at most 20 parameters") from None
    wait, preferred = _wait(params.get("wait"), longest_wait), None
    preference = prefer.decode("latin-1") if prefer else ""
    asked = _PREFERRED_WAIT.search(preference)
    if asked and "wait" not in params:
        preferred = int(min(int(asked[1]), longest_wait))
        wait = preferred
    return RequestOptions(
        raw=_flag(params, "raw"),
        retry=_flag(params, "retry"),
        wait_seconds=wait,
        preferred=preferred,
        asynchronous=bool("wait" in params or asked or _RESPOND_ASYNC.search(preference)),
        hop=_hop(params.get("hop")),
        priority=_priority(params.get("priority")),
        of=params["of"][-1] if "of" in params else None,
        part=_part(params.get("part")),
    )


def _flag(params: dict[str, list[str]], name: str) -> bool:
    if name not in params:
        return False
    word = params[name][-1].lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidInput(name, "must be true or false")


def _wait(values: list[str] | None, longest: float) -> float:
    if not values:
        return 0.0
    if values[-1].lower() in ("", "true"):
        return longest
    if not _SECONDS.fullmatch(values[-1]):
        raise InvalidInput("wait", "must be a number of seconds")
    return min(float(values[-1]), longest)


def _hop(values: list[str] | None) -> int:
    """What is no number was never sent by this service, and starts anew."""
    return int(values[-1]) if values and _HOP.fullmatch(values[-1]) else 0


def _priority(values: list[str] | None) -> Priority:
    if not values:
        return Priority.INTERACTIVE
    try:
        return Priority.parse(values[-1])
    except KeyError:
        raise InvalidInput("priority", f"must be one of {', '.join(p.label for p in Priority)}") from None


def _part(values: list[str] | None) -> Kind | None:
    if not values:
        return None
    try:
        return Kind(values[-1])
    except ValueError:
        raise InvalidInput("part", f"must be one of {', '.join(Kind)}") from None
