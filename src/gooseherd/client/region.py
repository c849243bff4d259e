"""Reads one region of an artifact as a genome browser does: index whole, data by byte range.

The genome library (htslib, through pysam) opens the data's URL itself; the index is
fetched first, because htslib would leave a copy of a remote one in the current folder.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gooseherd.client.calls import GooseherdClient, Ready
from gooseherd.domain.errors import InvalidInput, UnsupportedFormat
from gooseherd.domain.formats import Family, Format

_SPAN = re.compile(r"(?P<start>\d[\d,]*)(?:-(?P<end>\d[\d,]*)?)?$")


@dataclass(frozen=True, slots=True)
class Region:
    """Half-open and 0-based, as inside everything; `end` None means to the contig's end."""

    contig: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        if self.end is None:
            return self.contig if not self.start else f"{self.contig}:{self.start + 1}-"
        return f"{self.contig}:{self.start + 1}-{self.end}"

    def overlaps(self, contig: str, start: int, end: int) -> bool:
        """Whether [start, end) of `contig` shares a base with this region."""
        return contig == self.contig and end > self.start and (self.end is None or start < self.end)


def parse_region(text: str) -> Region:
    """`chr1`, `chr1:1000`, `chr1:1,000-2,000` (1-based, both ends included, as people write it).

    A name that itself ends in `:digits` is written in braces, as samtools has it: `{HLA:01}:1-9`.

    Raises:
        InvalidInput: when no region can be read from it.
    """
    text = text.strip()
    name, span = text, ""
    if text.startswith("{") and "}" in text:
        name, _, rest = text[1:].partition("}")
        if rest and not rest.startswith(":"):
            raise InvalidInput("region", "write it as chr1:1000-2000")
        span = rest[1:]
    elif (found := text.rpartition(":")) and found[1] and _SPAN.match(found[2]):
        name, _, span = found
    if not name or "\0" in name:
        raise InvalidInput("region", "write it as chr1:1000-2000")
    if not span:
        return Region(name)
    match = _SPAN.match(span)
    if match is None:
        raise InvalidInput("region", f"{span!r} is no span; write it as 1000-2000")
    start = int(match["start"].replace(",", ""))
    end = int(match["end"].replace(",", "")) if match["end"] else None
    if start < 1 or (end is not None and end < start):
        raise InvalidInput("region", "positions start at 1 and the end is not before the start")
    return Region(name, start - 1, end)


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
    """
    if not readable(file_format):
        raise UnsupportedFormat(file_format.name)
    keep_from_proxy(data.url)
    with tempfile.TemporaryDirectory(prefix="gooseherd-index-") as folder:
        suffix = "bai" if file_format.family is Family.ALIGNMENTS else "tbi"
        local_index = Path(folder) / f"index.{suffix}"
        client.download(index.url, local_index)
        if file_format.family is Family.ALIGNMENTS:
            yield from _alignments(data.url, local_index, region)
        else:
            yield from _lines(data.url, local_index, region)


def read_header(data: Ready, file_format: Format) -> list[str]:
    """The artifact's header lines, without their ends."""
    import pysam

    keep_from_proxy(data.url)
    if file_format.family is Family.ALIGNMENTS:
        with pysam.AlignmentFile(data.url, "rb", check_sq=False) as file:
            return str(file.header).splitlines()
    head = []
    with pysam.BGZFile(data.url, "rb") as stream:
        for line in stream:
            if not line.startswith(b"#"):
                break
            head.append(line.decode("utf-8", "replace"))
    return head


def keep_from_proxy(url: str) -> None:
    """Tell libcurl, which htslib uses, that a proxy of the environment cannot reach this loopback."""
    host = urlsplit(url).hostname or ""
    if host in {"127.0.0.1", "::1", "localhost"}:
        known = os.environ.get("no_proxy", "")
        if host not in known.split(","):
            os.environ["no_proxy"] = ",".join(word for word in (known, host) if word)


def _alignments(url: str, index: Path, region: Region) -> Iterator[str]:
    import pysam

    with pysam.AlignmentFile(url, "rb", index_filename=str(index)) as file:
        _know(region, file.references)
        for read in file.fetch(region.contig, region.start, region.end):
            yield read.to_string()


def _lines(url: str, index: Path, region: Region) -> Iterator[str]:
    import pysam

    with pysam.TabixFile(url, index=str(index), encoding="utf-8") as file:
        _know(region, file.contigs)
        yield from file.fetch(region.contig, region.start, region.end)


def _know(region: Region, contigs: Iterable[str]) -> None:
    names = list(contigs)
    if region.contig not in names:
        some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise InvalidInput("region", f"no contig {region.contig!r}; there are: {some or 'none'}")
