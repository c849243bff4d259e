"""Where catalog entries stand, for a whole list at once: ready or not, and the job that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gooseherd.api.catalog import WITHDRAWN
from gooseherd.api.dependencies import Dependencies
from gooseherd.control.publication_cache import PublicationCache
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.errors import CacheUnavailable, GooseherdError, InvalidInput
from gooseherd.domain.job import Job
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key, workflow_key
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.retention import GUARD
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status

_SURELY_THERE: Final = GUARD - timedelta(hours=1)
"""Retention removes nothing that was published since: the job's record is enough."""
_LOOK_SECONDS: Final = 0.15
"""A list does not wait longer for the artifact cache; what is unknown then is so answered."""


@dataclass(frozen=True, slots=True)
class FileState:
    """Where an entry stands."""

    ready: bool | None
    """Whether its parts would be answered now; None: not known yet, ask again."""
    recipe: Recipe | None = None
    job: Job | None = None
    """The newest one on its content by the present recipe, whichever entry it was asked for by."""
    parts: Sequence[Part] | None = None
    """What is published, as far as that is known without reading it."""
    obstacle: str | None = None
    """Why it cannot be prepared, if so."""


class FileStates:
    """Reads the store once for a list, and of the artifact cache what its jobs do not tell."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._jobs = dependencies.jobs
        self._submissions = dependencies.submissions
        cache = dependencies.cache
        self._published = PublicationCache(cache, dependencies.clock) if cache is not None else None

    async def of(self, entries: Sequence[SourceFile]) -> list[FileState]:
        """The state of each, in their order. Raises StoreUnavailable."""
        states = self.without_looking(entries)
        open_ones = {
            position: (workflow_key(entries[position].identity, state.recipe), state.recipe)
            for position, state in enumerate(states)
            if state.recipe is not None
        }
        jobs = await self._jobs.latest_of({key for key, _ in open_ones.values()})
        now = await self._jobs.now() if jobs else None
        unknown = {}
        for position, (key, recipe) in open_ones.items():
            job = jobs.get(key)
            if job is not None and not job.status.terminal:
                states[position] = FileState(False, recipe, job)
            elif (
                job is not None
                and now is not None
                and job.status is Status.COMPLETED
                and job.finished_at is not None
                and now - job.finished_at < _SURELY_THERE
            ):
                states[position] = FileState(True, recipe, job, job.parts)
            else:
                unknown[position] = cache_key(entries[position].identity, recipe, MANIFEST)
                states[position] = FileState(None, recipe, job)
        if unknown and self._published is not None:
            known = await self._published.look(frozenset(unknown.values()), _LOOK_SECONDS)
            for position, manifest in unknown.items():
                state, ready = states[position], known.get(manifest)
                made = state.job if state.job is not None and state.job.status is Status.COMPLETED else None
                parts = made.parts if made is not None and ready else None
                states[position] = FileState(ready, state.recipe, state.job, parts)
        return states

    def without_looking(self, entries: Sequence[SourceFile]) -> list[FileState]:
        """What the entries themselves say, without their jobs: `ready` is None where that would tell."""
        return [self._without_looking(entry) for entry in entries]

    async def of_one(self, entry: SourceFile) -> FileState:
        """The same of one, whose manifest is read. Raises StoreUnavailable."""
        state = self._without_looking(entry)
        if state.recipe is None or self._submissions is None:
            return state
        job = await self._jobs.latest(workflow_key(entry.identity, state.recipe))
        try:
            manifest = await self._submissions.published(entry, state.recipe)
        except (CacheUnavailable, StorageRefused, InvalidInput):
            return FileState(None, state.recipe, job)
        if manifest is None:
            return FileState(False, state.recipe, job)
        return FileState(True, state.recipe, job, manifest.parts)

    def _without_looking(self, entry: SourceFile) -> FileState:
        status = entry.status.lower()
        if status != "active":
            return FileState(False, obstacle=status if status in WITHDRAWN else "not active")
        if self._submissions is None or entry.is_upstreams_pair:
            return FileState(True)
        try:
            return FileState(None, self._submissions.recipe(entry, Kind.DATA))
        except GooseherdError as error:
            return FileState(False, obstacle=str(error))
