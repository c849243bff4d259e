"""Builds the kernel once per run of the tests, as it ships and with sanitisers, and runs it on bytes."""

from __future__ import annotations

import fcntl
import gzip
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

import gooseherd.processing.tools.kernel as glue

SKIPPED = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
KERNEL = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """One run: what it said and where its files are."""

    status: int
    report: glue.KernelReport | None
    out: Path
    index: Path
    stderr: str

    @property
    def found(self) -> glue.KernelReport:
        assert self.report is not None, self.stderr
        return self.report

    def text(self) -> bytes:
        return gzip.decompress(self.out.read_bytes())

    def records(self) -> list[bytes]:
        return [line for line in self.text().split(b"\n")[:-1] if not line.startswith(b"#")]

    def sizes(self) -> tuple[bytes, bytes]:
        """Data and index as they are."""
        return self.out.read_bytes(), self.index.read_bytes()


class Kernel:
    """Runs one build; every run gets a folder of its own below `folder`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.runs = 0

    def to_pipe(self, format_name: str, source: Path, *options: str) -> tuple[bytes, Outcome]:
        """What came out of a pipe, and the rest."""
        argv, planned = self.call(format_name, source, *options)
        reading, writing = os.pipe()
        argv[argv.index("--out") + 1] = f"fd:{writing}"
        with subprocess.Popen(argv, pass_fds=[writing], stderr=subprocess.PIPE) as process:
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                data = pipe.read()
            assert process.stderr is not None
            content = process.stderr.read()
        return data, self.outcome(planned, process.returncode, content)

    def drip(self, format_name: str, data: bytes, drop: int, *options: str) -> Outcome:
        """Through standard input, `drop` bytes at a time."""
        argv, planned = self.call(format_name, None, *options)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            for at in range(0, len(data), drop):
                os.write(process.stdin.fileno(), data[at : at + drop])
            _, output = process.communicate(timeout=60)
        return self.outcome(planned, process.returncode, output)

    def call(self, format_name: str, source: Path | None, *options: str) -> tuple[list[str], Outcome]:
        self.runs += 1
        here = self.folder / f"run{self.runs}"
        here.mkdir()
        nothing = Outcome(-1, None, here / "out.gz", here / "out.gz.tbi", "")
        argv = [
            str(self.program),
            "--format",
            format_name,
            "--out",
            str(nothing.out),
            "--index",
            str(nothing.index),
            "--report",
            str(here / "report.json"),
            "--work",
            str(here),
            *options,
            "-" if source is None else str(source),
        ]
        return argv, nothing

    def __call__(self, format_name: str, data: bytes | Path, *options: str) -> Outcome:
        if isinstance(data, bytes):
            source = self.folder / f"source{self.runs}"
            source.write_bytes(data)
        else:
            source = data
        argv, planned = self.call(format_name, source, *options)
        done = subprocess.run(argv, capture_output=True, timeout=100, check=False)
        return self.outcome(planned, done.returncode, done.stderr)

    def outcome(self, planned: Outcome, status: int, stderr: bytes) -> Outcome:
        report = planned.out.with_name("report.json")
        content = glue.parse_report(report.read_bytes()) if report.exists() else None
        return Outcome(status, content, planned.out, planned.index, stderr.decode("utf-8", "replace"))


def _build(folder: Path, program: str, **variables: str) -> Path:
    """`program` of kernel/Makefile, built once, whichever worker of the test run comes first."""
    folder.mkdir(exist_ok=True)
    given = [f"{name}={value}" for name, value in variables.items()]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            ["make", "-C", str(KERNEL), "-j2", f"BUILD={folder}", *given, str(folder / program)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
    return folder / program


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory: pytest.TempPathFactory, needs: Any) -> Path:
    needs("make", "cc", "pkg-config", "tabix", "bgzip", "samtools")
    lacking = subprocess.run(
        ["make", "-s", "-C", str(KERNEL), "requirements"], check=False, capture_output=True, text=True
    )
    if lacking.returncode:
        needs.missing(lacking.stderr.strip())
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "kernel-build"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def program(build_folder: Path) -> Path:
    return _build(build_folder / "release", "gooseherd-intervals")


@pytest.fixture(scope="session")
def sanitised_program(build_folder: Path) -> Path:
    return _build(build_folder / "sanitised", "sanitize/gooseherd-intervals")


@pytest.fixture(scope="session")
def cramped_program(build_folder: Path) -> Path:
    """Spills after a few lines, streams sooner still, merges three runs at once; few rows for densities."""
    return _build(
        build_folder / "cramped",
        "sanitize/gooseherd-intervals",
        CPPFLAGS="-DSTREAM_AFTER=500 -DROOM=3000 -DDENSITY_ROWS=40 -DMERGE_FAN=3",
    )


@pytest.fixture(scope="session")
def journalling_program(build_folder: Path) -> Path:
    """Spills after a few lines, and never finds that it could stream before."""
    return _build(
        build_folder / "journalling",
        "sanitize/gooseherd-intervals",
        CPPFLAGS="-DSTREAM_AFTER=1000000 -DROOM=2000",
    )


@pytest.fixture(scope="session")
def limited_program(build_folder: Path) -> Path:
    """With limits that a test reaches."""
    return _build(
        build_folder / "limited",
        "sanitize/gooseherd-intervals",
        CPPFLAGS="-DMAX_LINE=300000 -DMAX_CONTIGS=100 -DMAX_BYTES=2000000 -DMAX_HEADER=10000",
    )


@pytest.fixture(scope="session")
def merging_by_two_program(build_folder: Path) -> Path:
    """Merges two runs at a time, however many there are."""
    return _build(build_folder / "merging-by-two", "gooseherd-intervals", CPPFLAGS="-DMERGE_FAN=2")


@pytest.fixture
def kernel(program: Path, tmp_path: Path) -> Kernel:
    return Kernel(program, tmp_path)


@pytest.fixture
def sanitised(sanitised_program: Path, tmp_path: Path) -> Kernel:
    return Kernel(sanitised_program, tmp_path)


@pytest.fixture
def limited(limited_program: Path, tmp_path: Path) -> Kernel:
    return Kernel(limited_program, tmp_path)


@pytest.fixture
def merging_by_two(merging_by_two_program: Path, tmp_path: Path) -> Kernel:
    return Kernel(merging_by_two_program, tmp_path / "merging-by-two")


@pytest.fixture
def cramped(cramped_program: Path, tmp_path: Path) -> Kernel:
    return Kernel(cramped_program, tmp_path / "cramped")


@pytest.fixture
def journalling(journalling_program: Path, tmp_path: Path) -> Kernel:
    return Kernel(journalling_program, tmp_path / "journalling")


def bgzip(data: bytes, *options: str) -> bytes:
    return subprocess.run(["bgzip", "-c", *options], input=data, capture_output=True, check=True).stdout


@pytest.fixture
def packed() -> dict[str, Sequence[object]]:
    """Ways to pack the same text."""
    return {
        "plain": [lambda data: data],
        "gzip": [gzip.compress],
        "bgzf": [bgzip],
        "Zstandard": [zstd.compress],
        "frames": [
            lambda data: b"".join(zstd.compress(data[i : i + 50]) + SKIPPED for i in range(0, len(data), 50))
        ],
        "members": [lambda data: b"".join(gzip.compress(data[i : i + 50]) for i in range(0, len(data), 50))],
        "bgzf then gzip": [
            lambda data: bgzip(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])
        ],
    }
