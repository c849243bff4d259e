"""Tickets: which bytes of a published file have the records that were asked for."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from gooseherd.api.htsget.cram_index import END_MARKERS, ContainerIndex, Span
from gooseherd.api.htsget.published_blocks import FileHeader, PublishedBlocks, Stretch, UnreadableFile, split
from gooseherd.api.htsget.ticket_request import UNPLACED, TicketRequest
from gooseherd.api.part_response import PartMissing
from gooseherd.api.shared_loads import SharedLoads
from gooseherd.blocking import in_executor
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.bgzf import END_MARKER
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, NoSuchPart, NotFound
from gooseherd.domain.genome_index import INDEX_BYTES, BadIndex, Chunk, GenomeIndex
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.region import Region

_KEPT_INDEX_BYTES: Final = 96 << 20
"""Of indexes in memory, inflated; one of a human genome has 9 MB."""
_KEPT_HEADER_BYTES: Final = 16 << 20
_SEQUENCE_BYTES: Final = 150
"""About what one takes in memory, by name and number."""
_NEAR_BYTES: Final = 128 << 10
"""Chunks this near to each other become one: what lies between costs less than another request."""
_MOST_CHUNKS: Final = 64
"""Of one ticket; the nearest become one beyond that. Each has two blocks of its own in the ticket at most."""

_THREADS: Final = 2
"""That take indexes apart: what many regions cost is nobody else's wait."""

Class = Literal["header", "body"]
Entry = tuple[Stretch, Class]


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """What a ticket is made of."""

    name: str
    """DCC/ID."""
    manifest: Manifest
    url: str
    """Of the data, for the client."""


