"""What a deployment needs is made on a cloud that runs already, once."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.child_process import running_cloud
from gooseherd.devcloud.deployment import make_configuration

pytestmark = pytest.mark.integration


def test_making_it_again_changes_nothing(tmp_path: Path, cloud_credentials: None) -> None:
    with running_cloud(tmp_path, images={}) as url:
        first = make_configuration(url, tmp_path / "certs", "gooseherd-worker:1")
        assert make_configuration(url, tmp_path / "certs", "gooseherd-worker:1") == first
        ecs = boto3.client(
            "ecs",
            endpoint_url=url,
            region_name=first["AWS_REGION"],
            aws_access_key_id=CLOUD_KEY.key_id,
            aws_secret_access_key=CLOUD_KEY.secret,
        )
        family = first["ECS_WORKER_TASK_DEFINITION"]
        assert len(ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"]) == 1
        definition = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        ecs.close()
    (container,) = definition["containerDefinitions"]
    lines = {variable["name"]: variable["value"] for variable in container["environment"]}
    assert container["image"] == "gooseherd-worker:1"
    assert lines["AWS_ENDPOINT_URL"] == url
    assert lines["WORKER_TLS_CERT"] == (tmp_path / "certs" / "worker.pem").read_text()
    assert first["WORKER_TLS_CERT"] == str(tmp_path / "certs" / "api.pem")
