"""What each viewer is told of files: types, names that no two tracks share, sequences under several names."""

from __future__ import annotations

from typing import Any

import pytest

from gooseherd.api.tracks.gosling import gosling
from gooseherd.api.tracks.igv import igv
from gooseherd.api.tracks.jbrowse import jbrowse
from gooseherd.api.tracks.programs import python, shell
from gooseherd.api.tracks.selection import Selection, ServedFile
from gooseherd.api.tracks.sequences import MOST_CONTIGS, FileSequences, Together, are_measured, together
from gooseherd.api.tracks.ucsc import ucsc
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.assemblies import sequences_of
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import Format
from gooseherd.domain.region import Region

HERE = "https://herd.example.org"
SIZES = (Contig("chr1", 1000), Contig("chr2", 500))


def file(name: str, file_format: Format, index: str | None = None, **fields: Any) -> ServedFile:
    data = f"{HERE}/files/{name}/x.{file_format.suffixes[0]}"
    urls = {Kind.DATA: data} | ({Kind.INDEX: f"{data}.{index}"} if index else {})
    urls |= {kind: f"{data}.{kind}" for kind in fields.pop("kinds", ())}
    return ServedFile(name, fields.pop("title", name), file_format, urls, index, **fields)


def selection(*files: ServedFile, **fields: Any) -> Selection:
    given = {"assembly": "custom", "is_known": False, "chromsizes_url": f"{HERE}/tracks/chrom.sizes"}
    given |= {"page_url": f"{HERE}/"}
    return Selection(**{"files": files, "contigs": SIZES, **given, **fields})


def stanzas(hub: str) -> list[dict[str, str]]:
    return [
        dict(line.split(" ", 1) for line in block.splitlines() if not line.startswith("#"))
        for block in hub.strip().split("\n\n")
    ]


FLATFILE = file(
    "lab/plasmid",
    formats.FASTA,
    "fai",
    kinds=(Kind.GZI,),
    more=(file("lab/plasmid/annotation", formats.GFF3, "tbi"),),
)


def test_no_two_tracks_of_a_hub_have_one_name() -> None:
    """UCSC refuses the whole hub for it."""
    files = [file(name, formats.BIGWIG) for name in ("lab/a.b", "lab/a-b", "lab/a_b", "lab/a_b_2")]
    tracks = [stanza["track"] for stanza in stanzas(ucsc(selection(*files)).text)[2:]]
    assert len(set(tracks)) == 4


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        (file("lab/a", formats.CRAM, "crai"), "bam"),
        (file("lab/a", formats.BAM, "bai"), "bam"),
        (file("lab/a", formats.HIC), "hic"),
        (file("lab/a", formats.VCF, "tbi"), "vcfTabix"),
        (file("lab/a", formats.BED, "tbi", kinds=(Kind.DENSITY,)), "bigWig"),
    ],
)
def test_a_hub_has_the_types_that_ucsc_knows(shown: ServedFile, kind: str) -> None:
    """Of trackHub.c's list; a CRAM is of type bam there."""
    assert stanzas(ucsc(selection(shown)).text)[2]["type"] == kind


def test_sequences_that_ucsc_does_not_know_are_an_assembly_hub_of_their_2bit() -> None:
    letters = file("lab/letters", formats.TWOBIT, title="my genome.2bit")
    reads = file("lab/a", formats.BAM, "bai")
    hub = ucsc(selection(letters, reads, reference=letters, region=Region("chr2", 9, 20)))
    genome = stanzas(hub.text)[1]
    assert genome["genome"] == "custom"
    assert genome["twoBitPath"] == letters.data
    assert genome["defaultPos"] == "chr2:10-20"
    assert genome["organism"] == "my genome.2bit"
    assert hub.notes == []
    known = ucsc(selection(letters, reads, reference=letters, assembly="hg38", is_known=True))
    assert stanzas(known.text)[1] == {"genome": "hg38"}


def test_a_hub_says_in_comments_what_is_not_drawn_and_shows_no_hundred_tracks_at_once() -> None:
    files = [file(f"lab/{n}", formats.BIGWIG) for n in range(30)]
    hub = ucsc(selection(file("lab/t", formats.CSV), *files, notes=["only the\nfirst 100"]))
    assert "# only the first 100\n" in hub.text
    assert "# lab/t: UCSC draws no csv" in hub.text
    shown = [stanza["visibility"] for stanza in stanzas(hub.text)[2:]]
    assert shown == ["full"] * 20 + ["hide"] * 10


