"""`gooseherd gc`: remove what nobody needs, by the policy of the settings; with or without a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gooseherd.cli import formatting, options
from gooseherd.cli.passes import run_alone, run_passes

if TYPE_CHECKING:
    from gooseherd.control.retention import Action
    from gooseherd.settings import Settings


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, remove nothing.")] = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Remove ended jobs, leftovers of attempts, and artifacts by the settings ARTIFACT_…; once, all there is.

    Takes its settings from the environment, as the service does. Nothing that was published goes unless
    a setting says so, nothing that was used in the last two days, and nothing that a job works on.
    """
    run_alone(
        lambda settings: _rounds(settings, dry_run=dry_run, as_json=as_json), state_dir, as_json=as_json
    )


async def _rounds(settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    from gooseherd.wiring.retention import retaining

    async with retaining(settings) as retention:
        await run_passes(
            lambda: retention.run_rounds(dry_run=dry_run),
            every_seconds=None,
            plain=_plain,
            text=_action_text,
            unseen="store or artifacts could not be seen completely; what was planned before that was done",
            dry_run=dry_run,
            as_json=as_json,
        )


def _plain(action: Action) -> Mapping[str, Any]:
    from gooseherd.control.retention import ForgetEnded, SweepCache
    from gooseherd.domain.retention import RemoveResults

    match action:
        case ForgetEnded(ended_before):
            return {"action": "forget_ended", "ended_before": ended_before.isoformat()}
        case SweepCache(older_than_seconds):
            return {"action": "sweep_cache", "older_than_seconds": older_than_seconds}
        case RemoveResults(prefix, keys):
            return {"action": "remove_results", "prefix": prefix, "objects": len(keys)}
        case _:
            return {
                "action": "remove_artifact",
                "prefix": action.artifact.prefix,
                "cause": action.cause.value,
                "bytes": action.artifact.size,
                "objects": len(action.artifact.keys),
                "used_at": action.used_at.isoformat(),
            }


def _action_text(action: Mapping[str, Any]) -> str:
    match action["action"]:
        case "forget_ended":
            return f"forget jobs and batches that ended before {formatting.moment(action['ended_before'])}"
        case "sweep_cache":
            age = formatting.span(action["older_than_seconds"])
            old = "and reference sequences that nobody used for 30 days"
            return f"free what writers that died left in the cache, when it is older than {age}, {old}"
        case "remove_results":
            return f"remove {action['objects']} results of attempts beside {action['prefix']} (published)"
        case _:
            return (
                f"remove {action['prefix']} ({action['cause']}, {formatting.size(action['bytes'])}, "
                f"not used since {formatting.moment(action['used_at'])})"
            )
