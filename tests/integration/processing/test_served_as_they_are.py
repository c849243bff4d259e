"""2bit, .hic and coolers are served as they are, once their headers say that they are whole."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain import formats
from gooseherd.domain.failures import Reason
from gooseherd.trial import inputs

Process = Callable[..., Awaitable[Any]]
CONTIGS = [("chr1", 100_000), ("chr2", 50_000)]
KINDS = (formats.TWOBIT, formats.HIC, formats.COOL, formats.MCOOL)


def source_of(kind: formats.Format, folder: Path) -> bytes:
    return inputs.make(kind, folder, "0a1b2c3d").path.read_bytes()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_they_keep_their_bytes_and_their_sequences_are_known(
    process: Process, kind: formats.Format, tmp_path: Path
) -> None:
    source = source_of(kind, tmp_path)
    made = await process(source, kind.name, filename=f"x.{kind.name}")
    assert made.failure is None, made.failure
    data = made.outputs[0].files[0]
    assert (data.path.read_bytes(), data.filename) == (source, f"x.{kind.name}")
    found = [(contig.name, contig.length) for contig in made.outputs[0].contigs]
    assert found == ([] if kind in (formats.COOL, formats.MCOOL) else CONTIGS)


@pytest.mark.parametrize("order", ["<", ">"])
async def test_a_2bit_whose_order_of_bytes_few_readers_know_says_so(process: Process, order: str) -> None:
    head = struct.pack(f"{order}4I", 0x1A412743, 0, 1, 0) + b"\4chr1" + struct.pack(f"{order}I", 25)
    source = head + struct.pack(f"{order}4I", 8, 0, 0, 0) + b"\x1b\x1b"
    made = await process(source, "2bit")
    assert made.failure is None, made.failure
    assert [(one.name, one.length) for one in made.outputs[0].contigs] == [("chr1", 8)]
    assert ["big-endian" in note for note in made.outputs[0].notes] == ([True] if order == ">" else [])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_cut_or_packed_or_foreign_one_is_refused_in_words(
    process: Process, kind: formats.Format, tmp_path: Path
) -> None:
    source = source_of(kind, tmp_path)
    for content, words in (
        (source[: len(source) - 40], "truncated"),
        (source[:14], "truncated"),
        (gzip.compress(source), "gzip-compressed: unpack it first"),
        (b"chr1\t5\t9\n", "the file is bed"),
        (b"\x26\xfc\x8f\x88" + bytes(60), "the file is bigwig"),
    ):
        made = await process(content, kind.name)
        assert made.failure is not None, words
        assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
        assert words in made.failure.detail


async def test_a_container_of_contacts_is_named_when_something_else_was_promised(process: Process) -> None:
    made = await process(b"HIC\0" + bytes(60), "bigwig")
    assert "the file is hic" in made.failure.detail
    made = await process(b"\x89HDF\r\n\x1a\n" + bytes(60), "bed")
    assert "an HDF5 file" in made.failure.detail
