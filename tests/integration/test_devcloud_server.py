"""The local cloud as a process: it starts, it ends in order, and nothing outlives it however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.bootstrap import Deployment, bootstrap
from gooseherd.devcloud.child_process import LocalCloud
from gooseherd.domain.errors import Misconfigured
from gooseherd.processes import ProcessId

pytestmark = pytest.mark.integration

IMAGES = {"gooseherd-worker:dev": ["/bin/sh", "-c"]}
DESCENDANTS = "setsid sleep 600 & sleep 600 & trap 'exit 0' TERM; while :; do sleep 0.05; done"


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[LocalCloud]:
    cloud = LocalCloud(tmp_path / "cloud", images=IMAGES, scale=0.02)
    await cloud.start()
    yield cloud
    await cloud.stop()


def ecs_of(url: str) -> Any:
    return boto3.client(
        "ecs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=CLOUD_KEY.key_id,
        aws_secret_access_key=CLOUD_KEY.secret,
    )


def deploy(url: str, **more: Any) -> Deployment:
    return bootstrap(
        url, key=CLOUD_KEY, worker_command=[DESCENDANTS], health_command=["CMD", "/bin/true"], **more
    )


def start_tasks(url: str, count: int) -> None:
    """Start them and wait until all are healthy."""
    deployment = deploy(url)
    with closing(ecs_of(url)) as ecs:
        ecs.run_task(
            cluster=deployment.cluster,
            taskDefinition=deployment.task_definition,
            launchType="FARGATE",
            count=count,
            networkConfiguration={"awsvpcConfiguration": {"subnets": list(deployment.subnets)}},
        )

        def healthy() -> bool:
            arns = ecs.list_tasks(cluster=deployment.cluster)["taskArns"]
            tasks = ecs.describe_tasks(cluster=deployment.cluster, tasks=arns)["tasks"]
            return [task["healthStatus"] for task in tasks] == ["HEALTHY"] * count

        poll(healthy)


def poll(seen: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := seen()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def below(pid: int) -> list[ProcessId]:
    """All descendants of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, new = [], [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, [])]
        found += new
    return [name for child in found if (name := ProcessId.of(child)) is not None]


def of_tasks(server: int, count: int) -> list[ProcessId]:
    """All processes of so many tasks, as soon as each has started its own: being healthy comes first."""

    def sleeping() -> list[ProcessId]:
        processes = below(server)
        # Two sleeps a task, one of them in a session of its own.
        return processes if sum(command(name.pid) == "sleep 600" for name in processes) == 2 * count else []

    found: list[ProcessId] = poll(sleeping)
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


async def test_killing_the_server_leaves_no_process(cloud: LocalCloud) -> None:
    await asyncio.to_thread(start_tasks, cloud.url, 3)
    assert cloud.pid is not None
    processes = await asyncio.to_thread(of_tasks, cloud.pid, 3)
    os.kill(cloud.pid, signal.SIGKILL)
    await asyncio.to_thread(poll, lambda: not any(process.alive for process in processes))


async def test_stopping_it_ends_tasks_in_order(cloud: LocalCloud, tmp_path: Path) -> None:
    await asyncio.to_thread(start_tasks, cloud.url, 2)
    assert cloud.pid is not None
    processes = await asyncio.to_thread(of_tasks, cloud.pid, 2)
    await cloud.stop()
    await cloud.stop()
    assert not any(process.alive for process in processes)
    assert (tmp_path / "cloud/devcloud.log").read_text().count("The local cloud was stopped.") == 2
    assert not list((tmp_path / "cloud/tasks").iterdir())


async def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from gooseherd.devcloud.child_process import LocalCloud\n"
        "async def main():\n"
        "    cloud = LocalCloud(Path(sys.argv[1]), images={}); await cloud.start()\n"
        "    print(cloud.pid, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "cloud"), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    server = ProcessId.of(int(await owner.stdout.readline()))
    assert server is not None
    owner.kill()
    await owner.communicate()
    assert await asyncio.to_thread(server.wait, 30)


async def test_a_directory_and_a_port_have_one_owner(cloud: LocalCloud, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="in use"):
        await LocalCloud(tmp_path / "cloud", images={}).start()
    port = int(cloud.url.rpartition(":")[2])
    with pytest.raises(Misconfigured, match=f"port {port}"):
        await LocalCloud(tmp_path / "other", images={}, port=port).start()


async def test_it_listens_on_loopback_only(cloud: LocalCloud) -> None:
    port = int(cloud.url.rpartition(":")[2])
    listening = (await asyncio.to_thread(Path("/proc/net/tcp").read_text)).splitlines()[1:]
    local = [line.split()[1] for line in listening if line.split()[3] == "0A"]
    assert f"0100007F:{port:04X}" in local
    assert not any(entry.endswith(f":{port:04X}") and not entry.startswith("0100007F") for entry in local)


async def test_a_second_bootstrap_changes_nothing(cloud: LocalCloud) -> None:
    first = await asyncio.to_thread(deploy, cloud.url)
    assert await asyncio.to_thread(deploy, cloud.url) == first
    with closing(ecs_of(cloud.url)) as ecs:
        assert len(ecs.list_task_definitions()["taskDefinitionArns"]) == 1
        await asyncio.to_thread(deploy, cloud.url, environment={"NEW": "1"})
        assert len(ecs.list_task_definitions()["taskDefinitionArns"]) == 2
    result = first.environment(cloud.url)
    assert (result["ECS_CLUSTER"], result["WORKFLOW_S3_BUCKET"]) == ("gooseherd", "gooseherd")


async def test_an_idle_connection_does_not_keep_it_from_ending(cloud: LocalCloud) -> None:
    host, port = cloud.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        await cloud.stop()
    assert cloud.pid is None


def test_naming_the_local_cloud_loads_no_cloud() -> None:
    script = (
        "import sys, json, gooseherd.devcloud.child_process;"
        "import gooseherd.devcloud.bootstrap, gooseherd.storage.s3;"
        "heavy = {'moto', 'boto3', 'botocore', 'obstore', 'werkzeug'} & set(sys.modules);"
        "print(json.dumps(sorted(heavy)))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []
