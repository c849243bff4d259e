"""Builds the native programs into the wheel, with the libraries they load and the licence texts of these.

Hatchling calls it (pyproject.toml, [tool.hatch.build.targets.wheel.hooks.custom]). It needs a C compiler
and the packages that `needs` names. An editable install builds nothing: ./dev does that.
GOOSEHERD_PURE_WHEEL=1 makes a wheel of Python alone (py3-none-any), which works everywhere and is slower.

The libraries lie beside the programs and are found by DT_RPATH ($ORIGIN), which, other than DT_RUNPATH,
also holds for what the libraries load themselves. glibc is the machine's own: the wheel's tag names the
least version of it.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PURE: Final = "GOOSEHERD_PURE_WHEEL"

OF_GLIBC: Final = re.compile(
    r"(?:linux-vdso|linux-gate|ld-linux[\w-]*|libc|libm|libdl|libpthread|librt|libutil|libresolv)\.so"
)
"""Never vendored: every machine that the wheel's tag admits has them."""


class Need(NamedTuple):
    """What a build needs: its name, the Debian package that has it, and a command that succeeds with it."""

    name: str
    package: str
    argv: tuple[str, ...]
    program: str = ""
    """C source that the command reads on standard input."""


def needs(environ: Mapping[str, str]) -> list[Need]:
    """All that both programs need to be built, in the order in which it is looked for."""
    compiler = tuple(shlex.split(environ.get("CC") or "cc"))
    preprocess = (*compiler, "-E", "-x", "c", "-")
    return [
        Need("a C compiler (cc)", "gcc", (*compiler, "--version")),
        Need("the headers of the C library", "libc6-dev", preprocess, "#include <stdio.h>\n"),
        Need("the headers of Linux", "linux-libc-dev", preprocess, "#include <linux/seccomp.h>\n"),
        Need("make", "make", ("make", "--version")),
        Need("pkg-config", "pkg-config", ("pkg-config", "--version")),
        *(
            Need(name, package, ("pkg-config", "--exists", name))
            for name, package in (
                ("htslib", "libhts-dev"),
                ("libdeflate", "libdeflate-dev"),
                ("libisal", "libisal-dev"),
                ("libzstd", "libzstd-dev"),
            )
        ),
    ]


class CannotBuild(Exception):
    """With words for whoever builds."""


class ProgramsHook(BuildHookInterface[Any]):
    """Adds the programs to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and tell hatchling what to add and which tag the wheel gets."""
        if version == "editable" or is_on(os.environ.get(PURE, "")):
            return
        self._temporary = tempfile.TemporaryDirectory(prefix="gooseherd-build-")
        staging = Path(self._temporary.name)
        try:
            tag = build(Path(self.root), self.config["programs"], staging)
        except CannotBuild as error:
            self._temporary.cleanup()
            self.app.abort(f"gooseherd cannot be built here: {error}")
            raise  # not reached: it exits
        target = self.config["target"]
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                build_data["force_include"][str(path)] = f"{target}/{path.relative_to(staging)}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built: it is in the wheel."""
        if hasattr(self, "_temporary"):
            self._temporary.cleanup()


def is_on(value: str) -> bool:
    """Whether a switch in the environment is on."""
    return value.strip().lower() in {"1", "true", "yes", "on"}


def build(root: Path, programs: Mapping[str, str], staging: Path) -> str:
    """Fill `staging` with the programs, `lib/` and `licenses/`; gives the platform part of the wheel's tag.

    `programs`: names to the folders whose Makefiles build them.

    Raises:
        CannotBuild: saying what is missing, or what the compiler said.
    """
    if sys.platform != "linux":
        raise CannotBuild(f"the native programs are for Linux; {PURE}=1 builds a wheel without them")
    missing = [need for need in needs(os.environ) if not _is_there(need)]
    if missing:
        raise CannotBuild(lacking(missing))
    environ = {
        **os.environ,
        # Warnings of a compiler that we have not seen are ours to mend, not the user's.
        "CFLAGS": f"{os.environ.get('CFLAGS', '')} -Wno-error",
        # Quoted for make and for the shell that it starts.
        "LDFLAGS": f"{os.environ.get('LDFLAGS', '')} '-Wl,--disable-new-dtags,-rpath,$$ORIGIN/lib'",
    }
    with tempfile.TemporaryDirectory(prefix="gooseherd-build-") as objects:
        for name, folder in programs.items():
            made = Path(objects, name)
            command = ["make", "-j2", f"BUILD={objects}", str(made)]
            _run(command, f"{name} does not compile", environ, root / folder)
            _run(["strip", "-o", str(staging / name), str(made)], f"{name} cannot be stripped", environ, root)
            (staging / name).chmod(0o755)
    libraries = sorted(set(_libraries(staging / name for name in programs)))
    texts = {library: _licence(library) for library in libraries}
    _copy_libraries(staging, texts)
    return platform_tag(redistributable=all(texts.values()))


