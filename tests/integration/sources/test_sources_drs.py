"""DRS servers: where they say the bytes are, and what we make of it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.errors import InvalidInput, NotFound, OutboundRefused
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.sources.http import HttpSources

DATA = random.Random(1).randbytes(200_000)
MD5 = hashlib.md5(DATA).hexdigest()
OBJECTS = "/ga4gh/drs/v1/objects/"


@pytest.fixture
async def drs(start_server: Callable[..., Any]) -> Any:
    """A DRS server with one blob, `x`, by https."""
    server = await start_server(tls=True)
    server.serve("/blob", DATA)
    describe(server, "x", [{"type": "https", "access_url": {"url": server.url("/blob")}}])
    return server


@pytest.fixture
def sources(make_sources: Callable[..., HttpSources]) -> HttpSources:
    return make_sources(schemes=("https", "http"))


def replying(document: Any) -> Callable[[Any], Any]:
    return lambda _: Json(document)


class Json:
    """Looks like the server's Reply."""

    def __init__(self, document: Any, status: int = 200, **headers: str) -> None:
        self.status, self.headers, self.body = status, headers, json.dumps(document).encode()
        self.length, self.drop_after, self.stall_after, self.drip_seconds, self.times = (
            -1,
            None,
            None,
            None,
            1,
        )


def describe(server: Any, name: str, methods: list[Any], **expected: Any) -> None:
    server.routes[OBJECTS + name] = replying(
        {"id": name, "size": len(DATA), "access_methods": methods, **expected}
    )


async def read(sources: HttpSources, url: str) -> bytes:
    async with sources.open(url, {}) as upstream:
        return b"".join([chunk async for chunk in upstream.body])


def quiet(size: int, total: int | None) -> None:
    """Nobody watches."""


async def reason(sources: HttpSources, source: Any, into: Path) -> tuple[Reason, str]:
    with pytest.raises(StepFailed) as error:
        await sources.fetch(source, into, limit=1 << 30, report=quiet)
    return error.value.failure.reason, error.value.failure.detail


async def test_an_object_is_fetched_by_its_https_method(
    sources: HttpSources, drs: Any, entry: Any, into: Path
) -> None:
    checksums = [{"type": "md5", "checksum": MD5.upper()}, {"type": "sha-256", "checksum": "0" * 64}]
    describe(drs, "x", [{"type": "https", "access_url": {"url": drs.url("/blob")}}], checksums=checksums)
    uri = f"drs://{drs.authority}/x"
    got = await sources.fetch(entry(uri, md5=MD5, size_in_bytes=len(DATA)), into, limit=1 << 30, report=quiet)
    assert got.md5 == MD5
    assert await read(sources, uri) == DATA


async def test_a_compact_identifier_is_looked_up_in_the_table(
    make_sources: Callable[..., HttpSources], drs: Any
) -> None:
    table = {"dg.4503": drs.url(OBJECTS + "dg.4503%2F{id}"), "prov/ns": drs.url(OBJECTS + "{id}")}
    sources = make_sources(schemes=("https",), drs_prefixes=table)
    drs.routes[OBJECTS + "dg.4503%2Fab%2Fc"] = drs.routes[OBJECTS + "x"]
    assert await read(sources, "drs://DG.4503:ab/c") == DATA
    assert await read(sources, "drs://dg.4503:ab%2Fc") == DATA
    assert await read(sources, "drs://prov/ns:x") == DATA


async def test_an_unknown_prefix_is_refused_by_name(
    make_sources: Callable[..., HttpSources], entry: Any, into: Path
) -> None:
    sources = make_sources(drs_prefixes={"dg.4503": "https://example.org/{id}"})
    with pytest.raises(InvalidInput, match=r"prefix 'dg.1' \(known: dg.4503\)"):
        await read(sources, "drs://dg.1:abc")
    assert (await reason(sources, entry("drs://dg.1:abc"), into))[0] is Reason.SOURCE_INVALID


@pytest.mark.parametrize("uri", ["drs://", "drs://host", "drs://host/", "drs:///x", "drs://host/.."])
async def test_what_is_no_drs_uri_is_refused(sources: HttpSources, uri: str) -> None:
    with pytest.raises(InvalidInput):
        await read(sources, uri)


async def test_an_id_is_percent_encoded_once(sources: HttpSources, drs: Any) -> None:
    drs.routes[OBJECTS + "a%2Fb%20c%3Ad"] = drs.routes[OBJECTS + "x"]
    assert await read(sources, f"drs://{drs.authority}/a/b%20c:d") == DATA


