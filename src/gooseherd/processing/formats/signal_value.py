"""How a value along the genome is spelt, in bedGraph and in wiggle."""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = re.compile(rb"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?")
"""In decimals: Python reads 1_0 as 10 and takes other spellings, which no other reader does."""
_WITHOUT: Final = re.compile(rb"[+-]?(?:nan|inf(?:inity)?)|n/?a|\.|", re.IGNORECASE)


def value_of(text: bytes) -> float | None:
    """The number; NaN for a word that says that there is none, or that none could hold; None: no value."""
    if NUMBER.fullmatch(text):
        return float(text)
    return float("nan") if _WITHOUT.fullmatch(text) else None
