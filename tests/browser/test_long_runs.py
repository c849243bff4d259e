"""Naive pages where it takes minutes, or another browser: `./dev long`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.browser.service import Herd, Origin, page_of, running

from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.deployment import running_local_cloud
from gooseherd.devcloud.faults import Kind

if TYPE_CHECKING:
    from tests.browser.driver import Driver, PageRun

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

START_SECONDS = 60


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running_local_cloud(tmp_path_factory.mktemp("cloud")) as environment:
        yield environment


@pytest.fixture
def slow_herd(
    cloud: dict[str, str], origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Herd]:
    """A service on the local cloud, without a worker; each takes a minute to start."""
    mark = uuid.uuid4().hex[:8]
    with LocalCloudAdmin.of(cloud) as admin:
        admin.clear()
        admin.spoil_tasks(Kind.SLOW_START, times=9, seconds=START_SECONDS)
        environ = {**cloud, "ECS_FLEET": f"fleet-{mark}", "WORKFLOW_S3_PREFIX": f"{mark}/"}
        with running(tmp_path_factory.mktemp("herd"), origin, **environ) as herd:
            yield herd
        admin.clear()


def check(run: PageRun, url: str) -> None:
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert run.without_bytes(url) == []
    assert {request["status"] for request in run.of(url)} <= {200, 206, 304, 307}


@pytest.mark.parametrize("viewer", ["gosling", "igv", "jbrowse"])
def test_a_worker_that_takes_a_minute_to_start_is_waited_for(
    chromium: Driver, slow_herd: Herd, pages: str, viewer: str
) -> None:
    tracks = [slow_herd.track("bam", "reads.sam"), slow_herd.track("vcf", "calls.vcf")]
    run = chromium.open_page(page_of(pages, viewer, tracks), least=[200] * 2, seconds=240)
    check(run, slow_herd.url)
    assert max(request["ms"] for request in run.of(slow_herd.url)) > START_SECONDS * 1000


def test_firefox_follows_the_same_redirects(firefox: Driver, herd: Herd, pages: str) -> None:
    tracks = [
        herd.track("bam", "reads.sam"),
        herd.track("vcf", "calls.vcf"),
        herd.track("gff", "genes.gff3"),
        herd.track("bed", "regions.bed"),
        herd.track("csv", "table.csv"),
    ]
    run = firefox.open_page(page_of(pages, "gosling", tracks), least=[200] * len(tracks), seconds=240)
    check(run, herd.url)
