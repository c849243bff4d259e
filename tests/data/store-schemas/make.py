"""Make schema-N.sqlite.gz, a file of the present schema. Run once per schema, before it is released.

    ./dev run python tests/data/store-schemas/make.py

A file of a released schema is never made again: the tests open it as users' files are opened.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from gooseherd.domain import formats
from gooseherd.domain.job import JobId, Owner, Requester, Submission, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.migrations import STEPS
from gooseherd.store.sql.sqlite import open_sqlite


def entry(local_id: str) -> SourceFile:
    url = f"https://example.org/{local_id}.bam"
    return SourceFile(Dcc("4dn"), LocalId(local_id), "reads.bam", formats.BAM, url, md5="0" * 32)


async def fill(path: Path) -> None:
    database = await open_sqlite(path, setting="path")
    jobs = SqlJobs(database)
    await SqlFiles(database).put([entry("f1"), entry("f2")])
    for number in (1, 2):
        await jobs.claim_workflow(
            Submission(
                JobId(f"j{number:05}"),
                WorkflowKey(f"k{number:05}"),
                entry(f"f{number}"),
                Recipe("bam", "1", formats.BAM),
                Priority.NORMAL,
                Requester("anne"),
            )
        )
    held = await jobs.lease((await jobs.due(1))[0], Owner("here"), timedelta(hours=1), 9)
    assert held is not None
    await jobs.assign_worker(held.job_id, held.fence, WorkerId("w1"))
    await database.close()


def main() -> None:
    target = Path(__file__).with_name(f"schema-{1 + len(STEPS)}.sqlite.gz")
    if target.exists():
        sys.exit(f"{target.name} is there: was it released?")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        asyncio.run(fill(path))
        target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


if __name__ == "__main__":
    main()
