"""Jobs that ended long ago, for retention to forget while everything dies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.faults.campaign import stored

from gooseherd.domain import formats
from gooseherd.domain.job import JobId, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile

_MARK: Final = "ended-long-ago-"


def plant(url: str, count: int) -> None:
    """So many, each with a requester and a workflow key of its own."""
    stored.add_ended(url, [_submission(f"{_MARK}{number}") for number in range(count)])


def _submission(name: str) -> Submission:
    source = SourceFile(Dcc("t"), LocalId(name), name, formats.BED, "https://example.org/x")
    recipe = Recipe("bed", "1", formats.BED)
    return Submission(JobId(name), WorkflowKey(name), source, recipe, Priority.NORMAL, Requester(name))


def kept(ids: Iterable[str]) -> list[str]:
    """Those that are still there although a pass of retention takes seconds."""
    return [f"{job} ended more than a year ago, and is still there" for job in ids if job.startswith(_MARK)]
