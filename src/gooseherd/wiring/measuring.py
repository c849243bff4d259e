"""Ports that are measured: how long each call takes, and which are not answered. Whoever uses them sees no
difference, and neither does the adapter behind.
"""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from prometheus_client import Counter, Histogram

from gooseherd import __version__, telemetry
from gooseherd.blocking import in_thread
from gooseherd.domain.errors import Misconfigured, Unavailable
from gooseherd.domain.ports.cache import CacheBackend, LocalObjects
from gooseherd.settings import Settings
from gooseherd.wiring.store import Store
from gooseherd.worker.settings import build_id

P = TypeVar("P")
T = TypeVar("T")

_READS: Final = frozenset({"get", "list"})
"""Of a cache: what answers with an iterator; `spans` reads nothing."""


def measured_store(store: Store) -> Store:
    """The same store, every call of its parts measured."""
    parts = {
        part: _measured(getattr(store, part), part, telemetry.STORE_DURATION, telemetry.STORE_ERRORS)
        for part in (field.name for field in fields(store) if field.name != "ping")
    }
    return replace(store, **parts)


def measured_cache(cache: CacheBackend) -> CacheBackend:
    """The same cache; reading is measured until the first bytes are there."""
    storage = "local" if isinstance(cache, LocalObjects) else "s3"
    return _measured(cache, storage, telemetry.STORAGE_DURATION, telemetry.STORAGE_ERRORS, _READS)


def describe_process(settings: Settings) -> None:
    """What never changes while the process runs."""
    telemetry.BUILD_INFO.labels(__version__, build_id(), str(settings.profile)).set(1)
    telemetry.ATTEMPT_LIMIT.set(settings.workflow_duration_cap_seconds)


def file_systems(settings: Settings) -> Callable[[], Awaitable[None]]:
    """Sets the gauges of the folders that this service writes to; what cannot be read stays as it was."""
    folders = {"state": settings.gooseherd_state_dir}
    if settings.artifacts_dir is not None:
        folders["artifacts"] = settings.artifacts_dir

    async def refresh() -> None:
        for name, folder in folders.items():
            with suppress(OSError):
                await in_thread(_set_file_system, name, folder)

    return refresh


def _set_file_system(name: str, folder: Path) -> None:
    usage = shutil.disk_usage(folder)
    telemetry.FILESYSTEM_SIZE.labels(name).set(usage.total)
    telemetry.FILESYSTEM_FREE.labels(name).set(usage.free)


def _measured(
    port: P, name: str, durations: Histogram, errors: Counter, reads: frozenset[str] = frozenset()
) -> P:
    return cast("P", _Measured(port, name, durations, errors, reads))


class _Measured:
    """Has every public method of what it measures as an attribute of its own: checks by Protocol see them."""

    def __init__(
        self, port: object, name: str, durations: Histogram, errors: Counter, reads: frozenset[str]
    ) -> None:
        self._port = port
        for method, function in inspect.getmembers(type(port), inspect.isfunction):
            if method.startswith("_"):
                continue
            bound = getattr(port, method)
            call = _Call(durations.labels(name, method), errors.labels(name, method))
            if inspect.iscoroutinefunction(function):
                setattr(self, method, call.awaited(bound))
            elif method in reads:
                setattr(self, method, call.iterated(bound))
            else:  # It waits for nothing, or is the quick way, which is not to be slowed down.
                setattr(self, method, bound)

    def __getattr__(self, name: str) -> Any:
        """What is no method, such as a property."""
        return getattr(self._port, name)


class _Call:
    """One operation of one port."""

    def __init__(self, duration: Any, errors: Any) -> None:
        self._duration = duration
        self._errors = errors

    def awaited(self, function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """A call that answers once."""

        @wraps(function)
        async def measured(*args: Any, **kwargs: Any) -> T:
            return await self.timed(function(*args, **kwargs))

        return measured

    async def timed(self, answer: Awaitable[T]) -> T:
        """The answer, which takes as long as it takes."""
        began = time.perf_counter()
        try:
            return await answer
        except (Unavailable, Misconfigured):  # It did not answer, or refused these credentials.
            self._errors.inc()
            raise
        finally:
            self._duration.observe(time.perf_counter() - began)

    def iterated(self, function: Callable[..., AsyncIterator[T]]) -> Callable[..., AsyncIterator[T]]:
        """A call that answers with an iterator."""

        @wraps(function)
        def measured(*args: Any, **kwargs: Any) -> AsyncIterator[T]:
            return _FirstTimed(function(*args, **kwargs), self)

        return measured


class _FirstTimed(Generic[T]):
    """An async iterator whose first item is timed; the others, and closing, are the iterator's own."""

    def __init__(self, items: AsyncIterator[T], call: _Call) -> None:
        self._items = items
        self._call: _Call | None = call

    def __aiter__(self) -> _FirstTimed[T]:
        return self

    def __anext__(self) -> Awaitable[T]:
        call, self._call = self._call, None
        following = self._items.__anext__()
        return following if call is None else call.timed(following)

    async def aclose(self) -> None:
        """Free what the iterator holds."""
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()
