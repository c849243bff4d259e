"""Which ranges nginx is to copy instead of sending them from the file (deploy/nginx.conf)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

SITE = Path(__file__).parents[2] / "deploy" / "nginx.conf"
PATTERNS = re.findall(r'map \$http_range \$gooseherd_short \{\n#? *"~\*(.*)" 1;', SITE.read_text())
SHORT = re.compile(PATTERNS[0], re.IGNORECASE | re.ASCII)
LONG_BYTES = 30_001
OFFSETS = st.integers(0, 10**13)


def test_both_servers_of_the_file_have_the_same_pattern() -> None:
    assert len(PATTERNS) == 2
    assert PATTERNS[0] == PATTERNS[1]


@given(OFFSETS, st.integers(LONG_BYTES, 10**13))
def test_a_long_range_never_counts_as_short(first: int, length: int) -> None:
    assert not SHORT.match(f"bytes={first}-{first + length - 1}")


@given(OFFSETS, st.integers(1, 20_000))
def test_a_short_range_does_unless_it_passes_a_multiple_of_100_000(first: int, length: int) -> None:
    last = first + length - 1
    assert bool(SHORT.match(f"bytes={first}-{last}")) == (first // 100_000 == last // 100_000)


@pytest.mark.parametrize(
    "value", ["bytes=0-", "bytes=-5", "bytes=0-9, 20-29", "bytes=9-", "", "bytes=x", "bytes=00001-9"]
)
def test_nothing_else_counts_as_short(value: str) -> None:
    assert not SHORT.match(value)


def test_a_long_value_counts_as_no_short_range() -> None:
    assert not SHORT.match("bytes=" + "1" * 100_000)
