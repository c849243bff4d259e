"""The files that the documentation names are in the repository, or are known to be elsewhere."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *(ROOT / name for name in ("README.md", "SECURITY.md"))])

SERVED = {"gosling.json", "hub.txt", "igv.json", "jbrowse.json", "openapi.json"}
"""By the service."""
STORED = {"manifest.json", "result-JOB.N.json", "licences.txt"}
"""With artifacts, or in images."""
READERS_OWN = {"C2M2_datapackage.json", "datapackage.json", "config.json", "cdx.json", "images.json"}
"""Made by who reads the page, or by a command on it."""
SYSTEMS = {"apt.conf", "ld.so.conf", "libraries.txt"}
"""Of other programs."""
OF_THE_PAST = {"blame.py", "deploy/ecs"}
"""Named by decisions that say what was before."""
ELSEWHERE = SERVED | STORED | READERS_OWN | SYSTEMS | OF_THE_PAST

_CODE = re.compile(r"`([^`\n]+)`|^(?: {4}|\t)(.+)$", re.MULTILINE)
_WORD = re.compile(r"[\w./@$-]+")
_FILE = re.compile(r"\.(?:json|ya?ml|conf|service|py|sh|toml|[ch]|pml|txt)$")
_ROOMS = ("src", "tests", "docs", "deploy", "kernel", "web", "benchmarks")


@cache
def paths() -> frozenset[str]:
    """Files and folders as a clone has them."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = listed.stdout.split() or [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    return frozenset({*files, *(str(above) for file in files for above in Path(file).parents)})


def missing(text: str) -> list[str]:
    """Names of files, and paths from the root of the repository, that are neither there nor elsewhere."""
    there = paths()
    names = {path.rpartition("/")[2] for path in there}
    found = []
    for code in _CODE.finditer(text):
        for word in _WORD.findall(code[1] or code[2]):
            path = word.strip("./")
            name = path.rpartition("/")[2]
            if "$" in path or path in there or name in ELSEWHERE or path in ELSEWHERE:
                continue
            if (path.partition("/")[0] in _ROOMS and "/" in path) or (
                _FILE.search(path) and name not in names and f".{name}" not in names
            ):
                found.append(path)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_are_there(page: Path) -> None:
    assert missing(page.read_text()) == []


def test_a_file_that_is_not_there_is_found() -> None:
    assert missing(
        "`bucket-lifecycle.json` and\n\n    aws --policy file://ready/retention-policy.json\n"
    ) == [
        "bucket-lifecycle.json",
        "ready/retention-policy.json",
    ]
    assert missing(
        "`deploy/ecs/task.json`, `deploy/compose.yaml`, `settings.py`, `.pre-commit-config.yaml`"
    ) == ["deploy/ecs/task.json"]
