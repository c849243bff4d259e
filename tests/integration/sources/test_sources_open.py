"""Pass-through of upstream bytes, with ranges."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from gooseherd.domain.errors import (
    AccessDenied,
    InvalidInput,
    NotFound,
    OutboundRefused,
    UpstreamUnavailable,
)
from gooseherd.sources.http import HttpSources

DATA = random.Random(1).randbytes(300_000)


async def read(sources: HttpSources, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with sources.open(
        url, {name.replace("_", "-"): value for name, value in headers.items()}
    ) as upstream:
        return upstream.status, dict(upstream.headers), b"".join([chunk async for chunk in upstream.body])


async def test_the_whole_file_passes_through(sources: HttpSources, server: Any) -> None:
    status, headers, body = await read(sources, server.serve("/a", DATA))
    assert (status, body) == (200, DATA)
    assert headers == {"content-length": "300000", "etag": '"v1"'}


async def test_a_range_is_passed_on_and_its_answer_passed_back(sources: HttpSources, server: Any) -> None:
    status, headers, body = await read(sources, server.serve("/a", DATA), Range="bytes=1000-")
    assert (status, body) == (206, DATA[1000:])
    assert headers["content-range"] == "bytes 1000-299999/300000"
    status, headers, body = await read(sources, server.url("/a"), Range="bytes=300000-")
    assert (status, headers["content-range"], body) == (416, "bytes */300000", b"")


async def test_a_conditional_request_may_be_answered_304(sources: HttpSources, server: Any, kit: Any) -> None:
    server.routes["/a"] = lambda _: kit.Reply(304, {"ETag": '"v1"'})
    assert (await read(sources, server.url("/a"), If_None_Match='"v1"'))[0] == 304
    assert server.requests[0].headers["if-none-match"] == '"v1"'


async def test_only_harmless_headers_travel(sources: HttpSources, server: Any, kit: Any) -> None:
    reply = kit.Reply(200, {"Set-Cookie": "a=b", "Server": "x", "Content-Type": "text/csv"}, b"data")
    server.routes["/a"] = lambda _: reply
    for _ in range(2):
        _, headers, _ = await read(
            sources,
            server.url("/a"),
            Authorization="Bearer x",
            Cookie="a=b",
            Attempts="evil",
            Accept_Encoding="gzip",
        )
        assert headers == {"content-type": "text/csv", "content-length": "4"}
    sent = server.requests[1].headers
    assert not {"authorization", "cookie"} & sent.keys()
    assert sent["host"] == server.authority
    assert sent["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (404, NotFound, 1),
        (403, AccessDenied, 1),
        (500, UpstreamUnavailable, 2),
        (400, UpstreamUnavailable, 1),
    ],
)
async def test_other_answers_are_errors(
    sources: HttpSources, server: Any, kit: Any, status: int, error: type[Exception], requests: int
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(status, body=b"our secrets")
    with pytest.raises(error) as raised:
        await read(sources, server.url("/a?token=secret"))
    assert type(raised.value) is error
    assert "secret" not in str(raised.value)
    assert len(server.requests) == requests


async def test_a_passing_trouble_is_tried_once_more(sources: HttpSources, server: Any, kit: Any) -> None:
    url = server.serve("/a", DATA, faults=(kit.Reply(503),))
    assert (await read(sources, url))[2] == DATA


async def test_a_body_that_breaks_off_says_so(sources: HttpSources, server: Any) -> None:
    with pytest.raises(UpstreamUnavailable) as raised:
        await read(sources, server.serve("/a", DATA, faults=({"drop_after": 1000},)))
    assert type(raised.value) is UpstreamUnavailable


async def test_a_body_that_stalls_says_so(sources: HttpSources, server: Any) -> None:
    with pytest.raises(UpstreamUnavailable):
        await read(sources, server.serve("/a", DATA, faults=({"stall_after": 1000},)))


async def test_a_slow_reader_is_not_taken_for_a_slow_upstream(sources: HttpSources, server: Any) -> None:
    url = server.serve("/a", DATA[:50], faults=({"drip_seconds": 0.001},))
    async with sources.open(url, {}) as upstream:
        got = await anext(upstream.body)
        await asyncio.sleep(0.4)  # longer than upstream may stall
        got += b"".join([chunk async for chunk in upstream.body])
    assert got == DATA[:50]


async def test_a_reader_may_leave_early_and_come_back(sources: HttpSources, server: Any) -> None:
    url = server.serve("/a", os.urandom(8 << 20))
    async with sources.open(url, {}) as upstream:
        await anext(upstream.body)
    assert (await read(sources, url, Range="bytes=8388600-"))[0] == 206


async def test_a_connection_is_used_again(sources: HttpSources, server: Any) -> None:
    url = server.serve("/a", b"data")
    for _ in range(5):
        await read(sources, url)
    assert server.connections == 1


async def test_the_bytes_are_never_encoded(sources: HttpSources, server: Any, kit: Any) -> None:
    stored = gzip.compress(b"data")
    reply = kit.Reply(200, {"Content-Encoding": "gzip"}, stored)
    server.routes |= {"/a.vcf.gz": lambda _: reply, "/a.vcf": lambda _: reply}
    status, headers, body = await read(sources, server.url("/a.vcf.gz?x=1"))
    assert (status, body, "content-encoding" in headers) == (200, stored, False)
    with pytest.raises(UpstreamUnavailable):
        await read(sources, server.url("/a.vcf"))


async def test_the_guard_holds_here_too(
    make_sources: Callable[..., HttpSources], server: Any, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(307, {"Location": "http://169.254.169.254/"})
    with pytest.raises(OutboundRefused) as refused:
        await read(make_sources(), server.url("/a?token=secret"))
    assert (refused.value.url, refused.value.rule) == (server.url("/a"), "redirect: link-local address")
    with pytest.raises(OutboundRefused, match="loopback"):
        await read(make_sources(networks=()), f"http://localhost:{server.port}/a")
    with pytest.raises(OutboundRefused, match="scheme 'file'"):
        await read(make_sources(), "file:///etc/passwd")
    with pytest.raises(OutboundRefused, match="scheme 'gopher'"):
        await read(make_sources(), "gopher://127.0.0.1/")


async def test_an_s3_object_is_read_from_the_configured_endpoint(
    make_sources: Callable[..., HttpSources], server: Any
) -> None:
    server.serve("/reads/a%20b/c.bam", DATA)
    sources = make_sources(s3_endpoint=server.url(""))
    assert (await read(sources, "s3://reads/a b/c.bam"))[2] == DATA
    with pytest.raises(InvalidInput):
        await read(sources, "s3://reads")
