"""What a client asks of htsget, by query (GET) or as JSON (POST)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from gooseherd.domain.errors import Rejected
from gooseherd.domain.foreign_json import read_json
from gooseherd.domain.region import Region

Datatype = Literal["reads", "variants"]

FORMATS: Final[Mapping[Datatype, tuple[str, ...]]] = {"reads": ("BAM", "CRAM"), "variants": ("VCF", "BCF")}
"""What a client may ask for, the default first."""
UNPLACED: Final = "*"
"""As a reference name: reads without a place."""
MOST_REGIONS: Final = 1000
"""Of one request; an exome's targets are 200,000, and nobody asks for them one by one."""

_FIELDS: Final = frozenset(
    ["QNAME", "FLAG", "RNAME", "POS", "MAPQ", "CIGAR", "RNEXT", "PNEXT", "TLEN", "SEQ", "QUAL"]
)
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9]")
_NUMBER: Final = re.compile(r"\d{1,10}", re.ASCII)
_LARGEST: Final = (1 << 32) - 1
_OURS: Final = frozenset({"hop", "wait", "priority", "retry", "token"})
"""Parameters of this service, which go with any of its addresses."""
_BODY_MEMBERS: Final = frozenset({"format", "class", "fields", "tags", "notags", "regions"})
_QUERY_PARAMETERS: Final = (_BODY_MEMBERS - {"regions"}) | {"referenceName", "start", "end"}


@dataclass(eq=False)
class HtsgetRefusal(Rejected):
    """A request that htsget refuses by one of its own names; all of them are 400."""

    error: Literal["UnsupportedFormat", "InvalidInput", "InvalidRange"]
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class TicketRequest:
    """One request for a ticket. Fields and tags are checked and left: records come whole."""

    format: str
    header_only: bool = False
    regions: Sequence[Region] | None = None
    """None: everything."""


def by_query(datatype: Datatype, query: bytes) -> TicketRequest:
    """Of a GET.

    Raises:
        HtsgetRefusal: it cannot be used.
    """
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=30, encoding="utf-8"
        )
    except ValueError:
        raise HtsgetRefusal("InvalidInput", "at most 30 parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in _QUERY_PARAMETERS and found.setdefault(name, value) != value:
            raise HtsgetRefusal("InvalidInput", f"{name} is there twice")
    lists: dict[str, list[str]] = {
        name: _split(found[name]) for name in ("fields", "tags", "notags") if name in found
    }
    header_only = _header_only(found.get("class"), found.keys() - {"class", "format"})
    _check_lists(lists)
    reference = found.get("referenceName")
    start, end = (_position(name, found[name]) if name in found else None for name in ("start", "end"))
    regions = None
    if reference is not None:
        regions = [_region(datatype, reference, start, end, may_be_empty=True)]
    elif start is not None or end is not None:
        raise HtsgetRefusal("InvalidInput", "start and end go with a referenceName")
    return TicketRequest(_format(datatype, found.get("format")), header_only, regions)


def by_body(datatype: Datatype, query: bytes, body: bytes) -> TicketRequest:
    """Of a POST.

    Raises:
        HtsgetRefusal: it cannot be used.
    """
    parameters = {name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
    if parameters - _OURS:
        raise HtsgetRefusal("InvalidInput", "with POST the parameters stand in the body, not in the address")
    try:
        found = read_json(body or b"{}")
    except ValueError:
        raise HtsgetRefusal("InvalidInput", "the body is no JSON") from None
    if not isinstance(found, dict) or not found.keys() <= _BODY_MEMBERS:
        raise HtsgetRefusal("InvalidInput", f"the body is an object of {', '.join(sorted(_BODY_MEMBERS))}")
    found = {name: value for name, value in found.items() if value is not None}
    lists = {name: _strings(name, found[name]) for name in ("fields", "tags", "notags") if name in found}
    header_only = _header_only(found.get("class"), found.keys() - {"class", "format"})
    _check_lists(lists)
    regions = None
    if "regions" in found:
        regions = [_region_of(datatype, region) for region in _regions(found["regions"])]
    return TicketRequest(_format(datatype, found.get("format")), header_only, regions)


def _format(datatype: Datatype, wanted: object) -> str:
    known = FORMATS[datatype]
    if wanted is None:
        return known[0]
    if not isinstance(wanted, str) or wanted.upper() not in known:
        raise HtsgetRefusal("UnsupportedFormat", f"the formats of {datatype} are {' and '.join(known)}")
    return wanted.upper()


def _header_only(wanted: object, others: Iterable[str]) -> bool:
    if wanted is None:
        return False
    if wanted != "header":
        raise HtsgetRefusal("InvalidInput", "class can be header alone")
    if others := sorted(others):
        raise HtsgetRefusal("InvalidInput", f"class=header goes with format alone, not with {others[0]}")
    return True


def _split(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _strings(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise HtsgetRefusal("InvalidInput", f"{name} is a list of strings")
    return value


def _check_lists(lists: Mapping[str, Sequence[str]]) -> None:
    if unknown := [word for word in lists.get("fields", ()) if word.upper() not in _FIELDS]:
        raise HtsgetRefusal("InvalidInput", f"there is no field {unknown[0][:40]!r}")
    tags, others = set(lists.get("tags", ())), set(lists.get("notags", ()))
    if wrong := [word for word in tags | others if not _TAG.fullmatch(word)]:
        raise HtsgetRefusal("InvalidInput", f"{wrong[0][:40]!r} is no tag")
    if both := tags & others:
        raise HtsgetRefusal("InvalidInput", f"tags and notags both have {min(both)}")


def _position(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > _LARGEST:
        raise HtsgetRefusal("InvalidInput", f"{name} is a whole number from 0 to {_LARGEST}")
    return int(text)


def _region(
    datatype: Datatype, reference: str, start: int | None, end: int | None, *, may_be_empty: bool
) -> Region:
    if reference == UNPLACED and datatype == "reads":
        if start is not None or end is not None:
            raise HtsgetRefusal("InvalidInput", "reads without a place have no start and no end")
        return Region(UNPLACED)
    if end is not None and (start or 0) > end - (not may_be_empty):
        raise HtsgetRefusal("InvalidRange", f"start {start or 0} is behind the end {end}")
    return Region(reference, start or 0, end)


def _regions(value: object) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_REGIONS:
        raise HtsgetRefusal("InvalidInput", f"regions is a list of 1 to {MOST_REGIONS}")
    return value


def _region_of(datatype: Datatype, value: object) -> Region:
    if not isinstance(value, dict) or not value.keys() <= {"referenceName", "start", "end"}:
        raise HtsgetRefusal("InvalidInput", "a region is an object of referenceName, start and end")
    reference = value.get("referenceName")
    if not isinstance(reference, str) or not reference:
        raise HtsgetRefusal("InvalidInput", "a region has a referenceName")
    numbers: list[int | None] = []
    for name in ("start", "end"):
        number = value.get(name)
        if number is not None and (type(number) is not int or not 0 <= number <= _LARGEST):
            raise HtsgetRefusal("InvalidInput", f"{name} is a whole number from 0 to {_LARGEST}")
        numbers.append(number)
    return _region(datatype, reference, *numbers, may_be_empty=False)
