"""Whatever stands among the records of a text format, none is lost, and every other line is counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import Inflation
from gooseherd.processing.formats.fasta import FastaReader
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.formats.records import Records
from gooseherd.processing.formats.two_ended import LAYOUTS, TwoEnded
from gooseherd.processing.formats.wig import WigReader
from gooseherd.processing.programs.normalise import normalise, report
from gooseherd.processing.programs.table_to_bed import READERS

TITLES = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
SEG = "ID\tchrom\tloc.start\tloc.end\tseg.mean"
MACS = "chr\tstart\tend\tlength\tname"
UCSC = "#bin\tchrom\tchromStart\tchromEnd\tname"
SQ = "@SQ\tSN:c1\tLN:9999999"
HEADS = {
    "vcf": ["##fileformat=VCFv4.3", TITLES],
    "gff3": ["##gff-version 3"],
    "seg": [SEG],
    "macs": [MACS],
    "ucsc_table": [UCSC],
    "interval_list": ["@HD\tVN:1.6", SQ],
    "sam": [SQ, SQ.replace("c1", "c2"), SQ.replace("c1", "c3")],
    "pairs": ["## pairs format v1.0", "#columns: readID chrom1 pos1 chrom2 pos2"],
}
PEAK = "c{0}\t{1}\t{2}\trecord{3}\t0\t."
RECORDS = {
    "bed": "c{0}\t{1}\t{2}\trecord{3}",
    "narrowpeak": PEAK + "\t1\t2\t3\t4",
    "broadpeak": PEAK + "\t1\t2\t3",
    "gappedpeak": PEAK + "\t{1}\t{2}\t0\t1\t1\t0\t1\t2\t3",
    "tagalign": PEAK,
    "interact": "c{0}\t{1}\t{2}\trecord{3}\t0\t1\tx\t0\tc{0}\t{1}\t{2}\ta\t.\tc{0}\t{1}\t{2}\tb\t.",
    "bedgraph": "c{0}\t{1}\t{2}\t3.25e-{3}",
    "gff": "c{0}\ts\tgene\t{1}\t{2}\t.\t+\t.\trecord{3}",
    "gff3": "c{0}\ts\tgene\t{1}\t{2}\t.\t+\t.\tID=record{3}",
    "gtf": 'c{0}\ts\tgene\t{1}\t{2}\t.\t+\t.\tgene_id "record{3}";',
    "vcf": "c{0}\t{1}\trecord{3}\tA\tC\t.\t.\t.",
    "sam": "record{3}\t0\tc{0}\t{1}\t60\t4M\t*\t0\t0\tACGT\tIIII",
    "bedpe": "c{0}\t{1}\t{2}\tc2\t{1}\t{2}\trecord{3}",
    "paf": "record{3}\t9999999\t{1}\t{2}\t+\tc{0}\t9999999\t{1}\t{2}\t1\t1\t60",
    "pairs": "record{3}\tc{0}\t{1}\tc2\t{2}\t+\t-",
    "seg": "record{3}\tc{0}\t{1}\t{2}\t0.5",
    "interval_list": "c{0}\t{1}\t{2}\t+\trecord{3}",
    "macs": "c{0}\t{1}\t{2}\t9\trecord{3}",
    "ucsc_table": "585\tc{0}\t{1}\t{2}\trecord{3}",
    "wig": "{1} 3.25e-{3}",
    "fasta": ">record{3} c{0}",
}
ABOVE = {"wig": "variableStep chrom=c{0}"}
BELOW = {"fasta": "ACGTACGT"}
"""Lines that stand with a record."""
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
    ("@HD\tVN:1.6", SQ),
    ("@CO\tremark",),
    (SEG,),
    (MACS,),
    (UCSC,),
    ("variableStep chrom=c1 span=2",),
    ("fixedStep chrom=c9 start=5 step=5", "1", "NA"),
    ("fixedStep chrom=c9",),
    ("#chromsize: c1 9999999", "#sorted: none"),
    ("   SW   perc perc perc", "score   div. del. ins."),
    ("\ufeffchr\tstart",),
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """(format, the lines, those of them that are records)."""
    name = draw(st.sampled_from(sorted(RECORDS)))
    places = st.tuples(st.integers(1, 3), st.integers(1, 1 << 20), st.integers(0, 1 << 20))
    found = draw(st.lists(places, min_size=1, max_size=12))
    records = [
        RECORDS[name].format(contig, start, start + length, number)
        for number, (contig, start, length) in enumerate(found)
    ]
    groups: list[Sequence[str]] = [
        [line for line in (ABOVE.get(name, "").format(place[0]), record, BELOW.get(name, "")) if line]
        for place, record in zip(found, records, strict=True)
    ]
    for section in draw(st.lists(st.sampled_from(SECTIONS), max_size=4)):
        groups.insert(draw(st.integers(0, len(groups))), section)
    return name, [*HEADS.get(name, ()), *chain.from_iterable(groups)], records


def read(name: str, text: bytes, chunk: int) -> tuple[str, int]:
    """(what becomes of it, how many lines of the source are in that or counted)."""
    chunks = (text[at : at + chunk] for at in range(0, len(text), chunk))
    if name == "fasta":
        return _read_sequences(text, chunks)
    if name in READERS:
        return _read_table(name, text.splitlines(keepends=True))
    kept: list[bytes] = []
    reader: Records = TwoEnded(name, *[kept.append] * 3) if name in LAYOUTS else reader_of(name)
    body = b"".join(normalise(chunks, reader)) + b"".join(kept)
    header = reader.completed(reader.finish())
    found = NormaliserReport(report(reader, Inflation(), header, len(body), kept=False))
    assert found.source_lines == text.count(b"\n")
    if name == "sam":
        # Its header goes on with the reads.
        return body.decode(), body.count(b"\n") + found.counts.get("blank_lines", 0)
    return body.decode(), found.accounted_lines + found.counts.get("without_place", 0)


def _read_table(name: str, lines: Sequence[bytes]) -> tuple[str, int]:
    reader = READERS[name]()
    body = b"".join(map(reader.block, lines)).decode()
    reader.finish()
    assert reader.lines == len(lines)
    made = [line for line in body.splitlines() if not line.startswith("#chrom\tchromStart")]
    counted = sum(
        n for what, n in reader.counts.items() if what.endswith("_lines") and what != "spaced_lines"
    )
    return body, len(made) + counted + (reader.declarations if isinstance(reader, WigReader) else 0)


def _read_sequences(text: bytes, chunks: Iterable[bytes]) -> tuple[str, int]:
    reader = FastaReader(lambda _: None)
    body = b"".join(map(reader.chunk, chunks)) + reader.finish()
    for of in (_titles, _letters):
        assert of(body) == of(text)
    return body.decode(), reader.lines


def _titles(text: bytes) -> list[bytes]:
    return [line.split()[0] for line in text.splitlines() if line.startswith(b">")]


def _letters(text: bytes) -> bytes:
    return b"".join(word for line in text.splitlines() if not line.startswith(b">") for word in line.split())


@settings(max_examples=900)
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
    body, accounted = "", 0
    refused: Failure | None = None
    try:
        body, accounted = read(name, text, chunk)
    except StepFailed as error:
        refused = error.failure
    if refused is not None:
        assert refused.reason is Reason.SOURCE_INVALID
        number = re.match(r"line (\d+): ", refused.detail)
        assert number is not None, refused.detail
        assert lines[int(number[1]) - 1] not in records
        return
    # Some lines of other sections are records by their columns.
    assert _names(body.splitlines()) == _names(records)
    assert accounted == len(lines)


def _names(lines: Sequence[str]) -> list[str]:
    """The records' own names, in order."""
    return [found[0] for line in lines if (found := re.search(r"record\d+|3\.25e-\d+", line))]
