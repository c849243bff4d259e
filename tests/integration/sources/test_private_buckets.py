"""Private buckets: keys of their own in another S3, and objects that a DRS server names."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gooseherd.domain.attempt import SourceAccess
from gooseherd.domain.errors import AccessDenied, Misconfigured, UpstreamUnavailable
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.sources.http import HttpSources
from gooseherd.sources.private import ConfiguredAccess, GivenAccess
from gooseherd.sources.private_rules import parse_buckets
from gooseherd.wiring.private_sources import AttemptAccess

SIZE = 5000
LIMIT = 1 << 20
OBJECTS = "/ga4gh/drs/v1/objects/"
KEY = "ARCHIVEKEY:archive-secret"


def access_to(endpoint: str, *buckets: str) -> ConfiguredAccess:
    return ConfiguredAccess(buckets=parse_buckets(buckets), endpoint=endpoint, region="us-east-1")


def key_ids(asked: list[Any]) -> set[str]:
    """Whose signatures an S3 saw; '': a request without one."""
    queries = [parse_qs(urlsplit(path).query) for _, path, _ in asked]
    return {query.get("X-Amz-Credential", [""])[0].partition("/")[0] for query in queries}


def describe(server: Any, kit: Any, name: str, s3_url: str, **more: Any) -> str:
    """The server has the object `name` in a bucket; its drs URL."""
    method = {"type": "s3", "access_url": {"url": s3_url}, "region": "us-east-1"}
    body = json.dumps({"id": name, "access_methods": [method], **more}).encode()
    server.routes[OBJECTS + name] = lambda _: kit.Reply(200, body=body)
    return f"drs://{server.authority}/{name}"


async def through_json(access: Any, source: Any) -> SourceAccess | None:
    """What a worker gets of it."""
    given = await access.for_attempt(source)
    return None if given is None else SourceAccess.from_json(json.loads(json.dumps(given.to_json())))


async def test_a_bucket_in_another_s3_is_read_there_with_its_own_key_and_the_rest_where_it_was(
    make_sources: Callable[..., HttpSources],
    cloud: tuple[str, list[Any]],
    other_cloud: tuple[str, list[Any]],
    entry: Any,
    into: Path,
    quiet: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (endpoint, asked), (other, asked_there) = cloud, other_cloud
    monkeypatch.setenv("ARCHIVE_KEY", KEY)
    access = access_to(endpoint, "raw=own", f"archive=env:ARCHIVE_KEY+endpoint={other}+region=eu-west-1")
    # As in production: neither plain http nor private addresses are allowed to sources.
    rules: dict[str, Any] = {"schemes": ("https",), "networks": (), "s3_endpoint": endpoint}
    sources = make_sources(**rules, access=access)
    for url in ("s3://raw/a.bam", "s3://archive/folder/b.bam"):
        sources.judge(url)
        source = entry(url)
        assert (await sources.details(url)).size_in_bytes == SIZE
        async with sources.open(url, {}) as upstream:
            assert upstream.status == 200
        given = await through_json(AttemptAccess(access, sources), source)
        assert given is not None
        worker = make_sources(**rules, access=GivenAccess(given))
        assert (await worker.fetch(source, into, limit=LIMIT, report=quiet)).size == SIZE
    assert key_ids(asked) == {"AKIAOWN"}
    assert key_ids(asked_there) == {"ARCHIVEKEY"}
    assert {urlsplit(path).path for _, path, _ in asked_there} == {"/archive/folder/b.bam"}
    assert all(
        "/eu-west-1/s3/" in parse_qs(urlsplit(path).query)["X-Amz-Credential"][0]
        for _, path, _ in asked_there
    )
    assert sources.is_private("s3://archive/folder/b.bam")


async def test_the_key_is_read_anew_and_stands_in_no_text(
    make_sources: Callable[..., HttpSources],
    other_cloud: tuple[str, list[Any]],
    entry: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    other, asked = other_cloud
    file = tmp_path / "key"
    access = access_to("http://127.0.0.1:9", f"archive=file:{file}+endpoint={other}")
    with pytest.raises(Misconfigured, match="the bucket archive cannot be read"):
        access.check()
    for bad in ("no-pair", "id:", ":secret-value", "id:secret value", ""):
        file.write_text(bad)
        with pytest.raises(Misconfigured, match="archive") as refused:
            access.check()
        assert "secret" not in str(refused.value)
    sources = make_sources(access=access)
    for pair in ("ONE:first-secret", "TWO:second-secret"):
        file.write_text(f"{pair}\n")
        access.check()
        await sources.details("s3://archive/a.bam")
    assert key_ids(asked) == {"ONE", "TWO"}
    given = await access.for_attempt(entry("s3://archive/a.bam"))
    assert "-secret" not in json.dumps(given.to_json() if given else None)
    assert "-secret" not in caplog.text
    assert "Signature" not in repr(given)


async def test_an_object_that_a_named_drs_server_has_in_a_private_bucket_is_read_with_a_signature(
    make_sources: Callable[..., HttpSources],
    start_server: Any,
    cloud: tuple[str, list[Any]],
    entry: Any,
    into: Path,
    quiet: Any,
    kit: Any,
) -> None:
    endpoint, asked = cloud
    drs = await start_server(tls=True)
    access = access_to(endpoint, f"private=own+drs={drs.authority}")
    url = describe(drs, kit, "x", "s3://private/folder/x.bam")
    source = entry(url)
    rules: dict[str, Any] = {"schemes": ("https",), "s3_endpoint": endpoint}
    sources = make_sources(**rules, access=access)
    assert (await sources.details(url)).size_in_bytes == SIZE
    async with sources.open(url, {}) as upstream:
        assert upstream.status == 200
    given = await through_json(AttemptAccess(access, sources), source)
    assert given is not None
    assert set(given.signed) == {"s3://private/folder/x.bam"}
    worker = make_sources(**rules, access=GivenAccess(given))
    assert (await worker.fetch(source, into, limit=LIMIT, report=quiet)).size == SIZE
    assert key_ids(asked) == {"AKIAOWN"}
    assert {urlsplit(path).path for _, path, _ in asked} == {"/private/folder/x.bam"}
    assert sources.is_private(url)


async def test_a_drs_server_that_is_not_named_opens_nothing_by_naming_a_private_bucket(
    make_sources: Callable[..., HttpSources],
    start_server: Any,
    cloud: tuple[str, list[Any]],
    entry: Any,
    into: Path,
    quiet: Any,
    kit: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint, asked = cloud
    named, other = await start_server(tls=True), await start_server(tls=True)
    access = access_to(endpoint, f"private=own+drs={named.authority}", "second=own")
    sources = make_sources(schemes=("https", "http"), s3_endpoint=endpoint, access=access)
    elsewhere = describe(other, kit, "x", "s3://private/x.bam")
    another_bucket = describe(named, kit, "y", "s3://second/y.bam")
    for url in (elsewhere, another_bucket):
        with pytest.raises(AccessDenied):
            async with sources.open(url, {}):
                pass
        with pytest.raises(AccessDenied):
            await sources.details(url)
        assert await AttemptAccess(access, sources).for_attempt(entry(url)) is None
        worker = make_sources(schemes=("https", "http"), s3_endpoint=endpoint)
        with pytest.raises(StepFailed) as refused:
            await worker.fetch(entry(url), into, limit=LIMIT, report=quiet)
        assert refused.value.failure.reason is Reason.SOURCE_FORBIDDEN
    assert key_ids(asked) == {""}
    assert "opens no private bucket" in caplog.text
    assert not sources.is_private(elsewhere)


async def test_headers_of_a_drs_server_do_not_go_to_a_bucket(
    make_sources: Callable[..., HttpSources], start_server: Any, cloud: tuple[str, list[Any]], kit: Any
) -> None:
    endpoint, asked = cloud
    drs = await start_server(tls=True)
    access = access_to(endpoint, f"private=own+drs={drs.authority}")
    method = {
        "type": "s3",
        "access_url": {"url": "s3://private/x.bam", "headers": ["Authorization: Basic abc"]},
    }
    body = json.dumps({"id": "x", "access_methods": [method]}).encode()
    drs.routes[f"{OBJECTS}x"] = lambda _: kit.Reply(200, body=body)
    sources = make_sources(schemes=("https",), s3_endpoint=endpoint, access=access)
    async with sources.open(f"drs://{drs.authority}/x", {}) as upstream:
        assert upstream.status == 200
    assert not any("Authorization" in headers for _, _, headers in asked)


async def test_while_a_named_drs_server_is_away_no_order_goes_out_without_its_signature(
    make_sources: Callable[..., HttpSources], start_server: Any, entry: Any, kit: Any
) -> None:
    drs = await start_server(tls=True)
    access = access_to("http://127.0.0.1:9", f"private=own+drs={drs.authority}")
    drs.routes[f"{OBJECTS}x"] = lambda _: kit.Reply(503)
    sources = make_sources(schemes=("https",), access=access)
    with pytest.raises(UpstreamUnavailable):
        await AttemptAccess(access, sources).for_attempt(entry(f"drs://{drs.authority}/x"))
    drs.routes[f"{OBJECTS}x"] = lambda _: kit.Reply(404)
    assert await AttemptAccess(access, sources).for_attempt(entry(f"drs://{drs.authority}/x")) is None


def test_what_a_bucket_may_say_of_itself() -> None:
    role = "arn:aws:iam::123456789012:role/a+b"
    first, second, third = parse_buckets(
        [
            f"one={role}+region=eu-central-1+requester-pays",
            "two=env:SECRET.two+endpoint=https://s3.example.org:9000/+drs=drs.example.org+drs=10.0.0.1:8443",
            "three=file:/run/secrets/key+endpoint=http://minio:9000",
        ]
    )
    assert (first.role, first.region, first.requester_pays) == (role, "eu-central-1", True)
    assert (second.endpoint, second.requester_pays) == ("https://s3.example.org:9000", False)
    assert second.drs_servers == {"https://drs.example.org:443", "https://10.0.0.1:8443"}
    assert second.secret is not None
    assert (second.secret.variable, second.secret.key) == ("SECRET", "two")
    assert third.secret is not None
    assert third.secret.file == Path("/run/secrets/key")
    for word in (
        "b=own+endpoint=s3.example.org", "b=own+endpoint=ftp://x", "b=own+region=EU!", "b=own+drs=https://x/",
        "b=own+drs=x.example:99999", "b=own+endpoint=http://s3.example:abc",
        "b=own+unknown=1", "b=env:", "b=file:key", "b=AKIA:clear-text", "=env:A",
    ):  # fmt: skip
        with pytest.raises(Misconfigured, match="SOURCE_S3_BUCKETS") as refused:
            parse_buckets([word])
        assert "clear-text" not in str(refused.value)
    with pytest.raises(Misconfigured, match="twice"):
        parse_buckets(["b=own", f"b={role}"])
