"""How an attempt is started on a worker, watched and cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, TemporaryCredentials
from gooseherd.domain.ports.fleet import WorkerHandle


class WorkerLink(Protocol):
    """A conversation with one worker. All methods raise WorkerLost when it does not answer."""

    async def start_attempt(self, spec: AttemptSpec) -> None:
        """Start the attempt; again for the same attempt changes nothing.

        Raises:
            WorkerBusy: it runs another attempt.
            Misconfigured: another build, or settings that cannot work.
        """
        ...

    def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        """The attempt's events from that position on, to the last one; heartbeats when nothing happens.

        Raises:
            NotFound: the worker knows no such attempt.
            WorkerLost: the worker or the attempt's process ended without a last event.
        """
        ...

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        """End the attempt's process group; returns when it is gone. Unknown attempts are fine."""
        ...

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        """Replace those of a running attempt. Raises NotFound when the worker knows no such attempt."""
        ...

    async def keep(self, seconds: float) -> Mapping[str, Any]:
        """For so long from now on it does not end for being idle; the last call counts. As `describe`."""
        ...

    async def describe(self) -> Mapping[str, Any]:
        """The worker's `build`, `uptime_seconds`, `attempts` at work (names) and whether it is `draining`.

        `instance` is another one after each start of the worker; `claimed_by` names who has claimed it.
        """
        ...


class ClaimableLink(WorkerLink, Protocol):
    """One with a worker that several services may use."""

    async def claim(self, name: str, seconds: float) -> Mapping[str, Any]:
        """For so long it starts no attempt but `name`; 0 gives the claim back. As `describe`.

        Raises:
            WorkerBusy: it works, or is claimed, for another.
        """
        ...

    async def end_worker(self, name: str = "") -> None:
        """Let the worker end in order; its attempt ends as drained.

        Raises:
            WorkerBusy: a `name` was given, and it works, or is claimed, for another.
        """
        ...


class Workers(Protocol):
    """How to talk to workers. Enter the link in the task that uses it."""

    def connect(self, worker: WorkerHandle) -> AbstractAsyncContextManager[WorkerLink]:
        """Open a link; closing it leaves the attempt running."""
        ...


class ClaimableWorkers(Protocol):
    """The same for workers that several services may use."""

    def connect(self, worker: WorkerHandle) -> AbstractAsyncContextManager[ClaimableLink]:
        """Open a link; closing it leaves the attempt running."""
        ...
