"""Every `gooseherd …` in the documentation is one that the command line takes: its commands and options.

Nothing is run: words are given to the parser. `a|b` stands for two commands; what is left out at the end of
a mention (an argument, an option's value) is left out there, too.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gooseherd.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/adr").glob("*.md"))]
GENERATED = "cli.md"
SPAN = re.compile(r"`(gooseherd(?: [^`]+)?)`")
COMMAND = re.compile(r"^(?:    |\$ |\s{0,3})(gooseherd .+)$", re.MULTILINE)
AFTERWARDS = re.compile(r"\s(?:#|\||&|>|<|2>|\)|;).*|   *\S.*$")
"""The rest of a line, to a shell or a reader: a comment, a pipe, a description in the next column."""
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
CLI: Any = typer.main.get_command(app)


def mentioned(page: Path) -> Iterator[str]:
    """Inline, and as lines of blocks."""
    text = page.read_text()
    yield from (found.replace("\n", " ") for found in SPAN.findall(text))
    fences = re.findall(r"^```(?:sh|console|)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    for block in (*fences, *indented):
        for line in COMMAND.findall(re.sub(r"\\\n *", "", block)):
            yield AFTERWARDS.sub("", line)


def meant(mention: str) -> Iterator[list[str]]:
    """The words of each command that is meant, without `gooseherd` itself."""
    words = shlex.split(AFTERWARDS.sub("", mention).replace("\\|", "|"))[1:]
    choices = [
        [one for one in word.split("|") if one != "…"] if re.fullmatch(r"[a-z|…]+", word) else [word]
        for word in words
        if word not in {"…", "..."}
    ]
    yield from (list(chosen) for chosen in itertools.product(*choices))


def complaint(words: list[str]) -> str:
    """What the parser has against them, or nothing. Values and missing arguments do not matter here."""
    command, context = CLI, CLI.context_class(CLI, info_name="gooseherd")
    try:
        while words and hasattr(command, "list_commands") and not words[0].startswith("-"):
            inner = command.get_command(context, words[0])
            if inner is None:
                return f"{context.command_path} has no command {words[0]}"
            context = inner.context_class(inner, info_name=words[0], parent=context)
            command, words = inner, words[1:]
        if words:
            command.make_context(context.info_name, list(words), parent=context.parent)
    except typer.BadParameter:
        return ""
    except typer.Exit:
        return ""
    except USAGE_ERROR as error:
        return "" if "requires an argument" in error.format_message() else error.format_message()
    return ""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != GENERATED], ids=lambda page: page.name
)
def test_what_a_page_says_of_the_command_line_is_so(page: Path) -> None:
    wrong = {
        f"{mention}: {problem}"
        for mention in mentioned(page)
        for words in meant(mention)
        if (problem := complaint(words))
    }
    assert not wrong


@pytest.mark.parametrize(
    "mention",
    [
        "gooseherd jobz ls",
        "gooseherd jobs ls|shov",
        "gooseherd up --alow-root x",
        "gooseherd reap --once --now",
    ],
)
def test_a_command_or_an_option_that_there_is_not_is_found(mention: str) -> None:
    assert any(complaint(words) for words in meant(mention))
