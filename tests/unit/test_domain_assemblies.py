"""Names that one sequence has in several places, found by what a file says of its sequences."""

from __future__ import annotations

from gooseherd.domain.assemblies import aliases, assembly_name, assembly_of, known_assemblies, sequences_of
from gooseherd.domain.contig import Contig

HG38 = (Contig("chr1", 248956422), Contig("chr2", 242193529), Contig("chrM", 16569))


def test_a_sequence_of_a_known_assembly_has_its_other_names() -> None:
    assert aliases(HG38) == {
        "chr1": ("1", "CM000663.2", "NC_000001.11"),
        "chr2": ("2", "CM000664.2", "NC_000002.12"),
        "chrM": ("MT", "J01415.2", "NC_012920.1"),
    }


def test_any_of_the_names_leads_to_the_others() -> None:
    assert "chr1" in aliases((Contig("NC_000001.11", 248956422),))["NC_000001.11"]
    assert aliases((Contig("1", 249250621),))["1"][0] == "chr1"


def test_assemblies_are_told_apart_by_lengths() -> None:
    assert "NC_000001.10" in aliases((Contig("chr1", 249250621),))["chr1"]
    assert "NC_000067.7" in aliases((Contig("chr1", 195154279),))["chr1"]
    # The mitochondrion is as long in several of them: the other sequences say which.
    assert "J01415.2" in aliases(HG38)["chrM"]


def test_without_lengths_only_that_is_said_in_which_all_agree() -> None:
    found = aliases((Contig("chr7"), Contig("chrX")))
    assert found == {"chr7": ("7",), "chrX": ("X",)}


def test_what_is_not_known_has_no_aliases() -> None:
    assert aliases((Contig("chr1", 5), Contig("scaffold_1", 100))) == {}
    assert aliases(()) == {}
    mixed = aliases((*HG38, Contig("chrUn_KI270302v1", 2274), Contig("chr3", 7)))
    assert sorted(mixed) == ["chr1", "chr2", "chrM"]


def test_where_last_records_end_says_how_long_sequences_are_at_least() -> None:
    measured = (Contig("chr1", 248956400), Contig("chrM", 16000))
    assert aliases(measured) == {}
    # hg38 and hg19 are long enough both: what they disagree on is not said.
    assert aliases(measured, measured=True)["chr1"] == ("1",)
    assert "NC_000001.10" in aliases((Contig("chr1", 249250000),), measured=True)["chr1"]


def test_an_assembly_is_named_when_one_alone_fits() -> None:
    assert assembly_of(HG38) == "hg38"
    assert assembly_of((Contig("1", 249250621),)) == "hg19"
    assert assembly_of((Contig("chr1"),)) is None
    assert assembly_of(()) is None
    assert assembly_of((Contig("chr1", 5),)) is None


def test_each_known_assembly_is_recognized_by_its_own_sequences() -> None:
    for name in known_assemblies():
        sequences = sequences_of(name)
        assert sequences is not None
        assert assembly_name(assembly_of(sequences) or "") == name
    assert sequences_of("hg99") is None
    assert sequences_of("GRCh38.p14") == sequences_of("hg38")
