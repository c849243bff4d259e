"""The table of odd interval files: what each becomes and what is counted, or why it is refused.

Three runners read it, so that the two ways to the same bytes and the step around them agree on each row:
kernel/tests/test_kernel_oddities.py (the kernel, with sanitisers), tests/unit/test_oddities_by_normaliser.py (the
normaliser in Python) and tests/integration/processing/test_oddities_of_text.py (detection, all steps, the manifest).
"""

# ruff: noqa: E501 - the rows of a table
from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

import pytest
from _pytest.mark import ParameterSet
from backports import zstd

from gooseherd.domain.bgzf import END_MARKER

KERNEL, NORMALISER, STEP = "kernel", "normaliser", "step"
EVERYWHERE: Final = frozenset({KERNEL, NORMALISER, STEP})
TEXT_ONLY: Final = frozenset({KERNEL, NORMALISER})
"""The step refuses it before either of them sees it, and says so in words of its own."""
NOT_KERNEL: Final = frozenset({NORMALISER, STEP})
"""The kernel does not read that packing; the step unpacks it first."""
STEP_ONLY: Final = frozenset({STEP})

VCF = b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
GFF = b"##gff-version 3\n"
PEAK = b"\tp\t0\t.\t1\t2\t3"
BED = b"chr1\t5\t9\ta\nchr1\t20\t30\tb\n"
UNSORTED_BED = b"chr1\t20\t30\tb\nchr1\t5\t9\ta\n"
SKIPPED = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"aside"
"""A frame that Zstandard skips (RFC 8878 §3.1.2)."""


def v(
    pos: str, info: str = ".", *, name: str = "chr1", ref: str = "A", alt: str = "C", more: str = ""
) -> bytes:
    """A line of VCF."""
    return f"{name}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t{info}{more}\n".encode()


def g(start: str, end: str, attributes: str = "ID=a", source: str = "s", kind: str = "gene") -> bytes:
    """A line of GFF or GTF."""
    return f"chr1\t{source}\t{kind}\t{start}\t{end}\t.\t+\t.\t{attributes}\n".encode()


def declaring(*names: str) -> bytes:
    """The header of VCF with more contigs."""
    above, title = VCF.split(b"#CHROM")
    return above + b"".join(b"##contig=<ID=%b>\n" % name.encode() for name in names) + b"#CHROM" + title


def bgzf(data: bytes) -> bytes:
    """One block of BGZF and the marker of its end (SAMv1 §4.1)."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(data) + packer.flush()
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\0BC\2\0" + struct.pack("<H", 18 + len(body) + 8 - 1)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data)) + END_MARKER


def framed(data: bytes, window: int = 0) -> bytes:
    """A Zstandard frame that does not say its size, as zstd makes it of a pipe; `window` in powers of two."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
    frame = bytearray(packer.compress(data) + packer.flush())
    if window:
        frame[5] = window - 10 << 3  # RFC 8878 §3.1.1.1.2
    return bytes(frame)


class Mended(NamedTuple):
    """An odd source and what comes out: the whole text, and what was counted."""

    what: str
    file_format: str
    source: bytes
    text: bytes
    counts: Mapping[str, int] = MappingProxyType({})
    note: str = ""
    """What the manifest says besides the sentences that the counts get."""
    csi: bool = False
    runners: frozenset[str] = EVERYWHERE


class Refused(NamedTuple):
    """A source that is refused, the words that its reason has, and the line that it names."""

    what: str
    file_format: str
    source: bytes
    words: str
    line: int | None = None
    runners: frozenset[str] = EVERYWHERE


COUNT_WORDS: Final = {
    "byte_order_mark": "byte order mark",
    "carriage_returns": "carriage returns",
    "blank_lines": "blank lines",
    "comment_lines": "comments below the first record",
    "display_lines": "track and browser",
    "heading_lines": "headings",
    "repeated_header_lines": "repeated header",
    "replaced_header_lines": "named the old format",
    "added_header_lines": "were added",
    "separator_lines": "### separators",
    "sequence_lines": "FASTA",
    "spaced_lines": "split by TAB",
    "respelt_coordinates": "respelt",
    "wide_records": "more columns than the #CHROM line names",
    "line_comments": "comments behind the attributes",
    "added_genes": "genes that had no line",
    "added_transcripts": "transcripts that had no line",
}
"""What the manifest says where one is counted."""
_GTF: Final = "rewritten as GFF3"
_CSI: Final = "only a CSI index"