async def test_an_access_id_is_exchanged_for_a_url_and_its_headers(sources: HttpSources, drs: Any) -> None:
    describe(drs, "x", [{"type": "https", "access_id": "a/1"}])
    access = {"url": drs.url("/blob?sig=a%2Bb"), "headers": ["Authorization: Basic abc", "bad\r\nHost: evil"]}
    drs.routes[OBJECTS + "x/access/a%2F1"] = replying(access)
    assert await read(sources, f"drs://{drs.authority}/x") == DATA
    assert drs.requests[-1].path == "/blob?sig=a%2Bb"
    assert drs.requests[-1].headers["authorization"] == "Basic abc"
    assert drs.requests[-1].headers["host"] == drs.authority


async def test_a_server_does_not_say_how_our_request_is_framed_or_whom_it_is_for(
    sources: HttpSources, drs: Any
) -> None:
    ours = ["Content-Length: 100", "Host: inside", "Transfer-Encoding: chunked", "Range: bytes=0-1", "TE: x"]
    access = {"url": drs.url("/blob"), "headers": [*ours, "X-Amz-Meta: yes"]}
    describe(drs, "x", [{"type": "https", "access_url": access}])
    assert await read(sources, f"drs://{drs.authority}/x") == DATA
    sent = drs.requests[-1].headers
    assert (sent["host"], sent["x-amz-meta"]) == (drs.authority, "yes")
    assert not {"content-length", "transfer-encoding", "range", "te"} & sent.keys()


@pytest.mark.parametrize("size", [-1, 2**63, 10**400, True, "7", 1.5])
async def test_what_can_be_no_size_and_no_digest_is_not_taken_up(
    sources: HttpSources, drs: Any, size: Any
) -> None:
    odd: list[Any] = ["x" * 1000, "\ud800", "../..", "0" * 31, None, {}]
    sums = [{"type": "md5", "checksum": one} for one in odd]
    describe(
        drs, "x", [{"type": "https", "access_url": {"url": drs.url("/blob")}}], size=size, checksums=sums
    )
    details = await sources.details(f"drs://{drs.authority}/x")
    assert details.size_in_bytes in (None, len(DATA))
    assert not (details.version_tag or "").startswith("md5-")


async def test_a_description_that_is_too_deep_is_none(
    sources: HttpSources, drs: Any, entry: Any, into: Path
) -> None:
    document = Json({})
    document.body = b"[" * 500_000
    drs.routes[OBJECTS + "x"] = lambda _: document
    result, detail = await reason(sources, entry(f"drs://{drs.authority}/x"), into)
    assert (result, "no JSON" in detail) == (Reason.SOURCE_UNAVAILABLE, True)


async def test_access_headers_do_not_follow_to_another_host(
    sources: HttpSources, drs: Any, server: Any, kit: Any
) -> None:
    elsewhere = server.serve("/blob", DATA)
    drs.routes["/blob"] = lambda _: kit.Reply(302, {"Location": elsewhere})
    method = {
        "type": "https",
        "access_url": {"url": drs.url("/blob"), "headers": ["Authorization: Basic abc"]},
    }
    describe(drs, "x", [method])
    assert await read(sources, f"drs://{drs.authority}/x") == DATA
    assert drs.requests[-1].headers["authorization"] == "Basic abc"
    assert "authorization" not in server.requests[-1].headers


async def test_https_goes_before_s3_and_s3_before_nothing(
    make_sources: Callable[..., HttpSources], drs: Any, server: Any
) -> None:
    sources = make_sources(schemes=("https", "http"), s3_endpoint=server.url(""))
    server.serve("/reads/x.bam", b"from s3")
    s3 = {"type": "s3", "access_url": {"url": "s3://reads/x.bam"}, "region": "us-east-1"}
    describe(drs, "x", [{"type": "gs", "access_url": {"url": "gs://b/c"}}, s3])
    assert await read(sources, f"drs://{drs.authority}/x") == b"from s3"
    describe(drs, "x", [s3, {"type": "https", "access_url": {"url": drs.url("/blob")}}])
    assert await read(sources, f"drs://{drs.authority}/x") == DATA
    describe(drs, "x", [{"type": "gs", "access_url": {"url": "gs://b/c"}}])
    with pytest.raises(InvalidInput, match="offered by gs"):
        await read(sources, f"drs://{drs.authority}/x")


