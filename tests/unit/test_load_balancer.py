"""The local cloud's load balancer: connections in turn, past a task that is away; 503 when all are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gooseherd.devcloud.load_balancer import Address, LoadBalancer


@asynccontextmanager
async def task(answer: bytes) -> AsyncIterator[Address]:
    """A task that answers each connection's first bytes with these, and closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


async def ask(address: Address) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@asynccontextmanager
async def balancer(targets: list[Address]) -> AsyncIterator[Address]:
    made = LoadBalancer(lambda: targets)
    yield await made.open()
    await made.close()


async def test_connections_go_to_all_targets_in_turn() -> None:
    async with task(b"one") as one, task(b"two") as two, balancer([one, two]) as address:
        assert {await ask(address) for _ in range(4)} == {b"one", b"two"}


async def test_a_target_that_does_not_listen_is_passed_over() -> None:
    async with task(b"gone") as gone:
        pass
    async with task(b"one") as one, balancer([gone, one]) as address:
        assert [await ask(address) for _ in range(3)] == [b"one"] * 3


async def test_without_a_target_it_says_so() -> None:
    async with balancer([]) as address:
        assert (await ask(address)).startswith(b"HTTP/1.1 503 ")


async def test_targets_are_those_of_the_moment() -> None:
    targets: list[Address] = []
    async with task(b"one") as one, balancer(targets) as address:
        assert b"503" in await ask(address)
        targets.append(one)
        assert await ask(address) == b"one"
        targets.clear()
        assert b"503" in await ask(address)


async def test_its_end_breaks_connections() -> None:
    async with task(b"late") as one:
        made = LoadBalancer(lambda: [one])
        reader, writer = await asyncio.open_connection(*await made.open())
        await asyncio.sleep(0)
        await made.close()
        assert await reader.read() == b""
        writer.close()
