"""Names whose servers are slow hold up nobody but themselves."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gooseherd.sources.resolver import AT_ONCE, Resolver


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names below .slow resolve once it is set; those below .none never did."""
    answered = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any) -> Any:
        if host.endswith(".slow"):
            answered.wait()
        if host.endswith(".none"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", *more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answered
    answered.set()


def names(count: int) -> list[str]:
    return [f"n{number}.slow" for number in range(count)]


async def test_while_slow_names_are_waited_for_others_resolve_and_files_are_read(slow: Any) -> None:
    resolver = Resolver(seconds=60)
    waiting = [asyncio.create_task(resolver.addresses(name, 443)) for name in names(AT_ONCE - 1)]
    ((_, _, _, _, address), *_) = await resolver.addresses("quick.example", 443)
    assert address == ("127.0.0.1", 443)
    # The threads of asyncio.to_thread, which read files.
    assert await asyncio.gather(*(asyncio.to_thread(len, "four") for _ in range(20))) == [4] * 20
    assert not any(task.done() for task in waiting)
    slow.set()
    assert len(await asyncio.gather(*waiting)) == AT_ONCE - 1


async def test_a_name_that_takes_too_long_does_not_resolve(slow: Any) -> None:
    with pytest.raises(OSError, match=r"within 0\.05 seconds"):
        await Resolver(seconds=0.05).addresses("n.slow", 443)


async def test_so_many_slow_names_at_once_and_no_more_threads(slow: Any) -> None:
    resolver = Resolver(at_once=3, seconds=0.2)
    before = threading.active_count()
    found = await asyncio.gather(*(resolver.addresses(n, 1) for n in names(12)), return_exceptions=True)
    assert all(isinstance(one, OSError) for one in found)
    assert threading.active_count() - before <= 3
    slow.set()
    # What nobody waits for any more gives its place back.
    await asyncio.gather(*(Resolver.addresses(resolver, f"quick{n}", 1) for n in range(6)))


async def test_what_does_not_resolve_is_an_error_of_the_system(slow: Any) -> None:
    with pytest.raises(socket.gaierror):
        await Resolver().addresses("x.none", 443)


async def test_a_lookup_that_nobody_waits_for_any_more_harms_nobody(slow: Any) -> None:
    resolver = Resolver()
    waiting = asyncio.create_task(resolver.addresses("n.slow", 443))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    slow.set()
    await resolver.addresses("quick", 443)
