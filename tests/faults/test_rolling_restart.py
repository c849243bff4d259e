"""Two API processes, restarted one after the other under load, as a deploy does it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.campaign import audit, stored
from tests.faults.campaign.deployment import ApiProcess, Deployment, deployed
from tests.faults.campaign.requesters import Requesters
from tests.faults.campaign.sources import SourceServer

from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.states import TERMINAL

if TYPE_CHECKING:
    from conftest import Needs

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(400)]

ROUNDS = 1
ALLOWED = {"200", "202", "503", "404", "ConnectError"}
"""404: the index of a table. ConnectError: nobody listens for the moment between two lives."""
ALLOWED_OF_CALLS = ALLOWED | {"201", "429"}
"""201: a session was opened. 429: another owner has the only one that there may be."""


def until(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def all_up(deployment: Deployment) -> bool:
    return len(deployment.urls()) == len(deployment.api)


def restart(deployment: Deployment, process: ApiProcess, requesters: Requesters) -> None:
    """Returns when it is back and something was made since it was told to leave."""
    made, lives = len(requesters.ready), process.starts
    assert process.restart()
    until(lambda: process.starts > lives and all_up(deployment), "it is back")
    until(lambda: len(requesters.ready) > made, "work goes on")


def test_no_job_runs_twice_and_every_answer_is_bytes_or_a_promise(tmp_path: Path, needs: Needs) -> None:
    try:
        PostgresServer()
    except Misconfigured as error:
        needs.missing(str(error))
    with SourceServer(5) as sources, deployed(tmp_path, store="postgresql", processes=2) as deployment:
        until(lambda: all_up(deployment), "both are up")
        requesters = Requesters(deployment, sources, 5, cancelled=0.0)
        requesters.start()
        try:
            until(lambda: len(requesters.ready) >= 5, "work is under way")
            for _ in range(ROUNDS):
                for process in deployment.api:
                    restart(deployment, process, requesters)
        finally:
            requesters.stop()
        sources.in_a_hurry = True
        until(
            lambda: all(row["status"] in TERMINAL for row in stored.jobs(deployment.database_url)),
            "every job ends",
        )
        rows = stored.jobs(deployment.database_url)
    assert requesters.unexpected == requesters.wrong_bytes == []
    assert requesters.answers.keys() <= ALLOWED, requesters.answers
    assert requesters.answers_to_calls.keys() <= ALLOWED_OF_CALLS, requesters.answers_to_calls
    assert Counter(row["status"] for row in rows).keys() == {"completed"}
    assert audit.lost(rows, requesters.jobs) == audit.duplicated(rows) == []
    # Whoever was being launched for as its process left was launched for again; nothing was made twice.
    assert {name: times for name, times in sources.fetched.items() if times > 1} == {}
