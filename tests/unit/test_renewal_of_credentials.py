"""Credentials go along with an order, and are renewed for as long as somebody follows the attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gooseherd.control import attempt_credentials
from gooseherd.control.attempt_credentials import AttemptCredentials
from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, TemporaryCredentials
from gooseherd.domain.errors import CacheUnavailable, NotFound, WorkerLost
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.keys import Recipe, artifact_prefix
from gooseherd.domain.ports.credentials import CredentialIssuer
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.source import Dcc, LocalId, SourceFile

SOURCE = SourceFile(Dcc("lab"), LocalId("x"), "x.bed", BED, "https://files.example.org/x.bed", md5="ab" * 16)
RECIPE = Recipe("tabix", "1", BED)
ATTEMPT = AttemptId(JobId("job"), 2)
SPEC = AttemptSpec(ATTEMPT, SOURCE, RECIPE, AttemptLimits(1, 1, 1.0), "build")
WORKER = WorkerHandle(WorkerId("w"), "127.0.0.1:1")


class Issuer(CredentialIssuer):
    def __init__(self) -> None:
        self.asked: list[tuple[AttemptId, str]] = []
        self.failures: list[Exception] = []

    async def issue(self, attempt: AttemptId, prefix: str) -> TemporaryCredentials:
        self.asked.append((attempt, prefix))
        if self.failures:
            raise self.failures.pop(0)
        return TemporaryCredentials(f"KEY{len(self.asked)}", "the-secret", "the-token", 1e10)


class Link:
    """Of a worker; the failures come first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.got: asyncio.Queue[str] = asyncio.Queue()

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        if self.failures:
            raise self.failures.pop(0)
        assert attempt == ATTEMPT
        self.got.put_nowait(credentials.key_id)

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[Any]:
        assert worker == WORKER
        yield self


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_RENEW_SECONDS", "_RETRY_SECONDS", "_NOT_STARTED_SECONDS"):
        monkeypatch.setattr(attempt_credentials, name, 0.001)


class Followed:
    """What renewing needs of a job."""

    job_id, attempt, source, recipe = ATTEMPT.job_id, ATTEMPT.number, SOURCE, RECIPE


async def renewed(link: Link, issuer: Issuer, times: int, *, at_once: bool = True) -> list[str]:
    workers: Workers = link
    renewing = asyncio.create_task(
        AttemptCredentials(workers, issuer).keep_renewed(Followed(), WORKER, at_once=at_once)  # type: ignore[arg-type]
    )
    try:
        return [await asyncio.wait_for(link.got.get(), 10) for _ in range(times)]
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def test_an_order_gets_credentials_for_its_artifact_alone() -> None:
    issuer = Issuer()
    order = await AttemptCredentials(Link(), issuer).added_to(SPEC)
    assert order.credentials is not None
    assert issuer.asked == [(ATTEMPT, artifact_prefix(SOURCE.identity, RECIPE))]
    assert AttemptSpec.from_json(order.to_json()) == order
    assert "the-secret" not in repr(order)


async def test_without_an_issuer_an_order_has_none_and_nothing_is_renewed() -> None:
    credentials = AttemptCredentials(Link(), None)
    assert await credentials.added_to(SPEC) == SPEC
    assert "credentials" not in SPEC.to_json()
    await credentials.keep_renewed(Followed(), WORKER, at_once=True)  # type: ignore[arg-type]


async def test_they_are_renewed_again_and_again() -> None:
    assert await renewed(Link(), Issuer(), 3) == ["KEY1", "KEY2", "KEY3"]


async def test_what_fails_is_tried_again() -> None:
    issuer = Issuer()
    issuer.failures = [CacheUnavailable("sts"), RuntimeError("a defect")]
    link = Link(WorkerLost("gone for a moment"), NotFound("attempt", "not started yet"))
    assert await renewed(link, issuer, 1) == ["KEY5"]
