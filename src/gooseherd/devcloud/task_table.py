"""Which tasks exist, cluster by cluster: found, listed in pages, forgotten an hour after they stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gooseherd.devcloud.cloud_configuration import CloudConfiguration
from gooseherd.devcloud.run_task import ApiError, Json, invalid
from gooseherd.devcloud.tasks import CloudTask, Ending

_log = logging.getLogger(__name__)

_TOKEN_SECONDS = 24 * 3600.0
"""How long a client token is remembered."""


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A task with its place in the listing order."""

    number: int
    task: CloudTask


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What a client token stood for."""

    digest: str
    tasks: tuple[CloudTask, ...]
    until: float


class TaskTable:
    """All tasks of the local cloud. Everything here belongs to the event loop's thread."""

    def __init__(self, configuration: CloudConfiguration) -> None:
        self._configuration = configuration
        self._clusters: dict[str, dict[str, _Numbered]] = {}
        self._count = 0
        self._lives: dict[CloudTask, asyncio.Task[None]] = {}
        self._tokens: dict[tuple[str, str], _Remembered] = {}
        self._by_metadata: dict[str, CloudTask] = {}

    # -- entries ------------------------------------------------------------------------------

    def open(self, cluster_arn: str, task: CloudTask) -> None:
        """Enter a new task and let it live."""
        self._count += 1
        self._clusters.setdefault(cluster_arn, {})[task.task_id] = _Numbered(self._count, task)
        self._by_metadata[task.token] = task
        self._lives[task] = asyncio.create_task(self._live(cluster_arn, task))

    async def _live(self, cluster_arn: str, task: CloudTask) -> None:
        try:
            await task.live()
        finally:
            del self._lives[task]
            self._by_metadata.pop(task.token, None)
            asyncio.get_running_loop().call_later(
                self._configuration.keep_stopped_seconds, self._clusters[cluster_arn].pop, task.task_id, None
            )

    def of_token(self, cluster_arn: str, token: str, request: Json) -> list[CloudTask] | None:
        """The tasks an earlier, equal request with that client token made.

        Raises:
            ApiError: ConflictException, the request was another one.
        """
        found = self._tokens.get((cluster_arn, token))
        if found is None or found.until < time.monotonic():
            return None
        if found.digest != _digest(request):
            raise ApiError(
                "ConflictException",
                "The provided clientToken is already in use with a different RunTask request.",
                resourceIds=[task.arn for task in found.tasks],
            )
        return list(found.tasks)

    def remember(self, cluster_arn: str, token: str, request: Json, tasks: list[CloudTask]) -> None:
        """From now on that client token stands for these tasks."""
        now = time.monotonic()
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept.until > now}
        self._tokens[cluster_arn, token] = _Remembered(_digest(request), tuple(tasks), now + _TOKEN_SECONDS)

    # -- looking ------------------------------------------------------------------------------

    def find(self, cluster_arn: str, name: str) -> CloudTask | None:
        """The task by ARN or id, if it is of that cluster and to be seen."""
        task_id = name.rpartition("/")[2]
        entry = self._clusters.get(cluster_arn, {}).get(task_id)
        if entry is None or name not in {task_id, entry.task.arn}:
            return None
        return None if entry.task.hidden_until > time.monotonic() else entry.task

    def anywhere(self, name: str) -> CloudTask | None:
        """The task by ARN or id, in whichever cluster."""
        task_id = name.rpartition("/")[2]
        return next((tasks[task_id].task for tasks in self._clusters.values() if task_id in tasks), None)

    def has_live(self, cluster_arn: str) -> bool:
        """Whether the cluster has tasks that have not stopped."""
        return any(not entry.task.ended for entry in self._clusters.get(cluster_arn, {}).values())

    def of_metadata(self, token: str) -> CloudTask | None:
        """The live task whose metadata endpoint has that secret in its path."""
        return self._by_metadata.get(token)

    def all(self) -> Iterator[CloudTask]:
        """Every task that is remembered."""
        for tasks in self._clusters.values():
            for entry in tasks.values():
                yield entry.task

    def page(
        self, cluster_arn: str, wanted: Callable[[CloudTask], bool], size: int, after: str | None
    ) -> tuple[list[str], str | None]:
        """ARNs in the order of their making, and the token of the next page."""
        try:
            last = int(after) if after else 0
        except ValueError:
            raise invalid("Invalid token.") from None
        now = time.monotonic()
        found = [
            entry
            for entry in self._clusters.get(cluster_arn, {}).values()
            if entry.number > last and entry.task.hidden_until <= now and wanted(entry.task)
        ]
        token = str(found[size - 1].number) if len(found) > size else None
        return [entry.task.arn for entry in found[:size]], token

    # -- the end ------------------------------------------------------------------------------

    async def close(self, grace: float) -> None:
        """End all tasks: SIGTERM, and SIGKILL after `grace` seconds."""
        for task in self._lives:
            task.stop(Ending("UserInitiated", "The local cloud was stopped.", grace))
        if self._lives:
            _log.info("stopping %d tasks", len(self._lives))
            _, late = await asyncio.wait(set(self._lives.values()), timeout=grace)
            if late:
                for task in self._lives:
                    task.skip_waits()
                await asyncio.wait(late, timeout=5)


def _digest(request: Json) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
