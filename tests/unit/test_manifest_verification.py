"""What a worker says it made becomes the artifact only when it is seen to be so."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gooseherd.control import manifest_verification
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.limits import Timing
from gooseherd.control.manifest_verification import Digests, publish_verified, verify_published
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, LeaseLost, Misconfigured
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.job import Job, JobId
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, WorkflowKey, cache_key, result_name
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.storage.memory import MemoryCache

SOURCE = SourceFile(Dcc("lab"), LocalId("x"), "x.bed", BED, "https://files.example.org/x.bed", md5="ab" * 16)
RECIPE = Recipe("tabix", "1", BED)
ATTEMPT = AttemptId(JobId("job"), 1)
DATA, INDEX = b"data" * 100, b"index"


def key(name: str) -> CacheKey:
    return cache_key(SOURCE.identity, RECIPE, name)


def part(kind: Kind, name: str, data: bytes) -> Part:
    return Part(kind, key(name), len(data), hashlib.sha256(data).hexdigest(), f"x.{name}")


MADE = Manifest(
    source=str(SOURCE.identity),
    source_format=BED.name,
    processor="tabix",
    processor_version="1",
    parts=(part(Kind.DATA, "data", DATA), part(Kind.INDEX, "index", INDEX)),
    notes=("a note",),
)


@pytest.fixture
async def cache() -> MemoryCache:
    cache = MemoryCache()
    await cache.put_if_absent(key("data"), DATA)
    await cache.put_if_absent(key("index"), INDEX)
    return cache


async def written(cache: MemoryCache, manifest: Manifest | bytes, attempt: AttemptId = ATTEMPT) -> None:
    data = manifest if isinstance(manifest, bytes) else manifest.to_bytes()
    await cache.put_if_absent(key(result_name(str(attempt))), data)


async def published(cache: MemoryCache) -> bytes:
    return b"".join([chunk async for chunk in cache.get(key(MANIFEST))])


async def test_what_is_there_as_it_is_said_is_published(cache: MemoryCache) -> None:
    assert (await verify_published(cache, SOURCE, RECIPE)).manifest is None
    await written(cache, MADE)
    assert (await publish_verified(cache, SOURCE, RECIPE, ATTEMPT)).manifest == MADE
    assert await published(cache) == MADE.to_bytes()
    assert (await verify_published(cache, SOURCE, RECIPE)).manifest == MADE
    assert (await publish_verified(cache, SOURCE, RECIPE, ATTEMPT)).manifest == MADE


async def test_of_two_attempts_the_first_is_published_and_both_learn_which(cache: MemoryCache) -> None:
    second = AttemptId(JobId("job"), 2)
    await written(cache, MADE)
    await written(cache, replace(MADE, notes=("another",)), second)
    both = await asyncio.gather(
        publish_verified(cache, SOURCE, RECIPE, ATTEMPT), publish_verified(cache, SOURCE, RECIPE, second)
    )
    assert both[0].manifest == both[1].manifest == Manifest.from_bytes(await published(cache))


def lie(**fields: Any) -> Manifest:
    return replace(MADE, **fields)


def lie_of_data(**fields: Any) -> Manifest:
    return replace(MADE, parts=(replace(MADE.parts[0], **fields), MADE.parts[1]))


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        (lie_of_data(sha256="0" * 64), "another digest"),
        (lie_of_data(sha256="A" * 64), "no digest"),
        (lie_of_data(sha256=7), "other types"),
        (lie_of_data(size=3), "missing or cut short"),
        (lie_of_data(size="400"), "missing or cut short"),
        (lie_of_data(key=CacheKey("p1/cd/md5-cd/tabix-1-bed/data")), "lies elsewhere"),
        (lie_of_data(key=CacheKey("data")), "lies elsewhere"),
        (lie_of_data(key=key("")), "lies elsewhere"),
        (lie_of_data(key=CacheKey(key("") + "../other/data")), "lies elsewhere"),
        (lie_of_data(key=key(MANIFEST)), "lies elsewhere"),
        (lie_of_data(key=key("none")), "missing"),
        (lie_of_data(filename='x"; filename=y'), "no usable name"),
        (lie_of_data(filename="../x"), "no usable name"),
        (lie_of_data(filename="x\r\nSet-Cookie: y"), "no usable name"),
        (lie_of_data(media_type="text/html\r\nX: y"), "no media type"),
        (lie(source="md5-" + "cd" * 16), "another source"),
        (lie(source_format="bam"), "another source"),
        (lie(processor_version="2"), "another processor"),
        (lie(parts=()), "no parts"),
        (lie(parts=(MADE.parts[0], MADE.parts[0])), "two of a kind"),
        (lie(notes=(7,)), "other types"),
        (lie(counts={"records": "many"}), "other types"),
        (b"{", "unreadable"),
        (b"[]", "unreadable"),
        (json.dumps({"parts": 7}).encode(), "unreadable"),
    ],
)
async def test_what_is_not_as_it_is_said_is_not_published(
    cache: MemoryCache, claim: Manifest | bytes, problem: str
) -> None:
    await written(cache, claim)
    verification = await publish_verified(cache, SOURCE, RECIPE, ATTEMPT)
    assert verification.manifest is None
    assert verification.failure.reason is Reason.TOOL_FAILED
    assert problem in verification.failure.detail
    assert await published(cache) == b""
    # And the next attempt is not in its way.
    second = AttemptId(JobId("job"), 2)
    await written(cache, MADE, second)
    assert (await publish_verified(cache, SOURCE, RECIPE, second)).manifest == MADE


async def test_parts_up_to_a_size_are_read_and_larger_ones_are_measured(
    cache: MemoryCache,
) -> None:
    await written(cache, lie_of_data(sha256="0" * 64))
    lied = await publish_verified(cache, SOURCE, RECIPE, ATTEMPT, Digests(len(DATA)))
    assert (lied.manifest, "another digest" in lied.failure.detail) == (None, True)
    believed = await publish_verified(cache, SOURCE, RECIPE, ATTEMPT, Digests(len(DATA) - 1))
    assert believed.manifest is not None


@pytest.mark.parametrize(("sha256", "published"), [(None, True), ("0" * 64, False)])
async def test_of_a_worker_that_is_confined_parts_of_any_size_are_read(
    cache: MemoryCache, monkeypatch: pytest.MonkeyPatch, sha256: str | None, *, published: bool
) -> None:
    monkeypatch.setattr(manifest_verification, "DIGESTED_BYTES", 10)
    monkeypatch.setattr(manifest_verification, "_INLINE_BYTES", 100)
    await written(cache, lie_of_data(sha256=sha256) if sha256 else MADE)
    verification = await publish_verified(cache, SOURCE, RECIPE, ATTEMPT, Digests(None))
    assert (verification.manifest is not None) == published


async def test_a_manifest_that_is_too_large_is_not_kept_in_memory(
    cache: MemoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_verification, "MOST_BYTES", 100)
    await written(cache, MADE)
    assert "unreadable" in (await publish_verified(cache, SOURCE, RECIPE, ATTEMPT)).failure.detail


@pytest.mark.parametrize("refusal", [Misconfigured, StorageRefused])
@pytest.mark.parametrize("what", ["write", "read"])
async def test_an_api_that_may_not_write_manifests_or_read_says_so_and_waits_for_a_right(
    refusal: type[Misconfigured], what: str
) -> None:
    class ReadOnly(MemoryCache):
        async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
            if what == "write" and key.endswith(MANIFEST):
                raise refusal("WORKFLOW_S3_BUCKET", "S3 refuses put_if_absent to these credentials")
            return await super().put_if_absent(key, body)

        async def head(self, key: CacheKey) -> Any:
            if what == "read":
                raise refusal("WORKFLOW_S3_BUCKET", "S3 refuses head to these credentials")
            return await super().head(key)

    cache = ReadOnly()
    await cache.put_if_absent(key("data"), DATA)
    await cache.put_if_absent(key("index"), INDEX)
    await written(cache, MADE)
    if refusal is StorageRefused:
        with pytest.raises(StorageRefused, match="S3 refuses"):
            await publish_verified(cache, SOURCE, RECIPE, ATTEMPT)
        return
    failure = (await publish_verified(cache, SOURCE, RECIPE, ATTEMPT)).failure
    assert (failure.reason, "S3 refuses" in failure.detail) == (Reason.MISCONFIGURED, True)


class Reading(MemoryCache):
    """Of the data part the second chunk never comes, unless that is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = 0
        self.begun = asyncio.Event()
        self.allowed = asyncio.Event()
        self.index_broken = False

    async def _read(self, key: CacheKey, span: ByteRange | None) -> AsyncIterator[bytes]:
        if key.endswith("/index") and self.index_broken:
            await self.begun.wait()
            raise CacheUnavailable("get")
        if not key.endswith("/data"):
            async for chunk in super()._read(key, span):
                yield chunk
            return
        self.under_way += 1
        try:
            yield DATA[:200]
            self.begun.set()
            await self.allowed.wait()
            yield DATA[200:]
        finally:
            self.under_way -= 1


