"""What /readyz says to whoever asks, and how often it looks; with a database that refuses its password."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.loop import Loop
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.wakeups import Wakeup
from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.domain.errors import GooseherdError, StoreUnavailable
from gooseherd.domain.job import Job
from gooseherd.settings import Settings
from gooseherd.storage.local import LocalFsCache
from gooseherd.telemetry import REGISTRY
from gooseherd.wiring.measuring import measured_store
from gooseherd.wiring.readiness import Readiness
from gooseherd.wiring.store import Store, open_store

pytestmark = pytest.mark.integration


class PasswordedDatabase:
    """A role and a database of its own on the tests' server, whose password can be changed meanwhile."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.name = f"secret_{uuid.uuid4().hex[:12]}"
        server.sql(f"CREATE ROLE {self.name} LOGIN PASSWORD 'first'")
        server.sql(f"CREATE DATABASE {self.name} OWNER {self.name}")
        self._rules = Path(server.sql("SHOW hba_file").strip())
        self._rule = f"local all {self.name} scram-sha-256\n"
        self._rules.write_text(self._rule + self._rules.read_text())
        server.sql("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        return f"postgresql://{self.name}:first@{self.server.url(self.name).partition('@')[2]}"

    def change_password(self) -> None:
        """Connections that are open end, as they do when the server is replaced."""
        self.server.sql(f"ALTER ROLE {self.name} PASSWORD 'second'")
        self.server.sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.name}'"
        )

    def remove(self) -> None:
        self.server.sql(f"DROP DATABASE {self.name} WITH (FORCE)")
        self.server.sql(f"DROP ROLE {self.name}")
        self._rules.write_text(self._rules.read_text().replace(self._rule, ""))


@pytest.fixture
async def refusing(postgres: PostgresServer) -> AsyncIterator[tuple[PasswordedDatabase, Store]]:
    database = await asyncio.to_thread(PasswordedDatabase, postgres)
    try:
        async with open_store(Settings(database_url=database.url, _env_file=None)) as store:
            yield database, store
    finally:
        await asyncio.to_thread(database.remove)


async def test_strangers_read_nothing_of_the_databases_own_words_and_the_log_has_them(
    refusing: tuple[PasswordedDatabase, Store], caplog: pytest.LogCaptureFixture
) -> None:
    database, store = refusing
    assert (await Readiness(store.ping, None).states())["store"] == "ok"
    await asyncio.to_thread(database.change_password)
    caplog.set_level(logging.WARNING)
    states = {"store": "does not answer"}
    for _ in range(20):
        states = dict(await Readiness(store.ping, None).states())
        assert database.name not in str(states)
        if states["store"] != "does not answer":  # as the connections did that had just ended
            break
    assert states["store"].startswith("refuses this service")
    assert any(database.name in getattr(record, "error", "") for record in caplog.records)


async def test_a_store_that_is_away_is_told_in_fixed_words(tmp_path: Path) -> None:
    async def away() -> None:
        raise StoreUnavailable("connect to 10.9.8.7:5432 as herd")

    async def hangs() -> None:
        await asyncio.sleep(3600)

    cache = LocalFsCache(tmp_path / "cache")
    assert await Readiness(away, cache).states() == {
        "store": "does not answer",
        "cache": "ok",
        "workers": "ok",
    }
    assert await Readiness(hangs, cache).states() == {
        "store": "did not answer in 3 s",
        "cache": "ok",
        "workers": "ok",
    }


async def test_however_many_ask_the_dependencies_are_asked_once_a_second() -> None:
    pings, now = 0, 0.0

    async def slow() -> None:
        nonlocal pings, now
        pings += 1
        await asyncio.sleep(0.01)
        now += 2.5  # longer than an answer is kept: whoever waited for it has it all the same
        raise StoreUnavailable("ping")

    readiness = Readiness(slow, None, clock=lambda: now)
    answers = await asyncio.gather(*(readiness.states() for _ in range(50)))
    assert (pings, len(answers)) == (1, 50)
    now += 1.01
    await readiness.states()
    assert pings == 2


async def test_however_many_read_the_metrics_running_jobs_are_read_once_a_second(
    refusing: tuple[PasswordedDatabase, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = refusing
    reads = 0
    at_work = store.jobs.at_work

    async def counted() -> list[Job]:
        nonlocal reads
        reads += 1
        return list(await at_work())

    monkeypatch.setattr(store.jobs, "at_work", counted)
    queue = QueueStatistics(store.jobs, fresh_seconds=3600)
    await asyncio.gather(*(queue.refresh_metrics() for _ in range(20)))
    assert reads == 1


async def test_while_workers_cannot_be_started_it_names_the_setting_and_nothing_of_the_cloud(
    tmp_path: Path,
) -> None:
    async def answers() -> None:
        return

    breaker = LaunchBreaker()
    for _ in range(3):
        breaker.failed("ECS_WORKER_SUBNETS: Error retrieving subnet information for [subnet-0abc]")
    states = await Readiness(answers, LocalFsCache(tmp_path / "cache"), breaker).states()
    assert states["workers"] == "degraded: workers cannot be started: ECS_WORKER_SUBNETS; the log says why"


async def test_a_store_that_refuses_its_password_counts_as_away_everywhere(
    refusing: tuple[PasswordedDatabase, Store], caplog: pytest.LogCaptureFixture
) -> None:
    database, plain = refusing
    store = measured_store(plain)
    await asyncio.to_thread(database.change_password)
    with suppress(GooseherdError):  # a connection that had just ended may be told otherwise
        await store.jobs.at_work()
    before = REGISTRY.get_sample_value(ERRORS, {"part": "jobs", "operation": "at_work"})
    loop: Loop[Any, Any] = Loop(
        "reaper",
        observe=store.jobs.at_work,
        plan=lambda _: (),
        act=_nothing,
        wakeup=Wakeup(),
        tick_seconds=1,
        when_blind=Alert.STORE_AWAY,
    )
    report = await loop.run_once()
    assert not report.seen
    assert [getattr(record, ALERT_FIELD) for record in caplog.records if hasattr(record, ALERT_FIELD)] == [
        Alert.STORE_AWAY
    ]
    assert REGISTRY.get_sample_value(ERRORS, {"part": "jobs", "operation": "at_work"}) == (before or 0) + 1


ERRORS = "gooseherd_store_errors_total"


async def _nothing(_: object) -> None:
    pass
