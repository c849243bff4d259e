"""The libraries by which viewers read files, on artifacts of a running service, by byte range over HTTP.

What has to come out is read from the source by other means than the product's: line by line, by the csv
module, letter by letter.
"""

from __future__ import annotations

import csv
import random
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.benchmark_modules import load_benchmark
from tests.browser.service import Herd, Origin

from gooseherd.domain import formats
from gooseherd.domain.formats import Format
from gooseherd.trial import inputs
from gooseherd.trial.spans import CONTIGS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

Region = tuple[str, int, int]
CONTACTS = Path(__file__).parents[1] / "data" / "contacts.hic"
CHANCE = random.Random(8)
REGIONS: list[Region] = [
    *((name, 0, length) for name, length in CONTIGS.items()),
    *(
        (name, at, at + width)
        for name in CONTIGS
        for width in (1, 700, 16_384)
        for at in (0, 16_383, CHANCE.randrange(30_000))
    ),
]


@dataclass(frozen=True)
class Span:
    """A record: half-open from 0."""

    name: str
    begin: int
    end: int
    line: str


def rows(path: Path, comment: str = "#") -> list[list[str]]:
    with path.open(newline="") as file:
        found = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row for row in found if row and not row[0].startswith((comment, "track", "browser"))]


def as_they_are(path: Path) -> Iterator[Span]:
    for row in rows(path):
        yield Span(row[0], int(row[1]), int(row[2]), "\t".join(row))


def bed(name: str, begin: int, end: str, *more: str) -> Span:
    return Span(name, begin, int(end), "\t".join((name, str(begin), end, *more)))


def segments(path: Path) -> Iterator[Span]:
    for sample, name, begin, end, marks, mean in rows(path)[1:]:
        yield bed(name, int(begin) - 1, end, sample, mean, ".", marks)


def interval_list(path: Path) -> Iterator[Span]:
    for name, begin, end, strand, label in rows(path, "@"):
        yield bed(name, int(begin) - 1, end, label, "0", strand)


def macs(path: Path) -> Iterator[Span]:
    for name, begin, end, *scores, label in rows(path)[1:]:
        yield bed(name, int(begin) - 1, end, label, "0", ".", *scores)


def repeats(path: Path) -> Iterator[Span]:
    for row in rows(path):
        name, begin, end, left, strand, repeat, *about = row[5:]
        yield bed(name, int(begin), end, repeat, "0", strand, *row[1:5], left, *about)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """Files of every format that is not an old one."""
    folder = tmp_path_factory.mktemp("new-formats")
    for file_format in (
        *(formats.GAPPEDPEAK, formats.TAGALIGN, formats.INTERACT, formats.SEG, formats.INTERVAL_LIST),
        *(formats.MACS, formats.UCSC_TABLE, formats.BEDPE, formats.PAF, formats.PAIRS, formats.BEDGRAPH),
        *(formats.WIG, formats.FASTA, formats.GENBANK, formats.EMBL),
    ):
        inputs.make(file_format, folder, "0a1b2c3d")
    write_2bit(folder / "letters.2bit")
    write_blocks(folder / "blocks.gvcf")
    write_variants(folder / "variants.gvf")
    shutil.copyfile(CONTACTS, folder / "contacts.hic")
    origin = Origin(folder)
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def readers(bundle: Path) -> Iterator[Any]:
    readers = load_benchmark("_viewers").Readers(bundle / "readers.mjs")
    yield readers
    readers.close()


@pytest.fixture
def served(herd: Herd, origin: Origin) -> Callable[[str], tuple[Path, dict[str, str]]]:
    """The source of a name, and the addresses of what is made of it."""

    def serve(filename: str) -> tuple[Path, dict[str, str]]:
        return origin.folder / filename, herd.names(herd.register(filename))

    return serve


def trial_name(file_format: Format) -> str:
    return f"smoke-0a1b2c3d.{file_format.suffixes[0]}"


def lines_in(spans: Sequence[Span], region: Region) -> list[str]:
    name, begin, end = region
    return sorted(s.line for s in spans if s.name == name and s.begin < end and s.end > begin)


