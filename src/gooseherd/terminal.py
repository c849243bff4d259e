"""Text that somebody else wrote, as it may stand on a terminal and in a line of a log."""

from __future__ import annotations


def visible(text: str, allowed: str = "") -> str:
    r"""The text with what is not printable written out (`\x1b`), but for the `allowed` characters.

    Else a name could move the cursor, hide what stands before it, or begin a line that looks like ours.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in allowed else c.encode("unicode_escape").decode("ascii") for c in text
    )
