"""Progress on standard error: bars on a terminal, a line now and then elsewhere, nothing for `--json`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gooseherd.cli import formatting
from gooseherd.cli.outcome import print_status
from gooseherd.terminal import visible

if TYPE_CHECKING:
    from gooseherd.client import Refused

OnJob = Callable[[Mapping[str, Any]], None]
OnBytes = Callable[[int, int | None], None]

_LINE_EVERY_SECONDS = 5.0


@contextlib.contextmanager
def job_bar(name: str, *, quiet: bool) -> Iterator[OnJob]:
    """Shows one job's life; call the given function with each record of it."""
    if quiet:
        yield lambda job: None
    elif not sys.stderr.isatty():
        yield _job_lines(name)
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            Task,
            TaskProgressColumn,
            TimeElapsedColumn,
        )
        from rich.text import Text

        class Phase(ProgressColumn):
            """What the job does; the time to its next try runs down between two records of it."""

            def render(self, task: Task) -> Text:
                job, seen_at = task.fields["job"], task.fields["seen_at"]
                seconds = (job.get("waiting") or {}).get("next_try_seconds")
                remaining = None if seconds is None else max(seconds - (time.monotonic() - seen_at), 0.0)
                return Text(visible(f"{name}  {phase(job, remaining=remaining)}"))

        columns = (Phase(), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = None

            def show(job: Mapping[str, Any]) -> None:
                nonlocal task
                seen: dict[str, Any] = {"job": job, "seen_at": time.monotonic()}
                if task is None:
                    task = progress.add_task(name, total=100, **seen)
                progress.update(task, completed=percent(job), **seen)

            yield show


def busy_lines(name: str, *, quiet: bool) -> Callable[[Refused], None]:
    """Prints what the service says while it takes nothing, once for each reason."""
    printed: set[str] = set()

    def show(busy: Refused) -> None:
        if quiet or busy.title in printed:
            return
        printed.add(busy.title)
        detail = f" ({busy.detail})" if busy.detail else ""
        print_status(f"{name}: waiting for the service: {busy.title}{detail}")

    return show


@contextlib.contextmanager
def byte_bar(name: str, *, quiet: bool) -> Iterator[OnBytes]:
    """Shows how many bytes of how many are there."""
    if quiet:
        yield lambda there, size: None
        return
    if not sys.stderr.isatty():
        yield _byte_lines(name)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda there, size: progress.update(task, completed=there, total=size)


@contextlib.contextmanager
def batch_bar(*, quiet: bool) -> Iterator[OnJob]:
    """Shows how many files of a batch are ready; call the given function with each record of it."""
    if quiet:
        yield lambda batch: None
        return
    if not sys.stderr.isatty():
        yield _batch_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(batch: Mapping[str, Any]) -> None:
            ended = batch_ended_count(batch)
            progress.update(task, completed=ended, total=batch["total"], description=batch_text(batch))

        yield show


def batch_text(batch: Mapping[str, Any]) -> str:
    """How many files of a batch are where, in one line: `12 ready, 1 failed, 37 waiting`."""
    order = ("ready", "failed", "cancelled", "running", "pending", "waiting")
    return ", ".join(
        f"{formatting.number(batch['counts'][name])} {name}" for name in order if batch["counts"].get(name)
    )


def batch_ended_count(batch: Mapping[str, Any]) -> int:
    """Files of a batch that have ended."""
    return sum(int(batch["counts"].get(name) or 0) for name in ("ready", "failed", "cancelled"))


def _batch_lines() -> OnJob:
    last, printed_at = "", 0.0

    def show(batch: Mapping[str, Any]) -> None:
        nonlocal last, printed_at
        now, what = time.monotonic(), batch_text(batch)
        if what != last and now - printed_at > _LINE_EVERY_SECONDS:
            print_status(f"{batch_ended_count(batch)} of {batch['total']}: {what}")
            last, printed_at = what, now

    return show


def phase(job: Mapping[str, Any], *, remaining: float | None = None) -> str:
    """What a job does just now, in a few words; `remaining` are the seconds to its next try, if known."""
    step = str((job.get("progress") or {}).get("step") or "")
    status = str(job.get("status") or "")
    if why := formatting.waiting(job, remaining=remaining):
        return why
    if status == "pending":
        position = job.get("position")
        return "waiting in the queue" + (f" behind {position}" if position else "")
    return step if status == "running" and step else status


def percent(job: Mapping[str, Any]) -> float:
    """How much of the job is done, 0 to 100."""
    if job.get("status") == "completed":
        return 100.0
    return float((job.get("progress") or {}).get("percent") or 0.0)


def _byte_lines(name: str) -> OnBytes:
    """Nothing for what is quick."""
    printed_at = time.monotonic()

    def show(there: int, size: int | None) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at > _LINE_EVERY_SECONDS:
            print_status(
                f"{name}: {formatting.size(there)}" + (f" of {formatting.size(size)}" if size else "")
            )
            printed_at = time.monotonic()

    return show


def _job_lines(name: str) -> OnJob:
    last, printed_at = "", 0.0

    def show(job: Mapping[str, Any]) -> None:
        nonlocal last, printed_at
        # The remaining time does not count: it differs in each record.
        now, what = time.monotonic(), phase(job, remaining=0.0)
        if what != last or now - printed_at > _LINE_EVERY_SECONDS:
            print_status(f"{name}: {phase(job)}" + ("" if job.get("waiting") else f" {percent(job):.0f}%"))
            last, printed_at = what, now

    return show
