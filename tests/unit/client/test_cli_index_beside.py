"""An index beside a local file is used only when nothing speaks against it."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from gooseherd.cli.sidecars import indexes_beside
from gooseherd.domain import formats

SAM = (
    "@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:chr1\tLN:100000\n@SQ\tSN:chr2\tLN:100000\n"
    + "".join(f"r{n}\t0\tchr1\t{n * 9 + 1}\t60\t4M\t*\t0\t0\tACGT\tFFFF\n" for n in range(9000))
)  # fmt: skip


def run(*argv: str, given: bytes | None = None) -> bytes:
    return subprocess.run(argv, input=given, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture
def bam(tmp_path: Path) -> Path:
    path = tmp_path / "x.bam"
    run("samtools", "view", "-b", "-o", str(path), "-", given=SAM.encode())
    run("samtools", "index", str(path))
    return path


@pytest.fixture
def bed(tmp_path: Path) -> Path:
    path = tmp_path / "x.bed.gz"
    lines = "".join(f"chr1\t{n}\t{n + 5}\tname{n}\n" for n in range(50_000))
    path.write_bytes(run("bgzip", "-c", given=lines.encode()))
    run("tabix", "-p", "bed", str(path))
    return path


def problems(path: Path, file_format: formats.Format = formats.BAM) -> list[str]:
    return [found.problem for found in indexes_beside(path, file_format)]


def test_an_index_that_fits_is_found_under_both_its_names(bam: Path) -> None:
    (found,) = indexes_beside(bam, formats.BAM)
    assert (found.path.name, found.kind, found.problem) == ("x.bam.bai", "bai", "")
    found.path.rename(bam.with_suffix(".bai"))
    (found,) = indexes_beside(bam, formats.BAM)
    assert (found.path.name, found.problem) == ("x.bai", "")


def test_a_tabix_index_that_fits_is_found(bed: Path) -> None:
    (found,) = indexes_beside(bed, formats.BED)
    assert (found.path.name, found.kind, found.problem) == ("x.bed.gz.tbi", "tbi", "")


def test_without_an_index_there_is_nothing_to_say(bed: Path) -> None:
    bed.with_name("x.bed.gz.tbi").unlink()
    assert problems(bed, formats.BED) == []
    assert problems(bed, formats.CSV) == []


def test_a_csi_index_is_not_used(bed: Path) -> None:
    run("tabix", "--csi", "-p", "bed", str(bed))
    bed.with_name("x.bed.gz.tbi").unlink()
    (problem,) = problems(bed, formats.BED)
    assert "CSI" in problem


def test_an_index_that_is_older_than_the_file_is_not_used(bam: Path) -> None:
    index = bam.with_name("x.bam.bai")
    at = bam.stat().st_mtime
    os.utime(index, (at - 1, at - 1))  # as coarse clocks of file systems tell it
    assert problems(bam) == [""]
    os.utime(index, (at - 60, at - 60))
    assert problems(bam) == ["is older than the file"]


def test_the_index_of_another_file_is_not_used(bam: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.bam"
    text = SAM.replace("@SQ\tSN:chr2\tLN:100000\n", "").encode()
    run("samtools", "view", "-b", "-o", str(other), "-", given=text)
    shutil.copyfile(bam.with_name("x.bam.bai"), tmp_path / "other.bam.bai")
    assert problems(other) == ["is of 2 contigs, the file has 1: it belongs to another file"]


def test_an_index_that_points_beyond_the_end_is_not_used(bam: Path) -> None:
    with bam.open("r+b") as file:
        file.truncate(bam.stat().st_size // 2)
    os.utime(bam, (0, 0))
    assert problems(bam) == ["points beyond the end of the file: it belongs to another file"]


def test_an_index_that_points_between_blocks_is_not_used(bed: Path) -> None:
    """Of the same lines, packed another way: all its offsets lie within the file."""
    lines = gzip.decompress(bed.read_bytes())
    bed.write_bytes(run("bgzip", "-l", "1", "-c", given=lines))
    os.utime(bed, (0, 0))
    assert problems(bed, formats.BED) == ["points to where no block begins: it belongs to another file"]


@pytest.mark.parametrize("cut", [0, 3, 10, 100])
def test_an_index_that_is_cut_short_is_not_used(bam: Path, cut: int) -> None:
    index = bam.with_name("x.bam.bai")
    index.write_bytes(index.read_bytes()[:cut])
    (problem,) = problems(bam)
    assert problem


def test_what_is_no_index_is_not_used(bam: Path, bed: Path) -> None:
    bam.with_name("x.bam.bai").write_bytes(b"<html>not found</html>")
    assert problems(bam) == ["is no bai index"]
    bed.with_name("x.bed.gz.tbi").write_bytes(gzip.compress(b"BAI\1" + bytes(100)))
    assert problems(bed, formats.BED) == ["is no tbi index"]
    bed.with_name("x.bed.gz.tbi").write_bytes(b"\x1f\x8b\x08\x00garbage")
    (problem,) = problems(bed, formats.BED)
    assert problem.startswith("cannot be read")


def test_absurd_counts_take_no_memory(bam: Path) -> None:
    index = bam.with_name("x.bam.bai")
    index.write_bytes(b"BAI\1" + struct.pack("<iiIi", 2, 1, 0, 2**31 - 1))
    assert problems(bam) == ["is damaged: it counts what cannot be"]
    index.write_bytes(b"BAI\1" + struct.pack("<iiIi", 2, 1, 0, -1))
    assert problems(bam) == ["is damaged: it counts what cannot be"]


def test_a_tabix_index_whose_contigs_cannot_be_read_is_not_used(bed: Path) -> None:
    index = bed.with_name("x.bed.gz.tbi")
    data = bytearray(gzip.decompress(index.read_bytes()))
    data[4:8] = struct.pack("<i", 7)
    index.write_bytes(gzip.compress(bytes(data)))
    assert problems(bed, formats.BED) == ["is damaged: its contigs cannot be read"]


def test_a_file_that_is_not_block_compressed_has_no_use_for_an_index(tmp_path: Path, bed: Path) -> None:
    plain = tmp_path / "y.bed.gz"
    plain.write_bytes(gzip.compress(gzip.decompress(bed.read_bytes())))
    shutil.copyfile(bed.with_name("x.bed.gz.tbi"), tmp_path / "y.bed.gz.tbi")
    assert problems(plain, formats.BED) == ["is there, but the file is not block-compressed"]


def test_a_link_s_index_in_another_folder_is_not_used(bam: Path, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "x.bam").symlink_to(bam)
    assert problems(folder / "x.bam") == [""]  # beside the file it leads to
    shutil.copyfile(bam.with_name("x.bam.bai"), folder / "x.bam.bai")
    assert problems(folder / "x.bam") == ["lies in another folder than the file itself", ""]
