"""What a finished artifact must be like over HTTP, and that its records are the source's."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from gooseherd.client import GooseherdClient, ReadyPart
from gooseherd.client.responses import sha256_of
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.formats import CRAM, Format
from gooseherd.domain.region import Region
from gooseherd.trial.full_scan import bigwig_lines, comparable, cram_lines, scan, scan_second_end


@dataclass(eq=False)
class CheckFailed(GooseherdError):
    """Something promised was not so."""

    what: str

    def __str__(self) -> str:
        return self.what


def check_ranges(client: GooseherdClient, part: ReadyPart) -> int:
    """ETag, 206, 304, 416 and friends, as RFC 9110 and genome browsers want them; how many bytes there are.

    Raises:
        CheckFailed: naming the first promise that was broken.
    """
    http, url = client.http, part.url
    head = http.head(url, headers={"Accept-Encoding": "identity"})
    _must(head.status_code == 200, f"HEAD got status {head.status_code}")
    etag, size = head.headers.get("etag", ""), int(head.headers.get("content-length", "-1"))
    _must(sha256_of(etag) is not None, f"the ETag is no quoted sha256: {etag!r}")
    _must(head.headers.get("accept-ranges") == "bytes", "no Accept-Ranges: bytes")
    _must(size > 0, "no Content-Length")
    page = httpx.URL(url)
    origin = f"{page.scheme}://{page.netloc.decode()}"  # a local service shows local files to no other page
    whole = http.get(url, headers={"Accept-Encoding": "identity", "Origin": origin})
    _must(whole.status_code == 200 and len(whole.content) == size, "a plain GET is not 200 with all bytes")
    _must(hashlib.sha256(whole.content).hexdigest() == sha256_of(etag), "the bytes are not those of the ETag")
    _must("access-control-allow-origin" in whole.headers, "no CORS header: a page cannot read it")

    def asked(**headers: str) -> httpx.Response:
        return http.get(url, headers={"Accept-Encoding": "identity", **headers})

    middle = size // 2
    for first, last in ((0, 0), (middle, min(middle + 65535, size - 1)), (max(size - 10, 0), size + 65535)):
        part_of = asked(Range=f"bytes={first}-{last}")
        end = min(last, size - 1)
        _must(part_of.status_code == 206, f"bytes={first}-{last} got status {part_of.status_code}, not 206")
        content_range = part_of.headers.get("content-range")
        _must(content_range == f"bytes {first}-{end}/{size}", f"Content-Range is {content_range!r}")
        _must(part_of.content == whole.content[first : end + 1], f"bytes={first}-{last}: other bytes")
        _must(part_of.headers.get("etag") == etag, "a range carries another ETag")
    past = asked(Range=f"bytes={size}-")
    _must(past.status_code == 416, f"a range past the end got status {past.status_code}, not 416")
    _must(past.headers.get("content-range") == f"bytes */{size}", "416 does not have the size")
    fresh = asked(Range="bytes=0-9", **{"If-None-Match": etag})
    _must(fresh.status_code == 304, f"If-None-Match got status {fresh.status_code}, not 304")
    same = asked(Range="bytes=0-9", **{"If-Range": etag})
    _must(same.status_code == 206, f"If-Range with the ETag got status {same.status_code}, not 206")
    other = asked(Range="bytes=0-9", **{"If-Range": '"another"'})
    _must(other.status_code == 200, f"If-Range with another ETag got status {other.status_code}, not 200")
    return size


def check_region(
    client: GooseherdClient,
    data: ReadyPart,
    index: ReadyPart,
    source: Path,
    file_format: Format,
    region: Region,
    blocks: ReadyPart | None = None,
) -> int:
    """A region read through the index by byte ranges holds what a naive scan finds; how many records.

    Raises:
        CheckFailed: they differ; the first difference is named.
    """
    expected = scan(source, file_format, region)
    if blocks is None:
        found = list(client.read_region(data, index, region))
    else:
        found = list(client.read_sequence(data, index, blocks, region))
    differ = _difference(comparable(expected, file_format), comparable(found, file_format))
    _must(not differ, f"{region}: {differ}")
    return len(expected)


def check_cram(
    client: GooseherdClient, data: ReadyPart, index: ReadyPart, source: Path, region: Region
) -> int:
    """The same of a CRAM that stayed one and has its bases in it.

    Raises:
        CheckFailed: they differ; the first difference is named.
    """
    expected = scan(source, CRAM, region)
    with tempfile.TemporaryDirectory() as folder:
        path, beside = Path(folder) / "data.cram", Path(folder) / "data.cram.crai"
        client.download(data.url, path)
        client.download(index.url, beside)
        found = cram_lines(path, beside, region)
    differ = _difference(comparable(expected, CRAM), comparable(found, CRAM))
    _must(not differ, f"{region}: {differ}")
    return len(expected)


def check_second_end(
    client: GooseherdClient,
    data: ReadyPart,
    index: ReadyPart,
    source: Path,
    file_format: Format,
    region: Region,
) -> int:
    """The same of records that have two places, by the second of them.

    Raises:
        CheckFailed: they differ; the first difference is named.
    """
    expected = scan_second_end(source, file_format, region)
    found = list(client.read_region(data, index, region))
    differ = _difference(sorted(expected), sorted(found))
    _must(not differ, f"the second end in {region}: {differ}")
    return len(expected)


def check_annotation(client: GooseherdClient, data: ReadyPart, index: ReadyPart, gene: Region) -> int:
    """The features of a gene, of which `gene` is the place, are found there; how many.

    Raises:
        CheckFailed: the gene itself is not.
    """
    found = [line.split("\t") for line in client.read_region(data, index, gene)]
    place = [str(gene.start + 1), str(gene.end)]
    there = any(columns[2] == "gene" and columns[3:5] == place for columns in found)
    _must(there, f"no gene at {gene} among {len(found)} features")
    return len(found)


def check_signal(
    client: GooseherdClient, data: ReadyPart, source: Path, file_format: Format, region: Region
) -> int:
    """The values of a region in a bigWig are those that a naive scan finds; how many.

    Raises:
        CheckFailed: they differ; the first difference is named.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.bw"
        client.download(data.url, path)
        found = bigwig_lines(path, region)
    expected = sorted(scan(source, file_format, region))
    differ = _difference(expected, sorted(found))
    _must(not differ, f"{region}: {differ}")
    return len(expected)


def check_same_bytes(client: GooseherdClient, data: ReadyPart, source: Path) -> int:
    """A file that is served as it is: the same bytes, whole and in the middle; how many."""
    wanted = source.read_bytes()
    got = client.http.get(data.url, headers={"Accept-Encoding": "identity"})
    _must(got.content == wanted, f"{len(got.content)} bytes that are not the source's {len(wanted)}")
    return len(wanted)


def attempt(check: Callable[[], str]) -> tuple[bool, str]:
    """Run one check; (whether it held, its result or what went wrong)."""
    try:
        return True, check()
    except (GooseherdError, OSError, ValueError, httpx.HTTPError) as error:
        return False, str(error) or type(error).__name__


def _difference(expected: list[str], found: list[str]) -> str:
    if expected == found:
        return ""
    missing = next((line for line in expected if line not in found), None)
    extra = next((line for line in found if line not in expected), None)
    text = f"{len(found)} records, a scan of the source finds {len(expected)}"
    if missing is not None:
        text += f"; missing: {missing[:120]!r}"
    if extra is not None:
        text += f"; not in the source: {extra[:120]!r}"
    return text


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)
