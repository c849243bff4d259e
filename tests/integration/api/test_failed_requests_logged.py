"""Requests that failed, in the log, as the alarm of deploy/cloudformation counts them."""

from __future__ import annotations

import json
import logging
import operator
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.template_checks import check_templates

from gooseherd.domain.errors import NotFound, StoreUnavailable, UpstreamUnavailable

DEPLOY = Path(__file__).parents[3] / "deploy"
TEMPLATE = check_templates.template(DEPLOY / "cloudformation" / "gooseherd.yaml")
PATTERN = TEMPLATE["Resources"]["FailedRequests"]["Properties"]["FilterPattern"]
SIGNS = {"=": operator.eq, "!=": operator.ne, ">=": operator.ge}


def counts(line: dict[str, Any]) -> bool:
    """Whether the filter takes a line of the log: conditions that are joined by &&."""
    conditions = re.findall(r"\(\$\.(\w+) (\S+) ([^)]+)\)", PATTERN)
    joined = " && ".join(f"($.{name} {sign} {value})" for name, sign, value in conditions)
    assert f"{{ {joined} }}" == PATTERN
    return all(
        name in line and SIGNS[sign](line[name], json.loads(value)) for name, sign, value in conditions
    )


def statuses_of_the_rule() -> set[int]:
    """What deploy/prometheus/alerts.yaml counts for the same alert."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    (rule,) = [one for group in groups for one in group["rules"] if one.get("alert") == "GooseherdErrorRatio"]
    listed = re.search(r'status=~"([^"]+)"', rule["expr"])
    assert listed is not None
    return {int(status) for status in listed[1].split("|")}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("nobody foresaw it"), 500),
        (UpstreamUnavailable("https://files.example.org/x", 500), 502),
        (StoreUnavailable("read"), 503),
        (NotFound("file", "4dn/x"), 404),
    ],
)
async def test_the_alarm_counts_what_the_rule_for_prometheus_counts(town, monkeypatch, caplog, error, status):
    caplog.set_level(logging.DEBUG)

    async def fails(*_):
        raise error

    monkeypatch.setattr(town.files, "get", fails)
    answer = await town.http.get("/files/4dn/x", headers={"X-API-Key": "the-admin-key"})
    assert answer.status_code == status
    lines = [{**vars(record), "logger": record.name} for record in caplog.records]
    assert sum(map(counts, lines)) == (status in statuses_of_the_rule())
