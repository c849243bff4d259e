"""Text lines of an indexed file: where each lies, by htslib's rules for the columns an index names (tbx.c).

VCF records reach as far as REF, END, SVLEN of symbolic alleles and LEN of a reference block say,
since htslib 1.22; numbers are read as C does (strtoll with base 0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gooseherd.domain.genome_index import Columns

LINE_BYTES = 64 << 20
"""Longest line; one of a VCF with a million samples takes some of that."""

_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_CIGAR = re.compile(rb"(?<![0-9])([0-9]++)([MDNmdn])")
_SPANNING = re.compile(rb"<(?:CNV|DEL|DUP|INV)(?::.*)?>$", re.DOTALL)
_DIGITS = 20  # more than 2^63 has


class BadLine(ValueError):
    """A line that does not say where it lies."""


def split_lines(buffers: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of bytes that arrive bit by bit, without their ends.

    Raises:
        BadLine: a line has no end within the bounds.
    """
    parts: list[bytes] = []
    length = 0
    for buffer in buffers:
        if b"\n" not in buffer:
            parts.append(buffer)
            length += len(buffer)
            if length > LINE_BYTES:
                raise BadLine("a line without an end")
            continue
        parts.append(buffer)
        lines = b"".join(parts).split(b"\n")
        rest = lines.pop()
        parts, length = [rest], len(rest)
        for line in lines:
            yield line[:-1] if line.endswith(b"\r") else line
    rest = b"".join(parts)
    if rest:
        yield rest[:-1] if rest.endswith(b"\r") else rest


def place(line: bytes, columns: Columns) -> tuple[bytes, int, int]:
    """(name, start, end) of a record, half-open from 0.

    Raises:
        BadLine: it has not the columns, or no number where one belongs.
    """
    fields = line.split(b"\t", max(columns.name, columns.begin, columns.end, 9))
    try:
        name, begin = fields[columns.name - 1], _number(fields[columns.begin - 1])
    except IndexError:
        raise BadLine("a line with too few columns") from None
    start = max(begin - (not columns.zero_based), 0)
    end = -1
    if columns.begin <= columns.end:
        end = begin + columns.zero_based
    end = max(end, 1)
    if columns.preset == 2:
        end = _variant_end(line, fields, start, end)
    elif columns.preset == 1:
        if len(fields) > 5:
            end = start + (sum(int(n[:_DIGITS]) for n, _ in _CIGAR.findall(fields[5])) or 1)
    elif columns.end not in {0, columns.begin} and columns.end <= len(fields):
        end = _number(fields[columns.end - 1])
        if end < 0:
            raise BadLine("an end before the first base")
    return name, start, end


def _variant_end(line: bytes, fields: list[bytes], start: int, end: int) -> int:
    if len(fields) < 4:
        return end
    reference, alternatives = len(fields[3]), fields[4].split(b",") if len(fields) > 4 else []
    if reference:
        end = start + reference
    span = reference
    if len(fields) > 7:
        info = fields[7]
        stated = _after(info, b"END=")
        if stated is not None and not stated.startswith(b"."):
            match = _NUMBER.match(stated)
            value = _value(match) if match else 0
            end = value if value > start else end
        lengths = _after(info, b"SVLEN=")
        if lengths is not None:
            # As htslib does, past the key's own end when there are fewer lengths than alleles.
            for allele, length in zip(alternatives, lengths.split(b","), strict=False):
                span = max(span, abs(_decimal(length)) if _SPANNING.match(allele) else 1)
    if len(fields) > 9 and (b"<*>" in alternatives or b"<NON_REF>" in alternatives):
        _, *samples = line.split(b"\t")[8:]
        keys = fields[8].split(b":")
        if b"LEN" in keys:
            at = keys.index(b"LEN")
            for sample in samples:
                values = sample.split(b":", at + 1)
                if len(values) > at:
                    span = max(span, _decimal(values[at]))
    return max(end, start + span)


def _after(info: bytes, key: bytes) -> bytes | None:
    if info.startswith(key):
        return info[len(key) :]
    _, found, rest = info.partition(b";" + key)
    return rest if found else None


def _number(text: bytes) -> int:
    match = _NUMBER.match(text)
    if match is None:
        raise BadLine("no number where a position belongs")
    return _value(match)


def _value(match: re.Match[bytes]) -> int:
    digits = match[2][:_DIGITS]
    base = 16 if digits[:2] in {b"0x", b"0X"} else 8 if digits[:1] == b"0" else 10
    return -int(digits, base) if match[1] == b"-" else int(digits, base)


def _decimal(text: bytes) -> int:
    match = _DECIMAL.match(text)
    return int(match[1][:_DIGITS]) if match else 0
