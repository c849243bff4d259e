"""Workers that are killed as fast as they come, while jobs come: whose fault that is."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.simulation.cloud import Pace, Plan, seconds_since_start
from tests.simulation.store import MemoryDatabase, on_virtual_time
from tests.simulation.world import World, WorldSettings, source

from gooseherd.domain.job import JobId
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import TERMINAL
from gooseherd.fleet.discovery import PollPace

KILLS: Final = 45
SECONDS: Final = 180.0
"""In which they are killed; jobs come meanwhile."""
_FILES: Final = 40
_FUTURE_SECONDS: Final = 3 * 3600.0
_PEOPLE: Final = ("anne", "bert", "cleo")


@dataclass
class Storm:
    """What became of the jobs, and how their attempts ended."""

    kills: int = 0
    killed_at_work: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def storm(seed: int) -> Storm:
    """That many kills of workers that live just then, launching ones and idle ones among them."""
    return on_virtual_time(partial(_play, random.Random(f"storm {seed}")))


async def _play(chance: random.Random, database: MemoryDatabase) -> Storm:
    outcome = Storm()
    settings = WorldSettings(
        processes=2,
        max_workers=4,
        running_limit=3,
        floor=1,
        lease=30.0,
        heartbeat=10.0,
        tick=15.0,
        poll=PollPace(young=1.0, starting=4.0, busy=15.0),
        # As the local cloud starts them: one lives for some seconds before it is killed.
        pace=Pace(provisioning=1.0, starting=3.0, idle_timeout=20.0),
    )
    seconds = {source(number).local_id: chance.choice((0.3, 2.0, 8.0)) for number in range(_FILES)}
    world = World(chance, settings, database, lambda spec: Plan(seconds[spec.source.local_id]))
    for number in range(settings.processes):
        world.start(f"api{number}")

    async def jobs_come() -> None:
        for number in range(_FILES):
            of = source(number)
            world.files[of.local_id] = of
            api = chance.choice(list(world.api.values()))
            await asyncio.wait({api.submit(of, chance.choice(_PEOPLE), chance.choice(list(Priority)))})
            await asyncio.sleep(chance.uniform(0, 2 * SECONDS / _FILES))

    async def kill() -> None:
        for at in sorted(chance.uniform(0, SECONDS) for _ in range(KILLS)):
            await asyncio.sleep(max(0.0, at - seconds_since_start()))
            # What is left of the number is made up for: nobody may live just then.
            while not world.cloud.live():  # noqa: ASYNC110 - it has no event of its own
                await asyncio.sleep(0.5)
            task = chance.choice(world.cloud.live())
            outcome.kills += 1
            outcome.killed_at_work += task.running is not None
            task.kill()

    await asyncio.gather(jobs_come(), kill())
    deadline = seconds_since_start() + _FUTURE_SECONDS

    def waits() -> bool:
        return any(row.status not in TERMINAL for row in world.rows())

    while waits() and seconds_since_start() < deadline:  # noqa: ASYNC110 - as above
        await asyncio.sleep(10.0)
    for row in world.rows():
        outcome.ends[f"{row.status}: {row.reason}"] += 1
        job = await world.any_jobs.get(JobId(row.job_id))
        assert job is not None
        outcome.attempts.update(str(attempt.reason) for attempt in job.attempts)
    outcome.violations += world.violations
    await world.close()
    return outcome
