"""What is said of a stopped FleetTask."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.errors import LaunchFailed
from gooseherd.domain.failures import Reason
from gooseherd.fleet.diagnosis import Cause, as_error, diagnose, scrubbed, starting_late


def ended(code: int | None, reason: str = "", **more: object) -> dict[str, Any]:
    return {
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "containers": [{"name": "worker", "exitCode": code, "reason": reason}],
        **more,
    }


def unstarted(reason: str, container: str = "") -> dict[str, Any]:
    return {
        "stopCode": "TaskFailedToStart",
        "stoppedReason": reason,
        "containers": [{"name": "worker", "reason": container}],
    }


@pytest.mark.parametrize(
    ("payload", "cause", "expected"),
    [
        (ended(137, "OutOfMemoryError: Container killed due to memory usage"), Cause.MEMORY, "out of memory"),
        (ended(137), Cause.KILLED, "nothing says by whom"),
        (ended(139), Cause.PROGRAM, "killed by SIGSEGV"),
        (ended(143), Cause.PROGRAM, "killed by SIGTERM"),
        (ended(255), Cause.PROGRAM, "exited with status 255"),
        (ended(127), Cause.PROGRAM, "not in the image"),
        (ended(1), Cause.PROGRAM, "exited with status 1"),
        (ended(78), Cause.CONFIGURATION, "refused its settings"),
        (ended(0), Cause.PROGRAM, "ended by itself"),
        (
            ended(None, stoppedReason="Task failed container health checks"),
            Cause.PROGRAM,
            "failed its health checks",
        ),
        (ended(137, stopCode="UserInitiated"), Cause.STOPPED, "on request"),
        (ended(0, stopCode="SpotInterruption"), Cause.CAPACITY, "Spot"),
        (ended(137, stopCode="TerminationNotice"), Cause.PLATFORM, "retired"),
        (unstarted("CannotPullContainerError: ref x:1: not found"), Cause.CONFIGURATION, "image"),
        (unstarted("CannotPullContainerError: dial tcp: i/o timeout"), Cause.PLATFORM, "image"),
        (
            unstarted("ResourceInitializationError: unable to pull secrets: AccessDeniedException: no"),
            Cause.CONFIGURATION,
            "secrets",
        ),
        (
            unstarted("ResourceInitializationError: failed to configure ENI: timeout"),
            Cause.PLATFORM,
            "network",
        ),
        (
            unstarted("Task failed to start", "CannotStartContainerError: exec: no such file"),
            Cause.CONFIGURATION,
            "could not be started",
        ),
        (
            unstarted("Timeout waiting for network interface provisioning to complete."),
            Cause.PLATFORM,
            "network interface",
        ),
        (unstarted("Capacity is unavailable at this time."), Cause.CAPACITY, "no capacity"),
        ({}, Cause.UNKNOWN, "stopped"),
    ],
)
def test_each_end_has_a_cause_and_a_sentence(payload, cause, expected) -> None:
    diagnosis = diagnose(payload)
    assert diagnosis.cause is cause
    assert expected in str(diagnosis)


def test_account_arns_and_hosts_are_not_told() -> None:
    result = scrubbed(
        "ref 123456789012.dkr.ecr.eu-west-1.amazonaws.com/w:1 for arn:aws:iam::123456789012:role/x denied"
    )
    assert "123456789012" not in result
    assert "amazonaws" not in result
    assert result.endswith("denied")


def test_a_late_one_is_told_by_where_it_is() -> None:
    assert "status pending" in str(starting_late({"lastStatus": "PENDING"}, 300))
    assert starting_late({"lastStatus": "RUNNING", "healthStatus": "UNHEALTHY"}, 1).cause is Cause.PROGRAM
    assert starting_late({}, 1).cause is Cause.PLATFORM


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "stopCode": st.none() | st.text(max_size=20),
            "stoppedReason": st.none() | st.text(max_size=2000),
            "containers": st.none()
            | st.lists(
                st.fixed_dictionaries(
                    {}, optional={"exitCode": st.none() | st.integers(), "reason": st.none() | st.text()}
                )
            ),
        },
    )
)
def test_no_payload_is_too_odd_for_one_bounded_line(payload) -> None:
    result = str(diagnose(payload))
    assert result
    assert "\n" not in result
    assert len(result) < 600


def test_only_what_ecs_calls_out_of_memory_is_one() -> None:
    assert diagnose(ended(137, "OutOfMemoryError: killed")).reason is Reason.OUT_OF_MEMORY
    # The server process went, the entrypoint saw it and left: the container still says why.
    assert diagnose(ended(70, "OutOfMemoryError: killed")).reason is Reason.OUT_OF_MEMORY
    for payload in (ended(137), ended(139), ended(0), ended(0, stopCode="SpotInterruption"), {}):
        assert diagnose(payload).reason is Reason.WORKER_LOST


def test_a_worker_that_was_not_seen_to_be_healthy_in_time_costs_no_job_its_future() -> None:
    late = starting_late({"lastStatus": "RUNNING", "healthStatus": "UNKNOWN"}, 60)
    assert isinstance(as_error(late), LaunchFailed)
    assert "needs a healthCheck" in str(late)
