"""A worker that publishes to a bucket: only there, only below its artifact, with credentials for it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.attempt import EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.keys import CacheKey, artifact_prefix, cache_key, result_name
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.storage.s3 import S3Cache

pytestmark = pytest.mark.integration

BEDS = b"chr2\t5\t6\tb\nchr1\t3\t4\ta\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), images={}) as url:
        yield url


@pytest.fixture
def bucket(url: str, cloud_credentials: None) -> str:
    name = f"bucket-{uuid.uuid4()}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()
    return name


@pytest.fixture
async def cache(url: str, bucket: str) -> AsyncIterator[S3Cache]:
    cache = S3Cache(bucket, prefix="made/here", endpoint_url=url)
    yield cache
    await cache.close()


def order(yard, tmp_path: Path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "peaks.bed").write_bytes(BEDS)
    md5 = hashlib.md5(BEDS).hexdigest()
    url = (inbox / "peaks.bed").as_uri()
    file = SourceFile(Dcc("lab"), LocalId("peaks"), "peaks.bed", BED, url, md5=md5, size_in_bytes=len(BEDS))
    recipe = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=1).recipe(file)
    spec = yard.spec("quick")
    limits = replace(spec.limits, source_bytes=1 << 30, scratch_bytes=1 << 30)
    return replace(spec, source=file, recipe=recipe, limits=limits), str(inbox)


async def run(yard, spec, **environment: str):
    fleet = yard.fleet(PYTHONPATH="", WORKFLOW_S3_PREFIX="made/here", **environment)
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        return [event async for event in link.watch_attempt(spec.attempt, 1)]


async def test_an_artifact_goes_to_the_bucket_below_its_prefix(yard, url, bucket, cache, tmp_path) -> None:
    spec, inbox = order(yard, tmp_path)
    events = await run(
        yard,
        spec,
        SOURCE_FILE_ROOTS=inbox,
        WORKFLOW_S3_BUCKET=bucket,
        AWS_ENDPOINT_URL=url,
        AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID=CLOUD_KEY.key_id,
        AWS_SECRET_ACCESS_KEY=CLOUD_KEY.secret,
    )
    assert events[-1].kind is EventKind.DONE, events[-1]
    key = cache_key(spec.source.identity, spec.recipe, result_name(str(spec.attempt)))
    published = Manifest.from_bytes(await whole(cache, key))
    data = published.part(Kind.DATA)
    assert data is not None
    assert hashlib.sha256(await whole(cache, data.key)).hexdigest() == data.sha256
    prefix = artifact_prefix(spec.source.identity, spec.recipe)
    assert all([found.key.startswith(prefix) async for found in cache.list()])
    assert not (yard.root / "cache").exists()


async def test_a_bucket_that_is_not_there_ends_the_attempt_by_name(yard, url, bucket, tmp_path) -> None:
    spec, inbox = order(yard, tmp_path)
    events = await run(
        yard,
        spec,
        SOURCE_FILE_ROOTS=inbox,
        WORKFLOW_S3_BUCKET="no-such-bucket",
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID=CLOUD_KEY.key_id,
        AWS_SECRET_ACCESS_KEY=CLOUD_KEY.secret,
    )
    assert events[-1].reason is Reason.MISCONFIGURED
    assert "WORKFLOW_S3_BUCKET" in events[-1].detail


async def whole(cache: S3Cache, key: CacheKey) -> bytes:
    return b"".join([chunk async for chunk in cache.get(key)])
