"""Names in the code are the field's terms: docs/adr/0016-names-and-rooms.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "gooseherd"
DECISION = (ROOT / "docs" / "adr" / "0016-names-and-rooms.md").read_text(encoding="utf-8")

_WORDS = (
    "answers arrival bell blame brief complaints desk errand estate feeding fitness gate headed holder "
    "knobs ledger lifeline meter nudge orders outflow piece pieces roster shelf site template "
    "unanswered visit vouch wire wishes workbench"
)
PRIVATE = frozenset(_WORDS.split())
KEPT = {("lease", "holder"), ("launch", "template"), ("", "template")}
"""Terms of the field: a word that is no private one after the word that it follows here."""
TWO_ROOMS = {
    "Region": "of a user's question, and of a check's",
    "Index": "of a database, and of Python packages",
    "Kind": "of a part, and of a fault",
    "Step": "of a processor, and of a bigWig's values",
    "Cause": "of stopping a worker, and of a task's end",
    "Placement": "of a launch, as the fleet asks for it and as the local cloud reads it",
    "HealthCheck": "of a container's definition, and the one a worker answers",
}
"""Classes of one name in two rooms, each of which says which is meant."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        yield path.relative_to(SOURCES), ast.parse(path.read_text(encoding="utf-8"))


def names_in(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case (
                ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                yield name
            case (
                ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name))
            ):
                yield name


def words_of(name: str) -> list[str]:
    """`LeaseHolder` and `_lease_holder` are both lease, holder."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]


def is_private(name: str) -> bool:
    words = words_of(name)
    return any(
        word in PRIVATE and (words[at - 1] if at else "", word) not in KEPT for at, word in enumerate(words)
    )


def test_words_of_a_name_are_told_apart_in_both_spellings() -> None:
    assert words_of("LeaseHolder") == words_of("_lease_holder") == ["lease", "holder"]
    assert [
        name for name in ("Gate", "open_gate", "LaunchTemplate", "aggregate", "holder") if is_private(name)
    ] == [
        "Gate",
        "open_gate",
        "holder",
    ]


def test_no_name_is_a_private_word() -> None:
    found = {
        f"{path}: {name}"
        for path, module in modules()
        for name in (*path.with_suffix("").parts, *names_in(module))
        if is_private(name)
    }
    assert found == set()


def test_no_variable_says_only_that_something_was_said() -> None:
    found = {
        f"{path}: {name}"
        for path, module in modules()
        for name in names_in(module)
        if name.strip("_") in {"said", "told"}
    }
    assert found == set()


def test_a_class_has_one_meaning() -> None:
    rooms = defaultdict[str, set[str]](set)
    for path, module in modules():
        for node in module.body:
            # The SDK's records show what other rooms keep, and are named for that.
            if path.parts[:2] == ("client", "models"):
                continue
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                # Adapters of one port have the same names by intent.
                rooms[node.name].add("store" if path.parts[0] == "store" else path.parts[0])
    assert {name for name, homes in rooms.items() if len(homes) > 1} <= TWO_ROOMS.keys()


def test_the_decision_names_every_word_that_is_refused() -> None:
    assert {word for word in PRIVATE - {"pieces"} if not re.search(rf"\b{word}\b", DECISION)} == set()
