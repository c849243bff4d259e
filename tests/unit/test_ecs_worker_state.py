"""What one observation changes in what is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.fleet.ecs_tasks import FleetTask
from gooseherd.fleet.worker_state import WorkerState, observe

W = WorkerId("a" * 32)
RULES = {"birth_grace": 60.0, "absence_gap": 2.0}


def task(status="RUNNING", health="HEALTHY", version=1, wanted="RUNNING", address="10.0.0.7") -> FleetTask:
    return FleetTask.read(
        {
            "taskArn": f"arn:aws:ecs:eu-west-1:1:task/c/{W}",
            "lastStatus": status,
            "desiredStatus": wanted,
            "healthStatus": health,
            "version": version,
            "cpu": "1024",
            "memory": "2048",
            "createdAt": datetime(2026, 1, 1, tzinfo=UTC),
            "overrides": {
                "containerOverrides": [{"environment": [{"name": "WORKER_LAUNCHED_FOR", "value": "j.1"}]}]
            },
            "attachments": [
                {
                    "type": "ElasticNetworkInterface",
                    "details": [{"name": "privateIPv4Address", "value": address}],
                }
            ],
        }
    )


def after(seen: WorkerState | None, shown: FleetTask | None, *, now=100.0, listed=()) -> WorkerState:
    known = {} if seen is None else {W: seen}
    tasks = {} if shown is None else {W: shown}
    changed = observe(known, tasks, set() if shown else {W}, listed, now=now, **RULES)
    sighting = changed.get(W, seen)
    assert sighting is not None
    return sighting


def test_a_payload_is_read() -> None:
    read = task()
    assert (read.worker_id, read.address, read.launched_for) == (W, "10.0.0.7", "j.1")
    assert (read.size.cpu, read.size.memory_mib, read.size.disk_gib) == (1024, 2048, 20)


def test_only_a_healthy_one_that_is_meant_to_run_is_healthy() -> None:
    assert after(None, task()).healthy
    for other in (
        task(health="UNKNOWN"),
        task(health="UNHEALTHY"),
        task(status="PENDING"),
        task(wanted="STOPPED"),
        task(status="STOPPED", wanted="STOPPED"),
    ):
        assert not after(None, other).healthy


def test_its_own_answer_counts_until_ecs_knows_better() -> None:
    probed = WorkerState(W, 0.0, task(health="UNKNOWN"), probed=True)
    assert probed.healthy
    assert after(probed, task(version=2)).healthy
    assert not after(probed, task(version=2, health="UNHEALTHY")).healthy
    assert not after(probed, task(version=2, wanted="STOPPED")).healthy


def test_a_just_launched_one_that_is_missing_is_waited_for() -> None:
    new = WorkerState(W, 50.0)
    assert after(new, None, now=100.0) is new
    assert after(new, None, now=111.0).absences == 1


def test_two_absences_with_time_between_them_are_an_end() -> None:
    seen = WorkerState(W, 0.0, task())
    once = after(seen, None, now=100.0)
    assert (once.absences, once.gone, once.healthy) == (1, False, True)
    assert after(once, None, now=101.0) is once
    twice = after(once, None, now=103.0)
    assert twice.gone
    assert "no longer known" in twice.diagnosis()


def test_one_sight_forgives_an_absence() -> None:
    once = after(WorkerState(W, 0.0, task()), None)
    assert after(once, task()).absences == 0


def test_one_that_is_listed_is_not_absent() -> None:
    seen = WorkerState(W, 0.0, task())
    assert after(seen, None, listed={W}) is seen


def test_an_older_picture_changes_nothing() -> None:
    seen = WorkerState(W, 0.0, task(version=5))
    assert after(seen, task(version=4, health="UNKNOWN")) is seen


def test_the_end_is_final() -> None:
    gone = after(None, task(status="STOPPED", wanted="STOPPED", version=9))
    assert gone.gone
    assert after(gone, task(version=10)) is gone


@given(
    st.lists(
        st.none()
        | st.builds(
            task,
            status=st.sampled_from(["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING"]),
            health=st.sampled_from(["UNKNOWN", "HEALTHY", "UNHEALTHY"]),
            version=st.integers(1, 5),
        ),
        max_size=20,
    )
)
def test_nothing_but_stopped_or_two_absences_in_a_row_ends_one(history) -> None:
    seen = WorkerState(W, 0.0, task(version=1))
    for step, shown in enumerate(history):
        before = seen
        seen = after(seen, shown, now=1000.0 + 10 * step)
        if seen.gone and not before.gone:
            assert shown is None
            assert step > 0
            assert before.absences == 1


def test_a_container_that_ran_out_of_memory_is_known_before_its_task_counts_as_stopped() -> None:
    dying = task("DEPROVISIONING", wanted="STOPPED")
    result = [{"name": "worker", "exitCode": 137, "reason": "OutOfMemoryError: killed"}]
    dying = replace(dying, payload={**dying.payload, "containers": result})
    assert WorkerState(W, 0.0, dying).reason is Reason.OUT_OF_MEMORY
    for other in (None, task(), task("STOPPED", wanted="STOPPED")):
        assert WorkerState(W, 0.0, other).reason is Reason.WORKER_LOST
