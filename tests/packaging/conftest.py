"""The distributions as published: a source distribution of the tracked files, and the wheel built from it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(
    argv: Sequence[str | Path], cwd: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Neither an index nor the build environment's own switches take part."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOOSEHERD_")}
    return subprocess.run(
        argv,
        cwd=cwd,
        env={**inherited, "PIP_NO_INDEX": "1", **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def build(tree: Path, target: str, folder: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Build `target` from `tree` into `folder` without an index; gives the file."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = run(argv, tree, environ)
    assert done.returncode == 0, done.stderr
    (made,) = [path for path in folder.iterdir() if path.suffix in {".whl", ".gz"}]
    return made


def export(folder: Path) -> Path:
    """The tracked files as they are in the working tree: what a clean clone has."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: which files would be in a clean clone is not known")
    for name in os.fsdecode(listed.stdout).split("\0")[:-1]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _unpack(sdist: Path, folder: Path) -> Path:
    """The tree in `sdist`."""
    subprocess.run(["tar", "-C", folder, "-xzf", sdist], check=True)
    (tree,) = folder.iterdir()
    return tree


@dataclass(frozen=True)
class Distributions:
    """The files, the tree that the wheels were built from, and what builds more of them."""

    sdist: Path
    wheel: Path
    pure_wheel: Path
    tree: Path

    run = staticmethod(run)
    export = staticmethod(export)
    build = staticmethod(build)


def _build(folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    for name in ("clone", "unpacked"):
        (draft / name).mkdir(parents=True)
    sdist = build(export(draft / "clone"), "sdist", draft / "sdist")
    tree = _unpack(sdist, draft / "unpacked")
    build(tree, "wheel", draft / "wheel")
    build(tree, "wheel", draft / "pure", {"GOOSEHERD_PURE_WHEEL": "1"})
    draft.rename(folder)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Built once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "distributions"
    with (base / "distributions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder)
    (sdist,), (wheel,), (pure_wheel,), (tree,) = (
        tuple((folder / name).iterdir()) for name in ("sdist", "wheel", "pure", "unpacked")
    )
    return Distributions(sdist, wheel, pure_wheel, tree)
