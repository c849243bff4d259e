"""The S3 cache while S3 misbehaves: it tries again, goes on where it broke, and leaves no half object."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.control.retention import Retention
from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.devcloud.faults import Fault, Kind
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, Misconfigured
from gooseherd.domain.failures import Reason, retryable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.retention import RetentionPolicy
from gooseherd.storage.s3 import S3Cache
from gooseherd.store.sql.access import SqlAccessTimes
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.sqlite import open_sqlite
from gooseherd.telemetry import REGISTRY
from gooseherd.wiring.measuring import measured_cache
from gooseherd.worker.failure_reason import failure_of

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cloud_credentials")]

MIB = 1 << 20
KEY = CacheKey("p1/ab/data.bam")
LARGE = random.Random(5).randbytes(11 * MIB + 5)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cloud(tmp_path_factory.mktemp("s3"), images={}) as url:
        yield url


@pytest.fixture
def cloud_admin(url: str) -> Iterator[LocalCloudAdmin]:
    with LocalCloudAdmin(url, CLOUD_KEY) as cloud_admin:
        yield cloud_admin
        cloud_admin.clear()


@pytest.fixture
def s3(url: str) -> Iterator[Any]:
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"bucket-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def cache(url: str, bucket: str) -> AsyncIterator[S3Cache]:
    cache = S3Cache(bucket, prefix="a/b", endpoint_url=url, part_bytes=5 * MIB)
    yield cache
    await cache.close()


async def read(cache: S3Cache, span: ByteRange | None = None) -> bytes:
    return b"".join([chunk async for chunk in cache.get(KEY, span)])


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 700_000):
        yield data[start : start + 700_000]


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.THROTTLE, Kind.RESET])
async def test_requests_that_fail_are_made_again(
    cache: S3Cache, cloud_admin: LocalCloudAdmin, kind: Kind
) -> None:
    for operation in ("PutObject", "GetObject", "HeadObject", "ListObjectsV2"):
        cloud_admin.spoil_storage(kind, operation, times=2)
    assert await cache.put_if_absent(KEY, b"0123456789")
    assert await read(cache, ByteRange(3, 6)) == b"345"
    found = await cache.head(KEY)
    assert found is not None
    assert [item.key async for item in cache.list()] == [KEY]
    assert cloud_admin.faults() == []


@pytest.mark.parametrize("span", [None, ByteRange(1234, 9 * MIB)])
async def test_a_read_that_breaks_off_goes_on_where_it_broke(
    cache: S3Cache, cloud_admin: LocalCloudAdmin, span: ByteRange | None
) -> None:
    await cache.put_if_absent(KEY, LARGE)
    cloud_admin.spoil_storage(Kind.RESET, "GetObject", times=3, after_bytes=2 * MIB + 1)
    wanted = LARGE if span is None else LARGE[span.start : span.stop]
    assert await read(cache, span) == wanted
    assert cloud_admin.faults() == []


async def test_a_read_that_always_breaks_ends_with_a_name(
    cache: S3Cache, cloud_admin: LocalCloudAdmin
) -> None:
    await cache.put_if_absent(KEY, b"x" * MIB)
    cloud_admin.spoil_storage(Kind.RESET, "GetObject", after_bytes=0)
    with pytest.raises(CacheUnavailable):
        await read(cache)


async def test_a_put_whose_answer_was_lost_is_known_as_ours(
    cache: S3Cache, cloud_admin: LocalCloudAdmin
) -> None:
    cloud_admin.spoil_storage(Kind.RESET, "PutObject", times=1, after_bytes=0)
    assert await cache.put_if_absent(KEY, b"mine")
    assert not await cache.put_if_absent(KEY, b"other")
    assert await read(cache) == b"mine"


async def test_an_upload_whose_last_answer_was_lost_is_known_as_ours(
    cache: S3Cache, cloud_admin: LocalCloudAdmin
) -> None:
    cloud_admin.spoil_storage(Kind.RESET, "CompleteMultipartUpload", times=1, after_bytes=0)
    assert await cache.put_if_absent(KEY, in_pieces(LARGE))
    assert not await cache.put_if_absent(KEY, in_pieces(LARGE))
    assert await read(cache) == LARGE


@pytest.mark.parametrize("body", ["bytes", "stream", "file"])
async def test_a_large_object_goes_up_in_parts_that_are_tried_again(
    cache: S3Cache, cloud_admin: LocalCloudAdmin, s3: Any, bucket: str, body: str, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    bodies: dict[str, Any] = {"bytes": LARGE, "stream": in_pieces(LARGE), "file": tmp_path / "large"}
    cloud_admin.spoil_storage(Kind.ERROR, "UploadPart", "CreateMultipartUpload", times=3)
    assert await cache.put_if_absent(KEY, bodies[body])
    assert await read(cache) == LARGE
    assert s3.head_object(Bucket=bucket, Key=f"a/b/{KEY}")["ETag"].endswith('-3"')


async def test_an_upload_that_fails_leaves_nothing(
    cache: S3Cache, cloud_admin: LocalCloudAdmin, s3: Any, bucket: str
) -> None:
    cloud_admin.inject(
        Fault(kind=Kind.ERROR, service="s3", operations=("UploadPart",), code="AccessDenied", status=403)
    )
    with pytest.raises(Misconfigured):
        await cache.put_if_absent(KEY, in_pieces(LARGE))
    assert await cache.head(KEY) is None
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "in parts"])
async def test_a_right_that_was_taken_away_counts_as_an_error_and_attempts_are_tried_again(
    cache: S3Cache, cloud_admin: LocalCloudAdmin, body: bytes
) -> None:
    operations = ("PutObject", "UploadPart")
    cloud_admin.inject(
        Fault(kind=Kind.ERROR, service="s3", operations=operations, code="AccessDenied", status=403)
    )
    labels = {"storage": "s3", "operation": "put_if_absent"}
    before = REGISTRY.get_sample_value("gooseherd_storage_errors_total", labels) or 0
    with pytest.raises(StorageRefused) as refused:
        await measured_cache(cache).put_if_absent(KEY, body)
    assert REGISTRY.get_sample_value("gooseherd_storage_errors_total", labels) == before + 1
    reason = failure_of(refused.value).reason
    assert (reason, retryable(reason)) == (Reason.STORE_UNAVAILABLE, True)


async def test_an_upload_whose_body_breaks_leaves_nothing(cache: S3Cache, s3: Any, bucket: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in in_pieces(LARGE):
            yield piece
        raise RuntimeError("tool died")

    with pytest.raises(RuntimeError, match="tool died"):
        await cache.put_if_absent(KEY, broken())
    assert await cache.head(KEY) is None
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


async def test_of_two_uploads_the_first_to_complete_wins(cache: S3Cache, s3: Any, bucket: str) -> None:
    async def slow() -> AsyncIterator[bytes]:
        async for piece in in_pieces(LARGE):
            yield piece
        assert await cache.put_if_absent(KEY, b"first")

    assert not await cache.put_if_absent(KEY, slow())
    assert await read(cache) == b"first"
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


async def test_uploads_of_writers_that_died_are_swept_when_they_are_old_and_are_ours(
    cache: S3Cache, s3: Any, bucket: str
) -> None:
    for key in (f"a/b/{KEY}", "another/program"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    # The local cloud says of each upload that it was begun in 2010.
    assert await cache.sweep(100 * 365 * 86400) == 0
    assert await cache.sweep(3600) == 1
    left = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["another/program"]


class Later(SqlJobs):
    """The store in two months."""

    async def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=60)


async def test_retention_removes_from_a_bucket_what_nobody_read_and_nothing_while_s3_is_away(
    cache: S3Cache, cloud_admin: LocalCloudAdmin, s3: Any, bucket: str, tmp_path: Path
) -> None:
    for shard in ("00", "ab", "ff"):
        for name in ("sorted.bam", "manifest.json"):
            await cache.put_if_absent(CacheKey(f"p1/{shard}/md5-{shard}/bam-1-bam/{name}"), b"bytes")
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    retention = Retention(
        jobs=Later(database),
        files=SqlFiles(database),
        batches=SqlBatches(database),
        access=SqlAccessTimes(database),
        cache=cache,
        recipes={"bam-1-bam"},
        policy=RetentionPolicy(idle=timedelta(days=30)),
        keep_ended=None,
        tick_seconds=60,
    )
    cloud_admin.inject(
        Fault(kind=Kind.ERROR, service="s3", operations=("ListObjectsV2",), code="AccessDenied", status=403)
    )
    assert not (await retention.run_rounds()).seen
    cloud_admin.clear()
    dry = await retention.run_rounds(dry_run=True)
    assert len([found async for found in cache.list()]) == 6
    report = await retention.run_rounds()
    assert report.planned == dry.planned
    assert (report.errors, report.lost_races) == (0, 0)
    assert [found async for found in cache.list()] == []
    assert s3.list_objects_v2(Bucket=bucket).get("Contents", []) == []
    await database.close()


async def test_storage_that_does_not_answer_is_unavailable(bucket: str) -> None:
    cache = S3Cache(bucket, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(CacheUnavailable):
        await cache.head(KEY)
    with pytest.raises(CacheUnavailable):
        await read(cache)
    await cache.close()


async def test_a_bucket_that_is_not_there_is_named(url: str) -> None:
    cache = S3Cache("no-such-bucket", endpoint_url=url)
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_BUCKET"):
        await cache.check()
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_BUCKET"):
        await cache.put_if_absent(KEY, b"x")
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_BUCKET"):
        await cache.put_if_absent(KEY, b"x" * 9 * MIB)
    await cache.close()


def test_what_cannot_work_is_named_at_once(url: str) -> None:
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_BUCKET"):
        S3Cache(" ")
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_PREFIX"):
        S3Cache("bucket", prefix="a/../b", endpoint_url=url)


def test_without_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="credentials"):
        S3Cache("bucket")
