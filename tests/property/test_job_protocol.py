"""The models of the job table's protocol and of the warm floor (*.pml), searched in all states by spin."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Needs

MODEL = Path(__file__).with_name("job_protocol.pml")
FLOOR = Path(__file__).with_name("warm_floor.pml")
STEPS = 1_000_000
"""Longer than the longest run of the model, so that none is cut short."""


def search(folder: Path, needs: Needs, *options: str, model: Path = MODEL) -> tuple[str, int]:
    """(the first assertion that fails or "", how many states there are); `options` are the model's."""
    spin, gcc = needs("spin", "gcc")
    subprocess.run([str(spin), "-a", *options, str(model)], cwd=folder, check=True, capture_output=True)
    compile_it = [str(gcc), "-w", "-O2", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=4000", "-o", "pan", "pan.c"]
    subprocess.run(compile_it, cwd=folder, check=True, capture_output=True)
    ran = subprocess.run(["./pan", f"-m{STEPS}"], cwd=folder, check=True, capture_output=True, text=True)
    states = re.search(r"(\d+) states, stored", ran.stdout)
    assert states is not None
    assert "Search not completed" not in ran.stdout or "errors: 1" in ran.stdout, ran.stdout
    assert "max search depth too small" not in ran.stdout
    violated = re.search(r"pan:1: (.*) \(at depth", ran.stdout)
    errors = re.search(r"errors: (\d+)", ran.stdout)
    assert errors is not None
    assert (errors[1] == "0") == (violated is None), ran.stdout
    return (violated[1] if violated else ""), int(states[1])


@pytest.mark.parametrize(
    "trouble",
    [
        ("-DCRASHES=1", "-DDEATHS=1", "-DSTALLS=0", "-DCANCELS=0"),
        ("-DCRASHES=2", "-DDEATHS=1", "-DSTALLS=1", "-DCANCELS=0", "-DCLAIMS=1"),
        ("-DCRASHES=0", "-DDEATHS=1", "-DSTALLS=1", "-DCANCELS=1"),
    ],
    ids=" ".join,
)
def test_no_order_of_events_breaks_the_protocol(
    tmp_path: Path, needs: Needs, trouble: tuple[str, ...]
) -> None:
    violated, states = search(tmp_path, needs, *trouble)
    assert not violated
    assert states > 10_000, "the model does hardly anything"


@pytest.mark.long
@pytest.mark.parametrize(
    "trouble",
    [(), ("-DCANCELS=0", "-DSTALLS=2"), ("-DCRASHES=2", "-DCANCELS=0", "-DSTALLS=1")],
    ids=lambda options: " ".join(options) or "as it is",
)
def test_no_order_of_more_events_breaks_the_protocol(
    tmp_path: Path, needs: Needs, trouble: tuple[str, ...]
) -> None:
    violated, _ = search(tmp_path, needs, *trouble)
    assert not violated


@pytest.mark.parametrize(
    ("without", "breaks"),
    [
        ("-DNO_FENCE", "attempt[j]==number"),
        ("-DNO_MARKER", "!(marked["),
        ("-DNO_REAPER", "status[0]==0"),
    ],
)
def test_the_model_sees_what_is_missing(tmp_path: Path, needs: Needs, without: str, breaks: str) -> None:
    violated, _ = search(tmp_path, needs, without)
    assert breaks in violated


@pytest.mark.parametrize("trouble", [(), ("-DCRASHES=2", "-DDEATHS=2", "-DTAKEN=3")], ids=" ".join)
def test_no_order_of_events_exceeds_the_floor_or_leaves_it_unheld(
    tmp_path: Path, needs: Needs, trouble: tuple[str, ...]
) -> None:
    violated, states = search(tmp_path, needs, *trouble, model=FLOOR)
    assert not violated
    assert states > 10_000, "the model does hardly anything"


@pytest.mark.parametrize(("without", "breaks"), [("-DPER_PROCESS", "<=2"), ("-DBLIND", "!(worker[")])
def test_the_model_sees_a_floor_that_is_not_held_together(
    tmp_path: Path, needs: Needs, without: str, breaks: str
) -> None:
    violated, _ = search(tmp_path, needs, without, model=FLOOR)
    assert breaks in violated
