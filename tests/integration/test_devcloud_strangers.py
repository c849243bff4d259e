"""The local cloud answers whoever has its key, and sessions made by it: nobody else of the machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.access_key import ID_VARIABLE, AccessKey
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.keys import CacheKey
from gooseherd.storage.s3 import S3Cache

pytestmark = pytest.mark.integration
TARGET = "AmazonEC2ContainerServiceV20141113."
ROLE = "arn:aws:iam::123456789012:role/gooseherd-attempt"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    with running_cloud(state, images={}) as url:
        made = client("s3", url)
        made.create_bucket(Bucket="made")
        made.put_object(Bucket="made", Key="private", Body=b"private")
        made.put_object(Bucket="made", Key="public", Body=b"public", ACL="public-read")
        yield url


def client(service: str, url: str, key: AccessKey = CLOUD_KEY, token: str | None = None) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key.key_id,
        aws_secret_access_key=key.secret,
        aws_session_token=token,
        config=Config(
            retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None
        ),
    )


def code(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/", {"X-Amz-Target": f"{TARGET}RunTask"}),
        ("POST", "/", {"X-Amz-Target": f"{TARGET}ListClusters"}),
        ("POST", "/", {}),
        ("GET", "/_devcloud/", {}),
        ("GET", "/_devcloud/tasks", {}),
        ("POST", "/_devcloud/faults", {}),
        ("POST", "/moto-api/reset", {}),
        ("GET", "/v4/guessed-0", {}),
        ("GET", "/v2/credentials/guessed", {}),
        ("GET", "/", {}),
        ("GET", "/made", {}),
        ("GET", "/made?list-type=2", {}),
        ("GET", "/made/private", {}),
        ("HEAD", "/made/private", {}),
        ("GET", "/made/none", {}),
        ("PUT", "/made/new", {}),
        ("PUT", "/made/public", {}),
        ("DELETE", "/made/public", {}),
        ("GET", "/made/public?acl", {}),
        ("POST", "/made/new?uploads", {}),
        ("PUT", "/stolen", {}),
    ],
)
def test_without_a_signature_nothing_is_answered(
    url: str, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = httpx.request(method, url + path, content=b"{}", headers=headers, trust_env=False)
    assert answer.status_code in {403, 404}, answer.text
    if answer.status_code == 404:
        assert path.startswith(("/v2/", "/v4/")), "an address with a secret in it"


def test_what_its_owner_made_public_is_read_by_anybody(url: str) -> None:
    assert httpx.get(f"{url}/made/public", trust_env=False).content == b"public"


def test_a_wrong_secret_or_another_key_is_refused_by_name(url: str) -> None:
    guessed = AccessKey(CLOUD_KEY.key_id, "guessed" * 5)
    assert code(client("s3", url, guessed).list_buckets) == "SignatureDoesNotMatch"
    assert code(client("ecs", url, guessed).list_clusters) == "SignatureDoesNotMatch"
    assert code(client("s3", url, AccessKey("devcloud", "devcloud")).list_buckets) == "InvalidAccessKeyId"
    assert client("s3", url).list_buckets()["Buckets"]


def signed(url: str, body: bytes, at: datetime | None = None) -> dict[str, str]:
    request = AWSRequest("POST", url, data=body, headers={"X-Amz-Target": f"{TARGET}ListClusters"})
    auth = SigV4Auth(Credentials(CLOUD_KEY.key_id, CLOUD_KEY.secret), "ecs", "us-east-1")
    if at is not None:
        request.context["timestamp"] = f"{at:%Y%m%dT%H%M%SZ}"
        auth._modify_request_before_signing(request)
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        auth._inject_signature_to_request(request, signature)
    else:
        auth.add_auth(request)
    return dict(request.headers.items())


def test_a_signature_is_good_for_its_request_and_for_minutes(url: str) -> None:
    headers = signed(url + "/", b"{}")
    post = httpx.Client(base_url=url, trust_env=False).post
    assert post("/", content=b"{}", headers=headers).status_code == 200
    assert post("/", content=b'{"maxResults": 1}', headers=headers).status_code == 403
    other = headers | {"X-Amz-Target": f"{TARGET}DeleteCluster"}
    assert post("/", content=b"{}", headers=other).status_code == 403
    old = signed(url + "/", b"{}", datetime.now(UTC) - timedelta(minutes=16))
    answer = post("/", content=b"{}", headers=old)
    assert (answer.status_code, answer.json()["__type"]) == (403, "RequestTimeTooSkewed")


def test_a_presigned_url_is_good_for_one_object_and_for_its_time(url: str) -> None:
    made = client("s3", url)

    def presigned(seconds: int) -> str:
        key = {"Bucket": "made", "Key": "private"}
        return str(made.generate_presigned_url("get_object", key, ExpiresIn=seconds))

    good, short = presigned(300), presigned(1)
    assert httpx.get(good, trust_env=False).content == b"private"
    other = good.replace("/made/private", "/made/public")
    assert httpx.get(other, trust_env=False).status_code == 403
    assert httpx.put(good, content=b"x", trust_env=False).status_code == 403
    time.sleep(2)
    assert httpx.get(short, trust_env=False).status_code == 403


def test_the_key_is_in_a_file_of_its_owner_and_in_no_command_line(state: Path, url: str) -> None:
    file = state / "credentials"
    assert file.stat().st_mode & 0o777 == 0o600
    assert AccessKey.read(state) == CLOUD_KEY
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert CLOUD_KEY.secret.encode() not in command


def test_another_start_keeps_the_key_that_its_users_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ID_VARIABLE)
    monkeypatch.delenv("DEVCLOUD_SECRET_ACCESS_KEY")
    with running_cloud(tmp_path, images={}):
        first = AccessKey.read(tmp_path)
    with running_cloud(tmp_path, images={}) as url:
        assert first is not None
        assert first != CLOUD_KEY
        assert client("s3", url, first).list_buckets()["Buckets"] == []


# -- sessions --------------------------------------------------------------------------------------


def session(url: str, *statements: dict[str, Any], service: str = "s3") -> Any:
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    made = client("sts", url).assume_role(RoleArn=ROLE, RoleSessionName="a1", Policy=policy)["Credentials"]
    key = AccessKey(made["AccessKeyId"], made["SecretAccessKey"])
    return client(service, url, key, made["SessionToken"])


ALLOW: dict[str, Any] = {
    "Effect": "Allow",
    "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
    "Resource": "arn:aws:s3:::made/a/*",
}
ONLY_NEW: dict[str, Any] = {
    "Effect": "Deny",
    "Action": "s3:PutObject",
    "Resource": "*",
    "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
}


def test_a_session_does_what_its_policy_allows_and_no_more(url: str) -> None:
    s3 = session(url, ALLOW)
    assert s3.put_object(Bucket="made", Key="a/1", Body=b"one")
    assert s3.get_object(Bucket="made", Key="a/1")["Body"].read() == b"one"
    upload = s3.create_multipart_upload(Bucket="made", Key="a/2")["UploadId"]
    s3.abort_multipart_upload(Bucket="made", Key="a/2", UploadId=upload)
    denied = [
        code(s3.put_object, Bucket="made", Key="b/1", Body=b"x"),
        code(s3.put_object, Bucket="made", Key="a", Body=b"x"),
        code(s3.put_object, Bucket="made", Key="a/3", Body=b"x", ACL="public-read"),
        code(s3.copy_object, Bucket="made", Key="a/4", CopySource="made/private"),
        code(s3.get_object, Bucket="made", Key="private"),
        code(s3.delete_object, Bucket="made", Key="a/1"),
        code(s3.delete_objects, Bucket="made", Delete={"Objects": [{"Key": "a/1"}]}),
        code(s3.list_objects_v2, Bucket="made"),
        code(s3.list_objects_v2, Bucket="made", Prefix="a/"),
        code(s3.get_object_acl, Bucket="made", Key="a/1"),
        code(s3.put_object_tagging, Bucket="made", Key="a/1", Tagging={"TagSet": []}),
        code(s3.list_buckets),
        code(s3.create_bucket, Bucket="more"),
        code(s3.put_bucket_policy, Bucket="made", Policy="{}"),
        code(s3.create_multipart_upload, Bucket="made", Key="b/2"),
        # Hidden as on AWS from whoever may not list.
        code(s3.get_object, Bucket="made", Key="a/none"),
    ]
    assert set(denied) == {"AccessDenied"}
    assert code(s3.head_object, Bucket="made", Key="a/none") == "403"


def test_a_session_may_be_held_to_new_objects(url: str) -> None:
    s3 = session(url, ALLOW, ONLY_NEW)
    assert s3.put_object(Bucket="made", Key="a/new", Body=b"one", IfNoneMatch="*")
    assert (
        code(s3.put_object, Bucket="made", Key="a/new", Body=b"two", IfNoneMatch="*") == "PreconditionFailed"
    )
    assert code(s3.put_object, Bucket="made", Key="a/new", Body=b"two") == "AccessDenied"
    upload = s3.create_multipart_upload(Bucket="made", Key="a/new")["UploadId"]
    part = s3.upload_part(Bucket="made", Key="a/new", UploadId=upload, PartNumber=1, Body=b"three")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    whole = {"Bucket": "made", "Key": "a/new", "UploadId": upload, "MultipartUpload": parts}
    assert code(s3.complete_multipart_upload, **whole) == "AccessDenied"
    assert code(s3.complete_multipart_upload, **whole, IfNoneMatch="*") == "PreconditionFailed"
    assert s3.get_object(Bucket="made", Key="a/new")["Body"].read() == b"one"


def test_a_session_starts_no_task_and_makes_no_session(url: str) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    assert code(session(url, everything, service="ecs").list_clusters) == "AccessDeniedException"
    assert code(session(url, everything, service="sts").assume_role, RoleArn=ROLE, RoleSessionName="a2") == (
        "AccessDenied"
    )


def test_a_policy_that_is_not_understood_is_refused(url: str) -> None:
    sts = client("sts", url)
    for statement in (
        ALLOW | {"NotResource": "*"},
        ALLOW | {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Effect": "Allow"},
    ):
        policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
        assert code(sts.assume_role, RoleArn=ROLE, RoleSessionName="a1", Policy=policy) == (
            "MalformedPolicyDocument"
        )


@pytest.mark.parametrize("path", ["/made/a/../private", "/made/a//x", "//made/private", "/made/./a/x"])
def test_a_path_that_could_be_read_as_another_is_refused_to_a_session(url: str, path: str) -> None:
    s3 = session(url, ALLOW)
    keys = s3._request_signer._credentials.get_frozen_credentials()
    request = AWSRequest("GET", url + path, headers={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})

    class AsItIs(SigV4Auth):  # type: ignore[misc]
        def _normalize_url_path(self, path: str) -> str:
            return path

    AsItIs(keys, "s3", "us-east-1").add_auth(request)
    # Not httpx, which would send the path that it takes this to mean.
    connection = HTTPConnection(url.removeprefix("http://"))
    connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": url.removeprefix("http://"), **dict(request.headers.items())}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 403
    connection.close()


async def test_keys_of_all_kinds_are_signed_alike_by_both_libraries(
    url: str, cloud_credentials: None
) -> None:
    cache = S3Cache("made", prefix="a b", endpoint_url=url)
    key = CacheKey("p1/x y+z*~é.bed")
    assert await cache.put_if_absent(key, b"small")
    assert await cache.head(key) is not None
    assert [found.key async for found in cache.list("p1/x y+")] == [key]
    presigned = await cache.signed_url(key, 60)
    await cache.close()
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(presigned)).content == b"small"
    body = client("s3", url).get_object(Bucket="made", Key=f"a b/{key}")["Body"].read()
    assert body == b"small"
