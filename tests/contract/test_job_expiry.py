"""In MongoDB the server itself forgets ended jobs, by a date that their end writes down."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.contract.test_job_store import BROKEN, DIGEST, HERE, LONG, submission

from gooseherd.domain.job import Fence
from gooseherd.domain.states import Status
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.jobs import MongoJobs

pytestmark = pytest.mark.integration

KEPT = timedelta(days=30)


async def expiries(database: Database) -> dict[str, Any]:
    return {job["_id"]: job.get("expires_at") for job in await database["jobs"].find().to_list()}


async def test_a_job_s_end_says_when_it_goes_and_a_live_one_says_nothing(database: Database) -> None:
    jobs = MongoJobs(database, keep_ended=KEPT)
    for name in ("pending", "running", "completed", "failed", "cancelled", "expired"):
        job = (await jobs.claim_workflow(submission(name, job_id=name))).job
        if name in ("running", "completed", "failed"):
            assert await jobs.lease(job, HERE, LONG) is not None
        if name == "completed":
            await jobs.begin_finalize(job.job_id, Fence(1))
            await jobs.finalize(job.job_id, Fence(1), DIGEST, [])
        elif name == "failed":
            await jobs.release_workflow(job.job_id, Fence(1), Status.FAILED, BROKEN)
        elif name == "cancelled":
            await jobs.request_cancel(job.job_id, None)
        elif name == "expired":
            older = {"$set": {"created_at": job.created_at - LONG}}
            await database["jobs"].update_one({"_id": name}, older)
            await jobs.expire(job.created_at, 1)
    found = await expiries(database)
    assert {name for name, moment in found.items() if moment is None} == {"pending", "running"}
    for name in ("completed", "failed", "cancelled", "expired"):
        ended = await database["jobs"].find_one({"_id": name})
        assert ended is not None
        assert found[name] - ended["finished_at"] == KEPT


async def test_without_a_time_to_keep_them_ended_jobs_stay(database: Database) -> None:
    jobs = MongoJobs(database)
    job = (await jobs.claim_workflow(submission("key"))).job
    await jobs.request_cancel(job.job_id, None)
    assert await expiries(database) == {job.job_id: None}


async def test_the_server_s_index_goes_by_that_date(database: Database) -> None:
    index = (await database["jobs"].index_information())["ended"]
    assert (list(index["key"]), index["expireAfterSeconds"]) == ([("expires_at", 1)], 0)
