"""The local cloud's service scheduler: enough tasks at every step, never too many, and it comes to an end."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gooseherd.devcloud.service_plan import ServiceTask, failures_allowed, plan_step


def task(name: str, *, current: bool = True, ready: bool = True, broken: bool = False) -> ServiceTask:
    return ServiceTask(name, current, ready, broken)


def test_the_old_ones_stay_until_the_new_ones_are_ready() -> None:
    old = [task("a", current=False), task("b", current=False)]
    assert plan_step(old, 2, 100, 200).start == 2
    starting = [*old, task("c", ready=False), task("d", ready=False)]
    assert plan_step(starting, 2, 100, 200).stop == ()
    one_ready = [*old, task("c"), task("d", ready=False)]
    assert plan_step(one_ready, 2, 100, 200).stop == ("a",)


def test_one_that_is_broken_is_stopped_and_replaced() -> None:
    step = plan_step([task("a"), task("b", ready=False, broken=True)], 2, 100, 200)
    assert (step.start, step.stop) == (1, ("b",))


def test_surplus_is_stopped_those_first_that_are_not_ready() -> None:
    assert plan_step([task("a"), task("b", ready=False)], 1, 100, 200).stop == ("b",)
    assert plan_step([task("a")], 0, 100, 200).stop == ("a",)


def test_half_of_the_tasks_may_fail_but_three_at_least() -> None:
    assert [failures_allowed(wanted) for wanted in (1, 10, 1000)] == [3, 5, 200]


@given(desired=st.integers(1, 6), older=st.integers(0, 6), least=st.sampled_from([0, 50, 100]))
def test_a_deployment_ends_with_the_wanted_tasks_and_never_has_too_few(
    desired: int, older: int, least: int
) -> None:
    tasks = [task(f"old{n}", current=False) for n in range(older)]
    started = 0
    for _ in range(60):
        ready = sum(one.ready for one in tasks)
        step = plan_step(tasks, desired, least, 200)
        tasks = [one for one in tasks if one.task_id not in step.stop]
        kept = sum(one.ready for one in tasks)
        assert kept == ready or kept >= desired * least / 100
        tasks = [replace(one, ready=True) for one in tasks]
        tasks += [task(f"new{started + n}", ready=False) for n in range(step.start)]
        started += step.start
        assert len(tasks) <= max(2 * desired, older)
    assert [one.current and one.ready for one in tasks] == [True] * desired
