"""`gooseherd view` beside a service that runs already: what is said of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd import __version__
from gooseherd.cli import app


def test_a_service_of_another_version_that_may_not_read_the_folder_is_spoken_of(
    service: Any, reply: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    running = {"url": service.url, "pid": os.getpid(), "profile": "embedded"}
    (state / "server.json").write_text(json.dumps(running))
    (tmp_path / "a.bed").write_text("chr1\t1\t2\n")
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(state))
    service.on("GET /healthz", reply(200, {"status": "ok", "version": "0.0.1"}))
    problem = {"type": "/problems/invalid-input", "detail": "outside", "field": "access_url"}
    service.on("POST /files", reply(422, problem, {"Content-Type": "application/problem+json"}))
    result = CliRunner().invoke(app, ["view", str(tmp_path / "a.bed")], prog_name="gooseherd")
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"is version 0.0.1, this command is {__version__}\n" in result.stderr
    assert f"gooseherd up --allow-root {tmp_path}; or end it, and the same command" in result.stderr