@pytest.fixture
async def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setattr(manifest_verification, "DIGESTED_BYTES", 10)
    cache = Reading()
    await cache.put_if_absent(key("data"), DATA)
    await cache.put_if_absent(key("index"), INDEX)
    await written(cache, MADE)
    return cache


async def test_when_a_part_cannot_be_read_the_others_are_read_no_further(reading: Reading) -> None:
    reading.index_broken = True
    digests = Digests(None)
    for _ in range(4):  # More often than parts are read at once.
        reading.begun.clear()
        async with asyncio.timeout(10):
            with pytest.raises(CacheUnavailable):
                await publish_verified(reading, SOURCE, RECIPE, ATTEMPT, digests)
        assert reading.under_way == 0
    reading.index_broken = False
    reading.allowed.set()
    async with asyncio.timeout(10):
        assert (await publish_verified(reading, SOURCE, RECIPE, ATTEMPT, digests)).manifest == MADE


async def test_when_a_part_is_wrong_the_others_are_read_no_further(reading: Reading) -> None:
    second = AttemptId(JobId("job"), 2)
    await written(reading, lie(parts=(MADE.parts[0], replace(MADE.parts[1], sha256="0" * 64))), second)
    async with asyncio.timeout(10):
        wrong = await publish_verified(reading, SOURCE, RECIPE, second, Digests(None))
    assert (wrong.manifest, "index part has another digest" in wrong.failure.detail) == (None, True)
    assert reading.under_way == 0


