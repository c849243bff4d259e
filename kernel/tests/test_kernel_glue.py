"""The Python side: it finds the program, calls it, and reads what it says."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import gooseherd.processing.tools.kernel as glue
from gooseherd.processing import bundled


def call_in(folder: Path, source: Path | None) -> glue.KernelCall:
    return glue.KernelCall(
        format="bed",
        source=source,
        out=folder / "out.gz",
        index=folder / "out.gz.tbi",
        report=folder / "r.json",
        work=folder,
        memory_bytes=glue.LEAST_MEMORY,
    )


def test_a_call_runs_and_its_report_is_read(program: Path, tmp_path: Path) -> None:
    source = tmp_path / "-odd --name"
    source.write_bytes(b"chr1\t3\t4\r\nchr1\t1\t2\n")
    call = replace(
        call_in(tmp_path, source),
        refuse_empty=True,
        level=4,
        threads=1,
    )
    assert subprocess.run(call.argv(program), check=False, timeout=60).returncode == glue.KernelStatus.DONE
    report = glue.parse_report(call.report.read_bytes())
    assert report.done
    assert report.index == "tbi"
    assert report.counts == {"carriage_returns": 1}
    assert report.contigs == (glue.KernelContig("chr1", None, 4, 2),)
    assert report.line is None


def test_standard_input_is_a_source(program: Path, tmp_path: Path) -> None:
    call = call_in(tmp_path, None)
    done = subprocess.run(
        call.argv(program), input=b"chr1\t1\n", capture_output=True, check=False, timeout=60
    )
    assert done.returncode == glue.KernelStatus.INVALID
    report = glue.parse_report(call.report.read_bytes())
    assert (report.done, report.reason, report.line) == (False, "source_invalid", 1)


def test_a_format_it_cannot_read_is_not_called(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bam"):
        replace(call_in(tmp_path, None), format="bam").argv(Path("x"))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"outcome": "done"}', b"\xff"])
def test_a_report_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        glue.parse_report(data)


def test_the_program_given_is_found_first(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "bundled")
    assert glue.find_kernel(program) == program
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert glue.find_kernel(tmp_path / "absent") is None
    beside = tmp_path / glue.PROGRAM
    beside.symlink_to(program)
    assert glue.find_kernel() == beside
    carried = tmp_path / "bundled" / glue.PROGRAM
    carried.parent.mkdir()
    carried.symlink_to(program)
    assert glue.find_kernel() == carried


def test_the_program_is_found_on_path(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / glue.PROGRAM
    named.symlink_to(program)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "bundled")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert glue.find_kernel() == named


def test_progress_grows_to_one() -> None:
    rng = random.Random(1)
    lines = [
        b'{"phase":"read","in":%d,"in_total":100,"text":%d,"written":0,"out":0}' % (i, i * 5)
        for i in range(0, 100, 9)
    ]
    lines += [
        b'{"phase":"write","in":100,"in_total":100,"text":500,"written":%d,"out":%d}' % (i, rng.randrange(99))
        for i in range(0, 500, 60)
    ]
    lines.append(b'{"phase":"done","in":100,"in_total":100,"text":500,"written":500,"out":99}')
    done = [glue.parse_progress(line).fraction() for line in lines]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0.0, 1.0)
    with pytest.raises(ValueError):
        glue.parse_progress(b"{}")


def test_with_a_search_path_it_is_looked_for_nowhere_else(program: Path, tmp_path: Path) -> None:
    assert glue.find_kernel(program, search_path=str(tmp_path)) is None
    named = tmp_path / glue.PROGRAM
    named.symlink_to(program)
    assert glue.find_kernel(search_path=str(tmp_path)) == named