def test_igv_draws_gapped_peaks_and_is_given_no_contacts() -> None:
    """igv.js 3.8 reads a .hic, and fails where fewer than 1,000 contacts are in view."""
    snippet = igv(selection(file("lab/h", formats.HIC), file("lab/g", formats.GAPPEDPEAK, "tbi")))
    assert snippet.spec is not None
    assert [(track["type"], track["format"]) for track in snippet.spec["tracks"]] == [
        ("annotation", "gappedpeak"),
    ]
    assert snippet.notes == ["lab/h: igv.js draws no hic"]


@pytest.mark.parametrize("viewer", [gosling, igv, jbrowse])
def test_the_annotation_of_a_flat_file_is_drawn_on_its_sequences(viewer: Any) -> None:
    snippet = viewer(selection(FLATFILE, reference=FLATFILE))
    assert snippet.notes == []
    assert FLATFILE.more[0].data in snippet.text
    (track,) = snippet.spec["tracks"]
    assert FLATFILE.more[0].data in str(track)


@pytest.mark.parametrize("viewer", [gosling, jbrowse])
def test_of_records_that_a_viewer_does_not_draw_the_density_is(viewer: Any) -> None:
    pairs = file("lab/i", formats.INTERACT, "tbi", kinds=(Kind.DENSITY,))
    snippet = viewer(selection(pairs))
    (note,) = snippet.notes
    assert "draws no interact" in note
    assert "only its density" in note
    (track,) = snippet.spec["tracks"]
    assert f"{pairs.density}'" in str(track)
    assert pairs.data + "'" not in str(track)


def test_jbrowse_finds_each_track_by_an_id_of_its_own() -> None:
    files = [
        file("lab/a", formats.BED, "tbi", kinds=(Kind.DENSITY, Kind.NAMES, Kind.NAMES_INDEX)),
        file("lab/a-density", formats.BIGWIG),
        file("lab/a-names", formats.BED, "tbi"),
    ]
    spec = jbrowse(selection(*files)).spec
    assert spec is not None
    ids = [track["trackId"] for track in spec["tracks"]]
    assert len(set(ids)) == len(ids) == 4


def test_what_one_of_the_jbrowses_alone_draws_is_told() -> None:
    """The linear view, 2.18, has no HicTrack and shows nothing at all."""
    snippet = jbrowse(selection(file("lab/h", formats.HIC), file("lab/a", formats.BIGWIG)))
    assert snippet.spec is not None
    assert [track["type"] for track in snippet.spec["tracks"]] == ["HicTrack", "QuantitativeTrack"]
    (note,) = snippet.notes
    assert "linear view refuses" in note


def test_jbrowse_opens_the_same_view_in_a_page_of_others_and_as_an_application() -> None:
    spec = jbrowse(selection(file("lab/a", formats.BIGWIG))).spec
    assert spec is not None
    assert spec["defaultSession"]["views"] == [spec["defaultSession"]["view"]]


# -- sequences under several names


def named(*contigs: Contig, measured: bool = False) -> FileSequences:
    return FileSequences(contigs, measured)


HG38 = sequences_of("hg38") or ()
HG38_BY_NUMBER = tuple(Contig(c.name.removeprefix("chr").replace("M", "MT"), c.length) for c in HG38)


def test_files_that_call_one_sequence_differently_are_drawn_on_one() -> None:
    found = together(None, None, [named(*SIZES), named(Contig("1", 1000), Contig("3", 10))])
    assert found.contigs == [*SIZES, Contig("3", 10)]
    assert found.renamed == [{}, {"chr1": "1"}]
    # Of another length it is another one.
    other = together(None, None, [named(*SIZES), named(Contig("1", 999))])
    assert [contig.name for contig in other.contigs] == ["chr1", "chr2", "1"]
    # Where the last record ends says how long it is at least.
    shorter = together(None, None, [named(*SIZES), named(Contig("1", 999), measured=True)])
    assert shorter.renamed == [{}, {"chr1": "1"}]


def test_names_of_an_assembly_are_known_in_every_spelling() -> None:
    refseq = named(Contig("NC_000001.11", 248956422), Contig("NC_012920.1", 16569))
    found = together(None, None, [named(*HG38), named(*HG38_BY_NUMBER), refseq])
    assert found.assembly == "hg38"
    assert list(found.contigs) == list(HG38)
    assert found.renamed[1]["chrX"] == "X"
    assert found.renamed[1]["chrM"] == "MT"
    assert found.renamed[2] == {"chr1": "NC_000001.11", "chrM": "NC_012920.1"}


