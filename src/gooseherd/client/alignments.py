"""BAM (SAMv1 §4.2) as SAM lines: sequences from its header, and each read as samtools writes it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from gooseherd.domain.genome_index import SEQUENCES

RECORD_BYTES: Final = 64 << 20
"""Longest record; one read of four million bases with its signal takes some of that."""
_HEADER_BYTES: Final = 256 << 20
_NAME_BYTES: Final = 1 << 16
_CORE: Final = struct.Struct("<iiBBHHHiiii")
_U32: Final = struct.Struct("<I")
_OPERATIONS: Final = "MIDNSHP=XB??????"
_OPERATIONS_MOST: Final = 4 << 20
"""Of a read: one for each base of the longest."""
_AT_ONCE: Final = 1 << 14
"""So many values of a tag become text at a time: as Python's numbers they are many times larger."""
_ON_REFERENCE: Final = frozenset({0, 2, 3, 7, 8})  # M D N = X
_SOFT_CLIP: Final = 4
_UNMAPPED: Final = 4
_BASES: Final = bytes.maketrans(b"0123456789abcdef", b"=ACMGRSVTWYHKDBN")
_QUALITIES: Final = bytes((value + 33) & 255 for value in range(256))
_INTEGERS: Final = {code: struct.Struct(f"<{how}") for code, how in zip(b"cCsSiI", "bBhHiI", strict=True)}
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")


class BadAlignment(ValueError):
    """Bytes that are no BAM, or not a whole one."""


def sequences(buffers: Iterable[bytes]) -> list[bytes]:
    """The names of the reference sequences, from the inflated bytes a BAM begins with; reads no further.

    Raises:
        BadAlignment: it begins otherwise.
    """
    head = _HeaderReader(buffers)
    magic = head.take(4)
    if magic != b"BAM\1":
        raise BadAlignment("a BCF" if magic == b"BCF\2" else "no BAM")
    head.skip(head.length(_HEADER_BYTES))
    names = []
    for _ in range(head.length(SEQUENCES)):
        names.append(head.take(head.length(_NAME_BYTES)).removesuffix(b"\0"))
        head.take(4)
    return names


class _HeaderReader:
    """Numbers and bytes of a header that arrives bit by bit."""

    def __init__(self, buffers: Iterable[bytes]) -> None:
        self._buffers, self._content = iter(buffers), bytearray()

    def take(self, count: int) -> bytes:
        while len(self._content) < count:
            self._read_more()
        taken = bytes(self._content[:count])
        del self._content[:count]
        return taken

    def skip(self, count: int) -> None:
        while len(self._content) < count:
            count -= len(self._content)
            self._content.clear()
            self._read_more()
        del self._content[:count]

    def length(self, most: int) -> int:
        value = _U32.unpack(self.take(4))[0]
        if value > most:
            raise BadAlignment("a header larger than any")
        return int(value)

    def _read_more(self) -> None:
        buffer = next(self._buffers, None)
        if buffer is None:
            raise BadAlignment("its header is cut")
        self._content += buffer


def split_records(buffers: Iterable[bytes]) -> Iterator[bytearray]:
    """The records of inflated bytes that arrive bit by bit.

    Raises:
        BadAlignment: one is cut, or as long as none is.
    """
    there, at = bytearray(), 0
    for buffer in buffers:
        there += buffer
        while len(there) - at >= 4:
            length = _U32.unpack_from(there, at)[0]
            if not _CORE.size <= length <= RECORD_BYTES:
                raise BadAlignment("a record of an impossible length")
            if len(there) - at - 4 < length:
                break
            yield there[at + 4 : at + 4 + length]
            at += 4 + length
        del there[:at]
        at = 0
    if there:
        raise BadAlignment("a record is cut")


