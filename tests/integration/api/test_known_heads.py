"""Heads that are known are not parsed again, and nobody can tell by the responses."""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gooseherd.api.published_parts import PublishedFirst
from gooseherd.api.server.known_heads import cut
from gooseherd.api.server.limits import HttpLimits
from gooseherd.control.usage import ServedBytes

DATA = random.Random(9).randbytes(700_000)
ADMIN = {"X-API-Key": "the-admin-key"}
LIMITS = HttpLimits(head_seconds=0.5, body_seconds=0.5, idle_seconds=2)


def head(path: str, *lines: str, wanted: str = "0-9") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *lines, f"Range: bytes={wanted}", "\r\n")).encode()


@pytest.fixture
def parsed(monkeypatch):
    """The requests that were parsed, and came to where they may be answered at once."""
    seen, answered = [], PublishedFirst.answered

    def watched(self, scope, respond):
        seen.append(scope)
        return answered(self, scope, respond)

    monkeypatch.setattr(PublishedFirst, "answered", watched)
    return seen


async def published(build, **changes):
    town = await build(**changes)
    entry = await town.register()
    await town.publish(entry, DATA)
    return town, f"/data/{entry.name}", entry


@asynccontextmanager
async def connection(town):
    """Asks over one connection, and gives status and body of the response."""
    reader, writer = await asyncio.open_connection(*town.address)

    async def ask(request: bytes) -> tuple[int, bytes, dict[str, str]]:
        writer.write(request)
        answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1")
        status, *lines = answer.rstrip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 20)
        return int(status.split()[1]), body, headers

    try:
        yield ask
    finally:
        writer.close()


async def test_a_head_is_parsed_until_it_is_known_and_its_ranges_are_right(build_hot_town, parsed):
    town, path, _ = await published(build_hot_town)
    async with connection(town) as ask:
        for number in range(20):
            status, body, _ = await ask(head(path, wanted=f"{number}-{number * 10_000}"))
            expected = DATA[number : number * 10_000 + 1] if number else DATA[:1]
            assert (status, body) == (206, expected)
        assert len(parsed) == 2  # as it was found, and once it was remembered where
        assert (await ask(head(path, wanted="5-")))[1] == DATA[5:]
        assert len(parsed) == 2
        # What the object has not is answered as ever.
        assert (await ask(head(path, wanted="700000-")))[0] == 416
        assert len(parsed) == 3
    async with connection(town) as ask:  # the first request of a connection
        assert (await ask(head(path, wanted="7-8")))[1] == DATA[7:9]
    assert len(parsed) == 3


async def test_responses_have_request_ids_of_their_own(build_hot_town):
    town, path, _ = await published(build_hot_town)
    async with connection(town) as ask:
        ids = [(await ask(head(path)))[2]["x-request-id"] for _ in range(9)]
    assert len(set(ids)) == 9


@pytest.mark.parametrize(
    "line",
    [
        "Cookie: session=1",
        "X-Request-Id: mine",
        "Authorization: Bearer x",
        "Content-Length: 0",
        "If-Match: *",
    ],
)
async def test_a_head_with_something_of_its_sender_or_of_one_request_is_not_kept(
    build_hot_town, parsed, line
):
    town, path, _ = await published(build_hot_town)
    async with connection(town) as ask:
        for _ in range(5):
            await ask(head(path, line))
    assert len(parsed) == 5


async def test_a_head_that_is_known_is_parsed_when_its_connection_is_to_be_closed(build_hot_town, parsed):
    town, path, _ = await published(build_hot_town)
    for _ in range(4):
        answer = await town.raw(head(path, "Connection: close"))
        assert answer.endswith(b"\r\n\r\n" + DATA[:10])
    assert len(parsed) == 4


async def test_an_entry_that_is_removed_is_gone_also_where_its_head_is_known(build_town, parsed):
    town, path, entry = await published(build_town)
    async with connection(town) as ask:
        for _ in range(5):
            assert (await ask(head(path)))[0] == 206
        assert len(parsed) == 2
        await town.http.delete(f"/files/{entry.name}", headers=ADMIN)
        assert (await ask(head(path)))[0] == 404


async def test_an_entry_that_changed_is_what_it_is_now_also_where_its_head_is_known(build_town, parsed):
    town, path, entry = await published(build_town)
    async with connection(town) as ask:
        for _ in range(5):
            await ask(head(path))
        changed = {**entry.to_json(), "data_access_level": "protected"}
        await town.http.post("/files", json=changed, headers=ADMIN)
        assert (await ask(head(path)))[0] in (401, 403, 404)
        await town.http.post("/files", json=entry.to_json(), headers=ADMIN)
        assert (await ask(head(path)))[0] == 206


async def test_a_part_that_was_deleted_is_not_sent_also_where_its_head_is_known(build_town, parsed):
    town, path, _ = await published(build_town)
    async with connection(town) as ask:
        for _ in range(5):
            await ask(head(path))
        (manifest, *_), *_ = town.submissions._manifests.values()
        for part in manifest.parts:
            await town.cache.delete(part.key)
        await town.cache.delete(manifest.parts[0].key.rpartition("/")[0] + "/manifest.json")
        assert (await ask(head(path)))[0] == 202


