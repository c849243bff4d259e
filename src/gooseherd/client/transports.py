"""The two ways in which the calls reach the network: without waiting for anything else, and on an event loop.

Calls are written once, as coroutines over a Transport. On AsyncTransport they are what they look like. On
BlockingTransport nothing ever suspends, so `run` gets the result by one step.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import httpx

from gooseherd.client.endpoint import Endpoint

P = ParamSpec("P")
T = TypeVar("T")


class Transport(Protocol):
    """Sends requests and sleeps. Raises what httpx raises."""

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The response, its body read."""
        ...

    def stream(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[httpx.Response]:
        """The response, its body unread unless it is an error's."""
        ...

    def lines(self, response: httpx.Response) -> AsyncIterator[str]:
        """The lines of a streamed body as they come."""
        ...

    def body(self, parts: Iterable[bytes]) -> Any:
        """What is sent as a request's body, bit by bit."""
        ...

    async def work(self, work: Callable[[httpx.Client], T]) -> T:
        """The result of what reads and writes files, or computes for long. Cancelled, it ends soon."""
        ...

    def items(self, make: Callable[[httpx.Client], Iterator[T]]) -> AsyncGenerator[T, None]:
        """The same for what gives one item after the other, in bounded memory."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        ...

    async def close(self) -> None:
        """Free the connections; idempotent."""
        ...


class BlockingTransport:
    """For threads: safe to share between them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.http = httpx.Client(**endpoint.options())

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The response, its body read."""
        return self.http.request(method, url, **options)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """The response, its body unread unless it is an error's."""
        with self.http.stream(method, url, **options) as response:
            if response.status_code >= 400:
                response.read()
            yield response

    async def lines(self, response: httpx.Response) -> AsyncIterator[str]:
        """The lines of a streamed body as they come."""
        for line in response.iter_lines():
            yield line

    def body(self, parts: Iterable[bytes]) -> Any:
        """What is sent as a request's body, bit by bit."""
        return iter(parts)

    async def work(self, work: Callable[[httpx.Client], T]) -> T:
        """The result of `work`."""
        return work(self.http)

    async def items(self, make: Callable[[httpx.Client], Iterator[T]]) -> AsyncGenerator[T, None]:
        """What the iterator gives."""
        items = make(self.http)
        try:
            for item in items:
                yield item
        finally:
            _close(items)

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop

    async def close(self) -> None:
        """Free the connections; idempotent."""
        self.http.close()


class AsyncTransport:
    """For one event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._options = endpoint.options()
        self.http = httpx.AsyncClient(**self._options)

    async def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The response, its body read."""
        return await self.http.request(method, url, **options)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """The response, its body unread unless it is an error's."""
        async with self.http.stream(method, url, **options) as response:
            if response.status_code >= 400:
                await response.aread()
            yield response

    async def lines(self, response: httpx.Response) -> AsyncIterator[str]:
        """The lines of a streamed body as they come."""
        async for line in response.aiter_lines():
            yield line

    def body(self, parts: Iterable[bytes]) -> Any:
        """What is sent as a request's body, bit by bit; read in a thread, for it may come from a file."""
        return _in_thread(parts)

    async def work(self, work: Callable[[httpx.Client], T]) -> T:
        """The result of `work`, which runs in a thread, with a connection of its own."""
        with httpx.Client(**self._options) as http:
            # Cancelled, its connection is closed, which ends what the thread does with it.
            return await asyncio.to_thread(work, http)

    async def items(self, make: Callable[[httpx.Client], Iterator[T]]) -> AsyncGenerator[T, None]:
        """What the iterator gives; it is read in a thread, some items ahead of who takes them."""
        loop = asyncio.get_running_loop()
        with httpx.Client(**self._options) as http:
            items = make(http)
            taken, ended = None, False
            try:
                while not ended:
                    taken = loop.run_in_executor(None, _take, items)
                    some, ended = await asyncio.shield(taken)
                    for item in some:
                        yield item
            finally:
                if taken is None or taken.done():
                    _close(items)
                else:
                    taken.add_done_callback(lambda _: _close(items))

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Free the connections; idempotent."""
        await self.http.aclose()


async def _in_thread(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    iterator = iter(parts)
    while (part := await asyncio.to_thread(next, iterator, None)) is not None:
        yield part


_AT_ONCE: Final = 512
_AT_ONCE_SECONDS: Final = 0.05


def _take(items: Iterator[T]) -> tuple[list[T], bool]:
    """Some items, at least one if there is one, and whether they were the last."""
    some: list[T] = []
    until = time.monotonic() + _AT_ONCE_SECONDS
    for item in items:
        some.append(item)
        if len(some) >= _AT_ONCE or time.monotonic() > until:
            return some, False
    return some, True


def _close(items: Iterator[Any]) -> None:
    if isinstance(items, Generator):
        items.close()


def run(awaitable: Awaitable[T]) -> T:
    """The result of calls on a BlockingTransport."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("something waited for an event loop")


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of calls on a BlockingTransport; closing the iterator closes the connection."""
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())


def passed_on(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A call that waits for nothing, as a method of the other client."""

    def call(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(client.calls, *args, **kwargs)

    functools.update_wrapper(call, method)
    return call


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """A call as a method of a client that blocks."""

    def call(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(client.calls, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def blocking_iterator(
    method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """A call that gives one item after the other, as a method of a client that blocks."""

    def call(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return iterate(method(client.calls, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call
