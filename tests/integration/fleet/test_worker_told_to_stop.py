"""SIGTERM to a worker whose attempt reads a source that still arrives and publishes what it makes of it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.devcloud.faults import Kind as Trouble
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.keys import cache_key, result_name
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.storage.s3 import S3Cache

if TYPE_CHECKING:
    from tests.integration.conftest import Bucket

pytestmark = [pytest.mark.integration, pytest.mark.fault, pytest.mark.slow]

MIB = 1 << 20


@functools.cache
def intervals() -> bytes:
    """A sorted BED of about 30 MB that hardly compresses: made while it arrives, and more than one part."""
    chance = random.Random(4)
    starts = sorted(chance.randint(0, 190_000_000) for _ in range(300_000))
    return b"".join(b"chr1\t%d\t%d\t%s\n" % (s, s + 100, chance.randbytes(40).hex().encode()) for s in starts)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), images={}) as url:
        yield url


@pytest.fixture
def bucket(cloud: str, new_bucket: Callable[[str], Bucket], cloud_credentials: None) -> Bucket:
    return new_bucket(cloud)


class Upstream:
    """Gives all but the end of the file, which it keeps until it is told to go on."""

    def __init__(self) -> None:
        self.url = ""
        self.go_on = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        data = intervals()
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[:-MIB])
        await self.go_on.wait()
        await response.write(data[-MIB:])
        return response


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    app = web.Application()
    app.router.add_get("/peaks.bed", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/peaks.bed"
    yield made
    made.go_on.set()
    await runner.cleanup()


def order(yard: Any, url: str) -> AttemptSpec:
    md5, size = hashlib.md5(intervals()).hexdigest(), len(intervals())
    file = SourceFile(Dcc("lab"), LocalId("peaks"), "peaks.bed", BED, url, md5=md5, size_in_bytes=size)
    recipe = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=1).recipe(file)
    spec: AttemptSpec = yard.spec("quick")
    limits = replace(spec.limits, source_bytes=1 << 30, scratch_bytes=1 << 30, wall_seconds=600.0)
    return replace(spec, source=file, recipe=recipe, limits=limits)


def fleet(yard: Any, cloud: str, bucket: Bucket) -> Any:
    return yard.fleet(
        PYTHONPATH="",
        SOURCE_ALLOW_HTTP="1",
        SOURCE_ALLOW_NETWORKS="127.0.0.0/8",
        WORKFLOW_S3_BUCKET=bucket.name,
        AWS_ENDPOINT_URL=cloud,
        AWS_ACCESS_KEY_ID=CLOUD_KEY.key_id,
        AWS_SECRET_ACCESS_KEY=CLOUD_KEY.secret,
    )


async def events(link: Any, spec: AttemptSpec) -> list[Event]:
    return [event async for event in link.watch_attempt(spec.attempt, 1)]


async def test_it_ends_as_drained_with_nothing_left_and_the_next_attempt_does_the_work(
    yard: Any, cloud: str, bucket: Bucket, upstream: Upstream, until: Any
) -> None:
    workers, first = fleet(yard, cloud, bucket), order(yard, upstream.url)
    worker = await workers.acquire(yard.need(first))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(first)
        watching = asyncio.create_task(events(link, first))
        await until(bucket.parts, "a part of the artifact is in the bucket")
        os.kill(yard.entry(worker).process.pid, signal.SIGTERM)
        last = (await watching)[-1]
    assert (last.kind, last.reason) == (EventKind.FAILED, Reason.WORKER_DRAINED)
    assert (bucket.uploads(), bucket.objects()) == ([], [])
    await workers.gone(worker.worker_id)
    assert not yard.folder(worker, first).exists()

    upstream.go_on.set()
    second = replace(first, attempt=AttemptId(first.attempt.job_id, 2))
    worker = await workers.acquire(yard.need(second))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(second)
        last = (await events(link, second))[-1]
    assert last.kind is EventKind.DONE, last
    cache = S3Cache(bucket.name, endpoint_url=cloud)
    key = cache_key(second.source.identity, second.recipe, result_name(str(second.attempt)))
    raw = b"".join([c async for c in cache.get(key)])
    data = Manifest.from_bytes(raw).part(Kind.DATA)
    assert data is not None
    stored = b"".join([chunk async for chunk in cache.get(data.key)])
    await cache.close()
    assert (len(stored), hashlib.sha256(stored).hexdigest()) == (data.size, data.sha256)
    assert bucket.uploads() == []


@pytest.mark.parametrize("how", ["drained", "cancelled"])
async def test_storage_that_hangs_does_not_take_its_reason_away(
    yard: Any, cloud: str, bucket: Bucket, upstream: Upstream, until: Any, how: str
) -> None:
    with LocalCloudAdmin(cloud, CLOUD_KEY) as cloud_admin:
        cloud_admin.spoil_storage(Trouble.LATENCY, "UploadPart", seconds=120.0)
        try:
            workers, spec = fleet(yard, cloud, bucket), order(yard, upstream.url)
            worker = await workers.acquire(yard.need(spec))
            async with yard.workers.connect(worker) as link:
                await link.start_attempt(spec)
                watching = asyncio.create_task(events(link, spec))
                await until(bucket.uploads, "an upload has begun")
                if how == "drained":
                    os.kill(yard.entry(worker).process.pid, signal.SIGTERM)
                else:
                    await link.cancel_attempt(spec.attempt)
                last = (await watching)[-1]
        finally:
            cloud_admin.clear()
    wanted = Reason.WORKER_DRAINED if how == "drained" else Reason.CANCELLED
    assert (last.kind, last.reason) == (EventKind.FAILED, wanted)
    assert bucket.objects() == []
    if how == "drained":  # What it had is swept by the worker, the last thing it does.
        await workers.gone(worker.worker_id)
    assert not yard.folder(worker, spec).exists()
