"""Jobs that ended long ago, for retention to forget while everything dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import insert
from tests.faults.campaign.deployment import DATABASE

from gooseherd.domain import formats
from gooseherd.domain.job import JobId, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.rows import new_job
from gooseherd.store.sql.schema import jobs as jobs_table

_MARK: Final = "ended-long-ago-"
_AGE: Final = timedelta(days=400)


def plant(url: str, count: int) -> None:
    """So many, each with a requester and a workflow key of its own."""

    async def put() -> None:
        database = await open_database(url, DATABASE)
        try:
            then = await SqlJobs(database).now() - _AGE
            rows = [_ended(f"{_MARK}{number}", then) for number in range(count)]
            await database.write("plant", lambda tx: tx.connection.execute(insert(jobs_table), rows).close())
        finally:
            await database.close()

    asyncio.run(put())


def _ended(name: str, then: datetime) -> dict[str, Any]:
    source = SourceFile(Dcc("t"), LocalId(name), name, formats.BED, "https://example.org/x")
    recipe = Recipe("bed", "1", formats.BED)
    wanted = Submission(JobId(name), WorkflowKey(name), source, recipe, Priority.NORMAL, Requester(name))
    ended = {"active": False, "status": "cancelled", "reason": "cancelled", "finished_at": then}
    return {**new_job(wanted, then, 0), **ended}


def kept(ids: Iterable[str]) -> list[str]:
    """Those that are still there although a pass of retention takes seconds."""
    return [f"{job} ended more than a year ago, and is still there" for job in ids if job.startswith(_MARK)]
