"""FASTA: names and sequences, as an index by places (FAI) needs them.

All lines of a sequence but its last must be of one length, or no place can be found by calculation; a
sequence whose lines are not is wrapped anew, at the length of its first line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.sam_header import MAX_CONTIGS

_FOREIGN: Final = re.compile(rb"[^A-Za-z*.\n-]")
"""What is no code of a nucleotide or an amino acid (IUPAC), nor the stop of a translation, nor a gap."""
_LETTERS: Final = bytes(byte for byte in range(256) if not _FOREIGN.match(bytes((byte,))))
_SPACES: Final = b" \t"
EMPTY: Final = "empty_sequences"
"""Counts titles with no letter below: they stay in the text, and are not in the index."""
_TITLE: Final = ord(">")
_LONGEST_TITLE: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"


class FastaReader:
    """Chunks of a source in, the text that will be published out; `index_line` gets each line of its FAI."""

    def __init__(self, index_line: Callable[[bytes], object]) -> None:
        self._index_line = index_line
        self.counts: dict[str, int] = {}
        self.lines = 0
        """Whole lines that were read."""
        self.lengths: dict[bytes, int] = {}
        self.written = 0
        """Bytes of text that came out."""
        self.open_end = False
        """The last line has no newline."""
        self._out: list[bytes] = []
        self._held = b""
        """A title, or the end of a line, of which more may come."""
        self._begun = False
        self._name: bytes | None = None
        self._length = self._offset = 0
        self._width = 0
        """Letters in a line of this sequence; 0: its first line is not here to its end."""
        self._column = 0
        """Letters in the line that is written. Its newline goes before the next letter."""
        self._line = 0
        """Letters in the line that is read."""
        self._short = False
        """The last line that was read had fewer letters than the first."""

    def chunk(self, data: bytes) -> bytes:
        """The text of a chunk; what cannot be judged yet is held back.

        Raises:
            StepFailed: source_invalid, with the line.
        """
        data, self._held = self._held + data, b""
        if not self._begun:
            if len(data) < len(_BOM):
                self._held = data
                return b""
            self._begin(data)
            data = data.removeprefix(_BOM)
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if b"\r\n" in data:
            self._count("carriage_returns", data.count(b"\r\n"))
            data = data.replace(b"\r\n", b"\n")
        at, size = 0, len(data)
        while at < size:
            if data[at] == _TITLE and not self._line:
                end = data.find(b"\n", at)
                if end < 0:
                    if size - at > _LONGEST_TITLE:
                        raise refuse(self.lines + 1, f"the title is longer than {_LONGEST_TITLE} bytes")
                    self._held = data[at:] + self._held
                    break
                self._title(data[at:end])
                at = end + 1
            else:
                end = data.find(b"\n>", at) + 1 or size
                self._letters(data[at:end])
                at = end
        return self._text()

    def finish(self) -> bytes:
        """What remains when the source is at its end.

        Raises:
            StepFailed: source_invalid; also for a source without any sequence.
        """
        if not self._begun:
            self._begin(self._held)
        held, self._held = self._held.removesuffix(b"\r"), b""
        self.open_end = bool(held or self._line)
        text = self.chunk(held + b"\n") if self.open_end else b""
        if self._name is None:
            raise StepFailed.because(Reason.SOURCE_INVALID, "no sequences: the file has no content")
        self._end_sequence()
        return text + self._text()

    def unchanged(self) -> bool:
        """Whether what came out is what went in."""
        return not self.counts.keys() - {EMPTY} and not self.open_end

    def contigs(self) -> tuple[Contig, ...]:
        """All sequences, in the file's order."""
        return tuple(Contig(name.decode("utf-8", "replace"), n) for name, n in self.lengths.items())

    # --------------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> None:
        self._begun = True
        if data.startswith(_BOM):
            self._count("byte_order_mark")

    def _count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by

    def _put(self, text: bytes) -> None:
        self._out.append(text)
        self.written += len(text)

    def _text(self) -> bytes:
        text, self._out = b"".join(self._out), []
        return text

    def _title(self, title: bytes) -> None:
        self._end_sequence()
        self.lines += 1
        if title[1:2].isspace():
            # To samtools and its readers the name would be empty.
            self._count("spaces_before_names")
            title = b">" + title[1:].lstrip()
        words = title[1:].split(None, 1)
        if not words:
            raise refuse(self.lines, "a sequence without a name")
        if b"\0" in title:
            raise refuse(self.lines, "a NUL byte: this is not text")
        name = words[0]
        if name in self.lengths:
            shown = name[:80].decode("utf-8", "replace")
            raise refuse(self.lines, f"the name {shown!r} stands above two sequences")
        if len(self.lengths) >= MAX_CONTIGS:
            raise refuse(self.lines, f"more than {MAX_CONTIGS} sequences")
        self._put(title + b"\n")
        self._name, self._length, self._offset = name, 0, self.written
        self._width = self._column = self._line = 0
        self._short = False
        self.lengths[name] = 0

    def _end_sequence(self) -> None:
        if self._name is None:
            return
        if self._column:
            self._put(b"\n")
        self.lengths[self._name] = self._length
        if not self._length:
            # As samtools does, which divides by the length of a line.
            self._count(EMPTY)
            return
        places = (self._length, self._offset, self._width, self._width + 1)
        self._index_line(b"%b\t%d\t%d\t%d\t%d\n" % (self._name, *places))

    def _letters(self, data: bytes) -> None:
        """Lines, and parts of lines, of the sequence under way."""
        if data.translate(None, _LETTERS):
            data = self._without_spaces(data)
        if self._name is None:
            self._above_sequences(data)
            return
        at = 0
        if self._line:
            at = data.find(b"\n") + 1
            if not at:
                self._line_part(data)
                return
            self._line_part(data[: at - 1])
            self._end_line()
        if self._width and self._column == self._width and not self._short:
            even = self._even(data, at)
            if even > at:
                self._put(b"\n" + data[at : even - 1])
                lines = (even - at) // (self._width + 1)
                self.lines += lines
                self._length += lines * self._width
                at = even
        *lines_before, last = data[at:].split(b"\n")
        for line in lines_before:
            self._line_part(line)
            self._end_line()
        self._line_part(last)

    def _even(self, data: bytes, at: int) -> int:
        """Where the whole lines from `at` on end that are as long as the first; `at`: it is not so simple."""
        each = self._width + 1
        lines = (len(data) - at) // each
        end = at + lines * each
        even = data[at + self._width : end : each].count(b"\n") == lines == data.count(b"\n", at, end)
        return end if even else at

    def _line_part(self, letters: bytes) -> None:
        """Letters of one line of the source, in lines of the length of the sequence's first."""
        if not letters:
            return
        if self._short:
            self._count("rewrapped_lines")
            self._short = False
        self._length += len(letters)
        self._line += len(letters)
        if not self._width:
            self._put(letters)
            self._column += len(letters)
            return
        at = 0
        while at < len(letters):
            if self._column == self._width:
                self._put(b"\n")
                self._column = 0
            some = letters[at : at + self._width - self._column]
            self._put(some)
            self._column += len(some)
            at += len(some)

    def _end_line(self) -> None:
        self.lines += 1
        if not self._line:
            self._count("blank_lines")
        elif not self._width:
            self._width = self._column
        elif self._line > self._width:
            self._count("rewrapped_lines")
        elif self._line < self._width:
            self._short = True
        self._line = 0

    def _without_spaces(self, data: bytes) -> bytes:
        bare = data.translate(None, _SPACES)
        found = _FOREIGN.search(bare)
        if found is None:
            self._count("spaces_in_sequences", len(data) - len(bare))
            return bare
        line = self.lines + bare.count(b"\n", 0, found.start()) + 1
        if found[0] == b"\0":
            raise refuse(line, "a NUL byte: this is not text")
        shown = found[0].decode("latin-1")
        raise refuse(line, f"{shown!r} is no letter of a sequence")

    def _above_sequences(self, data: bytes) -> None:
        if data.strip():
            above = len(data) - len(data.lstrip(b"\n"))
            raise refuse(
                self.lines + above + 1,
                "a sequence without a title: a line with > and its name must stand above it",
            )
        blank = data.count(b"\n")
        self.lines += blank
        if blank:
            self._count("blank_lines", blank)
