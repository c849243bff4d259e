"""`./dev docs`: every page is in the navigation, no link is broken, nothing is loaded from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"\']?(?:https?:)?//[^>]*>")


def pages_of(item: Any) -> list[str]:
    if isinstance(item, str):
        return [item]
    values = item.values() if isinstance(item, dict) else item
    return [page for value in values for page in pages_of(value)]


def test_every_page_is_in_the_navigation_once() -> None:
    listed = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(listed) == len(set(listed))
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | {"adr/README.md"}
    assert set(listed) == there


def test_every_decision_is_in_their_list() -> None:
    content = (ROOT / "docs/adr/README.md").read_text()
    for path in (ROOT / "docs/adr").glob("0*.md"):
        assert f"({path.name})" in content


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        assert LOADED.findall(page.read_text()) == []
    assert "ready" in (tmp_path / "site/sdk.html").read_text()
