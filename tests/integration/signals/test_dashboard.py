"""The dashboard: each of its queries answers with data when Prometheus scrapes a gooseherd that works."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.integration.signals.conftest import Busy

from gooseherd.telemetry import DEFINITIONS

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "gooseherd.json").read_text(encoding="utf-8"))
EXAMPLE = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
pytestmark = pytest.mark.integration


@pytest.fixture
def prometheus(at_work: Busy, tmp_path: Path, needs: Any) -> Iterator[str]:
    """Debian's, with the configuration that is the example of ours, scraping every second; its URL."""
    (program,) = needs("prometheus")
    config = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(EXAMPLE.with_name(name)) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [at_work.url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program),
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'series'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        at_work.until(lambda: answers(f"http://127.0.0.1:{port}"), "Prometheus is ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def has_data(url: str, query: str) -> bool:
    response = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30)
    assert response.status_code == 200, f"{query}: {response.text}"
    result = response.json()["data"]["result"]
    return any(not math.isnan(float(series["value"][1])) for series in result)


@pytest.mark.slow
def test_every_query_answers_with_data_while_there_is_work(prometheus):
    missing = dict(QUERIES)
    deadline = time.monotonic() + 80
    while missing and time.monotonic() < deadline:
        for name, query in list(missing.items()):
            if has_data(prometheus, query.replace("$__rate_interval", "30s")):
                del missing[name]
        time.sleep(1)
    assert missing == {}
    rules = httpx.get(f"{prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"][0]["rules"]
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing <= {"GooseherdDiskFilling"}, "nothing is wrong but perhaps with the disk of this machine"


def test_every_metric_of_the_dashboard_is_one_that_there_is():
    known = {one.name for one in DEFINITIONS}
    for name, query in QUERIES.items():
        for metric in re.findall(r"gooseherd_\w+", query):
            assert re.sub(r"_bucket$", "", metric) in known, f"{name}: {metric}"


def test_what_is_the_same_from_every_process_is_never_added_up():
    scopes = {one.name: one.scope.value for one in DEFINITIONS}
    for name, query in QUERIES.items():
        for metric in re.findall(r"gooseherd_\w+", query):
            if scopes.get(metric) == "all":
                assert not re.search(rf"\bsum\b[^()]*\((?:rate\()?{metric}\b", query), name


def test_panels_have_names_of_their_own_and_do_not_overlap():
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
