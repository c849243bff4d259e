"""Reference sequences: lengths that a later step knows, and the order people count in."""

from __future__ import annotations

from gooseherd.domain.artifact import Manifest, StepReceipt
from gooseherd.domain.contig import Contig, in_natural_order, with_lengths


def test_lengths_that_are_not_known_are_filled_in_and_known_ones_stay() -> None:
    declared = (Contig("b"), Contig("a", 5), Contig("c"))
    measured = (Contig("a", 9), Contig("b", 7), Contig("z", 1))
    assert with_lengths(declared, measured) == (Contig("b", 7), Contig("a", 5), Contig("c"))
    assert with_lengths((), measured) == measured


def test_a_manifest_has_the_first_steps_contigs_with_the_lengths_of_later_ones() -> None:
    receipts = [
        StepReceipt("data", (), contigs=(Contig("chr2"), Contig("chr10"))),
        StepReceipt("index", ()),
        StepReceipt("density", (), contigs=(Contig("chr10", 99),)),
    ]
    manifest = Manifest.of_steps(
        source="md5-1", source_format="bed", processor="p", processor_version="1", receipts=receipts
    )
    assert manifest.contigs == (Contig("chr2"), Contig("chr10", 99))


def test_natural_order_is_the_one_people_count_in() -> None:
    names = [
        "chr1",
        "chr10",
        "chr1_alt",
        "chr2",
        "chrM",
        "chrX",
        "2",
        "X",
        "scaffold_9",
        "scaffold_10",
        "9",
        "9" * 5000,
    ]
    ordered = [contig.name for contig in in_natural_order([Contig(name) for name in sorted(names)])]
    assert ordered == [
        "2", "9", "9" * 5000, "X", "chr1", "chr1_alt", "chr2", "chr10", "chrM", "chrX",
        "scaffold_9", "scaffold_10",
    ]  # fmt: skip