class Tickets:
    """Makes tickets; indexes and headers that were used lately are kept."""

    def __init__(self, cache: CacheBackend) -> None:
        self._cache = cache
        self._indexes: SharedLoads[GenomeIndex] = SharedLoads(_KEPT_INDEX_BYTES)
        self._cram_indexes: SharedLoads[ContainerIndex] = SharedLoads(_KEPT_INDEX_BYTES)
        self._headers: SharedLoads[FileHeader] = SharedLoads(_KEPT_HEADER_BYTES)
        self._loading = asyncio.Semaphore(2)
        """Loads of indexes at a time: each may take INDEX_BYTES."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="htsget")

    async def ticket(self, file: PublishedFile, request: TicketRequest) -> dict[str, Any]:
        """The body of the response.

        Raises:
            NotFound: the file has no such sequence.
            NoSuchPart: it has no index.
            PartMissing: one of its parts is gone.
            CacheUnavailable: its parts cannot be read, or not together.
        """
        data, index = file.manifest.part(Kind.DATA), file.manifest.part(Kind.INDEX)
        if data is None or index is None:
            raise NoSuchPart("index", file.name)
        make = self._of_cram if request.format == "CRAM" else self._of_blocks
        try:
            entries = await make(file, data, index, request)
        except (UnreadableFile, BadIndex) as problem:
            raise CacheUnavailable(f"reading {request.format} and its index: {problem}") from problem
        urls = [_address(file.url, request.format, *entry) for entry in entries]
        return {"htsget": {"format": request.format, "urls": urls}}

    # -- BAM and VCF -----------------------------------------------------------------------

    async def _of_blocks(
        self, file: PublishedFile, data: Part, index: Part, request: TicketRequest
    ) -> list[Entry]:
        blocks = PublishedBlocks(self._cache, data, self._threads)
        header = await self._headers.get(data.sha256, partial(_header, blocks))
        end = await blocks.records_end()
        begin = min(header.end, end)
        found: list[Entry] = [(stretch, "header") for stretch in await blocks.stretches(Chunk(0, begin))]
        if request.header_only:
            return found
        if request.regions is None:
            chunks = [Chunk(begin, end)]
        else:
            opened = await self._indexes.get(index.sha256, partial(self._open_index, index))
            chunks = await in_executor(self._threads, _chunks, file, opened, header, request.regions, end)
        body = await asyncio.gather(*map(blocks.stretches, chunks))
        found += [(stretch, "body") for stretches in body for stretch in stretches]
        return [*found, (END_MARKER, "body")]

    async def _open_index(self, part: Part) -> tuple[GenomeIndex, int]:
        async with self._loading:
            index = await in_executor(self._threads, GenomeIndex, await self._whole(part))
            return index, index.size

    async def _whole(self, part: Part) -> bytes:
        if part.size > INDEX_BYTES:
            raise BadIndex("it is larger than any index")
        data = b"".join([chunk async for chunk in self._cache.get(part.key)])
        if len(data) != part.size:
            raise PartMissing
        return data

    # -- CRAM ------------------------------------------------------------------------------

    async def _of_cram(
        self, file: PublishedFile, data: Part, index: Part, request: TicketRequest
    ) -> list[Entry]:
        marker = await self._end_of_cram(data)
        end = data.size - len(marker)
        opened = await self._cram_indexes.get(index.sha256, partial(self._open_cram_index, index))
        first = min(opened.first(end), end)
        found: list[Entry] = [(span, "header") for span in split(0, first)]
        if request.header_only:
            return found
        if request.regions is None:
            spans = [ByteRange(first, end)] if first < end else []
        else:
            spans = await in_executor(self._threads, _containers, file, opened, request.regions, end)
        found += [(part, "body") for span in spans for part in split(span.start, span.stop)]
        return [*found, (marker, "body")] if marker else found

    async def _open_cram_index(self, part: Part) -> tuple[ContainerIndex, int]:
        async with self._loading:
            content = await self._whole(part)
            return await in_executor(self._threads, ContainerIndex, content), 20 * len(content)

    async def _end_of_cram(self, part: Part) -> bytes:
        span = ByteRange(max(part.size - max(map(len, END_MARKERS)), 0), part.size)
        tail = b"".join([chunk async for chunk in self._cache.get(part.key, span)])
        return next((marker for marker in END_MARKERS if tail.endswith(marker)), b"")


async def _header(blocks: PublishedBlocks) -> tuple[FileHeader, int]:
    header = await blocks.header()
    return header, _SEQUENCE_BYTES * len(header.sequences or ())


def _chunks(
    file: PublishedFile, index: GenomeIndex, header: FileHeader, regions: Sequence[Region], end: int
) -> list[Chunk]:
    spans = _spans(regions)
    numbers = header.sequences
    if numbers is None:
        wanted = {name.encode("utf-8", "surrogateescape"): name for name in spans}
        numbers = {wanted[word]: n for n, word in enumerate(index.names or ()) if word in wanted}
    unknown = spans.keys() - numbers.keys() - ({UNPLACED} if index.names is None else set())
    # Of sequences that a header declares, an index of text has only those with records.
    _check_names(file, [name for name in spans if name in unknown])
    found: list[Chunk] = []
    for name, of_sequence in spans.items():
        if name == UNPLACED and index.names is None:
            found.append(Chunk(max(index.placed_end(), header.end), end))
        elif name in numbers:
            found += index.chunks_of(numbers[name], of_sequence)
    return _merged(found)


def _containers(
    file: PublishedFile, index: ContainerIndex, regions: Sequence[Region], end: int
) -> list[ByteRange]:
    spans = _spans(regions)
    _check_names(file, [name for name in spans if name != UNPLACED])
    wanted: dict[int | None, Sequence[Span]] = {
        number: spans[contig.name]
        for number, contig in enumerate(file.manifest.contigs)
        if contig.name in spans
    }
    if UNPLACED in spans:
        wanted[None] = spans[UNPLACED]
    return index.containers(wanted, end)


def _spans(regions: Iterable[Region]) -> Mapping[str, Sequence[Span]]:
    """By sequence, in order and without overlaps: what is asked for twice is looked for once."""
    by_name: defaultdict[str, list[Span]] = defaultdict(list)
    for region in regions:
        by_name[region.contig].append((region.start, region.end))
    return {name: _joined_spans(spans) for name, spans in by_name.items()}


def _joined_spans(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans, key=lambda span: span[0]):
        if joined and ((last := joined[-1][1]) is None or start <= last):
            joined[-1] = joined[-1][0], None if last is None or end is None else max(last, end)
        else:
            joined.append((start, end))
    return joined


def _check_names(file: PublishedFile, names: Sequence[str]) -> None:
    """Raises NotFound: the file declares no sequence of that name."""
    if not names:
        return
    declared = {contig.name for contig in file.manifest.contigs}
    if missing := next((name for name in names if name not in declared), None):
        raise NotFound("sequence", missing)


def _merged(chunks: Iterable[Chunk]) -> list[Chunk]:
    """In the file's order, without overlaps, and not more than _MOST_CHUNKS."""
    merged = _joined(chunks, _NEAR_BYTES)
    if len(merged) > _MOST_CHUNKS:
        gaps = sorted(
            (after.begin >> 16) - (before.end >> 16) for before, after in itertools.pairwise(merged)
        )
        merged = _joined(merged, gaps[len(merged) - _MOST_CHUNKS - 1])
    return merged


def _joined(chunks: Iterable[Chunk], near: int) -> list[Chunk]:
    joined: list[Chunk] = []
    for chunk in sorted(chunks):
        if chunk.begin >= chunk.end:
            continue
        if joined and (chunk.begin >> 16) - (joined[-1].end >> 16) <= near:
            joined[-1] = Chunk(joined[-1].begin, max(joined[-1].end, chunk.end))
        else:
            joined.append(chunk)
    return joined


def _address(url: str, file_format: str, stretch: Stretch, kind: Class) -> dict[str, Any]:
    if isinstance(stretch, bytes):
        text = base64.b64encode(stretch).decode()
        return {"url": f"data:application/vnd.ga4gh.{file_format.lower()};base64,{text}", "class": kind}
    return {
        "url": url,
        "headers": {"Range": f"bytes={stretch.start}-{stretch.stop - 1}"},
        "class": kind,
    }
