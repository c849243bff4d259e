"""Reads GenBank or EMBL as sequences and what is said about them: FASTA and GFF3.

    python -m gooseherd.processing.programs.read_flatfile genbank|embl SOURCE --fasta FILE --gff FILE
        --report FILE

The library (Biopython) holds one record at a time. Exit status 65: the source was refused, and the report
says why. A program of its own, because a parser meets untrusted bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import (
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.flatfile import features_of, sequence_region

_LINE = 60


class _Text(io.RawIOBase):
    """The unpacked bytes of a source as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._held = chunk
        some = self._held[: len(buffer)]
        buffer[: len(some)] = some
        self._held = self._held[len(some) :]
        return len(some)


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("format", choices=("genbank", "embl"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--fasta", type=Path, required=True)
    parser.add_argument("--gff", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args(argv)
    try:
        with given.fasta.open("w", encoding="utf-8") as fasta, given.gff.open("w", encoding="utf-8") as gff:
            counts = convert(given.source, given.format, fasta, gff)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "a record is too large for memory").failure
    else:
        given.report.write_text(json.dumps({"counts": counts}))
        return 0
    given.report.write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


def convert(source: Path, file_format: str, fasta: TextIO, gff: TextIO) -> dict[str, int]:
    """Write both; what was counted.

    Raises:
        StepFailed: source_invalid.
    """
    from Bio import SeqIO
    from Bio.Seq import UndefinedSequenceError

    parse: Any = SeqIO.parse
    counts: dict[str, int] = {}
    number = 0
    gff.write("##gff-version 3\n")
    with source.open("rb") as stream, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        size = os.fstat(stream.fileno()).st_size
        refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)
        chunks = inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES)
        text = io.TextIOWrapper(io.BufferedReader(_Text(chunks)), encoding="utf-8", errors="replace")
        try:
            for record in parse(text, file_format):
                number += 1
                try:
                    letters = bytes(record.seq)
                except UndefinedSequenceError:
                    letters = b""
                if not letters:
                    raise _refused(
                        f"record {number} ({record.id[:80]}) has no sequence, only the parts of one"
                    )
                _write_fasta(fasta, record, letters.decode("ascii", "replace"))
                gff.write(sequence_region(record, len(letters)))
                gff.writelines(features_of(record, file_format, counts))
        except (ValueError, AssertionError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise _refused(f"record {number + 1} cannot be read: {str(error)[:200]}") from None
    if not number:
        raise _refused("no records: the file has no content")
    if warned:
        counts["parser_warnings"] = len(warned)
    return counts


def _write_fasta(out: TextIO, record: Any, letters: str) -> None:
    title = "" if record.description in ("", "<unknown description>") else f" {record.description}"
    out.write(f">{record.id}{title}\n".replace("\n", " ").rstrip(" ") + "\n")
    out.writelines(letters[at : at + _LINE] + "\n" for at in range(0, len(letters), _LINE))


def _refused(problem: str) -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, problem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