def lacking(missing: Sequence[Need]) -> str:
    """What to install, in words."""
    packages = " ".join(need.package for need in missing)
    return (
        f"missing: {', '.join(need.name for need in missing)}.\n"
        f"On Debian or Ubuntu:  sudo apt-get install {packages}\n"
        f"Or, for a wheel without the native programs (slower):  set {PURE}=1"
    )


def platform_tag(*, redistributable: bool) -> str:
    """The tag manylinux, with the version of this machine's glibc.

    Without glibc, or with a library whose licence text is not in the wheel: plain linux, for this
    machine only, which package indexes refuse.
    """
    machine = platform.machine()
    try:
        _, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        version = ""
    if not version or not redistributable:
        return f"linux_{machine}"
    return f"manylinux_{version.replace('.', '_')}_{machine}"


def _is_there(need: Need) -> bool:
    try:
        done = subprocess.run(need.argv, input=need.program, text=True, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _run(argv: Sequence[str], problem: str, environ: Mapping[str, str], folder: Path) -> str:
    try:
        done = subprocess.run(argv, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"{problem}: {argv[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise CannotBuild(f"{problem}:\n{(done.stdout + done.stderr).strip()}")
    return done.stdout


def _libraries(programs: Iterator[Path]) -> Iterator[tuple[str, Path]]:
    """Names by which the programs and their libraries ask for libraries, and where the loader finds these."""
    for program in programs:
        listed = _run(["ldd", str(program)], f"{program.name} cannot be read", os.environ, program.parent)
        for line in listed.splitlines():
            name, arrow, where = line.strip().partition(" => ")
            if OF_GLIBC.match(name) or not arrow:
                continue
            if not where.startswith("/"):
                raise CannotBuild(f"{program.name} needs {name}, which is not found")
            yield name, Path(where.rpartition(" (")[0])


def _copy_libraries(staging: Path, texts: Mapping[tuple[str, Path], tuple[str, str] | None]) -> None:
    folder, licenses = staging / "lib", staging / "licenses"
    folder.mkdir()
    licenses.mkdir()
    lines = []
    for (name, path), found in texts.items():
        shutil.copyfile(path, folder / name)
        (folder / name).chmod(0o644)
        package, text = found or ("unknown", "")
        if text:
            (licenses / f"{name}.txt").write_text(text, encoding="utf-8")
        lines.append(f"{name} {package}\n")
    (staging / "libraries.txt").write_text("".join(lines), encoding="utf-8")


def _licence(library: tuple[str, Path]) -> tuple[str, str] | None:
    """Source package and version of a library, and its licence text; None where Debian's tools do not say."""
    name, path = library
    # One path and the other: dpkg knows a file by the one it had before /lib became a link.
    for candidate in dict.fromkeys((path, path.resolve(), Path("/usr") / path.relative_to("/"))):
        try:
            done = subprocess.run(
                ["dpkg-query", "--search", candidate], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        if done.returncode == 0:
            package = done.stdout.partition(": ")[0]
            text = Path("/usr/share/doc", package.partition(":")[0], "copyright")
            version = _run(
                ["dpkg-query", "--show", "--showformat=${source:Package} ${source:Version}", package],
                f"{name} has no version",
                os.environ,
                Path("/"),
            )
            return (version, text.read_text(encoding="utf-8")) if text.is_file() else None
    return None
