"""The fleet: which workers there are, what they do, why they ended; and how to stop one."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.fleet import FleetMember, FleetView
from gooseherd.api.openapi import routes_under
from gooseherd.api.route_parameters import Admin, problems
from gooseherd.control.assignments import user_of, users_of
from gooseherd.domain.errors import NotFound, ProcessingDisabled, WorkerInUse
from gooseherd.domain.ports.fleet import Fleet, WorkerHealth, WorkerView

_ENDED = 50
"""How many workers that ended are shown; more are remembered."""


def fleet_routes(dependencies: Dependencies) -> APIRouter:
    """/fleet and what is below."""
    router = routes_under("operation")

    def there() -> Fleet:
        if dependencies.fleet is None:
            raise ProcessingDisabled
        return dependencies.fleet

    TheFleet = Annotated[Fleet, Depends(there)]  # noqa: N806 - a type

    @router.get("/fleet", responses=problems(401, 503))
    async def fleet(context: Admin, fleet: TheFleet) -> FleetView:
        """Workers as they were just seen, the oldest first, then those that ended lately (admin key)."""
        workers = await fleet.survey()
        users = users_of(await dependencies.jobs.at_work())
        now = await dependencies.jobs.now()
        live = sorted((w for w in workers if w.health is not WorkerHealth.GONE), key=_age)
        # In the order in which the fleet came to know of them where their age is not known.
        ended = sorted((w for w in workers if w.health is WorkerHealth.GONE), key=lambda w: w.started_at)
        return FleetView(
            slots=max(0, fleet.slots()),
            workers=[FleetMember.of(w, user_of(w, users), context.link, now=now) for w in live],
            ended=[FleetMember.of(w, None, context.link, now=now) for w in ended[: -_ENDED - 1 : -1]],
        )

    @router.delete("/fleet/{worker_id}", responses=problems(401, 404, 409, 503))
    async def stop(
        context: Admin,
        fleet: TheFleet,
        worker_id: str,
        force: Annotated[bool, Query(description="Although a job works on it: it is tried again.")] = False,
    ) -> FleetMember:
        """Ask a worker to end (admin key); the answer is how it was before."""
        shown = next((w for w in await fleet.survey() if w.worker_id == worker_id), None)
        if shown is None or shown.health is WorkerHealth.GONE:
            raise NotFound("worker", worker_id)
        job = user_of(shown, users_of(await dependencies.jobs.at_work()))
        if job is not None and not force:
            raise WorkerInUse(worker_id, job.job_id)
        await fleet.stop(shown.worker_id, "an operator asked for it")
        return FleetMember.of(shown, job, context.link, now=await dependencies.jobs.now())

    return router


def _age(worker: WorkerView) -> tuple[bool, float]:
    """Sorts the oldest first, those of unknown age last."""
    return not worker.started_at, worker.started_at
