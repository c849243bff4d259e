"""Range headers against Python slices, the plainest reference there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.byterange import MAX_RANGES, ByteRange, parse_range
from gooseherd.domain.errors import MalformedRange, RangeNotSatisfiable

sizes = st.integers(0, 2**40)
places = st.integers(0, 2**41)


@given(size=sizes, first=places, length=places)
def test_first_and_last_are_inclusive_and_clamped(size: int, first: int, length: int) -> None:
    header = f"bytes={first}-{first + length}"
    if first >= size:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, size)
    else:
        assert parse_range(header, size) == (ByteRange(first, min(first + length + 1, size)),)


@given(body=st.binary(max_size=64), first=st.integers(0, 80))
def test_an_open_range_is_the_rest(body: bytes, first: int) -> None:
    if first >= len(body):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes={first}-", len(body))
        return
    ranges = parse_range(f"bytes={first}-", len(body))
    assert ranges is not None
    assert body[ranges[0].start : ranges[0].stop] == body[first:]


@given(body=st.binary(min_size=1, max_size=64), count=st.integers(1, 80))
def test_a_suffix_is_the_end(body: bytes, count: int) -> None:
    ranges = parse_range(f"bytes=-{count}", len(body))
    assert ranges is not None
    assert body[ranges[0].start : ranges[0].stop] == body[-count:]


@given(st.text(max_size=60), sizes)
def test_any_text_is_answered_or_refused_and_never_crashes(text: str, size: int) -> None:
    try:
        ranges = parse_range("bytes=" + text, size)
    except (MalformedRange, RangeNotSatisfiable):
        return
    for each in ranges or ():
        assert 0 <= each.start < each.stop <= size


@pytest.mark.parametrize(
    "header",
    [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1-2-3",
        "bytes=,",
        "bytes=-1-",
        "bytes=٣-٤",
    ],
)
def test_malformed_headers_are_refused(header: str) -> None:
    with pytest.raises(MalformedRange):
        parse_range(header, 100)


def test_another_unit_means_the_whole_object() -> None:
    assert parse_range("items=0-5", 100) is None
    assert parse_range(None, 100) is None


def test_a_zero_suffix_and_an_empty_object_are_not_satisfiable() -> None:
    for header, size in (("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, size)


def test_more_ranges_than_allowed_mean_the_whole_object() -> None:
    header = "bytes=" + ",".join(f"{i}-{i}" for i in range(MAX_RANGES + 1))
    assert parse_range(header, 1000) is None


def test_ranges_past_the_end_are_dropped_when_others_are_not() -> None:
    assert parse_range("bytes=0-0, 200-300", 100) == (ByteRange(0, 1),)


def test_content_range_is_inclusive() -> None:
    assert ByteRange(0, 10).content_range(100) == "bytes 0-9/100"
