"""The states of a task, one after the other, seen from inside: no state is skipped or entered twice."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from gooseherd.devcloud.addresses import AddressPool, NoAddressLeft, own_network
from gooseherd.devcloud.cloud_configuration import CloudConfiguration
from gooseherd.devcloud.pace import Pace
from gooseherd.devcloud.permissions import Permissions
from gooseherd.devcloud.run_task import ApiError, Placement, place, plan_task
from gooseherd.devcloud.task_documents import new_task
from gooseherd.devcloud.task_secrets import TaskSecrets
from gooseherd.devcloud.tasks import CloudTask, Ending

IMAGES = {"sh": ["/bin/sh", "-c"], "run": ["/bin/sh", "-c", "echo at {address}; cat {env_file}"]}
STARTED = ["PENDING", "ACTIVATING", "RUNNING"]
STOPPED = ["DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"]


class WatchedTask(CloudTask):
    """Writes down each state, and stops itself in the one it is told."""

    stop_in = ""

    def _change(self, **more: Any) -> None:
        super()._change(**more)
        self.states = [*getattr(self, "states", []), *([more["lastStatus"]] if "lastStatus" in more else [])]
        if more.get("lastStatus") == self.stop_in and self.document["desiredStatus"] == "RUNNING":
            self.stop(Ending("UserInitiated", "enough"))


def make(folder: Path, command: str, image: str = "sh") -> WatchedTask:
    container = {"name": "main", "image": image, "command": [command]}
    definition = {
        "family": "f",
        "taskDefinitionArn": "arn:aws:ecs:r:1:task-definition/f:1",
        "status": "ACTIVE",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [container],
    }
    request = {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}}
    plan = plan_task(definition, request)
    document = new_task("arn:aws:ecs:r:1:cluster/c", plan, Placement("FARGATE", None), request, [], "r")
    pace = Pace(provisioning=1, pending=1, activating=1, deactivating=1, deprovisioning=1, scale=0.01)
    configuration = CloudConfiguration(state_dir=folder, url="http://127.0.0.1:1", pace=pace, images=IMAGES)
    configuration.logs.mkdir()
    pool = AddressPool(ipaddress.IPv4Network("127.9.9.0/30"))
    secrets = TaskSecrets(Permissions())
    return WatchedTask(
        document,
        plan,
        [],
        configuration=configuration,
        addresses=pool,
        region="r",
        task_secrets=secrets,
    )


async def test_a_program_that_ends_has_gone_through_all_states(tmp_path: Path) -> None:
    task = make(tmp_path, "exit 0")
    assert task.document["lastStatus"] == "PROVISIONING"
    await task.live()
    assert task.states == STARTED + STOPPED
    assert task.document["version"] > len(task.states)
    assert not list((tmp_path / "tasks").iterdir())


@pytest.mark.parametrize("state", ["PENDING", "ACTIVATING"])
async def test_a_task_stopped_before_it_runs_starts_nothing(tmp_path: Path, state: str) -> None:
    task = make(tmp_path, "echo ran; sleep 600")
    task.stop_in = state
    await task.live()
    assert task.states[-2:] == ["DEPROVISIONING", "STOPPED"]
    assert "RUNNING" not in task.states
    assert (task.document["stopCode"], task.document["stoppedReason"]) == ("UserInitiated", "enough")
    assert not list((tmp_path / "logs").iterdir())


async def test_a_task_stopped_while_it_starts_is_stopped_in_order(tmp_path: Path) -> None:
    task = make(tmp_path, "exec sleep 600")
    task.stop_in = "RUNNING"
    await task.live()
    assert task.states == STARTED + STOPPED
    assert task.document["containers"][0]["exitCode"] == 143


async def test_a_command_that_starts_containers_is_told_address_and_environment(tmp_path: Path) -> None:
    task = make(tmp_path, "", image="run")
    await task.live()
    content = task.log_of("main").read_text()
    assert "at 127.9.9.1" in content
    assert "BIND_HOST=127.9.9.1\n" in content


async def test_the_first_reason_to_end_stands(tmp_path: Path) -> None:
    task = make(tmp_path, "exec sleep 600")
    task.stop_in = "RUNNING"
    await task.live()
    task.stop(Ending("SpotInterruption", "too late"))
    assert task.document["stopCode"] == "UserInitiated"


def test_an_address_is_one_tasks_only() -> None:
    pool = AddressPool(ipaddress.IPv4Network("127.9.9.0/30"))
    first, second = pool.take(), pool.take()
    assert first != second
    with pytest.raises(NoAddressLeft):
        pool.take()
    pool.give_back(first)
    assert pool.take() == first
    with pytest.raises(ValueError, match="not loopback"):
        AddressPool(ipaddress.IPv4Network("10.0.0.0/24"))


def test_two_local_clouds_share_no_address() -> None:
    networks = {own_network(port) for port in range(1024, 65536, 7)}
    assert len(networks) == len(range(1024, 65536, 7))
    assert all(network.is_loopback and not network.overlaps(own_network(256)) for network in networks)


def test_a_strategy_fills_its_base_and_then_goes_by_weight() -> None:
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 3},
    ]
    request = {"capacityProviderStrategy": strategy}
    placed = [item.provider for item in place(request, ["FARGATE", "FARGATE_SPOT"], [], 9)]
    assert placed.count("FARGATE_SPOT") == 6
    assert place({}, ["FARGATE_SPOT"], [{"capacityProvider": "FARGATE_SPOT"}], 1)[0].spot
    with pytest.raises(ApiError):
        place(request, ["FARGATE"], [], 1)
