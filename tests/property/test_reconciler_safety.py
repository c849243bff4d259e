"""Whatever workers and jobs there are and however often one looks: nobody at work loses a worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gooseherd.control.assignments import attempt_of
from gooseherd.control.reconciler import FleetSnapshot, ReconcilerLimits, ShortenLease, StopWorker, decide
from gooseherd.domain import formats
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import AttemptRecord, Fence, Job, JobId, Lease, Owner, WorkerId
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOURCE = SourceFile.from_json(
    {"dcc": "d", "local_id": "x", "access_url": "https://example.org/x.bam", "md5": "0" * 32}
)
RECIPE = Recipe("bam-index", "1", formats.BAM)

# Few names, so that workers and jobs have much to do with each other.
WORKER_IDS = st.sampled_from([WorkerId(f"w{n}") for n in range(3)])
JOB_IDS = st.sampled_from([JobId(f"j{n}") for n in range(3)])
NUMBERS = st.integers(1, 2)
ATTEMPTS = st.builds("{}.{}".format, JOB_IDS, NUMBERS)
SPANS = st.sampled_from([timedelta(seconds=s) for s in (90_000, 900, 310, 290, 61, 30, 1, 0, -1, -700)])
MOMENTS = st.builds(NOW.__sub__, SPANS)
# Most are as they mostly are, or hardly anything would ever be stopped.
HEALTHS = st.sampled_from([WorkerHealth.HEALTHY, WorkerHealth.UNHEALTHY, *WorkerHealth])
STATUSES = st.sampled_from([Status.RUNNING, Status.RUNNING, Status.FINALIZING, *Status])
STARTS = st.sampled_from([90_000, 90_000, 900, 310, 61, 30, 0]).map(lambda s: NOW.timestamp() - s)

WORKERS = st.lists(
    st.builds(
        WorkerView,
        worker_id=WORKER_IDS,
        health=HEALTHS,
        started_at=STARTS | st.just(0.0),
        attempt=st.none() | ATTEMPTS,
        launched_for=st.none() | ATTEMPTS,
        warm=st.booleans(),
        stoppable=st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda worker: worker.worker_id,
)
LIMITS = st.builds(
    ReconcilerLimits,
    birth_grace=st.just(timedelta(minutes=1)),
    orphan_grace=st.sampled_from([timedelta(0), timedelta(minutes=5)]),
    max_lifetime=st.none() | st.just(timedelta(hours=12)),
    observation_gap=st.sampled_from([timedelta(0), timedelta(seconds=15)]),
)


@st.composite
def jobs(draw) -> list[Job]:
    made = []
    for name in draw(st.lists(JOB_IDS, unique=True)):
        status = draw(STATUSES)
        number = draw(NUMBERS)
        open_one = status in (Status.RUNNING, Status.FINALIZING)
        records = [
            AttemptRecord(n, draw(st.none() | WORKER_IDS), NOW, draw(MOMENTS), Reason.WORKER_LOST)
            for n in range(1, number if open_one else number + 1)
        ]
        if open_one:
            records.append(AttemptRecord(number, draw(st.none() | WORKER_IDS), NOW))
        made.append(
            Job(
                job_id=name,
                workflow_key=workflow_key(SOURCE.identity, RECIPE),
                source=SOURCE,
                recipe=RECIPE,
                status=status,
                priority=Priority.NORMAL,
                requesters=(),
                created_at=NOW,
                enqueued_at=NOW,
                updated_at=NOW,
                attempt=number,
                fence=Fence(draw(st.integers(1, 3))),
                lease=draw(st.none() | st.builds(Lease, st.just(Owner("o")), MOMENTS)),
                attempts=tuple(records),
            )
        )
    return made


@settings(max_examples=300)
@given(
    workers=WORKERS,
    there=jobs(),
    followed=st.frozensets(JOB_IDS),
    limits=LIMITS,
    passes=st.lists(st.sampled_from([60, 15, 14, 1, 0]), min_size=1, max_size=3),
)
def test_no_worker_of_a_job_at_work_is_ever_stopped_and_nothing_is_done_at_first_sight(
    workers, there, followed, limits, passes
) -> None:
    now = NOW
    suspected: Mapping[tuple[str, ...], datetime] = {}
    first_seen: dict[tuple[str, ...], datetime] = {}
    for seconds in [0, *passes]:
        now += timedelta(seconds=seconds)
        seen = FleetSnapshot(now, workers, there, followed)
        decision = decide(seen, suspected, limits)
        at_work = [job for job in there if job.status in (Status.RUNNING, Status.FINALIZING)]
        stops = [action for action in decision.actions if isinstance(action, StopWorker)]
        for stop in stops:
            names = {stop.worker.worker_id, stop.worker.attempt, stop.worker.launched_for}
            assert not names & {name for job in at_work for name in (job.worker_id, attempt_of(job)) if name}
            assert stop.worker.health is not WorkerHealth.GONE
            assert stop.worker.stoppable
            assert 0 < stop.worker.started_at <= now.timestamp() - 60
        assert len(stops) <= max(1, sum(w.health is not WorkerHealth.GONE for w in workers) // 5)
        for action in decision.actions:
            if isinstance(action, ShortenLease):
                [job] = [job for job in at_work if job.job_id == action.job_id]
                assert (job.status, job.fence, job.worker_id) == (
                    Status.RUNNING,
                    action.seen,
                    action.worker_id,
                )
                assert job.job_id not in followed
                living = {w.worker_id for w in workers if w.health is not WorkerHealth.GONE}
                assert job.worker_id not in living
        if not suspected:
            assert decision.actions == ()
        for suspicion, since in decision.suspicions.items():
            assert since == first_seen.setdefault(suspicion, now)
        suspected = decision.suspicions
