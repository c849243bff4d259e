"""`gooseherd reap`: adopt or end jobs that nobody owns, without serving anybody; for a cron or by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.passes import refuse_beside_a_service, run_alone, run_passes

if TYPE_CHECKING:
    from gooseherd.control.reaper import Action
    from gooseherd.settings import Settings


def reap(
    once: Annotated[bool, typer.Option("--once", help="One pass; default: until Ctrl-C.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds in which adopted jobs may come to their next state.")
    ] = 60.0,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Take care of jobs whose API process has gone: complete them, put them back, or fail them with a reason.

    Takes its settings from the environment, as the service does. An attempt that still runs goes on, and
    its job is handed over to the next API process.
    """
    run_alone(
        lambda settings: _passes(settings, once=once, wait=wait, dry_run=dry_run, as_json=as_json),
        state_dir,
        as_json=as_json,
    )


async def _passes(settings: Settings, *, once: bool, wait: float, dry_run: bool, as_json: bool) -> None:
    from gooseherd.wiring.reaping import reaping

    refuse_beside_a_service(settings, "reaps its own jobs", "see: gooseherd queue")
    async with reaping(settings, wait_seconds=0.0 if dry_run else wait) as reaper:
        await run_passes(
            lambda: reaper.run_once(dry_run=dry_run),
            every_seconds=None if once else settings.workflow_tick_seconds,
            plain=_plain,
            text=_action_text,
            unseen="the store could not be seen; nothing was done",
            dry_run=dry_run,
            as_json=as_json,
        )


def _plain(action: Action) -> Mapping[str, Any]:
    from gooseherd.control.reaper import AdoptJob, EndJob, ExpireQueue

    match action:
        case ExpireQueue(created_before):
            return {"action": "expire_queue", "created_before": created_before.isoformat()}
        case EndJob(job_id):
            return {
                "action": "end_job",
                "job_id": job_id,
                "why": "its attempt is older than the hard ceiling",
            }
        case AdoptJob(job_id):
            return {"action": "adopt_job", "job_id": job_id, "why": "its lease ran out or was handed over"}
        case _:
            return {"action": "leave_job", "job_id": action.job_id, "why": "its finalizer lives"}


def _action_text(action: Mapping[str, Any]) -> str:
    if action["action"] == "expire_queue":
        return f"fail jobs that have waited since before {formatting.moment(action['created_before'])}"
    verb = {"end_job": "fail", "adopt_job": "adopt", "leave_job": "leave"}[action["action"]]
    return f"{verb} job {action['job_id']}: {action['why']}"
