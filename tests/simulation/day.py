"""A bursty day in some seconds: what the workers cost, what they worked, and how long people waited.

    ./dev simulate --day [--files 10000] [--hours 24] [--floor 0,1,3] [--seed N]

A generated day of one deployment: people click on files, and collections are prepared as batches.
The real control loops, store and ECS fleet decide when workers are launched and let go; nothing fails.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.simulation.cloud import Plan, seconds_since_start
from tests.simulation.store import MemoryDatabase, on_virtual_time
from tests.simulation.world import World, WorldSettings, source

from gooseherd.domain.attempt import AttemptSpec
from gooseherd.domain.job import JobId
from gooseherd.domain.queueing import Priority, percentile
from gooseherd.domain.source import SourceFile

DAY_HOURS: Final = 24.0
"""Fewer are those around three in the afternoon, which is when most comes."""
CLICKED: Final = 0.2
"""Of all files: asked for by somebody who waits, most of them in the afternoon."""
BATCHES: Final = 12
"""The others of a day, as collections: each in a batch of its own, asked for within a minute."""

_OVERHEAD_SECONDS: Final = 0.36
"""Of a small file on a warm worker (docs/performance.md)."""
_BYTES_A_SECOND: Final = 50e6
"""Source to artifact, the download included."""
_SMALL: Final = 0.6
"""Of all files: peaks, annotations, tables. A third are of some hundred MB, the rest are some GB."""
_MEDIUM: Final = 0.3


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for a file, `at` seconds of the day."""

    at: float
    of: SourceFile
    requester: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a day came to; waits are from asking to the start of the attempt, in seconds."""

    floor: int
    files: int
    paid_seconds: float
    worked_seconds: float
    standby_seconds: float
    """For which workers of the floor were ready and had nothing to do, which is what they are for."""
    launches: int
    interactive_p50: float | None
    interactive_p95: float | None
    small_interactive_p95: float | None
    """Of files below 1 GiB, which a worker of the smallest size can make."""
    batch_p95: float | None
    unfinished: int

    @property
    def worked_share(self) -> float:
        """Of the paid worker-seconds."""
        return self.worked_seconds / self.paid_seconds if self.paid_seconds else 0.0

    @property
    def worked_share_without_standby(self) -> float:
        """Of the paid worker-seconds that no floor was ready in."""
        paid = self.paid_seconds - self.standby_seconds
        return self.worked_seconds / paid if paid else 0.0

    def as_json(self) -> dict[str, Any]:
        rounded = {
            name: round(value, 2) if isinstance(value, float) else value
            for name in self.__slots__
            for value in (getattr(self, name),)
        }
        return {
            **rounded,
            "worked_share": round(self.worked_share, 3),
            "worked_share_without_standby": round(self.worked_share_without_standby, 3),
        }


def trace(seed: int, files: int, hours: float = DAY_HOURS) -> list[Request]:
    """The requests of so many hours, in order; equal arguments give equal days."""
    chance = random.Random(f"day {seed}")
    clicks = int(files * CLICKED)
    found = [
        Request(
            _by_day(chance, hours),
            _file(chance, number),
            f"person{chance.randrange(60)}",
            Priority.INTERACTIVE,
        )
        for number in range(clicks)
    ]
    shares = [chance.expovariate(1.0) + 0.1 for _ in range(max(1, round(BATCHES * hours / DAY_HOURS)))]
    number = clicks
    for batch, share in enumerate(shares):
        begins, size = _by_day(chance, hours), round((files - clicks) * share / sum(shares))
        for _ in range(size):
            of = _file(chance, number)
            found.append(Request(begins + chance.uniform(0, 60), of, f"batch{batch}", Priority.BATCH))
            number += 1
    return sorted(found, key=lambda request: request.at)


def _by_day(chance: random.Random, hours: float) -> float:
    """A moment of those hours: at three in the afternoon four times as often as in the morning at three."""
    begin = (15 - hours / 2) % DAY_HOURS
    while True:
        at = chance.uniform(0, hours * 3600)
        clock = begin + at / 3600
        if chance.random() < 0.625 - 0.375 * math.cos((clock - 3) / DAY_HOURS * 2 * math.pi):
            return at


def _file(chance: random.Random, number: int) -> SourceFile:
    kind = chance.random()
    if kind < _SMALL:
        size = chance.lognormvariate(math.log(300e3), 1.5)
    elif kind < _SMALL + _MEDIUM:
        size = chance.lognormvariate(math.log(200e6), 1.0)
    else:
        size = chance.lognormvariate(math.log(5e9), 0.8)
    return source(number, int(min(size, 100e9)))


def seconds_of_work(of: SourceFile) -> float:
    """How long a worker is busy with it."""
    return _OVERHEAD_SECONDS + (of.size_in_bytes or 0) / _BYTES_A_SECOND


def simulate_day(
    seed: int, files: int, floor: int, hours: float = DAY_HOURS, settings: WorldSettings | None = None
) -> DayReport:
    """One day with that warm floor."""
    chosen = replace(settings or DAY_SETTINGS, floor=floor)
    return on_virtual_time(lambda database: _day(trace(seed, files, hours), hours, database, chosen, seed))


DAY_SETTINGS: Final = WorldSettings(
    processes=1,
    max_workers=20,
    running_limit=19,
    lease=900.0,
    heartbeat=300.0,
    # Loops are woken by what happens; as often as the default they would mostly look at nothing.
    tick=60.0,
    dispatch_tick=5.0,
    reconcile=3600.0,
    latency=0.005,
)
"""The defaults of a deployment, but for how often nothing is looked at."""


async def _day(
    requests: Sequence[Request],
    hours: float,
    database: MemoryDatabase,
    settings: WorldSettings,
    seed: int,
) -> DayReport:
    started: dict[str, float] = {}

    def plan(spec: AttemptSpec) -> Plan:
        started.setdefault(spec.source.local_id, seconds_since_start())
        return Plan(seconds_of_work(spec.source))

    world = World(random.Random(seed), settings, database, plan, watch=False)
    names = [f"api{number}" for number in range(settings.processes)]
    for name in names:
        await world.start(name).up.wait()
    asked: list[asyncio.Task[JobId | None]] = []
    hour = 0
    for number, request in enumerate(requests):
        if request.at >= 3600 * (hour + 1):
            hour = int(request.at // 3600)
            print(f"simulate: floor {settings.floor}, {hour}:00", file=sys.stderr, flush=True)
        await asyncio.sleep(max(0.0, request.at - seconds_since_start()))
        api = world.api[names[number % len(names)]]
        asked.append(api.submit(request.of, request.requester, request.priority))
    await asyncio.wait(asked)
    # At the day's end the floor would go on; what it costs in a day is what counts.
    deadline = (hours + 6) * 3600
    while (left := database.unfinished()) and seconds_since_start() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(30)
    end = max(hours * 3600, seconds_since_start())
    tasks = list(world.cloud.tasks.values())
    paid = sum(task.paid_until(end) for task in tasks)
    worked = sum(task.worked for task in tasks)
    await world.close()

    def waits(chosen: Sequence[Request]) -> float | None:
        known = [started[r.of.local_id] - r.at for r in chosen if r.of.local_id in started]
        return percentile(known, 95)

    interactive = [request for request in requests if request.priority is Priority.INTERACTIVE]
    small = [request for request in interactive if (request.of.size_in_bytes or 0) < 1 << 30]
    return DayReport(
        floor=settings.floor,
        files=len(requests),
        paid_seconds=paid,
        worked_seconds=worked,
        standby_seconds=sum(task.standby for task in tasks),
        launches=len(tasks),
        interactive_p50=percentile(
            [started[r.of.local_id] - r.at for r in interactive if r.of.local_id in started], 50
        ),
        interactive_p95=waits(interactive),
        small_interactive_p95=waits(small),
        batch_p95=waits([request for request in requests if request.priority is Priority.BATCH]),
        unfinished=left,
    )
