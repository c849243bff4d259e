"""Who goes first: priorities as an enum, and the total order of the queue."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """Smaller goes first. The name is the wire form, the number is what sorts."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2

    @property
    def label(self) -> str:
        """The wire form, lowercase."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Priority:
        """Raises KeyError when `text` names no priority."""
        return cls[text.upper()]
