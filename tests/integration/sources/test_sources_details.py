"""What sources say of themselves before they are read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.errors import AccessDenied, NotFound, OutboundRefused, UpstreamUnavailable
from gooseherd.domain.ports.source import SourceDetails
from gooseherd.sources.http import HttpSources

DATA = b"ACGT" * 5000
DATE = "Wed, 01 Jul 2026 10:00:00 GMT"


async def test_one_head_tells_size_and_entity_tag(sources: HttpSources, server: Any) -> None:
    assert await sources.details(server.serve("/a", DATA)) == SourceDetails(20_000, '"v1"')
    assert [request.method for request in server.requests] == ["HEAD"]


async def test_without_an_entity_tag_the_date_stands_for_the_version(
    sources: HttpSources, server: Any, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(200, {"Last-Modified": DATE}, DATA)
    assert await sources.details(server.url("/a")) == SourceDetails(20_000, DATE)


@pytest.mark.parametrize(
    "reply",
    [
        {"length": None},
        {"length": 0},
        {"headers": {"Content-Encoding": "gzip"}, "length": 55},
    ],
)
async def test_a_length_that_is_not_the_file_s_is_no_size(
    sources: HttpSources, server: Any, kit: Any, reply: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(200, **{"headers": {}, **reply})
    assert await sources.details(server.url("/a")) == SourceDetails()


async def test_a_redirect_is_followed_where_the_guard_allows_it(
    sources: HttpSources, server: Any, kit: Any
) -> None:
    server.serve("/b", DATA)
    server.routes["/a"] = lambda _: kit.Reply(302, {"Location": "/b"})
    assert (await sources.details(server.url("/a"))).size_in_bytes == 20_000
    server.routes["/a"] = lambda _: kit.Reply(302, {"Location": "http://10.0.0.1/b"})
    with pytest.raises(OutboundRefused):
        await sources.details(server.url("/a"))


async def test_a_private_address_is_not_asked(make_sources: Callable[..., HttpSources], server: Any) -> None:
    with pytest.raises(OutboundRefused):
        await make_sources(networks=()).details(server.url("/a"))
    assert server.connections == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFound), (403, AccessDenied), (405, UpstreamUnavailable), (500, UpstreamUnavailable)],
)
async def test_what_is_refused_is_asked_once(
    sources: HttpSources, server: Any, kit: Any, status: int, error: type[Exception]
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(status)
    with pytest.raises(error):
        await sources.details(server.url("/a"))
    assert len(server.requests) == 1


async def test_a_server_that_hangs_can_be_left(sources: HttpSources) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sources.details(f"http://127.0.0.1:{silent.getsockname()[1]}/a")


async def test_an_object_of_s3_is_asked_by_its_url(
    make_sources: Callable[..., HttpSources], server: Any
) -> None:
    server.serve("/bucket/x.bam", DATA)
    sources = make_sources(s3_endpoint=server.url(""))
    assert (await sources.details("s3://bucket/x.bam")).size_in_bytes == 20_000


async def test_a_drs_object_is_known_by_its_record(
    make_sources: Callable[..., HttpSources], start_server: Any, kit: Any
) -> None:
    server = await start_server(tls=True)
    record = {
        "size": 77,
        "checksums": [{"type": "md5", "checksum": "AB" * 16}],
        "access_methods": [{"type": "https", "access_url": {"url": server.url("/x")}}],
    }
    server.routes["/ga4gh/drs/v1/objects/one"] = lambda _: kit.Reply(200, {}, json.dumps(record).encode())
    sources = make_sources(schemes=("https",))
    url = f"drs://{server.authority}/one"
    assert await sources.details(url) == SourceDetails(77, f"md5-{'ab' * 16}")
    server.serve("/x", DATA)
    del record["size"], record["checksums"]
    assert await sources.details(url) == SourceDetails(20_000, '"v1"')


async def test_a_file_is_looked_at(make_sources: Callable[..., HttpSources], tmp_path: Path) -> None:
    path = tmp_path / "x.bam"
    path.write_bytes(DATA)
    sources = make_sources(file_roots=(tmp_path,))
    assert await sources.details(path.as_uri()) == SourceDetails(20_000, f"mtime-{path.stat().st_mtime_ns}")
    with pytest.raises(OutboundRefused):
        await make_sources().details(path.as_uri())
