"""Whatever stands among the records of a text format, none is lost, and every other line is counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import Inflation
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.programs.normalise import normalise, report

TITLES = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEADS = {"vcf": ["##fileformat=VCFv4.3", TITLES], "gff3": ["##gff-version 3"]}
RECORDS = {
    "bed": "c{0}\t{1}\t{2}\trecord{3}",
    "narrowpeak": "c{0}\t{1}\t{2}\trecord{3}\t0\t.\t1\t2\t3\t4",
    "gff": "c{0}\ts\tgene\t{1}\t{2}\t.\t+\t.\trecord{3}",
    "gff3": "c{0}\ts\tgene\t{1}\t{2}\t.\t+\t.\tID=record{3}",
    "gtf": 'c{0}\ts\tgene\t{1}\t{2}\t.\t+\t.\tgene_id "record{3}";',
    "vcf": "c{0}\t{1}\trecord{3}\tA\tC\t.\t.\t.",
}
SECTIONS = (
    ("##FASTA", ">c1", "ACGT", "ACGT"),
    ("##FASTA", ">c1 a sequence", "ACGT", "", ">c2", "ACGT"),
    (">c1", "ACGTACGTNNN", "MKV*"),
    ("##FASTA",),
    (">c1\ta\tb", "AC"),
    (">c1\ts\tgene\t5\t9\t.\t+\t.\tID=a",),
    ("##gff-version 3", "##sequence-region c1 1 9999"),
    ("###",),
    ("##fileformat=VCFv4.3", TITLES),
    ("##contig=<ID=c1>",),
    ("track name=x", "browser position c1:1-9"),
    ("track\t5\t9",),
    ("browser",),
    ("", "  ", "\t"),
    ("# remark", "#c1\t5\t9"),
    ("\r", "#x\r"),
    ("chrom\tstart\tend",),
    ("total 9",),
    ("<html>",),
    ("{}",),
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """(format, the lines, those of them that are records)."""
    name = draw(st.sampled_from(sorted(RECORDS)))
    places = st.tuples(st.integers(1, 3), st.integers(1, 1 << 20), st.integers(0, 1 << 20))
    records = [
        RECORDS[name].format(contig, start, start + length, number)
        for number, (contig, start, length) in enumerate(draw(st.lists(places, min_size=1, max_size=12)))
    ]
    groups: list[Sequence[str]] = [[record] for record in records]
    for section in draw(st.lists(st.sampled_from(SECTIONS), max_size=4)):
        groups.insert(draw(st.integers(0, len(groups))), section)
    return name, [*HEADS.get(name, ()), *chain.from_iterable(groups)], records


@settings(max_examples=300)
@given(files(), st.integers(1, 400))
@example(
    (
        "gff3",
        ["##FASTA", ">c1", "ACGT", RECORDS["gff3"].format(1, 5, 9, 0)],
        [RECORDS["gff3"].format(1, 5, 9, 0)],
    ),
    400,
)
@example(
    ("gtf", ["##gff-version 3", RECORDS["gtf"].format(1, 5, 9, 0)], [RECORDS["gtf"].format(1, 5, 9, 0)]), 400
)
def test_a_record_is_in_the_result_or_its_file_is_refused_at_a_line(
    file: tuple[str, list[str], list[str]], chunk: int
) -> None:
    name, lines, records = file
    text = "".join(line + "\n" for line in lines).encode()
    reader, body, header = reader_of(name), "", b""
    refused: Failure | None = None
    try:
        chunks = (text[at : at + chunk] for at in range(0, len(text), chunk))
        body = b"".join(normalise(chunks, reader)).decode()
        header = reader.completed(reader.finish())
    except StepFailed as error:
        refused = error.failure
    if refused is not None:
        assert refused.reason is Reason.SOURCE_INVALID
        number = re.match(r"line (\d+): ", refused.detail)
        assert number is not None
        assert lines[int(number[1]) - 1] not in records
        return
    # Some lines of other sections are records by their columns.
    assert _names(body.splitlines()) == _names(records)
    told = NormaliserReport(report(reader, Inflation(), header, len(body), kept=False))
    assert told.accounted_lines == told.source_lines == len(lines)


def _names(lines: Sequence[str]) -> list[str]:
    """The records' own names, in order."""
    return [found[0] for line in lines if (found := re.search(r"record\d+", line))]
