"""2bit, .hic and coolers are served as they are, once their headers say that they are whole."""

from __future__ import annotations

import gzip
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
