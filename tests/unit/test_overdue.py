"""What the log says of jobs that wait, run or have no owner for too long, and by which names."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from gooseherd.control.loop import Loop
from gooseherd.control.overdue import BEYOND_LIMIT, QUEUE_OLD, UNOWNED, OverdueWatch, overdue
from gooseherd.control.queue_statistics import JobAges
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.alerts import Alert
from gooseherd.domain.errors import StoreUnavailable

ROOT = Path(__file__).parents[2]
RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
CAP = 4 * 3600.0


class Ages:
    """Stands for the statistics of a store that has these ages, or is away."""

    def __init__(self, found: JobAges | None) -> None:
        self._found = found

    async def ages(self) -> JobAges:
        if self._found is None:
            raise StoreUnavailable("away")
        return self._found


def watch(found: JobAges | None) -> Loop[JobAges, object]:
    return OverdueWatch(Ages(found), attempt_limit_seconds=CAP).loop  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("ages", "alerts"),
    [
        (JobAges(0, 0, 0), []),
        (JobAges(1800, CAP + 900, 600), []),
        (JobAges(1801, 0, 0), [Alert.QUEUE_OLD]),
        (JobAges(0, CAP + 901, 0), [Alert.JOB_STUCK]),
        (JobAges(0, 0, 601), [Alert.JOB_UNOWNED]),
        (JobAges(9999, 99999, 9999), [Alert.QUEUE_OLD, Alert.JOB_UNOWNED, Alert.JOB_STUCK]),
    ],
)
def test_what_has_been_going_on_for_too_long_is_found(ages: JobAges, alerts: list[Alert]) -> None:
    assert [found.alert for found in overdue(ages, CAP)] == alerts


def test_limits_and_names_are_those_of_the_rules_for_prometheus() -> None:
    assert set(Alert) <= RULES.keys()
    limits = {
        Alert.QUEUE_OLD: QUEUE_OLD,
        Alert.JOB_UNOWNED: UNOWNED,
        Alert.JOB_STUCK: BEYOND_LIMIT,
    }
    for alert, limit in limits.items():
        found = re.search(r"(\d+)$", RULES[alert])
        assert found is not None
        assert timedelta(seconds=int(found[1])) == limit, alert
    page = (ROOT / "docs" / "alerts.md").read_text()
    assert all(f"## {alert}\n" in page for alert in Alert)


async def test_each_pass_logs_what_it_finds_with_the_name_of_the_alert(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await watch(JobAges(2000.4, 0, 0)).run_once()
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.WARNING, "a job waits for too long")
    assert (line.__dict__["alert"], line.__dict__["seconds"]) == ("GooseherdQueueOld", 2000)


async def test_a_store_that_does_not_answer_is_an_alert_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    assert not (await watch(None).run_once()).seen
    (line,) = caplog.records
    assert line.__dict__["alert"] == "GooseherdStoreAway"


async def test_a_pass_of_another_loop_without_an_observation_is_no_alert(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def observe() -> None:
        raise StoreUnavailable("away")

    async def act(_: object) -> None:
        raise AssertionError

    loop: Loop[None, object] = Loop(
        "other", observe=observe, plan=lambda _: [], act=act, wakeup=Wakeup(), tick_seconds=1
    )
    await loop.run_once()
    assert "alert" not in caplog.records[0].__dict__
