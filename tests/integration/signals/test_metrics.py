"""What /metrics says of a service that works: by Prometheus' own conventions, and nothing undocumented."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.integration.signals.conftest import Busy

from gooseherd.metrics_page import metrics_page

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def scraped(busy: Busy) -> str:
    busy.round()
    # The reconciler needs two looks to know what workers did between them.
    busy.until(lambda: "gooseherd_worker_paid_seconds_total 0.0" not in scrape(busy), "worker-seconds")
    return scrape(busy)


def scrape(busy: Busy) -> str:
    response = httpx.get(f"{busy.url}/metrics", timeout=30)
    assert response.status_code == 200
    return response.text


def value(text: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"no {series}"
    return float(found[1])


def test_promtool_finds_nothing_to_say_about_the_names(scraped, needs):
    (promtool,) = needs("promtool")
    done = subprocess.run(
        [str(promtool), "check", "metrics"],
        input=scraped,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_metric_is_on_the_page_and_every_one_of_the_page_is_there(scraped):
    exported = set(re.findall(r"^# TYPE (\S+) ", scraped, re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)` \|", metrics_page(), re.MULTILINE))
    assert exported == documented


def test_the_page_is_as_it_would_be_generated_now():
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == metrics_page()


def test_no_series_says_when_another_was_created(scraped):
    assert "_created" not in scraped


def test_requests_are_timed_by_route_and_those_that_waited_for_a_file_apart(scraped):
    assert value(scraped, 'gooseherd_http_request_duration_seconds_count{route="/data"}') >= 3
    assert value(scraped, 'gooseherd_http_request_duration_seconds_count{route="/jobs"}') >= 1
    assert value(scraped, "gooseherd_http_hold_duration_seconds_count") == 2
    routes = set(re.findall(r'route="([^"]*)"', scraped))
    assert not [route for route in routes if "good-" in route or "nothing" in route]


def test_bytes_are_counted_by_where_they_came_from(scraped):
    assert value(scraped, 'gooseherd_bytes_served_total{kind="data",source="disk"}') > 200
    assert value(scraped, 'gooseherd_bytes_served_total{kind="data",source="upstream"}') > 200
    assert value(scraped, 'gooseherd_bytes_served_total{kind="index",source="disk"}') > 0


def test_the_store_and_the_storage_are_timed_by_operation(scraped):
    assert value(scraped, "gooseherd_store_up") == 1
    leased = 'gooseherd_store_request_duration_seconds_count{operation="lease",part="jobs"}'
    assert value(scraped, leased) == 2
    assert value(scraped, 'gooseherd_store_errors_total{operation="lease",part="jobs"}') == 0
    read = 'gooseherd_storage_request_duration_seconds_count{operation="get",storage="local"}'
    assert value(scraped, read) > 0


def test_attempts_are_counted_by_reason_and_workers_by_what_they_cost(scraped):
    assert value(scraped, 'gooseherd_attempts_ended_total{reason="published"}') == 1
    assert value(scraped, 'gooseherd_attempts_ended_total{reason="source_invalid"}') == 1
    paid = value(scraped, "gooseherd_worker_paid_seconds_total")
    assert paid >= value(scraped, "gooseherd_worker_worked_seconds_total") >= 0
    assert value(scraped, 'gooseherd_fleet_workers{health="healthy"}') >= 1


def test_what_runs_and_its_disk_can_be_seen(scraped):
    info = r'^gooseherd_build_info\{build="[^"]+",profile="embedded",version=".+"\} 1\.0$'
    assert re.search(info, scraped, re.MULTILINE)
    for folder in ("state", "artifacts"):
        free = value(scraped, f'gooseherd_filesystem_free_bytes{{folder="{folder}"}}')
        assert 0 <= free <= value(scraped, f'gooseherd_filesystem_size_bytes{{folder="{folder}"}}')
    assert value(scraped, "process_resident_memory_bytes") > 0
