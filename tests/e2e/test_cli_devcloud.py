"""`gooseherd devcloud`: a local cloud as a user starts it, troubles it and ends it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TEMPLATES = Path(__file__).parents[2] / "deploy" / "cloudformation"
ONLY_CHECKED = [
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::CloudFront::CachePolicy",
    "AWS::CloudFront::Distribution",
    "AWS::CloudWatch::Alarm",
    "AWS::DocDB::DBCluster",
    "AWS::DocDB::DBInstance",
    "AWS::DocDB::DBSubnetGroup",
    "AWS::Logs::MetricFilter",
    "AWS::RDS::DBInstance",
    "AWS::RDS::DBSubnetGroup",
]
"""Of the template: what a deployment here says nothing about. docs/aws.md has the same list."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def cloud(stranger: Any) -> Iterator[dict[str, str]]:
    """What it prints for the environment; it is ended by Ctrl-C."""
    with subprocess.Popen(
        stranger.command("devcloud", "start", "--port", "0", "--json"),
        env=stranger.environ,
        cwd=stranger.home,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        yield json.loads(started.stdout.readline())
        started.send_signal(signal.SIGINT)
        assert started.wait(60) == 0


def test_a_cloud_says_what_to_set_and_takes_orders(stranger: Any, cloud: dict[str, str]) -> None:
    assert cloud["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert {"WORKFLOW_S3_BUCKET", "ECS_CLUSTER", "WORKER_TLS_CA"} <= set(cloud)
    assert stranger.json("devcloud", "tasks") == []

    stands = stranger.json("devcloud", "fault", "capacity", "--times", "3")
    assert [(one["kind"], one["left"]) for one in stands] == [("capacity", 3)]
    cleared = stranger.run("devcloud", "clear")
    assert cleared.returncode == 0
    assert stranger.json("devcloud", "fault") == []
    assert stranger.json("devcloud", "calls", "--forget")["operations"]["ecs:CreateCluster"]["total"] == 1
    assert "ecs:CreateCluster" not in stranger.json("devcloud", "calls")["operations"]


def test_an_order_that_makes_no_sense_is_refused_in_words(stranger: Any, cloud: dict[str, str]) -> None:
    wrong = stranger.run("devcloud", "fault", "meteor")
    assert wrong.returncode == 2
    assert b"capacity" in wrong.stderr
    nobody = stranger.run("devcloud", "kill", "0" * 32)
    assert (nobody.returncode, b"no task" in nobody.stderr) == (1, True)


def test_without_a_cloud_it_says_how_to_start_one(stranger: Any) -> None:
    done = stranger.run("devcloud", "tasks")
    assert done.returncode == 3
    assert b"gooseherd devcloud start" in done.stderr


def test_a_service_runs_on_it_with_nothing_but_its_environment(stranger: Any, cloud: dict[str, str]) -> None:
    with subprocess.Popen(
        stranger.command("up", "--port", "0", "--json", "--state-dir", str(stranger.home / "api")),
        env={**stranger.environ, **cloud},
        cwd=stranger.home,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as up:
        assert up.stdout is not None
        output = json.loads(up.stdout.readline())
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    assert output["profile"] == "devcloud"


def test_the_template_is_deployed_tried_through_its_load_balancer_and_removed(stranger: Any) -> None:
    only = ("--format", "bam", "--format", "bed")
    found = stranger.json("devcloud", "deploy", str(TEMPLATES), *only)
    assert [(one["format"], one["ok"]) for one in found["smoke"]["formats"]] == [("bam", True), ("bed", True)]
    assert not any(found["left_over"].values()), found["left_over"]
    assert found["only_checked"] == ONLY_CHECKED
    page = (TEMPLATES.parents[1] / "docs" / "aws.md").read_text()
    assert all(name in page for name in ONLY_CHECKED)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_format_goes_through_the_template(stranger: Any) -> None:
    found = stranger.json("devcloud", "deploy", str(TEMPLATES))
    assert all(one["ok"] for one in found["smoke"]["formats"])
    assert len(found["smoke"]["formats"]) >= 15
    assert not any(found["left_over"].values()), found["left_over"]


def test_a_folder_without_a_template_is_named(stranger: Any) -> None:
    done = stranger.run("devcloud", "deploy", str(stranger.home))
    assert done.returncode == 2
    assert b"gooseherd.yaml" in done.stderr
