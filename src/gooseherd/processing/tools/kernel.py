"""The interface of gooseherd-intervals: its path, its command line, its report. It is run as a stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from gooseherd.processing.bundled import find_program, is_program

PROGRAM: Final = "gooseherd-intervals"

FORMATS: Final = frozenset(
    ("bed", "narrowpeak", "broadpeak", "gappedpeak", "tagalign", "interact", "gff", "gff3", "gtf", "vcf")
)
"""`gtf` becomes GFF3."""

LEAST_MEMORY: Final = 80 << 20
"""Bytes that are enough for any genome's index; the program itself accepts less for small ones."""


class KernelStatus(IntEnum):
    """Its exit statuses."""

    DONE = 0
    USAGE = 2
    INVALID = 10
    TRUNCATED = 11
    LIMIT = 12
    NOT_KEPT = 13
    """Of a pipe with `keep`: it must be packed anew, by another run without `keep`."""
    WANTS_CSI = 14
    """Of a pipe with `keep`: only another run on the file can tell."""
    IO = 20
    MEMORY = 21


@dataclass(frozen=True, slots=True)
class KernelContig:
    """A sequence of the file: declared in its header, seen in records, or both."""

    name: str
    length: int | None
    max_end: int
    records: int


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What one run found. After a failure: `reason` (of failures.Reason), `detail`, `line`, counts so far."""

    done: bool
    records: int
    record_bytes: int
    header_lines: int
    header_bytes: int
    lines: int
    text_bytes: int
    max_end: int
    sorted: bool
    """The source's order was kept."""
    spills: int
    spilled_bytes: int
    restarted: bool
    kept: bool
    """The source is the result: only its index was made."""
    bytes_out: int
    counts: Mapping[str, int]
    """Everything that was changed or dropped, by the names of the Python normaliser."""
    index: str = ""
    """tbi or csi."""
    compression: str = ""
    without_end_marker: bool = False
    bytes_in: int = 0
    contigs: tuple[KernelContig, ...] = ()
    reason: str | None = None
    detail: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class KernelProgress:
    """One line of --progress-fd. `in_total` is 0 when unknown; `written` follows `text` once all is read."""

    phase: str
    read_bytes: int
    total_bytes: int
    text_bytes: int
    written_bytes: int
    out_bytes: int

    def fraction(self, reading: float = 0.4) -> float:
        """How much is done, 0 to 1, when `reading` is the share of the time until all is read."""
        if self.phase == "done":
            return 1.0
        read = min(1.0, self.read_bytes / self.total_bytes) if self.total_bytes else 0.0
        if self.phase == "read":
            # Written while reading: the source is in order and both go on together.
            return read if self.written_bytes else reading * read
        given = min(1.0, self.written_bytes / self.text_bytes) if self.text_bytes else 0.0
        return reading + (1.0 - reading) * given


@dataclass(frozen=True)
class KernelCall:
    """One run. Paths only: its own names, never the user's."""

    format: str
    source: Path | None
    """None: standard input, read while it arrives."""
    out: Path
    index: Path
    report: Path
    work: Path
    memory_bytes: int
    threads: int = 2
    level: int = 1
    density: Path | None = None
    """Where the density table (formats/density_table.py) is written; when that fails, there is none."""
    progress_fd: int | None = None
    contigs: Path | None = None
    """Sequences that count as declared: a name and a length by TAB on each line."""
    refuse_empty: bool = False
    skip_bad_lines: bool = False
    """A few lines that make no record are left out; the report names them."""
    keep: bool = False
    """A BGZF source in order, in which nothing would be changed, is only indexed: `out` is not written."""

    def argv(self, program: Path) -> tuple[str, ...]:
        """The command line."""
        if self.format not in FORMATS:
            raise ValueError(f"the kernel does not read {self.format!r}")
        return (
            str(program),
            f"--format={self.format}",
            f"--out={self.out}",
            f"--index={self.index}",
            f"--report={self.report}",
            f"--work={self.work}",
            f"--memory={self.memory_bytes}",
            f"--threads={self.threads}",
            f"--level={self.level}",
            *(() if self.density is None else (f"--density={self.density}",)),
            *(() if self.progress_fd is None else (f"--progress-fd={self.progress_fd}",)),
            *(() if self.contigs is None else (f"--contigs={self.contigs}",)),
            *(("--refuse-empty",) if self.refuse_empty else ()),
            *(("--skip-bad-lines",) if self.skip_bad_lines else ()),
            *(("--keep",) if self.keep else ()),
            "--",
            "-" if self.source is None else str(self.source),
        )


def find_kernel(built: Path | None = None, *, search_path: str | None = None) -> Path | None:
    """The program: the one given, else as `find_program` looks for it; None where it is not built.

    With `search_path` it is looked for there and nowhere else.
    """
    if search_path is None and built is not None and is_program(built):
        return built
    return find_program(PROGRAM, search_path=search_path)


def parse_report(data: bytes) -> KernelReport:
    """Read a report.

    Raises:
        ValueError: this is none, or it is cut.
    """
    fields = json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError("a report is a JSON object")
    try:
        return _report(fields)
    except (KeyError, TypeError) as lacking:
        raise ValueError(f"not a report: {lacking}") from lacking


def parse_progress(line: bytes) -> KernelProgress:
    """Read one line of progress.

    Raises:
        ValueError: it is none.
    """
    fields = json.loads(line)
    try:
        return KernelProgress(
            fields["phase"],
            fields["in"],
            fields["in_total"],
            fields["text"],
            fields["written"],
            fields["out"],
        )
    except (KeyError, TypeError) as lacking:
        raise ValueError(f"not a line of progress: {lacking}") from lacking


def _report(fields: dict[str, Any]) -> KernelReport:
    return KernelReport(
        done=fields["outcome"] == "done",
        records=fields["records"],
        record_bytes=fields["record_bytes"],
        header_lines=fields["header_lines"],
        header_bytes=fields["header_bytes"],
        lines=fields["lines"],
        text_bytes=fields["text_bytes"],
        max_end=fields["max_end"],
        sorted=fields["ordered"],
        spills=fields["spills"],
        spilled_bytes=fields["spilled_bytes"],
        restarted=fields["restarted"],
        kept=fields["kept"],
        bytes_out=fields["bytes_out"],
        counts=dict(fields["counts"]),
        index=fields.get("index", ""),
        compression=fields.get("compression", ""),
        without_end_marker=fields.get("without_end_marker", False),
        bytes_in=fields.get("bytes_in", 0),
        contigs=tuple(KernelContig(*contig) for contig in fields.get("contigs", ())),
        reason=fields.get("reason"),
        detail=fields.get("detail", ""),
        line=fields.get("line") or None,
    )
