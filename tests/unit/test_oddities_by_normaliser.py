"""What the normaliser in Python makes of the table of oddities, however its input is cut into pieces."""

from __future__ import annotations

import io

import pytest
from tests.oddities import MENDED, NORMALISER, REFUSED, Mended, Refused, rows_of

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import Inflation, inflate
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.formats.records import Records
from gooseherd.processing.programs.normalise import normalise

PIECES = pytest.mark.parametrize("piece", [3, 1 << 20])


def result(file_format: str, source: bytes, piece: int) -> tuple[bytes, Records]:
    """The whole text as it goes to be compressed, and the counts; the sort is GNU sort's in a worker."""
    reader = reader_of(file_format)
    text = b"".join(inflate(io.BytesIO(source), Inflation(), size=len(source), max_bytes=1 << 30))
    pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
    records = b"".join(normalise(pieces, reader))
    header = reader.completed(reader.finish())
    records = reader.added() + records
    if not reader.ordered:
        lines = records.split(b"\n")[:-1]
        records = b"".join(line + b"\n" for line in sorted(lines, key=lambda line: place(line, reader)))
    return header + records, reader


def place(line: bytes, reader: Records) -> tuple[bytes, int]:
    fields = line.split(b"\t")
    return fields[0], int(fields[reader.begin])


@PIECES
@pytest.mark.parametrize("row", rows_of(NORMALISER, MENDED))
def test_what_can_be_put_right_is_and_is_counted(row: Mended, piece: int) -> None:
    text, reader = result(row.file_format, row.source, piece)
    assert text == row.text
    assert reader.counts == row.counts
    assert reader.records == sum(not line.startswith(b"#") for line in row.text.splitlines())


@PIECES
@pytest.mark.parametrize("row", rows_of(NORMALISER, REFUSED))
def test_what_cannot_be_put_right_is_refused_with_its_line(row: Refused, piece: int) -> None:
    if len(row.source) > 1 << 20:
        piece = 1 << 20  # Millions of small pieces take a minute.
    with pytest.raises(StepFailed) as caught:
        result(row.file_format, row.source, piece)
    assert caught.value.failure.reason is Reason.SOURCE_INVALID
    assert row.words in caught.value.failure.detail
    if row.line is not None:
        assert caught.value.failure.detail.startswith(f"line {row.line}: ")
