"""What a real file of the formats with parts of their own holds: tables, two ends, values, sequences.

Each is read from the source by other means than the product's (the csv module, a scan of the lines, letter
by letter); the artifact by the readers that viewers and pipelines have: htslib and pyBigWig.
"""

from __future__ import annotations

import csv
import io
import random
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyBigWig
import pysam
from _reference import LAST, PLACES, WHOLE, Differs, Text, unpacked, whole_number

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import (
    BEDPE,
    EMBL,
    FASTA,
    GENBANK,
    INTERVAL_LIST,
    MACS,
    PAF,
    PAIRS,
    SEG,
    UCSC_TABLE,
    Format,
)

Parts = Mapping[Kind, Path]


def rows(source: Path, comment: str = "#") -> Iterator[list[str]]:
    text = io.StringIO(unpacked(source).decode("utf-8", "surrogateescape"), newline=None)
    for row in csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE):
        if row and any(row) and not row[0].startswith((comment, "track", "browser")):
            yield row


# -- tables ----------------------------------------------------------------------------------


def of_seg(source: Path) -> Iterator[list[str]]:
    """By the names of DNAcopy, or of a table that begins with the sequence; the last column is the mean."""
    titles: list[str] = []
    for row in ([value.strip('"') for value in found] for found in rows(source)):
        if not titles and not any(value.isdigit() for value in row):
            titles = row
            continue
        sample, name, begin, end, *between, mean = row if titles[0] != "chrom" else [".", *row]
        yield [name, str(int(begin) - 1), end, sample, mean, ".", *between]


def of_interval_list(source: Path) -> Iterator[list[str]]:
    for name, begin, end, strand, *label in rows(source, "@"):
        yield [name, str(int(begin) - 1), end, *(label[:1] or ["."]), "0", strand, *label[1:]]


def of_macs(source: Path) -> Iterator[list[str]]:
    titles, *peaks = rows(source)
    for peak in peaks:
        found = dict(zip(titles, peak, strict=True))
        name = found.pop("name")
        begin = str(int(found.pop("start")) - 1)
        yield [found.pop("chr"), begin, found.pop("end"), name, "0", ".", *found.values()]


GENES: Final = [
    *("bin", "name", "chrom", "strand", "txStart", "txEnd", "cdsStart", "cdsEnd", "exonCount"),
    *("exonStarts", "exonEnds", "score", "name2", "cdsStartStat", "cdsEndStat", "exonFrames"),
]


def of_ucsc(source: Path) -> Iterator[list[str]]:
    """Genes as UCSC's genePredToBed has them, with the second name behind; else the columns as they are."""
    first = unpacked(source).split(b"\n", 1)[0].decode()
    titles = first[1:].split("\t") if first.startswith("#") else []
    for row in rows(source):
        if not titles:
            titles = GENES if row[0].isdigit() else GENES[1:]
            titles = [*titles[:10], "proteinID", "alignID"] if len(row) == 12 else titles
            titles = ["geneName", *GENES[1:11]] if len(row) == 11 and not row[0].isdigit() else titles
        found = dict(zip(titles, row, strict=False))
        if "exonStarts" not in found:
            label = found.get("name", ".")
            place = [found.pop(name) for name in ("chrom", "chromStart", "chromEnd")]
            strand = found.pop("strand", ".")
            rest = [value for name, value in found.items() if name not in ("bin", "name")]
            yield [*place, label, "0", strand, *rest]
            continue
        begin = int(found["txStart"])
        begins, ends = (
            [int(n) for n in found[name].strip(",").split(",")] for name in ("exonStarts", "exonEnds")
        )
        sizes = ",".join(str(end - start) for start, end in zip(begins, ends, strict=True))
        offsets = ",".join(str(start - begin) for start in begins)
        place = [found["chrom"], found["txStart"], found["txEnd"], found["name"], "0", found["strand"]]
        more = found.get("name2", found.get("geneName", "."))
        yield [*place, found["cdsStart"], found["cdsEnd"], "0", str(len(begins)), sizes, offsets, more]


TABLES: Final = {SEG: of_seg, INTERVAL_LIST: of_interval_list, MACS: of_macs, UCSC_TABLE: of_ucsc}


class Table(Text):
    """The source's rows as lines of BED, sorted, indexed and read by htslib."""

    def lines_of(self, source: Path) -> list[bytes]:
        converted = TABLES[self.format](source)
        return ["\t".join(row).encode("utf-8", "surrogateescape") for row in converted]


# -- two ends --------------------------------------------------------------------------------

ENDS: Final = {
    BEDPE: ((0, 1, 2), (3, 4, 5)),
    PAF: ((5, 7, 8), (0, 2, 3)),
    PAIRS: ((1, 2, 2), (3, 4, 4)),
}
"""Name, begin and end of either, as columns from 0."""


