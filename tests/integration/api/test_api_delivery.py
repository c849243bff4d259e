"""Byte ranges of published artifacts, over real HTTP: the checklist that genome browsers need."""

from __future__ import annotations

import asyncio
import email
import email.policy
import random
from dataclasses import replace

import httpx
import pytest

from gooseherd.api.origins import OriginRules
from gooseherd.domain.artifact import OWN_ADDRESS, Kind, Part
from gooseherd.domain.byterange import ByteRange

DATA = random.Random(7).randbytes(3_000_000)
INDEX = b"BAI\1" + random.Random(8).randbytes(5000)


@pytest.fixture
async def published(hot_town):
    """(town, /data path, /index path, data part)."""
    town = hot_town
    entry = await town.register(filename="lésions 100%.bam")
    manifest = await town.publish(entry, DATA, INDEX)
    part = manifest.part(Kind.DATA)
    assert isinstance(part, Part)
    return town, f"/data/{entry.name}", f"/index/{entry.name}", part


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-25", 0, 26),
        ("bytes=100-65635", 100, 65636),
        ("bytes=2999999-2999999", 2999999, 3000000),
        ("bytes=2999990-", 2999990, 3000000),
        ("bytes=2990000-9999999", 2990000, 3000000),
        ("bytes=-7", 2999993, 3000000),
        ("bytes=-99999999", 0, 3000000),
        ("bytes=0-2999999", 0, 3000000),
        ("BYTES=5-9", 5, 10),
        ("bytes= 5-9 ,", 5, 10),
    ],
)
async def test_a_range_is_those_bytes_and_says_so(published, header, start, stop):
    town, data, _, part = published
    answer = await town.http.get(data, headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/3000000"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["etag"] == part.etag
    assert answer.headers["accept-ranges"] == "bytes"


async def test_a_plain_get_is_200_and_whole_with_everything_a_cache_wants(published):
    town, data, index, part = published
    answer = await town.http.get(index, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert (answer.status_code, answer.content) == (200, INDEX)
    assert "content-encoding" not in answer.headers
    whole = await town.http.get(data)
    assert (whole.status_code, whole.content) == (200, DATA)
    assert whole.headers["etag"] == f'"{part.sha256}"'
    assert whole.headers["cache-control"] == "public, max-age=300, no-transform"
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-disposition"] == (
        "attachment; filename=\"l_sions 100_.bam\"; filename*=UTF-8''l%C3%A9sions%20100%25.bam"
    )
    assert whole.headers["cross-origin-resource-policy"] == "cross-origin"
    assert whole.headers["timing-allow-origin"] == "*"


async def test_head_is_get_without_the_body(published):
    town, data, _, _ = published
    get, head = await town.http.get(data), await town.http.head(data, headers={"Range": "bytes=0-9"})
    for answer in (get, head):
        for own in ("date", "x-request-id"):
            del answer.headers[own]
    assert (head.status_code, head.headers, head.content) == (200, get.headers, b"")


@pytest.mark.parametrize(
    "header", ["bytes=3000000-", "bytes=9999999-9999999", "bytes=-0", "bytes=3000000-3000001,-0"]
)
async def test_a_start_past_the_end_is_416_with_the_size(published, header):
    town, data, _, _ = published
    answer = await town.http.get(data, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */3000000"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/range-not-satisfiable"
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "header",
    [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-3",
        "bytes=0x1-2",
        "bytes=1-2;3",
        "bytes=--1",
        "bytes=1--2",
        "bytes=" + "9" * 1100 + "-",
        "bytes=٣-٤".encode().decode("latin-1"),
        "bytes=0-1 2-3",
        "nonsense",
    ],
)
async def test_an_absurd_range_is_400(published, header):
    town, data, _, _ = published
    answer = await town.http.get(data, headers={"Range": header.encode("latin-1")})
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/malformed-range"


@pytest.mark.parametrize("header", ["lines=0-5", "bytes=" + ",".join(f"{i}-{i}" for i in range(0, 68, 4))])
async def test_other_units_and_too_many_ranges_are_answered_with_the_whole(published, header):
    town, data, _, _ = published
    answer = await town.http.get(data, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, DATA)


async def test_several_ranges_come_as_multipart_in_the_order_asked(published):
    town, data, _, part = published
    answer = await town.http.get(data, headers={"Range": "bytes=1000000-1999999, 0-9, -5"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert "content-range" not in answer.headers
    assert answer.headers["etag"] == part.etag
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    found = [(p["content-range"], p.get_payload(decode=True)) for p in message.iter_parts()]
    assert found[0][0] == "bytes 1000000-1999999/3000000"
    assert found[1] == ("bytes 0-9/3000000", DATA[:10])
    assert found[2] == ("bytes 2999995-2999999/3000000", DATA[-5:])
    assert DATA[1000000:2000000] in answer.content


async def test_overlapping_ranges_never_send_a_byte_twice(published):
    town, data, _, _ = published
    header = "bytes=" + ",".join(["0-2999999"] * 16)
    answer = await town.http.get(data, headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (206, 3_000_000)


@pytest.mark.parametrize(
    ("validator", "status"),
    [
        ("same", 206),
        ('"other"', 200),
        ("weak", 200),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 200),
        ("nonsense", 200),
    ],
)
async def test_if_range_gives_the_range_of_the_same_bytes_only(published, validator, status):
    town, data, _, part = published
    value = {"same": part.etag, "weak": f"W/{part.etag}"}.get(validator, validator)
    answer = await town.http.get(data, headers={"Range": "bytes=5-9", "If-Range": value})
    assert answer.status_code == status
    assert answer.content == (DATA[5:10] if status == 206 else DATA)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*", '{} , "y"'])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_if_none_match_is_304_also_with_a_range(published, form, method):
    town, data, _, part = published
    headers = {"If-None-Match": form.format(part.etag), "Range": "bytes=0-9"}
    answer = await town.http.request(method, data, headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == part.etag
    assert answer.headers["cache-control"] == "public, max-age=300, no-transform"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_if_none_match_of_another_version_gives_the_range(published):
    town, data, _, _ = published
    answer = await town.http.get(data, headers={"If-None-Match": '"old"', "Range": "bytes=0-9"})
    assert answer.status_code == 206


@pytest.mark.parametrize(("form", "status"), [("{}", 200), ("*", 200), ('"other"', 412), ("W/{}", 412)])
async def test_if_match_compares_strongly(published, form, status):
    town, data, _, part = published
    answer = await town.http.get(data, headers={"If-Match": form.format(part.etag)})
    assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_kind_of_answer_carries_cors(published, method):
    town, data, _, _ = published
    paths = [data, "/data/4dn/none", "/data/4dn/%2e%2e", "/nowhere", "/healthz", "/files?limit=0"]
    for path in paths:
        answer = await town.http.request(method, path, headers={"Origin": "https://viewer.example"})
        assert answer.headers["access-control-allow-origin"] == "*", path
        exposed = answer.headers["access-control-expose-headers"]
        for name in ("Content-Range", "Content-Length", "Accept-Ranges", "ETag", "Location", "Retry-After"):
            assert name in exposed


async def test_named_origins_are_echoed_and_others_are_not(build_hot_town):
    town = await build_hot_town(origins=OriginRules(("https://viewer.example",)))
    friend = await town.http.get("/healthz", headers={"Origin": "https://viewer.example"})
    assert friend.headers["access-control-allow-origin"] == "https://viewer.example"
    assert friend.headers["vary"] == "Origin"
    stranger = await town.http.get("/healthz", headers={"Origin": "https://else.example"})
    assert "access-control-allow-origin" not in stranger.headers
    assert stranger.headers["vary"] == "Origin"


async def test_a_preflight_is_204_and_allows_what_viewers_send(published):
    town, data, _, _ = published
    headers = {"Origin": "https://v.example", "Access-Control-Request-Method": "GET"}
    answer = await town.http.options(data, headers={**headers, "Access-Control-Request-Headers": "range"})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    for name in ("Authorization", "Range", "If-Range", "If-None-Match", "Prefer", "Cache-Control"):
        assert name in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "86400"


@pytest.mark.parametrize("kind", OWN_ADDRESS)
async def test_no_kind_of_part_can_be_written(town, kind):
    answer = await town.http.options(f"/{kind}/lab/file")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_a_stored_part_that_became_shorter_is_not_the_clients_mistake(published):
    town, data, _, part = published
    await town.cache.delete(part.key)
    await town.cache.put_if_absent(part.key, DATA[:1000])
    answer = await town.http.get(data, headers={"Range": "bytes=500-1999"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/cache-unavailable")


async def test_other_methods_are_405(published):
    town, data, _, _ = published
    answer = await town.http.post(data, content=b"x")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert answer.json()["type"] == "/problems/method-not-allowed"


async def test_request_ids_are_kept_when_sane_and_made_when_not(published):
    town, data, _, _ = published
    kept = await town.http.head(data, headers={"X-Request-Id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    made = await town.http.head(data, headers={"X-Request-Id": "a b <script>"})
    assert made.headers["x-request-id"] not in ("", "a b <script>")


@pytest.mark.parametrize(
    "path",
    [
        "/data/4dn/..%2f..%2fetc%2fpasswd",
        "/data/4dn/%2e%2e%2fx",
        "/data/4dn/%252e%252e%252fx",
        "/data/../../etc/passwd",
        "/data/4dn/a%00b",
        "/data/4dn/a%0d%0aX: y",
        "/data/4dn/a%5cb",
        "/data/4dn/..",
        "/data/%2e%2e/x",
        "/data/4dn/.hidden",
        "/data/4dn/a%0a",
        "/data/4dn/%zz",
        "/data/4dn/a//b",
        "/data//x",
        "/data/4dn/",
        "/data/4dn/" + "a" * 256,
        "/data/4dn/" + "a" * 5000,
        "/index/4dn/%ff",
        "/contigs/4dn/%2e%2e",
        "/files/4dn/%2e%2e%2f",
        "/data/4dn/..%2f/status",
        "/jobs/%2e%2e%2f",
        "/data/4dn/%c3%a9",
    ],
)
async def test_paths_that_could_leave_the_catalog_are_4xx(hot_town, path):
    town = hot_town
    answer = await town.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500
    assert b"Traceback" not in answer
    assert b"internal" not in answer.lower()


async def test_a_header_block_no_client_sends_is_431(hot_town):
    town = hot_town
    answer = await town.http.get("/healthz", headers={"X-Junk": "a" * 40_000})
    assert answer.status_code == 431


async def test_50_readers_at_once_get_the_same_bytes(published):
    town, data, _, _ = published
    answers = await asyncio.gather(
        *(town.http.get(data, headers={"Range": "bytes=5-70000"}) for _ in range(50))
    )
    assert {(a.status_code, a.content) for a in answers} == {(206, DATA[5:70001])}


async def test_a_client_that_leaves_in_mid_body_frees_its_reader(hot_town):
    town = hot_town
    entry = await town.register()
    await town.publish(entry, bytes(64 << 20))
    reader, writer = await asyncio.open_connection(*town.address)
    writer.write(f"GET /data/{entry.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(1000)
    assert town.cache.open_readers == 1  # the slow client holds it, one chunk in flight
    writer.transport.abort()
    await until(lambda: town.cache.open_readers == 0)


async def test_a_slow_client_gets_every_byte(hot_town):
    town = hot_town
    entry = await town.register()
    data = random.Random(9).randbytes(12 << 20)
    await town.publish(entry, data)
    reader, writer = await asyncio.open_connection(*town.address)
    writer.write(f"GET /data/{entry.name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    got = bytearray()
    while piece := await reader.read(50_000):
        got += piece
        await asyncio.sleep(0)
    writer.close()
    assert bytes(got) == data
    assert town.cache.open_readers == 0


async def test_an_object_that_breaks_off_never_looks_whole(hot_town):
    town = hot_town
    entry = await town.register()
    manifest = await town.publish(entry, bytes(5 << 20))
    part = manifest.part(Kind.DATA)
    await town.cache.delete(part.key)
    await town.cache.put_if_absent(part.key, bytes(3 << 20))
    original = town.cache.inner.spans

    async def as_if_whole(key, span):
        async for found in original(key, ByteRange(0, 3 << 20)):
            yield found
        yield replace(found, offset=3 << 20)
        yield replace(found, offset=4 << 20)

    town.cache.inner.spans = as_if_whole
    with pytest.raises(httpx.RemoteProtocolError):
        await town.http.get(f"/data/{entry.name}")
    assert town.cache.open_readers == 0


async def test_an_empty_part_is_200_and_any_range_of_it_416(hot_town):
    town = hot_town
    entry = await town.register()
    await town.publish(entry, b"")
    assert (await town.http.get(f"/data/{entry.name}")).headers["content-length"] == "0"
    assert (await town.http.get(f"/data/{entry.name}", headers={"Range": "bytes=0-"})).status_code == 416


async def until(condition, seconds=10.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.01)
