"""Lines of a format that becomes BED or bedGraph: what readers of such lines have in common."""

from __future__ import annotations

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import LineCounts, NoRecord, bad_line, refuse
from gooseherd.processing.formats.records import MAX_COORDINATE, whole_number

_BOM = b"\xef\xbb\xbf"


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
            line = self.lines + 1 + data.count(b"\n", 0, data.index(b"\0"))
            raise refuse(line, "a NUL byte: this is not text")
        if b"\r\n" in data:
            self.count("carriage_returns", data.count(b"\r\n"))
            data = data.replace(b"\r\n", b"\n")
        lines = data.split(b"\n")
        lines.pop()
        return b"".join(map(self._line, lines))

    def line(self, text: bytes) -> bytes:
        """What becomes of one line that is not blank."""
        raise NotImplementedError

    def bad(self, problem: str) -> NoRecord:
        """This line makes no record."""
        return bad_line(self.lines, problem)

    def position(self, text: bytes) -> int:
        """The whole number; counted where it is spelt oddly (1e3, 10.0, 007)."""
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

    def _line(self, line: bytes) -> bytes:
        self.lines += 1
        if line.endswith(b"\r"):
            self.count("carriage_returns", len(line) - len(line.rstrip(b"\r")))
            line = line.rstrip(b"\r")
        if not line.strip():
            self.count("blank_lines")
            return b""
        if not self.skip_bad_lines:
            return self.line(line)
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
