"""Many clients, one file: one job, one attempt, the same bytes for everybody."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Gooseherd

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]

CLIENTS = 50


def test_fifty_cold_gets_make_one_job_and_one_attempt_and_serve_the_same_bytes(
    steady: Gooseherd, long_bed: Path
) -> None:
    # Long enough that all have asked before it is done, however slow the machine starts threads.
    path = steady.sources / "crowd.bed"
    shutil.copy(long_bed, path)
    name = steady.register(path)

    def ask(number: int) -> httpx.Response:
        part = "index" if number % 2 else "data"
        return httpx.get(f"{steady.url}/{part}/{name}", timeout=60)

    with ThreadPoolExecutor(CLIENTS) as crowd:
        answers = list(crowd.map(ask, range(CLIENTS)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert all(answer.headers["retry-after"].isdigit() for answer in answers)

    job = steady.ended(answers[0].json()["job_id"])
    assert job["status"] == "completed"
    assert len(job["attempts"]) == 1
    listed = httpx.get(f"{steady.url}/jobs", params={"dcc": "t", "local_id": "crowd.bed"}, timeout=30).json()
    assert len(listed["jobs"]) == 1

    def read(number: int) -> tuple[int, str, str]:
        headers = {"Range": "bytes=0-"} if number % 2 else {}
        answer = httpx.get(f"{steady.url}/data/{name}", headers=headers, timeout=60)
        return answer.status_code, hashlib.sha256(answer.content).hexdigest(), answer.headers["etag"]

    with ThreadPoolExecutor(CLIENTS) as crowd:
        reads = list(crowd.map(read, range(CLIENTS)))
    assert {status for status, _, _ in reads} == {200, 206}
    assert {f'"{digest}"' for _, digest, _ in reads} == {etag for _, _, etag in reads}
    assert len({digest for _, digest, _ in reads}) == 1
