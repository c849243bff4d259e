"""What is in a wheel and in a source distribution, file by file."""

from __future__ import annotations

import re
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pathspec
import pytest

import gooseherd

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUNDLED = "gooseherd/processing/bundled"
PROGRAMS = ("gooseherd-hold", "gooseherd-intervals")


def patterns(name: str) -> list[str]:
    lines = (HERE / f"{name}-contents.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def not_listed(names: Iterable[str], listed: list[str]) -> list[str]:
    spec = pathspec.GitIgnoreSpec.from_lines(listed)
    return [name for name in names if not spec.match_file(name)]


def names_of_wheel(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def names_of_sdist(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as archive:
        return [member.name.partition("/")[2] for member in archive if member.isfile()]


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return BytesParser().parsebytes(archive.read(name))


def test_the_wheel_holds_what_is_listed_and_nothing_else(distributions: Any) -> None:
    assert not_listed(names_of_wheel(distributions.wheel), patterns("wheel")) == []


def test_the_source_distribution_holds_what_is_listed_and_nothing_else(distributions: Any) -> None:
    assert not_listed(names_of_sdist(distributions.sdist), patterns("sdist")) == []


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_whatever_is_listed_is_in_it(distributions: Any, kind: str) -> None:
    names = names_of_wheel(distributions.wheel) if kind == "wheel" else names_of_sdist(distributions.sdist)
    assert [line for line in patterns(kind) if len(not_listed(names, [line])) == len(names)] == []


def test_a_trials_output_in_the_tree_would_be_noticed() -> None:
    assert not_listed(["gooseherd/worker/out.bam", "gooseherd/cli/up.py"], patterns("wheel")) == [
        "gooseherd/worker/out.bam"
    ]


def test_every_module_of_the_tree_is_in_the_wheel(distributions: Any) -> None:
    tracked = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")]
    assert {path.as_posix() for path in tracked} <= set(names_of_wheel(distributions.wheel))


def test_a_wheel_without_native_programs_is_for_every_machine(distributions: Any) -> None:
    assert distributions.pure_wheel.name.endswith("-py3-none-any.whl")
    assert [name for name in names_of_wheel(distributions.pure_wheel) if BUNDLED in name] == [
        f"{BUNDLED}/__init__.py"
    ]


def test_they_are_small(distributions: Any) -> None:
    assert distributions.pure_wheel.stat().st_size < 5_000_000
    assert distributions.wheel.stat().st_size < 20_000_000
    assert distributions.sdist.stat().st_size < 5_000_000


def test_the_version_is_the_packages(distributions: Any) -> None:
    result = metadata(distributions.wheel)
    assert (result["Name"], result["Version"]) == ("gooseherd", gooseherd.__version__)
    assert distributions.sdist.name == f"gooseherd-{gooseherd.__version__}.tar.gz"


def test_the_tag_names_the_least_glibc(distributions: Any) -> None:
    """glibc of the build machine: what was linked against it need not start on an older one."""
    from os import confstr, uname

    version = (confstr("CS_GNU_LIBC_VERSION") or "").split()[-1].replace(".", "_")
    assert distributions.wheel.name.endswith(f"-py3-none-manylinux_{version}_{uname().machine}.whl")


def test_programs_may_be_executed_and_nothing_else(distributions: Any) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        may = {info.filename for info in archive.infolist() if info.external_attr >> 16 & stat.S_IXUSR}
    assert may == {*(f"{BUNDLED}/{name}" for name in PROGRAMS), "gooseherd/worker/healthy.sh"}


def test_every_library_has_its_licence_text_and_its_version(distributions: Any) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        libraries = {Path(n).name for n in archive.namelist() if n.startswith(f"{BUNDLED}/lib/")}
        texts = {
            Path(name).stem: archive.read(name) for name in archive.namelist() if "/licenses/lib" in name
        }
        lines = archive.read(f"{BUNDLED}/libraries.txt").decode().splitlines()
    assert "libhts.so.3" in libraries
    assert libraries == set(texts) == {line.split()[0] for line in lines}
    assert all(len(text) > 500 for text in texts.values())
    assert all(re.fullmatch(r"\S+ \S+ \d\S*", line) for line in lines)


def test_programs_load_only_what_is_beside_them_and_glibc(distributions: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        archive.extractall(tmp_path)
    for name in PROGRAMS:
        program = tmp_path / BUNDLED / name
        program.chmod(0o755)
        listed = distributions.run(["ldd", program], tmp_path).stdout
        loaded = dict(re.findall(r"(\S+) => (\S+) \(", listed))
        elsewhere = {
            library
            for library, where in loaded.items()
            if not where.startswith(str(tmp_path / BUNDLED / "lib"))
        }
        assert elsewhere <= {"libc.so.6", "libm.so.6"}, listed
        assert "not found" not in listed
    version = distributions.run([tmp_path / BUNDLED / "gooseherd-intervals", "--version"], tmp_path)
    assert version.stdout.startswith("gooseherd-intervals ")


def test_nothing_in_a_wheel_tells_where_it_was_built(distributions: Any) -> None:
    folders = {str(ROOT).encode(), str(distributions.tree).encode(), b"gooseherd-build-"}
    with zipfile.ZipFile(distributions.wheel) as archive:
        telling = [
            name
            for name in archive.namelist()
            if any(folder in archive.read(name) for folder in folders) and not name.endswith(".py")
        ]
    assert telling == []


@pytest.mark.long
def test_another_tree_gives_the_same_bytes(distributions: Any, tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    tree = distributions.export(tmp_path / "clone")
    assert (
        distributions.build(tree, "sdist", tmp_path / "sdist").read_bytes()
        == distributions.sdist.read_bytes()
    )
    assert (
        distributions.build(tree, "wheel", tmp_path / "wheel").read_bytes()
        == distributions.wheel.read_bytes()
    )


@pytest.mark.long
def test_pip_builds_the_wheel_from_the_source_distribution(distributions: Any, tmp_path: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    done = distributions.run([sys.executable, "-m", "pip", "wheel", *options, distributions.sdist], tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("*.whl")
    assert made.read_bytes() == distributions.wheel.read_bytes()


def test_the_source_distribution_has_what_builds_and_documents_it(distributions: Any) -> None:
    wanted = (
        *("LICENSE", "README.md", "create-indexes.js", "docs/http-api.md", "deploy/build_hook.py"),
        *("kernel/Makefile", "kernel/src/main.c", "kernel/hold/filter.c"),
    )
    assert [name for name in wanted if not (distributions.tree / name).is_file()] == []


def test_the_license_is_the_projects(distributions: Any) -> None:
    result = metadata(distributions.wheel)
    assert (result["License-Expression"], result["License-File"]) == ("MIT", "LICENSE")
    assert (distributions.tree / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