async def test_a_lost_lease_ends_the_reading_of_parts(reading: Reading) -> None:
    now, hour = datetime(2026, 5, 4, tzinfo=UTC), timedelta(hours=1)
    job = Job(
        *(ATTEMPT.job_id, WorkflowKey("x"), SOURCE, RECIPE, Status.FINALIZING, Priority.INTERACTIVE, ()),
        *(now, now, now),
    )
    no_store = cast(JobStore, None)  # Nothing renews the lease here.
    lease_holder = LeaseHolder(no_store, job, Timing(hour, hour, hour, hour))
    digests = Digests(None)
    verifying = asyncio.create_task(
        lease_holder.unless_lost(publish_verified(reading, SOURCE, RECIPE, ATTEMPT, digests))
    )
    async with asyncio.timeout(10):
        await reading.begun.wait()
        lease_holder.lost.set()
        with pytest.raises(LeaseLost):
            await verifying
    assert (reading.under_way, await published(reading)) == (0, b"")


async def test_huge_parts_leave_a_place_for_others(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_verification, "_HUGE_BYTES", len(DATA))
    digests = Digests(None)
    huge = [asyncio.create_task(digests.differs(reading, MADE.parts[0])) for _ in range(5)]
    await reading.put_if_absent(key("small"), DATA[1:])
    async with asyncio.timeout(10):
        await reading.begun.wait()
        assert not await digests.differs(reading, part(Kind.INDEX, "small", DATA[1:]))
        assert 0 < reading.under_way < 3
        reading.allowed.set()
        assert not any(await asyncio.gather(*huge))
