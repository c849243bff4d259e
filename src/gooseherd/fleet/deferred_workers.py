"""WoolWorkers that are loaded when the first worker is spoken to.

Wool and gRPC are 19 MB and a tenth of a second, which a service that only answers requests never needs.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import WorkerLink, Workers


class DeferredWoolWorkers(Workers):
    """Local workers, without credentials; see WoolWorkers."""

    def __init__(self, *, silence_seconds: float) -> None:
        self._silence_seconds = silence_seconds
        self._workers: Workers | None = None
        self._loading = asyncio.Lock()

    def connect(self, worker: WorkerHandle) -> AbstractAsyncContextManager[WorkerLink]:
        return self._connect(worker)

    @asynccontextmanager
    async def _connect(self, worker: WorkerHandle) -> AsyncIterator[WorkerLink]:
        async with (await self._loaded()).connect(worker) as link:
            yield link

    async def _loaded(self) -> Workers:
        async with self._loading:
            if self._workers is None:
                # In a thread: requests are answered meanwhile.
                module = await asyncio.to_thread(importlib.import_module, "gooseherd.fleet.wool_workers")
                self._workers = module.WoolWorkers(silence_seconds=self._silence_seconds)
            return self._workers
