"""The quick way to a range: what it answers is what the usual way answers, for as long as that is so."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import socket
import tracemalloc

import pytest

from gooseherd import telemetry
from gooseherd.api.names import artifact_path
from gooseherd.api.server.at_once import AtOnce
from gooseherd.api.server.limits import HttpLimits
from gooseherd.domain.artifact import Kind
from gooseherd.storage import local

DATA = random.Random(7).randbytes(900_000)
OWN = ("date", "x-request-id")


@pytest.fixture
async def published(build_hot_town):
    """(town, path)."""
    town = await build_hot_town()
    entry = await town.register()
    await town.publish(entry, DATA)
    return town, f"/data/{entry.name}"


async def ask(town, request):
    return await town.raw(request.replace(b"\n", b"\r\n"))


def length_in(head: bytes) -> int:
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    return int(found[1])


def head_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(": ") for line in lines) if name not in OWN}


@pytest.mark.parametrize("wanted", ["0-0", "5-4100", "899990-", "899990-9999999", "0-131071", "0-131072"])
async def test_a_range_that_is_remembered_is_answered_as_it_was_found(published, wanted):
    town, path = published
    request = f"GET {path} HTTP/1.1\nHost: x\nConnection: close\nRange: bytes={wanted}\n\n".encode()
    found = await ask(town, request)  # in the usual way: nothing is remembered yet
    remembered = await town.http.get(path, headers={"Range": f"bytes={wanted}", "Connection": "keep-alive"})
    quick = await asyncio.open_connection(*town.address)
    quick[1].write(f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={wanted}\r\n\r\n".encode())
    head = await quick[0].readuntil(b"\r\n\r\n")
    body = await quick[0].readexactly(length_in(head))
    quick[1].close()
    assert body == found.partition(b"\r\n\r\n")[2] == remembered.content
    expected = head_of(found)
    assert expected.pop("connection") == "close"
    assert head_of(head) == expected


async def test_requests_that_come_at_once_are_answered_in_their_order(published):
    town, path = published
    await town.http.get(path, headers={"Range": "bytes=0-9"})
    spans = [(n * 1000, n * 1000 + 499) for n in range(20)]
    requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={a}-{b}\r\n" for a, b in spans]
    # Some take the usual way, in between.
    requests[7] += 'If-Range: "other"\r\n'
    requests[12] += "Prefer: wait=1\r\n"
    requests[-1] += "Connection: close\r\n"
    answer = await town.raw("".join(request + "\r\n" for request in requests).encode())
    bodies = []
    while answer:
        head, _, answer = answer.partition(b"\r\n\r\n")
        length = length_in(head)
        bodies.append(answer[:length])
        answer = answer[length:]
    expected = [DATA[a : b + 1] for a, b in spans]
    expected[7] = DATA
    assert bodies == expected


async def test_an_entry_that_is_removed_is_gone_at_once(build_town):
    town = await build_town()
    entry = await town.register()
    await town.publish(entry, DATA)
    path, wanted = f"/data/{entry.name}", {"Range": "bytes=0-99"}
    for _ in range(3):
        assert (await town.http.get(path, headers=wanted)).status_code == 206
    removed = await town.http.delete(f"/files/{entry.name}", headers={"X-API-Key": "the-admin-key"})
    assert removed.status_code == 200
    assert (await town.http.get(path, headers=wanted)).status_code == 404


async def test_an_entry_that_is_closed_is_closed_at_once(build_town):
    town = await build_town()
    entry = await town.register()
    await town.publish(entry, DATA)
    path, wanted = f"/data/{entry.name}", {"Range": "bytes=0-99"}
    for _ in range(3):
        assert (await town.http.get(path, headers=wanted)).status_code == 206
    closed = {**entry.to_json(), "data_access_level": "protected"}
    await town.http.post("/files", json=closed, headers={"X-API-Key": "the-admin-key"})
    assert (await town.http.get(path, headers=wanted)).status_code in (403, 404)


async def test_what_was_deleted_from_the_cache_is_made_again(build_town):
    town = await build_town()
    entry = await town.register()
    manifest = await town.publish(entry, DATA)
    path, wanted = f"/data/{entry.name}", {"Range": "bytes=0-99"}
    for _ in range(3):
        assert (await town.http.get(path, headers=wanted)).status_code == 206
    for part in manifest.parts:
        await town.cache.delete(part.key)
    await town.cache.delete(manifest.parts[0].key.rpartition("/")[0] + "/manifest.json")
    assert (await town.http.get(path, headers=wanted)).status_code == 202


async def test_requests_and_bytes_are_counted_whichever_way_they_take(published):
    town, path = published

    def counted():
        requests = {"route": "/data", "status": "206"}
        return (
            telemetry.REGISTRY.get_sample_value("gooseherd_http_requests_total", requests) or 0.0,
            telemetry.REGISTRY.get_sample_value(
                "gooseherd_bytes_served_total", {"kind": "data", "source": "disk"}
            )
            or 0.0,
        )

    before = counted()
    for _ in range(5):
        await town.http.get(path, headers={"Range": "bytes=0-999"})
    for _ in range(2):
        await town.http.get(path, headers={"Range": "bytes=0-499999"})
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (7, 5 * 1000 + 2 * 500_000)


async def test_a_read_is_noted_for_retention_whichever_way_it_takes(published):
    town, path = published
    noted: list[str] = []
    town.submissions._on_read = noted.append
    for _ in range(4):
        await town.http.get(path, headers={"Range": "bytes=0-9"})
    assert len(noted) == 4


async def test_a_request_id_that_cannot_be_kept_is_replaced(published):
    town, path = published
    for _ in range(2):
        kept = await town.http.get(path, headers={"Range": "bytes=0-9", "X-Request-Id": "abc"})
        made = await town.http.get(path, headers={"Range": "bytes=0-9", "X-Request-Id": "a b"})
        assert (kept.headers["x-request-id"], made.headers["x-request-id"] != "a b") == ("abc", True)


async def test_bytes_beyond_the_allowance_are_refused_whichever_way_they_take(build_hot_town):
    town = await build_hot_town(bytes_per_minute=10_000)
    entry = await town.register()
    await town.publish(entry, DATA)
    path, wanted = f"/data/{entry.name}", {"Range": "bytes=0-999"}
    answers = [await town.http.get(path, headers=wanted) for _ in range(15)]
    served = [answer for answer in answers if answer.status_code == 206]
    assert 9 <= len(served) <= 12
    assert {answer.status_code for answer in answers[len(served) :]} == {429}
    assert {answer.headers["ratelimit-policy"] for answer in served} == {
        served[0].headers["ratelimit-policy"]
    }


async def test_a_long_range_counts_against_the_allowance(build_hot_town):
    town = await build_hot_town(bytes_per_minute=10_000)
    entry = await town.register()
    await town.publish(entry, DATA)
    first = await town.http.get(f"/data/{entry.name}", headers={"Range": "bytes=0-499999"})
    assert (first.status_code, len(first.content)) == (206, 500_000)
    assert (await town.http.get(f"/data/{entry.name}", headers={"Range": "bytes=0-9"})).status_code == 429


# -- long ranges, which are sent from the file


def connected(town, receive_buffer: int = 4096) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(town.address)
    client.setblocking(False)
    return client


async def test_a_client_that_reads_nothing_of_a_file_is_let_go(build_hot_town):
    town = await build_hot_town(http_limits=HttpLimits(unread_seconds=1))
    entry = await town.register()
    await town.publish(entry, bytes(64 << 20))
    loop = asyncio.get_running_loop()
    with connected(town) as client:
        await loop.sock_sendall(client, f"GET /data/{entry.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 200")
        assert town.cache.open_readers == 1
        await until(lambda: town.cache.open_readers == 0)


async def test_a_client_that_reads_a_file_slowly_gets_all_of_it(build_hot_town):
    town = await build_hot_town(http_limits=HttpLimits(unread_seconds=1))
    entry = await town.register()
    data = random.Random(4).randbytes(16 << 20)
    await town.publish(entry, data)
    loop, received = asyncio.get_running_loop(), bytearray()
    with connected(town) as client:
        request = f"GET /data/{entry.name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(client, request.encode())
        for _ in range(8):  # longer than a client may take that reads nothing
            received += await loop.sock_recv(client, 65536)
            await asyncio.sleep(0.4)
        while chunk := await loop.sock_recv(client, 1 << 20):
            received += chunk
    assert received.partition(b"\r\n\r\n")[2] == data


async def test_a_client_that_goes_away_from_a_file_frees_it_at_once(build_hot_town):
    town = await build_hot_town()
    entry = await town.register()
    await town.publish(entry, bytes(64 << 20))
    loop = asyncio.get_running_loop()
    with connected(town) as client:
        await loop.sock_sendall(client, f"GET /data/{entry.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await loop.sock_recv(client, 100)
    await until(lambda: town.cache.open_readers == 0)


async def test_what_is_not_in_memory_is_sent_by_a_thread_and_all_the_same(build_hot_town, monkeypatch):
    monkeypatch.setattr(local, "is_cached", lambda *_: False)
    town = await build_hot_town()
    entry = await town.register()
    data = random.Random(5).randbytes(5 << 20)
    await town.publish(entry, data)
    answers = await asyncio.gather(*(town.http.get(f"/data/{entry.name}") for _ in range(8)))
    assert {answer.content == data for answer in answers} == {True}


async def until(condition, seconds=15.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_ranges_in_memory_are_answered_at_once_whatever_the_connection_header_says(
    build_hot_town, monkeypatch
):
    at_once, send = [], AtOnce.__call__

    def watched(self, *response):
        at_once.append(send(self, *response))
        return at_once[-1]

    monkeypatch.setattr(AtOnce, "__call__", watched)
    town = await build_hot_town()
    entry = await town.register()
    await town.publish(entry, DATA)
    browsers = {"Connection": "keep-alive", "Accept-Encoding": "gzip, br", "Sec-Fetch-Mode": "cors"}
    for wanted in ("0-99", "0-131071", "5-", "0-131072"):
        answer = await town.http.get(f"/data/{entry.name}", headers={**browsers, "Range": f"bytes={wanted}"})
        assert answer.status_code == 206
    await town.http.get(f"/data/{entry.name}", headers={**browsers, "Range": "bytes=899999-"})
    # Larger ones from the file, where the kernel has it in memory.
    assert at_once == [True, True, True, True]


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_a_large_range_is_sent_on_as_its_reader_makes_room(published, connection):
    town, path = published
    start = f"GET {path} HTTP/1.1\r\nHost: x\r\n"
    ask_for = f"{start}Connection: {connection}\r\nRange: bytes=7-\r\n\r\n".encode()
    small = f"{start}Connection: close\r\nRange: bytes=0-3\r\n\r\n".encode()
    await town.http.get(path, headers={"Range": "bytes=0-9"})  # from now on it is remembered
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, town.address)
        await loop.sock_sendall(client, ask_for + (small if connection == "keep-alive" else b""))
        answer = bytearray()
        while piece := await loop.sock_recv(client, 1 << 16):
            answer += piece
            if len(answer) < 200_000:
                await asyncio.sleep(0.005)
    head, _, rest = bytes(answer).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206")
    assert b"bytes 7-899999/900000" in head
    assert rest[: len(DATA) - 7] == DATA[7:]
    following = rest[len(DATA) - 7 :]
    if connection == "close":
        assert following == b""
    else:
        assert following.startswith(b"HTTP/1.1 206")
        assert following.endswith(b"\r\n\r\n" + DATA[:4])


async def test_a_reader_of_a_large_range_who_goes_costs_nobody_else_anything(published):
    town, path = published
    await town.http.get(path, headers={"Range": "bytes=0-9"})
    for _ in range(20):
        client = socket.create_connection(town.address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n".encode())
        await asyncio.sleep(0)
        client.close()
    answer = await town.http.get(path, headers={"Range": "bytes=1-"})
    assert answer.content == DATA[1:]


@pytest.mark.parametrize("proxies", [0, 1])
async def test_of_what_clients_write_into_addresses_and_headers_nothing_large_is_kept(
    build_hot_town, proxies
):
    town = await build_hot_town(trusted_proxies=proxies, bytes_per_minute=1 << 40)
    entry = await town.register()
    manifest = await town.publish(entry, DATA)
    data = manifest.part(Kind.DATA)
    path = artifact_path(entry, data, data.filename)
    await ask_with_much(town, path, -1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(REQUESTS):
            await ask_with_much(town, path, number)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < REQUESTS * 4096


REQUESTS = 100


async def ask_with_much(town, path: str, number: int) -> None:
    """A range by the quick way with 30 kB of X-Forwarded-For, and one of another address of 15 kB."""
    forwarded = (f"{number}.invented, " * 2000)[:30_000]
    for more in ("", f"&padding={number:015000}"):
        for _ in range(2):
            answer = await ask(
                town,
                f"GET {path}{more} HTTP/1.1\nHost: x\nConnection: close\nX-Forwarded-For: {forwarded}"
                f"198.51.100.7\nRange: bytes=0-9\n\n".encode(),
            )
            assert answer.startswith(b"HTTP/1.1 206 ")
