"""Reads the values of a region of a bigWig as a genome browser does: its trees and blocks by byte ranges."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator

from gooseherd.client.endpoint import Endpoint
from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.parts import ReadyPart
from gooseherd.client.range_file import range_file
from gooseherd.client.reading import no_contig
from gooseherd.domain.bbi import BbiFile, Value
from gooseherd.domain.region import Region


def read_values(endpoint: Endpoint, data: ReadyPart, region: Region) -> Iterator[Value]:
    """(start, end, value) of what overlaps `region`, whole, in the file's order.

    Raises:
        InvalidInput: the file has no such sequence.
        UnexpectedResponse: it is no bigWig.
        Changed: the file was replaced meanwhile.
    """
    with contextlib.closing(range_file(endpoint, data)) as stream:
        try:
            file = BbiFile(stream, stream.seek(0, 2))
            number, length = _sequence(file, region)
            end = length if region.end is None else min(region.end, length)
            yield from file.values(number, region.start, end)
        except (ValueError, struct.error, zlib.error, OverflowError) as error:
            problem = str(error) if type(error) is ValueError else "it is damaged"
            raise UnexpectedResponse(data.url, f"not readable as a bigWig: {problem}") from error


def lines_of_values(region: Region, values: Iterator[Value]) -> Iterator[str]:
    """As lines of bedGraph."""
    for start, end, value in values:
        yield f"{region.contig}\t{start}\t{end}\t{_shortest(value)}"


def _sequence(file: BbiFile, region: Region) -> tuple[int, int]:
    for number, (name, length) in file.lengths.items():
        if name == region.contig:
            return number, length
    raise no_contig(region, [name for name, _ in file.lengths.values()])


def _shortest(value: float) -> str:
    """The fewest digits that give the same number of 32 bits."""
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        with contextlib.suppress(OverflowError):  # rounded up beyond the largest
            if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
                return text
    return f"{value:.9g}"
