"""The table of odd interval files: what each becomes, what the manifest says of it, or why it is refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pysam
import pytest
from backports import zstd

from gooseherd.domain.failures import Reason

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

VCF = b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
GFF = b"##gff-version 3\n"
PEAK = b"\tp\t0\t.\t1\t2\t3"
BED = b"chr1\t5\t9\ta\nchr1\t20\t30\tb\n"
UNSORTED_BED = b"chr1\t20\t30\tb\nchr1\t5\t9\ta\n"


def v(
    pos: str, info: str = ".", *, name: str = "chr1", ref: str = "A", alt: str = "C", more: str = ""
) -> bytes:
    return f"{name}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t{info}{more}\n".encode()


def g(start: str, end: str, attributes: str = "ID=a", source: str = "s") -> bytes:
    return f"chr1\t{source}\tgene\t{start}\t{end}\t.\t+\t.\t{attributes}\n".encode()


def bgzf(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


def framed(data: bytes, window: int = 0) -> bytes:
    """A Zstandard frame that does not say its size, as zstd makes it of a pipe; `window` in powers of two."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
    frame = bytearray(packer.compress(data) + packer.flush())
    if window:
        frame[5] = window - 10 << 3  # RFC 8878 §3.1.1.1.2
    return bytes(frame)


SKIPPED = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"aside"


def declaring(*names: str) -> bytes:
    above, title = VCF.split(b"#CHROM")
    return above + b"".join(b"##contig=<ID=%b>\n" % name.encode() for name in names) + b"#CHROM" + title


class Mended(NamedTuple):
    """An odd source and what comes out: the whole text, what was counted, what is told."""

    what: str
    file_format: str
    source: bytes
    text: bytes
    counts: Mapping[str, int] = MappingProxyType({})
    note: str = ""
    csi: bool = False


