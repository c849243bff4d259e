"""Names of features and their places, from one source: a program of its own, as normalise.py is.

    python -m gooseherd.processing.programs.read_names FORMAT SOURCE --report FILE [--most N]

Writes lines for sort to standard output (formats/name_lines.py), at most N names, and to the report, as JSON,
how many there were or why the source was refused. SOURCE is a path, or - for standard input, uncompressed.

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
from typing import BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.decompression import (
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.name_lines import BedNames, GffNames, NameLines
from gooseherd.processing.formats.readers import MAX_LINE

_REFUSED: Final = 65
"""EX_DATAERR of sysexits.h."""
_GFF: Final = frozenset({"gff", "gff3", "gtf"})
_BUFFERED: Final = 1 << 20


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    # As in normalise.py: a reader that goes away ends this, and there are no cycles to be searched for.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    gc.disable()
    parser = argparse.ArgumentParser()
    parser.add_argument("format")
    parser.add_argument("source")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--most", type=int, default=20_000_000)
    given = parser.parse_args(argv)
    reader: NameLines = GffNames(given.most) if given.format in _GFF else BedNames(given.most)
    try:
        with ExitStack() as files:
            size: int | None = None
            stream: BinaryIO
            if given.source == "-":
                stream = files.enter_context(os.fdopen(0, "rb", buffering=0))
            else:
                stream = files.enter_context(Path(given.source).open("rb"))
                size = os.fstat(stream.fileno()).st_size
                refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)
            _write(reader, inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES))
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "reading names ran out of memory").failure
    else:
        given.report.write_text(json.dumps({"names": reader.names, "left_out": reader.left_out}))
        return 0
    given.report.write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return _REFUSED


def _write(reader: NameLines, chunks: Iterable[bytes]) -> None:
    # As in normalise.py: open until this process is gone.
    with os.fdopen(1, "wb", buffering=_BUFFERED, closefd=False) as out:
        for line in _lines(chunks):
            if reader.is_over(line):
                return
            out.writelines(reader.of_line(line))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines without their ends."""
    held, number = b"", 0
    for chunk in chunks:
        lines = (held + chunk).split(b"\n")
        held = lines.pop()
        if len(held) > MAX_LINE:
            raise refuse(number + len(lines) + 1, f"the line is longer than {MAX_LINE} bytes")
        number += len(lines)
        for line in lines:
            yield line[:-1] if line[-1:] == b"\r" else line
    if held:
        yield held.rstrip(b"\r")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
