"""What of a folder is added, and what is left out with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gooseherd.cli.folder import NAMED, Skipped, files_below


@pytest.fixture
def skipped() -> Skipped:
    return Skipped()


def below(top: Path, skipped: Skipped, **how: object) -> list[str]:
    return [str(path.relative_to(top)) for path in files_below(top, skipped, **how)]  # type: ignore[arg-type]


def put(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)


def test_files_come_in_order_and_from_all_depths(tmp_path: Path, skipped: Skipped) -> None:
    put(tmp_path, "b.bed", "a/z.bed", "a/b/c/d.vcf", "c.bam")
    assert below(tmp_path, skipped) == ["b.bed", "c.bam", "a/z.bed", "a/b/c/d.vcf"]
    assert list(skipped.lines()) == []


def test_hidden_files_and_folders_are_left_out(tmp_path: Path, skipped: Skipped) -> None:
    put(tmp_path, ".a.bed", ".git/b.bed", "c.bed")
    assert below(tmp_path, skipped) == ["c.bed"]
    assert skipped.counts == {"hidden": 2}


def test_indexes_are_looked_at_with_their_files(tmp_path: Path, skipped: Skipped) -> None:
    put(tmp_path, "a.bam", "a.bam.bai", "b.vcf.gz", "b.vcf.gz.tbi", "c.fa.fai", "d.CSI")
    assert below(tmp_path, skipped) == ["a.bam", "b.vcf.gz"]


def test_globs_are_of_names_and_with_a_slash_of_paths(tmp_path: Path, skipped: Skipped) -> None:
    put(tmp_path, "a.bam", "run1/b.bam", "run1/c.bed", "run2/d.bam")
    assert below(tmp_path, skipped, globs=["*.bam"]) == ["a.bam", "run1/b.bam", "run2/d.bam"]
    assert below(tmp_path, Skipped(), globs=["run1/*"]) == ["run1/b.bam", "run1/c.bed"]
    assert below(tmp_path, Skipped(), globs=["run2/*", "c.*"]) == ["run1/c.bed", "run2/d.bam"]
    assert skipped.counts == {"does not match --glob": 1}


def test_loops_of_links_end_and_no_folder_is_visited_twice(tmp_path: Path, skipped: Skipped) -> None:
    top = tmp_path / "top"
    put(top, "a.bed", "x/b.bed")
    put(tmp_path, "elsewhere/c.bed", "not-wanted.bed")
    (top / "x" / "self").symlink_to(top / "x")
    (top / "x" / "top").symlink_to(top)
    (top / "x" / "above").symlink_to(tmp_path)
    (top / "y").symlink_to(tmp_path / "elsewhere")
    (top / "z").symlink_to(tmp_path / "elsewhere")
    assert below(top, skipped) == ["a.bed", "x/b.bed", "y/c.bed"]
    assert skipped.counts == {"a link to a folder above it, or one that was visited": 4}


def test_what_is_no_plain_file_is_left_out(tmp_path: Path, skipped: Skipped) -> None:
    os.mkfifo(tmp_path / "pipe.bed")
    (tmp_path / "dead.bed").symlink_to("nowhere")
    (tmp_path / "loop.bed").symlink_to("loop.bed")
    assert below(tmp_path, skipped) == []
    assert skipped.counts == {"not a plain file": 1, "a link to nothing": 2}


def test_the_service_s_own_folder_is_left_out(tmp_path: Path, skipped: Skipped) -> None:
    put(tmp_path, "state/artifacts/a.bam", "b.bam")
    assert below(tmp_path, skipped, avoid=[tmp_path / "state"]) == ["b.bam"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_costs_only_itself(tmp_path: Path, skipped: Skipped) -> None:
    put(tmp_path, "a/x.bed", "b.bed")
    (tmp_path / "a").chmod(0)
    assert below(tmp_path, skipped) == ["b.bed"]
    (tmp_path / "a").chmod(0o700)
    assert skipped.counts == {"cannot be read (Permission denied)": 1}


def test_thousands_that_are_left_out_are_counted(tmp_path: Path, skipped: Skipped) -> None:
    for number in range(NAMED + 1005):
        skipped.add(f"f{number}", "no known format")
    lines = list(skipped.lines())
    assert len(lines) == NAMED + 1
    assert lines[-1] == "left out 1,025 in all: 1,025 no known format"
