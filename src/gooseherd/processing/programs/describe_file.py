"""Reads headers of files that are served as they are: whether they are whole, which sequences they name.

    python -m gooseherd.processing.programs.describe_file 2bit|hic|cool|mcool SOURCE --report FILE

Prints the contigs as JSON; an HDF5 container is not opened further than its size. Exit status 65: the file
was refused, and the report says why. A program of its own, because it reads untrusted bytes.

The formats: genome.ucsc.edu/FAQ/FAQformat.html (.2bit); github.com/aidenlab/hic-format; the HDF5 File Format
Specification, version 3.0, II.A.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.processing.formats.sam_header import MAX_CONTIGS

_LONGEST_TEXT: Final = 1 << 20
_SIGNATURE: Final = 0x1A412743
_HDF5_END_AT: Final = {0: 40, 1: 44, 2: 28, 3: 28}
"""Where each version of the superblock says where the file ends."""

Contigs = list[tuple[str, int]]


class NotReadable(ValueError):
    """Bytes that are no such file, or not all of it."""


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    match argv:
        case [("2bit" | "hic" | "cool" | "mcool") as kind, source, "--report", report]:
            path = Path(source)
            try:
                with path.open("rb") as stream:
                    found = _READERS[kind](stream, path.stat().st_size)
            except (NotReadable, struct.error, UnicodeDecodeError) as error:
                problem = str(error) if isinstance(error, NotReadable) else "truncated: its header is cut"
                refusal = {"reason": Reason.SOURCE_INVALID, "detail": f"not a readable {kind}: {problem}"}
                Path(report).write_text(json.dumps(refusal))
                return 65
        case _:
            return 64
    json.dump({"contigs": found}, sys.stdout)
    return 0


def twobit(stream: BinaryIO, size: int) -> Contigs:
    """Names and lengths of a .2bit."""
    head = stream.read(16)
    order = "<" if int.from_bytes(head[:4], "little") == _SIGNATURE else ">"
    _, version, count, _ = struct.unpack(f"{order}4I", head)
    if version not in (0, 1):
        raise NotReadable(f"its version is {version}")
    if count > MAX_CONTIGS:
        raise NotReadable(f"it has more than {MAX_CONTIGS} sequences")
    place = struct.Struct(f"{order}{'Q' if version else 'I'}")
    index = []
    for _ in range(count):
        (length,) = struct.unpack("B", stream.read(1))
        name = stream.read(length).decode()
        index.append((name, *place.unpack(stream.read(place.size))))
    found = []
    for name, at in index:
        stream.seek(at)
        (bases,) = struct.unpack(f"{order}I", stream.read(4))
        if at + 16 + -(-bases // 4) > size:
            raise NotReadable(f"truncated: the bases of {name[:80]!r} are not there")
        found.append((name, bases))
    if not found:
        raise NotReadable("it has no sequences")
    return found


def hic(stream: BinaryIO, size: int) -> Contigs:
    """Names and lengths of a .hic, without its "all"."""
    _, version, footer = struct.unpack("<4siq", stream.read(16))
    if not 6 <= version <= 9:
        raise NotReadable(f"its version is {version}")
    if not 0 < footer < size:
        raise NotReadable("truncated: its index of matrices is not there")
    _text(stream)
    if version > 8:
        stream.read(16)
    (attributes,) = struct.unpack("<i", stream.read(4))
    if not 0 <= attributes <= MAX_CONTIGS:
        raise NotReadable("its header is damaged")
    for _ in range(2 * attributes):
        _text(stream)
    (count,) = struct.unpack("<i", stream.read(4))
    if not 0 <= count <= MAX_CONTIGS:
        raise NotReadable(f"it has more than {MAX_CONTIGS} sequences")
    length = struct.Struct("<q" if version > 8 else "<i")
    found = [(_text(stream), length.unpack(stream.read(length.size))[0]) for _ in range(count)]
    return [(name, bases) for name, bases in found if name.lower() != "all"]


def hdf5(stream: BinaryIO, size: int) -> Contigs:
    """None: what a cooler names is inside of groups. It is whole, though."""
    head = stream.read(64)
    version, at = head[8], _HDF5_END_AT.get(head[8])
    if at is None:
        raise NotReadable(f"its HDF5 superblock has version {version}")
    if head[13 if version < 2 else 9] != 8:
        raise NotReadable("its HDF5 addresses are not of 8 bytes")
    (end,) = struct.unpack("<Q", head[at : at + 8])
    if end > size:
        raise NotReadable(f"truncated: {size} bytes of {end} are there")
    return []


def _text(stream: BinaryIO) -> str:
    found = bytearray()
    while (byte := stream.read(1)) != b"\0":
        if not byte or len(found) >= _LONGEST_TEXT:
            raise NotReadable("truncated: its header is cut")
        found += byte
    return found.decode()


_READERS: Final = {"2bit": twobit, "hic": hic, "cool": hdf5, "mcool": hdf5}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