async def test_a_spent_budget_is_honoured_and_told_also_where_the_head_is_known(build_hot_town, parsed):
    town, path, _ = await published(build_hot_town, bytes_per_minute=10_000, clock=lambda: 1000.0)
    async with connection(town) as ask:
        answers = [await ask(head(path, wanted="0-999")) for _ in range(14)]
    assert [status for status, _, _ in answers] == [206] * 10 + [429] * 4
    left = [re.findall(r"r=(\d+)", headers["ratelimit"]) for _, _, headers in answers[1:10]]
    assert left == [[str(10_000 - 1000 * number)] for number in range(1, 10)]
    assert len(parsed) < 14


async def test_bytes_are_counted_for_who_got_them_also_where_the_head_is_known(build_hot_town, parsed):
    served = ServedBytes("here")
    town, path, _ = await published(build_hot_town, served=served, trusted_proxies=1)
    async with connection(town) as ask:
        for client in ("192.0.2.1", "192.0.2.2"):
            for _ in range(4):
                await ask(head(path, f"X-Forwarded-For: {client}", wanted="0-99"))
    assert len(parsed) < 8
    assert {row.requester: row.amounts.bytes_served for row in served.take()} == {
        "192.0.2.1": 400,
        "192.0.2.2": 400,
    }


async def test_a_server_that_is_stopping_parses_heads_that_it_knows(build_hot_town, parsed):
    town, path, _ = await published(build_hot_town)
    async with connection(town) as ask:
        for _ in range(4):
            await ask(head(path))
        assert len(parsed) == 2
        town.dependencies.holds.stop()
        _, body, headers = await ask(head(path))
        assert (body, headers["connection"], len(parsed)) == (DATA[:10], "close", 3)


async def test_a_connection_waits_for_its_next_request_from_the_last_response_on(build_hot_town):
    town, path, _ = await published(build_hot_town, http_limits=HttpLimits(connections=2))
    first = await asyncio.open_connection(*town.address)
    second = await asyncio.open_connection(*town.address)

    async def ask(connection):
        connection[1].write(head(path))
        await asyncio.wait_for(connection[0].readuntil(DATA[:10]), 20)

    for each in (first, second, first, second, first):  # in the end second has waited longest
        await ask(each)
    third = await asyncio.open_connection(*town.address)
    await ask(third)
    assert await asyncio.wait_for(second[0].read(), 20) == b""
    await ask(first)
    for _, writer in (first, second, third):
        writer.close()


async def test_a_connection_that_asks_for_nothing_more_is_closed_after_its_time(build_hot_town):
    town, path, _ = await published(
        build_hot_town, http_limits=HttpLimits(head_seconds=0.4, idle_seconds=0.4)
    )
    reader, writer = await asyncio.open_connection(*town.address)
    for _ in range(4):
        writer.write(head(path))
        await asyncio.wait_for(reader.readuntil(DATA[:10]), 20)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


def test_requests_that_are_cut_alike_differ_in_their_range_alone():
    assert cut(head("/a", wanted="1-2")) == (head("/a", wanted=""), b"1-2")
    odd = "GET /a HTTP/1.1\r\nX-Odd: range: bytes={}\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n"
    assert cut(odd.format("5-6").encode()) == (odd.format("").encode(), b"5-6")
    for other in (b"", b"GET", head("/a")[:-1], head("/a") + b"G", head("/a") * 2, head("/" + "a" * 3000)):
        assert cut(other) is None
    assert cut(head("/a").replace(b"0-9", b"0" * 41)) is None


# -- the same bytes with and without

ODD_RANGES = (
    *("0-", "5-", "699999-", "700000-", "-5", "-", "", "9-5", "0-1, 4-5", "0-1,99-100", " 1-2", "1-2 ", "x"),
    *("0000-0009", "0-1\n", "0-9\nX-A: b", "0x1-2", "+1-2", "1 - 2", "\t1-2", "0-" + "9" * 19, "9" * 50),
)
RANGES = st.one_of(
    st.tuples(st.integers(0, len(DATA) + 9), st.integers(0, len(DATA) + 9)).map(lambda r: f"{r[0]}-{r[1]}"),
    st.integers(0, len(DATA)).map(lambda start: f"{start}-{start + 99}"),
    st.sampled_from(ODD_RANGES),
)
PLAIN_LINES = (
    *("User-Agent: odd", "Accept-Encoding: gzip", "Accept: */*", "Connection: keep-alive", "X-Odd:"),
    *("Origin: https://viewer.example", "Sec-Fetch-Mode: cors", "X-Forwarded-For: 192.0.2.7"),
)
ODD_LINES = (
    *("Host: x", "Host: x:80", "hOST: y", "Connection: close", "Connection: Upgrade", "Upgrade: websocket"),
    *("X-Odd: range: bytes=1-2", "X-Odd: Range: bytes=1-2", "Orange: bytes=3-4", " folded: 1"),
    *("Cookie: a=b", "X-Request-Id: mine", "X-Request-Id: not mine", "If-Range: *", "If-None-Match: *"),
    *("Content-Length: 0", "Content-Length: 4", "Transfer-Encoding: chunked", "Expect: 100-continue"),
    *("Prefer: wait=0", "Bad Header: 1", "no colon"),
    *("X-Sendfile-Type: lookup", "X-API-Key: wrong", "Range: bytes=1-2"),
)