@pytest.mark.parametrize(
    ("file_format", "wanted"),
    [
        (formats.GAPPEDPEAK, as_they_are),
        (formats.TAGALIGN, as_they_are),
        (formats.INTERACT, as_they_are),
        (formats.SEG, segments),
        (formats.INTERVAL_LIST, interval_list),
        (formats.MACS, macs),
        (formats.UCSC_TABLE, repeats),
    ],
    ids=lambda given: given.name if isinstance(given, Format) else "",
)
def test_gmod_bed_reads_the_records_of_what_becomes_bed(
    readers: Any, served: Any, file_format: Format, wanted: Callable[[Path], Iterator[Span]]
) -> None:
    source, urls = served(trial_name(file_format))
    spans = list(wanted(source))
    assert len(spans) == 400
    found, _ = readers.ask("bed", {"data": urls["data"], "index": urls["index"]}, REGIONS)
    for region, records in zip(REGIONS, found, strict=True):
        assert sorted(line for line, _ in records) == lines_in(spans, region)
        for line, (name, begin, end) in records:
            assert line.split("\t")[:3] == [name, str(begin), str(end)]


ENDS = {
    formats.BEDPE: ((0, 1, 2), (3, 4, 5)),
    formats.PAF: ((5, 7, 8), (0, 2, 3)),
    formats.PAIRS: ((1, 2, 2), (3, 4, 4)),
}


@pytest.mark.parametrize("file_format", ENDS, ids=lambda given: given.name)
def test_gmod_tabix_finds_records_with_two_ends_by_either(
    readers: Any, served: Any, file_format: Format
) -> None:
    source, urls = served(trial_name(file_format))
    by_part = (("data", "index"), ("second_end", "second_end_index"))
    shift = 1 if file_format is formats.PAIRS else 0
    for (data, index), (name, begin, end) in zip(by_part, ENDS[file_format], strict=True):
        prefix = "q" if file_format is formats.PAF and data == "second_end" else ""
        spans = [
            Span(row[name], int(row[begin]) - shift, int(row[end]), "\t".join(row)) for row in rows(source)
        ]
        assert len(spans) == 400
        regions = [(prefix + contig, first, last) for contig, first, last in REGIONS]
        found, _ = readers.ask("tabix", {"data": urls[data], "index": urls[index]}, regions)
        for region, records in zip(regions, found, strict=True):
            assert sorted(line for line, _ in records) == lines_in(spans, region)


def values_of(path: Path) -> list[tuple[Region, float]]:
    """Of bedGraph, and of wiggle of both kinds."""
    found: list[tuple[Region, float]] = []
    place: dict[str, str] = {}
    for words in (line.split() for line in path.read_text().splitlines()):
        if words[0] == "track":
            continue
        if words[0] in ("fixedStep", "variableStep"):
            place = {"kind": words[0], **dict(word.split("=") for word in words[1:])}
        elif not place:
            found.append(((words[0], int(words[1]), int(words[2])), float(words[3])))
        else:
            begin = int(place["start"] if place["kind"] == "fixedStep" else words[0]) - 1
            found.append(((place["chrom"], begin, begin + int(place["span"])), float(words[-1])))
            if place["kind"] == "fixedStep":
                place["start"] = str(begin + 1 + int(place["step"]))
    return found


@pytest.mark.parametrize("file_format", [formats.BEDGRAPH, formats.WIG], ids=lambda given: given.name)
def test_gmod_bbi_reads_the_values_of_what_becomes_a_bigwig(
    readers: Any, served: Any, file_format: Format
) -> None:
    source, urls = served(trial_name(file_format))
    values = values_of(source)
    assert len(values) > 200
    found, header = readers.ask("bigwig", {"data": urls["data"]}, REGIONS)
    assert header == {
        contig: max(end for (name, _, end), _ in values if name == contig) for contig in CONTIGS
    }
    for (contig, begin, end), features in zip(REGIONS, found, strict=True):
        # This reader gives what ends where the region begins, too.
        assert features == sorted(
            [start, stop, value]
            for (name, start, stop), value in values
            if name == contig and start < end and stop >= begin
        )


def letters_of(path: Path) -> dict[str, str]:
    """Of FASTA, GenBank and EMBL."""
    found: dict[str, str] = {}
    name, within = "", False
    for line in path.read_text().splitlines():
        if line.startswith(("VERSION", "ID ")):
            name = line.split()[1].replace(";", "")
            name += ".1" if line.startswith("ID ") else ""
        elif line.startswith(">"):
            name, within = line[1:].split()[0], True
        elif line.startswith(("ORIGIN", "SQ ")):
            within = True
        elif line == "//":
            within = False
        elif within:
            found[name] = found.get(name, "") + "".join(c for c in line if c.isalpha())
    return found


