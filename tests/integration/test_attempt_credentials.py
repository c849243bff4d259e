"""What the credentials of an attempt are good for: its own artifact's new objects, and nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.bootstrap import ATTEMPT_ROLE
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.attempt import AttemptId, TemporaryCredentials
from gooseherd.domain.errors import CacheUnavailable, Misconfigured
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import CacheKey
from gooseherd.storage import credentials_file
from gooseherd.storage.s3 import S3Cache
from gooseherd.storage.s3_credentials import S3Credentials

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cloud_credentials")]
ATTEMPT = AttemptId(JobId("0123abcd"), 1)
MINE, OTHERS = "p1/ab/md5-ab/tabix-1-bed/", "p1/cd/md5-cd/tabix-1-bed/"
LARGE = random.Random(3).randbytes(9 << 20)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), images={}) as url:
        yield url


@pytest.fixture
def owner(url: str) -> Any:
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1")


@pytest.fixture
def bucket(owner: Any) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    owner.create_bucket(Bucket=name)
    owner.put_object(Bucket=name, Key=f"made/{OTHERS}data", Body=b"of another")
    return name


@pytest.fixture
def issuer(url: str, bucket: str) -> S3Credentials:
    return S3Credentials(ATTEMPT_ROLE, bucket, "made/", endpoint_url=url, region="us-east-1")


@pytest.fixture
async def issued(issuer: S3Credentials) -> TemporaryCredentials:
    return await issuer.issue(ATTEMPT, MINE)


@pytest.fixture
def file(issued: TemporaryCredentials, tmp_path: Path) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(issued.to_json()))
    return path


@pytest.fixture
def worker(url: str, issued: TemporaryCredentials) -> Any:
    """Whoever has taken the worker over, with its credentials in hand."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=issued.key_id,
        aws_secret_access_key=issued.secret,
        aws_session_token=issued.token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def refused(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


async def test_an_attempt_reads_and_adds_below_its_own_prefix(
    url: str, bucket: str, file: Path, owner: Any
) -> None:
    cache = S3Cache(bucket, prefix="made", endpoint_url=url, credentials=file)
    small, large = CacheKey(f"{MINE}small"), CacheKey(f"{MINE}large")
    assert await cache.head(small) is None
    assert [chunk async for chunk in cache.get(small)] == []
    assert await cache.put_if_absent(small, b"small")
    assert await cache.put_if_absent(large, LARGE)
    assert not await cache.put_if_absent(small, b"other")
    assert not await cache.put_if_absent(large, LARGE)
    assert b"".join([chunk async for chunk in cache.get(large)]) == LARGE
    with pytest.raises(Misconfigured):
        await cache.put_if_absent(CacheKey(f"{OTHERS}new"), b"x")
    with pytest.raises(Misconfigured):
        await cache.put_if_absent(CacheKey(f"{OTHERS}new"), LARGE)
    await cache.close()
    assert owner.get_object(Bucket=bucket, Key=f"made/{small}")["Body"].read() == b"small"
    assert "Uploads" not in owner.list_multipart_uploads(Bucket=bucket)


def test_a_worker_that_was_taken_over_can_neither_replace_nor_delete_nor_publish(
    bucket: str, worker: Any
) -> None:
    mine = {"Bucket": bucket, "Key": f"made/{MINE}data"}
    worker.put_object(**mine, Body=b"first", IfNoneMatch="*")
    codes = [
        refused(worker.put_object, **mine, Body=b"second"),
        refused(worker.delete_object, **mine),
        refused(worker.delete_objects, Bucket=bucket, Delete={"Objects": [{"Key": mine["Key"]}]}),
        refused(
            worker.put_object, Bucket=bucket, Key=f"made/{MINE}manifest.json", Body=b"{}", IfNoneMatch="*"
        ),
        refused(worker.put_object_acl, **mine, ACL="public-read"),
        refused(worker.put_bucket_lifecycle, Bucket=bucket, LifecycleConfiguration={"Rules": []}),
    ]
    assert set(codes) == {"AccessDenied"}
    assert worker.get_object(**mine)["Body"].read() == b"first"


def test_a_worker_that_was_taken_over_sees_nothing_of_other_artifacts(bucket: str, worker: Any) -> None:
    other = {"Bucket": bucket, "Key": f"made/{OTHERS}data"}
    codes = [
        refused(worker.get_object, **other),
        refused(worker.put_object, **other, Body=b"x", IfNoneMatch="*"),
        refused(worker.put_object, Bucket=bucket, Key=f"made/{OTHERS}new", Body=b"x", IfNoneMatch="*"),
        refused(worker.put_object, Bucket=bucket, Key="elsewhere", Body=b"x", IfNoneMatch="*"),
        refused(worker.create_multipart_upload, **other),
        refused(worker.list_objects_v2, Bucket=bucket),
        refused(worker.list_objects_v2, Bucket=bucket, Prefix=f"made/{MINE}"),
        refused(worker.list_multipart_uploads, Bucket=bucket),
        refused(worker.list_buckets),
    ]
    assert set(codes) == {"AccessDenied"}
    assert refused(worker.head_object, **other) == "403"


def test_a_worker_that_was_taken_over_starts_nothing(url: str, issued: TemporaryCredentials) -> None:
    for service, call in (("ecs", "list_clusters"), ("sts", "get_caller_identity")):
        client = boto3.client(
            service,
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=issued.key_id,
            aws_secret_access_key=issued.secret,
            aws_session_token=issued.token,
        )
        assert "Denied" in refused(getattr(client, call)) or "Invalid" in refused(getattr(client, call))


def hold(file: Path, credentials: dict[str, Any]) -> None:
    file.write_text(json.dumps(credentials))


async def test_renewed_credentials_are_used_and_expired_ones_are_waited_out(
    url: str, bucket: str, file: Path, issued: TemporaryCredentials, issuer: S3Credentials
) -> None:
    dead = {**issued.to_json(), "expires_at": time.time() - 60}
    hold(file, dead)
    opening = asyncio.create_task(
        asyncio.to_thread(S3Cache, bucket, prefix="made", endpoint_url=url, credentials=file)
    )
    await asyncio.sleep(0.2)
    assert not opening.done()
    hold(file, (await issuer.issue(ATTEMPT, MINE)).to_json())
    cache = await opening
    assert await cache.put_if_absent(CacheKey(f"{MINE}late"), b"x")
    # From now on with credentials that the cloud does not know.
    hold(file, {**issued.to_json(), "key_id": "ASIANOBODYNOBODY0000"})
    other = await asyncio.to_thread(S3Cache, bucket, prefix="made", endpoint_url=url, credentials=file)
    with pytest.raises((Misconfigured, CacheUnavailable)):
        await other.put_if_absent(CacheKey(f"{MINE}later"), b"x")
    await cache.close()
    await other.close()


def test_nobody_who_renews_them_ends_the_wait(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_file, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(credentials_file, "_POLL_SECONDS", 0.05)
    file.write_text(json.dumps({**json.loads(file.read_text()), "expires_at": 0}))
    with pytest.raises(CacheUnavailable, match="renewed"):
        credentials_file.session_of(file, "us-east-1")


@pytest.mark.parametrize(
    "role", ["", "gooseherd", "arn:aws:iam::1:role/x", "arn:aws:iam::123456789012:user/x"]
)
def test_a_role_that_is_none_is_refused_at_once(role: str) -> None:
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_ATTEMPT_ROLE"):
        S3Credentials(role, "bucket", "", endpoint_url=None, region="us-east-1")


def test_a_prefix_that_would_be_a_pattern_is_refused() -> None:
    with pytest.raises(Misconfigured, match="WORKFLOW_S3_PREFIX"):
        S3Credentials(ATTEMPT_ROLE, "bucket", "a*/", endpoint_url=None, region="us-east-1")


async def test_who_may_not_assume_the_role_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CLOUD_KEY.secret[::-1])
    issuer = S3Credentials(ATTEMPT_ROLE, "bucket", "", endpoint_url=url, region="us-east-1")
    with pytest.raises(Misconfigured, match="AWS credentials"):
        await issuer.issue(ATTEMPT, MINE)


def test_the_session_policy_fits_what_sts_takes(url: str) -> None:
    issuer = S3Credentials(ATTEMPT_ROLE, "b" * 63, "x" * 300 + "/", endpoint_url=url, region="us-east-1")
    assert len(json.dumps(issuer.policy("y" * 300 + "/"), separators=(",", ":"))) < 2048