MENDED: Final = [
    # -- lines that are no records
    Mended("track and browser lines", "bed",
        b"browser position chr7:1-2\ntrack name=x\nchr1\t1\t2\ntrack\ntrack\tname=y\nchr1\t3\t4\n",
        b"chr1\t1\t2\nchr1\t3\t4\n", {"display_lines": 4}),
    Mended("a track line in the middle", "bed",
        b"chr1\t20\t30\ntrack name=x\nchr1\t5\t9\n", b"chr1\t5\t9\nchr1\t20\t30\n", {"display_lines": 1}),
    Mended("a sequence called track", "bed", b"track\t20\t30\ntrack\t5\t9\n", b"track\t5\t9\ntrack\t20\t30\n"),
    Mended("a sequence called trackless", "bed", b"trackless\t1\t2\n", b"trackless\t1\t2\n"),
    Mended("bedGraph by its track line", "bed",
        b"track type=bedGraph\nchr1\t5\t9\t0.5\n", b"chr1\t5\t9\t0.5\n", {"display_lines": 1}),
    Mended("blank lines", "bed",
        b"\nchr1\t20\t30\n\n  \n \t \nchr1\t5\t9\n\n", b"chr1\t5\t9\nchr1\t20\t30\n", {"blank_lines": 5}),
    Mended("column headings", "bed", b"chrom\tstart\tend\tname\n" + UNSORTED_BED, BED, {"heading_lines": 1}),
    Mended("column headings as UCSC names them", "bed",
        b"chrom\tchromStart\tchromEnd\nchr1\t1\t2\n", b"chr1\t1\t2\n", {"heading_lines": 1}),
    Mended("column headings split by spaces", "bed",
        b"chrom start end\nchr1 1 2\n", b"chr1\t1\t2\n", {"heading_lines": 1, "spaced_lines": 2}),
    *(
        Mended(f"{heading!r} as headings", "bed", heading + b"\n" + BED, BED, {"heading_lines": 1})
        for heading in (
            b"Chr\tStart\tEnd",
            b"chr\tbeg\tend\tsig",
            b"CHROM\tPOS\tEND",
            b"chr\tstart_position\tend_position",
            b"chr\tFROM\tTO",
            b'"chr"\t"start"\t"end"',
            b"seqnames\tchromStart\tchromEnd",
            b"Chromosome\tGene start (bp)\tGene end (bp)",
        )
    ),
    Mended("several lines of headings", "bed",
        b'"Chr"\t"Start"\t"End"\nchr1\t1\t2\nchr\tbeg\tend\nchr\tPOS\tTO\nchr\tStart (bp)\tx\ngene\ttxStart\ttxEnd\n',
        b"chr1\t1\t2\n", {"heading_lines": 5}),
    Mended("headings of too few columns", "narrowpeak",
        b"chr start end\nchr1\t1\t2" + PEAK + b"\n", b"chr1\t1\t2" + PEAK + b"\n",
        {"heading_lines": 1, "spaced_lines": 1}),
    Mended("headings of GFF without attributes", "gff",
        b"seqname\tsource\tfeature\tstart\tend\tscore\tstrand\tframe\n" + g("5", "6"), g("5", "6"),
        {"heading_lines": 1}),
    Mended("headings of GTF", "gff",
        b"seqname\tsource\tfeature\tstart\tend\tscore\tstrand\tframe\tattribute\n" + g("5", "6"), g("5", "6"),
        {"heading_lines": 1}),
    Mended("column headings as a comment", "bed", b"#chrom\tstart\n" + UNSORTED_BED, b"#chrom\tstart\n" + BED),
    Mended("comments among records", "bed",
        b"#top\n# two\nchr1\t20\t30\n#mid\nchr1\t5\t9\n", b"#top\n# two\nchr1\t5\t9\nchr1\t20\t30\n",
        {"comment_lines": 1}),
    # -- ends of lines, columns
    Mended("CRLF in BED", "bed", UNSORTED_BED.replace(b"\n", b"\r\n"), BED, {"carriage_returns": 2}),
    Mended("CRLF in VCF", "vcf",
        (VCF + v("9") + v("5")).replace(b"\n", b"\r\n"), VCF + v("5") + v("9"), {"carriage_returns": 5}),
    Mended("CRLF on some lines", "gff3",
        GFF + g("9", "9")[:-1] + b"\r\n" + g("5", "6"), GFF + g("5", "6") + g("9", "9"), {"carriage_returns": 1}),
    Mended("a carriage return at the end", "bed", b"chr1\t1\t2\r", b"chr1\t1\t2\n", {"carriage_returns": 1}),
    Mended("many carriage returns", "bed", b"chr1\t1\t2\r\r\n", b"chr1\t1\t2\n", {"carriage_returns": 2}),
    Mended("no newline at the end", "bed", UNSORTED_BED[:-1], BED),
    Mended("split by spaces", "bed",
        b"chr1 20 30 name\n chr1  5 9 n2\n", b"chr1\t5\t9\tn2\nchr1\t20\t30\tname\n", {"spaced_lines": 2}),
    Mended("split by TABs first and by spaces later", "bed",
        b"chr1\t20\t30\ta b\nchr1 5 9 c d\nchr1\t7 8\tx\nchr1\t9\t10 y\n",
        b"chr1\t5\t9\tc\td\nchr1\t7\t8\tx\nchr1\t9\t10\ty\nchr1\t20\t30\ta b\n", {"spaced_lines": 3}),
    Mended("a TAB among spaces", "bed",
        b"chr1 1 2 x\nchr1   3\t4\n", b"chr1\t1\t2\tx\nchr1\t3\t4\n", {"spaced_lines": 2}),
    Mended("narrowPeak split by spaces", "narrowpeak",
        b"chr1 5 9" + PEAK.replace(b"\t", b" ") + b" 4\n", b"chr1\t5\t9" + PEAK + b"\t4\n", {"spaced_lines": 1}),
    Mended("ten columns of narrowPeak", "narrowpeak",
        b"chr1\t1\t2" + PEAK + b"\t7\n", b"chr1\t1\t2" + PEAK + b"\t7\n"),
    Mended("narrowPeak without the column of summits", "narrowpeak",
        b"chr1\t1\t2" + PEAK + b"\n", b"chr1\t1\t2" + PEAK + b"\n"),
    Mended("tags out of order", "tagalign", b"chr1\t9\t12\tN\t0\t+\nchr1\t1\t2\tN\t0\t-\n",
        b"chr1\t1\t2\tN\t0\t-\nchr1\t9\t12\tN\t0\t+\n"),
    Mended("gapped peaks split by spaces", "gappedpeak", b"chr1 1 9 p 0 . 1 9 0 2 1,1 0,7 5 -1 -1\n",
        b"chr1\t1\t9\tp\t0\t.\t1\t9\t0\t2\t1,1\t0,7\t5\t-1\t-1\n", {"spaced_lines": 1}),
    Mended("interactions under a heading", "interact",
        b"#chrom\tchromStart\nchr1\t1\t90\ti\t0\t1\tx\t0\tchr1\t1\t9\ta\t.\tchr1\t80\t90\tb\t.\n",
        b"#chrom\tchromStart\nchr1\t1\t90\ti\t0\t1\tx\t0\tchr1\t1\t9\ta\t.\tchr1\t80\t90\tb\t.\n"),
    Mended("nine columns of broadPeak", "broadpeak", b"chr1\t1\t2" + PEAK + b"\n", b"chr1\t1\t2" + PEAK + b"\n"),
    Mended("spaces in a column", "gff",
        g("50", "60", "a b", "RefSeq x", "gene a") + g("5", "6"),
        g("5", "6") + g("50", "60", "a b", "RefSeq x", "gene a")),
    Mended("empty columns at the end", "bed", b"chr1\t5\t9\t\t\n", b"chr1\t5\t9\t\t\n"),
    # -- characters
    Mended("a byte order mark", "bed", b"\xef\xbb\xbf" + UNSORTED_BED, BED, {"byte_order_mark": 1}),
    Mended("a byte order mark above a VCF", "vcf",
        b"\xef\xbb\xbf" + VCF + v("5"), VCF + v("5"), {"byte_order_mark": 1}),
    Mended("names in UTF-8", "bed",
        "chr\u00e9\t5\t9\t\u4e2d\n".encode(), "chr\u00e9\t5\t9\t\u4e2d\n".encode()),
    Mended("names in Latin-1", "bed", b"chr\xe9\t5\t9\t\xfc\n", b"chr\xe9\t5\t9\t\xfc\n"),
    Mended("names that are no UTF-8", "bed", b"chr\xff\xfe\t1\t2\n", b"chr\xff\xfe\t1\t2\n"),
    Mended("names with signs", "bed",
        b'HLA-A*01:01,x y\t5\t9\nchr,2\t1\t2\nchr 3\t1\t2\nchr"4\t1\t3\n$(id)\t1\t2\nhttp://x/##idx##y\t1\t2\n',
        b'HLA-A*01:01,x y\t5\t9\nchr,2\t1\t2\nchr 3\t1\t2\nchr"4\t1\t3\n$(id)\t1\t2\nhttp://x/##idx##y\t1\t2\n'),
    Mended("a name of 10 kB", "bed", b"c" * 10_000 + b"\t5\t9\n", b"c" * 10_000 + b"\t5\t9\n"),
    Mended("a line of 70 kB", "bed",
        b"chr1\t20\t30\nchr1\t5\t9\t" + b"x" * 70_000 + b"\n", b"chr1\t5\t9\t" + b"x" * 70_000 + b"\nchr1\t20\t30\n"),
    # -- numbers
    Mended("scientific notation", "bed",
        b"chr1\t1e3\t2.0E+3\nchr1\t10.0\t20.\n", b"chr1\t10\t20\nchr1\t1000\t2000\n", {"respelt_coordinates": 4}),
    Mended("scientific notation in VCF", "vcf",
        VCF + v("1e3") + v("5"), VCF + v("5") + v("1000"), {"respelt_coordinates": 1}),
    Mended("scientific notation in GFF", "gff",
        g("1e3", "2000.0"), g("1000", "2000"), {"respelt_coordinates": 2}),
    Mended("numbers that only look fractional", "bed",
        b"chr1\t1.5e1\t2.50e+2\n", b"chr1\t15\t250\n", {"respelt_coordinates": 2}),
    Mended("a negative power that leaves a whole number", "bed",
        b"chr1\t1000e-3\t2\n", b"chr1\t1\t2\n", {"respelt_coordinates": 1}),
    Mended("leading zeros and signs", "bed",
        b"chr1\t010\t+20\textra\tmore\n", b"chr1\t10\t20\textra\tmore\n", {"respelt_coordinates": 2}),
    Mended("minus nothing", "bed", b"chr1\t-0\t10\n", b"chr1\t0\t10\n", {"respelt_coordinates": 1}),
    Mended("nothing with a power", "bed",
        b"chr1\t0e99\t5\nchr1\t0.0e-99\t6\n", b"chr1\t0\t5\nchr1\t0\t6\n", {"respelt_coordinates": 2}),
    Mended("spaces around a number", "bed", b"chr1\t 1\t2 \n", b"chr1\t1\t2\n", {"respelt_coordinates": 2}),
    Mended("position 0 of VCF", "vcf", VCF + v("5") + v("0"), VCF + v("0") + v("5")),
    Mended("empty intervals", "bed", b"chr1\t5\t5\nchr1\t3\t3\n", b"chr1\t3\t3\nchr1\t5\t5\n"),
    Mended("beyond 2^29 in BED", "bed",
        b"chr1\t600000000\t600000001\nchr1\t1\t2\n", b"chr1\t1\t2\nchr1\t600000000\t600000001\n",
        note=_CSI, csi=True),
    Mended("beyond 2^29 in VCF", "vcf",
        VCF + v("600000000") + v("5"), VCF + v("5") + v("600000000"), note=_CSI, csi=True),
    Mended("beyond 2^29 by END alone", "vcf",
        VCF + v("5", "END=600000000", alt="<DEL>"), VCF + v("5", "END=600000000", alt="<DEL>"), note=_CSI, csi=True),
    Mended("the last position TBI can hold", "bed",
        b"chr1\t536870911\t536870912\n", b"chr1\t536870911\t536870912\n"),
    Mended("the highest position", "gff3", g("5", "2147483647"), g("5", "2147483647"), note=_CSI, csi=True),
    Mended("the highest position, spelt oddly", "bed",
        b"chr1\t0\t2147483647.0\n", b"chr1\t0\t2147483647\n", {"respelt_coordinates": 1}, _CSI, csi=True),
    # -- order
    Mended("the order of bytes", "bed",
        b"chr2\t1\t2\nchr10\t1\t2\nchr2\t0\t1\nChr1\t1\t2\n", b"Chr1\t1\t2\nchr10\t1\t2\nchr2\t0\t1\nchr2\t1\t2\n"),
    Mended("a name that begins another", "bed",
        b"ab\t1\t2\na\t1\t2\nab\t1\t2\n", b"a\t1\t2\nab\t1\t2\nab\t1\t2\n"),
    Mended("ties keep the source's order", "bed",
        b"c\t9\t9\nc\t1\t5\tx\nc\t1\t3\nc\t1\t5\ta\n", b"c\t1\t5\tx\nc\t1\t3\nc\t1\t5\ta\nc\t9\t9\n"),
    Mended("ties of VCF keep the source's order", "vcf",
        VCF + v("9") + v("5", ref="AC") + v("5"), VCF + v("5", ref="AC") + v("5") + v("9")),
    Mended("natural order of names", "bed",
        b"chr2\t1\t2\nchr10\t1\t9\nchr10\t1\t2\n", b"chr2\t1\t2\nchr10\t1\t9\nchr10\t1\t2\n"),
    Mended("names that come and go", "bed",
        b"b\t5\t6\na\t1\t2\nb\t1\t2\na\t0\t1\n", b"a\t0\t1\na\t1\t2\nb\t1\t2\nb\t5\t6\n"),
    Mended("equal records", "bed", b"a\t1\t2\na\t1\t2\na\t1\t2\n", b"a\t1\t2\na\t1\t2\na\t1\t2\n"),
    Mended("numbers not in order of their letters", "bed",
        b"a\t10\t11\na\t9\t10\na\t100\t101\n", b"a\t9\t10\na\t10\t11\na\t100\t101\n"),
    # -- VCF
    Mended("records with columns that have no titles", "vcf",
        VCF + v("9") + v("7", more="\tGT\t0/1") + v("5", more="\t\t"),
        VCF + v("5", more="\t\t") + v("7", more="\tGT\t0/1") + v("9"), {"wide_records": 2}),
    Mended("a later record with TABs at its end, ready otherwise", "vcf",
        bgzf(VCF + v("5") + v("6", more="\t")), VCF + v("5") + v("6", more="\t"), {"wide_records": 1}, "own bytes"),
    Mended("thousands of columns", "vcf",
        VCF[:-1] + b"\tFORMAT" + b"\ts" * 9000 + b"\n"
        + v("5", more="\tGT" + "\t1" * 9000) + v("6", more="\tGT" + "\t" * 9001),
        VCF[:-1] + b"\tFORMAT" + b"\ts" * 9000 + b"\n"
        + v("5", more="\tGT" + "\t1" * 9000) + v("6", more="\tGT" + "\t" * 9001), {"wide_records": 1}),
    Mended("a header in its own order", "vcf",
        VCF.replace(b"##contig", b"##z=1\n##contig").replace(b"#CHROM", b"##a=2\n#CHROM") + v("5"),
        VCF.replace(b"##contig", b"##z=1\n##contig").replace(b"#CHROM", b"##a=2\n#CHROM") + v("5")),
    Mended("the version not on top", "vcf",
        b"##a=1\n" + VCF + v("5"), VCF.replace(b"##contig", b"##a=1\n##contig") + v("5")),
    Mended("the header again", "vcf", VCF + v("9") + VCF + v("5"), VCF + v("5") + v("9"), {"repeated_header_lines": 3}),
    Mended("the header twice above", "vcf", VCF + VCF + v("5"), VCF + v("5"), {"repeated_header_lines": 3}),
    Mended("two versions", "vcf",
        b"##fileformat=VCFv4.1\n" + VCF + v("5"), VCF.replace(b"4.2", b"4.1") + v("5"), {"repeated_header_lines": 1}),
    Mended("no version", "vcf", VCF.split(b"\n", 1)[1] + v("5"), VCF + v("5"), {"added_header_lines": 1}),
    Mended("no titles", "vcf",
        b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n" + v("5"), VCF + v("5"), {"added_header_lines": 1}),
    Mended("contigs that are not declared", "vcf",
        VCF + v("5", "XX=1", name="chr9") + v("2") + v("5", name="HLA-A*01:01") + v("1"),
        declaring("HLA-A*01:01", "chr9") + v("5", name="HLA-A*01:01") + v("1") + v("2") + v("5", "XX=1", name="chr9"),
        {"added_header_lines": 2}),
    Mended("contigs that are not declared, among some that cannot be", "vcf",
        VCF + v("9", name="z") + v("5", name="a*") + v("6", name="c,d") + v("7", name="*a"),
        declaring("a*", "z") + v("9", name="z") + v("5", name="a*") + v("6", name="c,d") + v("7", name="*a"),
        {"added_header_lines": 2}),
    Mended("contigs that cannot be declared", "vcf",
        VCF + v("5", name="a,b") + v("5", name="<c>") + v("5", name="=d"),
        VCF + v("5", name="a,b") + v("5", name="<c>") + v("5", name="=d")),
    Mended("a contig that is not declared, ready otherwise", "vcf",
        bgzf(VCF + v("5", name="chr9")), VCF + v("5", name="chr9"), note="own bytes", runners=STEP_ONLY),
    Mended("an END below POS", "vcf",
        VCF + v("50", "END=5", alt="<DEL>"), VCF + v("50", "END=5", alt="<DEL>")),
    Mended("gVCF blocks", "vcf",
        VCF + v("50", "END=90", alt="<NON_REF>") + v("5", "END=49", alt="<NON_REF>"),
        VCF + v("5", "END=49", alt="<NON_REF>") + v("50", "END=90", alt="<NON_REF>")),
    # -- GFF
    Mended("GFF3 with ##FASTA", "gff3",
        GFF + g("5", "6") + b"##FASTA\n>chr1\nACGT\tA\n", GFF + g("5", "6"), {"sequence_lines": 3}),
    Mended("GFF3 with FASTA unannounced", "gff3",
        GFF + g("5", "6") + b">chr1\nACGT\n\nAC\n", GFF + g("5", "6"), {"sequence_lines": 4}),
    Mended("### between genes", "gff3",
        GFF + g("9", "9") + b"###\n" + g("5", "6") + b"### \n", GFF + g("5", "6") + g("9", "9"), {"separator_lines": 2}),
    Mended("regions between genes", "gff3",
        GFF + g("9", "9") + b"##sequence-region chr1 1 99\n" + g("5", "6"),
        GFF + b"##sequence-region chr1 1 99\n" + g("5", "6") + g("9", "9")),
    Mended("a region twice below its genes", "gff3",
        GFF + g("5", "6") + b"##sequence-region chr1 1 99\n##sequence-region chr1 1 99\n",
        GFF + b"##sequence-region chr1 1 99\n" + g("5", "6"), {"comment_lines": 1}),
    Mended("comments below the genes", "gff",
        GFF + g("5", "6") + b"#!x\n##species y\n", GFF + g("5", "6"), {"comment_lines": 2}),
    Mended("parents before children", "gff3",
        g("9", "9") + g("1", "99", "ID=g") + g("1", "5", "Parent=g"),
        g("1", "99", "ID=g") + g("1", "5", "Parent=g") + g("9", "9")),
    Mended("GFF2 attributes", "gff", g("5", "6", 'gene "a"; note "b c"'), g("5", "6", 'gene "a"; note "b c"')),
    Mended("GFF2 without attributes", "gff",
        g("9", "9").rsplit(b"\t", 1)[0] + b"\n" + g("5", "6"), g("5", "6") + g("9", "9").rsplit(b"\t", 1)[0] + b"\n"),
    Mended("GFF3 under the name of GFF", "gff", GFF + g("5", "6"), GFF + g("5", "6")),
    Mended("GTF under the name of GFF3", "gff3", g("5", "6", 'gene_id "a";'), g("5", "6", 'gene_id "a";')),
    # -- GTF
    Mended("GTF with all its parents", "gtf",
        b"##format: gtf\n#!build x\n"
        + g("5", "9", 'gene_id "g";')
        + g("5", "9", 'gene_id "g"; transcript_id "t"; tag "a"; tag "b,c";', kind="mRNA")
        + g("5", "6", 'gene_id "g"; transcript_id "t"; n 1 # x', kind="exon"),
        GFF
        + b"#!build x\n"
        + g("5", "9", "ID=g;gene_id=g")
        + g("5", "9", "ID=t;Parent=g;gene_id=g;transcript_id=t;tag=a,b%2Cc", kind="mRNA")
        + g("5", "6", "Parent=t;gene_id=g;transcript_id=t;n=1 # x", kind="exon"),
        {"replaced_header_lines": 1, "added_header_lines": 1}, _GTF),
    Mended("GTF without parents, one id for gene and transcript", "gtf",
        g("8", "9", 'gene_id "NM"; transcript_id "NM"; x "y"; # z', kind="exon")
        + g("5", "6", 'gene_id "NM"; transcript_id "NM"; x "z"', kind="exon"),
        GFF
        + g("5", "9", "ID=NM;gene_id=NM")
        + g("5", "9", "ID=transcript:NM;Parent=NM;gene_id=NM;transcript_id=NM", kind="transcript")
        + g("5", "6", "Parent=transcript:NM;gene_id=NM;transcript_id=NM;x=z", kind="exon")
        + g("8", "9", "Parent=transcript:NM;gene_id=NM;transcript_id=NM;x=y", kind="exon"),
        {"line_comments": 1, "added_header_lines": 1, "added_genes": 1, "added_transcripts": 1}, _GTF),
    Mended("genes and transcripts of GTF are called by their names", "gtf",
        g("1", "9", 'gene_id "g"; gene "SYM"')
        + g("2", "9", 'gene_id "h"; gene_name "a;b"; Name "own"')
        + g("3", "9", 'gene_id "g"; transcript_id "t"; transcript_name "SYM-1"; gene_name "SYM"', kind="exon")
        + g("4", "9", 'gene_id "i"; gene_name "I"', kind="exon"),
        GFF
        + g("1", "9", "ID=g;Name=SYM;gene_id=g;gene=SYM")
        + g("2", "9", "ID=h;gene_id=h;gene_name=a%3Bb;Name=own")
        + g("3", "9", "ID=t;Parent=g;Name=SYM-1;gene_id=g;transcript_id=t;transcript_name=SYM-1;gene_name=SYM",
            kind="transcript")
        + g("3", "9", "Parent=t;gene_id=g;transcript_id=t;transcript_name=SYM-1;gene_name=SYM", kind="exon")
        + g("4", "9", "ID=i;Name=I;gene_id=i;gene_name=I")
        + g("4", "9", "Parent=i;gene_id=i;gene_name=I", kind="exon"),
        {"added_header_lines": 1, "added_genes": 1, "added_transcripts": 1}, _GTF),
    Mended("GTF that is GFF3", "gtf",
        GFF + g("5", "6", "Name=a%2Cb"), GFF + g("5", "6", "Name=a%2Cb"), runners=TEXT_ONLY),
    # -- columns of which a guess could make something else than what the catalog says
    Mended("BED with columns like those of a VCF", "bed",
        b"chr1\t1000\t1001\tA\tT\t30\tPASS\tGENE1;missense\nchr1\t500\t501\tC\tG\t60\tPASS\tGENE2;stop\n",
        b"chr1\t500\t501\tC\tG\t60\tPASS\tGENE2;stop\nchr1\t1000\t1001\tA\tT\t30\tPASS\tGENE1;missense\n"),
    Mended("BED of guides", "bed",
        b"chr1\t90\t113\tACGTACGTACGTACGTACGTTGG\tTGG\t0.71\t+\tg1\n",
        b"chr1\t90\t113\tACGTACGTACGTACGTACGTTGG\tTGG\t0.71\t+\tg1\n"),
    Mended("BED of motifs", "bed",
        b"chr1\t90\t96\tTATAAA\tTBP\t9.1\t+\t1e-4 p\n", b"chr1\t90\t96\tTATAAA\tTBP\t9.1\t+\t1e-4 p\n"),
    Mended("BED with the strand in column 7", "bed",
        b"chr1\t100\t200\t3\t960\tnameA\t+\t0\nchr1\t50\t90\t5\t100\tnameB\t-\t1\n",
        b"chr1\t50\t90\t5\t100\tnameB\t-\t1\nchr1\t100\t200\t3\t960\tnameA\t+\t0\n"),
    Mended("BED whose columns could be a read's", "bed",
        b"chr1\t100\t200\t3\t960\t*\tx\t1\t2\n", b"chr1\t100\t200\t3\t960\t*\tx\t1\t2\n"),
    Mended("strands as stars", "bed", b"chr1\t5\t9\tn\t0\t*\n", b"chr1\t5\t9\tn\t0\t*\n"),
    Mended("peaks with names like alleles", "broadpeak",
        b"chr1\t5\t9\tA\tC\t1\t2\tx3\t4\n", b"chr1\t5\t9\tA\tC\t1\t2\tx3\t4\n"),
    Mended("GFF whose source and type are numbers", "gff",
        b"chr1\t1\t2\t5\t9\t.\t+\t.\tx\n", b"chr1\t1\t2\t5\t9\t.\t+\t.\tx\n"),
    Mended("VCF without a version and with numbers as ids", "vcf",
        VCF.split(b"\n", 1)[1] + b"chr1\t5\t17\t<X>\t.\t.\t.\t.\n", VCF + b"chr1\t5\t17\t<X>\t.\t.\t.\t.\n",
        {"added_header_lines": 1}),
    Mended("a record without a header that BED and VCF could both have", "bed",
        b"chr1\t5\t17\tA\tC\t.\t.\t.\n", b"chr1\t5\t17\tA\tC\t.\t.\t.\n"),
    Mended("a sequence called PAR1", "bed", b"PAR1\t5\t9\n", b"PAR1\t5\t9\n"),
    Mended("a sequence called CRAM", "bed", b"CRAM\t5\t9\n", b"CRAM\t5\t9\n"),
    Mended("BED under the header of the VCF that it was made of", "bed", VCF + BED, VCF + BED),
    Mended("BED under more of such a header than is looked at first", "bed",
        VCF + b"##x\n" * 30_000 + BED, VCF + b"##x\n" * 30_000 + BED),
    Mended("peaks under the header of a GFF3", "broadpeak",
        b"##gff-version 3\nchr1\t5\t9\tp\t0\t.\t1\t2\t3\n", b"##gff-version 3\nchr1\t5\t9\tp\t0\t.\t1\t2\t3\n"),
    # -- nothing but a header
    Mended("a header of VCF", "vcf", VCF, VCF),
    Mended("a header of VCF in blocks", "vcf", bgzf(VCF), VCF),
    Mended("a header of VCF in gzip", "vcf", gzip.compress(VCF), VCF),
    Mended("a version of GFF3", "gff3", GFF, GFF),
    Mended("comments of GFF", "gff", b"# none\n", b"# none\n"),
    Mended("comments of GTF", "gtf", b"# none\n", GFF + b"# none\n", {"added_header_lines": 1}, _GTF),
    Mended("a comment in the header of VCF", "vcf", VCF.replace(b"\n", b"\n# by hand\n#x\n", 1) + v("5"),
        VCF + v("5"), {"comment_lines": 2}),
    Mended("comments of BED", "bed", b"# none\n", b"# none\n"),
    Mended("track lines", "narrowpeak", b"track name=x\n", b"", {"display_lines": 1}),
    Mended("headings", "bed", b"chrom\tstart\tend\n", b"", {"heading_lines": 1}),
    # -- packings
    Mended("gzip", "bed", gzip.compress(UNSORTED_BED), BED),
    Mended("gzip on gzip", "bed", gzip.compress(UNSORTED_BED[:15]) + gzip.compress(UNSORTED_BED[15:]), BED),
    Mended("gzip behind BGZF", "bed", bgzf(UNSORTED_BED[:15]) + gzip.compress(UNSORTED_BED[15:]), BED),
    Mended("BGZF behind gzip", "bed", gzip.compress(UNSORTED_BED[:15]) + bgzf(UNSORTED_BED[15:]), BED),
    Mended("gzip padded with zeros", "bed", gzip.compress(UNSORTED_BED) + bytes(512), BED),
    Mended("BGZF padded with zeros", "bed", bgzf(BED) + bytes(512), BED),
    Mended("BGZF without its end marker", "bed", bgzf(UNSORTED_BED)[:-28], BED, note="end marker is missing"),
    Mended("BGZF end markers within", "bed", bgzf(UNSORTED_BED[:15]) + bgzf(UNSORTED_BED[15:]), BED),
    Mended("bzip2", "bed", bz2.compress(UNSORTED_BED), BED, runners=NOT_KERNEL),
    Mended("bzip2 on bzip2", "gff3",
        bz2.compress(GFF + g("9", "9")) + bz2.compress(g("5", "6")), GFF + g("5", "6") + g("9", "9"),
        runners=NOT_KERNEL),
    Mended("Zstandard", "bed", zstd.compress(UNSORTED_BED), BED),
    Mended("Zstandard from a pipe", "bed", framed(UNSORTED_BED), BED),
    Mended("Zstandard, sorted", "gff3", zstd.compress(GFF + g("5", "6")), GFF + g("5", "6")),
    Mended("Zstandard on Zstandard", "bed", framed(UNSORTED_BED[:15]) + zstd.compress(UNSORTED_BED[15:]), BED),
    Mended("Zstandard with frames to skip", "vcf",
        SKIPPED + zstd.compress(VCF + v("9")) + SKIPPED * 2 + zstd.compress(b"") + framed(v("5")) + SKIPPED,
        VCF + v("5") + v("9")),
    Mended("Zstandard padded with zeros", "bed", zstd.compress(UNSORTED_BED) + bytes(512), BED),
    Mended("Zstandard of a wide window", "bed", framed(UNSORTED_BED, 23), BED),
    Mended("xz", "vcf", lzma.compress(VCF + v("9") + v("5")), VCF + v("5") + v("9"), runners=NOT_KERNEL),
]  # fmt: skip

REFUSED: Final = [
    # -- no records
    Refused("nothing", "bed", b"", "no content", runners=TEXT_ONLY),
    Refused("an empty file", "bed", b"", "the file is empty", runners=STEP_ONLY),
    Refused("nothing, compressed", "bed", gzip.compress(b""), "no content"),
    Refused("nothing, in blocks", "vcf", bgzf(b""), "no content"),
    Refused("blank lines only", "bed", b"\n\n", "no content"),
    Refused("no header of VCF", "vcf", b"##source=x\n", "no VCF header", runners=TEXT_ONLY),
    # -- cut and damaged
    Refused("gzip that is cut", "bed", gzip.compress(BED)[:-9], "truncated"),
    Refused("gzip that is cut in its header", "bed", b"\x1f\x8b\x08", "truncated"),
    Refused("gzip that is cut in its trailer", "bed", gzip.compress(BED)[:-1], "truncated"),
    Refused("BGZF that is cut in a block", "bed", bgzf(BED)[:-40], "truncated"),
    Refused("BGZF that is cut between blocks", "bed",
        bgzf(b"chr1\t1\t2\nchr1\t5")[:-28], "truncated: the end marker is missing", runners=frozenset({KERNEL, STEP})),
    Refused("other bytes behind BGZF", "bed", bgzf(BED) + b"more", "other bytes follow the compressed data"),
    Refused("many bytes behind BGZF", "bed", bgzf(BED) + b"more" * 99, "other bytes follow the compressed data"),
    Refused("bzip2 that is cut", "bed", bz2.compress(BED)[:-3], "truncated", runners=NOT_KERNEL),
    Refused("xz that is cut", "bed", lzma.compress(BED)[:-3], "truncated", runners=NOT_KERNEL),
    Refused("a wrong checksum", "bed", gzip.compress(BED)[:-8] + bytes(4) + gzip.compress(BED)[-4:], "corrupt"),
    Refused("other bytes behind gzip", "bed", gzip.compress(BED) + b"more", "other bytes follow"),
    Refused("no Zstandard at all", "bed", b"\x28\xb5\x2f\xfd" + b"x" * 100, "corrupt"),
    Refused("Zstandard that is cut", "bed", framed(BED)[:-6], "truncated"),
    Refused("Zstandard whose checksum is cut", "bed", framed(BED)[:-1], "truncated"),
    Refused("Zstandard cut in a frame to skip", "bed", zstd.compress(BED) + SKIPPED[:-1], "truncated"),
    Refused("half of Zstandard's magic behind it", "bed", zstd.compress(BED) + b"\x28\xb5", "other bytes"),
    Refused("a wrong checksum in Zstandard", "bed", framed(BED)[:-4] + bytes(4), "corrupt"),
    Refused("other bytes behind Zstandard", "bed", framed(BED) + b"more", "other bytes follow"),
    Refused("a window too wide", "bed", framed(BED, 28), "window of more than 128 MB"),
    Refused("an absurd window", "bed", framed(BED, 41), "window of more than 128 MB"),
    Refused("frames to skip only", "bed", SKIPPED, "no content"),
    Refused("bzip2 for the kernel", "bed", bz2.compress(BED), "bzip2-compressed", runners=frozenset({KERNEL})),
    Refused("xz for the kernel", "bed", lzma.compress(BED), "xz-compressed", runners=frozenset({KERNEL})),
    Refused("Zstandard twice", "bed", zstd.compress(zstd.compress(BED)), "compressed twice", runners=STEP_ONLY),
    Refused("gzip in Zstandard", "bed", zstd.compress(gzip.compress(BED)), "compressed twice", runners=STEP_ONLY),
    Refused("gzip twice", "bed", gzip.compress(gzip.compress(BED)), "compressed twice", runners=STEP_ONLY),
    Refused("zip", "bed", b"PK\x03\x04" + b"x" * 100, "zip", runners=NOT_KERNEL),
    # -- not what the catalog says
    Refused("BED called VCF", "vcf", BED, "the catalog says vcf, but the file is bed", runners=STEP_ONLY),
    Refused("BED called GFF3", "gff3",
        b"chr1\t10\t20\t7\t100\t+\t10\t20\t0\n", "the catalog says gff3, but the file is bed", runners=STEP_ONLY),
    Refused("PLINK's BED", "bed", b"\x6c\x1b\x01\xdc\x0f\xe7\x0f\x6b\x01",
        "the catalog says bed, but the file is a genotype table of PLINK", runners=STEP_ONLY),
    Refused("GFF called BED", "bed", g("5", "6"), "the catalog says bed, but the file is gff", runners=STEP_ONLY),
    Refused("GFF3 called VCF", "vcf",
        GFF + g("5", "6"), "the catalog says vcf, but the file is gff3", runners=STEP_ONLY),
    Refused("VCF called BED", "bed", VCF + v("5"), "the catalog says bed, but the file is vcf", runners=STEP_ONLY),
    Refused("VCF without header called BED", "bed",
        b"chr1\t5\trs17\tA\tC\t.\t.\t.\n", "the catalog says bed, but the file is vcf", runners=STEP_ONLY),
    Refused("SAM called BED", "bed",
        b"r\t0\tchr1\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\n", "the catalog says bed, but the file is sam",
        runners=STEP_ONLY),
    Refused("VCF.gz called BCF", "bcf",
        gzip.compress(VCF + v("5")), "the catalog says bcf, but the file is vcf", runners=STEP_ONLY),
    Refused("BED.gz called BAM", "bam",
        gzip.compress(BED), "the catalog says bam, but the file is bed", runners=STEP_ONLY),
    Refused("FASTA called GFF", "gff", b">chr1\nACGTACGT\n", "fasta", runners=STEP_ONLY),
    Refused("FASTQ called BED", "bed", b"@r\nACGT\n+\nIIII\n", "FASTQ", runners=STEP_ONLY),
    Refused("wiggle called BED", "bed",
        b"track type=wiggle_0\nfixedStep chrom=chr1 start=1 step=1\n5\n", "wig", runners=STEP_ONLY),
    Refused("a web page", "vcf", b"<!DOCTYPE html><html>Not found</html>", "web page", runners=STEP_ONLY),
    Refused("an answer of a bucket", "bed", b"<Error><Code>AccessDenied</Code></Error>", "XML", runners=STEP_ONLY),
    Refused("JSON", "bed", b'{"error": "expired"}', "JSON", runners=STEP_ONLY),
    Refused("a pointer of Git LFS", "bed",
        b"version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS pointer", runners=STEP_ONLY),
    Refused("an index", "bed", bgzf(b"TBI\1xxxx"), "tabix index", runners=STEP_ONLY),
    # -- characters
    Refused("UTF-16", "bed", BED.decode().encode("utf-16"), "a NUL byte", 1, TEXT_ONLY),
    Refused("UTF-16 without its mark", "bed", BED.decode().encode("utf-16-le"), "a NUL byte", 1, TEXT_ONLY),
    Refused("UTF-16 in gzip", "bed",
        gzip.compress(BED.decode().encode("utf-16")), "the file is UTF-16 text", runners=STEP_ONLY),
    *(
        Refused(f"{encoding} {called}", called, text.decode().encode(encoding), f"the file is {name} text: save it",
            runners=STEP_ONLY)
        for encoding, name in (
            ("utf-16", "UTF-16"),
            ("utf-16-le", "UTF-16"),
            ("utf-16-be", "UTF-16"),
            ("utf-32", "UTF-32"),
        )
        for called, text in (
            ("bed", BED),
            ("narrowpeak", BED),
            ("vcf", VCF + v("5")),
            ("gff", g("5", "6")),
            ("gff3", GFF + g("5", "6")),
            ("gtf", g("5", "6")),
            ("sam", b"@SQ\tSN:a\tLN:9\n"),
            ("broadpeak", BED),
            ("gappedpeak", BED),
            ("tagalign", BED),
            ("interact", BED),
            ("bedgraph", b"chr1\t5\t9\t1\n"),
            ("wig", b"variableStep chrom=chr1\n5 1\n"),
            ("bedpe", b"chr1\t5\t9\tchr2\t5\t9\n"),
            ("paf", b"q\t9\t0\t9\t+\tchr1\t9\t0\t9\t9\t9\t60\n"),
            ("pairs", b"## pairs format v1.0\nr\tchr1\t5\tchr2\t9\n"),
            ("seg", b"ID\tchrom\tloc.start\tloc.end\tseg.mean\ns\tchr1\t5\t9\t1\n"),
            ("interval_list", b"@HD\tVN:1.6\nchr1\t5\t9\t+\ta\n"),
            ("macs", b"# MACS\nchr\tstart\tend\tlength\n"),
            ("ucsc_table", b"#bin\tchrom\tchromStart\tchromEnd\n"),
            ("fasta", b">chr1\nACGT\n"),
            ("genbank", b"LOCUS       X 4 bp DNA\n"),
            ("embl", b"ID   X; SV 1; linear\n"),
            ("csv", b"a,b\n1,2\n"),
            ("tsv", b"a\tb\n1\t2\n"),
        )
    ),
    Refused("a NUL", "bed", b"chr1\t1\t2\nchr1\t3\0\t4\n", "a NUL byte", 2),
    Refused("a NUL in a comment", "bed", b"#\0\nchr1\t3\t4\n", "a NUL byte", 1),
    Refused("control characters", "bed", b"chr\x11\t5\t9\n" + BED, "control characters", runners=STEP_ONLY),
    Refused("carriage returns alone", "bed",
        BED.replace(b"\n", b"\r"), "carriage returns alone", runners=STEP_ONLY),
    Refused("carriage returns alone in VCF", "vcf",
        (VCF + v("5")).replace(b"\n", b"\r"), "carriage returns alone", runners=STEP_ONLY),
    # -- lines
    Refused("a line of 17 MB", "bed",
        b"chr1\t1\t2\nchr1\t5\t9\t" + b"x" * (17 << 20) + b"\n", "the line is longer", 2, NOT_KERNEL),
    Refused("a short line", "bed", b"chr1\t1\t2\nchr1\t5\n", "2 columns", 2),
    Refused("one column", "bed", b"chr1\n", "1 columns", 1),
    Refused("words among TABs", "bed", b"chr1\t1\t2\nthe end\n", "2 columns", 2),
    Refused("no name", "bed", b"\t1\t2\n", "the sequence name is empty", 1),
    Refused("a name that is a comment", "bed", b" #chr1 1 2\n", "the sequence name starts with #", 1),
    Refused("8 columns called narrowPeak", "narrowpeak", b"chr1\t1\t2\tp\t0\t.\t1\t2\n", "narrowPeak has 9", 1),
    Refused("12 columns called gappedPeak", "gappedpeak", b"chr1\t1\t2" + b"\t0" * 9 + b"\n", "gappedPeak has 15", 1),
    Refused("5 columns called tagAlign", "tagalign", b"chr1\t1\t2\tN\t0\n", "tagAlign has 6", 1),
    Refused("17 columns called interact", "interact", b"chr1\t1\t2" + b"\t0" * 14 + b"\n", "interact has 18", 1),
    Refused("8 columns called broadPeak", "broadpeak", b"chr1\t1\t2\tp\t0\t.\t1\t2\n", "broadPeak has 9", 1),
    Refused("8 columns called GFF3", "gff3",
        b"chr1\ts\tgene\t1\t2\t.\t+\t.\n", "8 columns, but GFF3 has 9", 1),
    Refused("VCF without any header", "vcf", v("5"), "a record without a header", 1),
    Refused("VCF of other samples behind", "vcf",
        VCF + v("5") + VCF[:-1] + b"\tFORMAT\tX\n", "several VCFs in one file", 7),
    Refused("VCF titles by spaces", "vcf",
        VCF.replace(b"M\tPOS\tID\tREF\tALT", b"M POS ID REF ALT") + v("5"), "names 4", 4),
    Refused("VCF with samples without titles", "vcf",
        b"##fileformat=VCFv4.2\n" + v("5", more="\tGT\t0/1"), "#CHROM line is missing", 2),
    Refused("a later record of VCF without its sample", "vcf",
        VCF[:-1] + b"\tFORMAT\tS\n" + v("5", more="\tGT\t0/1") + v("6"), "8 columns, but the #CHROM line names 10", 5),
    Refused("7 columns of VCF", "vcf", VCF + v("5").rsplit(b"\t", 1)[0] + b"\n", "7 columns", 4),
    # -- numbers
    Refused("a start after its end", "bed", b"chr1\t9\t3\n", "start 9 is after end 3", 1),
    Refused("a start after its end in GFF", "gff3", GFF + g("50", "6"), "start 50 is after end 6", 2),
    Refused("below 0", "bed", b"chr1\t-1\t3\n", "position -1 in column 2 is below 0", 1),
    Refused("GFF from 0", "gff3", g("0", "3"), "position 0 in column 4 is below 1", 1),
    Refused("VCF below 0", "vcf", VCF + v("-1"), "below 0", 4),
    Refused("2^31", "bed", b"chr1\t1\t2147483648\n", "position 2147483648 in column 3 is above 2147483647", 1),
    Refused("far beyond", "bed", b"chr1\t1\t1e99\n", "above 2147483647", 1),
    Refused("beyond all", "bed", b"chr1\t1\t99999999999999999999\n", "above 2147483647", 1),
    Refused("END beyond 2^31", "vcf", VCF + v("5", "END=4294967296", alt="<DEL>"), "ends at 4294967296", 4),
    Refused("END beyond all", "vcf", VCF + v("5", "END=99999999999"), "ends at 99999999999", 4),
    Refused("a fraction", "bed", b"chr1\t1.5\t3\n", "column 2 is '1.5', which is not a whole number", 1),
    Refused("a fraction by power", "bed", b"chr1\t15e-1\t40\n", "not a whole number", 1),
    Refused("thousands", "bed", b"chr1\t1,000\t2,000\n", "column 2 is '1,000'", 1),
    Refused("hexadecimal", "bed", b"chr1\t0x10\t40\n", "column 2 is '0x10'", 1),
    Refused("digits with a line between", "bed", b"chr1\t1_0\t20\n", "column 2 is '1_0'", 1),
    Refused("no digits", "bed", b"chr1\t.\t40\n", "not a whole number", 1),
    Refused("a power without digits", "bed", b"chr1\t1e\t40\n", "not a whole number", 1),
    Refused("infinity", "bed", b"chr1\tinf\tnan\n", "not a whole number", 1),
    Refused("an empty number", "bed", b"chr1\t1\t2\nchr1\t3\t\n", "column 3 is ''", 2),
    Refused("words", "bed", b"chr1\tone\ttwo\n", "column 2 is 'one'", 1),
    Refused("words split by spaces", "bed", b"chr1 one two\n", "column 2 is 'one'", 1),
]  # fmt: skip


_Row = TypeVar("_Row", Mended, Refused)


def rows_of(runner: str, table: Sequence[_Row]) -> list[ParameterSet]:
    """What pytest's parametrize takes: the rows that this runner reads, by their names."""
    return [pytest.param(row, id=row.what) for row in table if runner in row.runners]