def lines(start, name, before, after, end="\r\n"):
    """What is in front of a range, and behind it."""
    return end.join((start, *before, f"{name}: bytes=")), end.join(("", *after, "", ""))


PLAIN = st.builds(
    lines,
    st.just("GET PATH HTTP/1.1\r\nHost: x"),
    st.sampled_from(["Range", "range"]),
    st.lists(st.sampled_from(PLAIN_LINES), max_size=2),
    st.lists(st.sampled_from(PLAIN_LINES), max_size=2),
)
STARTS = (
    *("GET PATH HTTP/1.1", "GET PATH HTTP/1.1\r\nHost: x", "GET PATH?a=1 HTTP/1.1\r\nHost: x"),
    *("GET /range:bytes=1 HTTP/1.1\r\nHost: x", "GET * HTTP/1.1\r\nHost: x", "POST PATH HTTP/1.1\r\nHost: x"),
    *("HEAD PATH HTTP/1.1\r\nHost: x", "get PATH HTTP/1.1\r\nHost: x", "GET PATH HTTP/2.0\r\nHost: x"),
    *("GET PATH HTTP/1.0\r\nHost: x", "\r\nGET PATH HTTP/1.1\r\nHost: x", "\nGET PATH HTTP/1.1\r\nHost: x"),
)
ODD = st.builds(
    lines,
    st.sampled_from(STARTS),
    st.sampled_from(["Range", "range", "RANGE", "rAnge", "Range ", "X-Range"]),
    st.lists(st.sampled_from(PLAIN_LINES + ODD_LINES), max_size=2),
    st.lists(st.sampled_from(PLAIN_LINES + ODD_LINES), max_size=2),
    st.sampled_from(["\r\n"] * 5 + ["\n"]),
)


@st.composite
def conversations(draw):
    """Pieces that are sent one after the other, over one connection or the next."""
    known = [draw(PLAIN), *draw(st.lists(ODD, max_size=2))]
    requests = draw(st.lists(st.tuples(st.sampled_from(known), RANGES), min_size=4, max_size=12))
    pieces: list[str] = []
    for (start, end), wanted in requests:
        request = f"{start}{wanted}{end}"
        if draw(st.integers(0, 19)) == 19:
            request += draw(st.sampled_from(["\r\n", "\r", "body", "G", "0\r\n\r\n"]))
        way = draw(st.integers(0, 9))
        if way == 9 and pieces:
            pieces[-1] += request  # ahead of the response
        elif way == 8:
            at = draw(st.integers(1, len(request) - 1))
            pieces += [request[:at], request[at:]]
        else:
            pieces.append(request)
    return pieces


async def converse(town, path, pieces):
    """All that comes back."""
    reader, writer = await asyncio.open_connection(*town.address)
    received = bytearray()

    async def receive():
        while data := await reader.read(1 << 20):
            received.extend(data)

    receiving = asyncio.create_task(receive())
    try:
        for piece in (*pieces, "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            writer.write(piece.replace("PATH", path).encode())
            before = -1
            while before != len(received):  # until nothing more comes of it
                before = len(received)
                for _ in range(6):
                    await asyncio.sleep(0)
        await asyncio.wait_for(receiving, 20)
    except ConnectionError:
        pass
    finally:
        receiving.cancel()
        writer.close()
    answer = re.sub(rb"\r\ndate: [^\r]+", b"", bytes(received))
    return re.sub(rb"(boundary=|--)[0-9a-f]{16,}", rb"\1", answer)


async def test_responses_are_the_same_bytes_with_heads_that_are_known_and_without(build_hot_town, parsed):
    fixed = {"clock": lambda: 0.0, "new_request_id": lambda: "of-this-test", "http_limits": LIMITS}
    town, path, _ = await published(build_hot_town, **fixed)
    plain = await build_hot_town(**fixed)
    with_heads, without = (server for server, *_ in build_hot_town._ending)
    without._known_heads = None
    for each in (town, plain):
        await each.http.get(path, headers={"Range": "bytes=0-9"})
    loop, skipped = asyncio.get_running_loop(), []

    async def compare(pieces):
        counts, seen = [], []
        for each, server in ((town, with_heads), (plain, without)):
            before = server.server_state.total_requests
            parsed.clear()
            answer = await converse(each, path, pieces)
            seen.append((answer, server.server_state.total_requests - before))
            counts.append(len(parsed))
        assert seen[0] == seen[1]
        skipped.append(counts[1] - counts[0])

    @given(conversations())
    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    def conversations_are_alike(pieces):
        asyncio.run_coroutine_threadsafe(compare(pieces), loop).result(60)

    await asyncio.to_thread(conversations_are_alike)
    assert sum(skipped) > 100
