"""A service with a database and no place for artifacts: upstream's bytes as they are, and ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pymongo import MongoClient

_OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")
BAM = bytes(range(256)) * 100


@pytest.fixture
def service(tmp_path: Path, database_url: str) -> Iterator[httpx.Client]:
    """`gooseherd up` with DATABASE_URL and neither SYNC_DATA_DIR nor WORKFLOW_S3_BUCKET."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    name = f"test_{uuid.uuid4().hex}"
    environment |= {
        "DATABASE_URL": database_url,
        "DATABASE_NAME": name,
        "GOOSEHERD_STATE_DIR": str(tmp_path / "state"),
    }
    folder = tmp_path / "files"
    folder.mkdir()
    command = [sys.executable, "-m", "gooseherd.cli", "up", "--json", "--port", "0"]
    with subprocess.Popen(
        [*command, "--allow-root", str(folder)], env=environment, stdout=subprocess.PIPE
    ) as up:
        assert up.stdout is not None
        url = json.loads(up.stdout.readline())["url"]
        key = (tmp_path / "state" / "admin-key").read_text().strip()
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, trust_env=False, timeout=30) as http:
            yield http
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0
    with MongoClient[dict[str, object]](database_url) as client:
        client.drop_database(name)


def test_it_is_ready_and_gives_any_format_as_it_is(service: httpx.Client, tmp_path: Path) -> None:
    ready = service.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["dependencies"]["store"] == "ok"
    assert ready.json()["dependencies"]["processing"].startswith("off: ")
    for suffix in ("bam", "vcf"):
        path = tmp_path / "files" / f"x.{suffix}"
        path.write_bytes(BAM)
        entry = {"dcc": "t", "local_id": path.name, "filename": path.name, "access_url": path.as_uri()}
        assert service.post("/files", json=entry).status_code == 200
        assert service.get(f"/data/t/{path.name}").content == BAM
        part = service.get(f"/data/t/{path.name}", headers={"Range": "bytes=300-303"})
        assert (part.status_code, part.content) == (206, BAM[300:304])
        assert service.head(f"/data/t/{path.name}").headers["content-length"] == str(len(BAM))
        assert service.get(f"/index/t/{path.name}").status_code == 404
