"""Calls to workers over Wool; a worker that dies or hangs holds nobody up here.

Wool binds a proxy to the task that entered it, raises what gRPC raises, and shows a
stopped worker as a cancellation. Hence every exchange is a child task with a proxy of its
own (about 5 ms; channels are pooled by Wool), and only that task's outcome is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pickle import UnpicklingError
from typing import Any, Final, TypeVar

import grpc
import wool
from wool import protocol

from gooseherd.certs import WORKER_IDENTITY
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, TemporaryCredentials
from gooseherd.domain.errors import AttemptLost, Misconfigured, NotFound, WorkerBusy, WorkerLost
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import ClaimableLink, Workers
from gooseherd.fleet.certificate_expiry import CertificateWatch
from gooseherd.fleet.probe import probe
from gooseherd.worker import routines

log = logging.getLogger(__name__)

T = TypeVar("T")

_CATCH_UP_SECONDS: Final = 1.0
_ABANDON_SECONDS: Final = 2.0
"""How long a cancelled exchange may take to end before it is left to itself."""
_NONSENSE: Final = "the worker gave an answer that is not understood"
_MOST_CHARACTERS: Final = 500


class WoolWorkers(Workers):
    """Workers by their address.

    `silence_seconds`: a watched worker that sends nothing for that long is lost; it is
    asked for heartbeats four times as often. `dispatch_seconds` bounds the time until a
    worker takes a call, `answer_seconds` the time until it answers. `credentials`
    (`Certificates.to_call`) are shown to every worker and expected of it; without them
    the conversation is open, which is for loopback only. With `credentials_of_host`, by
    the host of an address, a worker may show the certificate of its host instead. `watch` notes
    until when what they show is valid.
    """

    def __init__(
        self,
        *,
        silence_seconds: float = 60.0,
        dispatch_seconds: float = 10.0,
        answer_seconds: float = 30.0,
        credentials: wool.WorkerCredentialsProvider | None = None,
        credentials_of_host: Callable[[str], wool.WorkerCredentialsProvider] | None = None,
        watch: CertificateWatch | None = None,
    ) -> None:
        self.watch = watch
        self._identities = _Identities(credentials, credentials_of_host)
        self._silence = silence_seconds
        self._dispatch = dispatch_seconds
        self._answer = answer_seconds

    def connect(self, worker: WorkerHandle) -> AbstractAsyncContextManager[ClaimableLink]:
        """Raises WorkerLost when nothing listens there."""
        return self._connect(worker)

    @asynccontextmanager
    async def _connect(self, worker: WorkerHandle) -> AsyncIterator[ClaimableLink]:
        # A call before the port listens would leave gRPC's pooled channel in backoff for seconds.
        await probe(worker.address)
        if self.watch is not None:
            self.watch.connected(worker.address)
        # Before the child tasks are made, or the first one would be without Wool's context.
        wool.install_task_factory()
        yield _WoolLink(worker, self._silence, self._dispatch, self._answer, self._identities)


_Identity = tuple[str | None, wool.WorkerCredentialsProvider | None]


class _Identities:
    """As whom a worker may show itself: as its host, or with a pair that is any worker's.

    A certificate of a host has no other name, so its key opens no conversation in another host's place.
    """

    def __init__(
        self,
        credentials: wool.WorkerCredentialsProvider | None,
        of_host: Callable[[str], wool.WorkerCredentialsProvider] | None,
    ) -> None:
        self._any_worker: _Identity = (None if credentials is None else WORKER_IDENTITY, credentials)
        self._of_host = of_host
        self._hosts: dict[str, _Identity] = {}
        self._shown: dict[str, _Identity] = {}

    def of(self, address: str) -> list[_Identity]:
        """Those to be tried, first what it was shown to be the last time."""
        if self._of_host is None:
            return [self._any_worker]
        host = address.rpartition(":")[0]
        if host not in self._hosts:
            self._hosts[host] = (host, self._of_host(host))
        both = [self._hosts[host], self._any_worker]
        return both if self._shown.get(address) is not self._any_worker else both[::-1]

    def shown(self, address: str, identity: _Identity) -> None:
        """The worker there has proved to be that."""
        self._shown[address] = identity


class _WoolLink(ClaimableLink):
    def __init__(
        self,
        worker: WorkerHandle,
        silence: float,
        dispatch: float,
        answer: float,
        identities: _Identities,
    ) -> None:
        self._identities = identities
        self._worker = worker
        self._silence = silence
        self._dispatch = dispatch
        self._answer = answer

    async def start_attempt(self, spec: AttemptSpec) -> None:
        message = await self._ask(lambda: routines.start_attempt(spec.to_json()))
        if "busy" in message:
            raise WorkerBusy(str(message["busy"]))
        if "misconfigured" in message:
            raise Misconfigured(str(message["misconfigured"]), str(message.get("problem", "")))
        if "started" not in message:
            raise WorkerLost("the worker is stopping" if "draining" in message else _unexpected(message))

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        message = await self._ask(lambda: routines.cancel_attempt(attempt.job_id, attempt.number))
        if "cancelled" not in message:
            raise WorkerLost(_unexpected(message))

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        message = await self._ask(
            lambda: routines.renew_credentials(attempt.job_id, attempt.number, credentials.to_json())
        )
        if "unknown" in message:
            raise NotFound("attempt", str(attempt))
        if "renewed" not in message:
            raise WorkerLost(_unexpected(message))

    async def describe(self) -> dict[str, Any]:
        return _description(await self._ask(routines.describe))

    async def claim(self, name: str, seconds: float) -> dict[str, Any]:
        return _description(await self._ask(lambda: routines.claim(name, seconds)))

    async def end_worker(self, name: str = "") -> None:
        # Without a name as workers of older builds know it: an operator may end those too.
        _description(await self._ask(lambda: routines.end_worker(name) if name else routines.end_worker()))

    async def keep(self, seconds: float) -> dict[str, Any]:
        return _description(await self._ask(lambda: routines.keep(seconds)))

    async def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        last_message_at = time.monotonic() + self._dispatch
        waited_once = False

        async def read() -> None:
            nonlocal last_message_at
            stream = routines.watch_attempt(attempt.job_id, attempt.number, from_seq, self._silence / 4)
            async for message in stream:
                last_message_at = time.monotonic()
                messages.put_nowait(message)

        reading = asyncio.create_task(self._with_proxy(read))
        reading.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while True:
                try:
                    async with asyncio.timeout(max(0.0, last_message_at + self._silence - time.monotonic())):
                        message = await messages.get()
                except TimeoutError:
                    # What arrived while the caller was busy elsewhere counts.
                    if time.monotonic() < last_message_at + self._silence or not messages.empty():
                        continue
                    if not waited_once:
                        # This process may have been held up, with messages that it has not read yet.
                        waited_once = True
                        await asyncio.sleep(min(_CATCH_UP_SECONDS, self._silence / 4))
                        continue
                    raise WorkerLost(f"no message for {self._silence:g} seconds") from None
                waited_once = False
                if message is None:
                    _outcome(reading)
                    raise WorkerLost("the worker ended the conversation")
                event = _event(message, attempt)
                yield event
                if event.last:
                    return
        finally:
            await _abandon(reading)

    async def _ask(self, call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        asking = asyncio.create_task(self._with_proxy(call))
        try:
            await asyncio.wait({asking}, timeout=self._answer)
            if not asking.done():
                raise WorkerLost(f"no answer within {self._answer:g} seconds")
            message = _outcome(asking)
        finally:
            await _abandon(asking)
        if not isinstance(message, dict):
            raise WorkerLost(_NONSENSE)
        return message

    async def _with_proxy(self, call: Callable[[], Awaitable[T]]) -> T:
        *others, last = self._identities.of(self._worker.address)
        for identity in others:
            try:
                return await self._with_proxy_as(identity, call)
            except wool.NoWorkersAvailable as error:
                # After a handshake that failed nothing was called yet.
                if not isinstance(error.__cause__, wool.HandshakeError):
                    raise
        return await self._with_proxy_as(last, call)

    async def _with_proxy_as(self, expected: _Identity, call: Callable[[], Awaitable[T]]) -> T:
        identity, credentials = expected
        # `uid` is only this proxy's name for it; a static list of one is picklable, which matters
        # because the proxy travels with every call.
        worker = wool.WorkerMetadata(
            uid=uuid.uuid5(uuid.NAMESPACE_URL, self._worker.worker_id),
            address=self._worker.address,
            pid=0,
            version=protocol.__version__,
            secure=credentials is not None,
            identity=identity,
        )
        async with wool.WorkerProxy(workers=[worker], quorum_timeout=self._dispatch, credentials=credentials):
            with wool.RuntimeContext(dispatch_timeout=self._dispatch):
                answer = await call()
        self._identities.shown(self._worker.address, expected)
        return answer


def _outcome(task: asyncio.Task[T]) -> T:
    """Result of a finished exchange; every way a worker can fail is WorkerLost."""
    if task.cancelled():
        # Nobody here cancelled it: the worker is shutting down.
        raise WorkerLost("the worker stopped during the call")
    error = task.exception()
    match error:
        case None:
            return task.result()
        case grpc.RpcError():
            code = error.code().name if hasattr(error, "code") else type(error).__name__
            raise WorkerLost(f"connection broke ({code})") from error
        case wool.NoWorkersAvailable() if isinstance(error.__cause__, wool.HandshakeError):
            raise WorkerLost(
                "TLS handshake failed: its certificate is not that of a worker of ours"
            ) from error
        case wool.NoWorkersAvailable():
            raise WorkerLost("the worker did not take the call") from error
        case ModuleNotFoundError() | AttributeError() | UnpicklingError():
            # Functions go by name: it has not the one that was called, or answers with what we have not.
            raise Misconfigured("build", "the worker runs other code than its caller") from error
        case _:
            raise WorkerLost(f"the call failed ({type(error).__name__})") from error


async def _abandon(task: asyncio.Task[Any]) -> None:
    """End an exchange without letting a worker that hangs hold us up."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_ABANDON_SECONDS)
    if not task.done():
        log.warning("an abandoned call to a worker does not end")
    elif not task.cancelled():
        task.exception()  # Looked at, so that asyncio does not report it as forgotten.


def _description(message: dict[str, Any]) -> dict[str, Any]:
    """As the worker describes itself. Without `instance` it would pass for another worker than before."""
    if "busy" in message:
        raise WorkerBusy(str(message["busy"]))
    if not (message.get("build") and message.get("instance")):
        raise WorkerLost(_unexpected(message))
    return message


def _event(message: dict[str, Any], attempt: AttemptId) -> Event:
    if not isinstance(message, dict):
        raise WorkerLost(_NONSENSE)
    if "event" in message:
        try:
            return Event.from_json(message["event"])
        except (KeyError, TypeError, ValueError):
            raise WorkerLost(_NONSENSE) from None
    if "unknown" in message:
        raise NotFound("attempt", str(attempt))
    if "lost" in message:
        raise AttemptLost(str(message["lost"]))
    raise WorkerLost(_unexpected(message))


def _unexpected(message: dict[str, Any]) -> str:
    return str(message.get("failed") or _NONSENSE)[:_MOST_CHARACTERS]
