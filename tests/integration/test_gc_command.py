"""`gooseherd gc` as a person or a cron runs it: settings from the environment, exit code and words."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.domain import formats
from gooseherd.domain.job import JobId, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.settings import Settings
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.schema import jobs as jobs_table
from gooseherd.store.sql.sqlite import open_sqlite
from gooseherd.worker.reference_store import ReferenceStore

pytestmark = pytest.mark.integration

PREFIX = "p1/ab/md5-" + "ab" * 16 + "/bam-index-0-bam/"


@pytest.fixture
def gc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command on a state folder in which an attempt left half of an artifact ten days ago."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("gooseherd.logs.configure_logging", lambda **_: None)
    left = tmp_path / "artifacts" / PREFIX / "sorted.bam"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (left.stat().st_mtime - 10 * 86400,) * 2)
    return lambda *options: CliRunner().invoke(app, ["gc", *options], prog_name="gooseherd")


async def end_a_job_long_ago(state: Path) -> None:
    database = await open_sqlite(state / "gooseherd.db", setting="X")
    url = "https://example.org/x"
    source = SourceFile(Dcc("4dn"), LocalId("f"), "f.bam", formats.BAM, url, md5="0" * 32)
    recipe = Recipe("bam", "1", formats.BAM)
    wanted = Submission(JobId("j1"), WorkflowKey("k"), source, recipe, Priority.NORMAL, Requester("anne"))
    job = (await SqlJobs(database).claim_workflow(wanted)).job
    await SqlJobs(database).request_cancel(job.job_id, None)
    long_ago = job.created_at.replace(year=2020)
    changed = jobs_table.update().values(created_at=long_ago, finished_at=long_ago)
    await database.write("age", lambda tx: tx.connection.execute(changed).close())
    await database.close()


async def is_there(state: Path, job_id: str) -> bool:
    database = await open_sqlite(state / "gooseherd.db", setting="X")
    found = await SqlJobs(database).get(JobId(job_id))
    await database.close()
    return found is not None


def test_it_says_first_and_then_removes(gc: Callable[..., Any], tmp_path: Path) -> None:
    asyncio.run(end_a_job_long_ago(tmp_path))
    dry = gc("--dry-run", "--json")
    assert (dry.exit_code, dry.stderr) == (0, "")
    report = json.loads(dry.stdout)
    assert (report["seen"], report["dry_run"], report["errors"]) == (True, True, 0)
    (removal,) = [action for action in report["actions"] if action["action"] == "remove_artifact"]
    assert (removal["prefix"], removal["cause"], removal["bytes"]) == (PREFIX, "unfinished", 4)
    assert (tmp_path / "artifacts" / PREFIX / "sorted.bam").exists()
    assert asyncio.run(is_there(tmp_path, "j1"))
    done = gc()
    assert done.exit_code == 0
    assert f"remove {PREFIX} (unfinished, 4 bytes, not used since " in done.stdout
    assert "forget jobs and batches that ended before " in done.stdout
    assert not (tmp_path / "artifacts" / PREFIX).exists()
    assert not asyncio.run(is_there(tmp_path, "j1"))
    assert "remove_artifact" not in gc("--json").stdout


def test_reference_sequences_that_nobody_used_for_a_month_go(gc: Callable[..., Any], tmp_path: Path) -> None:
    assert gc().exit_code == 0
    assert not (tmp_path / "references").exists()
    store = ReferenceStore(tmp_path / "references", 1 << 30)
    old, used, young = (store.sequences / (digit * 32) for digit in "abc")
    for path in (old, used, young):
        path.write_bytes(b"ACGT")
    for path in (old, used):
        os.utime(path, (1, 1))
    use = store.begin_use()
    use.add([used.name])
    assert gc().exit_code == 0
    use.close()
    assert [path.exists() for path in (old, used, young)] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARTIFACT_SUPERSEDED_SECONDS", "86400"),
        ("ARTIFACT_MAX_IDLE_SECONDS", "60"),
        ("ARTIFACT_UNLISTED_SECONDS", "60"),
        ("WORKFLOW_KEEP_ENDED_SECONDS", "60"),
        ("ARTIFACT_UNFINISHED_SECONDS", "60"),
    ],
)
def test_a_policy_that_removes_too_soon_is_refused_by_name(
    gc: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    refused = gc()
    assert refused.exit_code == 2
    assert name in refused.stderr
    assert (tmp_path / "artifacts" / PREFIX / "sorted.bam").exists()
