"""A BGZF file is whole, or it is not: what its blocks say of themselves."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from gooseherd.domain.bgzf import END_MARKER as END
from gooseherd.processing.formats.bgzf import has_end_marker, text_bytes


def block(text: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=-15)
    body = packer.compress(text) + packer.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(body) + 25)
    return head + body + struct.pack("<II", zlib.crc32(text), len(text))


ONE, TWO = block(b"chr1\t1\t2\n" * 500), block(b"chr2\t3\t4\n" * 700)
WHOLE = ONE + TWO + END


def test_a_whole_chain_says_how_much_text_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(WHOLE)
    assert text_bytes(path) == 9 * 1200
    path.write_bytes(b"")
    assert text_bytes(path) == 0


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (WHOLE[:-1], "does not inflate"),
        ((ONE * 200 + TWO)[:-1], "is cut|does not inflate"),
        (ONE + TWO[:-9] + END, "does not inflate"),
        (WHOLE + b"more", "no block begins"),
        (WHOLE + END[:17], "no block begins"),
        (b"x" + WHOLE, "no block begins at byte 0"),
        (ONE[:16] + b"\0\0" + ONE[18:] + END, "shorter than its header"),
        (ONE[:60] + bytes([ONE[60] ^ 1]) + ONE[61:] + END, "does not inflate"),
        (ONE[:-8] + bytes(4) + ONE[-4:] + END, "does not inflate"),
    ],
)
def test_a_broken_chain_is_refused(damaged: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=expected):
        text_bytes(path)


def test_a_file_has_its_end_marker_only_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    for content, expected in ((WHOLE, True), (END, True), (ONE, False), (WHOLE + ONE, False), (b"", False)):
        path.write_bytes(content)
        assert has_end_marker(path) is expected