class Alignment:
    """One record; `start` and `end` are half-open from 0, and a read without a length takes one base."""

    __slots__ = (
        "_bases_at",
        "_cigar",
        "_core",
        "_data",
        "_long_cigar",
        "_tags_at",
        "end",
        "sequence",
        "start",
    )

    def __init__(self, data: bytearray) -> None:
        """Take a record's bytes.

        Raises:
            BadAlignment: its parts do not fit in.
        """
        self._data, self._core = data, _CORE.unpack_from(data)
        self.sequence, self.start, name, _, _, operations, flag, length, _, _, _ = self._core
        at = _CORE.size + name
        self._bases_at = at + 4 * operations
        self._tags_at = self._bases_at + (length + 1) // 2 + length
        if length < 0 or not name or self._tags_at > len(data):
            raise BadAlignment("a record larger than itself")
        self._cigar: tuple[int, ...] = struct.unpack_from(f"<{operations}I", data, at)
        self._long_cigar: tuple[int, int] | None = None
        # More operations than fit (SAMv1 §4.2.2): the real ones are in a tag.
        if operations and self._cigar[0] == length << 4 | _SOFT_CLIP and min(self.sequence, self.start) >= 0:
            self._take_long_cigar()
        span = sum(item >> 4 for item in self._cigar if item & 15 in _ON_REFERENCE)
        self.end = self.start + (span if span and not flag & _UNMAPPED else 1)

    def _take_long_cigar(self) -> None:
        for begin, end in _tag_spans(self._data, self._tags_at):
            if self._data.startswith(b"CG", begin):
                if self._data.startswith((b"BI", b"Bi"), begin + 2):
                    count = (end - begin - 8) // 4
                    if count > _OPERATIONS_MOST:
                        raise BadAlignment("a read of more operations than any")
                    if len(self._cigar) <= count:
                        self._cigar = struct.unpack_from(f"<{count}I", self._data, begin + 8)
                        self._long_cigar = begin, end
                return

    def sam(self, names: list[bytes]) -> bytes:
        """The line; `names` are those of the header.

        Raises:
            BadAlignment: a sequence that the header does not name, or tags that are damaged.
        """
        data = self._data
        tid, start, name, quality, _, _, flag, length, mate_tid, mate_start, tlen = self._core
        cigar = "".join(f"{item >> 4}{_OPERATIONS[item & 15]}" for item in self._cigar)
        mate = b"*" if mate_tid < 0 else b"=" if mate_tid == tid else _name(names, mate_tid)
        bases = qualities = b"*"
        if length:
            middle = self._bases_at + (length + 1) // 2
            bases = data[self._bases_at : middle].hex().encode().translate(_BASES)[:length]
            if data[middle] != 0xFF:
                qualities = bytes(data[middle : middle + length].translate(_QUALITIES))
        line = [
            bytes(data[_CORE.size : _CORE.size + name - 1]),
            b"%d\t%b\t%d\t%d" % (flag, _name(names, tid) if tid >= 0 else b"*", start + 1, quality),
            cigar.encode() or b"*",
            mate,
            b"%d\t%d" % (mate_start + 1, tlen),
            bases,
            qualities,
        ]
        for begin, end in _tag_spans(data, self._tags_at):
            if (begin, end) != self._long_cigar:
                line.append(_tag(data, begin, end))
        return b"\t".join(line)


def _name(names: list[bytes], number: int) -> bytes:
    if number >= len(names):
        raise BadAlignment("a sequence that its header does not name")
    return names[number]


def _tag_spans(data: bytearray, at: int) -> Iterator[tuple[int, int]]:
    """Where each tag begins and ends."""
    whole = len(data)
    while at < whole:
        kind = data[at + 2] if at + 3 < whole else 0
        if kind in _INTEGERS:
            end = at + 3 + _INTEGERS[kind].size
        elif kind in b"ZH":
            end = data.find(0, at + 3) + 1
        elif kind == 0x41:  # A
            end = at + 4
        elif kind == 0x42:  # B
            if at + 8 > whole:
                raise BadAlignment("its tags are cut")
            size = 4 if data[at + 3] == 0x66 else _integer(data[at + 3]).size
            end = at + 8 + size * _U32.unpack_from(data, at + 4)[0]
        else:
            end = at + {0x66: 7, 0x64: 11}.get(kind, whole)  # f, d
        if not at < end <= whole:
            raise BadAlignment("its tags are cut")
        yield at, end
        at = end


def _integer(code: int) -> struct.Struct:
    try:
        return _INTEGERS[code]
    except KeyError:
        raise BadAlignment("a tag of an unknown kind") from None


def _tag(data: bytearray, begin: int, end: int) -> bytes:
    kind, name = data[begin + 2], bytes(data[begin : begin + 2])
    if kind in b"ZHA":
        return b"%b:%c:%b" % (name, kind, bytes(data[begin + 3 : end - (kind != 0x41)]))
    if kind in _INTEGERS:
        return b"%b:i:%d" % (name, *_INTEGERS[kind].unpack_from(data, begin + 3))
    if kind == 0x42:
        code = data[begin + 3]
        how = "f" if code == 0x66 else "bBhHiI"[b"cCsSiI".index(code)]
        step = struct.calcsize(how) * _AT_ONCE
        text = bytearray(b"%b:B:%c" % (name, code))
        for at in range(begin + 8, end, step):
            values = data[at : min(at + step, end)]
            for value in struct.unpack(f"<{len(values) // struct.calcsize(how)}{how}", values):
                text += b",%b" % (_decimal(value) if how == "f" else str(value)).encode()
        return bytes(text)
    (value,) = (_FLOAT if kind == 0x66 else _DOUBLE).unpack_from(data, begin + 3)
    return b"%b:%c:%b" % (name, kind, _decimal(value).encode())


def _decimal(value: float) -> str:
    return "-nan" if math.isnan(value) and math.copysign(1, value) < 0 else f"{value:g}"
