"""The normaliser against a naive reading of the same text, and each refusal with its line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import Compression, Inflation, inflate
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.formats.records import Records
from gooseherd.processing.programs.normalise import normalise

VCF_HEAD = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
SAMPLE = VCF_HEAD[:-1] + b"\tFORMAT\tS1\n"


def read(
    name: str, text: bytes, chunk: int = 1 << 17, max_line: int = 16 << 20
) -> tuple[bytes, bytes, Records]:
    reader = reader_of(name)
    chunks = [text[i : i + chunk] for i in range(0, len(text), chunk)]
    body = b"".join(normalise(chunks, reader, max_line))
    return reader.finish(), body, reader


def refusal(name: str, text: bytes, **options: int) -> str:
    with pytest.raises(StepFailed) as caught:
        read(name, text, **options)
    assert caught.value.failure.reason is Reason.SOURCE_INVALID
    return caught.value.failure.detail


@pytest.mark.parametrize("before", [0, 1])
def test_an_end_is_one_of_the_info_column_and_of_no_other(before: int) -> None:
    # With a record before it, a line is judged among others in one go.
    lines = b"chr1\t1\t.\tA\tT\t.\t.\t.\n" * before + b"chr1\t5\tEND=900\tA\tT\t.\tq;END=901\tX;END=77;Y\n"
    _, _, reader = read("vcf", VCF_HEAD + lines)
    assert reader.max_end == 77
    _, _, reader = read("vcf", VCF_HEAD + lines.replace(b"X;END=77;Y", b"CIEND=950"))
    assert reader.max_end == 5


# -- against a naive reading -----------------------------------------------------------------

names = st.sampled_from(["chr1", "chr2", "HLA-A*01:01", "chr 3", "chr,4", "trackside", "browser1", "1"])
words = st.text(alphabet="abc =;:.|\"'-+%é", min_size=1, max_size=12)
starts = st.integers(0, (1 << 31) - 1_000_001)
lengths = st.integers(0, 1_000_000)
ends_of_line = st.sampled_from(["\n", "\n", "\n", "\r\n"])
plain_or_odd: st.SearchStrategy[Callable[[int], str]] = st.sampled_from(
    [str, str, str, str, lambda n: f"{n}.0", lambda n: f"{n}e0", lambda n: f"0{n}", lambda n: f"+{n}"]
)
noise = st.sampled_from(["", "   ", "# a remark", "track name=x", "browser hide all", "track"])


@st.composite
def bed_files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """(the file, the records as they should come out)."""
    text, clean = [], []
    for _ in range(draw(st.integers(1, 30))):
        if draw(st.integers(0, 5)) == 0:
            text.append(draw(noise) + draw(ends_of_line))
        name, start, length = draw(names), draw(starts), draw(lengths)
        rest = draw(st.lists(words, max_size=4))
        spell = draw(plain_or_odd)
        text.append("\t".join([name, spell(start), str(start + length), *rest]) + draw(ends_of_line))
        clean.append("\t".join([name, str(start), str(start + length), *rest]))
    return "".join(text), clean


@settings(max_examples=100)
@given(bed_files(), st.integers(1, 400))
def test_bed_comes_out_as_a_naive_reading_would_have_it(file: tuple[str, list[str]], chunk: int) -> None:
    text, clean = file
    _, body, reader = read("bed", text.encode(), chunk)
    assert body.decode().split("\n")[:-1] == clean
    assert reader.records == len(clean)
    assert {c.name for c in reader.contigs()} == {line.split("\t")[0] for line in clean}
    assert reader.max_end == max(int(line.split("\t")[2]) for line in clean)


@st.composite
def vcf_files(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """(the file, its header, its records)."""
    head = ["##fileformat=VCFv4.2"]
    head += [f"##contig=<ID={n},length={i + 10}>" for i, n in enumerate(draw(st.lists(names, unique=True)))]
    head.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1")
    text, clean = [line + draw(ends_of_line) for line in head], []
    for _ in range(draw(st.integers(1, 20))):
        if draw(st.integers(0, 8)) == 0:
            text.extend(line + "\n" for line in head)
        info = draw(st.sampled_from(["AC=1", "END=77", "CIEND=9;SVTYPE=DEL", "."]))
        ref = draw(st.text("ACGTN", min_size=1, max_size=5))
        fields = [draw(names), str(draw(starts)), ".", ref, "A", ".", "PASS", info, "GT", "0/1"]
        clean.append("\t".join(fields))
        text.append(clean[-1] + draw(ends_of_line))
    return "".join(text), head, clean


@settings(max_examples=100)
@given(vcf_files(), st.integers(1, 400))
def test_vcf_keeps_one_header_and_every_record(file: tuple[str, list[str], list[str]], chunk: int) -> None:
    text, head, clean = file
    header, body, reader = read("vcf", text.encode(), chunk)
    assert header.decode().split("\n")[:-1] == head
    assert body.decode().split("\n")[:-1] == clean
    ends = [max(int(f[1]), 1) + len(f[3]) - 1 for f in (line.split("\t") for line in clean)]
    ends += [77 for line in clean if "\tEND=77" in line]
    assert reader.max_end == max([*ends, 0])


@st.composite
def gff_files(draw: st.DrawFn) -> tuple[str, list[str]]:
    text, clean = ["##gff-version 3\n"], []
    for _ in range(draw(st.integers(1, 20))):
        if draw(st.integers(0, 5)) == 0:
            text.append(draw(st.sampled_from(["###", "# remark", "", "##sequence-region chr1 1 99"])) + "\n")
        start = draw(st.integers(1, 1 << 30))
        fields = [
            draw(names),
            "a b",
            "gene",
            str(start),
            str(start + draw(lengths)),
            ".",
            "+",
            ".",
            draw(words),
        ]
        clean.append("\t".join(fields))
        text.append(clean[-1] + draw(ends_of_line))
    if draw(st.booleans()):
        text.append(draw(st.sampled_from(["##FASTA\n>chr1\nACGT\n", ">chr1\nACGT\nACGT"])))
    return "".join(text), clean


@settings(max_examples=100)
@given(gff_files(), st.integers(1, 400))
def test_gff_loses_separators_and_sequences_only(file: tuple[str, list[str]], chunk: int) -> None:
    text, clean = file
    header, body, _ = read("gff3", text.encode(), chunk)
    assert body.decode().split("\n")[:-1] == clean
    assert header.startswith(b"##gff-version 3\n")
    assert b"###" not in header


# -- headers and contigs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "header"),
    [
        ("vcf", VCF_HEAD, VCF_HEAD),
        ("vcf", VCF_HEAD.split(b"\n")[0], VCF_HEAD),
        ("vcf", VCF_HEAD.split(b"\n")[1], VCF_HEAD),
        ("bed", b"# only\n", b"# only\n"),
        ("bed", b"track name=x\n", b""),
        ("narrowpeak", b"chrom\tstart\tend\n", b""),
        ("gff3", b"##gff-version 3\n", b"##gff-version 3\n"),
        ("gtf", b"#!x\n", b"##gff-version 3\n#!x\n"),
        ("sam", b"@SQ\tSN:a\tLN:9\n", b""),
    ],
)
def test_a_header_alone_is_enough(name: str, text: bytes, header: bytes) -> None:
    made, _, reader = read(name, text)
    assert (made, reader.records) == (header, 0)


def test_a_vcf_without_its_first_or_last_header_line_gets_it() -> None:
    record = b"chr1\t5\t.\tA\tC\t.\t.\tDP=1\n"
    titles = VCF_HEAD.split(b"\n")[1] + b"\n"
    for head in (VCF_HEAD.split(b"\n")[0] + b"\n", titles):
        header, body, reader = read("vcf", head + record)
        assert header == VCF_HEAD
        assert body == record
        assert reader.counts["added_header_lines"] == 1


def test_the_line_that_names_the_version_moves_to_the_top() -> None:
    header, _, _ = read("vcf", b"##source=x\n" + VCF_HEAD + b"chr1\t5\t.\tA\tC\t.\t.\t.\n")
    assert header.split(b"\n")[:2] == [b"##fileformat=VCFv4.2", b"##source=x"]


def test_contigs_come_with_the_lengths_the_header_gives() -> None:
    head = b"##fileformat=VCFv4.2\n##contig=<ID=chr2,length=99>\n##contig=<assembly=x,ID=chr1>\n"
    _, _, reader = read("vcf", head + VCF_HEAD.split(b"\n")[1] + b"\nchr9\t5\t.\tA\tC\t.\t.\t.\n")
    assert [(c.name, c.length) for c in reader.contigs()] == [("chr2", 99), ("chr1", None), ("chr9", None)]


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("vcf", b"track x\n", "no VCF header"),
        ("vcf", VCF_HEAD + b"c\t5\t.\tA\tC\t.\t.\t.\n#CHROM\tPOS\tX\n", "line 4: a second header"),
        (
            "vcf",
            SAMPLE + b"c\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1\t\nc\t5\t.\tA\tC\t.\t.\t.\tGT\n",
            "line 4: 9 columns, but the #CHROM line names 10",
        ),
        ("sam", b"r\t0\tchr1\t1\t9\t1M\t*\t0\t0\tA\tI\n", "names no reference sequences"),
        ("sam", b"", "no reads: the file has no content"),
        ("sam", b"@HD\tVN:1.6\n", "names no reference sequences"),
        ("sam", b"@SQ\tSN:a\tLN:9\n@SQ\tSN:a\tLN:9\nr\t0\ta\t1\t9\t1M\t*\t0\t0\tA\tI\n", "'a' twice"),
        ("sam", b"@SQ\tSN:a\tLN:9\nr\t0\ta\n", "line 2: 3 columns"),
    ],
)
def test_what_cannot_be_put_right_is_refused_with_its_line(name: str, text: bytes, expected: str) -> None:
    assert expected in refusal(name, text)
    # Where the chunks are cut changes neither the verdict nor the line.
    assert expected in refusal(name, text, chunk=3)


def test_refusals_of_later_blocks_name_the_right_line() -> None:
    text = b"chr1\t1\t2\n" * 50_000 + b"chr1\t5\tx\n"
    assert refusal("bed", text).startswith("line 50001:")


def test_a_line_may_be_long_but_not_without_bound() -> None:
    line = b"chr1\t1\t2\t" + b"x" * 5000 + b"\n"
    assert read("bed", b"chr1\t1\t2\n" + line, chunk=700, max_line=6000)[2].records == 2
    assert refusal("bed", b"chr1\t1\t2\n" + line, chunk=700, max_line=4000).startswith(
        "line 2: the line is longer"
    )


# -- compression -----------------------------------------------------------------------------

TEXT = b"".join(b"chr1\t%d\t%d\tname%d\n" % (i, i + 5, i * 7919) for i in range(8_000))


def unpacked(data: bytes, **limits: int) -> tuple[bytes, Inflation]:
    found = Inflation()
    out = b"".join(
        inflate(io.BytesIO(data), found, size=len(data), max_bytes=limits.get("max_bytes", 1 << 30))
    )
    return out, found


@pytest.mark.parametrize(
    ("pack", "compression"),
    [
        (lambda d: d, Compression.PLAIN),
        (gzip.compress, Compression.GZIP),
        (lambda d: gzip.compress(d[:999]) + gzip.compress(d[999:]) + b"\0" * 600, Compression.GZIP),
        (bz2.compress, Compression.BZIP2),
        (lambda d: bz2.compress(d[:9]) + bz2.compress(d[9:]), Compression.BZIP2),
        (lzma.compress, Compression.XZ),
    ],
)
def test_every_compression_gives_the_same_bytes(
    pack: Callable[[bytes], bytes], compression: Compression
) -> None:
    out, found = unpacked(pack(TEXT))
    assert out == TEXT
    assert found.compression is compression


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_data_that_is_cut_is_truncated_wherever_the_cut_is(pack: Callable[[bytes], bytes]) -> None:
    whole = pack(TEXT)
    for cut in (20, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        with pytest.raises(StepFailed, match="truncated"):
            unpacked(whole[:cut])


def test_a_flipped_bit_is_corrupt() -> None:
    whole = bytearray(gzip.compress(TEXT))
    whole[len(whole) // 2] ^= 0x10
    with pytest.raises(StepFailed, match=r"corrupt|truncated"):
        unpacked(bytes(whole))


def test_other_bytes_after_the_compressed_ones_are_refused() -> None:
    with pytest.raises(StepFailed, match="other bytes follow"):
        unpacked(gzip.compress(TEXT) + b"hello")


@pytest.mark.parametrize(("magic", "word"), [(b"\x28\xb5\x2f\xfd", "corrupt"), (b"PK\x03\x04", "zip")])
def test_what_cannot_be_unpacked_is_named(magic: bytes, word: str) -> None:
    with pytest.raises(StepFailed, match=word):
        unpacked(magic + b"x" * 100)


def test_a_bomb_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gooseherd.processing.formats.decompression.RATIO_FLOOR", 1 << 20)
    bomb = bz2.compress(b"\0" * (20 << 20))
    seen = 0

    def count(chunks: Iterable[bytes]) -> None:
        nonlocal seen
        for chunk in chunks:
            seen += len(chunk)

    with pytest.raises(StepFailed, match="expands to more than"):
        count(inflate(io.BytesIO(bomb), Inflation(), size=len(bomb), max_bytes=1 << 40))
    assert seen <= 2 << 20


def test_more_text_than_allowed_is_too_large_not_invalid() -> None:
    with pytest.raises(StepFailed) as caught:
        unpacked(gzip.compress(TEXT), max_bytes=1000)
    assert caught.value.failure.reason is Reason.SOURCE_TOO_LARGE
