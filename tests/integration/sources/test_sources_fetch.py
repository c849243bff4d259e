"""Downloads from a server that breaks off, lies, crawls, changes its mind or points elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import math
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.sources.http import HttpSources
from gooseherd.sources.retry_policy import RetryPolicy

MIB = 1 << 20
LIMIT = 64 * MIB
DATA = random.Random(1).randbytes(3 * MIB + 123)
MD5 = hashlib.md5(DATA).hexdigest()
SHA256 = hashlib.sha256(DATA).hexdigest()


def quiet(size: int, total: int | None) -> None:
    """Nobody watches."""


def content(path: Path) -> bytes:
    return path.read_bytes()


def gone(path: Path) -> bool:
    return not path.exists()


async def failed(fetching: Any, into: Path) -> tuple[Reason, str]:
    with pytest.raises(StepFailed) as error:
        await fetching
    assert gone(into)
    return error.value.failure.reason, error.value.failure.detail


async def test_a_file_is_fetched_and_verified(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a.bam", DATA)
    seen: list[tuple[int, int | None]] = []
    source = entry(url, md5=MD5, sha256=SHA256, size_in_bytes=len(DATA))
    got = await sources.fetch(source, into, limit=LIMIT, report=lambda *now: seen.append(now))
    assert (got.path, got.size, got.md5) == (into, len(DATA), MD5)
    assert content(into) == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert len(seen) >= 3
    assert seen == sorted(seen)
    (request,) = server.requests
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


@pytest.mark.parametrize("length", [-1, None])
async def test_an_empty_file_is_a_file(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any, length: int | None
) -> None:
    server.routes["/empty"] = lambda _: kit.Reply(length=length)
    got = await sources.fetch(entry(server.url("/empty")), into, limit=LIMIT, report=quiet)
    assert (got.size, got.md5, content(into)) == (0, hashlib.md5().hexdigest(), b"")


async def test_a_broken_download_is_resumed_where_it_broke(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a", DATA, faults=({"stall_after": MIB}, {"stall_after": 2 * MIB - 5}))
    got = await sources.fetch(entry(url, md5=MD5, sha256=SHA256), into, limit=LIMIT, report=quiet)
    assert got.md5 == MD5
    assert content(into) == DATA
    assert server.starts == [None, MIB, 3 * MIB - 5]
    assert server.requests[1].headers["if-range"] == '"v1"'


async def test_progress_makes_up_for_failures(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    big = os.urandom(20 * MIB)
    url = server.serve("/a", big, faults=({"drop_after": 2 * MIB},) * 8)
    got = await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert got.md5 == hashlib.md5(big).hexdigest()
    assert len(server.requests) == 9


async def test_a_byte_per_connection_is_no_progress(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a", DATA, faults=({"drop_after": 1},) * 50)
    reason, detail = await failed(sources.fetch(entry(url), into, limit=LIMIT, report=quiet), into)
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "broke off" in detail
    assert len(server.requests) == 4


async def test_a_server_that_always_starts_over_ends_too(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(200, {}, DATA, drop_after=2 * MIB)
    reason, _ = await failed(sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into)
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert len(server.requests) <= 8


async def test_a_server_that_ignores_ranges_is_read_from_the_start(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    faults = ({"stall_after": MIB}, lambda _: kit.Reply(200, {"ETag": '"v1"'}, DATA))
    url = server.serve("/a", DATA, faults=faults)
    got = await sources.fetch(entry(url, md5=MD5), into, limit=LIMIT, report=quiet)
    assert got.size == len(DATA)
    assert content(into) == DATA
    assert server.starts == [None, MIB]


async def test_a_wrong_range_is_not_pasted_in(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    wrong = kit.Reply(
        206, {"ETag": '"v1"', "Content-Range": f"bytes 5-{len(DATA) - 1}/{len(DATA)}"}, DATA[5:]
    )
    url = server.serve("/a", DATA, faults=({"stall_after": MIB}, wrong))
    got = await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert got.md5 == MD5
    assert server.starts == [None, MIB, None]


async def test_a_file_that_changes_in_mid_download_is_read_anew(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a", DATA)
    new = os.urandom(len(DATA))

    def change(request: Any) -> Any:
        server.routes["/a"].data, server.routes["/a"].etag = new, '"v2"'
        return None

    server.routes["/a"].faults = [{"stall_after": MIB}, change]
    await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert content(into) == new


async def test_a_server_that_does_not_mind_if_range_cannot_mix_two_versions(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    new = os.urandom(len(DATA))

    def other(request: Any) -> Any:
        server.routes["/a"].data, server.routes["/a"].etag = new, '"v2"'
        span = f"bytes {request.start}-{len(new) - 1}/{len(new)}"
        return kit.Reply(206, {"ETag": '"v2"', "Content-Range": span}, new[request.start :])

    url = server.serve("/a", DATA, faults=({"stall_after": MIB}, other))
    await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert content(into) == new


async def test_without_a_version_but_with_a_digest_a_break_is_resumed(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a", DATA, etag=None, faults=({"stall_after": MIB},))
    await sources.fetch(entry(url, md5=MD5), into, limit=LIMIT, report=quiet)
    assert server.starts == [None, MIB]


async def test_without_a_version_and_a_digest_a_break_starts_over(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a", DATA, etag=None, faults=({"stall_after": MIB},))
    await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert server.starts == [None, None]
    assert content(into) == DATA


async def test_two_halves_of_two_versions_are_loaded_once_more(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    def silent_change(request: Any) -> Any:
        span = f"bytes {request.start}-{len(DATA) - 1}/{len(DATA)}"
        return kit.Reply(206, {"Content-Range": span}, os.urandom(len(DATA) - request.start))

    url = server.serve("/a", DATA, etag=None, faults=({"stall_after": MIB}, silent_change))
    got = await sources.fetch(entry(url, md5=MD5), into, limit=LIMIT, report=quiet)
    assert got.md5 == MD5
    assert server.starts == [None, MIB, None]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
async def test_a_passing_trouble_is_waited_for(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any, status: int
) -> None:
    url = server.serve("/a", b"data", faults=(kit.Reply(status, {"Retry-After": "0"}), kit.Reply(status)))
    await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "reason", "requests"),
    [
        (404, Reason.SOURCE_MISSING, 1),
        (410, Reason.SOURCE_MISSING, 1),
        (401, Reason.SOURCE_FORBIDDEN, 1),
        (403, Reason.SOURCE_FORBIDDEN, 1),
        (400, Reason.SOURCE_UNAVAILABLE, 1),
        (503, Reason.SOURCE_UNAVAILABLE, 4),
        (204, Reason.SOURCE_UNAVAILABLE, 1),
        (304, Reason.SOURCE_UNAVAILABLE, 4),
    ],
)
async def test_each_answer_that_is_not_the_file_has_its_reason(
    sources: HttpSources,
    server: Any,
    entry: Any,
    into: Path,
    kit: Any,
    status: int,
    reason: Reason,
    requests: int,
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(status)
    url = server.url("/a?X-Signature=secret")
    result, detail = await failed(sources.fetch(entry(url), into, limit=LIMIT, report=quiet), into)
    assert result is reason
    assert "secret" not in detail
    assert "/a" in detail
    assert len(server.requests) == requests


async def test_who_asks_to_wait_longer_than_we_do_is_given_up(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(503, {"Retry-After": "3600"})
    reason, detail = await failed(
        sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "answered 503" in detail
    assert len(server.requests) == 1


async def test_nobody_listening_is_unavailable(
    sources: HttpSources, entry: Any, into: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/a"
    reason, detail = await failed(sources.fetch(entry(url), into, limit=LIMIT, report=quiet), into)
    assert (reason, detail) == (Reason.SOURCE_UNAVAILABLE, f"upstream cannot be reached for {url}")


async def test_a_dropped_connection_is_resumed_not_repeated(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    big = os.urandom(8 * MIB)
    url = server.serve("/a", big, faults=({"drop_after": 4 * MIB}, {"drop_after": 2 * MIB}))
    await sources.fetch(entry(url), into, limit=LIMIT, report=quiet)
    assert content(into) == big
    # What lay unread in the client's buffer when the connection broke is asked for again.
    first, second, third = server.starts
    assert (first, 3 * MIB < second <= 4 * MIB, second < third <= second + 2 * MIB) == (None, True, True)


async def test_a_body_that_only_drips_is_given_up(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    url = server.serve("/a", DATA, faults=({"drip_seconds": 0.02},) * 4)
    reason, detail = await failed(sources.fetch(entry(url), into, limit=LIMIT, report=quiet), into)
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "sends too slowly" in detail


async def test_a_slow_source_is_given_up_at_its_second_connection_however_much_came(
    make_sources: Any, server: Any, entry: Any, into: Path
) -> None:
    """It would hold a worker for days: what makes up for a break does not make up for that."""
    slow = RetryPolicy(
        read_seconds=30,
        floor_seconds=0.3,
        floor_bytes=1 << 40,
        slow_tries=2,
        tries=100,
        backoff_seconds=0.001,
    )
    sources = make_sources(patience=slow)
    big = os.urandom(40 * MIB)
    url = server.serve("/a", big, faults=({"drip_seconds": 0.02, "drip_bytes": 256 * 1024},) * 100)
    reason, detail = await failed(sources.fetch(entry(url), into, limit=LIMIT, report=quiet), into)
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "sends too slowly" in detail
    assert "KiB/s" in detail
    assert len(server.starts) == 2


async def test_headers_that_never_come_are_given_up(
    make_sources: Any, entry: Any, into: Path, kit: Any
) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await reader.read()
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/a"
    patience = RetryPolicy(connect_seconds=0.2, read_seconds=0.1, tries=1)
    sources = make_sources(patience=patience)
    reason, detail = await failed(sources.fetch(entry(url), into, limit=LIMIT, report=quiet), into)
    assert (reason, "timed out" in detail) == (Reason.SOURCE_UNAVAILABLE, True)
    listening.close()


async def test_a_file_announced_over_the_limit_is_not_read(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(length=LIMIT + 1, stall_after=0)
    reason, detail = await failed(
        sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_TOO_LARGE
    assert str(LIMIT) in detail


async def test_a_catalog_size_over_the_limit_asks_nobody(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    source = entry(server.serve("/a", DATA), size_in_bytes=len(DATA))
    reason, _ = await failed(sources.fetch(source, into, limit=1000, report=quiet), into)
    assert reason is Reason.SOURCE_TOO_LARGE
    assert server.requests == []


@pytest.mark.parametrize("known", [{}, {"size_in_bytes": MIB}])
async def test_an_endless_body_ends_at_the_limit(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any, known: dict[str, int]
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(body=bytes(65_536), length=None, times=math.inf)
    reason, _ = await failed(
        sources.fetch(entry(server.url("/a"), **known), into, limit=4 * MIB, report=quiet), into
    )
    assert reason is (Reason.SOURCE_CHANGED if known else Reason.SOURCE_TOO_LARGE)


@pytest.mark.parametrize(
    ("expected", "detail"),
    [
        ({"md5": "0" * 32}, f"md5 is {MD5}, the catalog says {'0' * 32}"),
        ({"sha256": "0" * 64}, f"sha256 is {SHA256}, the catalog says {'0' * 64}"),
        ({"size_in_bytes": 17}, f"size in bytes is {len(DATA)}, the catalog says 17"),
        ({"size_in_bytes": len(DATA) + 1}, f"size in bytes is {len(DATA)}, the catalog says {len(DATA) + 1}"),
    ],
)
async def test_a_file_other_than_the_catalogs_is_told_with_both_values(
    sources: HttpSources, server: Any, entry: Any, into: Path, expected: dict[str, Any], detail: str
) -> None:
    source = entry(server.serve("/a", DATA), **expected)
    assert await failed(sources.fetch(source, into, limit=LIMIT, report=quiet), into) == (
        Reason.SOURCE_CHANGED,
        detail,
    )
    assert len(server.requests) == 1


async def test_a_body_without_a_length_that_is_too_short_is_continued(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    short = kit.Reply(200, {"ETag": '"v1"'}, DATA[:MIB], length=None)
    source = entry(server.serve("/a", DATA, faults=(short,)), size_in_bytes=len(DATA))
    assert (await sources.fetch(source, into, limit=LIMIT, report=quiet)).md5 == MD5
    assert server.starts == [None, MIB]


async def test_an_object_labelled_gzip_is_taken_as_it_was_stored(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    stored = gzip.compress(b"##fileformat=VCFv4.2\n" * 1000)
    server.routes["/a.vcf.gz"] = lambda _: kit.Reply(200, {"Content-Encoding": "gzip"}, stored)
    source = entry(server.url("/a.vcf.gz"), filename="a.vcf.gz", md5=hashlib.md5(stored).hexdigest())
    await sources.fetch(source, into, limit=LIMIT, report=quiet)
    assert content(into) == stored


@pytest.mark.parametrize("known", [{}, {"size_in_bytes": 21_000}])
async def test_a_file_compressed_on_the_way_is_refused(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any, known: dict[str, int]
) -> None:
    body = gzip.compress(b"##fileformat=VCFv4.2\n" * 1000)
    server.routes["/a.vcf"] = lambda _: kit.Reply(200, {"Content-Encoding": "gzip"}, body)
    source = entry(server.url("/a.vcf"), filename="a.vcf", **known)
    reason, detail = await failed(sources.fetch(source, into, limit=LIMIT, report=quiet), into)
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "encodes" in detail
    assert len(server.requests) == 1


async def test_a_cancelled_download_leaves_nothing(
    sources: HttpSources, server: Any, entry: Any, into: Path
) -> None:
    started = asyncio.Event()
    url = server.serve("/a", DATA, faults=({"stall_after": 2 * MIB},))
    fetching = asyncio.create_task(
        sources.fetch(entry(url), into, limit=LIMIT, report=lambda *_: started.set())
    )
    await started.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert gone(into)


async def client(folder: Path, url: str, before: str, after: str) -> str:
    """A process of its own that fetches `url`, and what it printed."""
    code = f"""
        import asyncio, resource
        from ipaddress import ip_network
        from pathlib import Path
        from gooseherd.domain.processing import StepFailed
        from gooseherd.domain.source import SourceFile
        from gooseherd.sources.http import HttpSources
        from gooseherd.sources.urlguard import UrlGuard

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        async def main():
            guard = UrlGuard(frozenset({{"http"}}), allow_networks=(ip_network("127.0.0.0/8"),))
            sources = HttpSources(guard)
            said = dict(dcc="a", local_id="b", filename="a.bam", access_url={url!r})
            into = Path("into").absolute()
            source = SourceFile.from_json(said)
            fetch = lambda: sources.fetch(source, into, limit=1 << 30, report=lambda *_: None)
            {before}
            try:
                print((await fetch()).size)
            except StepFailed as error:
                print(error.failure.reason)
            {after}
            await sources.close()

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(code), cwd=folder, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.fault
async def test_a_full_disk_is_named(server: Any, tmp_path: Path) -> None:
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    out = await client(tmp_path, server.serve("/a", DATA), full, "print(into.exists())")
    assert out.split() == ["out_of_disk", "False"]