@pytest.mark.parametrize(
    "file_format", [formats.FASTA, formats.GENBANK, formats.EMBL], ids=lambda given: given.name
)
def test_gmod_indexedfasta_reads_stretches_of_sequences(
    readers: Any, served: Any, file_format: Format
) -> None:
    source, urls = served(trial_name(file_format))
    letters = letters_of(source)
    assert sorted(map(len, letters.values())) == sorted(CONTIGS.values())
    suffix = ".1" if file_format is formats.EMBL else ""
    regions = [(name + suffix, first, last) for name, first, last in REGIONS]
    parts = {kind: urls[kind] for kind in ("data", "index", "gzi")}
    found, header = readers.ask("fasta", parts, regions)
    assert header == {name: len(text) for name, text in letters.items()}
    for (name, begin, end), text in zip(regions, found, strict=True):
        assert text.upper() == letters[name][begin:end].upper()


def test_gmod_gff_reads_the_features_of_a_genbank_record(readers: Any, served: Any) -> None:
    _, urls = served(trial_name(formats.GENBANK))
    parts = {"data": urls["annotation"], "index": urls["annotation_index"]}
    found, _ = readers.ask("gff", parts, [("chr1", 0, 1000), ("chr1", 400, 500), ("chr2", 500, 501)])
    places = [[parsed[:4] for parsed in records] for records in found]
    gene = ["gene", 101, 900]
    assert places[0] == [["chr1", *gene], ["chr1", "CDS", 101, 400], ["chr1", "CDS", 501, 900]]
    assert places[1] == [["chr1", *gene]]
    assert places[2] == [["chr2", *gene], ["chr2", "CDS", 501, 900]]


def write_2bit(path: Path) -> None:
    """Random letters with stretches of N and of lower case, as genome.ucsc.edu/FAQ/FAQformat.html#format7."""
    head = struct.pack("<4I", 0x1A412743, 0, len(CONTIGS), 0)
    at = len(head) + sum(5 + len(name) for name in CONTIGS)
    names, records = b"", b""
    for name, letters in two_bit_letters().items():
        unknown, masked = stretches(letters, str.isalpha, "N"), stretches(letters, str.islower)
        body = struct.pack("<I", len(letters))
        for found in (unknown, masked):
            body += struct.pack("<I", len(found))
            body += b"".join(struct.pack("<I", begin) for begin, _ in found)
            body += b"".join(struct.pack("<I", end - begin) for begin, end in found)
        codes = ["TCAG".find(letter) % 4 for letter in letters.upper().replace("N", "T")]
        packed = bytes(
            sum(code << shift for code, shift in zip(codes[n : n + 4], (6, 4, 2, 0), strict=False))
            for n in range(0, len(codes), 4)
        )
        names += bytes([len(name)]) + name.encode() + struct.pack("<I", at + len(records))
        records += body + struct.pack("<I", 0) + packed
    path.write_bytes(head + names + records)


