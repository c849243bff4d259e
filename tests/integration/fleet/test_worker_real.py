"""A worker with its real tools: from a source to a published artifact, and what a death in between costs."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.attempt import AttemptId, EventKind
from gooseherd.domain.errors import WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.keys import cache_key, result_name
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.processes import ProcessId
from gooseherd.processing.registry import default_registry
from gooseherd.storage.local import LocalFsCache

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bed() -> bytes:
    lines = [f"chr{1 + n % 3}\t{n * 10}\t{n * 10 + 5}\tpeak{n}\n" for n in range(20_000)]
    random.Random(1).shuffle(lines)
    return "".join(lines).encode()


def source(bed: bytes, url: str) -> SourceFile:
    return SourceFile(
        Dcc("lab"),
        LocalId("peaks"),
        "peaks.bed",
        BED,
        url,
        md5=hashlib.md5(bed).hexdigest(),
        size_in_bytes=len(bed),
    )


def order(yard, file: SourceFile, number: int = 1):
    recipe = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=1).recipe(file)
    spec = yard.spec("quick")
    limits = replace(spec.limits, source_bytes=1 << 30, scratch_bytes=1 << 30)
    return replace(
        spec, source=file, recipe=recipe, limits=limits, attempt=AttemptId(spec.attempt.job_id, number)
    )


async def manifest(yard, spec) -> Manifest:
    cache = LocalFsCache(yard.root / "cache")
    key = cache_key(spec.source.identity, spec.recipe, result_name(str(spec.attempt)))
    raw = b"".join([chunk async for chunk in cache.get(key)])
    await cache.close()
    return Manifest.from_bytes(raw)


async def test_a_file_becomes_a_sorted_indexed_artifact(yard, bed, tmp_path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "peaks.bed").write_bytes(bed)
    fleet = yard.fleet(PYTHONPATH="", SOURCE_FILE_ROOTS=str(inbox))
    spec = order(yard, source(bed, (inbox / "peaks.bed").as_uri()))
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        events = [event async for event in link.watch_attempt(spec.attempt, 1)]
    assert events[-1].kind is EventKind.DONE, events[-1]
    published = await manifest(yard, spec)
    assert published.digest == events[-1].manifest_digest
    data = published.part(Kind.DATA)
    assert data is not None
    stored = (yard.root / "cache" / data.key).read_bytes()
    assert hashlib.sha256(stored).hexdigest() == data.sha256
    rows = [line.split(b"\t") for line in gzip.decompress(stored).splitlines()]
    assert rows == sorted(rows, key=lambda row: (row[0], int(row[1])))
    assert len(rows) == 20_000
    assert published.part(Kind.INDEX) is not None


@pytest.fixture
async def slow_server(bed: bytes) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """Sends half of the file, then waits to be let go: (url, half is out, go on)."""
    half_out, go_on = asyncio.Event(), asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(bed))})
        await response.prepare(request)
        await response.write(bed[: len(bed) // 2])
        half_out.set()
        await go_on.wait()
        await response.write(bed[len(bed) // 2 :])
        return response

    app = web.Application()
    app.router.add_get("/peaks.bed", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/peaks.bed", half_out, go_on
    go_on.set()
    await runner.cleanup()


@pytest.mark.fault
async def test_a_worker_killed_in_mid_download_costs_one_attempt_and_leaves_nothing(
    yard, bed, slow_server, until
) -> None:
    url, half_out, go_on = slow_server
    fleet = yard.fleet(PYTHONPATH="", SOURCE_ALLOW_HTTP="1", SOURCE_ALLOW_NETWORKS="127.0.0.0/8")
    first = order(yard, source(bed, url))
    worker = await fleet.acquire(yard.need(first))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(first)
        watching = asyncio.create_task(_events(link.watch_attempt(first.attempt, 1)))
        await half_out.wait()
        os.kill(yard.entry(worker).process.pid, signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await watching
    await fleet.gone(worker.worker_id)
    assert not yard.folder(worker, first).exists()
    go_on.set()
    second = replace(first, attempt=AttemptId(first.attempt.job_id, 2))
    worker = await fleet.acquire(yard.need(second))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(second)
        events = await _events(link.watch_attempt(second.attempt, 1))
    assert events[-1].kind is EventKind.DONE, events[-1]
    assert (await manifest(yard, second)).counts


async def test_cancelling_in_mid_download_is_quick_and_named(yard, bed, slow_server) -> None:
    url, half_out, _ = slow_server
    fleet = yard.fleet(PYTHONPATH="", SOURCE_ALLOW_HTTP="1", SOURCE_ALLOW_NETWORKS="127.0.0.0/8")
    spec = order(yard, source(bed, url))
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        watching = asyncio.create_task(_events(link.watch_attempt(spec.attempt, 1)))
        await half_out.wait()
        attempt = ProcessId.from_json(json.loads((yard.folder(worker, spec) / "process.json").read_bytes()))
        await link.cancel_attempt(spec.attempt)
        assert (await watching)[-1].reason is Reason.CANCELLED
        assert not attempt.alive


async def test_a_source_the_guard_refuses_ends_the_attempt(yard, bed, slow_server) -> None:
    url, _, _ = slow_server
    fleet = yard.fleet(PYTHONPATH="")
    spec = order(yard, source(bed, url))
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
        last = (await _events(link.watch_attempt(spec.attempt, 1)))[-1]
    assert last.reason in (Reason.MISCONFIGURED, Reason.SOURCE_FORBIDDEN)


async def _events(stream):
    return [event async for event in stream]
