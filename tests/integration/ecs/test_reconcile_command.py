"""`gooseherd reconcile --once` as a cron runs it: settings from the environment, exit code and words."""

from __future__ import annotations

import asyncio
import functools
import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from gooseherd import certs
from gooseherd.cli import app
from gooseherd.control.reconciler import ReconcilerLimits
from gooseherd.fleet.ecs_fleet import EcsFleet
from gooseherd.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def reconcile(site, database, database_url, tmp_path, monkeypatch):
    """Runs the command beside a service; graces that tests cannot wait for are short."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    certs.make_all(tmp_path / "certs")
    environment = {
        **site.deployment.environment(site.url),
        "ECS_FLEET": site.name,
        "DATABASE_URL": database_url,
        "DATABASE_NAME": database.name,
        "GOOSEHERD_STATE_DIR": str(tmp_path / "state"),
        "WORKER_TLS_CA": str(tmp_path / "certs" / "ca.pem"),
        "WORKER_TLS_CERT": str(tmp_path / "certs" / "api.pem"),
        "WORKER_TLS_KEY": str(tmp_path / "certs" / "api.key"),
        "WORKER_ORPHAN_GRACE_SECONDS": "0",
        "WORKER_IDLE_TIMEOUT_SECONDS": "0.01",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    hasty = functools.partial(
        ReconcilerLimits, birth_grace=timedelta(0), observation_gap=timedelta(seconds=0.1)
    )
    monkeypatch.setattr("gooseherd.wiring.reconciling.ReconcilerLimits", hasty)
    monkeypatch.setattr("gooseherd.logs.configure_logging", lambda **_: None)

    async def run(*options: str):
        arguments = ["reconcile", "--once", *options]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, prog_name="gooseherd")

    return run


async def test_a_cron_tells_first_and_then_stops_what_nobody_works_with(site, reconcile, tmp_path) -> None:
    worker = await site.fleet().acquire(site.need("nobody"))
    dry = await reconcile("--dry-run", "--json")
    output = json.loads(dry.stdout)
    assert dry.exit_code == 0
    assert (output["seen"], output["dry_run"], output["errors"]) == (True, True, 0)
    [action] = output["actions"]
    assert (action["action"], action["cause"]) == ("stop_worker", "orphan")
    assert action["worker_id"] == worker.worker_id
    assert len(site.live()) == 1

    done = await reconcile()
    assert done.exit_code == 0
    assert done.stdout.startswith(f"stop worker {worker.worker_id} (orphan): no job named it for")
    await site.until(lambda: not site.live())

    nothing = await reconcile()
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nothing to do\n")
    assert not (tmp_path / "state").exists()  # A container that runs it may have no disk of its own.


async def test_a_fleet_that_cannot_be_seen_is_a_failure_and_nothing_is_done(
    site, reconcile, monkeypatch
) -> None:
    impatient = functools.partial(EcsFleet, survey_timeout=0.5)
    monkeypatch.setattr("gooseherd.fleet.ecs_fleet.EcsFleet", impatient)
    await site.fleet().acquire(site.need("nobody"))
    site.cloud_admin.hide_fleet(60.0)
    blind = await reconcile("--json")
    assert (blind.exit_code, json.loads(blind.stdout)["seen"]) == (1, False)
    assert "nothing was done" in blind.stderr
    site.cloud_admin.clear()
    assert len(site.live()) == 1


async def test_a_setting_that_is_missing_is_named(reconcile, monkeypatch) -> None:
    monkeypatch.delenv("ECS_WORKER_SUBNETS")
    result = await reconcile()
    assert (result.exit_code, "ECS_WORKER_SUBNETS" in result.stderr) == (2, True)