@pytest.mark.fault
async def test_a_large_download_passes_through_little_memory(server: Any, tmp_path: Path, kit: Any) -> None:
    sizes = [8, 200]
    server.routes["/a"] = lambda _: kit.Reply(body=bytes(MIB), times=sizes[0], length=sizes.pop(0) * MIB)
    out = await client(tmp_path, server.url("/a"), "await fetch(); before = peak()", "print(peak() - before)")
    size, grown = map(int, out.split())
    assert size == 200 * MIB
    assert grown < 32 << 10  # KiB


# -- where it may lead ---------------------------------------------------------------------


async def test_redirects_are_followed(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server.serve("/final path/a%2Fb", DATA)
    server.routes["/final%20path/a%2Fb"] = kit.File(DATA)
    hops = ["/1", "/2", "/3", "/4", "/final path/a%2Fb?sig=a%2Bb"]
    for here, there in zip(["/0", *hops], hops, strict=False):
        server.routes[here] = lambda _, there=there: kit.Reply(302, {"Location": there})
    await sources.fetch(entry(server.url("/0"), md5=MD5), into, limit=LIMIT, report=quiet)
    assert server.requests[-1].path == "/final%20path/a%2Fb?sig=a%2Bb"


async def test_a_redirect_loop_ends(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(302, {"Location": "/a"})
    reason, detail = await failed(
        sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "redirects more than 5 times" in detail
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("http://127.0.0.2/x", "redirect: loopback address"),
        ("http://169.254.169.254/latest/meta-data", "redirect: link-local address"),
        ("http://10.0.0.1:8080/x", "redirect: private address"),
        ("//[::1]/x", "redirect: loopback address"),
        ("http://[::ffff:10.0.0.1]/x", "redirect: private address"),
        ("http://localhost6.test.invalid:22/x", "redirect: port is not allowed"),
        ("file:///etc/passwd", "redirect: scheme 'file' is not allowed"),
        ("drs://example.org/x", "redirect: scheme 'drs' is not allowed"),
        ("http://user:pw@127.0.0.1/x", "redirect: credentials in the URL"),
        ("http://127.1/x", "redirect: not a host name"),
    ],
)
async def test_a_redirect_to_where_we_may_not_go_is_refused(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any, location: str, rule: str
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(302, {"Location": location})
    reason, detail = await failed(
        sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_FORBIDDEN
    assert detail == f"refusing to fetch {server.url('/a')}: {rule}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://localhost:{port}/a", "http://127.0.0.1:{port}/a"])
async def test_a_private_address_is_refused_behind_a_name_too(
    make_sources: Callable[..., HttpSources], server: Any, entry: Any, into: Path, url: str
) -> None:
    server.serve("/a", DATA)
    sources = make_sources(networks=())
    reason, detail = await failed(
        sources.fetch(entry(url.format(port=server.port)), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_FORBIDDEN
    assert detail.endswith("loopback address")
    assert server.requests == []


async def test_a_redirect_to_a_name_with_a_private_address_is_refused(
    make_sources: Callable[..., HttpSources], start_server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server = await start_server()
    server.routes["/a"] = lambda _: kit.Reply(302, {"Location": f"http://localhost:{server.port}/b"})
    sources = make_sources(networks=("127.0.0.1/32",), allow_hosts=("127.*",))
    reason, detail = await failed(
        sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_FORBIDDEN
    assert detail.endswith("redirect: host is not on the list of allowed hosts")


async def test_https_does_not_fall_back_to_http(
    make_sources: Callable[..., HttpSources], start_server: Any, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    secure = await start_server(tls=True)
    plain = server.serve("/a", DATA)
    secure.routes["/a"] = lambda _: kit.Reply(302, {"Location": plain})
    sources = make_sources(schemes=("https",))
    reason, detail = await failed(
        sources.fetch(entry(secure.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_FORBIDDEN
    assert detail.endswith("redirect: scheme 'http' is not allowed")
    both = make_sources(schemes=("https", "http"))
    await both.fetch(entry(secure.url("/a"), md5=MD5), into, limit=LIMIT, report=quiet)


async def test_an_unknown_certificate_is_not_trusted(
    make_sources: Callable[..., HttpSources], start_server: Any, entry: Any, into: Path
) -> None:
    secure = await start_server(tls=True)
    sources = make_sources(schemes=("https",), tls=None)
    reason, detail = await failed(
        sources.fetch(entry(secure.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert reason is Reason.SOURCE_UNAVAILABLE
    assert "certificate" in detail


async def test_a_name_that_does_not_resolve_is_unavailable(
    make_sources: Callable[..., HttpSources], entry: Any, into: Path
) -> None:
    reason, detail = await failed(
        make_sources().fetch(entry("http://nothing.invalid/a"), into, limit=LIMIT, report=quiet), into
    )
    assert (reason, detail) == (
        Reason.SOURCE_UNAVAILABLE,
        "upstream host name does not resolve for http://nothing.invalid/a",
    )


async def test_a_redirect_to_a_name_that_does_not_resolve_says_so_and_not_where_it_led(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    server.routes["/a"] = lambda _: kit.Reply(302, {"Location": "http://inner.invalid/b"})
    reason, detail = await failed(
        sources.fetch(entry(server.url("/a")), into, limit=LIMIT, report=quiet), into
    )
    assert (reason, "name does not resolve" in detail) == (Reason.SOURCE_UNAVAILABLE, True)
    assert "inner" not in detail


@pytest.mark.parametrize("key", ["none.bam", "broken.bam"])
async def test_an_s3_source_is_called_by_its_own_name_and_not_by_our_endpoint_s(
    make_sources: Callable[..., HttpSources], server: Any, entry: Any, into: Path, kit: Any, key: str
) -> None:
    server.routes["/bucket/broken.bam"] = lambda _: kit.Reply(500)
    _, detail = await failed(
        make_sources(s3_endpoint=server.url("")).fetch(
            entry(f"s3://bucket/{key}"), into, limit=LIMIT, report=quiet
        ),
        into,
    )
    assert f"s3://bucket/{key}" in detail
    assert "127.0.0.1" not in detail


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_s3_endpoint_is_allowed_by_being_named_and_what_it_redirects_to_is_not(
    make_sources: Callable[..., HttpSources],
    start_server: Any,
    entry: Any,
    into: Path,
    kit: Any,
    host: str,
) -> None:
    server, inner = await start_server(), await start_server()
    server.serve("/bucket/a.bam", DATA)
    inner.serve("/b", DATA)
    sources = make_sources(schemes=("https",), networks=(), s3_endpoint=f"http://{host}:{server.port}")
    fetched = await sources.fetch(entry("s3://bucket/a.bam"), into, limit=LIMIT, report=quiet)
    assert fetched.size == len(DATA)
    for location in (inner.url("/b"), f"https://localhost:{inner.port}/b"):
        server.routes["/bucket/a.bam"] = lambda _, to=location: kit.Reply(302, {"Location": to})
        reason, detail = await failed(
            sources.fetch(entry("s3://bucket/a.bam"), into, limit=LIMIT, report=quiet), into
        )
        assert reason is Reason.SOURCE_FORBIDDEN
        assert "redirect: " in detail
    assert inner.connections == 0


async def test_an_s3_endpoint_whose_name_does_not_resolve_is_not_named(
    make_sources: Callable[..., HttpSources], entry: Any, into: Path
) -> None:
    reason, detail = await failed(
        make_sources(s3_endpoint="http://inner.invalid").fetch(
            entry("s3://bucket/a.bam"), into, limit=LIMIT, report=quiet
        ),
        into,
    )
    assert (reason, "name does not resolve" in detail) == (Reason.SOURCE_UNAVAILABLE, True)
    assert "inner" not in detail


async def test_the_environments_proxy_is_not_used(
    sources: HttpSources, server: Any, entry: Any, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    await sources.fetch(entry(server.serve("/a", DATA)), into, limit=LIMIT, report=quiet)


async def test_what_is_wrong_and_for_how_long_is_told_before_each_wait(
    sources: HttpSources, server: Any, entry: Any, into: Path, kit: Any
) -> None:
    url = server.serve("/a", b"data")
    pauses: list[tuple[str, float]] = []
    server.routes["/a"].faults = [kit.Reply(503, {"Retry-After": "0"}), kit.Reply(500)]
    await sources.fetch(
        entry(url),
        into,
        limit=LIMIT,
        report=quiet,
        pausing=lambda problem, wait: pauses.append((problem, wait)),
    )
    assert [problem for problem, _ in pauses] == ["upstream answered 503", "upstream answered 500"]
    assert all(wait >= 0 for _, wait in pauses)
