"""The life of one job in one process: a worker, its attempt, the job's next state, the worker given back."""

from __future__ import annotations

import logging

from gooseherd import logs
from gooseherd.control.attempt_outcome import Ended, Outcome, Published
from gooseherd.control.attempt_trace import AttemptTrace
from gooseherd.control.attempt_watcher import AttemptWatcher
from gooseherd.control.job_ends import JobEnds
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.worker_assignment import NoWorker, WorkerAssignment
from gooseherd.domain.errors import LeaseLost
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.telemetry import JOB_WAIT

_log = logging.getLogger(__name__)


class Execution:
    """Follows one job from its lease to its next state, unless the lease is lost before."""

    def __init__(
        self,
        lease_holder: LeaseHolder,
        *,
        adopted: bool,
        watcher: AttemptWatcher,
        assignment: WorkerAssignment,
        job_ends: JobEnds,
    ) -> None:
        self.lease_holder = lease_holder
        self.counted_by_fleet = adopted or lease_holder.job.session_id is not None
        """Whether its worker takes a slot of the fleet; counted twice it would keep a slot empty."""
        self._adopted = adopted
        self._watcher = watcher
        self._assignment = assignment
        self._job_ends = job_ends

    async def run(self) -> None:
        """All of it. Being cancelled leaves the attempt running, to be adopted."""
        job = self.lease_holder.job
        extra = {"job_id": job.job_id, "attempt": job.attempt, "adopted": self._adopted}
        logs.bind(job_id=job.job_id, attempt=job.attempt)
        trace = AttemptTrace(job, adopted=self._adopted)
        _log.info("following job", extra=extra)
        if not self._adopted and job.attempt == 1:
            JOB_WAIT.observe((job.updated_at - job.enqueued_at).total_seconds())
        worker_id: WorkerId | None = job.worker_id if self._adopted else None
        outcome: Outcome | None = None
        held = False
        try:
            async with self.lease_holder:
                try:
                    with trace.span("launch"):
                        worker = await self._assignment.worker(self.lease_holder, adopted=self._adopted)
                    self.counted_by_fleet = True
                    if worker is None:
                        outcome = Published()
                    else:
                        worker_id, held = worker.worker_id, True
                        logs.bind(worker=worker_id)
                        trace.note(worker=worker_id)
                        outcome = await self._watcher.follow(self.lease_holder, worker, resume=self._adopted)
                except NoWorker as none:
                    outcome = Ended(none.failure, began=worker_id is not None)
                with trace.span("settle"):
                    await self._job_ends.settle(self.lease_holder, outcome, worker_id)
                trace.end(outcome)
        except LeaseLost:
            _log.warning("lease lost, leaving the job to its new owner", extra=extra)
        except STORE_AWAY as error:
            _log.error(
                "store unavailable for longer than the lease, leaving the job",
                extra={**extra, "error": str(error)},
            )
        finally:
            # As long as the job's next state is not written, the worker goes with the job: whoever
            # has the lease, or will have it, works with that worker and gives it back.
            if worker_id is not None and outcome is not None and self.lease_holder.settled:
                await self._assignment.give_back(job, worker_id, outcome, held=held)
