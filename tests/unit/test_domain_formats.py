"""Every way a portal spells a format leads to one Format."""

import pytest

from gooseherd.domain import formats
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.source import SourceFile


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ("format:2572", "bam"),
        ("format_2572", "bam"),
        ("http://edamontology.org/format_3016", "vcf"),
        ("https://edamontology.org/format_1975", "gff3"),
        ("BAM", "bam"),
        (".vcf.gz", "vcf"),
        ("vcf.bgz", "vcf"),
        ("narrowPeak", "narrowpeak"),
        ("bb", "bigbed"),
        ("gff2", "gff"),
        (" bed ", "bed"),
        ("fna.gz", "fasta"),
        ("bedGraph", "bedgraph"),
        ("bed narrowPeak", "narrowpeak"),
        ("bed broadPeak", "broadpeak"),
        ("bed gappedPeak", "gappedpeak"),
        ("bed bed3+", "bed"),
        ("bed bedMethyl", "bed"),
        ("bed idr_ranked_peak", "bed"),
        ("bigBed bed6+", "bigbed"),
        ("bigBed narrowPeak", "bigbed"),
        ("bigInteract", "bigbed"),
        ("gff gff3", "gff3"),
        ("vcf_gz", "vcf"),
        ("GVF", "gff3"),
        ("g.vcf.gz", "vcf"),
        ("gvcf", "vcf"),
        ("bed12", "bed"),
        ("format_3586", "bed"),
        ("tagAlign.gz", "tagalign"),
        ("2bit", "2bit"),
        ("bed bedpe", "bedpe"),
        ("bedpe.gz", "bedpe"),
        ("paf", "paf"),
        ("gbk", "genbank"),
        ("format_1936", "genbank"),
        ("embl", "embl"),
        ("seg", "seg"),
        ("interval_list", "interval_list"),
        ("peaks.xls", "macs"),
        ("rmsk", "ucsc_table"),
        ("RepeatMasker", "ucsc_table"),
        ("pairs.gz", "pairs"),
        ("pairs_gz", "pairs"),
        ("mcool", "mcool"),
        (".hic", "hic"),
        ("bg", "bedgraph"),
        ("format:3583", "bedgraph"),
        ("wig.gz", "wig"),
        ("format:1929", "fasta"),
        ("http://edamontology.org/format_1332", "fasta"),
    ],
)
def test_names_ids_and_suffixes_resolve(expected: str, name: str) -> None:
    found = formats.resolve(expected)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("expected", ["", "format_9999", "docx", "gz", "bam.exe", "a b"])
def test_what_is_unknown_stays_unknown(expected: str) -> None:
    assert formats.resolve(expected) is None


@pytest.mark.parametrize(
    ("filename", "name"),
    [("a.b.c.bed.gz", "bed"), ("X.BAM", "bam"), ("peaks.narrowPeak.gz", "narrowpeak"), ("x.bw", "bigwig")],
)
def test_a_file_name_says_its_format(filename: str, name: str) -> None:
    found = formats.from_filename(filename)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("filename", ["bam", "x", "x.gz", "bed.gz", ""])
def test_a_file_name_without_a_suffix_says_nothing(filename: str) -> None:
    assert formats.from_filename(filename) is None


def test_each_format_is_found_by_its_own_name_and_id() -> None:
    for each in formats.ALL:
        assert formats.resolve(each.name) is each
        assert not each.edam or formats.resolve(each.edam) is each


def test_what_is_no_format_is_told_all_there_are() -> None:
    entry = {"dcc": "d", "local_id": "x", "access_url": "https://example.org/x", "filename": "x.doc"}
    for fields in (entry, {**entry, "file_format": "docx"}):
        with pytest.raises(InvalidInput) as refused:
            SourceFile.from_json(fields)
        assert all(known.name in refused.value.problem for known in formats.ALL)
        assert fields.get("file_format", "x.doc") in refused.value.problem
