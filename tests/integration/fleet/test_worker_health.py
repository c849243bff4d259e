"""The worker's health port: what it answers, and how long it lets a question wait."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gooseherd.fleet.ecs_health import http_probe
from gooseherd.worker.health import Condition, HealthPort

PATIENCE_SECONDS = 60.0


class Worker:
    """A health port and the condition behind it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.number = free.getsockname()[1]
        self.status = "starting"
        self.looks = 0
        self._looked = asyncio.Event()
        self.port = HealthPort(self._condition, "127.0.0.1", self.number)

    def _condition(self) -> Condition:
        self.looks += 1
        self._looked.set()
        return Condition(self.status, "b1", 0.0)

    async def ask(self, query: str = "") -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.number}/health{query}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status, (await answer.json())["status"]

    async def asked(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.looks < times:
                self._looked.clear()
                await self._looked.wait()


@pytest.fixture
async def young() -> AsyncIterator[Worker]:
    made = Worker()
    await made.port.open()
    yield made
    await made.port.close()


@pytest.mark.parametrize("query", ["", "?wait=", "?wait=soon", "?wait=-1", "?wait=nan", "?wait=0.01"])
async def test_one_that_is_starting_says_so(young: Worker, query: str) -> None:
    assert await young.ask(query) == (503, "starting")


@pytest.mark.parametrize("status", ["healthy", "draining", "broken"])
async def test_a_question_that_waits_is_answered_when_the_start_is_over(young: Worker, status: str) -> None:
    asking = asyncio.create_task(young.ask("?wait=inf"))
    await young.asked(1)
    young.port.notify()  # Something changed, but it is starting still.
    await young.asked(2)
    assert not asking.done()
    young.status = status
    young.port.notify()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asking == (200 if status == "healthy" else 503, status)


async def test_a_question_that_waits_does_not_hold_up_the_end(young: Worker) -> None:
    asking = asyncio.create_task(young.ask("?wait=30"))
    await young.asked(1)
    await young.port.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asking == (503, "starting")


async def test_the_fleet_hears_of_it_from_one_question(young: Worker) -> None:
    asking = asyncio.ensure_future(http_probe(young.number)("127.0.0.1"))
    await young.asked(1)
    young.status = "healthy"
    young.port.notify()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asking
    assert young.looks == 2


async def test_nobody_there_is_not_healthy(young: Worker) -> None:
    await young.port.close()
    assert not await http_probe(young.number)("127.0.0.1")
