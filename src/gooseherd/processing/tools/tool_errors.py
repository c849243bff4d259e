"""Turns a tool's exit status and standard error into a reason and a sentence without paths or hosts."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import Final

from gooseherd.domain.failures import Failure, Reason

_MAX_CHARACTERS: Final = 300

# First match wins.
_MACHINE_ERRORS: Final[tuple[tuple[re.Pattern[str], Reason, str], ...]] = tuple(
    (re.compile(text, re.IGNORECASE), reason, meaning)
    for text, reason, meaning in (
        (
            "no space left|out of disk space|disk quota exceeded|file too large|file size limit",
            Reason.OUT_OF_DISK,
            "ran out of disk space",
        ),
        # Whoever killed it: the tool has not begun.
        (r"(?m:^)nsenter: (?:cannot open /proc|reassociate)", Reason.WORKER_LOST, "lost its sandbox"),
        (
            (
                "(?:cannot|could not|couldn't|failed to) allocate|memory allocation|out of memory"
                "|memory exhausted|bad_alloc|MemoryError|(?:not enough|insufficient) memory"
            ),
            Reason.OUT_OF_MEMORY,
            "ran out of memory",
        ),
    )
)
# An error of a tool about its input, and our message for it; None: the tool's own message. First match wins.
_SOURCE_ERRORS: Final[tuple[tuple[re.Pattern[str], str | None], ...]] = tuple(
    (re.compile(text, re.IGNORECASE), meaning)
    for text, meaning in (
        (
            "unable to fetch reference|failed to populate reference",
            "the CRAM needs an external reference sequence, which is not available here: embed it",
        ),
        ("no SQ lines|missing SAM header|no @SQ", "the header names no reference sequences (@SQ)"),
        ("duplicate.{0,40}entry.{0,200}header", None),
        ("parse error|error parsing|cannot parse|could not parse", None),
        (
            "EOF marker is absent|unexpected end of file|missing EOF block",
            "truncated: the end marker is missing",
        ),
        (
            # What errno held by chance: samtools index says no more of reads that it cannot decode.
            "failed to create index for .*: (?:No such file|Numerical result|Invalid arg|Success)",
            "corrupt: not all of its reads can be decoded",
        ),
        ("truncated", "truncated or corrupt: it could not be read to its end"),
        (
            (
                "invalid (?:bgzf|bam|bcf|cram|header|magic|record|data)|corrupt|crc32"
                "|read error|broken vcf|inflate|malformed|fail(?:ed|ure) to (?:read|decode|parse)"
                "|error reading|unexpected|lengths differ"
            ),
            None,
        ),
    )
)

_OWN_WORDS: Final = tuple(pattern for pattern, sentence in _SOURCE_ERRORS if sentence is None)

_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
"""How parsers in C end on malformed input, in the same way each time."""
_FUNCTION: Final = re.compile(r"^\[[EW]::\w+\] ")
"""The function of htslib that reported an error: of no use to users."""
_LINE_NUMBER: Final = re.compile(r"\bline (\d+)")
_URL: Final = re.compile(r"\b[a-z][a-z0-9+]{1,9}://[^\s'\"]+", re.IGNORECASE)
_PATH: Final = re.compile(r"(?<![\w.<])/(?:[^\s'\":,;()\[\]]+)")
_HOST: Final = re.compile(
    r"(?<![a-z0-9.-])(?:[a-z0-9-]*+\.)+(?:com|org|net|edu|gov|io|uk|de|eu|local|internal|lan|home|cloud)\b",
    re.IGNORECASE,
)
_IP: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")


def scrub(text: str, *secrets: str) -> str:
    """`text` on one line without URLs, paths, host names and `secrets`, bounded in length, printable."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "(path)")
    text = _URL.sub("(address)", text)
    text = _PATH.sub("(path)", text)
    text = _IP.sub("(host)", _HOST.sub("(host)", text))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def by_full_disk(stage: str) -> Failure:
    """The failure of a stage while the disk was full, whatever its error message."""
    return Failure(Reason.OUT_OF_DISK, f"{stage} ran out of disk space")


def explain(
    stage: str,
    returncode: int,
    stderr: str,
    *,
    reads_source: bool,
    secrets: tuple[str, ...] = (),
    short_of_memory: bool = False,
) -> Failure:
    """The failure that `stage` ended with.

    `stderr` is the end of its standard error. The errors of a stage that does not read the source
    are never taken for errors of the source. `short_of_memory`: the kernel killed something for want of
    memory while it ran; without that nobody knows who killed it, and it is not the job's fault.
    """
    for pattern, reason, meaning in _MACHINE_ERRORS:
        if pattern.search(stderr):
            return Failure(reason, f"{stage} {meaning}")
    for pattern, sentence in _SOURCE_ERRORS if reads_source else ():
        if pattern.search(stderr):
            return Failure(Reason.SOURCE_INVALID, sentence or scrub(_first_error(stderr), *secrets))
    if returncode == -signal.SIGKILL:
        if short_of_memory:
            return Failure(Reason.OUT_OF_MEMORY, f"{stage} was killed for want of memory")
        return Failure(Reason.WORKER_LOST, f"{stage} was killed (SIGKILL), and nothing says by whom")
    if returncode == -signal.SIGXFSZ:
        return Failure(Reason.OUT_OF_DISK, f"{stage} wrote more than it may")
    if returncode == -signal.SIGXCPU:
        used = "more CPU time than an attempt has: its wall time on each of its threads"
        return Failure(Reason.DEADLINE_EXCEEDED, f"{stage} used {used}")
    if returncode == -signal.SIGSYS:
        return Failure(Reason.TOOL_FAILED, f"{stage} was ended for a system call that no tool needs")
    if reads_source and -returncode in _CRASHES:
        return Failure(Reason.SOURCE_INVALID, f"corrupt: {stage} crashed while reading it")
    if returncode < 0:
        name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else str(-returncode)
        return Failure(Reason.TOOL_FAILED, f"{stage} died of {name}")
    last = scrub(_line_with_reason(stderr), *secrets)
    how = f"{stage} failed with status {returncode}" if returncode else f"{stage} reported an error"
    return Failure(Reason.TOOL_FAILED, f"{how}: {last}" if last else how)


def _first_error(stderr: str) -> str:
    """The error that led to the others, with the number of the line it is about, if any of them has that."""
    first = _line_with_reason(stderr, _OWN_WORDS)
    number = _LINE_NUMBER.search(stderr)
    return f"line {number[1]}: {first}" if number and not _LINE_NUMBER.search(first) else first


def _line_with_reason(stderr: str, patterns: Sequence[re.Pattern[str]] = ()) -> str:
    """The first line that matches or is an error of htslib's, or the last line there is."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = (
        line for line in lines if line.startswith("[E::") or any(pattern.search(line) for pattern in patterns)
    )
    return _FUNCTION.sub("", next(errors, lines[-1] if lines else ""))
