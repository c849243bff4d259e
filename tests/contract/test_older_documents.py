"""Documents of versions before the present one are read, and go on where they were."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gooseherd.domain import formats
from gooseherd.domain.job import JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.mongo.jobs import MongoJobs
from gooseherd.store.mongo.schema import JOBS, rank_older_jobs

pytestmark = pytest.mark.integration

SOURCE = SourceFile(Dcc("4dn"), LocalId("f"), "f.bam", formats.BAM, "https://example.org/f.bam", md5="0" * 32)


async def test_jobs_from_before_ranks_go_by_priority_and_age(database):
    jobs = MongoJobs(database)
    for number, priority in enumerate([Priority.BATCH, Priority.NORMAL, Priority.NORMAL]):
        name = f"j{number}"
        recipe = Recipe("bam", "1", formats.BAM)
        await jobs.claim_workflow(
            Submission(JobId(name), WorkflowKey(name), SOURCE, recipe, priority, Requester("anne"))
        )
    new = ("rank", "queued_for", "running_slot", "holds_slot")
    await database[JOBS].update_many({}, {"$unset": dict.fromkeys(new, "")})
    assert {job.rank for job in await jobs.due(9)} == {0}
    await rank_older_jobs(database)
    await rank_older_jobs(database)
    due = await jobs.due(9)
    assert [job.job_id for job in due] == ["j1", "j2", "j0"]
    assert {job.queued_for for job in due} == {"anne"}
    assert await jobs.position(due[2]) == 2
    assert await jobs.lease(due[0], Owner("here"), timedelta(hours=1), 1) is not None
    assert await jobs.lease(due[1], Owner("here"), timedelta(hours=1), 1) is None
