"""Lines of a format that becomes BED or bedGraph: what readers of such lines have in common."""

from __future__ import annotations

from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import LineCounts, NoRecord, bad_line, refuse
from gooseherd.processing.formats.records import MAX_COORDINATE, whole_number

_BOM: Final = b"\xef\xbb\xbf"
_ZERO: Final = ord("0")
_SPACE: Final = ord(" ")
_SURELY_BELOW: Final = len(str(MAX_COORDINATE))


class ConvertedLines(LineCounts):
    """Whole lines in, lines of BED or bedGraph out.

    Every line of the source is one of the result, or is counted.
    """

    def block(self, data: bytes) -> bytes:
        """The records of these whole lines.

        Raises:
            StepFailed: source_invalid, with the line.
        """
        if not self.lines and data.startswith(_BOM):
            self.count("byte_order_mark")
            data = data[len(_BOM) :]
        if b"\0" in data:
            number = self.lines + 1 + data.count(b"\n", 0, data.index(b"\0"))
            raise refuse(number, "a NUL byte: this is not text")
        if b"\r\n" in data:
            self.count("carriage_returns", data.count(b"\r\n"))
            data = data.replace(b"\r\n", b"\n")
        lines = data.split(b"\n")
        lines.pop()
        read = self._line_or_nothing if self.skip_bad_lines else self.line
        out = []
        for line in lines:
            self.lines += 1
            if line and line[-1] > _SPACE:
                out.append(read(line))
            elif text := self._without_returns(line):
                out.append(read(text))
        return b"".join(out)

    def line(self, text: bytes) -> bytes:
        """What becomes of one line that is not blank."""
        raise NotImplementedError

    def bad(self, problem: str) -> NoRecord:
        """This line makes no record."""
        return bad_line(self.lines, problem)

    def position(self, text: bytes) -> int:
        """The whole number; counted where it is spelt oddly (1e3, 10.0, 007)."""
        if len(text) < _SURELY_BELOW and text.isdigit() and text[0] != _ZERO:
            return int(text)
        value = whole_number(text)
        if value is None:
            raise self.bad(f"{shown(text)} is no position")
        if value > MAX_COORDINATE:
            raise self.bad(f"position {value} is above {MAX_COORDINATE}")
        if b"%d" % value != text:
            self.count("respelt_coordinates")
        return value

    def name(self, text: bytes) -> bytes:
        """The name of a sequence, one that can stand in front of a record."""
        if not text:
            raise self.bad("the sequence name is empty")
        if text.startswith(b"#"):
            raise self.bad("the sequence name starts with #, which would make the record a comment")
        return text

    def finish(self) -> None:
        """Everything was read.

        Raises:
            StepFailed: source_invalid; it had no content.
        """
        self.refuse_bad_lines_alone()
        if self.lines == self.counts.get("blank_lines", 0):
            raise StepFailed.because(Reason.SOURCE_INVALID, "no records: the file has no content")

    def _without_returns(self, line: bytes) -> bytes:
        """Nothing, if the line is blank."""
        if line.endswith(b"\r"):
            self.count("carriage_returns", len(line) - len(line.rstrip(b"\r")))
            line = line.rstrip(b"\r")
        if line.strip():
            return line
        self.count("blank_lines")
        return b""

    def _line_or_nothing(self, line: bytes) -> bytes:
        before = dict(self.counts)
        try:
            return self.line(line)
        except NoRecord as bad:
            self.counts = before
            self.leave_out(self.lines, bad.failure)
            return b""


def shown(text: bytes) -> str:
    """Some of it, for words."""
    return repr(text[:60].decode("utf-8", "replace"))
