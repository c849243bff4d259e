"""Modules that can be read in one go, and few of them side by side where most of the code is."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 400
MOST_ENTRIES = 14


def test_no_module_has_more_lines_than_a_reader_takes_in() -> None:
    modules = [
        path
        for folder in (ROOT / "src", ROOT / "kernel")
        for path in folder.rglob("*.*")
        if path.suffix in (".py", ".c", ".h") and "tests" not in path.parts
    ]
    assert len(modules) > 200
    lines = {path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n") for path in modules}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_processing_shows_few_rooms_at_its_top() -> None:
    top = (ROOT / "src/gooseherd/processing").iterdir()
    entries = [path.name for path in top if not path.name.startswith("__")]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)
