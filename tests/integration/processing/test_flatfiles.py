"""GenBank and EMBL: letters are found by place, features by region, and parents are the right ones."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason

Process = Callable[..., Awaitable[Any]]

LETTERS = "ACGTACGTAA" * 12
GENBANK = (
    b"""LOCUS       AB000001                 120 bp    DNA     linear   BCT 01-JAN-2000
DEFINITION  A made-up record.
ACCESSION   AB000001
VERSION     AB000001.2
FEATURES             Location/Qualifiers
     source          1..120
                     /organism="Some thing"
     gene            complement(5..100)
                     /locus_tag="T_1"
     mRNA            complement(join(5..40,61..100))
                     /locus_tag="T_1"
     CDS             complement(join(<10..40,61..90))
                     /locus_tag="T_1"
                     /codon_start=2
                     /product="enzyme; a=b, 50%"
                     /translation="MKV"
     gene            110..115
                     /gene="solo"
     misc_feature    join(J00194.1:1..5,1..3)
                     /note="from elsewhere"
     variation       116^117
                     /replace="a"
ORIGIN
"""
    + b"".join(
        b"%9d %b\n"
        % (at + 1, b" ".join(LETTERS.lower().encode()[n : n + 10] for n in range(at, at + 60, 10)))
        for at in (0, 60)
    )
    + b"//\n"
)
EMBL = b"""ID   X56734; SV 1; linear; mRNA; STD; PLN; 60 BP.
XX
DE   Made up.
XX
FH   Key             Location/Qualifiers
FT   source          1..60
FT                   /organism="Some thing"
FT   CDS             14..55
FT                   /gene="bgl"
XX
SQ   Sequence 60 BP; 24 A; 12 C; 12 G; 12 T; 0 other;
     acgtacgtaa acgtacgtaa acgtacgtaa acgtacgtaa acgtacgtaa acgtacgtaa        60
//
"""


def lines_of(made: Any) -> list[str]:
    data, index = made.produced(Kind.ANNOTATION), made.produced(Kind.ANNOTATION_INDEX)
    with pysam.TabixFile(str(data.path), index=str(index.path)) as opened:
        return [line for name in opened.contigs for line in opened.fetch(name)]


def sequence(made: Any, name: str, start: int, end: int) -> str:
    gzi = str(made.produced(Kind.GZI).path)
    with pysam.FastaFile(made.data, filepath_index=made.index, filepath_index_compressed=gzi) as opened:
        return str(opened.fetch(name, start, end))


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress], ids=lambda p: str(p)[:20])
async def test_a_genbank_record_becomes_its_letters_and_its_features(process: Process, packed: Any) -> None:
    made = await process(packed(GENBANK), "genbank", filename="x.gbk.gz")
    assert made.failure is None, made.failure
    names = [part.filename for part in made.outputs[0].files]
    assert names == ["x.fa.gz", "x.fa.gz.fai", "x.fa.gz.gzi", "x.gff3.gz", "x.gff3.gz.tbi"]
    assert len({part.name for part in made.outputs[0].files}) == len(names)
    assert sequence(made, "AB000001.2", 5, 77) == LETTERS[5:77]
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("AB000001.2", 120)]
    found = {}
    for line in lines_of(made):
        columns = line.split("\t")
        place = (columns[2], int(columns[3]), int(columns[4]))
        found[place] = (columns[6], columns[7], dict(word.split("=", 1) for word in columns[8].split(";")))
    gene, rna = found["gene", 5, 100][2]["ID"], found["mRNA", 5, 100][2]
    assert found["region", 1, 120][2]["Name"] == "Some thing"
    assert (rna["Parent"], found["exon", 61, 100][2]["Parent"]) == (gene, rna["ID"])
    # The coding sequence begins at 90, with its second base; 30 bases later 29 of codons are over.
    first, second = found["CDS", 61, 90], found["CDS", 10, 40]
    assert (first[:2], second[:2]) == (("-", "1"), ("-", "1"))
    assert first[2]["ID"] == second[2]["ID"]
    assert first[2]["Parent"] == rna["ID"]
    assert first[2]["product"] == "enzyme%3B a%3Db%2C 50%25"
    assert first[2]["partial"] == "true"
    assert "translation" not in first[2]
    assert found["gene", 110, 115][2]["Name"] == "solo"
    assert found["sequence_feature", 1, 3][2]["Note"] == "from elsewhere"
    assert made.counts["translations"] == made.counts["parts_elsewhere"] == 1
    assert "follow from the sequence" in made.notes
    assert "on other records" in made.notes


async def test_a_feature_across_the_ends_of_a_linear_sequence_is_left_out_and_told(process: Process) -> None:
    source = GENBANK.replace(b"     variation       116^117", b"     variation       116..3")
    assert source != GENBANK
    made = await process(source, "genbank", filename="x.gb")
    assert made.failure is None, made.failure
    assert made.counts["features_without_place"] == 1
    assert "whose place is none" in made.notes
    assert "variation" not in {line.split("\t")[2] for line in lines_of(made)}


async def test_an_embl_record_becomes_the_same(process: Process) -> None:
    made = await process(EMBL, "embl", filename="x.embl")
    assert made.failure is None, made.failure
    assert sequence(made, "X56734.1", 0, 60) == LETTERS[:60]
    kinds = [line.split("\t")[2] for line in lines_of(made)]
    assert kinds == ["region", "CDS"]


async def test_several_records_are_several_sequences(process: Process) -> None:
    other = GENBANK.replace(b"AB000001", b"CD000002")
    made = await process(GENBANK + other, "genbank")
    assert made.failure is None, made.failure
    assert [c.name for c in made.outputs[0].contigs] == ["AB000001.2", "CD000002.2"]
    assert len({line.split("\t")[0] for line in lines_of(made)}) == 2
    parents = {
        word for line in lines_of(made) for word in line.split("\t")[8].split(";") if word[:7] == "Parent="
    }
    identifiers = {f"Parent={line.split('ID=')[1].split(';')[0]}" for line in lines_of(made) if "ID=" in line}
    assert parents <= identifiers


REFUSED = [
    ("genbank", GENBANK + GENBANK, "stands above two sequences"),
    (
        "genbank",
        GENBANK[: GENBANK.index(b"ORIGIN")] + b"CONTIG      join(U1.1:1..5)\n//\n",
        "has no sequence",
    ),
    ("genbank", b"LOCUS       x\n", "cannot be read"),
    ("embl", b"\n\n", "no records"),
    ("genbank", b">a\nACGT\n", "the file is fasta"),
    ("genbank", EMBL, "the file is embl"),
    ("bed", GENBANK, "the file is genbank"),
    ("genbank", b"", "empty"),
    ("genbank", gzip.compress(GENBANK)[:-30], "truncated"),
]


@pytest.mark.parametrize(("file_format", "source", "words"), REFUSED, ids=[words for *_, words in REFUSED])
async def test_what_cannot_be_read_is_refused_in_words(
    process: Process, file_format: str, source: bytes, words: str
) -> None:
    made = await process(source, file_format)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert words in made.failure.detail
