"""Reads one region of an artifact as a genome browser does: index whole, data by byte range.

The genome library (htslib, through pysam) opens the data's URL itself; the index is
fetched first, because htslib would leave a copy of a remote one in the current folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gooseherd.client import GooseherdClient, Ready, UnexpectedAnswer
from gooseherd.client.region import Region
from gooseherd.domain.errors import InvalidInput, UnsupportedFormat
from gooseherd.domain.formats import Family, Format


def readable(file_format: Format) -> bool:
    """Whether a region of this format's artifact can be read with an index."""
    return file_format.family in {Family.ALIGNMENTS, Family.INTERVALS}


def read_region(
    client: GooseherdClient, data: Ready, index: Ready, file_format: Format, region: Region
) -> Iterator[str]:
    """The records that overlap `region`, one line each: SAM for alignments, the text line otherwise.

    Raises:
        UnsupportedFormat: the format has no index to read by.
        InvalidInput: the artifact has no such contig.
        UnexpectedAnswer: data and index cannot be read together.
    """
    if not readable(file_format):
        raise UnsupportedFormat(file_format.name)
    keep_from_proxy(data.url)
    with tempfile.TemporaryDirectory(prefix="gooseherd-index-") as folder:
        suffix = "bai" if file_format.family is Family.ALIGNMENTS else "tbi"
        local_index = Path(folder) / f"index.{suffix}"
        client.download(index.url, local_index)
        read = _alignments if file_format.family is Family.ALIGNMENTS else _lines
        try:
            yield from read(data.url, local_index, region)
        except (OSError, ValueError) as error:
            raise UnexpectedAnswer(data.url, f"not readable with its index: {error}") from error


def quiet_htslib() -> Any:
    """pysam, with htslib's own words off: what matters comes as an exception."""
    import pysam

    pysam.set_verbosity(0)
    return pysam


def keep_from_proxy(url: str) -> None:
    """Tell libcurl, which htslib uses, that a proxy of the environment cannot reach this loopback."""
    host = urlsplit(url).hostname or ""
    if host in {"127.0.0.1", "::1", "localhost"}:
        known = os.environ.get("no_proxy", "")
        if host not in known.split(","):
            os.environ["no_proxy"] = ",".join(word for word in (known, host) if word)


def _alignments(url: str, index: Path, region: Region) -> Iterator[str]:
    pysam = quiet_htslib()
    with pysam.AlignmentFile(url, "rb", index_filename=str(index)) as file:
        _know(region, file.references)
        for read in file.fetch(region.contig, region.start, region.end):
            yield read.to_string()


def _lines(url: str, index: Path, region: Region) -> Iterator[str]:
    pysam = quiet_htslib()
    with pysam.TabixFile(url, index=str(index), encoding="utf-8") as file:
        _know(region, file.contigs)
        yield from file.fetch(region.contig, region.start, region.end)


def _know(region: Region, contigs: Iterable[str]) -> None:
    names = list(contigs)
    if region.contig not in names:
        some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise InvalidInput("region", f"no contig {region.contig!r}; there are: {some or 'none'}")