def test_in_which_order_files_are_named_says_nothing_of_their_assembly() -> None:
    ends = named(*(Contig(c.name, (c.length or 0) * 95 // 100) for c in HG38), measured=True)
    for files in ([named(*HG38), ends], [ends, named(*HG38)]):
        assert together(None, None, files).assembly == "hg38"


def test_of_a_sequence_under_two_names_the_declared_length_holds() -> None:
    ends, declared = named(Contig("1", 5_000), measured=True), named(Contig("chr1", 100_000))
    assert together(None, None, [ends, declared]).contigs == [Contig("1", 100_000)]
    assert together(None, None, [declared, ends]).contigs == [Contig("chr1", 100_000)]


def test_beside_files_without_sequences_those_of_the_assembly_are_shown() -> None:
    assert list(together("hg38", None, [named(measured=True), None]).contigs) == list(HG38)


def test_a_file_keeps_its_names_where_no_other_is_beside_it() -> None:
    found = together("hg38", None, [named(Contig("1", 5000), Contig("2", 70), measured=True)])
    assert found.contigs == [Contig("1", 248956422), Contig("2", 242193529)]
    assert found.renamed == [{}]


def test_a_reference_has_its_own_names_whatever_the_files_say() -> None:
    found = together(None, SIZES, [named(Contig("1", 1000), Contig("9", 4)), None])
    assert found.contigs == SIZES
    assert found.renamed == [{"chr1": "1"}, {}]


def test_what_somebody_wants_to_see_is_among_the_longest() -> None:
    many = [Contig(f"s{n}", 10_000 - n) for n in range(MOST_CONTIGS + 500)]
    found = Together(many, None, [])
    assert len(found.longest()) == MOST_CONTIGS
    assert many[-1] not in found.longest()
    with_it = found.longest(and_also=many[-1].name)
    assert len(with_it) == MOST_CONTIGS
    assert with_it[-1] == many[-1]


def test_an_assembly_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInput):
        together("hg99", None, [])


def test_a_vcf_without_lengths_is_known_by_where_its_records_end() -> None:
    ends = [Contig("chr1", 249_240_000), Contig("chr2", 243_190_000)]
    assert are_measured(ends, formats.VCF)
    assert together(None, None, [named(*ends, measured=True)]).assembly == "hg19"
    assert not are_measured(HG38, formats.VCF)
    assert not are_measured(ends, formats.BAM)


RENAMED = {"chr1": "1"}


def test_viewers_are_told_the_other_names() -> None:
    shown = selection(
        file("lab/a", formats.BAM, "bai"),
        file("lab/v", formats.VCF, "tbi", own_names=RENAMED),
        aliases_url=f"{HERE}/tracks/chrom.aliases",
    )
    assert shown.aliases == {"chr1": ["1"]}
    spec = igv(shown).spec
    assert spec is not None
    assert spec["reference"]["aliasURL"] == shown.aliases_url
    spec = jbrowse(shown).spec
    assert spec is not None
    (feature,) = spec["assemblies"][0]["refNameAliases"]["adapter"]["features"]
    assert (feature["refName"], feature["aliases"]) == ("chr1", ["1"])
    assert "calls chr1 1" in gosling(shown).notes[0]
    reads = selection(file("lab/b", formats.BAM, "bai", own_names=RENAMED))
    assert gosling(reads).notes == []


def test_programs_ask_each_file_by_its_own_names() -> None:
    shown = selection(
        file("lab/v", formats.VCF, "tbi", own_names=RENAMED),
        file("lab/w", formats.BIGWIG),
        region=Region("chr1", 9, 20),
    )
    first, second = shell(shown).text.splitlines()
    assert first.startswith("bcftools view -r 1:10-20 ")
    assert second.startswith("bigWigToBedGraph -chrom=chr1 -start=9 -end=20 ")
    assert "file.fetch('1', 9, 20)" in python(shown).text


def test_letters_of_a_2bit_are_read_by_region_in_a_shell() -> None:
    letters = file("lab/letters", formats.TWOBIT)
    text = shell(selection(letters, reference=letters, region=Region("chr2", 9, 20))).text
    assert text == f"twoBitToFa -seq=chr2 -start=9 -end=20 {letters.data} /dev/stdout\n"


def test_records_by_their_second_end_are_read_too() -> None:
    second = file("lab/p/second_end", formats.BEDPE, "tbi")
    shown = selection(file("lab/p", formats.BEDPE, "tbi", more=(second,)))
    assert shell(shown).text.count("tabix ") == 2
    assert second.data in python(shown).text
    assert second.data not in igv(shown).text


def test_a_view_ends_with_its_sequence() -> None:
    shown = selection(file("lab/a", formats.BIGWIG), region=Region("chr2", 100, 9_000_000))
    assert shown.locus == "chr2:101-500"
    assert selection(region=Region("chr9", 100, 200)).locus == "chr9:101-200"
    assert selection(region=Region("chr9", 100)).locus is None
