"""`gooseherd reconcile`: stop workers that nobody works with, without serving anybody; for a cron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gooseherd.cli import options
from gooseherd.cli.passes import refuse_beside_a_service, run_alone, run_passes

if TYPE_CHECKING:
    from gooseherd.control.reconciler import Action
    from gooseherd.settings import Settings


def reconcile(
    once: Annotated[bool, typer.Option("--once", help="One pass; default: until Ctrl-C.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Compare the fleet with the jobs: stop orphaned workers, free jobs whose worker ended.

    Takes its settings from the environment, as the service does. A pass looks twice, so it
    takes some 15 seconds when there is something to do.
    """
    run_alone(
        lambda settings: _passes(settings, once=once, dry_run=dry_run, as_json=as_json),
        state_dir,
        as_json=as_json,
    )


async def _passes(settings: Settings, *, once: bool, dry_run: bool, as_json: bool) -> None:
    from gooseherd.wiring.reconciling import reconciling

    refuse_beside_a_service(settings, "reconciles its own workers", "see: gooseherd fleet ls")
    async with reconciling(settings) as reconciler:
        await run_passes(
            lambda: reconciler.run_once(dry_run=dry_run),
            every_seconds=None if once else settings.workflow_reconcile_seconds or 60.0,
            plain=_plain,
            text=_action_text,
            unseen="fleet or store could not be seen completely; nothing was done",
            dry_run=dry_run,
            as_json=as_json,
        )


def _action_text(action: Mapping[str, Any]) -> str:
    if action["action"] == "stop_worker":
        return f"stop worker {action['worker_id']} ({action['cause']}): {action['why']}"
    worker = f" {action['worker_id']}" if action["worker_id"] else ""
    return f"shorten the lease of job {action['job_id']}, its worker{worker} ended: {action['why']}"


def _plain(action: Action) -> Mapping[str, Any]:
    from gooseherd.control.reconciler import StopWorker

    if isinstance(action, StopWorker):
        return {
            "action": "stop_worker",
            "worker_id": action.worker.worker_id,
            "cause": action.cause.value,
            "why": action.why,
        }
    return {
        "action": "shorten_lease",
        "job_id": action.job_id,
        "worker_id": action.worker_id,
        "why": action.diagnosis,
    }
