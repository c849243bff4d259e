"""The alert rules: Prometheus' own test of them, and that they speak of what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from gooseherd.cli import app
from gooseherd.telemetry import DEFINITIONS

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(needs, *arguments: str) -> None:
    (program,) = needs("promtool")
    done = subprocess.run(
        [str(program), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_for_the_series_that_are_given_and_not_for_others(needs):
    promtool(needs, "test", "rules", "alerts-test.yaml")


def test_the_example_of_a_configuration_can_be_read(needs):
    promtool(needs, "check", "config", "prometheus.yaml")


def test_every_rule_is_tried_with_series_for_which_it_fires():
    tests = yaml.safe_load((FOLDER / "alerts-test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = {
        case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert {rule["alert"] for rule in rules()} == fired


def test_rules_are_about_metrics_that_there_are():
    known = {one.name for one in DEFINITIONS}
    for rule in rules():
        for name in re.findall(r"gooseherd_\w+", rule["expr"]):
            base = re.sub(r"_(?:bucket|sum|count)$", "", name)
            assert name in known or base in known, f"{rule['alert']}: {name}"


def test_every_rule_says_how_bad_it_is_and_has_a_place_on_the_page():
    headings = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert [rule["alert"] for rule in rules()] == headings
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"
    for section in PAGE.split("\n## ")[1:]:
        assert [word for word in ("**Means**", "**Look at**", "**Do**") if word not in section] == []


def test_commands_of_the_page_exist_with_their_options():
    found = re.findall(r"`gooseherd ([a-z][^`]*)`", PAGE)
    assert len(found) > 5
    for line in found:
        command: Any = get_command(app)
        words = line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}), line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_settings_of_the_page_exist():
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    own = {"GOOSEHERD_API_KEY"}  # the client's
    for name in set(
        re.findall(r"\b(?:GOOSEHERD|API|SOURCE|WORKFLOW|WORKER|ECS|ARTIFACT|DATABASE)_[A-Z_]+\b", PAGE)
    ):
        assert name in own or f"`{name}`" in settings, name
