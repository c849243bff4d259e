"""A worker asked what it has instead of serving: the findings as JSON, the exit status for scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def ask(work_dir: Path, **environ: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "gooseherd.worker.main", "--doctor", "--work-dir", str(work_dir)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, json.loads(done.stdout)


def test_here_an_attempt_finds_all_it_needs(tmp_path: Path) -> None:
    status, report = ask(tmp_path / "work", WORKER_MEMORY_BYTES="2G")
    assert (status, report["ok"], report["profile"]) == (0, True, "worker"), report
    found = {check["name"]: check for check in report["checks"]}
    assert {"samtools", "interval kernel", "sandbox", "system call filter", "self-check"} <= set(found)
    assert found["memory"]["detail"] == "1792 MiB for each tool"
    assert not (tmp_path / "work").exists()


def test_what_no_attempt_can_do_without_is_an_error(tmp_path: Path) -> None:
    status, report = ask(tmp_path, PATH="/nowhere")
    missing = {check["name"] for check in report["checks"] if check["state"] == "missing"}
    assert (status, report["ok"]) == (78, False)
    assert {"samtools", "self-check"} <= missing
