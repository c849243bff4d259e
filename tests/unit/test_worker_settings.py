"""What a worker reads from its environment, and what an attempt gets of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gooseherd.domain.errors import Misconfigured
from gooseherd.processing.tools.isolation import SandboxUse
from gooseherd.settings import Settings
from gooseherd.sources.rules import OutboundRules
from gooseherd.wiring.fleet import outbound_rules
from gooseherd.worker.options import check
from gooseherd.worker.settings import WorkerSettings, attempt_environment


def test_nothing_needs_to_be_set() -> None:
    settings = WorkerSettings.from_env({})
    assert settings.data_dir is None
    assert (settings.sort_memory, settings.samtools_memory, settings.threads) == (0, 0, 0)


def test_all_names_are_read() -> None:
    settings = WorkerSettings.from_env(
        {
            "SYNC_DATA_DIR": "/data",
            "WORKFLOW_S3_BUCKET": "artifacts",
            "WORKFLOW_S3_PREFIX": "made",
            "AWS_REGION": "eu-north-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
            "WORKER_IDLE_TIMEOUT_SECONDS": "0",
            "WORKER_MAX_LIFETIME_SECONDS": "1.5",
            "CFDB_SORT_MEMORY_CAP": "2G",
            "CFDB_SAMTOOLS_MEMORY_CAP": "1048576",
            "WORKER_THREADS": "4",
            "WORKER_MEMORY_BYTES": str(2 << 30),
            "WORKER_SANDBOX": "on",
            "WORKER_READABLE_PATHS": "/opt/tools:/opt/more",
            "SOURCE_FILE_ROOTS": "/a:/b",
            "SOURCE_ALLOW_HOSTS": "*.example.org, example.com",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.0/8",
            "SOURCE_ALLOW_HTTP": "true",
        }
    )
    assert settings == WorkerSettings(
        data_dir=Path("/data"),
        bucket="artifacts",
        bucket_prefix="made",
        region="eu-north-1",
        endpoint_url="http://127.0.0.1:4566",
        idle_timeout=0.0,
        max_lifetime=1.5,
        sort_memory=2 << 30,
        samtools_memory=1 << 20,
        threads=4,
        memory=2 << 30,
        sandbox=SandboxUse.ON,
        readable=(Path("/opt/tools"), Path("/opt/more")),
        outbound=OutboundRules(
            file_roots=(Path("/a"), Path("/b")),
            allow_hosts=("*.example.org", "example.com"),
            allow_networks=("127.0.0.0/8",),
            allow_http=True,
        ),
    )


@pytest.mark.parametrize(
    ("name", "values", "theirs", "ours"),
    [
        ("WORKER_MEMORY_BYTES", ("0", "1T", "2GiB", "512m", "64 M"), "worker_memory_bytes", "memory"),
        ("CFDB_SORT_MEMORY_CAP", ("0", "256M", "1048576", "1GB"), "cfdb_sort_memory_cap", "sort_memory"),
    ],
)
def test_a_size_means_the_same_to_a_worker_as_to_the_api(
    name: str, values: tuple[str, ...], theirs: str, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in values:
        monkeypatch.setenv(name, value)
        read = getattr(WorkerSettings.from_env({name: value}), ours)
        assert (value, read) == (value, getattr(Settings(), theirs))


def test_an_unset_variable_means_the_same_to_a_worker_as_to_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    # Where clients' files lie is told to local workers by name, and to no others.
    worker, api = WorkerSettings.from_env({}), Settings(api_uploads="off")
    assert worker.idle_timeout == api.worker_idle_timeout_seconds
    assert worker.max_lifetime == api.worker_max_lifetime_seconds
    assert worker.region == api.aws_region
    assert (worker.bucket, worker.bucket_prefix) == (api.workflow_s3_bucket, api.workflow_s3_prefix)
    assert (worker.memory, worker.threads) == (api.worker_memory_bytes, api.worker_threads)
    assert (worker.sort_memory, worker.samtools_memory) == (
        api.cfdb_sort_memory_cap,
        api.cfdb_samtools_memory_cap,
    )
    assert worker.sandbox == api.worker_sandbox
    assert worker.outbound == outbound_rules(api)


@pytest.mark.parametrize("word", ["1", "on", "TRUE", "y", "0", "off", "f", "No"])
def test_a_switch_means_the_same_to_a_worker_as_to_the_api(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_ALLOW_HTTP", word)
    read = WorkerSettings.from_env({"SOURCE_ALLOW_HTTP": word}).outbound.allow_http
    assert read == Settings().source_allow_http


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_IDLE_TIMEOUT_SECONDS", "soon"),
        ("WORKER_IDLE_TIMEOUT_SECONDS", "-1"),
        ("WORKER_IDLE_TIMEOUT_SECONDS", "nan"),
        ("CFDB_SORT_MEMORY_CAP", "lots"),
        ("CFDB_SORT_MEMORY_CAP", "1K"),
        ("WORKER_THREADS", "-1"),
        ("WORKER_THREADS", "65"),
        ("SOURCE_ALLOW_HTTP", "maybe"),
        ("SYNC_DATA_DIR", "relative/path"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        WorkerSettings.from_env({name: value})
    assert refused.value.setting == name


def test_an_attempt_gets_no_credentials() -> None:
    given = attempt_environment(
        {
            "PATH": "/bin",
            "SYNC_DATA_DIR": "/data",
            "SOURCE_ALLOW_HTTP": "1",
            "AWS_SECRET_ACCESS_KEY": "x",
            "DATABASE_URL": "mongodb://user:password@host",
            "API_ADMIN_KEY": "x",
            "WORKER_ENTRYPOINT": "{}",
        }
    )
    assert given == {"PATH": "/bin", "SYNC_DATA_DIR": "/data", "SOURCE_ALLOW_HTTP": "1"}


def test_an_attempt_that_writes_to_a_bucket_gets_that_buckets_credentials_and_nothing_else() -> None:
    s3 = {
        "WORKFLOW_S3_BUCKET": "artifacts",
        "AWS_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    other = {
        "DATABASE_URL": "mongodb://user:password@host",
        "WORKER_TLS_KEY": "-----BEGIN PRIVATE KEY-----",
        "AWS_PROFILE": "admin",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/admin",
        "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x",
        "API_ADMIN_KEY": "x",
    }
    assert attempt_environment(s3 | other) == s3


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("127.0.0.1", True), ("localhost", True), ("127.1.0.9", True), ("0.0.0.0", False), ("w", False)],
)
def test_without_certificates_only_loopback_is_bound(host: str, allowed: bool) -> None:
    if allowed:
        check(host, None)
    else:
        with pytest.raises(Misconfigured, match="WORKER_TLS_CA"):
            check(host, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_SANDBOX", "maybe"),
        ("WORKER_MEMORY_BYTES", "much"),
        ("WORKER_READABLE_PATHS", "tools"),
    ],
)
def test_what_holds_the_tools_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as error:
        WorkerSettings.from_env({name: value})
    assert error.value.setting == name


def test_an_attempt_learns_what_its_tools_may_use() -> None:
    own = {"WORKER_MEMORY_BYTES": "1", "WORKER_SANDBOX": "off", "WORKER_READABLE_PATHS": "/opt/tools"}
    assert attempt_environment(own | {"WORKER_TLS_KEY": "secret"}) == own
