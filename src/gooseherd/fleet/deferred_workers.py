"""WoolWorkers that are loaded when the first worker is spoken to.

Wool and gRPC are 19 MB and a tenth of a second, which a service that only answers requests never needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import WorkerLink, Workers
from gooseherd.fleet.local_certificates import LocalCertificates


class DeferredWoolWorkers(Workers):
    """Local workers; see WoolWorkers."""

    def __init__(self, *, silence_seconds: float, certificates: LocalCertificates) -> None:
        self._silence_seconds = silence_seconds
        self._certificates = certificates
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
                self._workers = await asyncio.to_thread(self._load)
            return self._workers

    def _load(self) -> Workers:
        from gooseherd.fleet.wool_workers import WoolWorkers

        credentials = self._certificates.of_callers().to_call()
        return WoolWorkers(silence_seconds=self._silence_seconds, credentials=credentials)
