"""The Python normaliser and the kernel judge the same lines alike: the fallback changes nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gooseherd.domain.processing import StepFailed
from gooseherd.processing.text import normalise
from gooseherd.processing.textformats import reader_of
from gooseherd.processing.workbench import Report

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
    ],
    "vcf": [
        b"c\t5\t.\tA\tT\t.\t.\t.",
        b"c\t0\t.\tA\tT\t.\t.\tEND=9",
        b"d\t1e2\t.\tACG\tT\t.\t.\tX;END=77;Y",
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
    ],
    "vcf": [
        b"c\t5\t.\tA\tT\t.\t.",
        b"c\t-5\t.\tA\tT\t.\t.\t.",
        b"#CHROM\tPOS",
        b"c\t1\t.\tA\tT\t.\t.\tEND=99999999999",
    ],
}


def generated(format_name: str, seed: int) -> bytes:
    rng = random.Random(f"{format_name} {seed}")
    lines = rng.choices(ODD[format_name], k=rng.randint(1, 40))
    if format_name == "vcf" and rng.random() < 0.9:
        lines.insert(0, ODD["vcf"][5])
    if rng.random() < 0.4:
        lines.insert(rng.randint(0, len(lines)), rng.choice(WRONG[format_name]))
    end = rng.choice((b"\n", b"\r\n"))
    return rng.choice((b"", b"\xef\xbb\xbf")) + end.join(lines) + rng.choice((b"", end))


@pytest.mark.parametrize("format_name", sorted(ODD))
def test_the_python_normaliser_judges_alike(format_name: str, kernel: Any) -> None:
    for seed in range(FILES):
        data = generated(format_name, seed)
        reader = reader_of(format_name)
        run = kernel(format_name, data, "--refuse-empty", "--ties", "input")
        try:
            records = b"".join(normalise([data], reader)).split(b"\n")[:-1]
            header = reader.finish()
        except StepFailed as stopped:
            refused = stopped.failure.detail
        else:
            refused = ""
        if refused:
            assert run.status == 10, (seed, data, refused)
            assert _words(run.found.detail) == _words(refused), (seed, data)
            continue
        assert run.status == 0, (seed, data, run.stderr)
        assert sorted(run.records()) == sorted(records), (seed, data)
        assert run.text().startswith(header), (seed, data)
        assert run.found.counts == reader.counts, (seed, data)
        assert (run.found.records, run.found.max_end) == (reader.records, reader.max_end), (seed, data)
        assert run.found.lines == reader.lines == data.count(b"\n") + (data[-1:] != b"\n"), (seed, data)
        assert run.found.lines == accounted_for(run.found), (seed, data)
        assert [(c.name, c.length) for c in run.found.contigs] == [
            (c.name, c.length) for c in reader.contigs()
        ], (seed, data)


def accounted_for(found: Any) -> int:
    """Lines whose fate a report tells."""
    told = Report(
        {
            "records": found.records,
            "header_lines": found.header_lines,
            "counts": dict(found.counts),
            "lines": 0,
        }
    )
    return told.accounted_lines


def _words(detail: str) -> str:
    return detail.replace("'", "").replace("\\r", "").replace("\r", "")