def two_bit_letters() -> dict[str, str]:
    chance = random.Random(2)
    return {
        name: "".join(
            "N" * 50 if n % 7 == 3 else "".join(chance.choices("acgt" if n % 5 == 2 else "ACGT", k=50))
            for n in range(length // 50)
        )
        for name, length in CONTIGS.items()
    }


def stretches(letters: str, within: Callable[[str], bool], one: str = "") -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for at, letter in enumerate(letters):
        if within(letter) and (not one or letter == one):
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
    return found


def test_gmod_twobit_reads_stretches_of_sequences(readers: Any, served: Any) -> None:
    _, urls = served("letters.2bit")
    letters = two_bit_letters()
    found, header = readers.ask("twobit", {"data": urls["data"]}, REGIONS)
    assert header == CONTIGS
    for (name, begin, end), text in zip(REGIONS, found, strict=True):
        assert text == letters[name][begin:end]


def test_hic_straw_reads_the_contacts_between_two_places(readers: Any, served: Any) -> None:
    """contacts.hic was written by hictk: bins of 1000 bases, and of bins i and j (i+j)%9 == 0 alone."""
    _, urls = served("contacts.hic")
    places = [
        (("chr1", 0, 100_000), ("chr1", 0, 100_000)),
        (("chr1", 10_000, 20_000), ("chr1", 10_000, 30_000)),
        (("chr1", 5_000, 40_000), ("chr2", 0, 25_000)),
        (("chr2", 0, 50_000), ("chr2", 0, 50_000)),
    ]
    found, header = readers.ask("hic", {"data": urls["data"]}, places, resolution=1000)
    assert {name: size for name, size in header.items() if name.lower() != "all"} == CONTIGS
    first = {"chr1": 0, "chr2": 100}
    for ((one, *rows_of), (other, *columns_of)), contacts in zip(places, found, strict=True):
        assert contacts
        wanted = {
            (i - first[one], j - first[other]): (i * 7 + j) % 89 + 1
            for i in range(first[one], first[one] + CONTIGS[one] // 1000)
            for j in range(first[other], first[other] + CONTIGS[other] // 1000)
            if (i + j) % 9 == 0 and i <= j
        }
        inside = {
            (i, j): count
            for (i, j), count in wanted.items()
            if rows_of[0] <= i * 1000 < rows_of[1] and columns_of[0] <= j * 1000 < columns_of[1]
        }
        assert {(i, j): count for i, j, count in contacts if (i, j) in inside} == inside
        # The reader may give the mirror image within one sequence, and nothing else.
        assert all((i, j) in wanted or (j, i) in wanted for i, j, _ in contacts)


def write_blocks(path: Path) -> None:
    blocks = [(name, at) for name, length in CONTIGS.items() for at in range(1, length - 900, 1000)]
    random.Random(4).shuffle(blocks)
    head = "##fileformat=VCFv4.2\n"
    head += "".join(f"##contig=<ID={name},length={length}>\n" for name, length in CONTIGS.items())
    head += '##ALT=<ID=NON_REF,Description="any">\n##INFO=<ID=END,Number=1,Type=Integer,Description="end">\n'
    head += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    path.write_text(
        head
        + "".join(f"{name}\t{at}\t.\tA\t<NON_REF>\t.\t.\tEND={at + 899}\n" for name, at in sorted(blocks))
    )


def test_gmod_vcf_reads_the_blocks_of_a_gvcf_that_reach_into_a_region(readers: Any, served: Any) -> None:
    source, urls = served("blocks.gvcf")
    spans = [
        Span(row[0], int(row[1]) - 1, int(row[7].removeprefix("END=")), "\t".join(row))
        for row in rows(source)
    ]
    found, _ = readers.ask("vcf", {"data": urls["data"], "index": urls["index"]}, REGIONS)
    for region, records in zip(REGIONS, found, strict=True):
        assert sorted(line for line, _ in records) == lines_in(spans, region)
        for _, (_, position, _, alleles, end) in records:
            assert (alleles, end) == (["<NON_REF>"], position + 899)


def write_variants(path: Path) -> None:
    chance = random.Random(6)
    lines = []
    for number in range(300):
        name = chance.choice(list(CONTIGS))
        at = chance.randrange(1, CONTIGS[name] - 50)
        about = f"ID={number};Variant_seq=A,C;Reference_seq=G"
        lines.append(f"{name}\tx\tSNV\t{at}\t{at + number % 9}\t.\t+\t.\t{about}")
    path.write_text("##gff-version 3\n##gvf-version 1.10\n" + "".join(f"{line}\n" for line in lines))


def test_gmod_gff_reads_the_variants_of_a_gvf(readers: Any, served: Any) -> None:
    source, urls = served("variants.gvf")
    spans = [Span(row[0], int(row[3]) - 1, int(row[4]), "\t".join(row)) for row in rows(source)]
    found, _ = readers.ask("gff", {"data": urls["data"], "index": urls["index"]}, REGIONS)
    for region, variants in zip(REGIONS, found, strict=True):
        wanted = [line.split("\t") for line in lines_in(spans, region)]
        assert sorted(map(str, variants)) == sorted(
            str([name, kind, int(begin), int(end), about.partition(";")[0].removeprefix("ID="), ["A", "C"]])
            for name, _, kind, begin, end, *_, about in wanted
        )


def test_gmod_trix_finds_the_names_of_a_large_file_by_ranges(
    readers: Any, herd: Herd, origin: Origin
) -> None:
    rolled = random.Random(2)
    names = [f"Gene{rolled.randrange(1 << 32):08x}" for _ in range(5000)]
    path = origin.folder / "named.gff3"
    path.write_text(
        "##gff-version 3\n"
        + "".join(
            f"chr1\tx\tgene\t{n + 1}\t{n + 9}\t.\t+\t.\tID=g{n};Name={name}\n" for n, name in enumerate(names)
        )
    )
    folder = f"{herd.url}/files/lab/{herd.register('named.gff3')}"
    urls = {"names": f"{folder}/named.ix", "names_index": f"{folder}/named.ixx"}
    asked = [*names[::500], min(names), max(names), "gene", "nothing", "zzz"]
    found, _ = readers.ask("trix", urls, [[name] for name in asked])
    for name, results in zip(asked[:-3], found, strict=False):
        number = names.index(name)
        assert results == [[name.lower(), [f"chr1:{number + 1}..{number + 9}", "", name]]]
    assert len(found[-3]) == 1500  # JBrowse's most
    assert found[-2:] == [[], []]
    by_service = herd.get(f"/search?q={names[7]}&files={folder.partition('/files/')[2]}").json()
    assert by_service["results"][0]["region"] == "chr1:8-16"
