"""Wiggle: values at steps (UCSC's page "Wiggle Track Format"), as lines of bedGraph.

Positions count from 1 and become half-open intervals from 0. Lines of four columns with numbers in them are
bedGraph's own, which UCSC takes among wiggle lines.
"""

from __future__ import annotations

import re
from typing import Final

from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.records import MAX_COORDINATE, refuse

_DECLARATION: Final = re.compile(rb"(fixedStep|variableStep)\s+(.*)", re.DOTALL)
_SETTING: Final = re.compile(rb"(chrom|start|step|span)=(\S+)\s*")
_WHOLE: Final = re.compile(rb"\d{1,10}")
_NUMBER: Final = re.compile(
    rb"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf|nan)", re.IGNORECASE
)


class WigReader:
    """Whole lines in, lines of bedGraph out; `counts` has what was dropped."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lines = 0
        self._fixed = False
        self._chrom = b""
        """Of the declaration that holds; empty: none does."""
        self._at = self._step = self._span = 0

    def block(self, data: bytes) -> bytes:
        """The values of these whole lines.

        Raises:
            StepFailed: source_invalid, with the line.
        """
        out: list[bytes] = []
        lines = data.split(b"\n")
        lines.pop()
        for line in lines:
            self.lines += 1
            text = line.strip()
            if text and text[0] in b"+-.0123456789" and self._chrom:
                out.append(self._value(text))
            else:
                out.append(self._other(text))
        return b"".join(out)

    def _value(self, text: bytes) -> bytes:
        begin = self._at
        if self._fixed:
            self._at += self._step
        else:
            words = text.split()
            if len(words) != 2 or not _WHOLE.fullmatch(words[0]):
                raise self._refused(f"{_shown(text)} is no position and value, as variableStep has them")
            begin, text = int(words[0]) - 1, words[1]
        if not _NUMBER.fullmatch(text):
            raise self._refused(f"the value {_shown(text)} is no number")
        end = begin + self._span
        if begin < 0 or end > MAX_COORDINATE:
            raise self._refused(f"position {begin + 1} lies outside of 1 to {MAX_COORDINATE}")
        return b"%b\t%d\t%d\t%b\n" % (self._chrom, begin, end, text)

    def _other(self, text: bytes) -> bytes:
        if not text:
            self._count("blank_lines")
        elif text.startswith(b"#"):
            return text + b"\n"
        elif text.startswith((b"track", b"browser")):
            self._count("display_lines")
            self._chrom = b""
        elif declaration := _DECLARATION.fullmatch(text):
            self._declare(declaration[1] == b"fixedStep", declaration[2])
        else:
            return self._interval(text)
        return b""

    def _declare(self, fixed: bool, settings: bytes) -> None:
        found = {}
        at = 0
        while match := _SETTING.match(settings, at):
            found[match[1]], at = match[2], match.end()
        if at != len(settings):
            raise self._refused(f"{_shown(settings[at:])} is no setting of a declaration")
        kind = "fixedStep" if fixed else "variableStep"
        for name in (b"chrom", b"start", b"step") if fixed else (b"chrom",):
            if name not in found:
                raise self._refused(f"{kind} without {name.decode()}=")
        numbers = {}
        for name, default in ((b"start", b"1"), (b"step", b"1"), (b"span", b"1")):
            value = found.get(name, default)
            if not _WHOLE.fullmatch(value) or not 0 < int(value) <= MAX_COORDINATE:
                raise self._refused(
                    f"{name.decode()}={_shown(value)} is no number from 1 to {MAX_COORDINATE}"
                )
            numbers[name] = int(value)
        self._fixed, self._chrom = fixed, found[b"chrom"]
        self._at, self._step, self._span = numbers[b"start"] - 1, numbers[b"step"], numbers[b"span"]
        if fixed and self._span > self._step:
            raise self._refused(
                f"span={self._span} is larger than step={self._step}: the values would overlap"
            )

    def _interval(self, text: bytes) -> bytes:
        words = text.split()
        if len(words) == 4 and all(map(_WHOLE.fullmatch, words[1:3])) and _NUMBER.fullmatch(words[3]):
            self._chrom = b""
            begin, end = int(words[1]), int(words[2])
            if begin > end or end > MAX_COORDINATE:
                raise self._refused(f"{_shown(text)} is no interval")
            return b"\t".join(words) + b"\n"
        raise self._refused(f"{_shown(text)} is neither a declaration nor a value of one")

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _refused(self, problem: str) -> StepFailed:
        return refuse(self.lines, problem)


def _shown(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))
