"""The Python normaliser and the kernel judge the same lines alike: the fallback changes nothing."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.programs.normalise import normalise

FILES = 150
ODD = {
    "bed": [
        b"chr1\t5\t9",
        b"chr1\t1e3\t2e3\tx",
        b"chr2\t007\t8.0",
        b"",
        b"  ",
        b"#c",
        b"# d",
        b"track x",
        b"browser\ty",
        b"track\t1\t2",
        b"chr1 5 6",
        b"chr\t1\t2\r",
        b"chrom\tstart\tend",
        b"chr1\t+5\t6",
        b"chr3\t 5\t6 ",
        b"chr1\t0\t0",
        b"chr1\t5 6",
        b"chr1\t5\t6 a\tb c",
        b"chr1 7\t8 x",
        b'"chr"\t"Beg"\t"End"',
        b"c chrom_start(0) e",
    ],
    "gff3": [
        b"c\ta b\tg\t5\t9\t.\t+\t.\tID=1",
        b"c\ta\tg\t1e3\t2000.0\t.\t+\t.\tID=1\r",
        b"###",
        b"### ",
        b"##sequence-region c 1 99",
        b"",
        b"##sequence-region c 1 99",
        b"##species x",
        b"#x",
        b"d\ta\tg\t1\t1\t.\t+\t.\tID=1\tmore",
        b"##sequence-region d  1 9 ",
        b"track x",
        b"##sequence-region e 1",
        b"seqid\tsource\ttype\tstart\tend",
    ],
    "gtf": [
        b'c\ts\tgene\t100\t900\t.\t+\t.\tgene_id "g1"; gene_name "a;b,c=d&e%f";',
        b'c\ts\ttranscript\t100\t900\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; tag "x"; tag "y"; ont z;',
        b'c\ts\texon\t100\t200\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; nr 1; tag "x"; n "";tag "q"',
        b'c\ts\texon\t1e3\t2e3\t.\t-\t.\tgene_id "g2"; transcript_id "t2"; gene_x 1; transcript_y "2" # last',
        b'c\ts\tCDS\t50\t60\t.\t?!\t0\ttranscript_id "t2"; gene_id "g2"',
        b'd\ts\texon\t7\t9\t.\t-\t.\tgene_id "NM_1"; transcript_id "NM_1";  ',
        b'd\ts\tmRNA\t7\t9\t.\t-\t.\tgene_id NM_1; transcript_id NM_1; Parent "x"; ID y; ID z\r',
        b'd\ts\tpseudogene\t3\t9\t.\t-\t.\tgene_id "p"; transcript_id "pt";',
        b'd\ts\tncRNA_gene\t3\t9\t.\t-\t.\tgene_id "p2"; transcript_id "";',
        b'd\ts\tstart_codon\t3\t5\t.\t-\t0\tgene_id "p2"; transcript_id "";',
        b"d\ts\texon\t5\t6\t.\t+\t.\t.",
        b"d\ts\texon\t5\t6\t.\t+\t.\t",
        b"d\ts\texon\t5\t6\t.\t+\t.\tID=q;Parent=r",
        b'd\ts\texon\t5\t6\t.\t+\t.\t"lone" ; = x;; \x01k\x7f "v\x02";a = "b"c "d" gene_id = g9 ;\tmore\tx',
        b'e\ts\texon\t5\t6\t.\t+\t.\tgene_id "g1"; note "unclosed; transcript_id "t1"',
        b"e\ts\texon\t5\t6\t.\t+\t.\t" + b"a b;" * 300 + b"gene_id late;" + b"c d;c e;",
        b'e\ts\texon\t5\t6\t.\t+\t.\ttranscript_id "t7"; tag "\xc3\xa9"',
        b'e\ts\tV_gene_segment\t5\t6\t.\t+\t.\ttranscript_id "t7"; gene_id "g7"',
        b'f\ts\tgene\t5\t6\t.\t+\t.\tgene_id "g8"; gene "SYM 1"; gene_name ""',
        b'f\ts\tgene\t5\t6\t.\t+\t.\tgene_id "g8"; gene_name "n"; Name ""',
        b'f\ts\ttranscript\t5\t6\t.\t+\t.\ttranscript_id "t8"; transcript_name "a=b;c"; gene_name "n"',
        b'f\ts\texon\t5\t6\t.\t+\t.\tgene_id "g9"; transcript_id "t9"; transcript_name "%"; gene_name "&"',
        b'f\ts\tgene\t5\t6\t.\t+\t.\tgene_name "without an id"',
        b"g\ts\tgene\t100\t900\t.\t+\t.\tg1",
        b"g\ts\ttranscript\t100\t900\t.\t+\t.\t g1.t1 ;",
        b"g\ts\tmRNA\t100\t950\t.\t+\t.\tg1.t2;;",
        b"g\ts\texon\t100\t950\t.\t+\t.\tg1.t2",
        b'g\ts\tCDS\t100\t300\t.\t+\t.\ttranscript_id "g1.t1"; gene_id "g1";',
        b'g\ts\tCDS\t8000000\t8000300\t.\t+\t.\ttranscript_id "g1.t1"; gene_id "g1";',
        b'g\ts\tCDS\t9000000\t9000300\t.\t+\t.\ttranscript_id "g1.t1";',
        b'g\ts\tCDS\t300\t500\t.\t-\t.\ttranscript_id "g1.t1"; gene_id "g3";',
        b'g\ts\ttranscript\t300\t500\t.\t-\t.\ttranscript_id "g1.t1"; gene_id "g3";',
        b'g\ts\ttranscript\t90000\t95000\t.\t-\t.\ttranscript_id "g1.t1"; gene_id "g3";',
        b'g\ts\tgene\t400\t600\t.\t-\t.\tgene_id "g3"; note "a \\"b\\"; c"; d "e\\"',
        b'g\ts\texon\t400\t600\t.\t-\t.\tgene_id "g3"; transcript_id "."; d "\\"\\"',
        b'g\ts\texon\t40000000\t40000001\t.\t-\t.\tgene_id "."; transcript_id "a\\"b" x',
        b"##format: gtf",
        b"##gff-version 2",
        b"##gff-version\t2.5 ",
        b"#!genome-build x",
        b"##gff-version 3",
        b"##gff-versionx",
        b"###",
        b"",
        b"track x",
    ],
    "vcf": [
        b"c\t5\t.\tA\tT\t.\t.\t.",
        b"c\t0\t.\tA\tT\t.\t.\tEND=9",
        b"c\t7\t.\tA\tT\t.\t.\t.\t",
        b"c\t8\t.\tA\tT\t.\t.\t.\tGT\t0/1\t" + b"\t" * 700,
        b"d\t1e2\t.\tACG\tT\t.\t.\tX;END=77;Y",
        b"d\t3\tEND=999999\tACG\tT\t.\ta;END=999998\tCIEND=999997",
        b"##fileformat=VCFv4.2",
        b"##x=1",
        b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
        b"",
        b"##contig=<ID=c,length=500>",
        b"##contig=<length=5,ID=zz>",
        b"#y",
        b"##contig=<assembly=b,ID=d>",
    ],
}
WRONG = {
    "bed": [
        b"chr1\t5",
        b"chr1\t9\t5",
        b"chr1\tx\t5",
        b"chr1\t-3\t5",
        b"\t1\t2",
        b"chr1\t1\t2147483648",
        b"chr1\t1.5\t2",
        b"chr\t1\t9e30",
    ],
    "gff3": [
        b"c\ta\tg\t0\t9\t.\t+\t.\tx",
        b"c\ta\tg\t9\t8\t.\t+\t.\tx",
        b"c\ta\tg\t1\t8\t.\t+\t.",
        b"##FASTA",
        b">c",
        b">c\ta\tg\t1\t8\t.\t+\t.\tx",
        b"##FASTA\n>c\nACGT\n\n#x\nACGT",
    ],
    "gtf": [
        b'c\ta\tg\t0\t9\t.\t+\t.\tgene_id "x"',
        b'c\ta\tg\t9\t8\t.\t+\t.\tgene_id "x"',
        b"c\ta\tg\t1\t8\t.\t+\t.",
        b"##FASTA",
        b">c",
        b">c\ta\tg\t1\t8\t.\t+\t.\tx",
        b"##FASTA\n>c\nACGT\n\n#x\nACGT",
    ],
    "vcf": [
        b"c\t5\t.\tA\tT\t.\t.",
        b"c\t-5\t.\tA\tT\t.\t.\t.",
        b"#CHROM\tPOS",
        b"c\t1\t.\tA\tT\t.\t.\tEND=99999999999",
    ],
}


def generated(format_name: str, seed: int, most_wrong: int) -> bytes:
    rng = random.Random(f"{format_name} {seed}")
    lines = rng.choices(ODD[format_name], k=rng.randint(1, 40))
    if format_name == "vcf" and rng.random() < 0.9:
        lines.insert(0, ODD["vcf"][5])
    if rng.random() < 0.4:
        for _ in range(rng.randint(1, most_wrong)):
            lines.insert(rng.randint(0, len(lines)), rng.choice(WRONG[format_name]))
    end = rng.choice((b"\n", b"\r\n"))
    return rng.choice((b"", b"\xef\xbb\xbf")) + end.join(lines) + rng.choice((b"", end))


@pytest.mark.parametrize("format_name", sorted(ODD))
@pytest.mark.parametrize("skip", [False, True], ids=["refusing", "skipping"])
def test_the_python_normaliser_judges_alike(format_name: str, skip: bool, kernel: Any) -> None:
    for seed in range(FILES):
        data = generated(format_name, seed, most_wrong=120 if skip and seed % 20 == 0 else 9 if skip else 1)
        reader = reader_of(format_name)
        reader.skip_bad_lines = skip
        run = kernel(format_name, data, "--refuse-empty", *(("--skip-bad-lines",) if skip else ()))
        try:
            records = b"".join(normalise([data], reader)).split(b"\n")[:-1]
            header = reader.completed(reader.finish())
            records += reader.added().split(b"\n")[:-1]
        except StepFailed as stopped:
            refused = stopped.failure.detail
            assert refused, (seed, data)
            assert run.status == 10, (seed, data, refused)
            assert _words(run.found.detail) == _words(refused), (seed, data)
            continue
        assert run.status == 0, (seed, data, run.stderr)
        assert sorted(run.records()) == sorted(records), (seed, data)
        assert run.text().startswith(header), (seed, data)
        assert run.found.counts == reader.counts, (seed, data)
        assert bad_lines(run) == reader.bad_lines, (seed, data)
        assert run.found.sorted == reader.ordered, (seed, data)
        assert (run.found.records, run.found.max_end) == (reader.records, reader.max_end), (seed, data)
        assert run.found.lines == reader.lines == data.count(b"\n") + (data[-1:] != b"\n"), (seed, data)
        assert run.found.lines == accounted_for(run.found), (seed, data)
        assert [(c.name, c.length) for c in run.found.contigs] == [
            (c.name, c.length) for c in reader.contigs()
        ], (seed, data)


def bad_lines(run: Any) -> list[int]:
    report = json.loads(run.out.with_name("report.json").read_bytes())
    numbers: list[int] = report["bad_lines"]
    return numbers


def accounted_for(found: Any) -> int:
    """Lines whose fate a report tells."""
    result = NormaliserReport(
        {
            "records": found.records,
            "header_lines": found.header_lines,
            "counts": dict(found.counts),
            "lines": 0,
        }
    )
    return result.accounted_lines


def _words(detail: str) -> str:
    return detail.replace("'", "").replace("\\r", "").replace("\r", "")
