"""The documentation's `aws` commands are operations that AWS has, with the options it knows and requires."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.session import get_session

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```.*?^```|^(?:    [^\n]*\n)+|`aws [^`\n]+(?:\n[^`\n]+)?`", re.MULTILINE | re.DOTALL)
OF_THE_COMMAND_ITSELF = {"s3": None, "cloudformation": {"deploy", "wait"}}
"""Made by the command line of several operations; None: all of them."""
GLOBAL = {"query", "output", "region", "profile", "endpoint-url", "no-cli-pager"}
SHORTHANDS = {("cloudfront", "create-invalidation"): {"paths": "invalidation-batch"}}
"""Options that the command line has in the place of a member."""


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each, in the order of the pages; pipes and lists cut off."""
    for page in sorted(DOCS.glob("**/*.md")):
        for block in BLOCK.findall(page.read_text()):
            text = block.replace("\\\n", " ").strip("`")
            for line in re.split(r"\n(?!--)|&&|;| \|(?: |$)", text):
                found = re.search(r"(?:^|\s)aws (?=[a-z0-9]+ [a-z])(.*)", line.replace("\n", " "))
                if found:
                    lexer = shlex.shlex(found[1], posix=True, punctuation_chars=False)
                    lexer.whitespace_split = True
                    yield page.name, list(lexer)


FOUND = list(commands())


def test_there_are_commands_of_several_services() -> None:
    assert {words[0] for _, words in FOUND} >= {"ecs", "elbv2", "secretsmanager", "cloudformation", "s3"}


@pytest.mark.parametrize(("page", "words"), FOUND, ids=[f"{page}-{' '.join(w[:2])}" for page, w in FOUND])
def test_a_command_is_one_that_aws_takes(page: str, words: list[str]) -> None:
    service, name, *rest = words
    own = OF_THE_COMMAND_ITSELF.get(service, set())
    if own is None or name in own:
        return
    session = get_session()
    assert service in session.get_available_services(), page
    model = session.get_service_model(service)
    operations = {xform_name(operation, "-"): operation for operation in model.operation_names}
    assert name in operations, page
    shape = model.operation_model(operations[name]).input_shape
    members = {xform_name(member, "-"): member for member in shape.members}
    short = SHORTHANDS.get((service, name), {})
    given = {short.get(word[2:], word[2:]) for word in rest if word.startswith("--")} - GLOBAL
    flags = {f"{sign}{member}" for member in members for sign in ("", "no-")}
    assert given <= flags, page
    if not any(word.startswith("…") for word in rest):
        required = {xform_name(member, "-") for member in shape.required_members}
        assert required <= given, f"{page}: {' '.join(words)}"
