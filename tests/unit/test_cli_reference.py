"""docs/cli.md is what the commands say of themselves, and the guide leaves none out."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from gooseherd.cli import app
from gooseherd.cli.reference import commands, reference

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_all_commands_is_fresh() -> None:
    made = "python -m gooseherd.cli.reference >docs/cli.md makes it anew"
    assert (DOCS / "cli.md").read_text() == reference(), made


def test_the_guide_names_every_command() -> None:
    block = (DOCS / "commands.md").read_text().split("\n\n", 3)[2]
    named: set[str] = set()
    for line in block.splitlines():
        words = line.split()[1:]
        several = words[0].split("|")
        inner = (
            words[1].split("|") if len(words) > 1 and re.fullmatch(r"[a-z]+(\|[a-z…]+)+", words[1]) else []
        )
        named |= {*several, *(f"{several[0]} {one}" for one in inner)}
    for path, command, _ in commands(typer.main.get_command(app)):
        words = path.split()[1:]
        if not words or hasattr(command, "list_commands"):
            continue
        assert " ".join(words) in named or (words[0] == "devcloud" and "devcloud …" in named), path
