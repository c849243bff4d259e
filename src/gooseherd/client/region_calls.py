"""The records of a region, whatever the file is stored as."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from gooseherd.client.deadline import Deadline
from gooseherd.client.library_calls import LibraryCalls, lines_of_reads
from gooseherd.client.parts import ReadyPart
from gooseherd.client.ready_calls import OnBusy, OnJob
from gooseherd.client.signals import lines_of_values, read_values
from gooseherd.client.twobit import read_twobit
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import Format
from gooseherd.domain.region import Region, parse_region

_INDEXES: Final = {
    Kind.DATA: Kind.INDEX,
    Kind.ANNOTATION: Kind.ANNOTATION_INDEX,
    Kind.SECOND_END: Kind.SECOND_END_INDEX,
}
WITH_RECORDS: Final = (*_INDEXES, Kind.DENSITY)
"""The parts that are read by region."""
_UPSTREAMS: Final = {"px2": "pairix reads it", "beddb": "HiGlass reads it"}
"""Indexes that are served as upstream has them, and that nothing here reads."""
_MATRIX: Final = "its contacts lie between two regions, at a resolution; hic-straw and cooler read them"
_TABLE: Final = "its rows have no places: get it whole"
_WITHOUT_RECORDS: Final = {
    formats.HIC: _MATRIX,
    formats.COOL: _MATRIX,
    formats.MCOOL: _MATRIX,
    formats.CSV: _TABLE,
    formats.TSV: _TABLE,
}


def check_has_records(format_: Format | None) -> None:
    """Raises InvalidInput: files of that format are not read by region."""
    if format_ in _WITHOUT_RECORDS:
        raise InvalidInput("region", f"none of a {format_.name} file: {_WITHOUT_RECORDS[format_]}")


class RegionCalls(LibraryCalls):
    """Reading by region."""

    async def records(
        self,
        dcc: str,
        local_id: str,
        region: Region | str,
        *,
        part: Kind | str = Kind.DATA,
        retry: bool = False,
        timeout_seconds: float | None = None,
        on_job: OnJob | None = None,
        on_busy: OnBusy | None = None,
    ) -> AsyncGenerator[str, None]:
        """The records that overlap `region`, one line each, once data and index are ready (see `ready`).

        SAM for alignments, the values of a bigWig as bedGraph, the letters of sequences as FASTA, else the
        text line. `part` is `annotation` (GenBank, EMBL), `second_end` (BEDPE, PAF, pairs) or `density`. Read
        by byte ranges as the iterator advances, in bounded memory; closing it closes the connection.

        Raises:
            InvalidInput: no region can be read from the text, the file has no such contig, or its format is
                not read by region.
            Missing: the file has no such part, or no index.
            LibraryMissing: a CRAM is read by pysam, which needs libcurl.
            UnexpectedResponse: data and index cannot be read together.
            Changed: the file was replaced while it was read.
        """
        wanted = parse_region(region) if isinstance(region, str) else region
        if part not in WITH_RECORDS:
            raise InvalidInput("part", f"{str(part)!r} is none of {', '.join(WITH_RECORDS)}")
        kind, deadline = Kind(part), Deadline(timeout_seconds)

        async def made(kind: Kind, *, retry: bool = False) -> ReadyPart:
            seconds = deadline.remaining_or_none
            return await self.ready(
                dcc, local_id, kind=kind, retry=retry, timeout_seconds=seconds, on_job=on_job, on_busy=on_busy
            )

        data = await made(kind, retry=retry)
        format_ = formats.from_filename(data.filename or "")
        check_has_records(format_)
        if format_ is formats.BIGWIG:
            values = partial(read_values, self.endpoint, data, wanted)
            lines = self.transport.items(lambda _: lines_of_values(wanted, values()))
        elif format_ is formats.TWOBIT:
            lines = self.transport.items(lambda _: read_twobit(self.endpoint, data, wanted))
        elif format_ is formats.CRAM:
            seconds = deadline.remaining_or_none
            reads = await self.open(dcc, local_id, timeout_seconds=seconds, on_job=on_job, on_busy=on_busy)
            lines = self.transport.items(lambda _: lines_of_reads(reads, data.url, wanted))
        else:
            index = await made(_INDEXES[kind])
            if (suffix := (index.filename or "").rpartition(".")[2]) in _UPSTREAMS:
                raise InvalidInput("region", f"its index is upstream's {suffix}: {_UPSTREAMS[suffix]}")
            if format_ is formats.FASTA:
                lines = self.read_sequence(data, index, await made(Kind.GZI), wanted)
            else:
                lines = self.read_region(data, index, wanted)
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line
