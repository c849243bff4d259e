"""Wiggle: values at steps (UCSC's page "Wiggle Track Format"), as lines of bedGraph.

Positions count from 1 and become half-open intervals from 0. Lines of four columns with numbers in them are
bedGraph's own, which UCSC takes among wiggle lines. Words that say that there is no value go on as they are:
whoever writes the bigWig leaves them out.
"""

from __future__ import annotations

import re
from typing import Final

from gooseherd.processing.formats.bad_lines import NoRecord
from gooseherd.processing.formats.converted import ConvertedLines, shown
from gooseherd.processing.formats.records import MAX_COORDINATE, whole_number
from gooseherd.processing.formats.signal_value import NUMBER, value_of

_DECLARATION: Final = re.compile(rb"(fixedStep|variableStep)\s+(.*)", re.DOTALL)
_SETTING: Final = re.compile(rb"(chrom|start|step|span)=(\S+)\s*")
_INTERVAL_COLUMNS: Final = 4
_OF_NUMBERS: Final = b"+-.0123456789"


class WigReader(ConvertedLines):
    """Whole lines in, lines of bedGraph out; `counts` has what was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.declarations = 0
        """Lines that say where values lie."""
        self._fixed = False
        self._chrom = b""
        """Of the declaration that holds; empty: none does."""
        self._at = self._step = self._span = 0

    def line(self, text: bytes) -> bytes:
        if self._chrom and self._fixed:
            value = text.strip()
            if NUMBER.fullmatch(value) or _is_value(value):
                begin = self._at
                self._at += self._step
                return self._value(begin, value)
        words = text.split()
        if self._chrom and not self._fixed and len(words) == 2 and words[0][0] in _OF_NUMBERS:
            place, value = words
            if _is_value(value):
                return self._value(self.position(place) - 1, value)
        return self._other(text.strip(), words)

    def _value(self, begin: int, value: bytes) -> bytes:
        end = begin + self._span
        if begin < 0 or end > MAX_COORDINATE:
            raise self.bad(f"position {begin + 1} lies outside of 1 to {MAX_COORDINATE}")
        self.records += 1
        return b"%b\t%d\t%d\t%b\n" % (self._chrom, begin, end, value)

    def _other(self, text: bytes, words: list[bytes]) -> bytes:
        if text.startswith(b"#"):
            return text + b"\n"
        if len(words) >= _INTERVAL_COLUMNS and None not in map(whole_number, words[1:3]):
            self._chrom = b""
            return self._interval(text, words)
        if words[0] in (b"track", b"browser"):
            self.count("display_lines")
            self._chrom = b""
            return b""
        if declaration := _DECLARATION.fullmatch(text):
            # Values below a declaration that cannot be read are not those of the one above it.
            self._chrom = b""
            self._declare(declaration[1] == b"fixedStep", declaration[2])
            self.declarations += 1
            return b""
        raise self._no_value(text, words)

    def _no_value(self, text: bytes, words: list[bytes]) -> NoRecord:
        if not self._chrom:
            return self.bad(f"{shown(text)} is neither a declaration nor a value of one")
        if self._fixed:
            if len(words) == 1:
                # It stands where a value would: those below it keep their places.
                self._at += self._step
            else:
                # It may stand for any number of them.
                self._chrom = b""
            return self.bad(f"the value {shown(text)} is no number")
        if len(words) != 2 or whole_number(words[0]) is None:
            return self.bad(f"{shown(text)} is no position and value, as variableStep has them")
        return self.bad(f"the value {shown(words[1])} is no number")

    def _declare(self, fixed: bool, settings: bytes) -> None:
        found = {}
        at = 0
        while match := _SETTING.match(settings, at):
            found[match[1]], at = match[2], match.end()
        if at != len(settings):
            raise self.bad(f"{shown(settings[at:])} is no setting of a declaration")
        kind = "fixedStep" if fixed else "variableStep"
        for name in (b"chrom", b"start", b"step") if fixed else (b"chrom",):
            if name not in found:
                raise self.bad(f"{kind} without {name.decode()}=")
        numbers = {}
        for name in (b"start", b"step", b"span"):
            text = found.get(name, b"1")
            value = whole_number(text)
            if value is None or not 0 < value <= MAX_COORDINATE:
                raise self.bad(f"{name.decode()}={shown(text)} is no number from 1 to {MAX_COORDINATE}")
            numbers[name] = value
        start, step, span = numbers.values()
        if fixed and span > step:
            raise self.bad(f"span={span} is larger than step={step}: the values would overlap")
        self._fixed, self._chrom = fixed, self.name(found[b"chrom"])
        self._at, self._step, self._span = start - 1, step, span

    def _interval(self, text: bytes, words: list[bytes]) -> bytes:
        begin, end = map(self.position, words[1:3])
        if not 0 <= begin <= end:
            raise self.bad(f"{shown(text)} is no interval")
        if not _is_value(words[3]):
            raise self.bad(f"the value {shown(words[3])} is no number")
        self.records += 1
        return b"\t".join((self.name(words[0]), b"%d" % begin, b"%d" % end, *words[3:])) + b"\n"


def _is_value(text: bytes) -> bool:
    return NUMBER.fullmatch(text) is not None or value_of(text) is not None