MENDED = [
    # -- lines that are no records
    Mended(
        "track and browser lines",
        "bed",
        b"browser hide all\ntrack name=x\nchr1\t20\t30\nzchr2\t5\t9\n",
        b"chr1\t20\t30\nzchr2\t5\t9\n",
        {"display_lines": 2},
        "track and browser",
    ),
    Mended(
        "a track line in the middle",
        "bed",
        b"chr1\t20\t30\ntrack name=x\nchr1\t5\t9\n",
        b"chr1\t5\t9\nchr1\t20\t30\n",
        {"display_lines": 1},
        "track and browser",
    ),
    Mended(
        "a sequence called track", "bed", b"track\t20\t30\ntrack\t5\t9\n", b"track\t5\t9\ntrack\t20\t30\n"
    ),
    Mended(
        "bedGraph by its track line",
        "bed",
        b"track type=bedGraph\nchr1\t5\t9\t0.5\n",
        b"chr1\t5\t9\t0.5\n",
        {"display_lines": 1},
        "track and browser",
    ),
    Mended(
        "blank lines",
        "bed",
        b"\nchr1\t20\t30\n\n  \n\t\nchr1\t5\t9\n\n",
        b"chr1\t5\t9\nchr1\t20\t30\n",
        {"blank_lines": 5},
        "blank lines",
    ),
    Mended(
        "column headings",
        "bed",
        b"chrom\tstart\tend\tname\n" + UNSORTED_BED,
        BED,
        {"heading_lines": 1},
        "headings",
    ),
    *(
        Mended(
            f"{heading!r} as headings", "bed", heading + b"\n" + BED, BED, {"heading_lines": 1}, "headings"
        )
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
    Mended(
        "headings of GTF",
        "gff",
        b"seqname\tsource\tfeature\tstart\tend\tscore\tstrand\tframe\tattribute\n" + g("5", "6"),
        g("5", "6"),
        {"heading_lines": 1},
        "headings",
    ),
    Mended(
        "column headings as a comment", "bed", b"#chrom\tstart\n" + UNSORTED_BED, b"#chrom\tstart\n" + BED
    ),
    Mended(
        "comments among records",
        "bed",
        b"#top\nchr1\t20\t30\n#mid\nchr1\t5\t9\n",
        b"#top\nchr1\t5\t9\nchr1\t20\t30\n",
        {"comment_lines": 1},
        "comment lines",
    ),
    # -- ends of lines and columns
    Mended(
        "CRLF in BED",
        "bed",
        UNSORTED_BED.replace(b"\n", b"\r\n"),
        BED,
        {"carriage_returns": 2},
        "carriage returns",
    ),
    Mended(
        "CRLF in VCF",
        "vcf",
        (VCF + v("9") + v("5")).replace(b"\n", b"\r\n"),
        VCF + v("5") + v("9"),
        {"carriage_returns": 5},
        "carriage returns",
    ),
    Mended(
        "CRLF on some lines",
        "gff3",
        GFF + g("9", "9")[:-1] + b"\r\n" + g("5", "6"),
        GFF + g("5", "6") + g("9", "9"),
        {"carriage_returns": 1},
        "carriage returns",
    ),
    Mended("no newline at the end", "bed", UNSORTED_BED[:-1], BED),
    Mended(
        "split by spaces",
        "bed",
        b"chr1 20 30 name\nchr1  5 9 n2\n",
        b"chr1\t5\t9\tn2\nchr1\t20\t30\tname\n",
        {"spaced_lines": 2},
        "split by TAB",
    ),
    Mended(
        "split by TABs first and by spaces later",
        "bed",
        b"chr1\t20\t30\ta b\nchr1 5 9 c d\nchr1\t7 8\tx\nchr1\t9\t10 y\n",
        b"chr1\t5\t9\tc\td\nchr1\t7\t8\tx\nchr1\t9\t10\ty\nchr1\t20\t30\ta b\n",
        {"spaced_lines": 3},
        "split by TAB",
    ),
    Mended(
        "narrowPeak without the column of summits",
        "narrowpeak",
        b"chr1\t5\t9" + PEAK + b"\n",
        b"chr1\t5\t9" + PEAK + b"\n",
    ),
    Mended(
        "narrowPeak split by spaces",
        "narrowpeak",
        b"chr1 5 9" + PEAK.replace(b"\t", b" ") + b" 4\n",
        b"chr1\t5\t9" + PEAK + b"\t4\n",
        {"spaced_lines": 1},
        "split by TAB",
    ),
    Mended(
        "spaces in a column",
        "gff",
        g("50", "60", source="RefSeq x") + g("5", "6"),
        g("5", "6") + g("50", "60", source="RefSeq x"),
    ),
    Mended("empty columns at the end", "bed", b"chr1\t5\t9\t\t\n", b"chr1\t5\t9\t\t\n"),
    # -- characters
    Mended(
        "a byte order mark",
        "bed",
        b"\xef\xbb\xbf" + UNSORTED_BED,
        BED,
        {"byte_order_mark": 1},
        "byte order mark",
    ),
    Mended(
        "a byte order mark above a VCF",
        "vcf",
        b"\xef\xbb\xbf" + VCF + v("5"),
        VCF + v("5"),
        {"byte_order_mark": 1},
        "byte order mark",
    ),
    Mended(
        "names in UTF-8", "bed", "chr\u00e9\t5\t9\t\u4e2d\n".encode(), "chr\u00e9\t5\t9\t\u4e2d\n".encode()
    ),
    Mended("names in Latin-1", "bed", b"chr\xe9\t5\t9\t\xfc\n", b"chr\xe9\t5\t9\t\xfc\n"),
    Mended(
        "names with signs",
        "bed",
        b'HLA-A*01:01\t5\t9\nchr,2\t1\t2\nchr 3\t1\t2\nchr"4\t1\t3\n$(id)\t1\t2\nhttp://x\t1\t2\n',
        b'HLA-A*01:01\t5\t9\nchr,2\t1\t2\nchr 3\t1\t2\nchr"4\t1\t3\n$(id)\t1\t2\nhttp://x\t1\t2\n',
    ),
    Mended("a name of 10 kB", "bed", b"c" * 10_000 + b"\t5\t9\n", b"c" * 10_000 + b"\t5\t9\n"),
    Mended(
        "a line of 70 kB",
        "bed",
        b"chr1\t20\t30\nchr1\t5\t9\t" + b"x" * 70_000 + b"\n",
        b"chr1\t5\t9\t" + b"x" * 70_000 + b"\nchr1\t20\t30\n",
    ),
    # -- numbers
    Mended(
        "scientific notation",
        "bed",
        b"chr1\t1e3\t2.0e3\nchr1\t10.0\t20\n",
        b"chr1\t10\t20\nchr1\t1000\t2000\n",
        {"respelt_coordinates": 3},
        "respelt",
    ),
    Mended(
        "leading zeros and signs",
        "bed",
        b"chr1\t010\t+20\n",
        b"chr1\t10\t20\n",
        {"respelt_coordinates": 2},
        "respelt",
    ),
    Mended(
        "scientific notation in VCF",
        "vcf",
        VCF + v("1e3") + v("5"),
        VCF + v("5") + v("1000"),
        {"respelt_coordinates": 1},
        "respelt",
    ),
    Mended("position 0 of VCF", "vcf", VCF + v("5") + v("0"), VCF + v("0") + v("5")),
    Mended("empty intervals", "bed", b"chr1\t5\t5\nchr1\t3\t3\n", b"chr1\t3\t3\nchr1\t5\t5\n"),
    Mended(
        "beyond 2^29 in BED",
        "bed",
        b"chr1\t600000000\t600000001\nchr1\t1\t2\n",
        b"chr1\t1\t2\nchr1\t600000000\t600000001\n",
        note="only a CSI index",
        csi=True,
    ),
    Mended(
        "beyond 2^29 in VCF",
        "vcf",
        VCF + v("600000000") + v("5"),
        VCF + v("5") + v("600000000"),
        note="only a CSI index",
        csi=True,
    ),
    Mended(
        "beyond 2^29 by END alone",
        "vcf",
        VCF + v("5", "END=600000000", alt="<DEL>"),
        VCF + v("5", "END=600000000", alt="<DEL>"),
        note="only a CSI index",
        csi=True,
    ),
    Mended(
        "the last position TBI can hold",
        "bed",
        b"chr1\t536870911\t536870912\n",
        b"chr1\t536870911\t536870912\n",
    ),
    Mended(
        "the highest position",
        "gff3",
        g("5", "2147483647"),
        g("5", "2147483647"),
        note="only a CSI index",
        csi=True,
    ),
    # -- order
    Mended(
        "natural order of names",
        "bed",
        b"chr1\t1\t2\nchr2\t1\t2\nchr10\t1\t2\n",
        b"chr1\t1\t2\nchr2\t1\t2\nchr10\t1\t2\n",
    ),
    Mended(
        "names that come and go",
        "bed",
        b"b\t5\t6\na\t1\t2\nb\t1\t2\na\t0\t1\n",
        b"a\t0\t1\na\t1\t2\nb\t1\t2\nb\t5\t6\n",
    ),
    Mended("equal records", "bed", b"a\t1\t2\na\t1\t2\na\t1\t2\n", b"a\t1\t2\na\t1\t2\na\t1\t2\n"),
    Mended(
        "numbers not in order of their letters",
        "bed",
        b"a\t10\t11\na\t9\t10\na\t100\t101\n",
        b"a\t9\t10\na\t10\t11\na\t100\t101\n",
    ),
    # -- VCF
    Mended(
        "VCF records with columns that have no titles",
        "vcf",
        VCF + v("9", more="\tGT\t0/1") + v("5", more="\t\t"),
        VCF + v("5", more="\t\t") + v("9", more="\tGT\t0/1"),
        {"wide_records": 2},
        "more columns than the #CHROM line names",
    ),
    Mended(
        "a later VCF record with TABs at its end, ready otherwise",
        "vcf",
        bgzf(VCF + v("5") + v("6", more="\t")),
        VCF + v("5") + v("6", more="\t"),
        {"wide_records": 1},
        "own bytes",
    ),
    Mended(
        "a header in its own order",
        "vcf",
        VCF.replace(b"##contig", b"##z=1\n##contig").replace(b"#CHROM", b"##a=2\n#CHROM") + v("5"),
        VCF.replace(b"##contig", b"##z=1\n##contig").replace(b"#CHROM", b"##a=2\n#CHROM") + v("5"),
    ),
    Mended(
        "the version not on top",
        "vcf",
        b"##a=1\n" + VCF + v("5"),
        VCF.replace(b"##contig", b"##a=1\n##contig") + v("5"),
    ),
    Mended(
        "the header again",
        "vcf",
        VCF + v("9") + VCF + v("5"),
        VCF + v("5") + v("9"),
        {"repeated_header_lines": 3},
        "repeated header",
    ),
    Mended(
        "two versions",
        "vcf",
        b"##fileformat=VCFv4.1\n" + VCF + v("5"),
        VCF.replace(b"4.2", b"4.1") + v("5"),
        {"repeated_header_lines": 1},
        "repeated header",
    ),
    Mended(
        "no version",
        "vcf",
        VCF.split(b"\n", 1)[1] + v("5"),
        VCF + v("5"),
        {"added_header_lines": 1},
        "were added",
    ),
    Mended(
        "contigs that are not declared",
        "vcf",
        VCF + v("5", "XX=1", name="chr9") + v("2") + v("5", name="HLA-A*01:01") + v("1"),
        declaring("HLA-A*01:01", "chr9")
        + v("5", name="HLA-A*01:01")
        + v("1")
        + v("2")
        + v("5", "XX=1", name="chr9"),
        {"added_header_lines": 2},
        "were added",
    ),
    Mended(
        "contigs that cannot be declared",
        "vcf",
        VCF + v("5", name="a,b") + v("5", name="<c>") + v("5", name="=d"),
        VCF + v("5", name="a,b") + v("5", name="<c>") + v("5", name="=d"),
    ),
    Mended(
        "a contig that is not declared, ready otherwise",
        "vcf",
        bgzf(VCF + v("5", name="chr9")),
        VCF + v("5", name="chr9"),
        note="own bytes",
    ),
    Mended(
        "an END below POS", "vcf", VCF + v("50", "END=5", alt="<DEL>"), VCF + v("50", "END=5", alt="<DEL>")
    ),
    Mended(
        "gVCF blocks",
        "vcf",
        VCF + v("50", "END=90", alt="<NON_REF>") + v("5", "END=49", alt="<NON_REF>"),
        VCF + v("5", "END=49", alt="<NON_REF>") + v("50", "END=90", alt="<NON_REF>"),
    ),
    # -- GFF
    Mended(
        "GFF3 with ##FASTA",
        "gff3",
        GFF + g("5", "6") + b"##FASTA\n>chr1\nACGT\tA\n",
        GFF + g("5", "6"),
        {"sequence_lines": 3},
        "FASTA",
    ),
    Mended(
        "GFF3 with FASTA unannounced",
        "gff3",
        GFF + g("5", "6") + b">chr1\nACGT\n",
        GFF + g("5", "6"),
        {"sequence_lines": 2},
        "FASTA",
    ),
    Mended(
        "### between genes",
        "gff3",
        GFF + g("9", "9") + b"###\n" + g("5", "6") + b"###\n",
        GFF + g("5", "6") + g("9", "9"),
        {"separator_lines": 2},
        "### separators",
    ),
    Mended(
        "regions between genes",
        "gff3",
        GFF + g("9", "9") + b"##sequence-region chr1 1 99\n" + g("5", "6"),
        GFF + b"##sequence-region chr1 1 99\n" + g("5", "6") + g("9", "9"),
    ),
    Mended(
        "GFF2 attributes", "gff", g("5", "6", 'gene "a"; note "b c"'), g("5", "6", 'gene "a"; note "b c"')
    ),
    Mended(
        "GFF2 without attributes",
        "gff",
        g("9", "9").rsplit(b"\t", 1)[0] + b"\n" + g("5", "6"),
        g("5", "6") + g("9", "9").rsplit(b"\t", 1)[0] + b"\n",
    ),
    Mended("GFF3 under the name of GFF", "gff", GFF + g("5", "6"), GFF + g("5", "6")),
    Mended("GTF under the name of GFF3", "gff3", g("5", "6", 'gene_id "a";'), g("5", "6", 'gene_id "a";')),
    # -- columns of which a guess could make something else than what the catalog says
    Mended(
        "BED with columns like those of a VCF",
        "bed",
        b"chr1\t1000\t1001\tA\tT\t30\tPASS\tGENE1;missense\nchr1\t500\t501\tC\tG\t60\tPASS\tGENE2;stop\n",
        b"chr1\t500\t501\tC\tG\t60\tPASS\tGENE2;stop\nchr1\t1000\t1001\tA\tT\t30\tPASS\tGENE1;missense\n",
    ),
    Mended(
        "BED of guides",
        "bed",
        b"chr1\t90\t113\tACGTACGTACGTACGTACGTTGG\tTGG\t0.71\t+\tg1\n",
        b"chr1\t90\t113\tACGTACGTACGTACGTACGTTGG\tTGG\t0.71\t+\tg1\n",
    ),
    Mended(
        "BED of motifs",
        "bed",
        b"chr1\t90\t96\tTATAAA\tTBP\t9.1\t+\t1e-4 p\n",
        b"chr1\t90\t96\tTATAAA\tTBP\t9.1\t+\t1e-4 p\n",
    ),
    Mended(
        "BED with the strand in column 7",
        "bed",
        b"chr1\t100\t200\t3\t960\tnameA\t+\t0\nchr1\t50\t90\t5\t100\tnameB\t-\t1\n",
        b"chr1\t50\t90\t5\t100\tnameB\t-\t1\nchr1\t100\t200\t3\t960\tnameA\t+\t0\n",
    ),
    Mended(
        "BED whose columns could be a read's",
        "bed",
        b"chr1\t100\t200\t3\t960\t*\tx\t1\t2\n",
        b"chr1\t100\t200\t3\t960\t*\tx\t1\t2\n",
    ),
    Mended("strands as stars", "bed", b"chr1\t5\t9\tn\t0\t*\n", b"chr1\t5\t9\tn\t0\t*\n"),
    Mended(
        "peaks with names like alleles",
        "broadpeak",
        b"chr1\t5\t9\tA\tC\t1\t2\tx3\t4\n",
        b"chr1\t5\t9\tA\tC\t1\t2\tx3\t4\n",
    ),
    Mended(
        "GFF whose source and type are numbers",
        "gff",
        b"chr1\t1\t2\t5\t9\t.\t+\t.\tx\n",
        b"chr1\t1\t2\t5\t9\t.\t+\t.\tx\n",
    ),
    Mended(
        "VCF without a version and with numbers as ids",
        "vcf",
        VCF.split(b"\n", 1)[1] + b"chr1\t5\t17\t<X>\t.\t.\t.\t.\n",
        VCF + b"chr1\t5\t17\t<X>\t.\t.\t.\t.\n",
        {"added_header_lines": 1},
        "were added",
    ),
    Mended(
        "a record without a header that BED and VCF could both have",
        "bed",
        b"chr1\t5\t17\tA\tC\t.\t.\t.\n",
        b"chr1\t5\t17\tA\tC\t.\t.\t.\n",
    ),
    Mended("a sequence called PAR1", "bed", b"PAR1\t5\t9\n", b"PAR1\t5\t9\n"),
    Mended("a sequence called CRAM", "bed", b"CRAM\t5\t9\n", b"CRAM\t5\t9\n"),
    # -- nothing but a header
    Mended("a header of VCF", "vcf", VCF, VCF),
    Mended("a header of VCF in blocks", "vcf", bgzf(VCF), VCF),
    Mended("a header of VCF in gzip", "vcf", gzip.compress(VCF), VCF),
    Mended("a version of GFF3", "gff3", GFF, GFF),
    Mended("comments of GFF", "gff", b"# none\n", b"# none\n"),
    Mended("comments of GTF", "gtf", b"# none\n", GFF + b"# none\n", {"added_header_lines": 1}, "rewritten"),
    Mended("comments of BED", "bed", b"# none\n", b"# none\n"),
    Mended("track lines", "narrowpeak", b"track name=x\n", b"", {"display_lines": 1}, "track and browser"),
    Mended("headings", "bed", b"chrom\tstart\tend\n", b"", {"heading_lines": 1}, "headings"),
    # -- packings
    Mended("gzip", "bed", gzip.compress(UNSORTED_BED), BED),
    Mended("gzip on gzip", "bed", gzip.compress(UNSORTED_BED[:15]) + gzip.compress(UNSORTED_BED[15:]), BED),
    Mended("gzip behind BGZF", "bed", bgzf(UNSORTED_BED[:15]) + gzip.compress(UNSORTED_BED[15:]), BED),
    Mended("BGZF behind gzip", "bed", gzip.compress(UNSORTED_BED[:15]) + bgzf(UNSORTED_BED[15:]), BED),
    Mended("gzip padded with zeros", "bed", gzip.compress(UNSORTED_BED) + bytes(512), BED),
    Mended("BGZF without its end marker", "bed", bgzf(UNSORTED_BED)[:-28], BED, note="end marker is missing"),
    Mended("BGZF end markers within", "bed", bgzf(UNSORTED_BED[:15]) + bgzf(UNSORTED_BED[15:]), BED),
    Mended("bzip2", "bed", bz2.compress(UNSORTED_BED), BED),
    Mended(
        "bzip2 on bzip2",
        "gff3",
        bz2.compress(GFF + g("9", "9")) + bz2.compress(g("5", "6")),
        GFF + g("5", "6") + g("9", "9"),
    ),
    Mended("Zstandard", "bed", zstd.compress(UNSORTED_BED), BED),
    Mended("Zstandard from a pipe", "bed", framed(UNSORTED_BED), BED),
    Mended("Zstandard, sorted", "gff3", zstd.compress(GFF + g("5", "6")), GFF + g("5", "6")),
    Mended(
        "Zstandard on Zstandard", "bed", framed(UNSORTED_BED[:15]) + zstd.compress(UNSORTED_BED[15:]), BED
    ),
    Mended(
        "Zstandard with frames to skip",
        "vcf",
        SKIPPED + zstd.compress(VCF + v("9")) + SKIPPED * 2 + zstd.compress(b"") + framed(v("5")) + SKIPPED,
        VCF + v("5") + v("9"),
    ),
    Mended("Zstandard padded with zeros", "bed", zstd.compress(UNSORTED_BED) + bytes(512), BED),
    Mended("Zstandard of a wide window", "bed", framed(UNSORTED_BED, 23), BED),
    Mended("xz", "vcf", lzma.compress(VCF + v("9") + v("5")), VCF + v("5") + v("9")),
]

REFUSED: list[tuple[str, str, bytes, str]] = [
    # -- no records
    ("nothing", "bed", b"", "the file is empty"),
    ("nothing, compressed", "bed", gzip.compress(b""), "no content"),
    ("blank lines only", "bed", b"\n\n", "no content"),
    ("nothing, in blocks", "vcf", bgzf(b""), "no content"),
    # -- cut and damaged
    ("gzip that is cut", "bed", gzip.compress(BED)[:-9], "truncated"),
    ("BGZF that is cut in a block", "bed", bgzf(BED)[:-40], "truncated"),
    ("bzip2 that is cut", "bed", bz2.compress(BED)[:-3], "truncated"),
    ("xz that is cut", "bed", lzma.compress(BED)[:-3], "truncated"),
    ("a wrong checksum", "bed", gzip.compress(BED)[:-8] + bytes(4) + gzip.compress(BED)[-4:], "corrupt"),
    ("other bytes behind gzip", "bed", gzip.compress(BED) + b"more", "other bytes follow"),
    ("no Zstandard at all", "bed", b"\x28\xb5\x2f\xfd" + b"x" * 100, "corrupt"),
    ("Zstandard that is cut", "bed", framed(BED)[:-6], "truncated"),
    ("Zstandard whose checksum is cut", "bed", framed(BED)[:-1], "truncated"),
    ("Zstandard cut in a frame to skip", "bed", zstd.compress(BED) + SKIPPED[:-1], "truncated"),
    ("a wrong checksum in Zstandard", "bed", framed(BED)[:-4] + bytes(4), "corrupt"),
    ("other bytes behind Zstandard", "bed", framed(BED) + b"more", "other bytes follow"),
    ("a window too wide", "bed", framed(BED, 28), "window of more than 128 MB"),
    ("an absurd window", "bed", framed(BED, 41), "window of more than 128 MB"),
    ("frames to skip only", "bed", SKIPPED, "no content"),
    ("Zstandard twice", "bed", zstd.compress(zstd.compress(BED)), "compressed twice"),
    ("gzip in Zstandard", "bed", zstd.compress(gzip.compress(BED)), "compressed twice"),
    ("zip", "bed", b"PK\x03\x04" + b"x" * 100, "zip"),
    ("gzip twice", "bed", gzip.compress(gzip.compress(BED)), "compressed twice"),
    # -- not what the catalog says
    ("BED called VCF", "vcf", BED, "the catalog says vcf, but the file is bed"),
    (
        "BED called GFF3",
        "gff3",
        b"chr1\t10\t20\t7\t100\t+\t10\t20\t0\n",
        "the catalog says gff3, but the file is bed",
    ),
    ("GFF called BED", "bed", g("5", "6"), "the catalog says bed, but the file is gff"),
    ("GFF3 called VCF", "vcf", GFF + g("5", "6"), "the catalog says vcf, but the file is gff3"),
    ("VCF called BED", "bed", VCF + v("5"), "the catalog says bed, but the file is vcf"),
    (
        "VCF without header called BED",
        "bed",
        b"chr1\t5\trs17\tA\tC\t.\t.\t.\n",
        "the catalog says bed, but the file is vcf",
    ),
    (
        "SAM called BED",
        "bed",
        b"r\t0\tchr1\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\n",
        "the catalog says bed, but the file is sam",
    ),
    ("VCF.gz called BCF", "bcf", gzip.compress(VCF + v("5")), "the catalog says bcf, but the file is vcf"),
    ("BED.gz called BAM", "bam", gzip.compress(BED), "the catalog says bam, but the file is bed"),
    ("FASTA called GFF", "gff", b">chr1\nACGTACGT\n", "FASTA"),
    ("FASTQ called BED", "bed", b"@r\nACGT\n+\nIIII\n", "FASTQ"),
    ("wiggle called BED", "bed", b"track type=wiggle_0\nfixedStep chrom=chr1 start=1 step=1\n5\n", "wiggle"),
    ("a web page", "vcf", b"<!DOCTYPE html><html>Not found</html>", "web page"),
    ("an answer of a bucket", "bed", b"<Error><Code>AccessDenied</Code></Error>", "XML"),
    ("JSON", "bed", b'{"error": "expired"}', "JSON"),
    (
        "a pointer of Git LFS",
        "bed",
        b"version https://git-lfs.github.com/spec/v1\noid x\n",
        "Git LFS pointer",
    ),
    ("an index", "bed", bgzf(b"TBI\1xxxx"), "tabix index"),
    # -- characters
    *(
        (f"{encoding} {called}", called, text.decode().encode(encoding), f"the file is {name} text: save it")
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
            ("csv", b"a,b\n1,2\n"),
            ("tsv", b"a\tb\n1\t2\n"),
        )
    ),
    ("UTF-16 in gzip", "bed", gzip.compress(BED.decode().encode("utf-16")), "the file is UTF-16 text"),
    ("a NUL", "bed", b"chr1\t1\t2\nchr1\t3\0\t4\n", "line 2: a NUL byte"),
    ("control characters", "bed", b"chr\x11\t5\t9\n" + BED, "control characters"),
    ("carriage returns alone", "bed", BED.replace(b"\n", b"\r"), "carriage returns alone"),
    ("carriage returns alone in VCF", "vcf", (VCF + v("5")).replace(b"\n", b"\r"), "carriage returns alone"),
    (
        "a line of 17 MB",
        "bed",
        b"chr1\t1\t2\nchr1\t5\t9\t" + b"x" * (17 << 20) + b"\n",
        "line 2: the line is longer",
    ),
    # -- lines
    ("a short line", "bed", b"chr1\t1\t2\nchr1\t5\n", "line 2: 2 columns"),
    ("words among TABs", "bed", b"chr1\t1\t2\nthe end\n", "line 2: 2 columns"),
    ("no name", "bed", b"\t1\t2\n", "the sequence name is empty"),
    ("8 columns called narrowPeak", "narrowpeak", b"chr1\t1\t2\tp\t0\t.\t1\t2\n", "narrowPeak has 9"),
    ("8 columns called broadPeak", "broadpeak", b"chr1\t1\t2\tp\t0\t.\t1\t2\n", "broadPeak has 9"),
    (
        "8 columns called GFF3",
        "gff3",
        b"chr1\ts\tgene\t1\t2\t.\t+\t.\n",
        "8 columns, but GFF3 has 9",
    ),
    (
        "a later VCF record without its sample",
        "vcf",
        VCF[:-1] + b"\tFORMAT\tS\n" + v("5", more="\tGT\t0/1") + v("6"),
        "line 5: 8 columns, but the #CHROM line names 10",
    ),
    ("VCF without any header", "vcf", v("5"), "a record without a header"),
    (
        "VCF of other samples behind",
        "vcf",
        VCF + v("5") + VCF[:-1] + b"\tFORMAT\tX\n",
        "several VCFs in one file",
    ),
    (
        "VCF titles by spaces",
        "vcf",
        VCF.replace(b"M\tPOS\tID\tREF\tALT", b"M POS ID REF ALT") + v("5"),
        "names 4",
    ),
    # -- numbers
    ("a start after its end", "bed", b"chr1\t9\t3\n", "start 9 is after end 3"),
    ("a start after its end in GFF", "gff3", GFF + g("50", "6"), "line 2: start 50 is after end 6"),
    ("below 0", "bed", b"chr1\t-1\t3\n", "position -1 in column 2 is below 0"),
    ("GFF from 0", "gff3", g("0", "3"), "below 1"),
    ("beyond 2^31", "bed", b"chr1\t1\t3000000000\n", "above 2147483647"),
    ("beyond all", "bed", b"chr1\t1\t99999999999999999999\n", "above 2147483647"),
    ("END beyond 2^31", "vcf", VCF + v("5", "END=4294967296", alt="<DEL>"), "ends at 4294967296"),
    ("a fraction", "bed", b"chr1\t1.5\t3\n", "column 2 is '1.5'"),
    ("thousands", "bed", b"chr1\t1,000\t2,000\n", "column 2 is '1,000'"),
    ("hexadecimal", "bed", b"chr1\t0x10\t40\n", "not a whole number"),
    ("words", "bed", b"chr1\tone\ttwo\n", "not a whole number"),
]


