"""The calls that give objects of other libraries: pysam's, pybigtools', frames."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gooseherd.client import frames, reading, transfer
from gooseherd.client.access_calls import AccessCalls
from gooseherd.client.byte_calls import ByteCalls
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.file_calls import FileCalls
from gooseherd.client.frames import FrameKind
from gooseherd.client.libraries import LibraryMissing, library
from gooseherd.client.parts import ReadyPart, file_path
from gooseherd.client.range_file import range_file
from gooseherd.client.ready_calls import OnBusy, OnJob
from gooseherd.client.signals import read_values
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import Format
from gooseherd.domain.region import Region, parse_region

_INDEXED = (Kind.DATA, Kind.INDEX, Kind.GZI)
_TABLES = {formats.CSV: ",", formats.TSV: "\t"}
_OTHERWISE = {
    formats.TWOBIT: "records() has its letters",
    formats.HIC: "hic-straw reads its address",
    formats.COOL: "cooler reads it when it is downloaded",
    formats.MCOOL: "cooler reads it when it is downloaded",
    formats.CSV: "frame() has it as a table",
    formats.TSV: "frame() has it as a table",
}


class LibraryCalls(FileCalls, ByteCalls, AccessCalls):
    """Files as the libraries of the field have them, read by byte ranges, prepared first where need be."""

    async def open(
        self,
        dcc: str,
        local_id: str,
        *,
        density: bool = False,
        timeout_seconds: float | None = None,
        on_job: OnJob | None = None,
        on_busy: OnBusy | None = None,
    ) -> Any:
        """The file for reading: pysam's AlignmentFile, VariantFile, TabixFile or FastaFile, else a bigWig.

        `density`: how many records lie where, as a bigWig. The index is fetched here and leaves nothing in
        the working folder. Close it when it is read; it lives on when the client is closed. Of a file that is
        not public the address has a token that ends within a day.

        Raises:
            LibraryMissing: pybigtools is not installed, which bigWigs need; libcurl, which htslib needs.
            InvalidInput: no library here reads the format.
        """
        deadline = Deadline(timeout_seconds)
        wanted = (Kind.DENSITY,) if density else _INDEXED
        name, parts = await self._parts(dcc, local_id, wanted, deadline, on_job, on_busy)
        format_ = formats.from_filename(name)
        if format_ is formats.BIGWIG or density:
            pybigtools = library("pybigtools")
            part = parts[Kind.DENSITY if density else Kind.DATA]
            return await self.transport.work(lambda _: pybigtools.open(range_file(self.endpoint, part)))
        address = await self._address(dcc, local_id, name)
        return await self.transport.work(lambda http: _pysam(http, format_, address, parts))

    async def frame(
        self,
        dcc: str,
        local_id: str,
        region: Region | str | None = None,
        *,
        kind: FrameKind = "pandas",
        timeout_seconds: float | None = None,
        on_job: OnJob | None = None,
        on_busy: OnBusy | None = None,
    ) -> Any:
        """The records that overlap `region` as a frame of pandas or polars, or as PyRanges.

        `chrom`, `start` and `end` come first, half-open from 0 whatever the format counts from; the other
        columns are the format's. A bigWig's have the `value`. A CSV or TSV comes whole, without a region.

        Raises:
            LibraryMissing: the library is not installed: pip install 'gooseherd[frames]'; libcurl for a CRAM.
            InvalidInput: the region cannot be read, or the format has no table.
        """
        wanted = parse_region(region) if isinstance(region, str) else region
        frames.check_kind(kind)
        deadline = Deadline(timeout_seconds)
        wanted_parts = (Kind.DATA, Kind.INDEX)
        name, parts = await self._parts(dcc, local_id, wanted_parts, deadline, on_job, on_busy)
        format_ = formats.from_filename(name)
        data, index = parts[Kind.DATA], parts.get(Kind.INDEX)
        cram = None
        if format_ is formats.CRAM and wanted is not None:
            seconds = deadline.remaining_or_none
            cram = await self.open(dcc, local_id, timeout_seconds=seconds, on_job=on_job, on_busy=on_busy)

        def made(http: httpx.Client) -> Any:
            if format_ in _TABLES and wanted is None:
                return _whole_table(http, data, format_, kind)
            if wanted is None:
                raise InvalidInput("region", "name one, such as chr1:1-1000: only a CSV or TSV comes whole")
            if format_ is formats.BIGWIG:
                values = read_values(self.endpoint, data, wanted)
                return frames.frame_of(kind, frames.signal_table(wanted.contig, values))
            if cram is not None:
                return frames.frame_of(
                    kind, frames.table_of(formats.CRAM, lines_of_reads(cram, data.url, wanted))
                )
            if format_ is None or index is None:
                raise InvalidInput("format", f"records of {name} cannot be had by region")
            version = transfer.Remote(data.size, data.etag)
            header = reading.header_lines(http, data.url, version) if format_ is formats.VCF else ()
            lines = reading.read_region(http, data.url, index.url, wanted, version)
            return frames.frame_of(kind, frames.table_of(format_, lines, header))

        return await self.transport.work(made)

    def view(
        self,
        files: Sequence[str],
        *,
        at: str | None = None,
        reference: str | None = None,
        assembly: str | None = None,
        browser_url: str | None = None,
    ) -> Any:
        """Files (DCC/ID) in the output of a notebook's cell, drawn by igv.js; prepared first, with bars.

        `at` is the first place, and `view.at` where the person is. `reference` is the DCC/ID of a FASTA or
        2bit, `assembly` a name such as hg38; else the sequences are those of the files. The browser reads
        from the service: `browser_url` is where it finds that (see `browser_address`). Nothing is loaded
        from other hosts.

        Raises:
            LibraryMissing: pip install 'gooseherd[notebook]'.
        """
        library("anywidget")
        from gooseherd.client.notebook.view import FilesView

        return FilesView(
            self.endpoint,
            files,
            os.environ,
            at=at,
            reference=reference,
            assembly=assembly,
            browser_url=browser_url,
        )

    async def _parts(
        self,
        dcc: str,
        local_id: str,
        kinds: Sequence[Kind],
        deadline: Deadline,
        on_job: OnJob | None,
        on_busy: OnBusy | None,
    ) -> tuple[str, Mapping[Kind, ReadyPart]]:
        """What the first of them is called, and those of `kinds` that the file has, ready."""

        async def ready(kind: Kind) -> ReadyPart:
            seconds = deadline.remaining_or_none
            return await self.ready(
                dcc, local_id, kind=kind, timeout_seconds=seconds, on_job=on_job, on_busy=on_busy
            )

        first, *others = kinds
        parts = {first: await ready(first)}
        names = {one.kind: one.name for one in await self.names(dcc, local_id)}
        for kind in others:
            if kind in names:
                parts[kind] = await ready(kind)
        return names.get(first, ""), parts

    async def _address(self, dcc: str, local_id: str, name: str) -> str:
        """The address under a name that tools know, with a token where the entry needs one."""
        address = self.endpoint.url(f"{file_path(dcc, local_id)}/{quote(name)}")
        entry = await self.file(dcc, local_id)
        if entry.data_access_level == "public" or not self.endpoint.api_key:
            return address
        token = await self.token(entry.name)
        return f"{address}?token={quote(token.token, safe='')}"


def _pysam(http: httpx.Client, format_: Format | None, address: str, parts: Mapping[Kind, ReadyPart]) -> Any:
    pysam = library("pysam")
    with tempfile.TemporaryDirectory(prefix="gooseherd-") as folder:
        # htslib reads an index when it opens a file, and not again.
        beside = {}
        for kind in (Kind.INDEX, Kind.GZI):
            if kind in parts:
                part = parts[kind]
                beside[kind] = str(Path(folder) / (part.filename or str(kind)))
                transfer.download(http, part.url, Path(beside[kind]))
        index = beside.get(Kind.INDEX)
        # What htslib prints of a failure has the address in it, and that may have a token.
        verbosity = pysam.set_verbosity(0)
        try:
            if format_ in (formats.BAM, formats.CRAM):
                return pysam.AlignmentFile(address, "r", index_filename=index, check_sq=False)
            if format_ is formats.VCF:
                return pysam.VariantFile(address, index_filename=index)
            if format_ is formats.FASTA:
                return pysam.FastaFile(
                    address, filepath_index=index, filepath_index_compressed=beside.get(Kind.GZI)
                )
            if index is not None:
                return pysam.TabixFile(address, index=index)
        except OSError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                raise LibraryMissing(
                    "htslib reads addresses by libcurl, which is not installed (Debian: libcurl4); frame() "
                    "and records() need none",
                    name="libcurl",
                ) from None
            raise UnexpectedResponse(
                address.split("?", 1)[0], f"htslib cannot open it: {error.strerror}"
            ) from None
        finally:
            pysam.set_verbosity(verbosity)
    problem = f"there is no library here for {format_.name if format_ else 'it'}"
    raise InvalidInput("format", f"{problem}: {_OTHERWISE[format_]}" if format_ in _OTHERWISE else problem)


def lines_of_reads(file: Any, address: str, region: Region) -> Iterator[str]:
    """SAM of an opened CRAM, which is closed then: its decoder, and finding its reference, are htslib's.

    Raises:
        InvalidInput: the file has no such contig.
        UnexpectedResponse: htslib cannot read it.
    """
    with contextlib.closing(file):
        if region.contig not in file.references:
            raise reading.no_contig(region, list(file.references[:9]))
        try:
            for read in file.fetch(region.contig, region.start, region.end):
                yield read.to_string()
        except (OSError, ValueError) as error:
            raise UnexpectedResponse(address, f"htslib cannot read it: {error}") from None


def _whole_table(http: httpx.Client, data: ReadyPart, format_: Format | None, kind: FrameKind) -> Any:
    assert format_ is not None
    content = io.BytesIO()
    transfer.copy_to(http, data.url, content)
    content.seek(0)
    if kind == "polars":
        return library("polars").read_csv(content, separator=_TABLES[format_])
    if kind != "pandas":
        raise InvalidInput("kind", "a table comes as a frame of pandas or polars")
    return library("pandas").read_csv(content, sep=_TABLES[format_])
