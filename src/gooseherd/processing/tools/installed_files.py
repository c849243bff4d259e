"""The files that programs and Python's libraries need to run, for tools in a sandbox.

The system's own folders whole, of other places no more than what belongs to a program or library of ours.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gooseherd.processing.bundled import find_program
from gooseherd.processing.tools.kernel import PROGRAM as KERNEL
from gooseherd.processing.tools.limits import PROGRAM as HOLD

SYSTEM: Final = ("/usr", "/bin", "/sbin", "/nix/store", "/gnu/store")
"""And all of `/lib*`. They hold software and no data (FHS 3.0; the stores of Nix and Guix)."""
_CONFIGURATION: Final = ("ld.so.cache", "alternatives", "localtime")
"""Of /etc: what the loader of libraries reads, Debian's links to programs and libraries, the time zone.
Those of musl's loader are found by their pattern."""
_PROGRAMS: Final = (
    *("samtools", "bcftools", "tabix", "bgzip", "sort", "wc", "gzip"),
    *("cat", "true", "setpriv", "prlimit"),
)
TRIALS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name, "--version") for name in _PROGRAMS[:7]},
    "libraries of Python": (sys.executable, "-I", "-c", "import backports.zstd, pyBigWig, pysam"),
}
"""Commands that succeed where an attempt has what it needs, by the name of what they try."""
_LIBRARIES: Final = ("gooseherd", "pysam", "pyBigWig", "numpy", "Bio", "backports.zstd")
"""What programs/ import; an editable install may be anywhere."""
_SOFTWARE: Final = ("bin", "sbin", "lib", "lib64", "libexec", "pyvenv.cfg")
"""Software in the folder of an installation, which may have the files of users or services beside it."""
_OF_HOMEBREW: Final = ("Cellar", "opt")
"""Where the links of its `bin` and `lib` lead to."""


def installed_files(search_path: str) -> tuple[Path, ...]:
    """Paths that exist, by the names that programs find them by; `search_path` is their PATH."""
    found = [Path(path) for path in SYSTEM]
    found += Path("/").glob("lib*")
    found += (Path("/etc") / name for name in _CONFIGURATION)
    found += Path("/etc").glob("ld-musl-*.path")
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)):
        found += _software_below(Path(prefix))
    for name in _PROGRAMS:
        program = shutil.which(name, path=search_path)
        if program is not None:
            found += _program(Path(program).absolute())
    for program_of_ours in (Path(sys.executable), find_program(KERNEL), find_program(HOLD)):
        if program_of_ours is not None:
            found += _program(program_of_ours)
    for library in _LIBRARIES:
        found += _library(library)
    # Not Path.exists: of a folder that may not be searched it raises.
    return tuple(path for path in dict.fromkeys(found) if os.path.exists(path))  # noqa: PTH110


def _program(path: Path) -> Iterator[Path]:
    """The program, and the folders in which one beside it keeps its libraries: for both ends of a link."""
    for place in dict.fromkeys((path, path.resolve())):
        yield place
        if place.parent.name in ("bin", "sbin"):
            yield from _software_below(place.parent.parent)


def _library(name: str) -> Iterator[Path]:
    spec = None
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
    if spec is None:
        return
    places = spec.submodule_search_locations or ([] if spec.origin is None else [spec.origin])
    for place in map(Path, places):
        yield place
        # What a wheel has of the system's libraries is beside its packages.
        yield from place.parent.glob("*.libs")


def _software_below(prefix: Path) -> Iterator[Path]:
    """The programs and libraries of an installation."""
    names = _SOFTWARE if not os.path.exists(prefix / "Cellar") else (*_SOFTWARE, *_OF_HOMEBREW)  # noqa: PTH110
    yield from (prefix.absolute() / name for name in names)
