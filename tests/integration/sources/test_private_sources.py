"""Private sources: a header for its host and no other, signed URLs of buckets, and nothing elsewhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, SourceAccess
from gooseherd.domain.errors import AccessDenied, Misconfigured
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BAM
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import Recipe
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import Sidecar, SidecarKind
from gooseherd.sources.http import HttpSources
from gooseherd.sources.private import ConfiguredAccess, GivenAccess
from gooseherd.sources.private_rules import parse_buckets, parse_headers
from gooseherd.wiring.private_sources import AttemptAccess
from gooseherd.worker.settings import attempt_environment

DATA = b"x" * 5000
SECRET = "Bearer s3cr3t-value"
LIMIT = 1 << 20
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_SECRET", SECRET)


def access_to(server: Any, name: str = "Authorization") -> ConfiguredAccess:
    return ConfiguredAccess(parse_headers([f"{server.url('')}={name}:env:PORTAL_SECRET"]))


def sent(server: Any) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


def behind_the_header(kit: Any) -> Callable[[Any], Any]:
    """What a host answers that gives its data to whoever shows the header."""
    return lambda request: kit.Reply(200, body=DATA) if "authorization" in request.headers else kit.Reply(403)


async def test_the_header_goes_to_its_host_with_every_kind_of_request(
    make_sources: Callable[..., HttpSources], start_server: Any, entry: Any, into: Path, quiet: Any
) -> None:
    server = await start_server(tls=True)
    url = server.serve("/a.bam", DATA)
    sources = make_sources(schemes=("https",), access=access_to(server))
    assert (await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)).size == len(DATA)
    async with sources.open(url, {"Range": "bytes=0-9"}) as upstream:
        assert upstream.status == 206
    await sources.details(url)
    assert set(sent(server)) == {SECRET}
    assert {request.method for request in server.requests} == {"GET", "HEAD"}
    assert sources.is_private(url)
    assert not sources.is_private("https://example.org/a.bam")


@pytest.mark.parametrize("how", ["port", "host", "scheme"])
async def test_it_follows_no_redirect_to_another_port_host_or_scheme(
    make_sources: Callable[..., HttpSources],
    start_server: Any,
    entry: Any,
    into: Path,
    quiet: Any,
    kit: Any,
    how: str,
) -> None:
    private = await start_server(tls=True)
    other = private if how == "host" else await start_server(tls=how == "port")
    there = other.serve("/b.bam", DATA)
    if how == "host":
        there = f"https://localhost:{private.port}/b.bam"
    private.routes["/a.bam"] = lambda _: kit.Reply(302, {"Location": "/same"})
    private.routes["/same"] = lambda _: kit.Reply(302, {"Location": there})
    sources = make_sources(schemes=("https", "http"), access=access_to(private))
    await sources.fetch(entry(private.url("/a.bam")), into, limit=LIMIT, report=quiet)
    by_path = {request.path: request.headers.get("authorization") for request in other.requests}
    assert by_path["/b.bam"] is None
    here = {request.path: request.headers.get("authorization") for request in private.requests}
    assert (here["/a.bam"], here["/same"]) == (SECRET, SECRET)


async def test_who_is_led_to_a_private_host_from_elsewhere_gets_nothing_by_the_header(
    make_sources: Callable[..., HttpSources], start_server: Any, entry: Any, into: Path, quiet: Any, kit: Any
) -> None:
    private, public = await start_server(tls=True), await start_server(tls=True)
    private.routes["/a.bam"] = behind_the_header(kit)
    public.routes["/p.bam"] = lambda _: kit.Reply(302, {"Location": private.url("/a.bam")})
    sources = make_sources(schemes=("https",), access=access_to(private))
    with pytest.raises(StepFailed) as refused:
        await sources.fetch(entry(public.url("/p.bam")), into, limit=LIMIT, report=quiet)
    assert refused.value.failure.reason is Reason.SOURCE_FORBIDDEN
    assert sent(private) == [None]
    # Nor does it come back to a chain that has left.
    private.routes["/start"] = lambda _: kit.Reply(302, {"Location": public.url("/p.bam")})
    with pytest.raises(StepFailed):
        await sources.fetch(entry(private.url("/start")), into, limit=LIMIT, report=quiet)
    assert sent(private) == [None, SECRET, None]


@pytest.mark.parametrize("how", ["access_url", "access_id"])
async def test_who_is_sent_to_a_private_host_by_a_drs_server_elsewhere_gets_nothing_by_the_header(
    make_sources: Callable[..., HttpSources],
    start_server: Any,
    entry: Any,
    into: Path,
    quiet: Any,
    kit: Any,
    how: str,
) -> None:
    private, public = await start_server(tls=True), await start_server(tls=True)
    private.routes["/a.bam"] = behind_the_header(kit)
    named = {"url": private.url("/a.bam")}
    method = {"type": "https", **({"access_url": named} if how == "access_url" else {"access_id": "1"})}
    for server in (private, public):
        objects, body = "/ga4gh/drs/v1/objects/x", json.dumps({"id": "x", "access_methods": [method]})
        server.routes[objects] = lambda _, body=body: kit.Reply(200, body=body.encode())
        server.routes[f"{objects}/access/1"] = lambda _: kit.Reply(200, body=json.dumps(named).encode())
    sources = make_sources(schemes=("https",), access=access_to(private))
    elsewhere = f"drs://127.0.0.1:{public.port}/x"
    with pytest.raises(AccessDenied):
        async with sources.open(elsewhere, {}):
            pass
    with pytest.raises(AccessDenied):
        await sources.details(elsewhere)
    with pytest.raises(StepFailed):
        await sources.fetch(entry(elsewhere), into, limit=LIMIT, report=quiet)
    assert set(sent(private)) == {None}
    assert set(sent(public)) == {None}
    # A private host's own DRS server is opened, and so is what it says of itself.
    own = f"drs://127.0.0.1:{private.port}/x"
    assert (await sources.fetch(entry(own), into, limit=LIMIT, report=quiet)).size == len(DATA)


async def test_a_worker_gets_the_header_that_the_drs_server_of_an_index_wants(
    make_sources: Callable[..., HttpSources], start_server: Any, entry: Any
) -> None:
    private, public = await start_server(tls=True), await start_server(tls=True)
    index = Sidecar(SidecarKind.BAI, f"drs://127.0.0.1:{private.port}/x")
    source = replace(entry(public.serve("/a.bam", DATA)), sidecars=(index,))
    access = access_to(private)
    given = await AttemptAccess(access, make_sources(schemes=("https",), access=access)).for_attempt(source)
    assert given is not None
    assert [origin.rpartition(":")[2] for origin in given.headers] == [str(private.port)]


async def test_a_worker_has_only_what_its_own_source_needs_and_keeps_it_out_of_every_text(
    make_sources: Callable[..., HttpSources],
    start_server: Any,
    entry: Any,
    into: Path,
    quiet: Any,
    kit: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server, other = await start_server(tls=True), await start_server(tls=True)
    source = entry(server.serve("/a.bam", DATA))
    rules = [f"{one.url('')}=Authorization:env:PORTAL_SECRET" for one in (server, other)]
    configured = ConfiguredAccess(parse_headers(rules))
    given = await configured.for_attempt(source)
    assert given is not None
    assert [origin.rpartition(":")[2] for origin in given.headers] == [str(server.port)]
    spec = AttemptSpec(
        AttemptId(JobId("j"), 1), source, Recipe("bam", "1", BAM), AttemptLimits(1, 1, 1.0), "b",
        source_access=given,
    )  # fmt: skip
    assert AttemptSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert SECRET not in repr(spec)
    sources = make_sources(schemes=("https",), access=GivenAccess(given))
    await sources.fetch(source, into, limit=LIMIT, report=quiet)
    server.routes["/a.bam"] = lambda _: kit.Reply(500)
    with pytest.raises(StepFailed) as failed:
        await sources.fetch(source, into, limit=LIMIT, report=quiet)
    assert SECRET not in failed.value.failure.detail
    assert "s3cr3t" not in caplog.text
    assert await configured.for_attempt(entry("https://example.org/x.bam")) is None
    assert "PORTAL_SECRET" not in attempt_environment({"PORTAL_SECRET": SECRET, "PATH": "/bin"})


def test_a_secret_may_be_in_a_file_and_is_read_anew_and_one_that_is_missing_is_told_at_start(
    tmp_path: Path,
) -> None:
    file = tmp_path / "secret"
    (rule,) = parse_headers([f"https://h.example.org=X-Key:file:{file}"])
    with pytest.raises(Misconfigured, match="cannot be read"):
        ConfiguredAccess([rule]).check()
    for value in ("one", "two"):
        file.write_text(f"{value}\n")
        assert rule.value() == value
    for bad in ("", "a\nb", "x" * 20_000):
        file.write_text(bad)
        with pytest.raises(Misconfigured) as error:
            rule.value()
        assert "a\nb" not in str(error.value)
    for word in (
        "http://h.example.org=X:env:A", "https://h.example.org/path=X:env:A", "https://u:p@h.example.org=X:env:A",
        "https://h.example.org=X:clear:text", "https://h.example.org=X Y:env:A", "h.example.org",
        "https://h.example.org=X:file:relative",
    ):  # fmt: skip
        with pytest.raises(Misconfigured, match="SOURCE_HEADERS"):
            parse_headers([word])
    for word in ("bucket", "bucket=arn:aws:s3:::x", "=own"):
        with pytest.raises(Misconfigured, match="SOURCE_S3_BUCKETS"):
            parse_buckets([word])


def test_a_variable_may_hold_the_secrets_of_several_hosts_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, other, text = parse_headers(
        [
            "https://one.example.org=X-Key:env:SOURCE_SECRET.one",
            "https://two.example.org=X-Key:env:SOURCE_SECRET.two",
            "https://three.example.org=X-Key:env:SOURCE_SECRET",
        ]
    )
    monkeypatch.setenv("SOURCE_SECRET", '{"one": "first", "two": 2}')
    assert rule.value() == "first"
    for bad in ('{"two": 2}', "{}", "[]", "first", ""):
        monkeypatch.setenv("SOURCE_SECRET", bad)
        for one in (rule, other):
            with pytest.raises(Misconfigured, match=r"(one|two)\.example\.org"):
                one.value()
    monkeypatch.setenv("SOURCE_SECRET", "first")
    assert text.value() == "first"


@pytest.mark.parametrize("how", ["own", "own+requester-pays", ROLE, f"{ROLE}+requester-pays"])
async def test_a_private_bucket_is_read_by_signed_urls_and_a_worker_gets_one_of_its_object(
    make_sources: Callable[..., HttpSources],
    cloud: tuple[str, list[Any]],
    entry: Any,
    into: Path,
    quiet: Any,
    how: str,
) -> None:
    endpoint, asked = cloud
    access = ConfiguredAccess(
        buckets=parse_buckets([f"private={how}"]),
        endpoint=endpoint,
        region="us-east-1",
        sts_endpoint=endpoint,
    )
    source = entry("s3://private/folder/a b.bam")
    sources = make_sources(s3_endpoint=endpoint, access=access)
    assert (await sources.details(source.access_url)).size_in_bytes == len(DATA)
    given = await access.for_attempt(source)
    assert given is not None
    assert set(given.signed) == {source.access_url}
    worker = make_sources(s3_endpoint=endpoint, access=GivenAccess(given))
    assert (await worker.fetch(source, into, limit=LIMIT, report=quiet)).size == len(DATA)
    reads = [(method, urlsplit(path)) for method, path, _ in asked if method != "POST"]
    assert {method for method, _ in reads} == {"HEAD", "GET"}
    for _, url in reads:
        query = parse_qs(url.query)
        assert url.path == "/private/folder/a%20b.bam"
        assert ("x-amz-request-payer" in query) == how.endswith("+requester-pays")
        key_id = query["X-Amz-Credential"][0].partition("/")[0]
        assert key_id == ("AKIAOWN" if how.startswith("own") else "ASIAROLE")
        assert ("X-Amz-Security-Token" in query) == how.startswith("arn")
    assert not any("Authorization" in headers for method, _, headers in asked if method != "POST")
    assert access.is_private(source.access_url) == (how != "own+requester-pays")
    # Another bucket is read as everybody reads it.
    with pytest.raises(StepFailed) as refused:
        await sources.fetch(entry("s3://public/a.bam"), into, limit=LIMIT, report=quiet)
    assert refused.value.failure.reason is Reason.SOURCE_FORBIDDEN
    assert "Signature" not in refused.value.failure.detail


async def test_a_signed_url_that_has_run_out_is_a_failure_that_names_no_signature(
    make_sources: Callable[..., HttpSources], cloud: tuple[str, list[Any]], entry: Any, into: Path, quiet: Any
) -> None:
    endpoint, _ = cloud
    source = entry("s3://private/a.bam")
    old = SourceAccess({}, {source.access_url: f"{endpoint}/private/a.bam?X-Amz-Sig=old"})
    worker = make_sources(s3_endpoint=endpoint, access=GivenAccess(old))
    with pytest.raises(StepFailed) as failed:
        await worker.fetch(source, into, limit=LIMIT, report=quiet)
    assert "old" not in failed.value.failure.detail
    assert "s3://private/a.bam" in failed.value.failure.detail
