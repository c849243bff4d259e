"""Limits that follow from several settings."""

from __future__ import annotations

from gooseherd.fleet.host_list import HostList
from gooseherd.settings import Settings


def running_limit(settings: Settings) -> int:
    """Most jobs of one requester that run at a time."""
    if settings.workflow_max_running_per_requester:
        return settings.workflow_max_running_per_requester
    if settings.worker_hosts:
        workers = max(len(HostList(settings.worker_hosts).addresses), 1)
    else:
        workers = settings.worker_max_local if settings.ecs_cluster is None else settings.ecs_max_workers
    # By address they cannot be told apart: there is nobody to leave a worker to.
    return workers if settings.is_local else max(workers - 1, 1)
