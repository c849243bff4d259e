"""What an API process is to the simulation: where calls come from, and what can die in any of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

T = TypeVar("T")

LATENCY_SECONDS: Final = 0.03
"""A call takes up to so long, half of it before it takes effect."""

_current: ContextVar[Process | None] = ContextVar("process", default=None)


class Killed(asyncio.CancelledError):
    """The process this call came from is dead: nothing of it goes on, and nobody handles that."""


class Process:
    """One life of one API process. Every call to the world outside goes through `call`."""

    def __init__(self, name: str, chance: random.Random, *, latency: float = LATENCY_SECONDS) -> None:
        self.name = name
        self.dead = False
        self._chance = chance
        self._latency = latency
        self._running = asyncio.Event()
        self._running.set()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """In the order in which they were started: a schedule happens the same way each time."""

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it as this process's; what it starts is this process's too."""
        token = _current.set(self)
        try:
            return asyncio.get_running_loop().create_task(coroutine)
        finally:
            _current.reset(token)

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """A call that takes a while and has its effect at its beginning or at its end."""
        late = self._chance.random() < 0.5
        if late:
            await self._pass_time()
        elif self.dead:
            raise Killed
        await self._while_paused()
        result = await work()
        if not late:
            await self._pass_time()
        await self._while_paused()
        return result

    async def _pass_time(self) -> None:
        if self._latency:
            await asyncio.sleep(self._chance.random() * self._latency)
        if self.dead:
            raise Killed

    async def _while_paused(self) -> None:
        while not self._running.is_set():
            await self._running.wait()
            if self.dead:
                raise Killed

    def pause(self) -> None:
        """As SIGSTOP: nothing takes effect, time goes on."""
        self._running.clear()

    def go_on(self) -> None:
        """As SIGCONT."""
        self._running.set()

    async def kill(self) -> None:
        """As SIGKILL: no call of it takes effect any more."""
        self.dead = True
        self._running.set()
        while tasks := [task for task in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=60)

    def own(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if self.dead and not task.cancelled():
            task.exception()  # Looked at: how a dead process ended is of no interest.


def outside(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run it as nobody's: it outlives the process whose call began it."""
    token = _current.set(None)
    try:
        return asyncio.get_running_loop().create_task(coroutine)
    finally:
        _current.reset(token)


def note_owners(loop: asyncio.AbstractEventLoop) -> None:
    """From now on each new task belongs to the process whose task started it."""

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        if (process := _current.get()) is not None:
            process.own(task)
        return task

    loop.set_task_factory(make)
