"""Every oddity that real files were found to have, and what must become of it."""

from __future__ import annotations

import gzip
import subprocess
from typing import Any

import pysam
import pytest
from backports import zstd

VCF = b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
GFF = b"##gff-version 3\n"
PEAK = b"\tname\t0\t.\t1.5\t2.5\t3.5"


def bgzip(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


def gff(start: str, end: str, name: str = "chr1", attributes: str = "ID=x") -> bytes:
    return f"{name}\tsrc\tgene\t{start}\t{end}\t.\t+\t.\t{attributes}\n".encode()


def vcf(pos: str, ref: str = "A", alt: str = "T", info: str = ".", name: str = "chr1") -> bytes:
    return f"{name}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t{info}\n".encode()


MENDED: list[tuple[str, str, bytes, bytes, dict[str, int]]] = [
    ("plain", "bed", b"chr1\t1\t2\n", b"chr1\t1\t2\n", {}),
    ("no newline at the end", "bed", b"chr1\t1\t2", b"chr1\t1\t2\n", {}),
    ("byte order mark", "bed", b"\xef\xbb\xbfchr1\t1\t2\n", b"chr1\t1\t2\n", {"byte_order_mark": 1}),
    (
        "byte order mark before a header",
        "vcf",
        b"\xef\xbb\xbf" + VCF + vcf("5"),
        VCF + vcf("5"),
        {"byte_order_mark": 1},
    ),
    (
        "windows line ends",
        "bed",
        b"chr1\t1\t2\r\nchr1\t3\t4\r\n",
        b"chr1\t1\t2\nchr1\t3\t4\n",
        {"carriage_returns": 2},
    ),
    ("windows line end, cut", "bed", b"chr1\t1\t2\r", b"chr1\t1\t2\n", {"carriage_returns": 1}),
    ("many carriage returns", "bed", b"chr1\t1\t2\r\r\n", b"chr1\t1\t2\n", {"carriage_returns": 2}),
    (
        "blank lines",
        "bed",
        b"\nchr1\t1\t2\n \t \n\nchr1\t3\t4\n\n",
        b"chr1\t1\t2\nchr1\t3\t4\n",
        {"blank_lines": 4},
    ),
    (
        "track and browser lines",
        "bed",
        b"browser position chr7:1-2\ntrack name=x\nchr1\t1\t2\ntrack\ntrack\tname=y\nchr1\t3\t4\n",
        b"chr1\t1\t2\nchr1\t3\t4\n",
        {"display_lines": 4},
    ),
    ("a sequence named track", "bed", b"track\t1\t2\n", b"track\t1\t2\n", {}),
    ("a sequence named trackless", "bed", b"trackless\t1\t2\n", b"trackless\t1\t2\n", {}),
    (
        "comments on top stay",
        "bed",
        b"#one\n# two\nchr1\t1\t2\n#three\n",
        b"#one\n# two\nchr1\t1\t2\n",
        {"comment_lines": 1},
    ),
    (
        "columns split by spaces",
        "bed",
        b"chr1 1  2 name\nchr2 3 4\n",
        b"chr1\t1\t2\tname\nchr2\t3\t4\n",
        {"spaced_lines": 2},
    ),
    ("headings", "bed", b"chrom\tchromStart\tchromEnd\nchr1\t1\t2\n", b"chr1\t1\t2\n", {"heading_lines": 1}),
    (
        "headings split by spaces",
        "bed",
        b"chrom start end\nchr1 1 2\n",
        b"chr1\t1\t2\n",
        {"heading_lines": 1, "spaced_lines": 2},
    ),
    (
        "headings as people write them",
        "bed",
        (
            b'"Chr"\t"Start"\t"End"\nchr1\t1\t2\nchr\tbeg\tend\nchr\tPOS\tTO\n'
            b"chr\tStart (bp)\tx\ngene\ttxStart\ttxEnd\n"
        ),
        b"chr1\t1\t2\n",
        {"heading_lines": 5},
    ),
    (
        "headings of too few columns",
        "narrowpeak",
        b"chr start end\nchr1\t1\t2" + PEAK + b"\n",
        b"chr1\t1\t2" + PEAK + b"\n",
        {"heading_lines": 1, "spaced_lines": 1},
    ),
    (
        "headings of GFF",
        "gff",
        b"seqname\tsource\tfeature\tstart\tend\tscore\tstrand\tframe\n" + gff("5", "6"),
        gff("5", "6"),
        {"heading_lines": 1},
    ),
    (
        "TABs first and spaces later",
        "bed",
        b"chr1\t1\t2\ta b\nchr1 5 6 a b\nchr1\t7 8\tx\nchr1\t9\t10 y\n",
        b"chr1\t1\t2\ta b\nchr1\t5\t6\ta\tb\nchr1\t7\t8\tx\nchr1\t9\t10\ty\n",
        {"spaced_lines": 3},
    ),
    ("scientific", "bed", b"chr1\t1e3\t2E+3\n", b"chr1\t1000\t2000\n", {"respelt_coordinates": 2}),
    ("a decimal that is whole", "bed", b"chr1\t10.0\t20.\n", b"chr1\t10\t20\n", {"respelt_coordinates": 2}),
    (
        "one that only looks fractional",
        "bed",
        b"chr1\t1.5e1\t2.50e+2\n",
        b"chr1\t15\t250\n",
        {"respelt_coordinates": 2},
    ),
    ("down to whole", "bed", b"chr1\t1000e-3\t2\n", b"chr1\t1\t2\n", {"respelt_coordinates": 1}),
    ("leading zeros", "bed", b"chr1\t007\t010\n", b"chr1\t7\t10\n", {"respelt_coordinates": 2}),
    (
        "signs",
        "bed",
        b"chr1\t+7\t+10\textra\tmore\n",
        b"chr1\t7\t10\textra\tmore\n",
        {"respelt_coordinates": 2},
    ),
    ("minus nothing", "bed", b"chr1\t-0\t10\n", b"chr1\t0\t10\n", {"respelt_coordinates": 1}),
    ("nothing with a power", "bed", b"chr1\t0e99\t0.0e-99\n", b"chr1\t0\t0\n", {"respelt_coordinates": 2}),
    ("spaces around a number", "bed", b"chr1\t 1\t2 \n", b"chr1\t1\t2\n", {"respelt_coordinates": 2}),
    (
        "the highest position, spelt oddly",
        "bed",
        b"chr1\t0\t2147483647.0\n",
        b"chr1\t0\t2147483647\n",
        {"respelt_coordinates": 1},
    ),
    ("an empty interval", "bed", b"chr1\t5\t5\n", b"chr1\t5\t5\n", {}),
    ("odd names", "bed", b"HLA-A*01:01,x y\t1\t2\n", b"HLA-A*01:01,x y\t1\t2\n", {}),
    ("names that are no UTF-8", "bed", b"chr\xff\xfe\t1\t2\n", b"chr\xff\xfe\t1\t2\n", {}),
    ("names like addresses", "bed", b"http://x/##idx##y\t1\t2\n", b"http://x/##idx##y\t1\t2\n", {}),
    (
        "bytewise order",
        "bed",
        b"chr2\t1\t2\nchr10\t1\t2\nchr2\t0\t1\nChr1\t1\t2\n",
        b"Chr1\t1\t2\nchr10\t1\t2\nchr2\t0\t1\nchr2\t1\t2\n",
        {},
    ),
    (
        "a name that begins another",
        "bed",
        b"ab\t1\t2\na\t1\t2\nab\t1\t2\n",
        b"a\t1\t2\nab\t1\t2\nab\t1\t2\n",
        {},
    ),
    (
        "ties keep the input's order",
        "bed",
        b"c\t9\t9\nc\t1\t5\tx\nc\t1\t3\nc\t1\t5\ta\n",
        b"c\t1\t5\tx\nc\t1\t3\nc\t1\t5\ta\nc\t9\t9\n",
        {},
    ),
    (
        "natural order is kept when sorted",
        "bed",
        b"chr2\t1\t2\nchr10\t1\t9\nchr10\t1\t2\n",
        b"chr2\t1\t2\nchr10\t1\t9\nchr10\t1\t2\n",
        {},
    ),
    (
        "ten columns of narrowPeak",
        "narrowpeak",
        b"chr1\t1\t2" + PEAK + b"\t7\n",
        b"chr1\t1\t2" + PEAK + b"\t7\n",
        {},
    ),
    (
        "nine columns of narrowPeak",
        "narrowpeak",
        b"chr1\t1\t2" + PEAK + b"\n",
        b"chr1\t1\t2" + PEAK + b"\n",
        {},
    ),
    (
        "nine columns of broadPeak",
        "broadpeak",
        b"chr1\t1\t2" + PEAK + b"\n",
        b"chr1\t1\t2" + PEAK + b"\n",
        {},
    ),
    (
        "narrowPeak by spaces",
        "narrowpeak",
        b"chr1 1 2" + PEAK.replace(b"\t", b" ") + b" 7\n",
        b"chr1\t1\t2" + PEAK + b"\t7\n",
        {"spaced_lines": 1},
    ),
    (
        "FASTA in GFF3",
        "gff3",
        GFF + gff("5", "6") + b"##FASTA\n>chr1\nACGT\n",
        GFF + gff("5", "6"),
        {"sequence_lines": 3},
    ),
    (
        "FASTA without its mark",
        "gff3",
        GFF + gff("5", "6") + b">chr1\nACGT\n\nAC\n",
        GFF + gff("5", "6"),
        {"sequence_lines": 4},
    ),
    (
        "separators",
        "gff3",
        GFF + gff("9", "9") + b"###\n" + gff("5", "6") + b"### \n",
        GFF + gff("5", "6") + gff("9", "9"),
        {"separator_lines": 2},
    ),
    (
        "regions anywhere stand on top",
        "gff3",
        GFF + gff("5", "6") + b"##sequence-region chr1 1 99\n##sequence-region chr1 1 99\n",
        GFF + b"##sequence-region chr1 1 99\n" + gff("5", "6"),
        {"comment_lines": 1},
    ),
    (
        "comments inside GFF",
        "gff",
        GFF + gff("5", "6") + b"#!x\n##species y\n",
        GFF + gff("5", "6"),
        {"comment_lines": 2},
    ),
    (
        "GTF with all its parents",
        "gtf",
        b"##format: gtf\n#!build x\n"
        + gff("5", "9", attributes='gene_id "g";')
        + gff("5", "9", attributes='gene_id "g"; transcript_id "t"; tag "a"; tag "b,c";').replace(
            b"gene", b"mRNA", 1
        )
        + gff("5", "6", attributes='gene_id "g"; transcript_id "t"; n 1 # x').replace(b"gene", b"exon", 1),
        GFF
        + b"#!build x\n"
        + gff("5", "9", attributes="ID=g;gene_id=g")
        + gff("5", "9", attributes="ID=t;Parent=g;gene_id=g;transcript_id=t;tag=a,b%2Cc").replace(
            b"gene", b"mRNA", 1
        )
        + gff("5", "6", attributes="Parent=t;gene_id=g;transcript_id=t;n=1 # x").replace(b"gene", b"exon", 1),
        {"replaced_header_lines": 1, "added_header_lines": 1},
    ),
    (
        "GTF without parents, one id for gene and transcript",
        "gtf",
        gff("8", "9", attributes='gene_id "NM"; transcript_id "NM"; x "y"; # z').replace(b"gene", b"exon", 1)
        + gff("5", "6", attributes='gene_id "NM"; transcript_id "NM"; x "z"').replace(b"gene", b"exon", 1),
        GFF
        + gff("5", "9", attributes="ID=NM;gene_id=NM;transcript_id=NM").replace(b";transcript_id=NM", b"")
        + gff("5", "9", attributes="ID=transcript:NM;Parent=NM;gene_id=NM;transcript_id=NM").replace(
            b"gene", b"transcript", 1
        )
        + gff("5", "6", attributes="Parent=transcript:NM;gene_id=NM;transcript_id=NM;x=z").replace(
            b"gene", b"exon", 1
        )
        + gff("8", "9", attributes="Parent=transcript:NM;gene_id=NM;transcript_id=NM;x=y").replace(
            b"gene", b"exon", 1
        ),
        {"line_comments": 1, "added_header_lines": 1, "added_genes": 1, "added_transcripts": 1},
    ),
    (
        "genes and transcripts of GTF are called by their names",
        "gtf",
        gff("1", "9", attributes='gene_id "g"; gene "SYM"')
        + gff("2", "9", attributes='gene_id "h"; gene_name "a;b"; Name "own"')
        + gff(
            "3", "9", attributes='gene_id "g"; transcript_id "t"; transcript_name "SYM-1"; gene_name "SYM"'
        ).replace(b"gene", b"exon", 1)
        + gff("4", "9", attributes='gene_id "i"; gene_name "I"').replace(b"gene", b"exon", 1),
        GFF
        + gff("1", "9", attributes="ID=g;Name=SYM;gene_id=g;gene=SYM")
        + gff("2", "9", attributes="ID=h;gene_id=h;gene_name=a%3Bb;Name=own")
        + gff(
            "3",
            "9",
            attributes="ID=t;Parent=g;Name=SYM-1;gene_id=g;transcript_id=t;transcript_name=SYM-1;gene_name=SYM",
        ).replace(b"gene", b"transcript", 1)
        + gff(
            "3", "9", attributes="Parent=t;gene_id=g;transcript_id=t;transcript_name=SYM-1;gene_name=SYM"
        ).replace(b"gene", b"exon", 1)
        + gff("4", "9", attributes="ID=i;Name=I;gene_id=i;gene_name=I")
        + gff("4", "9", attributes="Parent=i;gene_id=i;gene_name=I").replace(b"gene", b"exon", 1),
        {"added_header_lines": 1, "added_genes": 1, "added_transcripts": 1},
    ),
    (
        "GTF that is GFF3",
        "gtf",
        GFF + gff("5", "6", attributes="Name=a%2Cb"),
        GFF + gff("5", "6", attributes="Name=a%2Cb"),
        {},
    ),
    (
        "parents before children",
        "gff3",
        gff("9", "9") + gff("1", "99", attributes="ID=g") + gff("1", "5", attributes="Parent=g"),
        gff("1", "99", attributes="ID=g") + gff("1", "5", attributes="Parent=g") + gff("9", "9"),
        {},
    ),
    (
        "spaces in GFF columns",
        "gff",
        b"c\tRef Seq x\tgene a\t2\t3\t.\t+\t.\ta b\nc\tb\tg\t1\t3\t.\t+\t.\ta\n",
        b"c\tb\tg\t1\t3\t.\t+\t.\ta\nc\tRef Seq x\tgene a\t2\t3\t.\t+\t.\ta b\n",
        {},
    ),
    ("GFF spelt oddly", "gff", gff("1e3", "2000.0"), gff("1000", "2000"), {"respelt_coordinates": 2}),
    ("POS 0 is the telomere", "vcf", VCF + vcf("1") + vcf("0"), VCF + vcf("0") + vcf("1"), {}),
    (
        "a header again",
        "vcf",
        VCF + vcf("9") + VCF + vcf("5"),
        VCF + vcf("5") + vcf("9"),
        {"repeated_header_lines": 3},
    ),
    (
        "headers before records only",
        "vcf",
        VCF + VCF + vcf("5"),
        VCF + vcf("5"),
        {"repeated_header_lines": 3},
    ),
    (
        "fileformat not on top",
        "vcf",
        b"##x=1\n" + VCF + vcf("5"),
        VCF.replace(b"##contig", b"##x=1\n##contig") + vcf("5"),
        {},
    ),
    (
        "fileformat missing",
        "vcf",
        VCF.split(b"\n", 1)[1] + vcf("5"),
        VCF + vcf("5"),
        {"added_header_lines": 1},
    ),
    (
        "titles missing",
        "vcf",
        b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n" + vcf("5"),
        VCF + vcf("5"),
        {"added_header_lines": 1},
    ),
    (
        "sequences that are not declared",
        "vcf",
        VCF + vcf("9", name="z") + vcf("5", name="a*") + vcf("6", name="c,d") + vcf("7", name="*a"),
        VCF.replace(b"#CHROM", b"##contig=<ID=a*>\n##contig=<ID=z>\n#CHROM")
        + vcf("9", name="z")
        + vcf("5", name="a*")
        + vcf("6", name="c,d")
        + vcf("7", name="*a"),
        {"added_header_lines": 2},
    ),
    (
        "VCF ties keep the input's order",
        "vcf",
        VCF + vcf("9") + vcf("5", "AC") + vcf("5"),
        VCF + vcf("5", "AC") + vcf("5") + vcf("9"),
        {},
    ),
    (
        "VCF with columns that have no titles",
        "vcf",
        VCF + vcf("5") + vcf("6")[:-1] + b"\t\t\n" + vcf("7")[:-1] + b"\tGT\t0/1\n",
        VCF + vcf("5") + vcf("6")[:-1] + b"\t\t\n" + vcf("7")[:-1] + b"\tGT\t0/1\n",
        {"wide_records": 2},
    ),
    (
        "a VCF of thousands of columns",
        "vcf",
        VCF[:-1]
        + b"\tFORMAT"
        + b"\ts" * 9000
        + b"\n"
        + vcf("5")[:-1]
        + b"\tGT"
        + b"\t1" * 9000
        + b"\n"
        + vcf("6")[:-1]
        + b"\tGT"
        + b"\t" * 9001
        + b"\n",
        VCF[:-1]
        + b"\tFORMAT"
        + b"\ts" * 9000
        + b"\n"
        + vcf("5")[:-1]
        + b"\tGT"
        + b"\t1" * 9000
        + b"\n"
        + vcf("6")[:-1]
        + b"\tGT"
        + b"\t" * 9001
        + b"\n",
        {"wide_records": 1},
    ),
    ("VCF spelt oddly", "vcf", VCF + vcf("1e3"), VCF + vcf("1000"), {"respelt_coordinates": 1}),
    ("header only", "vcf", VCF, VCF, {}),
    ("comments only", "bed", b"# x\n", b"# x\n", {}),
    ("nothing", "bed", b"", b"", {}),
]

REFUSED: list[tuple[str, str, bytes, int, int | None, str]] = [
    ("a NUL", "bed", b"chr1\t1\t2\nchr1\t3\0\t4\n", 10, 2, "NUL"),
    ("a NUL in a comment", "bed", b"#\0\nchr1\t3\t4\n", 10, 1, "NUL"),
    ("UTF-16", "bed", "chr1\t1\t2\n".encode("utf-16"), 10, 1, "NUL"),
    ("a short line", "bed", b"chr1\t1\t2\nchr1\t5\n", 10, 2, "2 columns"),
    ("words in place of positions", "bed", b"chr1 one two\n", 10, 1, "column 2 is 'one'"),
    ("one column", "bed", b"chr1\n", 10, 1, "1 columns"),
    ("no name", "bed", b"\t1\t2\n", 10, 1, "name is empty"),
    ("a name that is a comment", "bed", b" #chr1 1 2\n", 10, 1, "comment"),
    ("start after end", "bed", b"chr1\t5\t4\n", 10, 1, "start 5 is after end 4"),
    ("start after end in GFF", "gff3", GFF + gff("6", "5"), 10, 2, "start 6 is after end 5"),
    ("negative", "bed", b"chr1\t-1\t4\n", 10, 1, "position -1 in column 2 is below 0"),
    ("GFF from 0", "gff", gff("0", "5"), 10, 1, "position 0 in column 4 is below 1"),
    ("negative POS", "vcf", VCF + vcf("-1"), 10, 4, "below 0"),
    ("beyond 2^31-1", "bed", b"chr1\t1\t2147483648\n", 10, 1, "above 2147483647"),
    ("far beyond", "bed", b"chr1\t1\t1e99\n", 10, 1, "above 2147483647"),
    ("more digits than a word holds", "bed", b"chr1\t1\t99999999999999999999\n", 10, 1, "above 2147483647"),
    ("a fraction", "bed", b"chr1\t1.5\t4\n", 10, 1, "column 2 is '1.5', which is not a whole number"),
    ("a fraction by power", "bed", b"chr1\t15e-1\t40\n", 10, 1, "not a whole number"),
    ("words", "bed", b"chr1\tone\t4\n", 10, 1, "column 2 is 'one'"),
    ("hexadecimal", "bed", b"chr1\t0x10\t40\n", 10, 1, "not a whole number"),
    ("no digits", "bed", b"chr1\t.\t40\n", 10, 1, "not a whole number"),
    ("power without digits", "bed", b"chr1\t1e\t40\n", 10, 1, "not a whole number"),
    ("infinity", "bed", b"chr1\tinf\tnan\n", 10, 1, "not a whole number"),
    ("an empty number", "bed", b"chr1\t\t40\n", 10, 1, "not a whole number"),
    ("eight columns of narrowPeak", "narrowpeak", b"chr1\t1\t2\ta\t0\t.\t1\t2\n", 10, 1, "narrowPeak has 9"),
    ("eight columns of broadPeak", "broadpeak", b"chr1\t1\t2\ta\t0\t.\t1\t2\n", 10, 1, "broadPeak has 9"),
    ("eight columns of GFF", "gff3", gff("1", "2").rsplit(b"\t", 1)[0] + b"\n", 10, 1, "GFF3 has 9"),
    ("VCF without header", "vcf", vcf("5"), 10, 1, "without a header"),
    (
        "VCF with samples without titles",
        "vcf",
        b"##fileformat=VCFv4.2\n" + vcf("5")[:-1] + b"\tGT\t0/1\n",
        10,
        2,
        "#CHROM line is missing",
    ),
    (
        "a later VCF record without a sample",
        "vcf",
        VCF[:-1] + b"\tFORMAT\tX\n" + vcf("5")[:-1] + b"\tGT\t0/1\n" + vcf("6"),
        10,
        5,
        "8 columns, but the #CHROM line names 10",
    ),
    (
        "VCF titles split by spaces",
        "vcf",
        VCF.replace(b"\tID\tREF", b" ID REF") + vcf("5"),
        10,
        4,
        "8 columns, but the #CHROM line names 6",
    ),
    (
        "two VCFs of different samples",
        "vcf",
        VCF + vcf("5") + VCF[:-1] + b"\tFORMAT\tX\n",
        10,
        7,
        "other columns",
    ),
    ("END beyond all", "vcf", VCF + vcf("5", info="END=99999999999"), 10, 4, "ends at 99999999999"),
    ("no VCF at all", "vcf", b"", 10, None, "no VCF header"),
    ("bzip2", "bed", b"BZh91AY&SY", 10, None, "bzip2-compressed"),
    ("no Zstandard", "bed", b"\x28\xb5\x2f\xfd" + b"x" * 100, 10, None, "corrupt"),
    ("cut Zstandard", "bed", zstd.compress(b"chr1\t1\t2\n" * 99)[:-1], 11, None, "truncated"),
    (
        "cut in Zstandard's magic",
        "bed",
        zstd.compress(b"chr1\t1\t2\n") + b"\x28\xb5",
        10,
        None,
        "other bytes",
    ),
    ("a window too wide", "bed", b"\x28\xb5\x2f\xfd\x00\x90\x01\0\0", 10, None, "more than 128 MB"),
    (
        "bytes after Zstandard",
        "bed",
        zstd.compress(b"chr1\t1\t2\n") + b"more",
        10,
        None,
        "other bytes follow",
    ),
    ("xz", "bed", b"\xfd7zXZ\0\0", 10, None, "xz-compressed"),
    ("cut gzip", "bed", gzip.compress(b"chr1\t1\t2\n" * 99)[:-9], 11, None, "truncated"),
    ("cut within gzip's header", "bed", b"\x1f\x8b\x08", 11, None, "truncated"),
    ("cut gzip trailer", "bed", gzip.compress(b"chr1\t1\t2\n")[:-1], 11, None, "truncated"),
    ("a wrong checksum", "bed", gzip.compress(b"chr1\t1\t2\n")[:-8] + bytes(8), 10, None, "corrupt"),
    ("bytes after gzip", "bed", gzip.compress(b"chr1\t1\t2\n") + b"more", 10, None, "other bytes follow"),
]


@pytest.mark.parametrize(
    ("why", "format_name", "source", "wanted", "counts"), MENDED, ids=[m[0] for m in MENDED]
)
def test_what_can_be_put_right_is(
    why: str, format_name: str, source: bytes, wanted: bytes, counts: dict[str, int], sanitised: Any
) -> None:
    run = sanitised(format_name, source)
    assert run.status == 0, run.stderr
    assert run.text() == wanted
    assert run.found.counts == counts
    assert run.found.records == sum(not line.startswith(b"#") for line in wanted.splitlines())
    assert run.found.record_bytes + run.found.header_bytes == len(wanted)
    assert run.found.header_lines == sum(line.startswith(b"#") for line in wanted.splitlines())


@pytest.mark.parametrize(
    ("why", "format_name", "source", "status", "line", "words"), REFUSED, ids=[r[0] for r in REFUSED]
)
def test_what_cannot_be_put_right_is_refused_by_name(
    why: str, format_name: str, source: bytes, status: int, line: int | None, words: str, sanitised: Any
) -> None:
    run = sanitised(format_name, source)
    assert (run.status, run.found.line) == (status, line), run.stderr
    assert words in run.found.detail
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
    for packed in (source, bgzip(source)):
        run = sanitised(format_name, packed, "--refuse-empty", *keep)
        assert run.status == 0, run.stderr
        assert not run.found.kept
        assert run.text() == text
        with pysam.TabixFile(str(run.out), index=str(run.index)) as opened:
            assert opened.contigs == []


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
    run = sanitised("vcf", head + vcf("5", name="zz") + vcf("5", name='q"\\\x01'))
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
