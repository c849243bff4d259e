"""docs/architecture.md is the reader's map: every module and class it names has to be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
MODULES = [name for name in NAMES if re.fullmatch(r"[a-z_]+(/[a-z_]+)*(\.py|/)", name)]
CLASSES = [name for name in NAMES if re.fullmatch(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*", name)]


def classes_of_the_house() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "src" / "gooseherd").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_the_page_names_is_there(name: str) -> None:
    homes = (ROOT / "src" / "gooseherd" / name, ROOT / name, ROOT / "src" / name.removeprefix("src/"))
    assert any(home.exists() for home in homes)


def test_a_class_that_the_page_names_is_there() -> None:
    headers = {"Location"}
    assert set(CLASSES) - headers <= classes_of_the_house()


def test_the_page_follows_a_cold_request_from_the_edge_to_the_end() -> None:
    steps = [int(number) for number in re.findall(r"^(\d+)\. `", PAGE, flags=re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 15
    assert len(MODULES) > 30


def test_there_are_at_most_thirty_words_of_our_own() -> None:
    words = PAGE.partition("## Words")[2]
    rows = [line for line in words.splitlines() if line.startswith("| ") and "---" not in line]
    assert 20 <= len(rows) - 1 <= 30
