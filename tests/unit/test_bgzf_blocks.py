"""Headers of BGZF blocks, and blocks that are not what they say."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.bgzf import BLOCK_BYTES, BlockHeader, NotBgzf, htslib_header, inflate, read_header
from gooseherd.domain.bgzf import END_MARKER as EMPTY


def block(content: bytes, *, before: bytes = b"", after: bytes = b"", length: int | None = None) -> bytes:
    packed = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packed.compress(content) + packed.flush()
    extra = len(before) + 6 + len(after)
    size = 12 + extra + len(body) + 8
    head = b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H", extra)
    field = before + b"BC\2\0" + struct.pack("<H", size - 1) + after
    stated = len(content) if length is None else length
    return head + field + body + struct.pack("<II", zlib.crc32(content), stated)


@given(st.binary(max_size=2000), st.sampled_from([b"", b"XY\3\0abc"]), st.sampled_from([b"", b"Z1\0\0"]))
def test_a_block_is_inflated_whatever_else_its_header_holds(
    content: bytes, before: bytes, after: bytes
) -> None:
    whole = block(content, before=before, after=after)
    header = read_header(b"..." + whole, 3)
    assert header == BlockHeader(18 + len(before) + len(after), len(whole))
    assert inflate(whole, header) == content


def test_the_block_at_the_end_is_empty() -> None:
    assert read_header(EMPTY) == BlockHeader(18, 28)
    assert inflate(EMPTY, BlockHeader(18, 28)) == b""


@given(st.integers(0, 17))
def test_less_than_a_header_says_nothing_yet(there: int) -> None:
    assert read_header(EMPTY[:there]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"<",
        b"\x1f\x8c",
        b"\x1f\x8b\x08\0" + bytes(20),  # gzip without an extra field
        b"\x1f\x8b\x08\x0c" + bytes(20),  # with a name
        b"\x1f\x8b\x08\x04" + bytes(6) + b"\0\0" + bytes(20),
        b"\x1f\x8b\x08\x04" + bytes(6) + b"\6\0XY\2\0\x1b\0" + bytes(20),
        b"\x1f\x8b\x08\x04" + bytes(6) + b"\6\0BC\2\0\x05\0" + bytes(20),
        b"\x1f\x8b\x08\x04" + bytes(6) + b"\5\0BC\2\0\x1b" + bytes(20),
    ],
)
def test_what_is_no_block_is_told(data: bytes) -> None:
    with pytest.raises(NotBgzf):
        read_header(data)


@pytest.mark.parametrize("length", [0, 5, 7, BLOCK_BYTES + 1, 1 << 31])
def test_a_block_that_is_not_as_long_as_it_says_is_told(length: int) -> None:
    whole = block(b"abcdef", length=length)
    header = read_header(whole)
    assert header is not None
    with pytest.raises(NotBgzf):
        inflate(whole, header)


def test_a_block_that_inflates_without_end_is_not_followed() -> None:
    whole = block(bytes(60_000_000))
    header = read_header(whole)
    assert header is not None
    assert len(whole) < BLOCK_BYTES
    with pytest.raises(NotBgzf):
        inflate(whole, header)


FLIPPED_TEXT = b"some text that is long enough" * 3


@given(st.integers(0, len(block(FLIPPED_TEXT)) - 19), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_says_the_same(at: int, by: int) -> None:
    damaged = bytearray(block(FLIPPED_TEXT))
    damaged[18 + at] ^= by
    header = read_header(damaged)
    assert header is not None
    try:
        content = inflate(damaged, header)
    except NotBgzf:
        return
    # The last byte of a deflate stream can have bits that belong to nothing.
    assert content == FLIPPED_TEXT


def test_a_flipped_bit_of_text_is_noticed() -> None:
    damaged = bytearray(block(FLIPPED_TEXT))
    damaged[20] ^= 1
    header = read_header(damaged)
    assert header is not None
    with pytest.raises(NotBgzf):
        inflate(damaged, header)


def test_htslib_reads_no_header_with_another_extra_field() -> None:
    plain, extended = block(b"abc"), block(b"abc", before=b"XY\3\0abc")
    assert htslib_header(plain) == htslib_header(b"." + plain, 1) == BlockHeader(18, len(plain))
    assert htslib_header(plain[:17]) is None
    assert htslib_header(extended) is None
    assert htslib_header(b"<html>") is None


def test_a_cut_block_is_not_inflated() -> None:
    whole = block(b"abc")
    with pytest.raises(NotBgzf):
        inflate(whole[:-1], BlockHeader(18, len(whole)))