class TwoEnds:
    """The source's lines, by a linear scan for either end."""

    def __init__(self, source: Path, file_format: Format) -> None:
        self.ends, self.shift = ENDS[file_format], 1 if file_format is PAIRS else 0
        self.lines = []
        for raw in unpacked(source).split(b"\n"):
            line = raw.rstrip(b"\r").decode()
            fields = line.split("\t")
            if len(fields) < 6 and file_format is BEDPE:
                fields = line.split()
            if not line or line.startswith(("#", "track")) or len(fields) < 5:
                continue
            if any(self.place(fields, end) for end in self.ends):
                self.lines.append("\t".join(fields))
        self.records = len(self.lines)

    def place(self, fields: Sequence[str], end: tuple[int, int, int]) -> tuple[str, int, int] | None:
        """Half-open from 0; None where the end is nowhere, or these are the names of the columns."""
        name, begin, stop = (fields[column] for column in end)
        if name in (".", "*", "!") or begin == "-1" or whole_number(begin.encode()) is None:
            return None
        return name, int(begin) - self.shift, int(stop)

    def compare(self, parts: Parts) -> int:
        asked = 0
        kinds = ((Kind.DATA, Kind.INDEX), (Kind.SECOND_END, Kind.SECOND_END_INDEX))
        for (data, index), end in zip(kinds, self.ends, strict=True):
            placed = [
                (place, line)
                for line in self.lines
                if (place := self.place(line.split("\t"), end)) is not None
            ]
            made = [line.decode() for line in unpacked(parts[data]).split(b"\n")[:-1] if line[:1] != b"#"]
            if Counter(made) != Counter(line for _, line in placed):
                raise Differs(f"{data}: {len(made)} records, the source has {len(placed)}")
            with pysam.TabixFile(str(parts[data]), index=str(parts[index]), encoding="utf-8") as opened:
                for name, begin, stop in regions([place for place, _ in placed], len(made)):
                    asked += 1
                    wanted = [
                        line for (n, b, e), line in placed if n == name and b < stop and max(e, b + 1) > begin
                    ]
                    found = list(opened.fetch(name, begin, stop)) if name in opened.contigs else []
                    if sorted(found) != sorted(wanted):
                        raise Differs(f"{data} {name}:{begin}-{stop}: {len(found)} instead of {len(wanted)}")
        return asked


def regions(places: Sequence[tuple[str, int, int]], seed: int) -> Iterator[tuple[str, int, int]]:
    """Whole sequences, and around some of the places."""
    draw = random.Random(seed)
    names = sorted({name for name, *_ in places})
    for name in draw.sample(names, min(WHOLE, len(names))):
        yield name, 0, LAST
    for _ in range(PLACES if places else 0):
        name, at, _ = draw.choice(places)
        width = draw.choice((1, 100, 10_000, 1_000_000))
        begin = max(at - draw.randrange(width), 0)
        yield name, begin, begin + width


# -- values ----------------------------------------------------------------------------------


class Values:
    """The values of a bedGraph or a wiggle; of those that overlap the first has the bases."""

    def __init__(self, source: Path) -> None:
        self.values: dict[str, list[tuple[int, int, float]]] = {}
        self.records = 0
        place: dict[str, str] = {}
        at = 1
        for line in unpacked(source).decode().splitlines():
            words = line.split()
            if not words or words[0] in ("track", "browser") or line.startswith("#"):
                continue
            if words[0] in ("fixedStep", "variableStep"):
                place = {"kind": words[0], **dict(word.split("=") for word in words[1:])}
                at = int(place.get("start", 1))
                continue
            if len(words) >= 4:
                name, begin, end = words[0], int(words[1]), int(words[2])
                value = words[3]
            else:
                name, value = place["chrom"], words[-1]
                begin = (at if place["kind"] == "fixedStep" else int(words[0])) - 1
                end = begin + int(place.get("span", 1))
                at += int(place.get("step", 1)) if place["kind"] == "fixedStep" else 0
            if value.lower() not in ("na", "nan") and begin < end:
                self.records += 1
                self.values.setdefault(name, []).append((begin, end, float(value)))
        for name, values in self.values.items():
            self.values[name] = list(without_overlaps(sorted(values, key=lambda one: one[0])))

    def compare(self, data: Path) -> int:
        asked = 0
        with pyBigWig.open(str(data)) as opened:
            if opened.chroms() != {name: values[-1][1] for name, values in self.values.items()}:
                raise Differs("other sequences or lengths")
            for name, values in self.values.items():
                if (found := [as_text(one) for one in opened.intervals(name) or ()]) != [
                    as_text(one) for one in values
                ]:
                    raise Differs(f"{name}: {len(found)} values, the source has {len(values)}")
            places = [(name, begin, end) for name, values in self.values.items() for begin, end, _ in values]
            for name, begin, stop in regions(places, self.records):
                end = min(stop, opened.chroms(name))
                asked += 1
                wanted = [as_text(one) for one in self.values[name] if one[0] < end and one[1] > begin]
                found = [as_text(one) for one in opened.intervals(name, begin, end) or ()]
                if found != wanted:
                    raise Differs(f"{name}:{begin}-{end}: {len(found)} values, the source has {len(wanted)}")
        return asked


