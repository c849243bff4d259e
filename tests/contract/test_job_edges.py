"""The table of edges (store/edges.py) against each store: every edge from every state, with both fences."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from gooseherd.domain import formats
from gooseherd.domain.errors import LeaseLost, NotCancellable, StillWanted
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Fence, Job, JobId, Owner, Progress, Requester, Submission, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import ACTIVE, Status, may
from gooseherd.store import edges
from gooseherd.store.edges import Edge, LeaseState

pytestmark = pytest.mark.integration

ANNE, BERT = Requester("anne"), Requester("bert")
HERE, THERE = Owner("here"), Owner("there")
LONG, OVER = timedelta(hours=1), timedelta(0)
LOST = Failure(Reason.WORKER_LOST, "gone")
BROKEN = Failure(Reason.TOOL_FAILED, "exit 1")
SOURCE = SourceFile(Dcc("4dn"), LocalId("f"), "f.bam", formats.BAM, "https://example.org/f.bam", md5="0" * 32)
_number = itertools.count()
UNWANTED = "running, unwanted"


async def pending(jobs: JobStore) -> Job:
    number = next(_number)
    wanted = Submission(
        JobId(f"j{number:04}"), WorkflowKey(f"k{number:04}"), SOURCE, Recipe("bam", "1", formats.BAM),
        Priority.NORMAL, ANNE,
    )  # fmt: skip
    await jobs.claim_workflow(wanted)
    job = await jobs.attach(wanted.workflow_key, BERT, Priority.NORMAL)
    assert job is not None
    return job


async def running(jobs: JobStore, ttl: timedelta = LONG) -> Job:
    # Leased twice, so that one fence less is one that somebody had.
    first = await jobs.lease(await pending(jobs), HERE, LONG)
    assert first is not None
    held = await jobs.lease(await jobs.requeue(first.job_id, first.fence, LOST, OVER), HERE, ttl)
    assert held is not None
    return held


async def finalizing(jobs: JobStore, ttl: timedelta = LONG) -> Job:
    job = await running(jobs, ttl)
    await jobs.begin_finalize(job.job_id, job.fence)
    return await again(jobs, job)


async def completed(jobs: JobStore) -> Job:
    job = await finalizing(jobs)
    await jobs.finalize(job.job_id, job.fence, "d" * 64, [])
    return await again(jobs, job)


async def unwanted(jobs: JobStore) -> Job:
    return await jobs.request_cancel((await running(jobs)).job_id, None)


async def released(jobs: JobStore, status: Status) -> Job:
    job = await (unwanted if status is Status.CANCELLED else running)(jobs)
    return await jobs.release_workflow(job.job_id, job.fence, status, LOST)


async def handed_over(jobs: JobStore, job: Job) -> Job:
    await jobs.hand_over(HERE)
    return await again(jobs, job)


async def again(jobs: JobStore, job: Job) -> Job:
    found = await jobs.get(job.job_id)
    assert found is not None
    return found


STATES: dict[str, Callable[[JobStore], Awaitable[Job]]] = {
    "pending": pending,
    "running": running,
    "running, lease over": lambda jobs: running(jobs, OVER),
    "running, handed over": lambda jobs: _then(running, jobs),
    UNWANTED: unwanted,
    "finalizing": finalizing,
    "finalizing, lease over": lambda jobs: finalizing(jobs, OVER),
    "finalizing, handed over": lambda jobs: _then(finalizing, jobs),
    "completed": completed,
    "failed": lambda jobs: released(jobs, Status.FAILED),
    "cancelled": lambda jobs: released(jobs, Status.CANCELLED),
}


async def _then(make: Callable[[JobStore], Awaitable[Job]], jobs: JobStore) -> Job:
    return await handed_over(jobs, await make(jobs))


Call = Callable[[JobStore, Job, Fence], Awaitable[bool]]
CALLS: dict[str, Call] = {}


def calling(edge: Edge) -> Callable[[Call], Call]:
    def keep(call: Call) -> Call:
        CALLS[edge.name] = call
        return call

    return keep


@calling(edges.ATTACH)
async def _(jobs, job, fence):
    return await jobs.attach(job.workflow_key, Requester("carl"), Priority.NORMAL) is not None


@calling(edges.LEASE)
async def _(jobs, job, fence):
    return await jobs.lease(replace(job, fence=fence), THERE, LONG) is not None


@calling(edges.ADOPT)
async def _(jobs, job, fence):
    return await jobs.adopt(job.job_id, fence, THERE, LONG) is not None


@calling(edges.RENEW)
async def _(jobs, job, fence):
    return (await jobs.renew(job.job_id, fence, LONG)).wanted


@calling(edges.SHORTEN_LEASE)
async def _(jobs, job, fence):
    return await jobs.shorten_lease(job.job_id, fence, None, "gone")


@calling(edges.ASSIGN_WORKER)
async def _(jobs, job, fence):
    await jobs.assign_worker(job.job_id, fence, WorkerId("w"))
    return True


@calling(edges.PROGRESS)
async def _(jobs, job, fence):
    await jobs.record_progress(job.job_id, fence, Progress("sort", 50))
    return True


@calling(edges.STEP_COMPLETE)
async def _(jobs, job, fence):
    await jobs.record_step_complete(job.job_id, fence, "sort", [])
    return True


@calling(edges.BEGIN_FINALIZE)
async def _(jobs, job, fence):
    await jobs.begin_finalize(job.job_id, fence)
    return job.status is not Status.FINALIZING  # again by the same holder is no error and no edge


@calling(edges.FINALIZE)
async def _(jobs, job, fence):
    await jobs.finalize(job.job_id, fence, "e" * 64, [])
    return True


@calling(edges.FAIL)
async def _(jobs, job, fence):
    await jobs.release_workflow(job.job_id, fence, Status.FAILED, BROKEN)
    return True


@calling(edges.CANCEL)
async def _(jobs, job, fence):
    await jobs.release_workflow(job.job_id, fence, Status.CANCELLED, BROKEN)
    return True


@calling(edges.REQUEUE)
async def _(jobs, job, fence):
    await jobs.requeue(job.job_id, fence, BROKEN, OVER)
    return True


@calling(edges.WITHDRAW)
async def _(jobs, job, fence):
    return (await jobs.request_cancel(job.job_id, ANNE)).requesters == (BERT,)


@calling(edges.CANCEL_PENDING)
async def _(jobs, job, fence):
    return (await jobs.request_cancel(job.job_id, None)).status is Status.CANCELLED


@calling(edges.EXPIRE)
async def _(jobs, job, fence):
    ended = await jobs.expire(await jobs.now() + LONG, 99)
    return job.job_id in {expired.job_id for expired in ended}


@calling(edges.HAND_OVER)
async def _(jobs, job, fence):
    return await jobs.hand_over(HERE) == 1


def allowed(edge: Edge, state: str, status: Status, right_fence: bool) -> bool:
    """What the table says."""
    lease = {
        LeaseState.ANY: True,
        LeaseState.HELD: "handed over" not in state,
        LeaseState.FRESH: "over" not in state,
        LeaseState.OVER: "over" in state,
    }[edge.lease]
    unwanted = state == UNWANTED or not edge.unwanted
    return status in edge.sources and lease and unwanted and (right_fence or not edge.fenced)


def test_the_table_has_no_edge_that_the_life_of_a_job_has_not():
    for edge in edges.ALL:
        for source in edge.sources:
            assert edge.target is None or may(source, edge.target), edge.name
            assert source in ACTIVE
    assert set(CALLS) == {edge.name for edge in edges.ALL}


def test_the_table_in_the_docs_says_what_the_code_does():
    words = {frozenset({Status.RUNNING, Status.FINALIZING}): "leased", ACTIVE: "pending, leased"}
    rows = {}
    for edge in edges.ALL:
        sources = words.get(edge.sources) or ", ".join(s.value for s in Status if s in edge.sources)
        due = ", and due" if edge.due else ", and unwanted" if edge.unwanted else ""
        fenced = "yes" if edge.fenced else "no"
        after = (edge.target.value if edge.target else "same") + (", fence + 1" if edge.new_fence else "")
        rows[edge.name] = f"| {edge.name} | {sources}{due} | {fenced} | {edge.lease.value} | {after} |"
    documented = [line for line in (edges.__doc__ or "").splitlines() if line.startswith("| ")][1:]
    assert [line for line in documented if not line.startswith("| ---")] == list(rows.values())


@pytest.mark.parametrize("edge", edges.ALL, ids=lambda edge: edge.name)
async def test_an_edge_is_taken_from_the_states_in_the_table_and_from_no_other(store, edge):
    jobs = store.jobs
    for state, make in STATES.items():
        if state == UNWANTED and edge in (edges.RENEW, edges.WITHDRAW):
            continue  # what they return says that nobody is left
        for behind in (0, 1):
            await store.forget_jobs()
            job = await make(jobs)
            before = await store.records()
            try:
                taken = await CALLS[edge.name](jobs, job, Fence(job.fence - behind))
            except (LeaseLost, NotCancellable, StillWanted):
                taken = False
            assert taken == allowed(edge, state, job.status, behind == 0), (state, behind)
            if taken:
                now = await again(jobs, job)
                assert now.status is (edge.target or job.status), (state, behind)
                assert now.fence == job.fence + edge.new_fence, (state, behind)
            elif edge is not edges.CANCEL_PENDING:  # of a running job that sets the flag
                assert await store.records() == before, (state, behind)