async def test_a_bundle_is_refused_as_one(sources: HttpSources, drs: Any, entry: Any, into: Path) -> None:
    drs.routes[OBJECTS + "all"] = replying({"id": "all", "contents": [{"name": "x", "id": "x"}]})
    result, detail = await reason(sources, entry(f"drs://{drs.authority}/all"), into)
    assert result is Reason.SOURCE_INVALID
    assert "is a bundle" in detail


@pytest.mark.parametrize("document", [[], "text", {"access_methods": ["https"]}, {"access_methods": []}, {}])
async def test_a_strange_answer_is_refused(sources: HttpSources, drs: Any, document: Any) -> None:
    drs.routes[OBJECTS + "x"] = replying(document)
    with pytest.raises(InvalidInput):
        await read(sources, f"drs://{drs.authority}/x")


@pytest.mark.parametrize(
    "expected",
    [{"checksums": [{"type": "md5", "checksum": "1" * 32}]}, {"size": 17}],
)
async def test_a_server_that_disagrees_with_the_catalog_is_not_downloaded_from(
    sources: HttpSources, drs: Any, entry: Any, into: Path, expected: dict[str, Any]
) -> None:
    describe(drs, "x", [{"type": "https", "access_url": {"url": drs.url("/blob")}}], **expected)
    source = entry(f"drs://{drs.authority}/x", md5=MD5, size_in_bytes=len(DATA))
    got, detail = await reason(sources, source, into)
    assert got is Reason.SOURCE_CHANGED
    assert ("1" * 32 in detail and MD5 in detail) or ("17" in detail and str(len(DATA)) in detail)
    assert [request.path for request in drs.requests] == [OBJECTS + "x"]


async def test_no_such_object_is_missing(sources: HttpSources, drs: Any, entry: Any, into: Path) -> None:
    with pytest.raises(NotFound):
        await read(sources, f"drs://{drs.authority}/y")
    assert (await reason(sources, entry(f"drs://{drs.authority}/y"), into))[0] is Reason.SOURCE_MISSING


async def test_an_object_being_staged_is_waited_for(
    sources: HttpSources, drs: Any, entry: Any, into: Path
) -> None:
    describe(drs, "x", [{"type": "https", "access_id": "1"}])
    staged = [Json({}, 202, **{"Retry-After": "0"}), Json({"url": drs.url("/blob")})]
    drs.routes[OBJECTS + "x/access/1"] = lambda _: staged.pop(0)
    got = await sources.fetch(entry(f"drs://{drs.authority}/x"), into, limit=1 << 30, report=quiet)
    assert got.md5 == MD5


async def test_a_signed_url_that_runs_out_in_mid_download_is_asked_for_again(
    sources: HttpSources, drs: Any, entry: Any, into: Path, kit: Any
) -> None:
    drs.routes["/blob"].faults = [{"stall_after": 100_000}, kit.Reply(403)]
    got = await sources.fetch(entry(f"drs://{drs.authority}/x", md5=MD5), into, limit=1 << 30, report=quiet)
    assert got.size == len(DATA)
    assert [request.start for request in drs.requests if request.path == "/blob"] == [None, 100_000, 100_000]


@pytest.mark.parametrize("where", ["object", "access", "bytes"])
async def test_the_guard_stands_before_each_step(
    make_sources: Callable[..., HttpSources], drs: Any, where: str
) -> None:
    sources = make_sources(schemes=("https",))
    inside = {"url": "https://10.0.0.1/x"}
    if where == "object":
        uri = "drs://169.254.169.254/x"
    else:
        uri = f"drs://{drs.authority}/x"
        describe(
            drs,
            "x",
            [
                {"type": "https", "access_id": "1"}
                if where == "access"
                else {"type": "https", "access_url": inside}
            ],
        )
        drs.routes[OBJECTS + "x/access/1"] = replying(inside)
    with pytest.raises(OutboundRefused):
        await read(sources, uri)


async def test_a_huge_description_is_not_read(sources: HttpSources, drs: Any, entry: Any, into: Path) -> None:
    drs.routes[OBJECTS + "x"] = replying({"id": "x" * (2 << 20)})
    result, detail = await reason(sources, entry(f"drs://{drs.authority}/x"), into)
    assert (result, "too long" in detail) == (Reason.SOURCE_UNAVAILABLE, True)
