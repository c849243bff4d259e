"""ECS with tasks that are only documents, and time that passes at once: how often does discovery ask?"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gooseherd.fleet.discovery import EcsDiscovery
from gooseherd.fleet.ecs_api import BATCH, EcsApi

FLEET = "bench"
ANSWER_SECONDS = 0.05
MINUTES = 10


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: whatever time was to pass has passed."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout is not None:
            self.skipped += timeout
        return events


class SimulatedTime(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped


class SimulatedEcs(EcsApi):
    """The real paging and reading; the requests are answered here, and counted as AWS counts them."""

    def __init__(self) -> None:
        super().__init__("cluster", region="us-east-1")
        self.tasks: dict[str, dict[str, Any]] = {}
        self.counted: Counter[str] = Counter()

    def put(self, name: str, status: str, health: str) -> None:
        version = self.tasks.get(name, {"version": 0})["version"]
        self.tasks[name] = {
            "taskArn": f"arn:aws:ecs:us-east-1:0:task/cluster/{name}",
            "startedBy": FLEET,
            "lastStatus": status,
            "desiredStatus": "RUNNING",
            "healthStatus": health,
            "version": version + 1,
            "attachments": [
                {
                    "type": "ElasticNetworkInterface",
                    "details": [{"name": "privateIPv4Address", "value": "10.0.0.1"}],
                }
            ],
        }

    async def _call(self, operation: str, tries: int, **request: Any) -> Mapping[str, Any]:
        self.counted[operation] += 1
        await asyncio.sleep(ANSWER_SECONDS)
        if operation == "describe_tasks":
            return {"tasks": [dict(self.tasks[name]) for name in request["tasks"]]}
        names = sorted(self.tasks)
        start = int(request.get("nextToken", 0))
        page = [self.tasks[name]["taskArn"] for name in names[start : start + BATCH]]
        more = {"nextToken": str(start + BATCH)} if start + BATCH < len(names) else {}
        return {"taskArns": page, **more}


def calls_a_minute(count: int, *, starting: bool) -> dict[str, float]:
    """Of each operation on average, and of all in the busiest minute."""
    minutes: list[int] = []
    ecs = SimulatedEcs()

    async def play() -> None:
        discovery = EcsDiscovery(ecs, FLEET, worker_port=1, clock=asyncio.get_running_loop().time)
        for n in range(count):
            ecs.put(f"w{n}", *(("PENDING", "UNKNOWN") if starting else ("RUNNING", "HEALTHY")))
        await discovery.swept()
        ecs.counted.clear()
        for minute in range(MINUTES):
            before = ecs.counted.total()
            for second in range(60):
                if starting:
                    ecs.put(f"w{(60 * minute + second) % count}", "PENDING", "UNKNOWN")
                await asyncio.sleep(1)
            minutes.append(ecs.counted.total() - before)
        await discovery.close()

    with asyncio.Runner(loop_factory=SimulatedTime) as runner:
        runner.run(play())
    return {
        "ListTasks": round(ecs.counted["list_tasks"] / MINUTES, 1),
        "DescribeTasks": round(ecs.counted["describe_tasks"] / MINUTES, 1),
        "busiest_minute": max(minutes),
    }
