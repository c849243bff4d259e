"""Lines that make no record: they refuse their file, or a few of them are left out and named."""

from __future__ import annotations

from typing import Final

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed

MOST_BAD_LINES: Final = 100
"""So many are left out, if any are: a note names each; more are no mistakes but another format."""


def refuse(line: int, problem: str) -> StepFailed:
    """A source_invalid that names the line, counted from 1 in the uncompressed file."""
    return StepFailed.because(Reason.SOURCE_INVALID, f"line {line}: {problem}")


class NoRecord(StepFailed):
    """A line in place of a record makes none; the file may still be good without it."""


def bad_line(line: int, problem: str) -> NoRecord:
    """As `refuse`, of what `skip_bad_lines` leaves out."""
    return NoRecord(refuse(line, problem).failure)


class LineCounts:
    """What a reader of lines counts, and which lines it leaves out."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lines = 0
        """All lines that were read, kept or dropped."""
        self.records = 0
        self.skip_bad_lines = False
        self.bad_lines: list[int] = []
        """The numbers of lines that were left out because they make no record."""
        self.first_bad_line: Failure | None = None

    def count(self, what: str, by: int = 1) -> None:
        """Remember that something was changed or dropped."""
        self.counts[what] = self.counts.get(what, 0) + by

    def leave_out(self, number: int, why: Failure) -> None:
        """Leave out a line that makes no record.

        Raises:
            StepFailed: there are too many of them.
        """
        if self.first_bad_line is None:
            self.first_bad_line = why
        elif len(self.bad_lines) == MOST_BAD_LINES:
            first = self.first_bad_line.detail[:300]
            raise StepFailed.because(
                why.reason, f"more than {MOST_BAD_LINES} lines are no records, the first of them {first}"
            )
        self.bad_lines.append(number)
        self.count("bad_lines")

    def refuse_bad_lines_alone(self) -> None:
        """Everything was read.

        Raises:
            StepFailed: there were bad lines and no record.
        """
        if self.first_bad_line is not None and not self.records:
            raise StepFailed(self.first_bad_line)
