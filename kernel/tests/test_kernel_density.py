"""The kernel's table of how the records lie, against the same table made in Python."""

from __future__ import annotations

import gzip
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gooseherd.processing.formats.density_table import SHIFT, Table, table_of
from gooseherd.processing.programs import count_records

FORMATS = ("bed", "gff3", "vcf")


def text_of(file_format: str, seed: int, count: int = 400) -> bytes:
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        name = chance.choice(["chr1", "chr2", "chr10"])
        start = chance.choice([chance.randint(1, 3_000), chance.randint(1, 9_000_000)])
        end = start + chance.choice([0, 1, 1023, 1024, chance.randint(0, 5_000_000)])
        lines.append(
            {
                "bed": f"{name}\t{start}\t{end}",
                "gff3": f"{name}\t.\tgene\t{start}\t{end}\t.\t+\t.\tID=x",
                "vcf": f"{name}\t{start}\t.\tAC\t<DEL>\t.\t.\tEND={end};SVLEN=-{chance.randint(0, 9000)}",
            }[file_format]
        )
    head = {
        "vcf": "##fileformat=VCFv4.2\n##contig=<ID=chr2,length=77>\n"
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
        "gff3": "##gff-version 3\n##sequence-region chr10 1 20000000\n",
    }.get(file_format, "")
    if seed % 2:
        key = {"bed": 1, "gff3": 3, "vcf": 1}[file_format]
        lines.sort(key=lambda line: (line.split("\t")[0], int(line.split("\t")[key])))
    return (head + "\n".join(lines) + "\n").encode()


def counted(kernel: Any, file_format: str, data: bytes | Path, *options: str) -> tuple[Any, bytes]:
    table = kernel.folder / f"table{kernel.runs}"
    made = kernel(file_format, data, "--density", str(table), *options)
    assert made.status == 0, made.stderr
    return made, table.read_bytes()


def again(data: Path, file_format: str, folder: Path) -> bytes:
    assert count_records.main([file_format, str(data), str(folder / "again")]) == 0
    return (folder / "again").read_bytes()


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_both_count_the_same(sanitised: Any, tmp_path: Path, file_format: str, seed: int) -> None:
    made, table = counted(sanitised, file_format, text_of(file_format, seed))
    assert table == again(made.out, file_format, tmp_path)
    assert Table.from_bytes(table).to_bytes() == table


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_with_many_rows_the_windows_grow_in_the_same_way(
    cramped: Any, sanitised: Any, file_format: str, seed: int
) -> None:
    data = text_of(file_format, seed)
    _, few = counted(cramped, file_format, data)
    _, many = counted(sanitised, file_format, data)
    assert few == table_of(Table.from_bytes(many).sequences, 40).to_bytes()
    assert Table.from_bytes(few).shift > SHIFT


@pytest.mark.parametrize("seed", [0, 1])
def test_spilled_or_journalled_they_are_counted_once(journalling: Any, sanitised: Any, seed: int) -> None:
    data = text_of("bed", seed)
    assert counted(journalling, "bed", data)[1] == counted(sanitised, "bed", data)[1]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_kept_source_is_counted_too(sanitised: Any, tmp_path: Path, file_format: str) -> None:
    made, table = counted(sanitised, file_format, text_of(file_format, 1))
    kept, same = counted(sanitised, file_format, made.out, "--keep")
    assert kept.found.kept
    assert same == table


def test_a_bet_that_is_lost_counts_nothing_twice(cramped: Any, sanitised: Any) -> None:
    lines = [b"chr1\t%d\t%d\n" % (n * 5000, n * 5000 + 9) for n in range(200)] + [b"chr1\t3\t4\n"]
    made, table = counted(cramped, "bed", b"".join(lines))
    assert made.found.restarted
    _, whole = counted(sanitised, "bed", b"".join(lines))
    assert table == table_of(Table.from_bytes(whole).sequences, 40).to_bytes()


def test_without_a_place_for_the_table_the_run_is_as_good(kernel: Any, tmp_path: Path) -> None:
    made = kernel("bed", b"chr1\t1\t2\n", "--density", str(tmp_path / "no" / "such"))
    assert (made.status, made.text()) == (0, b"chr1\t1\t2\n")
    full = kernel("bed", b"chr1\t1\t2\n", "--density", "/dev/full")
    assert (full.status, full.text()) == (0, b"chr1\t1\t2\n")
    assert Path("/dev/full").is_char_device()


def test_a_failed_run_leaves_no_table(kernel: Any, tmp_path: Path) -> None:
    assert kernel("bed", b"chr1\t2\t1\n", "--density", str(tmp_path / "table")).status == 10
    assert not (tmp_path / "table").exists()


# --- reads ---


def run(program: Path, *argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(program), "reads", *argv], capture_output=True, timeout=60, check=False)


def bam(folder: Path, *, ordered: bool = True) -> Path:
    chance = random.Random(3)
    text = ["@HD\tVN:1.6", "@SQ\tSN:b\tLN:1000000", "@SQ\tSN:a\tLN:700000000", "@SQ\tSN:c\tLN:9"]
    for n in range(2000):
        flag, name = chance.choice([0, 4, 16, 256]), chance.choice("aab")
        cigar = chance.choice(["4M", "2M300000N2M", "1S3M"])
        text.append(f"r{n}\t{flag}\t{name}\t{chance.randint(1, 600_000)}\t9\t{cigar}\t*\t0\t0\tACGT\t*")
    text += [f"u{n}\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\t*" for n in range(9)]
    made = folder / ("sorted.bam" if ordered else "reads.bam")
    verb = "sort" if ordered else "view"
    argv = ["samtools", verb, "--no-PG", "-O", "bam", "-o", str(made), "-"]
    subprocess.run(argv, input=("\n".join(text) + "\n").encode(), check=True, capture_output=True)
    return made


@pytest.mark.parametrize("threads", [1, 2])
def test_reads_are_indexed_as_samtools_does_and_counted(
    sanitised_program: Path, tmp_path: Path, threads: int
) -> None:
    source, ours, theirs = bam(tmp_path), tmp_path / "ours", tmp_path / "theirs"
    table = tmp_path / "table"
    options = (f"--threads={threads}", f"--density={table}")
    done = run(sanitised_program, f"--index={ours}", "--csi", *options, str(source))
    assert (done.returncode, done.stderr) == (0, b"")
    subprocess.run(["samtools", "index", "-c", str(source), str(theirs)], check=True)
    assert gzip.decompress(ours.read_bytes()) == gzip.decompress(theirs.read_bytes())
    assert table.read_bytes() == again(source, "bam", tmp_path)
    first = table.read_bytes()
    assert run(sanitised_program, *options, str(source)).returncode == 0
    assert table.read_bytes() == first


def test_reads_out_of_order_or_cut_are_refused_in_htslib_s_words(program: Path, tmp_path: Path) -> None:
    index = f"--index={tmp_path / 'index'}"
    unsorted = run(program, index, str(bam(tmp_path, ordered=False)))
    assert (unsorted.returncode, b"Unsorted positions" in unsorted.stderr) == (1, True)
    whole = bam(tmp_path)
    whole.write_bytes(whole.read_bytes()[:-5000])
    assert run(program, index, str(whole)).returncode == 1
    assert run(program, index, str(tmp_path / "nothing")).returncode == 1
    assert run(program, index, "relative.bam").returncode == 2
    assert not (tmp_path / "index").exists()
