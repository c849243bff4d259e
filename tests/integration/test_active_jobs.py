"""The limit of jobs in all: how many there are is counted when it matters, not at each submission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import event

from gooseherd.control.active_jobs import ActiveJobs
from gooseherd.control.limited_claims import Count
from gooseherd.domain import formats
from gooseherd.domain.errors import LimitReached
from gooseherd.domain.job import JobId, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration


@dataclass
class Town:
    """A store, what was asked of it, and a clock that stands until it is moved."""

    jobs: SqlJobs
    statements: list[str] = field(default_factory=list)
    seconds: float = 0.0

    async def submit(self, name: str) -> None:
        source = SourceFile(
            Dcc("4dn"), LocalId(name), "f.bam", formats.BAM, "https://example.org/f", md5="0" * 32
        )
        recipe = Recipe("bam", "1", formats.BAM)
        wanted = Submission(
            JobId(name), WorkflowKey(name), source, recipe, Priority.NORMAL, Requester("anne")
        )
        await self.jobs.claim_workflow(wanted)

    @property
    def counted(self) -> int:
        return sum("group by" in statement.lower() for statement in self.statements)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    made = Town(SqlJobs(database))
    event.listen(
        database._engine, "before_cursor_execute", lambda *of_call: made.statements.append(of_call[2])
    )
    yield made
    await database.close()


async def test_far_from_the_limit_they_are_counted_once_a_second(town: Town) -> None:
    active = ActiveJobs(town.jobs, 5000, lambda: town.seconds)
    await town.submit("a")
    for _ in range(9):
        async with active.claiming(await active.counted()):
            pass
    assert town.counted == 1
    town.seconds = 2.0
    await active.counted()
    assert town.counted == 2


async def test_far_from_the_limit_nobody_waits_for_anothers_claim(town: Town) -> None:
    active = ActiveJobs(town.jobs, 5000, lambda: town.seconds)
    first, second = await active.counted(), await active.counted()
    async with active.claiming(first), asyncio.timeout(30), active.claiming(second):
        pass


async def test_what_this_process_claims_brings_it_near_the_limit_at_once(town: Town) -> None:
    active = ActiveJobs(town.jobs, 1002, lambda: town.seconds)
    assert await active.counted() is None
    async with active.claiming(None), active.claiming(None):
        assert await active.counted() == Count(0, 0)  # they are under way
    assert await active.counted() == Count(0, 0)
    town.seconds = 2.0
    assert await active.counted() is None  # nothing came of them


async def test_near_the_limit_others_jobs_are_counted_at_once(town: Town) -> None:
    active = ActiveJobs(town.jobs, 1002, lambda: town.seconds)
    await town.submit("a")
    await town.submit("b")
    assert await active.counted() == Count(2, 0)
    await town.submit("c")  # another process's
    assert await active.counted() == Count(3, 0)


async def test_a_limit_that_is_smaller_than_what_comes_in_a_second_is_always_exact(town: Town) -> None:
    active = ActiveJobs(town.jobs, 3, lambda: town.seconds)
    before = await active.counted()
    for name in "abc":
        async with active.claiming(before):
            await town.submit(name)
    with pytest.raises(LimitReached):
        async with active.claiming(before):
            await town.submit("one too many")
    assert sum((await town.jobs.counts()).values()) == 3
