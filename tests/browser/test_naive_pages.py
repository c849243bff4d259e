"""A page author names files that nobody has made yet, and they are drawn."""

from __future__ import annotations

from typing import Any

import pytest
from tests.browser.service import page_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

FILES = {
    "bam": ("bam", "reads.sam"),
    "vcf": ("vcf", "calls.vcf"),
    "gff3": ("gff", "genes.gff3"),
    "gtf": ("gff", "models.gtf"),
    "bed": ("bed", "regions.bed"),
    "narrowpeak": ("bed", "peaks.narrowPeak"),
    "bigwig": ("bigwig", "signal.bw"),
    "csv": ("csv", "table.csv"),
}


def together(viewer: str, formats: str, least: int) -> Any:
    return pytest.param(viewer, formats.split(), least, id=f"{viewer}-{formats.replace(' ', '-')}")


@pytest.mark.parametrize(
    ("viewer", "formats", "least"),
    [
        together("gosling", "bam vcf gff3 gtf bed narrowpeak csv", 200),
        together("gosling", "bigwig", 200),  # in a crowd it stays blank now and then, whoever serves it
        together("igv", "bam vcf gff3 gtf bed narrowpeak bigwig", 200),
        together("jbrowse", "bam vcf gff3 gtf bed narrowpeak", 200),
        together("jbrowse", "bigwig", 200),
    ],
)
def test_a_page_with_nothing_but_addresses_draws_cold_files(
    chromium: Any, herd: Any, pages: str, viewer: str, formats: list[str], least: int
) -> None:
    tracks = [herd.track(*FILES[name]) for name in formats]
    run = chromium.open_page(page_of(pages, viewer, tracks), least=[least] * len(tracks), seconds=120)
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert run.without_bytes(herd.url) == []
    assert {request["status"] for request in run.of(herd.url)} <= {200, 206, 304, 307}