@pytest.mark.parametrize("row", MENDED, ids=[row.what for row in MENDED])
async def test_what_can_be_put_right_is_and_the_manifest_says_so(
    process: Process, tool: Tool, row: Mended
) -> None:
    made = await process(row.source, row.file_format)
    assert made.failure is None, made.failure
    text = tool("bgzip", "-dc", made.data)
    assert text == row.text
    records = [line for line in row.text.decode("latin-1").splitlines() if not line.startswith("#")]
    counts = {what: n for what, n in made.counts.items() if what != "max_end"}
    assert counts == {"records": len(records), **row.counts}
    assert row.note in made.notes
    assert bool(made.notes) == bool(row.note)
    assert made.index.endswith(".csi" if row.csi else ".tbi")
    assert ("Gosling cannot read CSI" in made.notes) == row.csi
    assert answered(made.data, made.index, records) == records
    if not records:
        with pysam.TabixFile(made.data, index=made.index) as opened:
            assert opened.contigs == []


def answered(data: str, index: str, records: list[str]) -> list[str]:
    """All sequences, one after the other, through the index."""
    found = []
    with pysam.TabixFile(data, index=index, encoding="latin-1") as opened:
        for name in dict.fromkeys(record.split("\t")[0] for record in records):
            quoted = f"{{{name}}}" if ":" in name else name
            found += list(opened.fetch(region=quoted))
    return found


