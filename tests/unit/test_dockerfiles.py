"""What the images leave out of the locked packages is nothing that they run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
RUNS = {
    "worker": ("gooseherd.worker", "gooseherd.processing"),
    "api": ("gooseherd.serving", "gooseherd.cli.up", "gooseherd.cli.devcloud", "gooseherd.cli.certs"),
}
"""`up`, and what the service `setup` of deploy/compose.yaml calls."""

TRIAL = """
import importlib, json, sys

gone, modules = map(json.loads, sys.argv[1:])

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in gone:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path if hasattr(finder, "find_spec")]
for module in modules:
    importlib.import_module(module)
"""


def left_out(image: str) -> set[str]:
    """Names of distributions, as the lock writes them."""
    content = (ROOT / f"Dockerfile.{image}").read_text()
    found = re.search(r'^ENV LEFT_OUT="([^"]*)"', content, re.MULTILINE)
    assert found is not None
    return set(found[1].replace("\\\n", " ").split())


def left_out_modules(image: str) -> set[str]:
    names = left_out(image)
    return {
        module
        for module, owners in packages_distributions().items()
        if {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} <= names
    }


@pytest.fixture
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("gooseherd", include_external_packages=True, exclude_type_checking_imports=True)


@pytest.mark.parametrize("image", RUNS)
def test_what_is_left_out_is_in_the_lock(image: str) -> None:
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "deploy/requirements.txt").read_text(), re.MULTILINE)
    assert left_out(image) <= set(locked)


def test_what_a_worker_may_import_is_in_its_image(graph: grimp.ImportGraph) -> None:
    """Also by an import inside a function, which no start would try."""
    # It makes certificates there; a worker takes names from that module.
    graph.remove_import(importer="gooseherd.certs", imported="cryptography")
    for package in RUNS["worker"]:
        reached = graph.find_upstream_modules(package, as_package=True)
        assert not reached & left_out_modules("worker")


@pytest.mark.parametrize("image", RUNS)
def test_what_is_imported_at_the_start_needs_nothing_that_is_left_out(
    image: str, graph: grimp.ImportGraph
) -> None:
    modules = [
        module
        for root in RUNS[image]
        for module in (root, *sorted(graph.find_descendants(root)))
        if not module.endswith("__main__")
    ]
    argv = [sys.executable, "-c", TRIAL, json.dumps(sorted(left_out_modules(image))), json.dumps(modules)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
