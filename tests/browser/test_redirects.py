"""ARTIFACT_DELIVERY=redirect: viewers read at the end of a 307, from another origin than the page's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.browser.service import Herd, Origin, page_of, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def herd(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    with running(tmp_path_factory.mktemp("redirecting"), origin, ARTIFACT_DELIVERY="redirect") as herd:
        yield herd


@pytest.mark.parametrize("viewer", ["igv", "jbrowse", "gosling"])
def test_a_viewer_follows_redirects_with_its_ranges(
    chromium: Any, herd: Herd, pages: str, viewer: str
) -> None:
    tracks = [herd.track("bam", "reads.sam"), herd.track("vcf", "calls.vcf")]
    run = chromium.open_page(page_of(pages, viewer, tracks), least=[200, 200], seconds=120)
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert run.without_bytes(herd.url) == []
    asked = run.of(herd.url)
    assert {request["status"] for request in asked if "/files/" in request["url"]} <= {304, 307}
    sent = {request["status"] for request in asked if "/artifacts/" in request["url"]}
    assert 206 in sent
    assert sent <= {200, 206, 304}
