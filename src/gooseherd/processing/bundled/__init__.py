"""Our own native programs, and where they are: a wheel carries them in this folder (deploy/build_hook.py)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
"""In a wheel: the programs, `lib/` with the libraries they load, `licenses/` with the texts of these."""


def find_program(name: str, *, search_path: str | None = None) -> Path | None:
    """The program `name` of ours; None where it is neither bundled nor built.

    The bundled one, the one beside the interpreter (where ./dev and the images build it), the one on
    PATH. With `search_path` it is looked for there and nowhere else.
    """
    if search_path is None:
        for candidate in (FOLDER / name, Path(sys.executable).with_name(name)):
            if is_program(candidate):
                return candidate
    found = shutil.which(name, path=search_path)
    return Path(found).absolute() if found else None


def is_program(path: Path) -> bool:
    """Whether it is a file that this process may execute."""
    return path.is_file() and os.access(path, os.X_OK)
