"""A local cloud with stand-in workers, and fleets over it as wiring makes them."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.bootstrap import WORKER_IMAGE, Deployment, bootstrap
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerNeed
from gooseherd.fleet.discovery import EcsDiscovery, PollPace
from gooseherd.fleet.ecs_api import EcsApi
from gooseherd.fleet.ecs_fleet import EcsFleet
from gooseherd.fleet.ecs_health import http_probe
from gooseherd.fleet.provisioner import EcsProvisioner, LaunchTemplate, Placement

STAND_IN = Path(__file__).parent / "stand_in_worker.py"
REAL_IMAGE = "gooseherd-worker:real"
PATIENCE_SECONDS = 60.0
PACE = PollPace(
    young=0.05, starting=0.2, busy=1.0, idle=2.0, birth_grace=2.0, absence_gap=0.2, calls_per_minute=1200
)


async def until(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what or condition}"
        await asyncio.sleep(0.02)


class Site:
    """Fleets of one test, by a name of the test's own in a shared cluster."""

    def __init__(self, url: str, deployment: Deployment, cloud_admin: LocalCloudAdmin, name: str) -> None:
        self.url = url
        self.deployment = deployment
        self.cloud_admin = cloud_admin
        self.name = name
        # Client tokens are made of jobs' names, and the cluster remembers them.
        self.run = uuid.uuid4().hex[:8]
        self.answers: dict[str, Mapping[str, Any] | Exception] = {}
        """What workers say of themselves, by their id, where it is not that they are idle."""
        self._made: list[EcsFleet] = []
        self._apis: list[EcsApi] = []

    def api(self, cluster: str | None = None, **more: Any) -> EcsApi:
        api = EcsApi(
            cluster or self.deployment.cluster,
            region="us-east-1",
            endpoint_url=self.url,
            backoff_seconds=0.02,
            **more,
        )
        self._apis.append(api)
        return api

    def template(self, **more: Any) -> LaunchTemplate:
        given = {
            "fleet": self.name,
            "task_definition": self.deployment.task_definition,
            "subnets": self.deployment.subnets,
            "security_groups": self.deployment.security_groups,
            **more,
        }
        return LaunchTemplate(**given)

    def fleet(
        self,
        *,
        max_workers: int = 4,
        probing: bool = True,
        pace: PollPace = PACE,
        start_timeout: float = PATIENCE_SECONDS,
        environment: Mapping[str, str] | None = None,
        placement: Placement = Placement.FARGATE,
        task_definition: str | None = None,
        name: str | None = None,
        **more: Any,
    ) -> EcsFleet:
        api = self.api()
        template = self.template(
            environment=environment or {},
            placement=placement,
            **({"fleet": name} if name else {}),
            task_definition=task_definition or self.deployment.task_definition,
        )
        fleet = EcsFleet(
            api=api,
            provisioner=EcsProvisioner(api, template),
            discovery=EcsDiscovery(
                api,
                name or self.name,
                worker_port=50051,
                pace=pace,
                probe=http_probe(8080) if probing else None,
            ),
            max_workers=max_workers,
            start_timeout=start_timeout,
            **{"describe": self._describe, "build": "b1", "sure_for": 0.0, **more},
        )
        self._made.append(fleet)
        return fleet

    async def _describe(self, worker: WorkerHandle) -> Mapping[str, Any]:
        lines = self.answers.get(worker.worker_id, {"build": "b1", "attempts": [], "draining": False})
        if isinstance(lines, Exception):
            raise lines
        return lines

    def real_worker(self, environment: Mapping[str, str]) -> str:
        """A task definition of the worker itself."""
        made = bootstrap(
            self.url,
            key=CLOUD_KEY,
            family=f"real-{self.run}",
            image=REAL_IMAGE,
            environment=environment,
            stop_timeout_seconds=30,
        )
        return made.task_definition

    def tasks(self) -> list[dict[str, Any]]:
        return [task for task in self.cloud_admin.tasks() if task["startedBy"] == self.name]

    def live(self) -> list[dict[str, Any]]:
        return [task for task in self.tasks() if task["status"] != "STOPPED"]

    def need(self, job: str, number: int = 1, source_bytes: int | None = 1000) -> WorkerNeed:
        return WorkerNeed(AttemptId(JobId(f"{job}-{self.run}"), number), BED, source_bytes)

    until = staticmethod(until)

    async def close(self) -> None:
        self.cloud_admin.clear()
        for fleet in self._made:
            await fleet.close()
        for api in self._apis:
            await api.close()
        stopping = EcsApi(self.deployment.cluster, region="us-east-1", endpoint_url=self.url)
        for task in self.live():
            await stopping.stop_task(task["id"], "the test is over")
        await stopping.close()
        await until(lambda: not self.live(), "all stopped")


@pytest.fixture(scope="session")
def ecs_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Deployment]]:
    images = {
        WORKER_IMAGE: [sys.executable, "-S", "-E", str(STAND_IN)],
        REAL_IMAGE: [sys.executable, "-m", "gooseherd.worker.main"],
    }
    state = tmp_path_factory.mktemp("ecs")
    with running_cloud(state, images=images, options=["--scale", "0.02"]) as url:
        yield url, bootstrap(url, key=CLOUD_KEY, stop_timeout_seconds=30)


@pytest.fixture(autouse=True)
def credentials(cloud_credentials: None) -> None:
    """For all tests here."""


@pytest.fixture
async def site(
    ecs_cloud: tuple[str, Deployment], credentials: None, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    url, deployment = ecs_cloud
    name = "".join(sign if sign.isalnum() else "-" for sign in request.node.name)[:128]
    with LocalCloudAdmin(url, CLOUD_KEY) as cloud_admin:
        site = Site(url, deployment, cloud_admin, name)
        yield site
        await site.close()
