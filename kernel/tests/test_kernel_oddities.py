"""The kernel's answers to the table of oddities, and what is the kernel's alone: limits, contigs, usage."""

from __future__ import annotations

import gzip
import subprocess
from typing import Any

import pysam
import pytest
from tests.oddities import GFF, KERNEL, MENDED, REFUSED, VCF, Mended, Refused, bgzf, rows_of, v

from gooseherd.processing.tools.kernel import KernelStatus


@pytest.mark.parametrize("row", rows_of(KERNEL, MENDED))
def test_what_can_be_put_right_is(row: Mended, sanitised: Any) -> None:
    run = sanitised(row.file_format, row.source)
    assert run.status == 0, run.stderr
    assert run.text() == row.text
    assert run.found.counts == row.counts
    assert run.found.records == sum(not line.startswith(b"#") for line in row.text.splitlines())
    assert run.found.record_bytes + run.found.header_bytes == len(row.text)
    assert run.found.header_lines == sum(line.startswith(b"#") for line in row.text.splitlines())


@pytest.mark.parametrize("row", rows_of(KERNEL, REFUSED))
def test_what_cannot_be_put_right_is_refused_by_name(row: Refused, sanitised: Any) -> None:
    run = sanitised(row.file_format, row.source, "--refuse-empty")
    status = KernelStatus.TRUNCATED if row.words.startswith("truncated") else KernelStatus.INVALID
    assert (run.status, run.found.line) == (status, row.line), run.stderr
    assert row.words in run.found.detail
    assert not run.found.done
    assert run.found.reason == "source_invalid"
    assert not run.out.exists()
    assert not run.index.exists()


@pytest.mark.parametrize(
    "source", [b"", b"\n \n", gzip.compress(b"")], ids=["nothing", "blank lines", "packed"]
)
@pytest.mark.parametrize("format_name", ["bed", "vcf", "gtf"])
def test_a_source_without_content_can_be_refused(format_name: str, source: bytes, sanitised: Any) -> None:
    run = sanitised(format_name, source, "--refuse-empty")
    assert run.status == 10
    assert run.found.detail == "no records: the file has no content"


@pytest.mark.parametrize(
    ("format_name", "source", "text"),
    [
        ("vcf", VCF, VCF),
        ("vcf", b"##fileformat=VCFv4.2\n", b"##fileformat=VCFv4.2\n" + VCF.split(b"\n")[2] + b"\n"),
        ("bed", b"# only this\n", b"# only this\n"),
        ("bed", b"track name=x\n", b""),
        ("bed", b"chrom\tstart\tend\n", b""),
        ("gff3", GFF, GFF),
        ("gtf", b"#!x\n", GFF + b"#!x\n"),
    ],
)
@pytest.mark.parametrize("keep", [(), ("--keep",)], ids=["", "keep"])
def test_a_header_alone_gets_an_index_without_sequences(
    format_name: str, source: bytes, text: bytes, keep: tuple[str, ...], sanitised: Any
) -> None:
    for packed in (source, bgzf(source)):
        run = sanitised(format_name, packed, "--refuse-empty", *keep)
        assert run.status == 0, run.stderr
        assert not run.found.kept
        assert run.text() == text
        with pysam.TabixFile(str(run.out), index=str(run.index)) as opened:
            assert opened.contigs == []


def test_a_source_without_records_is_taken_unless_it_is_to_be_refused(sanitised: Any) -> None:
    run = sanitised("bed", b"")
    assert (run.status, run.text(), run.found.counts) == (0, b"", {})


def test_a_vcf_needs_a_header(sanitised: Any) -> None:
    run = sanitised("vcf", b"")
    assert (run.status, run.found.line) == (KernelStatus.INVALID, None)
    assert "no VCF header" in run.found.detail


WITHIN_LIMITS = {
    "a long line": b"chr1\t1\t2\t" + b"x" * 5000 + b"\n",
    "as many names as may be": b"".join(b"c%d\t1\t2\n" % i for i in range(100)),
}
BEYOND_LIMITS = {
    "the line is longer than 300000 bytes": b"chr1\t1\t2\n" + b"x" * 1_000_000,
    "more than 100 different sequence names": b"".join(b"c%d\t1\t2\n" % i for i in range(101)),
    "more than 2000000 bytes when uncompressed": gzip.compress(b"chr1\t1\t2\n" * 250_000),
    "the header is longer than 10000 bytes": b"#x\n" * 5000,
}


@pytest.mark.parametrize("source", WITHIN_LIMITS.values(), ids=WITHIN_LIMITS)
def test_up_to_the_limits_all_is_well(source: bytes, limited: Any) -> None:
    assert limited("bed", source).status == 0


@pytest.mark.parametrize(("words", "source"), BEYOND_LIMITS.items(), ids=BEYOND_LIMITS)
def test_limits_are_kept(words: str, source: bytes, limited: Any) -> None:
    run = limited("bed", source)
    assert run.status == 12, run.stderr
    assert words in run.stderr


def test_a_bomb_is_told_from_a_file(kernel: Any) -> None:
    line = b"chr1\t1\t2\t" + b"x" * 100_000 + b"\n"
    bomb = gzip.compress(line * 3000)
    run = kernel("bed", bomb)
    assert run.status == 12
    assert "times its size" in run.found.detail


def test_one_endless_line_does_not_fill_the_memory(kernel: Any) -> None:
    run = kernel("bed", gzip.compress(b"x" * 200_000_000))
    assert run.status == 12
    assert run.found.line == 1


def test_missing_end_marker_is_noticed(sanitised: Any) -> None:
    whole = subprocess.run(
        ["bgzip", "-c"], input=b"chr1\t1\t2\n" * 50, capture_output=True, check=True
    ).stdout
    run = sanitised("bed", whole[:-28])
    assert run.status == 0
    assert run.found.without_end_marker
    cut = subprocess.run(
        ["bgzip", "-c"], input=b"chr1\t1\t2\nchr1\t1", capture_output=True, check=True
    ).stdout
    run = sanitised("bed", cut[:-28])
    assert run.status == 11


def test_declared_sequences_are_reported_in_their_order(sanitised: Any) -> None:
    head = VCF.replace(
        b"#CHROM",
        b"##contig=<ID=chr2,length=500>\n##contig=<assembly=x,ID=chr3,length=7,md5=y>\n#CHROM",
    )
    run = sanitised("vcf", head + v("5", name="zz") + v("5", name='q"\\\x01'))
    assert run.status == 0
    found = [(c.name, c.length, c.max_end, c.records) for c in run.found.contigs]
    assert found == [
        ("chr1", None, 0, 0),
        ("chr2", 500, 0, 0),
        ("chr3", 7, 0, 0),
        ('q"\\\x01', None, 5, 1),
        ("zz", None, 5, 1),
    ]


def test_names_that_are_no_text_are_still_reported(sanitised: Any) -> None:
    run = sanitised("bed", b"chr\xff\xc3\xa4\t1\t2\n")
    assert [c.name for c in run.found.contigs] == ["chr\ufffdä"]


@pytest.mark.parametrize(
    "row", ["", "--format=bed", "--format=none --out=x --index=y z", "--memory=1", "--level=x"]
)
def test_wrong_usage_is_told(row: str, kernel: Any) -> None:
    done = subprocess.run([kernel.program, *row.split()], capture_output=True, check=False)
    assert done.returncode == 2
