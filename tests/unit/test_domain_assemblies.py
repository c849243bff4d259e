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


RHESUS = {"chr1": 223616942, "chr2": 196197964, "chr3": 185288947, "chr4": 169963040, "chr5": 187317192}
DM3 = {"chr2L": 23011544, "chr2R": 21146708, "chr3L": 24543557, "chr3R": 27905053, "chrX": 22422827}
COW = {"chr1": 158534110, "chr19": 63449741, "chr29": 51098607}


def test_another_genome_is_not_taken_for_one_with_longer_chromosomes() -> None:
    for lengths in (RHESUS, DM3, COW):
        ends = [Contig(name, length - 1000) for name, length in lengths.items()]
        assert assembly_of(ends, measured=True) is None
        assert not any("." in name for others in aliases(ends, measured=True).values() for name in others)


def test_last_records_near_the_ends_of_chromosomes_tell_the_assembly() -> None:
    for name in ("hg38", "hg19", "dm6", "ce11"):
        ends = [Contig(c.name, (c.length or 0) - 2000) for c in sequences_of(name) or ()]
        assert assembly_of(ends, measured=True) == name


def test_a_mitochondrion_of_another_length_does_not_make_it_another_assembly() -> None:
    hg19 = [c for c in sequences_of("hg19") or () if c.name != "chrM"]
    assert assembly_of([*hg19, Contig("chrM", 16569)]) == "hg19"
    assert assembly_of([Contig("chrM", 16571), Contig("chr1", 200_000), Contig("chr2", 9)]) is None
