"""What /tracks says is drawn as it is, without a word of the page's own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

FILES = {
    "bam": "reads.sam",
    "vcf": "calls.vcf",
    "gff3": "genes.gff3",
    "gtf": "models.gtf",
    "bed": "regions.bed",
    "narrowpeak": "peaks.narrowPeak",
    "bigwig": "signal.bw",
    "csv": "table.csv",
}


CLOSE, WIDE = "chr1:90,001-110,000", None


def together(viewer: str, formats: str, at: str | None = CLOSE) -> Any:
    return pytest.param(
        viewer, formats.split(), at, id=f"{viewer}-{formats.replace(' ', '-')}-{at or 'wide'}"
    )


@pytest.mark.parametrize(
    ("viewer", "formats", "at"),
    [
        together("gosling", "bam vcf gff3"),
        together("gosling", "gtf bed narrowpeak csv"),
        together("gosling", "bigwig"),  # in a crowd it stays blank now and then, whoever serves it
        together("gosling", "bam", WIDE),
        together("igv", "bam vcf gff3 gtf"),
        together("igv", "bed narrowpeak bigwig"),
        together("igv", "bam bed", WIDE),
        together("jbrowse", "bam vcf gff3"),
        together("jbrowse", "gtf bed narrowpeak bigwig"),
        together("jbrowse", "vcf bed", WIDE),
    ],
)
def test_a_viewer_draws_what_the_service_says(
    chromium: Any, herd: Any, pages: str, viewer: str, formats: list[str], at: str | None
) -> None:
    names = [f"lab/{herd.register(FILES[name])}" for name in formats]
    for name in names:
        assert herd.get(f"/data/{name}?wait=50").status_code == 200
    document = f"/tracks/{viewer}.json?{urlencode({'files': ','.join(names)} | ({'at': at} if at else {}))}"
    tracks = herd.get(document).json()["tracks"]
    run = chromium.open_page(
        f"{pages}/given.html?viewer={viewer}&spec={quote(herd.url + document, safe='')}",
        least=[0 if _uncoloured(viewer, track, at) else 100 for track in tracks],
        seconds=120,
    )
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert {request["status"] for request in run.of(herd.url)} <= {200, 206, 304}
    read = {request["url"] for request in run.of(f"{herd.url}/files/")}
    if at is CLOSE:
        assert {herd.names(name.partition("/")[2])["data"] for name in names} <= read
    ours = (herd.url, pages, "data:", "blob:")
    assert [request["url"] for request in run.requests if not request["url"].startswith(ours)] == []


def _uncoloured(viewer: str, track: dict[str, Any], at: str | None) -> bool:
    """JBrowse's reads are grey, and igv.js asks to zoom in: of these no pixel counts."""
    if viewer == "jbrowse":
        return bool(track["type"] == "AlignmentsTrack")
    return viewer == "igv" and at is WIDE and track["type"] == "alignment"
