"""Genes and transcripts that a GTF does not spell out: one at each place of their id, as gffread has them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.benchmark_modules import load_benchmark

from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.programs.normalise import normalise

if TYPE_CHECKING:
    from _gffread import Feature

gffread = load_benchmark("_gffread")

APART = 20_000_000
"""Between places of one id on a strand: further than any gene is long."""


def line(
    kind: str, start: int, end: int, strand: str, gene: str, transcript: str = "", contig: str = "c1"
) -> str:
    about = f'gene_id "{gene}";' + (f' transcript_id "{transcript}";' if transcript else "")
    return f"{contig}\tx\t{kind}\t{start}\t{end}\t.\t{strand}\t.\t{about}"


def generated(seed: int) -> str:
    """Exons, of genes and transcripts whose ids stand at several places."""
    draw = random.Random(seed)
    lines: list[str] = []
    for gene in range(draw.randint(1, 12)):
        first = draw.randint(1, 1_000_000)
        for contig in draw.sample(("c1", "c2"), draw.randint(1, 2)):
            for strand in draw.sample("+-", draw.randint(1, 2)):
                for copy in range(draw.choice((1, 1, 2, 3))):
                    start = first + copy * APART
                    lines += placed(draw, start, strand, f"G{gene}", contig)
    if seed % 2:
        draw.shuffle(lines)
    return "".join(line + "\n" for line in lines)


def placed(draw: random.Random, start: int, strand: str, gene: str, contig: str) -> Iterator[str]:
    for transcript in range(draw.randint(1, 3)):
        begin = start + draw.choice((0, 50, 3_000, 400_000))
        for _ in range(draw.randint(1, 5)):
            end = begin + draw.randint(20, 900)  # gffread leaves out what has fewer than ten bases
            yield line("exon", begin, end, strand, gene, f"{gene}.{transcript}", contig)
            begin = end + draw.choice((60, 2_000, 300_000))


def by_python(text: str) -> list[str]:
    reader = reader_of("gtf")
    body = b"".join(normalise([text.encode()], reader))
    reader.finish()
    return (body + reader.added()).decode().splitlines()


def converted(kernel: Any, text: str) -> list[Feature]:
    """By the kernel, and the same lines by the normaliser in Python."""
    made = kernel("gtf", text.encode())
    assert made.status == 0, made.found.detail
    lines = [line.decode() for line in made.records()]
    assert sorted(lines) == sorted(by_python(text))
    found: list[Feature] = gffread.features(lines)
    is_a_tree(found)
    return found


def is_a_tree(found: list[Feature]) -> None:
    """Ids are unique on a sequence, and parents stand before their children and hold them."""
    known: dict[tuple[str, str], Feature] = {}
    for one in found:
        if "Parent" in one.about:
            above = known[one.contig, one.about["Parent"]]
            assert (above.start <= one.start, above.end >= one.end, above.strand) == (True, True, one.strand)
        if "ID" in one.about:
            assert (one.contig, one.about["ID"]) not in known
            known[one.contig, one.about["ID"]] = one


@pytest.mark.parametrize("seed", range(40))
def test_parents_are_where_gffread_has_them(seed: int, kernel: Any, tmp_path: Path, needs: Any) -> None:
    needs("gffread")
    text = generated(seed)
    source = tmp_path / "generated.gtf"
    source.write_text(text)
    found = converted(kernel, text)
    assert gffread.transcripts_of(found) == gffread.transcripts_of(gffread.by_gffread(source))

    clusters = gffread.clustered(source, found)
    # What gffread clusters has one gene, and a gene holds nothing but what overlaps.
    assert all(len({gene for gene, _ in of_locus}) == 1 for of_locus in clusters.loci.values())
    assert clusters.inside.keys() == clusters.genes.keys()
    for key, inside in clusters.inside.items():
        assert gffread.overlap(inside)
        assert (clusters.genes[key].start, clusters.genes[key].end) == gffread.extent(inside)


def test_a_gene_on_two_strands_is_two_genes(kernel: Any) -> None:
    places = (("+", 11874, 13874), ("-", 120_000_000, 120_002_000))
    text = "".join(
        line(kind, start, end, strand, "FAM1", "NM_77") + "\n"
        for strand, start, end in places
        for kind in ("transcript", "exon")
    )
    found = converted(kernel, text)
    assert [(f.kind, f.start, f.strand, f.about.get("ID"), f.about.get("Parent")) for f in found] == [
        ("gene", 11874, "+", "FAM1", None),
        ("transcript", 11874, "+", "NM_77", "FAM1"),
        ("exon", 11874, "+", None, "NM_77"),
        ("gene", 120_000_000, "-", "FAM1_dup1", None),
        ("transcript", 120_000_000, "-", "NM_77_dup1", "FAM1_dup1"),
        ("exon", 120_000_000, "-", None, "NM_77_dup1"),
    ]


def test_a_placeholder_that_all_genes_share_is_a_transcript_of_each(kernel: Any) -> None:
    """As annotations of bacteria have it."""
    text = "".join(
        line("gene", at, at + 900, "+", f"b{at}")
        + "\n"
        + line("CDS", at, at + 900, "+", f"b{at}", "unknown")
        + "\n"
        for at in range(1000, 90_000, 1000)
    )
    found = converted(kernel, text)
    assert {f.end - f.start for f in found} == {900}
    assert sum(f.kind == "transcript" for f in found) == 89


def test_copies_of_a_repeat_are_not_one_gene(kernel: Any) -> None:
    """As tables of repeats have them: one family, each copy a transcript."""
    text = "".join(
        line("exon", at, at + 300, "+", "AluY", f"AluY_copy{at}") + "\n" for at in range(1, 90_000, 1000)
    )
    assert {f.end - f.start for f in converted(kernel, text)} == {300}


def test_a_transcript_that_is_placed_twice_nearby_has_its_exons_apart(kernel: Any) -> None:
    text = "".join(
        line(kind, at + shift, at + shift + length, "+", "G", "T") + "\n"
        for at in (1000, 60_000)
        for kind, shift, length in (("transcript", 0, 5000), ("exon", 0, 100), ("exon", 4900, 100))
    )
    found = converted(kernel, text)
    assert [(f.start, f.about["ID"]) for f in found if f.kind == "transcript"] == [
        (1000, "T"),
        (60_000, "T_dup1"),
    ]
    assert [f.about["Parent"] for f in found if f.kind == "exon"] == ["T", "T", "T_dup1", "T_dup1"]


def test_lines_with_a_bare_id_are_the_parents(kernel: Any) -> None:
    """As AUGUSTUS and BRAKER write them."""
    text = ""
    for number, at in enumerate((100, 5000), start=1):
        gene, transcript = f"g{number}", f"g{number}.t1"
        text += f"c1\tAUGUSTUS\tgene\t{at}\t{at + 900}\t1\t+\t.\t{gene}\n"
        text += f"c1\tAUGUSTUS\ttranscript\t{at}\t{at + 900}\t1\t+\t.\t{transcript}\n"
        text += line("CDS", at + 10, at + 200, "+", gene, transcript) + "\n"
        text += line("exon", at, at + 200, "+", gene, transcript) + "\n"
    made = kernel("gtf", text.encode())
    assert not {"added_genes", "added_transcripts"} & made.found.counts.keys()
    found = converted(kernel, text)
    assert len(found) == 8
    assert [(f.about.get("ID"), f.about.get("Parent")) for f in found[:4]] == [
        ("g1", None),
        ("g1.t1", "g1"),
        (None, "g1.t1"),
        (None, "g1.t1"),
    ]


@pytest.mark.parametrize(
    "about",
    [
        'gene_id\t"G";\ttranscript_id\t"T";\tlevel\t3;',
        'gene_id "G";\ttranscript_id "T";\tlevel 3',
        'gene_id "G"; transcript_id "T"\t; level 3;\t',
    ],
)
def test_attributes_that_tabs_split_are_one_column(kernel: Any, about: str) -> None:
    text = f"c1\tx\texon\t5\t9\t.\t+\t.\t{about}\n"
    [gene, transcript, exon] = converted(kernel, text)
    assert (gene.about["ID"], transcript.about["ID"], exon.about["Parent"]) == ("G", "T", "T")
    assert exon.about["level"] == "3"
    assert kernel("gtf", text.encode()).found.counts["joined_columns"] == 1


@pytest.mark.parametrize(
    ("spelt", "value"),
    [
        (r'note "a \"b\" c"; more "x"', 'a "b" c'),
        (r'note "\""; more "x"', '"'),
        (r'note "ends with \"quotes\""; more "x"', 'ends with "quotes"'),
        (r'note ""; more "x"', ""),
        (r'more "x"; note "C:\"', "C:\\"),
    ],
)
def test_escaped_quotes_stand_in_values(kernel: Any, spelt: str, value: str) -> None:
    [_, _, exon] = converted(kernel, f"{line('exon', 1, 9, '+', 'G', 'T')} {spelt}\n")
    assert (exon.about["note"], exon.about["more"]) == (value, "x")
