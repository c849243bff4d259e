"""Ids for files that have only a name."""

from __future__ import annotations

import re
from typing import Final

_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._~:+@=-]+")


def id_for(filename: str) -> str:
    """A local id made of a file name, within the catalog's alphabet; the same name gives the same id."""
    word = re.sub(r"\.{2,}", ".", _NOT_IN_IDS.sub("-", filename))
    return re.sub(r"^[^A-Za-z0-9]+", "", word)[:255] or "file"