def without_overlaps(values: Sequence[tuple[int, int, float]]) -> Iterator[tuple[int, int, float]]:
    reach = 0
    for begin, end, value in values:
        if end > reach:
            yield max(begin, reach), end, value
            reach = end


def as_text(interval: tuple[int, int, float]) -> tuple[int, int, bytes]:
    """Values are of single precision."""
    return interval[0], interval[1], struct.pack("<f", interval[2])


# -- sequences -------------------------------------------------------------------------------


class Sequences:
    """The letters of a FASTA, a GenBank or an EMBL file, and of the latter two where features are."""

    def __init__(self, source: Path, file_format: Format) -> None:
        self.format = file_format
        text = unpacked(source).decode("latin-1")
        found = of_fasta(text) if file_format is FASTA else of_flatfile(text)
        self.letters = [(name, letters) for name, letters, _ in found if letters]
        self.places = Counter(place for _, letters, places in found if letters for place in places)
        self.records = len(self.letters)

    def compare(self, parts: Parts) -> int:
        asked = 0
        with pysam.FastaFile(str(parts[Kind.DATA]), str(parts[Kind.INDEX]), str(parts[Kind.GZI])) as opened:
            if opened.lengths != [len(letters) for _, letters in self.letters]:
                raise Differs(f"{opened.nreferences} sequences, the source has {len(self.letters)}")
            places = []
            for name, (source_name, letters) in zip(opened.references, self.letters, strict=True):
                if self.format is FASTA and name != source_name:
                    raise Differs(f"{name} instead of {source_name}")
                places.append((name, letters))
            draw = random.Random(len(places))
            for _ in range(PLACES):
                name, letters = draw.choice(places)
                begin = draw.randrange(len(letters))
                end = min(begin + draw.choice((1, 70, 5000, LAST)), len(letters))
                asked += 1
                found = opened.fetch(name, begin, end)
                if (found if self.format is FASTA else found.upper()) != (
                    letters if self.format is FASTA else letters.upper()
                )[begin:end]:
                    raise Differs(f"{name}:{begin}-{end}: other letters")
        if self.format in (GENBANK, EMBL):
            lines = unpacked(parts[Kind.ANNOTATION]).decode().splitlines()
            fields = [line.split("\t") for line in lines if line and not line.startswith("#")]
            # Proteins have no strand.
            made = Counter((int(line[3]), int(line[4]), line[6].replace(".", "+")) for line in fields)
            if missing := self.places - made:
                raise Differs(
                    f"{missing.total()} places of features are not there, one: {next(iter(missing))}"
                )
        return asked


def of_fasta(text: str) -> list[tuple[str, str, list[Any]]]:
    found = []
    for record in re.split(r"^>", text, flags=re.MULTILINE)[1:]:
        title, _, lines = record.partition("\n")
        found.append(((title.split() or [""])[0], "".join(lines.split()), list[Any]()))
    return found


_FEATURE = re.compile(r"^(?:     |FT   )(\S+) +(complement\()?<?(\d+)\.\.>?(\d+)\)?$", re.MULTILINE)


def of_flatfile(text: str) -> list[tuple[str, str, list[Any]]]:
    found = []
    for record in re.split(r"^//\s*$", text, flags=re.MULTILINE):
        about, _, letters = re.sub(
            r"^(ORIGIN|SQ   ).*$", "\0", record, count=1, flags=re.MULTILINE
        ).partition("\0")
        letters = "".join(re.findall("[A-Za-z*-]", letters))
        places = []
        for kind, turned, begin, end in _FEATURE.findall(about):
            if kind in ("source", "Location/Qualifiers"):
                continue
            parts = [(begin, end)]
            if int(begin) > int(end):
                # In a circle it runs across the origin; elsewhere this is no place.
                circle = " circular " in about.split("\n", 1)[0]
                parts = [(begin, len(letters)), (1, end)] if circle else []
            places += [(int(first), int(last), "-" if turned else "+") for first, last in parts]
        found.append(("", letters, places))
    return found
