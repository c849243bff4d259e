"""The table of odd alignment files: what each becomes, what the manifest says of it, or why it is refused."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pysam
import pytest
from backports import zstd

from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry

Process = Callable[..., Awaitable[Any]]

HEAD = b"@HD\tVN:1.6\tSO:unsorted\n@SQ\tSN:chr2\tLN:1000\n@SQ\tSN:chr1\tLN:1000\n"
LONG = b"@HD\tVN:1.6\n@SQ\tSN:long\tLN:600000000\n"
REFERENCE = b">chr2\n" + b"ACGT" * 250 + b"\n>chr1\n" + b"ACGT" * 250 + b"\n"


def read(name: str, place: str = "chr1:100", *, flag: int = 0, cigar: str = "4M") -> bytes:
    contig, _, position = place.partition(":")
    return f"{name}\t{flag}\t{contig}\t{position}\t60\t{cigar}\t*\t0\t0\tACGT\tIIII\n".encode()


def unplaced(name: str) -> bytes:
    return f"{name}\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\tIIII\n".encode()


SAM = HEAD + read("a", "chr1:300") + read("b") + unplaced("u")
SORTED = {"chr2": [], "chr1": ["b", "a"], "*": ["u"]}
MANY = (
    b"@HD\tVN:1.6\n" + b"".join(b"@SQ\tSN:s%d\tLN:99\n" % i for i in range(100_000)) + read("a", "s99999:5")
)


@cache
def packed(sam: bytes, *options: str) -> bytes:
    """As samtools writes it."""
    argv = ("samtools", "view", "--no-PG", *options, "-")
    return subprocess.run(argv, input=sam, capture_output=True, check=True).stdout


@cache
def cram(sam: bytes, *options: str) -> bytes:
    return packed(sam, "-C", *(word for option in options for word in ("--output-fmt-option", option)))


def bam(sam: bytes) -> bytes:
    return packed(sam, "-b")


def bgzip(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


def coordinate_sorted(sam: bytes) -> bytes:
    argv = ("samtools", "sort", "--no-PG", "-O", "sam", "-")
    return subprocess.run(argv, input=sam, capture_output=True, check=True).stdout


class Taken(NamedTuple):
    """An odd source, and which reads come out on which sequence, in order."""

    what: str
    file_format: str
    source: Callable[[], bytes]
    reads: Mapping[str, list[str]]
    counts: Mapping[str, int] = MappingProxyType({})
    note: str = ""
    csi: bool = False


KEPT = "already sorted"
UNPACKED = "unpacked"
TAKEN = [
    Taken("unsorted SAM", "sam", lambda: SAM, SORTED),
    Taken("unsorted BAM", "bam", lambda: bam(SAM), SORTED),
    Taken("sorted BAM", "bam", lambda: bam(coordinate_sorted(SAM)), SORTED, note=KEPT),
    Taken(
        "a BAM that claims to be sorted", "bam", lambda: bam(SAM.replace(b"unsorted", b"coordinate")), SORTED
    ),
    Taken(
        "a sorted BAM that claims to be by name",
        "bam",
        lambda: bam(coordinate_sorted(SAM).replace(b"coordinate", b"queryname")),
        SORTED,
        note=KEPT,
    ),
    Taken("SAM without @HD", "sam", lambda: SAM.split(b"\n", 1)[1], SORTED),
    Taken("SAM in gzip", "sam", lambda: gzip.compress(SAM), SORTED),
    Taken(
        "SAM with CRLF",
        "sam",
        lambda: SAM.replace(b"\n", b"\r\n"),
        SORTED,
        {"carriage_returns": 6},
        "carriage returns",
    ),
    Taken("SAM with BOM", "sam", lambda: b"\xef\xbb\xbf" + SAM, SORTED, {"byte_order_mark": 1}, "byte order"),
    Taken(
        "SAM with blank lines",
        "sam",
        lambda: SAM.replace(b"\nb\t", b"\n\nb\t"),
        SORTED,
        {"blank_lines": 1},
        "blank lines",
    ),
    Taken("SAM without a last newline", "sam", lambda: SAM[:-1], SORTED),
    Taken(
        "reads on a sequence that is not declared",
        "sam",
        lambda: SAM + read("x", "chrX:5"),
        {"chr1": ["b", "a"], "*": ["u", "x"]},
        {"undeclared_reads": 1},
        "does not declare",
    ),
    Taken("BAM in plain gzip", "bam", lambda: gzip.compress(gzip.decompress(bam(SAM))), SORTED),
    Taken(
        "BAM not compressed at all", "bam", lambda: gzip.decompress(bam(SAM)), SORTED, note="nothing proves"
    ),
    Taken("SAM in Zstandard", "sam", lambda: zstd.compress(SAM), SORTED),
    Taken("BAM in Zstandard", "bam", lambda: zstd.compress(bam(SAM)), SORTED, note=UNPACKED),
    Taken(
        "BAM not compressed but in Zstandard",
        "bam",
        lambda: zstd.compress(gzip.decompress(bam(SAM))),
        SORTED,
        note=UNPACKED,
    ),
    Taken(
        "sorted BAM in Zstandard",
        "bam",
        lambda: zstd.compress(bam(coordinate_sorted(SAM))),
        SORTED,
        note=KEPT,
    ),
    Taken("BAM of stored blocks", "bam", lambda: packed(SAM, "-u"), SORTED),
    Taken("unmapped reads only, SAM", "sam", lambda: HEAD + unplaced("u") + unplaced("v"), {"*": ["u", "v"]}),
    Taken("unmapped reads only, BAM", "bam", lambda: bam(HEAD + unplaced("u")), {"*": ["u"]}, note=KEPT),
    Taken(
        "unmapped reads with a place",
        "bam",
        lambda: bam(HEAD + read("x", flag=4, cigar="*")),
        {"chr1": ["x"]},
        note=KEPT,
    ),
    Taken(
        "a mapped read at position 0",
        "bam",
        lambda: bam(HEAD + read("x", "chr1:0") + read("y")),
        {"chr1": ["y"], "*": ["x"]},
    ),
    Taken("a read beyond its sequence", "sam", lambda: HEAD + read("x", "chr1:5000"), {"chr1": ["x"]}),
    Taken("one name on many reads", "sam", lambda: HEAD + read("x") * 3, {"chr1": ["x", "x", "x"]}),
    Taken(
        "a sequence longer than 2^29, SAM",
        "sam",
        lambda: LONG + read("a", "long:590000000") + read("b", "long:5"),
        {"long": ["b", "a"]},
        csi=True,
    ),
    Taken(
        "a sequence longer than 2^29, sorted BAM",
        "bam",
        lambda: bam(LONG + read("a", "long:5")),
        {"long": ["a"]},
        note=KEPT,
        csi=True,
    ),
    Taken(
        "a sequence longer than 2^29, unsorted BAM",
        "bam",
        lambda: bam(LONG + read("a", "long:590000000") + read("b", "long:5")),
        {"long": ["b", "a"]},
        csi=True,
    ),
    Taken("a hundred thousand sequences", "bam", lambda: bam(MANY), {"s99999": ["a"]}, note=KEPT),
    Taken("a SAM header only", "sam", lambda: HEAD, {"chr1": []}),
    Taken("a BAM header only", "bam", lambda: bam(HEAD), {"chr1": []}, note=KEPT),
    Taken("a header of BAM in gzip", "bam", lambda: gzip.compress(gzip.decompress(bam(HEAD))), {"chr1": []}),
    Taken("a CRAM header only", "cram", lambda: cram(HEAD), {"chr1": []}),
    Taken("a CRAM 2.1 header only", "cram", lambda: cram(HEAD, "version=2.1"), {"chr1": []}),
    Taken("a header of a long sequence", "sam", lambda: LONG, {"long": []}, csi=True),
    Taken("CRAM without reference", "cram", lambda: cram(SAM, "no_ref=1"), SORTED),
    Taken("CRAM sorted", "cram", lambda: cram(coordinate_sorted(SAM), "no_ref=1"), SORTED),
    Taken("CRAM 2.1", "cram", lambda: cram(SAM, "version=2.1", "no_ref=1"), SORTED),
    Taken("CRAM 3.1", "cram", lambda: cram(SAM, "version=3.1", "no_ref=1"), SORTED),
    Taken("CRAM of unmapped reads", "cram", lambda: cram(HEAD + unplaced("u")), {"*": ["u"]}),
    Taken(
        "CRAM of a long sequence",
        "cram",
        lambda: cram(LONG + read("a", "long:590000000"), "no_ref=1"),
        {"long": ["a"]},
        csi=True,
    ),
]

FAR = read("far", "chr1:589897413")
FAR_DETAIL = "read 'far' lies at chr1:589897413, but by the header chr1 is 1000 bases long (LN)"
REFUSED: list[tuple[str, str, Callable[[], bytes], str]] = [
    ("nothing", "bam", lambda: b"", "the file is empty"),
    ("SAM without @SQ", "sam", lambda: b"@HD\tVN:1.6\n" + read("a"), "no reference sequences (@SQ)"),
    ("BAM without @SQ", "bam", lambda: bam(b"@HD\tVN:1.6\n" + unplaced("u")), "no reference sequences (@SQ)"),
    (
        "a sequence declared twice",
        "sam",
        lambda: HEAD + HEAD[HEAD.index(b"@SQ") :] + read("a"),
        "'chr2' twice",
    ),
    (
        "a length that is none",
        "sam",
        lambda: HEAD.replace(b"LN:1000", b"LN:x") + read("a"),
        "no usable length",
    ),
    ("BAM without its end", "bam", lambda: bam(SAM)[:-28], "truncated: the end marker is missing"),
    ("BAM cut in a block", "bam", lambda: bam(SAM)[:-60], "truncated"),
    ("BAM in gzip, cut", "bam", lambda: gzip.compress(gzip.decompress(bam(SAM)))[:-20], "truncated"),
    ("BAM not compressed, cut", "bam", lambda: gzip.decompress(bam(SAM))[:-9], "truncated"),
    ("CRAM cut", "cram", lambda: cram(SAM, "no_ref=1")[:-40], "truncated"),
    ("SAM in gzip, cut", "sam", lambda: gzip.compress(SAM)[:-9], "truncated"),
    ("BAM in Zstandard, cut", "bam", lambda: zstd.compress(bam(SAM))[:-20], "truncated"),
    ("BAM cut, in Zstandard", "bam", lambda: zstd.compress(bam(SAM)[:-28]), "truncated"),
    ("BAM in Zstandard twice", "bam", lambda: zstd.compress(zstd.compress(bam(SAM))), "compressed twice"),
    ("VCF in gzip in Zstandard", "bam", lambda: zstd.compress(gzip.compress(b"##fileformat=VCF")), "is vcf"),
    ("text in Zstandard", "bam", lambda: zstd.compress(SAM), "the catalog says bam, but the file is sam"),
    ("CRAM in Zstandard", "cram", lambda: zstd.compress(cram(SAM, "no_ref=1")), "the cram is Zstandard-comp"),
    ("two BAMs in one", "bam", lambda: bam(SAM) * 2, "truncated or corrupt"),
    (
        "BAM with more behind",
        "bam",
        lambda: bam(SAM) + b"more" * 20,
        "other bytes follow the compressed data",
    ),
    ("BAM with little behind", "bam", lambda: bam(SAM) + b"m", "other bytes follow the compressed data"),
    ("a read beyond all, SAM", "sam", lambda: HEAD + read("a") + FAR, FAR_DETAIL),
    (
        "a read beyond all, sorted BAM",
        "bam",
        lambda: bam(coordinate_sorted(HEAD + read("a") + FAR)),
        FAR_DETAIL,
    ),
    ("a read beyond all, BAM", "bam", lambda: bam(HEAD + read("a") + FAR + read("b")), FAR_DETAIL),
    (
        "a read beyond all, BAM in gzip",
        "bam",
        lambda: gzip.compress(gzip.decompress(bam(HEAD + FAR))),
        FAR_DETAIL,
    ),
    ("a read beyond all, CRAM", "cram", lambda: cram(HEAD + read("a") + FAR, "no_ref=1"), FAR_DETAIL),
    (
        "a TAB within a value of the header",
        "sam",
        lambda: HEAD + b"@PG\tID:x\tCL:bwa mem -R a\tb\n" + read("a"),
        'Malformed key:value pair at line 4: "@PG ID:x CL:bwa mem',
    ),
    ("BAM called SAM", "sam", lambda: bam(SAM), "the catalog says sam, but the file is bam"),
    ("SAM called BAM", "bam", lambda: SAM, "the catalog says bam, but the file is sam"),
    ("CRAM called BAM", "bam", lambda: cram(SAM, "no_ref=1"), "the catalog says bam, but the file is cram"),
    ("BAM called CRAM", "cram", lambda: bam(SAM), "the catalog says cram, but the file is bam"),
    ("CRAM in gzip", "cram", lambda: gzip.compress(cram(SAM, "no_ref=1")), "the cram is gzip-compressed"),
    ("BED called SAM", "sam", lambda: b"chr1\t5\t9\n", "the catalog says sam, but the file is bed"),
    ("a CIGAR of another length", "sam", lambda: HEAD + read("a", cigar="9M"), "line 4: CIGAR and query"),
    ("a line of one column", "sam", lambda: SAM + b"words\n", "Parse error at line 7"),
    ("a header line among reads", "sam", lambda: SAM + b"@CO\tx\n", "Parse error at line 7"),
    ("a NUL in SAM", "sam", lambda: SAM + b"\0\n", "line 7: a NUL byte"),
    ("carriage returns alone", "sam", lambda: SAM.replace(b"\n", b"\r"), "carriage returns alone"),
]


@pytest.mark.parametrize("row", TAKEN, ids=[row.what for row in TAKEN])
async def test_what_can_be_used_is_and_the_manifest_says_how(process: Process, row: Taken) -> None:
    made = await process(row.source(), row.file_format)
    assert made.failure is None, made.failure
    assert made.counts == {"records": sum(map(len, row.reads.values())), **row.counts}
    assert row.note in made.notes
    assert (KEPT in made.notes) == (row.note == KEPT)
    assert made.index.endswith(".csi" if row.csi else ".bai")
    assert ("Gosling cannot read CSI" in made.notes) == row.csi
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        found = {name: [r.query_name for r in opened.fetch(name)] for name in row.reads}
    assert found == row.reads


@pytest.mark.parametrize(
    ("file_format", "source", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_what_cannot_be_used_is_refused_and_the_reason_says_why(
    process: Process, file_format: str, source: Callable[[], bytes], expected: str
) -> None:
    made = await process(source(), file_format)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert expected in made.failure.detail


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("sort", [False, True])
async def test_a_bam_whose_reads_cannot_be_decoded_is_the_sources_fault(
    process: Process, density: bool, sort: bool
) -> None:
    using = default_registry(
        sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, level=1, density=density
    )
    many = HEAD + b"".join(read(f"r{n}", f"chr1:{n * 7 % 900 + 1}") for n in range(99))
    whole = gzip.decompress(bam(coordinate_sorted(many) if sort else many))
    for broken in (whole[:-70] + whole[-60:], whole[:-90] + b"\xff" * 8 + whole[-82:]):
        made = await process(bgzip(broken), "bam", using=using)
        assert made.failure is not None, "it was accepted"
        assert made.failure.reason is Reason.SOURCE_INVALID, made.failure


def with_reference(folder: Path, embedded: bool) -> Path:
    """A CRAM whose reference is in it, or gone."""
    reference = folder / "reference.fa"
    reference.write_bytes(REFERENCE)
    path = folder / "x.cram"
    argv = ["samtools", "view", "--no-PG", "-C", "-T", str(reference), "-o", str(path)]
    argv += ["--output-fmt-option", f"embed_ref={int(embedded)}", "-"]
    subprocess.run(argv, input=SAM, check=True)
    for left in folder.glob("reference.fa*"):
        left.unlink()
    return path


@pytest.mark.parametrize(("embedded", "taken"), [(True, True), (False, False)])
async def test_a_cram_brings_its_reference_or_is_refused(
    process: Process, tmp_path: Path, embedded: bool, taken: bool
) -> None:
    path = with_reference(tmp_path, embedded)
    made = await process(path, "cram")
    if taken:
        assert made.failure is None, made.failure
        assert made.counts["records"] == 3
    else:
        assert made.failure.reason is Reason.SOURCE_INVALID
        assert "needs an external reference" in made.failure.detail