@pytest.mark.parametrize(
    ("file_format", "source", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_what_cannot_be_put_right_is_refused_and_the_reason_says_why(
    process: Process, file_format: str, source: bytes, expected: str
) -> None:
    made = await process(source, file_format)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert expected in made.failure.detail


async def test_a_hundred_thousand_sequences_are_all_found(process: Process) -> None:
    names = 100_000
    made = await process(b"".join(b"s%d\t%d\t%d\n" % (i * 37 % names, i, i + 1) for i in range(names)), "bed")
    assert made.counts["records"] == names
    assert len(made.outputs[0].contigs) == names
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert len(opened.contigs) == names
        assert [len(list(opened.fetch(f"s{i}"))) for i in range(0, names, 9973)] == [1] * 11


async def test_a_name_that_lies_about_the_packing_changes_nothing(process: Process, tool: Tool) -> None:
    for source, name in (
        (gzip.compress(UNSORTED_BED), "x.bed"),
        (UNSORTED_BED, "x.bed.gz"),
        (UNSORTED_BED, "x.vcf.bz2"),
        (zstd.compress(UNSORTED_BED), "x.bed.zst"),
    ):
        made = await process(source, "bed", filename=name)
        assert tool("bgzip", "-dc", made.data) == BED


async def test_a_deletion_is_found_by_its_end(process: Process) -> None:
    made = await process(VCF + v("5", "END=900", alt="<DEL>"), "vcf")
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert len(list(opened.fetch("chr1", 800, 850))) == 1


async def test_what_tabix_cannot_find_by_design_does_not_count_as_a_broken_index(process: Process) -> None:
    # Nothing overlaps an interval that begins and ends at 0.
    made = await process(b"chr1\t0\t0\nchr2\t5\t6\n", "bed")
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert opened.contigs == ["chr1", "chr2"]


async def test_empty_items_of_a_bigbed_are_kept_wherever_they_lie(
    process: Process, tool: Tool, bigbed: Callable[..., bytes]
) -> None:
    items = [("c1", 0, 0, "a"), ("c1", 0, 9, "b"), ("c2", 7, 7, "c"), ("c2", 1_000_000, 1_000_000, "d")]
    made = await process(bigbed(items), "bigbed")
    assert made.failure is None, made.failure
    text = b"c1\t0\t0\ta\nc1\t0\t9\tb\nc2\t7\t7\tc\nc2\t1000000\t1000000\td\n"
    assert tool("bgzip", "-dc", made.data) == text
