"""What the policies of the template allow is what the code calls on ECS and S3, seen by the local cloud."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.template_checks import check_templates

from gooseherd.devcloud.bootstrap import ATTEMPT_ROLE
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import CacheKey
from gooseherd.storage.s3 import S3Cache
from gooseherd.storage.s3_credentials import S3Credentials

pytestmark = pytest.mark.integration

FILE = Path(__file__).parents[3] / "deploy" / "cloudformation" / "gooseherd.yaml"
WANTED = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
}
"""The action that each operation of S3 takes (service authorization reference)."""
READS = {"s3:GetObject", "s3:ListBucket"}


def allowed(name: str) -> set[str]:
    policies = dict(check_templates.policies(check_templates.template(FILE)))
    lists = [statement["Action"] for statement in policies[name]["Statement"]]
    return {action for one in lists for action in ([one] if isinstance(one, str) else one)}


def called(site: Any, service: str) -> set[str]:
    operations = site.cloud_admin.calls()["operations"]
    return {name.partition(":")[2] for name in operations if name.startswith(f"{service}:")}


async def test_of_ecs_the_api_may_do_what_a_fleet_calls(site: Any) -> None:
    site.cloud_admin.forget_calls()
    fleet = site.fleet()
    worker = await fleet.acquire(site.need("j1"))
    await fleet.survey([worker.worker_id])
    await fleet.stop(worker.worker_id, "the test is over")
    await fleet.gone(worker.worker_id)
    await fleet.close()
    wanted = {f"ecs:{operation}" for operation in called(site, "ecs")}
    # Tags are given at the launch, and roles handed over.
    others = {"ecs:TagResource", "iam:PassRole", "sts:AssumeRole", "s3:PutObject"}
    assert allowed("ApiPolicy") - READS == wanted | others


async def test_of_s3_an_attempt_may_do_what_its_cache_calls(site: Any, tmp_path: Path) -> None:
    bucket, key = f"b-{uuid.uuid4().hex[:8]}", CacheKey("a/b")
    boto3.client("s3", endpoint_url=site.url, region_name="us-east-1").create_bucket(Bucket=bucket)
    issuer = S3Credentials(ATTEMPT_ROLE, bucket, "", endpoint_url=site.url, region="us-east-1")
    issued = await issuer.issue(AttemptId(JobId("j"), 1), "a/")
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(issued.to_json()))
    site.cloud_admin.forget_calls()
    cache = S3Cache(bucket, endpoint_url=site.url, credentials=file)
    large = b"x" * (9 << 20)
    assert await cache.put_if_absent(key, b"small")
    assert await cache.put_if_absent(CacheKey("a/large"), large)

    async def breaks() -> Any:
        yield large
        raise ConnectionError("upstream went away")

    with pytest.raises(ConnectionError):
        await cache.put_if_absent(CacheKey("a/broken"), breaks())
    assert await cache.head(key)
    assert b"".join([chunk async for chunk in cache.get(key)]) == b"small"
    await cache.close()
    operations = called(site, "s3")
    assert {"AbortMultipartUpload", "CompleteMultipartUpload", "PutObject"} <= operations
    assert {WANTED[operation] for operation in operations} == allowed("AttemptPolicy")
