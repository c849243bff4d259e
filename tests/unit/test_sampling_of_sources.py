"""What a check samples of a source, when the source is packed or made in a way that nobody expects."""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from gooseherd.processing.verification.index_queries import PRESETS
from gooseherd.processing.verification.sampling import lines_of_source


def member_with_an_extra_field(text: bytes) -> bytes:
    """gzip, begun like a BGZF block; where that says its size stands something else."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(text) + packer.flush()
    extra = b"xy\x02\x00" + struct.pack("<H", 100)
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra
    return head + body + struct.pack("<II", zlib.crc32(text), len(text))


def test_members_behind_blocks_are_no_blocks(tmp_path: Path) -> None:
    chance = random.Random(5)
    lines = b"".join(
        b"c\t%d\t%d\t%s\n" % (n, n + 1, chance.randbytes(30).hex().encode()) for n in range(9000)
    )
    packed = subprocess.run(["bgzip", "-c"], input=lines, capture_output=True, check=True).stdout
    source = tmp_path / "x.bed.gz"
    source.write_bytes(packed + member_with_an_extra_field(lines[:2000].replace(b"c\t", b"d\t")))
    for seed in range(8):
        assert lines_of_source(source, "bed", random.Random(seed)).placed(PRESETS["bed"]).records


def test_a_bigbed_whose_sequences_have_no_length_has_nothing_to_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyBigWig

    class Empty:
        def chroms(self) -> dict[str, int]:
            return {"c": 0}

    def opened(_: str) -> Any:
        return Empty()

    (tmp_path / "x.bb").touch()
    monkeypatch.setattr(pyBigWig, "open", opened)
    assert lines_of_source(tmp_path / "x.bb", "bigbed", random.Random(1)).lines == []


def test_places_that_were_found_ahead_are_used_only_where_the_index_has_the_same_columns(
    tmp_path: Path,
) -> None:
    source = tmp_path / "x.bed"
    source.write_bytes(b"c\t5\t9\n")
    ahead = lines_of_source(source, "bed", random.Random(1)).placed_ahead(PRESETS["bed"])
    (record,) = ahead.placed(PRESETS["bed"]).records
    assert record[:3] == ("c", 5, 9)
    (record,) = ahead.placed(PRESETS["bed"]._replace(preset=0)).records
    assert record[:3] == ("c", 4, 9), "counted from 1"
