"""Workers that take a minute to start: `./dev long`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gooseherd.devcloud.faults import Kind

if TYPE_CHECKING:
    from tests.faults.cloud.conftest import Api, Cloud

START_SECONDS = 300

pytestmark = [pytest.mark.fault, pytest.mark.long, pytest.mark.timeout(4 * START_SECONDS)]


def test_workers_that_take_a_minute_to_start_cost_no_attempt(cloud: Cloud, api: Api) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.SLOW_START, times=9, seconds=60)
    jobs = [api.begin(api.library.bed(f"minute-{number}.bed")) for number in range(3)]
    for job in jobs:
        api.ended(job, START_SECONDS)
        assert api.completed(job) == ["published"]
