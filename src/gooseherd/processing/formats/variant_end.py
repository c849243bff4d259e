"""Where a variant ends: by REF, END, SVLEN of symbolic alleles and LEN of reference blocks (VCFv4.5 §1.6).

htslib's index has known all of them since 1.22; kernel/src/formats/vcf.c has the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gooseherd.processing.formats.records import MAX_COORDINATE

_WIDE: Final = re.compile(rb"<(?:DEL|DUP|INV|CNV)(?:>|[>:][^,]*>)")
"""Alleles of which SVLEN says how many bases of the reference they take."""
_BLOCKS: Final = frozenset({b"<*>", b"<NON_REF>"})
_AMOUNT: Final = re.compile(rb"\d{1,18}")
_LENGTH: Final = re.compile(rb"-?(\d{1,18})")
_BRACKET: Final = re.compile(rb"[\[\]]")

HINTS: Final = (b"SVLEN=", *_BLOCKS)
"""A record without any of these ends where REF and the first END say."""


def variant_end(start: int, fields: Sequence[bytes]) -> tuple[int, bool]:
    """(last base, whether that is a place on another sequence); `fields`: all columns of the record.

    The furthest that any of them leads. Lengths are a guess: one that leads beyond what readers can ask
    for is left out.
    """
    alt, info = fields[4], fields[7]
    first = max(start, 1)
    end = first + len(fields[3]) - 1
    elsewhere = False
    if b"END=" in info and (found := _AMOUNT.match(_value(info, b"END="))) and int(found[0]) > end:
        end = int(found[0])
        mates = (entry[5:] for entry in info.split(b";") if entry.startswith(b"CHR2="))
        elsewhere = any(name != fields[0] for name in mates) or _joins_another(alt, fields[0])
    if b"<" not in alt:
        return end, elsewhere
    length = _longest_of_alleles(alt, _value(info, b"SVLEN=")) if b"SVLEN=" in info else 0
    if length and end < start + length <= MAX_COORDINATE:
        end, elsewhere = start + length, False
    if not _BLOCKS.isdisjoint(alt.split(b",")) and (length := _longest_of_samples(fields)):
        last = first + length - 1
        if end < last <= MAX_COORDINATE:
            end, elsewhere = last, False
    return end, elsewhere


def _value(info: bytes, key: bytes) -> bytes:
    """Of the first entry with that key."""
    return next((entry[len(key) :] for entry in info.split(b";") if entry.startswith(key)), b"")


def _longest_of_alleles(alt: bytes, lengths: bytes) -> int:
    """Each allele has a length of its own."""
    pairs = zip(alt.split(b","), lengths.split(b","), strict=False)
    found = (_LENGTH.match(length) for allele, length in pairs if _WIDE.fullmatch(allele))
    return max((int(match[1]) for match in found if match), default=0)


def _longest_of_samples(fields: Sequence[bytes]) -> int:
    keys = fields[8].split(b":") if len(fields) > 9 else []
    if b"LEN" not in keys:
        return 0
    at = keys.index(b"LEN")
    values = (sample.split(b":", at + 1)[at : at + 1] for sample in fields[9:])
    found = (_AMOUNT.match(value[0]) for value in values if value)
    return max((int(match[0]) for match in found if match), default=0)


def _joins_another(alt: bytes, name: bytes) -> bool:
    """Whether an allele is a breakend, N[chr2:7[ and the like, whose mate is on another sequence (§5.4)."""
    bracket = _BRACKET.search(alt)
    parts = alt[bracket.start() :].split(bracket[0], 2) if bracket else []
    mate, colon, _ = parts[1].rpartition(b":") if len(parts) > 2 else (b"", b"", b"")
    return bool(colon) and mate != name
