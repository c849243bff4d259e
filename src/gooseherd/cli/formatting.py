"""Numbers, times and what a job does, as text for people; programs get the exact values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")
_NOTES_SHOWN: Final = 10
_NOTE_CHARACTERS: Final = 300


def size(count: float | None) -> str:
    """Bytes in decimal units, three digits of them: `950 bytes`, `21.3 MB`."""
    if count is None:
        return ""
    if count < 1000:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    value, unit = float(count), ""
    for unit in _UNITS:  # noqa: B007 - the last one is used
        value /= 1000
        if value < 999.5:
            break
    return f"{value:.{0 if value >= 99.95 else 1}f} {unit}"


def span(seconds: float | None) -> str:
    """A time that passes, in its two largest units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, name, small, small_name in (
        (60, "min", 1, "s"),
        (3600, "h", 60, "min"),
        (86400, "d", 3600, "h"),
    ):
        if whole < unit * (60 if unit < 3600 else 24) or unit == 86400:
            rest = whole % unit // small
            return f"{whole // unit} {name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError("days have no end")


def line(name: str, value: object) -> str:
    """One line of a record: its name, and what it is."""
    return f"{name:17} {value}"


def number(count: int) -> str:
    """A count with its thousands apart."""
    return f"{count:,}"


def moment(text: str | None) -> str:
    """A time of the service, to the second and in this machine's zone."""
    if not text:
        return ""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return text


def waiting(job: Mapping[str, Any], *, remaining: float | None = None) -> str:
    """Why a job does not go on just now; empty when it does. `remaining` are the seconds to the next try."""
    what = job.get("waiting") or {}
    if not what:
        return ""
    detail = str(what.get("detail") or what.get("reason") or "")
    seconds = remaining if remaining is not None else what.get("next_try_seconds")
    if seconds is None:
        return f"waiting: {detail}" if detail else "waiting"
    return f"waiting: {detail}, " + (
        f"next try in {span(round(seconds))}" if seconds >= 0.5 else "trying again"
    )


def note_lines(record: Mapping[str, Any]) -> list[str]:
    """What was dropped or changed, by a job's record or a manifest; few lines, none of them long."""
    notes = [str(note) for note in record.get("notes") or ()]
    lines = [
        f"note: {note[:_NOTE_CHARACTERS]}{'…' if len(note) > _NOTE_CHARACTERS else ''}"
        for note in notes[:_NOTES_SHOWN]
    ]
    more = len(notes) - _NOTES_SHOWN
    return [*lines, f"note: and {more} more; gooseherd show has them all"] if more > 0 else lines


def counts_text(counts: Mapping[str, Any]) -> str:
    """Counts in one line: `dropped 2, records 1,234`."""
    return ", ".join(
        f"{name.replace('_', ' ')} {number(value) if isinstance(value, int) else value}"
        for name, value in counts.items()
    )
