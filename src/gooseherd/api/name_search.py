"""Finds features by name in published name indexes, by byte ranges: only the small ixx is read whole."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import unquote

from gooseherd.api.part_response import PartMissing
from gooseherd.api.shared_loads import SharedLoads
from gooseherd.blocking import in_executor
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.ports.cache import CacheBackend

MOST_RESULTS: Final = 100
_KEPT_BYTES: Final = 32 << 20
"""Of ixx in memory; one for 20 million names has 1 MB."""
_READ_BYTES: Final = 64 << 10
"""At a time: what lies between two keys of an ixx."""
_MOST_BYTES: Final = 1 << 20
"""Of one index for one question: many lines may begin alike and have other words."""
_QUESTION_BYTES: Final = 4 << 20
"""Of all indexes for one question: of twenty each has enough for a name and what begins with it."""
_THREADS: Final = 2
"""That take lines apart: a thousand of them would hold up whatever else is served."""
_MOST_INDEX_BYTES: Final = 8 << 20
_ADDRESS_DIGITS: Final = 10


class ByteShares:
    """The bytes of one question, shared by the files that are still to be searched."""

    def __init__(self, files: int, left: int = _QUESTION_BYTES) -> None:
        self._files = files
        self._left = left

    def next(self) -> int:
        """What the next file may have; what it does not need goes to those behind it."""
        share = min(self._left // max(self._files, 1), _MOST_BYTES)
        self._files -= 1
        return share

    def spend(self, count: int) -> None:
        """So many were read."""
        self._left -= count


@dataclass(frozen=True, slots=True)
class FoundName:
    """A place that a name has in a file; half-open, from 0."""

    name: str
    """What the feature is shown by."""
    matched: str
    """The name that was found; another one when it is known by several."""
    contig: str
    start: int
    end: int
    is_exact: bool


class NameSearch:
    """Reads trix indexes as processing/formats/trix.py writes them."""

    def __init__(self, cache: CacheBackend) -> None:
        self._cache = cache
        self._indexes: SharedLoads[tuple[list[bytes], list[int]]] = SharedLoads(_KEPT_BYTES)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="name-search")

    async def find(
        self, manifest: Manifest, words: Sequence[str], most: int, shares: ByteShares
    ) -> list[FoundName]:
        """What begins with the first of the words and has the others, exact ones first; at most so many.

        Raises:
            PartMissing: the index is gone.
            CacheUnavailable: it cannot be read now.
        """
        ix, ixx = manifest.part(Kind.NAMES), manifest.part(Kind.NAMES_INDEX)
        if ix is None or ixx is None:
            raise PartMissing
        prefix = words[0].encode("utf-8", "replace")
        keys, places = await self._indexes.get(ixx.sha256, partial(self._read_index, ixx))
        at = places[max(bisect.bisect_right(keys, prefix) - 1, 0)] if keys else 0
        found: list[FoundName] = []
        held = b""
        until = min(at + shares.next(), ix.size)
        while at < until and len(found) < most:
            span = ByteRange(at, min(at + _READ_BYTES, until))
            held += await self._read(ix, span)
            shares.spend(len(span))
            at = span.stop
            *lines, held = held.split(b"\n")
            more, is_over = await in_executor(self._threads, _found_in, lines, prefix, words)
            found += more
            if is_over:
                break
        return _best(found, most)

    async def _read_index(self, part: Part) -> tuple[tuple[list[bytes], list[int]], int]:
        if part.size > _MOST_INDEX_BYTES:
            raise PartMissing
        content = await self._read(part, ByteRange(0, part.size))
        return await in_executor(self._threads, _index_of, content), 8 * part.size

    async def _read(self, part: Part, span: ByteRange) -> bytes:
        data = b"".join([chunk async for chunk in self._cache.get(part.key, span)])
        if len(data) != len(span):
            raise PartMissing
        return data


def _index_of(content: bytes) -> tuple[list[bytes], list[int]]:
    keys, places = [], []
    for line in content.splitlines():
        keys.append(line[:-_ADDRESS_DIGITS])
        places.append(int(line[-_ADDRESS_DIGITS:], 16))
    return keys, places


def _found_in(lines: Sequence[bytes], prefix: bytes, words: Sequence[str]) -> tuple[list[FoundName], bool]:
    """What the lines have, and whether nothing of that beginning follows them."""
    found: list[FoundName] = []
    for line in lines:
        term, _, items = line.partition(b" ")
        if term.startswith(prefix):
            # Most lines of a common beginning have none of the other words: that is seen without their items.
            text = unquote(items.decode("utf-8", "replace")).lower()
            if all(word in text for word in words):
                found += _matching(items, words, is_exact=term == prefix)
        elif term > prefix:
            return found, True
    return found, False


def _matching(items: bytes, words: Sequence[str], *, is_exact: bool) -> Iterator[FoundName]:
    for item in items.split(b" "):
        place, _, name, *more = map(unquote, json.loads(item.rpartition(b",")[0].replace(b"|", b",")))
        matched = more[0] if more else name
        text = f"{name} {matched}".lower()
        if all(word in text for word in words):
            contig, _, span = place.rpartition(":")
            start, _, end = span.partition("..")
            whole = is_exact and len(matched.split()) == len(words)
            yield FoundName(name, matched, contig, int(start) - 1, int(end), whole)


def _best(found: list[FoundName], most: int) -> list[FoundName]:
    distinct = dict.fromkeys(found)
    return sorted(distinct, key=lambda one: not one.is_exact)[:most]
