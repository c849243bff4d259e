"""The streaming normaliser, a program of its own: one source in, clean records out.

    python -m gooseherd.processing.programs.normalise FORMAT SOURCE --report FILE
        [--header FILE] [--added FILE] [--contigs FILE] [--skip-bad-lines] [--may-be-empty]

Writes the records to standard output, the header to one file, records that the source lacks to another,
and to the report, as JSON, the counts of changes or why the source was refused. The sequences in FILE, a
name and a length by TAB on each line, count as declared. With --skip-bad-lines a few lines that make no
record are left out, and the report names them. With --may-be-empty nothing at all is a text without records:
what converts the source in front has judged that. Being a process of its
own makes it a pipeline stage: under the same limits, and a crash is an exit status.

Exit status: 0; 65 the source was refused, and the report says why.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.decompression import (
    END_MARKER_MISSING,
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.readers import MAX_LINE, reader_of
from gooseherd.processing.formats.records import Records

REFUSED: Final = 65
"""EX_DATAERR of sysexits.h."""

_BOM: Final = b"\xef\xbb\xbf"


def normalise(chunks: Iterable[bytes], reader: Records, max_line: int = MAX_LINE) -> Iterator[bytes]:
    """Clean records, block by block; the counts of changes are in `reader`.

    Raises:
        StepFailed: source_invalid with the line's number.
    """
    for first, block in _whole_lines(_without_bom(chunks, reader), reader, max_line):
        if out := reader.block(first, block):
            yield out


def report(
    reader: Records, found: Inflation, header: bytes, record_bytes: int, *, kept: bool
) -> dict[str, Any]:
    """The counts and the contigs, as plain data."""
    return {
        "compression": str(found.compression),
        "lines": reader.lines,
        "records": reader.records,
        "header_bytes": len(header),
        "header_lines": header.count(b"\n"),
        "record_bytes": record_bytes,
        "max_end": reader.max_end,
        "contigs": [[c.name, c.length] for c in reader.contigs()],
        "counts": reader.counts,
        "without_end_marker": found.without_end_marker,
        "ordered": reader.ordered,
        "kept": kept,
        "bad_lines": reader.bad_lines,
        "first_bad_line": reader.first_bad_line.detail if reader.first_bad_line else "",
    }


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    # A reader that went away ends this process the way it ends sort or cat.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Millions of short-lived tuples without reference cycles: the search for some takes a third of the time.
    gc.disable()
    parser = argparse.ArgumentParser()
    parser.add_argument("format")
    parser.add_argument("source", help="a path, or - for standard input (then uncompressed)")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--header", type=Path)
    parser.add_argument("--added", type=Path)
    parser.add_argument("--contigs", type=Path)
    parser.add_argument("--skip-bad-lines", action="store_true")
    parser.add_argument("--may-be-empty", action="store_true")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    given = parser.parse_args(argv)
    try:
        _run(given)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "the normaliser ran out of memory").failure
    else:
        return 0
    _write(given.report, json.dumps({"reason": failure.reason, "detail": failure.detail}).encode())
    return REFUSED


def _run(given: argparse.Namespace) -> None:
    reader = reader_of(given.format)
    reader.skip_bad_lines = given.skip_bad_lines
    reader.may_be_empty = given.may_be_empty
    if given.contigs:
        reader.lengths = read_contigs(given.contigs)
    found = Inflation()
    written = 0
    with ExitStack() as files:
        stream: BinaryIO
        size: int | None = None
        if given.source == "-":
            stream = files.enter_context(os.fdopen(0, "rb", buffering=0))
        else:
            stream = files.enter_context(Path(given.source).open("rb"))
            size = os.fstat(stream.fileno()).st_size
            refuse_decompression_bomb(stream, size=size, max_bytes=given.max_bytes)
        # Its descriptor stays open to the very end: what reads it must not learn of an end before
        # the reason for it is written and this process is gone.
        out = files.enter_context(os.fdopen(1, "wb", closefd=False))
        try:
            for block in normalise(inflate(stream, found, size=size, max_bytes=given.max_bytes), reader):
                written += out.write(block)
        finally:
            # Whatever else is wrong with half a line: half a line is mostly an invalid one.
            if found.without_end_marker and reader.open_end:
                raise StepFailed.because(
                    Reason.SOURCE_INVALID, f"{END_MARKER_MISSING} and the last line is cut"
                )
        header = reader.finish()
        added = reader.added()
        kept = found.whole_blocks and reader.records > 0 and reader.ordered and reader.unchanged(header)
        if not kept:
            header = reader.completed(header)
        written += len(added)
        if given.header:
            _write(given.header, header)
        if given.added:
            _write(given.added, added)
        _write(given.report, json.dumps(report(reader, found, header, written, kept=kept)).encode())


def read_contigs(path: Path) -> dict[bytes, int]:
    """Names and lengths of a file that has one of each by TAB on every line."""
    declared = (line.rsplit(b"\t", 1) for line in path.read_bytes().splitlines())
    return {name: int(length) for name, length in declared}


def _without_bom(chunks: Iterable[bytes], reader: Records) -> Iterator[bytes]:
    head = b""
    rest = iter(chunks)
    for chunk in rest:
        head += chunk
        if len(head) >= len(_BOM):
            break
    if head.startswith(_BOM):
        reader.count("byte_order_mark")
        head = head[len(_BOM) :]
    if head:
        yield head
    yield from rest


def _whole_lines(chunks: Iterable[bytes], reader: Records, max_line: int) -> Iterator[tuple[int, bytes]]:
    """Blocks that end with a newline, each with the number of its first line."""
    number = 1
    held: list[bytes] = []
    held_bytes = 0
    for chunk in chunks:
        cut = chunk.find(b"\n")
        if held_bytes + (len(chunk) if cut < 0 else cut) > max_line:
            raise refuse(number, f"the line is longer than {max_line} bytes")
        if cut < 0:
            held.append(chunk)
            held_bytes += len(chunk)
            continue
        cut = chunk.rfind(b"\n") + 1
        block = b"".join((*held, chunk[:cut]))
        yield number, block
        number += block.count(b"\n")
        reader.lines = number - 1
        held = [chunk[cut:]]
        held_bytes = len(chunk) - cut
    if held_bytes:
        reader.open_end = True
        reader.lines = number
        yield number, b"".join(held) + b"\n"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: the reader of this file is another process."""
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
