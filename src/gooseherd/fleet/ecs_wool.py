"""The fleet as Wool wants to see it: streams of workers coming and going, one for each subscriber."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import wool
from wool import protocol

from gooseherd.certs import WORKER_IDENTITY
from gooseherd.domain.job import WorkerId


class Seen(Protocol):
    """What a stream is made of."""

    sweeps: int

    def healthy(self) -> dict[WorkerId, str]:
        """Healthy workers and their host:port."""
        ...

    async def changed(self) -> None:
        """Return at the next change of anything."""
        ...

    def start(self) -> None:
        """Begin to look."""
        ...


class _Nowhere:
    """Wool asks every discovery for a publisher; workers of a fleet announce nothing."""

    bind_host = "127.0.0.1"

    async def publish(self, type: str, metadata: Any) -> None:  # noqa: A002
        """Nothing."""


class _Silence:
    """What a subscriber becomes on the wire: a worker that got one with its call discovers nobody."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield


def _silence() -> _Silence:
    return _Silence()


class Subscriber:
    """Each iteration is independent, begins with the workers of now, and never ends or raises."""

    def __init__(self, seen: Seen, filter: Callable[[Any], bool] | None, *, secure: bool) -> None:  # noqa: A002
        self._seen = seen
        self._filter = filter
        self._secure = secure

    def __reduce__(self) -> tuple[Callable[[], _Silence], tuple[()]]:
        """It travels with every call that is dispatched through it."""
        return (_silence, ())

    async def __aiter__(self) -> AsyncIterator[Any]:
        self._seen.start()
        known: dict[WorkerId, Any] = {}
        sweeps = self._seen.sweeps
        while True:
            # Differences to what this stream has told, so one that is slow misses nothing and queues nothing.
            current = {
                worker_id: metadata
                for worker_id, address in self._seen.healthy().items()
                if self._wanted(metadata := self._metadata(worker_id, address))
            }
            events = [
                *(
                    wool.DiscoveryEvent("worker-dropped", metadata=known[w])
                    for w in known.keys() - current.keys()
                ),
                *(
                    wool.DiscoveryEvent("worker-updated" if w in known else "worker-added", metadata=metadata)
                    for w, metadata in current.items()
                    # Said again after each sweep: Wool drops a worker that refused a call, for good.
                    if known.get(w) != metadata or sweeps != self._seen.sweeps
                ),
            ]
            known, sweeps = current, self._seen.sweeps
            for event in events:
                yield event
            if not events:
                await self._seen.changed()

    def _metadata(self, worker_id: WorkerId, address: str) -> Any:
        return wool.WorkerMetadata(
            # A name for Wool's books only; whoever dispatches does not compare it.
            uid=uuid.uuid5(uuid.NAMESPACE_URL, worker_id),
            address=address,
            pid=0,
            version=protocol.__version__,
            tags=frozenset({worker_id}),
            secure=self._secure,
            identity=WORKER_IDENTITY if self._secure else None,
        )

    def _wanted(self, metadata: Any) -> bool:
        return self._filter is None or bool(self._filter(metadata))


class DiscoveryStream:
    """Makes subscribers. `secure`: the caller has credentials, Wool wants both to say the same."""

    def __init__(self, seen: Seen, *, secure: bool) -> None:
        self._seen = seen
        self._secure = secure
        self.publisher = _Nowhere()

    def subscribe(self, filter: Callable[[Any], bool] | None) -> Subscriber:  # noqa: A002
        """A stream of those healthy workers that pass the filter."""
        return Subscriber(self._seen, filter, secure=self._secure)
