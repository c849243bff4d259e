"""The compose file: its variables are ones that something reads, what it needs is made before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gooseherd.devcloud.bootstrap import Deployment
from gooseherd.settings import Profile, Settings
from gooseherd.worker.tls import VARIABLES

ROOT = Path(__file__).parents[2]
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
"""Read by AWS's own libraries."""


@pytest.fixture
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"])


def test_every_variable_of_the_api_is_known(services: dict[str, Any]) -> None:
    known = {name.upper() for name in Settings.model_fields} | set(VARIABLES) | AWS
    assert set(services["api"]["environment"]) <= known


def test_the_api_is_configured_for_a_cloud_and_for_what_is_made_there(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {name: str(value) for name, value in services["api"]["environment"].items()}
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in result.items():
        monkeypatch.setenv(name, value)
    assert Settings().checked().profile is Profile.DEVCLOUD
    made = Deployment("gooseherd", "gooseherd", "gooseherd-worker").environment(result["AWS_ENDPOINT_URL"])
    assert {name: result.get(name) for name in made if name != "AWS_DEFAULT_REGION"} == {
        name: value for name, value in made.items() if name != "AWS_DEFAULT_REGION"
    }


def test_certificates_are_read_where_they_are_made(services: dict[str, Any]) -> None:
    (certs,) = [word.removeprefix("--certs=") for word in services["setup"]["command"] if "--certs=" in word]
    for name in VARIABLES:
        assert Path(services["api"]["environment"][name]).parent == Path(certs)
    assert services["api"]["volumes"] == services["setup"]["volumes"]


def test_what_others_need_is_waited_for(services: dict[str, Any]) -> None:
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other]


def test_no_key_that_opens_anything_stands_in_the_file() -> None:
    content = (ROOT / "deploy" / "compose.yaml").read_text()
    assert "API_ADMIN_KEY: ${API_ADMIN_KEY:?" in content
    assert "LOCALSTACK_AUTH_TOKEN: ${LOCALSTACK_AUTH_TOKEN:?" in content
