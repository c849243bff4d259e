"""Everything dies at random for a while, and then nothing is lost, made twice, spoilt or left behind.

`GOOSEHERD_FAULT_MINUTES` (default 3) and `GOOSEHERD_FAULT_SEED` (default: any) are for `./dev long`;
`./dev faults` does the same by hand.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.campaign.run import campaign
from tests.servers.mongod import MongoServer

from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain.errors import Misconfigured

if TYPE_CHECKING:
    from conftest import Needs

MINUTES = float(os.environ.get("GOOSEHERD_FAULT_MINUTES", "3"))

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60 * MINUTES + 1200)]


def trouble(folder: Path, needs: Needs, *, minutes: float, seed: int, store: str) -> None:
    if store == "postgresql":
        try:
            PostgresServer()
        except Misconfigured as error:
            needs.missing(str(error))
    elif store == "mongodb" and (missing := MongoServer.missing()) is not None:
        needs.missing(missing)
    report = campaign(folder, seed=seed, minutes=minutes, store=store)
    assert report.sound, f"seed {seed}: {report.findings}"
    assert report.jobs > 0
    assert report.kills > 0
    assert report.too_little is None


@pytest.mark.slow
def test_half_a_minute_of_kills_loses_duplicates_spoils_and_orphans_nothing(
    tmp_path: Path, needs: Needs
) -> None:
    trouble(tmp_path, needs, minutes=0.4, seed=3, store="postgresql")


@pytest.mark.long
@pytest.mark.parametrize("store", ["postgresql", "mongodb", "sqlite"])
def test_minutes_of_kills_lose_duplicate_spoil_and_orphan_nothing(
    tmp_path: Path, needs: Needs, store: str
) -> None:
    seed = int(os.environ.get("GOOSEHERD_FAULT_SEED", random.getrandbits(32)))
    trouble(tmp_path, needs, minutes=MINUTES, seed=seed, store=store)
