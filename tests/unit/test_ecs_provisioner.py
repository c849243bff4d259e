"""What is asked of RunTask, how fast, and what the answers mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import LaunchFailed, Misconfigured, NoCapacity, NotFound
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.ecs_api import AlreadyLaunched, CloudUnavailable, EcsApi, _meaning
from gooseherd.fleet.ecs_rate import TokenBucket
from gooseherd.fleet.provisioner import (
    EcsProvisioner,
    LaunchTemplate,
    Placement,
    client_token,
    launch_request,
)

ATTEMPT = AttemptId(JobId("4f" * 16), 2)
TEMPLATE: dict[str, Any] = {"fleet": "gooseherd/test", "task_definition": "worker", "subnets": ["subnet-1"]}


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"task_definition": ""}, "ECS_WORKER_TASK_DEFINITION"),
        ({"subnets": []}, "ECS_WORKER_SUBNETS"),
        ({"subnets": [""]}, "ECS_WORKER_SUBNETS"),
        ({"subnets": ["s"] * 17}, "ECS_WORKER_SUBNETS"),
        ({"fleet": "no spaces please"}, "ECS_FLEET"),
    ],
)
def test_what_cannot_work_is_refused_by_name(wrong, setting) -> None:
    with pytest.raises(Misconfigured) as error:
        LaunchTemplate(**{**TEMPLATE, **wrong})
    assert error.value.setting == setting


def test_an_empty_cluster_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="ECS_CLUSTER"):
        EcsApi("", region="us-east-1")


def test_client_tokens_are_the_attempts_and_fit() -> None:
    assert client_token(ATTEMPT, spot=False) == f"{'4f' * 16}.2"
    tokens = {
        client_token(AttemptId(JobId(job), number), spot=spot)
        for job in ("a", "b" * 200, "ä ö")
        for number in (1, 2)
        for spot in (False, True)
    }
    assert len(tokens) == 12
    assert all(len(token) <= 64 and token.isascii() and " " not in token for token in tokens)


def test_a_request_says_where_how_large_and_for_whom() -> None:
    template = LaunchTemplate(**TEMPLATE, security_groups=["sg-1"], environment={"A": "b"})
    request = launch_request(template, ATTEMPT, WorkerSize(1024, 2048, 50), spot=False)
    assert request["launchType"] == "FARGATE"
    assert request["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": ["subnet-1"],
        "securityGroups": ["sg-1"],
        "assignPublicIp": "DISABLED",
    }
    assert request["overrides"]["ephemeralStorage"] == {"sizeInGiB": 50}
    assert request["overrides"]["containerOverrides"][0]["environment"] == [
        {"name": "A", "value": "b"},
        {"name": "WORKER_LAUNCHED_FOR", "value": str(ATTEMPT)},
        {"name": "WORKER_MEMORY_BYTES", "value": str(2048 << 20)},
        {"name": "WORKER_THREADS", "value": "2"},
    ]
    assert request["startedBy"] == "gooseherd/test"
    spot = launch_request(template, ATTEMPT, WorkerSize(1024, 2048), spot=True)
    assert "launchType" not in spot
    assert spot["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
    assert "ephemeralStorage" not in spot["overrides"]


def test_tags_say_what_is_true_of_a_worker_as_long_as_it_lives() -> None:
    def tags(attempt: AttemptId, build: str = "1.2+p5", *, reserved: bool = False) -> dict[str, str]:
        template = LaunchTemplate(**TEMPLATE, build=build)
        request = launch_request(template, attempt, WorkerSize(1024, 2048), spot=False, reserved=reserved)
        return {tag["key"].removeprefix("gooseherd:"): tag["value"] for tag in request["tags"]}

    assert tags(ATTEMPT) == {
        "fleet": "gooseherd/test",
        "attempt": str(ATTEMPT),
        "lane": "job",
        "build": "1.2+p5",
    }
    session = tags(AttemptId(JobId("session-7f"), 1), reserved=True)
    assert (session["lane"], session["session"]) == ("session", "7f")
    floor = tags(AttemptId(JobId("floor-8a"), 1), reserved=True)
    assert (floor["lane"], "session" in floor) == ("floor", False)
    assert tags(ATTEMPT, "a,b;c")["build"] == "a_b_c", "what AWS takes"


@pytest.mark.parametrize(
    ("cpu", "expected", "threads"), [(256, {}, "2"), (4096, {}, "4"), (4096, {"WORKER_THREADS": "3"}, "3")]
)
def test_tools_have_a_thread_for_each_cpu_of_the_task_unless_it_is_said(cpu, expected, threads) -> None:
    template = LaunchTemplate(**TEMPLATE, environment=expected)
    request = launch_request(template, ATTEMPT, WorkerSize(cpu, 8192), spot=False)
    environment = request["overrides"]["containerOverrides"][0]["environment"]
    assert {"name": "WORKER_THREADS", "value": threads} in environment


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ThrottlingException", "Rate exceeded", CloudUnavailable),
        ("ServerException", "Capacity is unavailable", CloudUnavailable),
        ("ClusterNotFoundException", "Cluster not found.", Misconfigured),
        ("AccessDeniedException", "User is not authorized", Misconfigured),
        ("ClientException", "Capacity is unavailable at this time.", NoCapacity),
        ("ClientException", "You've reached the limit on the number of vCPUs", NoCapacity),
        ("ClientException", "TaskDefinition not found.", Misconfigured),
        ("ClientException", "something new", LaunchFailed),
        ("InvalidParameterException", "something new", Misconfigured),
        ("ConflictException", "in use", AlreadyLaunched),
        ("", "", CloudUnavailable),
    ],
)
def test_errors_are_told_apart_by_their_code(code, message, kind) -> None:
    answer = {"Error": {"Code": code, "Message": message}, "resourceIds": ["arn:x:task/c/t1"]}
    error = _meaning(answer, "run_task")
    assert type(error) is kind
    if isinstance(error, AlreadyLaunched):
        assert error.worker_ids == ("t1",)


@pytest.mark.parametrize(
    ("message", "of_request"),
    [
        ("No Fargate configuration exists for given values.", True),
        ("The capacity provider is not there.", False),
        ("something new", False),
    ],
)
def test_a_size_that_the_region_has_not_is_refused_to_one_request_and_not_to_all(message, of_request) -> None:
    error = _meaning({"Error": {"Code": "InvalidParameterException", "Message": message}}, "run_task")
    assert isinstance(error, Misconfigured)
    assert error.of_request is of_request


def test_stopping_one_that_is_not_there_is_known_as_such() -> None:
    answer = {"Error": {"Code": "InvalidParameterException", "Message": "The referenced task was not found."}}
    assert isinstance(_meaning(answer, "stop_task"), NotFound)


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wake = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, wake)


async def test_launches_keep_to_the_rate_after_a_burst() -> None:
    time = Time()
    bucket = TokenBucket(20, 20, clock=time, sleep=time.sleep)
    waits = [bucket.spend() for _ in range(60)]
    assert waits[:20] == [0.0] * 20
    assert waits[20:] == pytest.approx([n / 20 for n in range(1, 41)])
    time.now = 100.0
    assert bucket.spend(20) == 0.0
    before = time.now
    await bucket.take(10)
    assert time.now - before == pytest.approx(0.5)


class CountingApi:
    def __init__(self, *answers: Exception | None) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answers = list(answers)

    async def run_task(self, request: dict[str, Any]) -> Any:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self._answers and (answer := self._answers.pop(0)) is not None:
            raise answer

        class Started:
            worker_id = "w1"

        return Started


async def test_many_requests_for_one_attempt_are_one_call() -> None:
    api: Any = CountingApi()
    provisioner = EcsProvisioner(api, LaunchTemplate(**TEMPLATE))
    asked = [asyncio.create_task(provisioner.launch(ATTEMPT, WorkerSize(1024, 2048))) for _ in range(9)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert await asyncio.gather(*asked[1:]) == ["w1"] * 8
    assert len(api.requests) == 1


async def test_spot_first_falls_back_for_want_of_capacity_and_for_nothing_else() -> None:
    template = LaunchTemplate(**TEMPLATE, placement=Placement.SPOT_FIRST)
    api: Any = CountingApi(NoCapacity("(none)"))
    await EcsProvisioner(api, template).launch(ATTEMPT, WorkerSize(1024, 2048))
    assert ["launchType" in request for request in api.requests] == [False, True]
    assert len({request["clientToken"] for request in api.requests}) == 2
    api = CountingApi(Misconfigured("ECS_WORKER_SUBNETS", "no"))
    with pytest.raises(Misconfigured):
        await EcsProvisioner(api, template).launch(ATTEMPT, WorkerSize(1024, 2048))
    assert len(api.requests) == 1


async def test_a_token_that_stands_for_a_worker_names_it() -> None:
    api: Any = CountingApi(AlreadyLaunched((WorkerId("w9"),)))
    assert await EcsProvisioner(api, LaunchTemplate(**TEMPLATE)).launch(ATTEMPT, WorkerSize(1, 1)) == "w9"
