"""Several processes at one store: one winner per key, one holder per fence."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import pytest

from gooseherd.domain.states import Status

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROCESSES = 4
KEYS = 12

CONTENDER = """
import asyncio, json, sys
from datetime import timedelta
from gooseherd.domain import formats
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile

async def open_jobs(url, name):
    if url.startswith("mongodb"):
        from gooseherd.store.mongo.connect import connect
        from gooseherd.store.mongo.jobs import MongoJobs
        db = connect(url, name)
        return MongoJobs(db), db.client.close
    from gooseherd.store.sql.connect import open_database
    from gooseherd.store.sql.jobs import SqlJobs
    db = await open_database(url, name)
    return SqlJobs(db), db.close

URL, NAME, ME, KEYS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
SOURCE = SourceFile(Dcc("4dn"), LocalId("f"), "f.bam", formats.BAM, "https://example.org/f.bam", md5="0" * 32)
LOST = Failure(Reason.WORKER_LOST, "gone")

async def contend():
    jobs, close = await open_jobs(URL, NAME)
    await jobs.now()
    print("ready", flush=True)
    sys.stdin.readline()

    async def claim(number):
        return await jobs.claim_workflow(Submission(
            JobId(f"{number:03}-{ME}"), WorkflowKey(f"key-{number}"), SOURCE, Recipe("bam", "1", formats.BAM),
            Priority.NORMAL, Requester(ME),
        ))

    claims = await asyncio.gather(*map(claim, range(KEYS)))
    leased = []
    idle = 0
    while idle < 3:
        due = await jobs.due(4)
        idle = 0 if due else idle + 1
        for job in due:
            held = await jobs.lease(job, Owner(ME), timedelta(hours=1))
            if held is None:
                continue
            leased.append((held.job_id, held.fence))
            if held.attempt < 2:
                await jobs.requeue(held.job_id, held.fence, LOST, timedelta(0))
    await close()
    print(json.dumps({"made": [c.job.job_id for c in claims if c.created],
                      "holders": [c.job.job_id for c in claims], "leased": leased}))

asyncio.run(contend())
"""


async def test_four_processes_agree_on_one_job_per_key_and_one_holder_per_fence(store):
    contenders = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CONTENDER, store.url, store.name, f"p{number}", str(KEYS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]
    for contender in contenders:
        assert contender.stdout is not None
        assert await contender.stdout.readline() == b"ready\n"
    output = [
        json.loads(out) for out, _ in await asyncio.gather(*(c.communicate(b"go\n") for c in contenders))
    ]

    made = [job_id for one in output for job_id in one["made"]]
    assert sorted(job_id[:3] for job_id in made) == [f"{n:03}" for n in range(KEYS)]
    for one in output:
        assert set(one["holders"]) == set(made)

    leases = Counter((job_id, fence) for one in output for job_id, fence in one["leased"])
    assert leases == {(job_id, fence): 1 for job_id in made for fence in (1, 2)}

    jobs = store.jobs
    assert await jobs.counts() == {Status.PENDING: 0, Status.RUNNING: KEYS, Status.FINALIZING: 0}
    for job_id in made:
        assert len((await jobs.get(job_id)).requesters) == PROCESSES
