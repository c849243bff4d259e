"""No regular expression takes long for what somebody chose: each is tried with texts of its own parts."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import gooseherd
from gooseherd.processing.formats.text import Bed

SOURCE = Path(gooseherd.__file__).parent
METHODS = frozenset({"search", "match", "fullmatch", "findall", "finditer", "sub", "split"})
OF_CONTAINERS = frozenset({"search", "match", "fullmatch"})
ROOMS = (
    "api",
    "client",
    "control",
    "domain",
    "fleet",
    "processing",
    "sources",
    "storage",
    "store",
    "worker",
    "logs.py",
)
"""What reads texts of strangers, of upstream and of files."""
LENGTHS = (250, 1_000, 3_000, 12_000)
"""So that what is cubic is seen before it takes minutes. A header may have 32 KiB, a line of a file more."""
SUSPECT_SECONDS = 0.02
"""Of CPU time for one text: the longest takes a millisecond or two, ten times that by a quadratic pattern."""
MOST_TIMES = 8
"""That four times the text may take, whatever the machine does: 4 is linear, 16 quadratic."""
PUMPED = b'a1 \f.,:/;"-@=<'

parser: Any = importlib.import_module("re._parser")


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(?:^|,)\s*gzip\s*(?:;q=(?:1|0?\.\d*[1-9])\d*\s*)?(?=,|$)", "search"),
        (r"\s*,*\s*(\d*)\s*-", "match"),
        (r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/@]*@)?", "sub"),
    ],
)
def test_the_texts_find_a_pattern_that_backtracks(pattern: str, method: str) -> None:
    assert backtracks(re.compile(pattern), method)


@pytest.mark.parametrize("room", ROOMS)
def test_patterns_read_in_linear_time(room: str) -> None:
    slow = [
        f"{where}.{name}.{method}"
        for where, name, pattern, method in patterns_of(room)
        if backtracks(pattern, method)
    ]
    assert not slow


def test_patterns_that_instances_make_read_in_linear_time() -> None:
    assert not backtracks(Bed("interact", 18).quick, "findall")


def backtracks(pattern: re.Pattern[Any], method: str) -> bool:
    """Whether a text takes far more than in proportion to its length; longer ones are not tried then."""
    made = set(attacks(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)))
    whole = {part for prefix, pumped in made for part in ((prefix, pumped), ("", prefix + pumped))}

    def seconds(head: str, part: str, length: int, end: str) -> float:
        text = head + part * (length // len(part)) + end
        return cpu_seconds(
            pattern, method, text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
        )

    for length in LENGTHS:
        for head, part in whole:
            for end in ("\x01", "", "!"):
                if seconds(head, part, length, end) < SUSPECT_SECONDS:
                    continue
                # What else the machine does, or a collection of garbage, may have been in it.
                whole_one, quarter = (
                    min(seconds(head, part, some, end) for _ in range(3)) for some in (length, length // 4)
                )
                if whole_one > SUSPECT_SECONDS and whole_one > MOST_TIMES * quarter:
                    return True
    return False


def cpu_seconds(pattern: re.Pattern[Any], method: str, text: Any) -> float:
    begun = time.thread_time()
    use(pattern, method, text)
    return time.thread_time() - begun


def use(pattern: re.Pattern[Any], method: str, text: Any) -> None:
    match method:
        case "sub":
            pattern.sub(lambda _: text[:0], text)
        case "finditer":
            for _ in pattern.finditer(text):
                pass
        case _:
            getattr(pattern, method)(text)


# -- texts ---------------------------------------------------------------------------------------


def attacks(items: Sequence[Any], before: str = "") -> Iterator[tuple[str, str]]:
    """What leads to each repetition of a parsed pattern, and what it repeats."""
    for number, (operation, value) in enumerate(items):
        prefix, name = before + example(items[:number]), str(operation)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            _, most, repeated = value
            if most > LENGTHS[0]:
                yield from ((prefix, text) for text in choices(repeated))
            yield from attacks(repeated, prefix)
        for branch in branches(name, value):
            yield from attacks(branch, prefix)


def branches(name: str, value: Any) -> Sequence[Any]:
    match name:
        case "BRANCH":
            return list(value[1])
        case "SUBPATTERN":
            return [value[3]]
        case "ATOMIC_GROUP":
            return [value]
        case "ASSERT" | "ASSERT_NOT":
            return [value[1]]
        case _:
            return []


def choices(items: Sequence[Any]) -> list[str]:
    if len(items) == 1 and str(items[0][0]) == "IN":
        return [chr(c) for c in PUMPED if belongs(c, items[0][1])] or [example(items)]
    return [text] if (text := example(items)) else []


def example(items: Sequence[Any]) -> str:
    """A short text that it matches."""
    found = ""
    for operation, value in items:
        match str(operation):
            case "LITERAL":
                found += chr(value)
            case "NOT_LITERAL":
                found += "a" if value != ord("a") else "b"
            case "ANY":
                found += "a"
            case "IN":
                found += next(chr(c) for c in (*PUMPED, *range(0x250)) if belongs(c, value))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                found += example(value[2]) * value[0]
            case "BRANCH" | "SUBPATTERN" | "ATOMIC_GROUP" as name:
                found += example(branches(name, value)[0])
    return found


def belongs(code: int, members: Sequence[Any]) -> bool:
    """Whether a character is of the class."""
    one = chr(code)
    found = negated = False
    for operation, value in members:
        match str(operation):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found |= code == value
            case "RANGE":
                found |= value[0] <= code <= value[1]
            case "CATEGORY":
                kind = str(value).removeprefix("CATEGORY_")
                there = {
                    "DIGIT": one.isdigit(),
                    "SPACE": one.isspace(),
                    "WORD": one.isalnum() or one == "_",
                }[kind.removeprefix("NOT_")]
                found |= there != kind.startswith("NOT_")
    return found != negated


# -- patterns ------------------------------------------------------------------------------------


def patterns_of(room: str) -> Iterator[tuple[str, str, re.Pattern[Any], str]]:
    """Module, name, pattern and method of each use; of a pattern that others import each of theirs."""
    everywhere: defaultdict[str, set[str]] = defaultdict(set)
    for here in uses().values():
        for name, method in here:
            everywhere[name].add(method)
    for path, here in uses().items():
        where = path.relative_to(SOURCE)
        if where.parts[0] != room or "re.compile(" not in path.read_text():
            continue
        module = ".".join(("gooseherd", *where.with_suffix("").parts))
        of_others = {method for name, method in here if name.islower()} & OF_CONTAINERS
        for name, pattern, is_alone in compiled(importlib.import_module(module)):
            own = {method for called, method in here if called == name}
            used = (own if name.startswith("_") else everywhere[name]) if is_alone else of_others
            yield from ((module, name, pattern, method) for method in sorted(used))


@cache
def uses() -> dict[Path, list[tuple[str, str]]]:
    """What each module calls."""
    return {path: list(calls(ast.parse(path.read_text()))) for path in sorted(SOURCE.rglob("*.py"))}


def calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The last word of what a method is called on, and the method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            match node.func.value:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name, node.func.attr
                case ast.Subscript():
                    yield "member", node.func.attr


def compiled(module: Any) -> Iterator[tuple[str, re.Pattern[Any], bool]]:
    """Those of a module and of its classes; whether it is alone under its name."""
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from compiled(value)
        elif isinstance(value, re.Pattern):
            yield name, value, True
        else:
            yield from ((name, one, False) for one in within(value))


def within(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from within(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from within(one)
