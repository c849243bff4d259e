"""What attempts left in a bucket goes when the service may remove it, and nothing else does."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.admin_client import SignedBy
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, artifact_prefix, cache_key, result_name
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.settings import Settings
from gooseherd.wiring.artifacts import make_registry, open_cache
from gooseherd.wiring.retention import make_retention, removes_objects
from gooseherd.wiring.store import Store, open_store

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cloud_credentials")]

LATER = timedelta(days=8)
"""Objects of a bucket are as old as they are; so the clock goes ahead."""
RECIPE = Recipe("bam", "2", formats.BAM)


class LaterJobs:
    """A job store whose clock is ahead."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def now(self) -> datetime:
        now: datetime = await self._jobs.now()
        return now + LATER


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as state, running_cloud(Path(state), images={}) as url:
        yield url


@pytest.fixture
def environment(cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Of a service on a bucket of its own, which says nothing about what may be removed."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    bucket = f"bucket-{tmp_path.name.replace('_', '-').lower()}"[:60].strip("-")
    with httpx.Client(base_url=cloud, trust_env=False, auth=SignedBy(CLOUD_KEY)) as http:
        http.put(f"/{bucket}").raise_for_status()
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKFLOW_S3_BUCKET", bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud)
    return monkeypatch


@pytest.fixture
async def store(environment: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    async with open_store(Settings()) as opened:
        yield replace(opened, jobs=LaterJobs(opened.jobs))


def source(number: int) -> SourceFile:
    url = f"https://example.org/{number}.bam"
    return SourceFile(Dcc("t"), LocalId(f"f{number}"), "f.bam", formats.BAM, url, md5=f"{number:032x}")


async def fill(cache: CacheBackend) -> None:
    """One artifact that was published, with the result of its attempt; one that never was."""
    for number in (1, 2):
        await cache.put_if_absent(cache_key(source(number).identity, RECIPE, "sorted.bam"), b"reads")
    prefix = artifact_prefix(source(1).identity, RECIPE)
    part = Part(Kind.DATA, CacheKey(prefix + "sorted.bam"), 5, "0" * 64, "sorted.bam")
    manifest = Manifest(str(source(1).identity), "bam", "bam", "2", (part,))
    await cache.put_if_absent(CacheKey(prefix + MANIFEST), manifest.to_bytes())
    await cache.put_if_absent(CacheKey(prefix + result_name("job.1")), manifest.to_bytes())


async def names(cache: CacheBackend, number: int) -> set[str]:
    prefix = artifact_prefix(source(number).identity, RECIPE)
    return {found.key.rpartition("/")[2] async for found in cache.list(prefix)}


async def retain(settings: Settings, store: Store) -> CacheBackend:
    """All passes of a service's retention; the bucket."""
    cache = open_cache(settings)
    assert cache is not None
    await fill(cache)
    retention = make_retention(
        settings, store, cache if removes_objects(settings) else None, make_registry(settings)
    )
    report = await retention.run_rounds()
    assert (report.seen, report.errors, report.lost_races) == (True, 0, 0)
    return cache


async def test_leftovers_go_from_a_bucket_when_the_setting_says_so_and_what_was_published_stays(
    environment: pytest.MonkeyPatch, store: Store
) -> None:
    environment.setenv("ARTIFACT_REMOVE_LEFTOVERS", "true")
    cache = await retain(Settings(), store)
    assert await names(cache, 1) == {"sorted.bam", MANIFEST}
    assert await names(cache, 2) == set()
    await cache.close()


async def test_a_bucket_is_left_alone_when_nothing_is_said(store: Store) -> None:
    cache = await retain(Settings(), store)
    assert await names(cache, 1) == {"sorted.bam", MANIFEST, result_name("job.1")}
    assert await names(cache, 2) == {"sorted.bam"}
    await cache.close()
