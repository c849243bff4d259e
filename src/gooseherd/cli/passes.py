"""The frame of commands that run a control loop without a service: passes, and what each did or would do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

if TYPE_CHECKING:
    from gooseherd.control.loop import PassReport
    from gooseherd.settings import Settings


def run_alone(
    passes: Callable[[Settings], Coroutine[Any, Any, None]], state_dir: Path | None, *, as_json: bool
) -> None:
    """Run `passes` with the settings of the environment, and exit with their code."""

    def command() -> None:
        import asyncio

        from gooseherd import logs
        from gooseherd.cli.up import read_settings

        settings = read_settings(state_dir=state_dir)
        logs.configure_logging(level=settings.gooseherd_log_level, as_json=settings.gooseherd_log_json)
        asyncio.run(passes(settings))

    raise typer.Exit(run(command, as_json=as_json))


async def run_passes(
    one_pass: Callable[[], Awaitable[PassReport[Any]]],
    *,
    every_seconds: float | None,
    plain: Callable[[Any], Mapping[str, Any]],
    text: Callable[[Mapping[str, Any]], str],
    unseen: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make passes, printing each; one only when `every_seconds` is None, which then decides the exit code.

    `plain` makes an action data, `text` makes that a line for people; `unseen` says what it means
    that a pass saw nothing.
    """
    import asyncio

    while True:
        report = await one_pass()
        planned = [plain(action) for action in report.planned]
        if as_json:
            done = {"lost_races": report.lost_races, "errors": report.errors}
            emit({"seen": report.seen, "dry_run": dry_run, "actions": planned, **done})
        else:
            for action in planned:
                print(("would " if dry_run else "") + text(action))
            if report.seen and not planned:
                print_status("nothing to do")
        if not report.seen or report.errors:
            failed = f"{report.errors} of {len(planned)} actions failed; the log says why"
            print_status(failed if report.seen else unseen)
            if every_seconds is None:
                raise typer.Exit(Exit.FAILED)
        if every_seconds is None:
            return
        await asyncio.sleep(every_seconds)


def refuse_beside_a_service(settings: Settings, does: str, hint: str) -> None:
    """What lives in the state folder is the service's, which does the same. Raises CommandError."""
    from gooseherd.client.local_service import find_local

    if settings.database_url is None or settings.ecs_cluster is None:
        running = find_local(settings.gooseherd_state_dir)
        if running is not None:
            raise CommandError(
                Exit.USAGE,
                f"a service runs here ({running.url}) and {does}",
                f"this command is for fleets on ECS with a database server; {hint}",
            )
