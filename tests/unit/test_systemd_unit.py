"""deploy/systemd: what the unit of a worker forbids, and what its worker still has to be able to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "deploy" / "systemd" / "gooseherd-worker@.service").read_text()
SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
MOUNTED_OVER_PROC = ("ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset", "PrivatePIDs")
"""Each mounts something over /proc, or another /proc. The kernel then refuses a new /proc to whoever is not
root outside (mount_too_revealing in fs/namespace.c), and bubblewrap mounts one."""


@pytest.mark.parametrize("name", [*MOUNTED_OVER_PROC, "RestrictNamespaces"])
def test_the_unit_takes_nothing_away_that_the_sandbox_of_tools_needs(name: str) -> None:
    assert name not in SETTINGS


def test_the_worker_is_nobody_with_no_capability_who_can_write_to_its_own_folders_alone() -> None:
    wanted = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
    }
    assert {name: SETTINGS.get(name) for name in wanted} == wanted
