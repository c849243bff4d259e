"""The compose file: its variables are ones that something reads, what it needs is made before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gooseherd.devcloud.bootstrap import Deployment
from gooseherd.fleet.host_list import parse
from gooseherd.settings import Profile, Settings
from gooseherd.worker.settings import WorkerSettings
from gooseherd.worker.tls import VARIABLES

ROOT = Path(__file__).parents[2]
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
"""Read by AWS's own libraries."""
OF_A_WORKER = {"WORKER_HOST", "WORKER_PORT", "WORKER_HEALTH_PORT"}
"""Read by its command line."""
APIS = ("api", "localstack-api")


def composed(*profiles: str) -> dict[str, Any]:
    """As an engine's own reader understands the file."""
    argv = [sys.executable, "-m", "podman_compose", "-f", str(ROOT / "deploy" / "compose.yaml")]
    done = subprocess.run(
        [*argv, "--dry-run", *(word for name in profiles for word in ("--profile", name)), "config"],
        env={"PATH": os.environ["PATH"], "POSTGRES_PASSWORD": "of-the-test", "API_ADMIN_KEY": "of-the-test"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))


def test_an_engine_s_own_reader_understands_the_file() -> None:
    read = composed("mongodb")["services"]
    assert {"postgres", "mongodb", "setup", "worker1", "worker2", "api"} <= read.keys()
    api = read["api"]["environment"]
    assert api["DATABASE_URL"] == "postgresql://gooseherd:of-the-test@postgres:5432/gooseherd"
    assert api["SYNC_DATA_DIR"] == "/artifacts"
    assert read["worker2"]["environment"]["WORKER_TLS_KEY"] == "/certs/worker.key"
    assert read["worker2"]["cap_drop"] == ["ALL"]


@pytest.fixture
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"])


@pytest.mark.parametrize("name", APIS)
def test_every_variable_of_the_api_is_known(services: dict[str, Any], name: str) -> None:
    known = {name.upper() for name in Settings.model_fields} | set(VARIABLES) | AWS
    assert set(services[name]["environment"]) <= known


def test_every_variable_of_a_worker_is_known(services: dict[str, Any]) -> None:
    documented = (
        "".join(str(WorkerSettings.__dataclass_fields__))
        + (ROOT / "src/gooseherd/worker/settings.py").read_text()
    )
    for worker in ("worker1", "worker2"):
        for name in set(services[worker]["environment"]) - OF_A_WORKER - set(VARIABLES) - AWS:
            assert f'"{name}"' in documented


def test_the_api_of_localstack_is_configured_for_a_cloud_and_for_what_is_made_there(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {name: str(value) for name, value in services["localstack-api"]["environment"].items()}
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in result.items():
        monkeypatch.setenv(name, value)
    assert Settings().checked().profile is Profile.DEVCLOUD
    made = Deployment("gooseherd", "gooseherd", "gooseherd-worker").environment(result["AWS_ENDPOINT_URL"])
    assert {name: result.get(name) for name in made if name != "AWS_DEFAULT_REGION"} == {
        name: value for name, value in made.items() if name != "AWS_DEFAULT_REGION"
    }


def test_the_workers_that_the_api_asks_are_the_services_that_run_them(services: dict[str, Any]) -> None:
    listed = parse(services["api"]["environment"]["WORKER_HOSTS"].replace(",", "\n"))
    workers = {name for name, service in services.items() if "gooseherd-worker" in service.get("image", "")}
    assert {address.partition(":")[0] for address in listed} == workers
    for address in listed:
        name, _, port = address.partition(":")
        assert services[name]["environment"]["WORKER_PORT"] == port


def test_each_side_has_its_own_key_only_and_the_ca_s_is_nobody_s(services: dict[str, Any]) -> None:
    mounted = {
        name: {v.partition(":")[0] for v in services[name]["volumes"]}
        for name in ("api", "worker1", "worker2")
    }
    assert "api-certs" in mounted["api"]
    assert "worker-certs" not in mounted["api"]
    for worker in ("worker1", "worker2"):
        assert "worker-certs" in mounted[worker]
        assert not mounted[worker] & {"api-certs", "ca", "state"}
    assert all("ca" not in volumes for volumes in mounted.values())


def test_what_serves_strangers_is_nobody_with_no_capability_and_a_read_only_root(
    services: dict[str, Any],
) -> None:
    for name in ("api", "worker1", "worker2"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service  # The image's own, 10001.


def test_certificates_of_localstack_are_read_where_they_are_made(services: dict[str, Any]) -> None:
    setup = services["localstack-setup"]
    (certs,) = [word.removeprefix("--certs=") for word in setup["command"] if "--certs=" in word]
    for name in VARIABLES:
        assert Path(services["localstack-api"]["environment"][name]).parent == Path(certs)
    assert services["localstack-api"]["volumes"] == setup["volumes"]


def test_what_others_need_is_waited_for(services: dict[str, Any]) -> None:
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other]


def test_volumes_are_declared_and_nothing_is_shared_with_the_machine_but_localstack_s_socket(
    services: dict[str, Any],
) -> None:
    declared = set(yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["volumes"])
    used = {v.partition(":")[0] for service in services.values() for v in service.get("volumes", ())}
    assert used - {"/var/run/docker.sock"} == declared


def test_without_a_profile_no_licence_is_needed(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "localstack" in name:
            assert service["profiles"] == ["localstack"]
        if not service.get("profiles"):
            assert "localstack" not in str(service)


def test_no_key_that_opens_anything_stands_in_the_file() -> None:
    content = (ROOT / "deploy" / "compose.yaml").read_text()
    assert "API_ADMIN_KEY: ${API_ADMIN_KEY:?" in content
    assert "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?" in content
    assert "LOCALSTACK_AUTH_TOKEN: ${LOCALSTACK_AUTH_TOKEN:-}" in content
