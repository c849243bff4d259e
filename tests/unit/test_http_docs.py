"""The page about the HTTP API names what the code has."""

import re
from pathlib import Path

from gooseherd.api.app import ERROR_STATUS

PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()


def test_every_kind_of_problem_is_on_the_page_with_its_status() -> None:
    missing = [
        f"{problem_type.slug} {problem_type.status}"
        for problem_type in ERROR_STATUS.values()
        if not re.search(rf"^\|[^|]*{problem_type.slug}`[^|]*\| {problem_type.status} ", PAGE, re.MULTILINE)
    ]
    assert missing == []


def test_nothing_is_on_the_page_that_is_not_in_the_code() -> None:
    lines = set(re.findall(r"`(?:/problems/)?([a-z]+(?:-[a-z]+)+)`", PAGE.split("## Errors")[1]))
    assert lines - {problem_type.slug for problem_type in ERROR_STATUS.values()} == set()
