"""Batches from settings."""

from __future__ import annotations

from datetime import timedelta

from gooseherd.api.describing import Describing
from gooseherd.control.batch_loop import BatchLoop, BatchTiming
from gooseherd.control.batches import Batches
from gooseherd.control.submission import Submissions
from gooseherd.domain.job import Owner
from gooseherd.domain.ports.batches import BatchLimits
from gooseherd.settings import Settings
from gooseherd.wiring.store import Store


def make_batches(
    settings: Settings, store: Store, *, submissions: Submissions, describing: Describing, owner: Owner
) -> tuple[Batches, BatchLoop]:
    """Batches for callers, and the loop that looks after them, with the limits of the settings."""
    loop = BatchLoop(
        batches=store.batches,
        jobs=store.jobs,
        submissions=submissions,
        servable=describing.servable,
        described=describing.described,
        owner=owner,
        timing=BatchTiming(
            pending_per_requester=settings.workflow_max_pending_per_requester,
            ttl=timedelta(seconds=settings.workflow_batch_ttl_seconds),
        ),
        tick_seconds=settings.workflow_tick_seconds,
    )
    limits = BatchLimits(
        open_batches=settings.workflow_max_open_batches,
        open_per_requester=settings.workflow_max_open_batches_per_requester,
    )
    return Batches(store.batches, limits=limits, wakeup=loop.wakeup), loop
