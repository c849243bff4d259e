"""Legal files of every shape that the text formats and BAM have, each with the records that must come out.

`generate(format, seed, number)` gives the same file for the same arguments. What a shape is made of is drawn:
how many records and sequences, in which order, how long the records are, how their ends are told, what stands
between them, how the file is packed. What must come out is known from the making, not read from the file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pysam
from backports import zstd

FORMATS = ("vcf", "bed", "gff3", "gtf", "bam", "gff", "narrowpeak", "broadpeak", "sam")
FAR = 1 << 29
"""TBI and BAI hold positions below this (SAMv1 §5.2)."""
LAST = (1 << 31) - 1
_SIZES = (0, 1, 1, 2, 3, 7, 7, 30, 30, 150, 1200)
_ODD_NAMES = ("HLA-A*01:01", "chr1,2", "c:1-9", "a b", "é", "1", "chrUn_KI270302v1", "x=y", "{c}", "0" * 120)


@dataclass
class Generated:
    """A source and what is right for it."""

    format: str
    source: bytes
    about: str
    """What was drawn, in words."""
    lines: list[bytes] = field(default_factory=list)
    """The records in the source's order, as they are in the artifact; of alignments none."""


@dataclass
class Layout:
    """What the records of a file have in common."""

    names: list[str]
    longest: int
    """Bases of the longest sequence."""
    count: int
    order: str
    """as drawn, by name and start, or blocks of sequences in another order."""
    crowded: bool
    """Records at few places, many of them the same."""


def generate(file_format: str, seed: int, number: int) -> Generated:
    """File `number` of a format."""
    draw = random.Random(f"{seed} {file_format} {number}")
    if file_format in ("bam", "sam"):
        return _alignments(draw, file_format)
    return _TEXTS[file_format](draw)


# -- what all have ---------------------------------------------------------------------------


def _layout(draw: random.Random, odd_names: bool = True) -> Layout:
    count = draw.choice(_SIZES)
    names = [f"chr{n}" for n in range(1, draw.choice((1, 1, 2, 3, 25)) + 1)]
    if odd_names and draw.random() < 0.2:
        names += draw.sample(_ODD_NAMES, 2)
    if draw.random() < 0.02:
        names = [f"contig{n}" for n in range(1, 700)]
    draw.shuffle(names)
    longest = draw.choice((300, 1 << 14, 1 << 17, 250_000_000, 250_000_000, FAR - 1, FAR + 5_000_000, LAST))
    if len(names) > 100:
        # An index takes memory for every base of every sequence, and no genome has 10^12.
        longest = min(longest, 1 << 24)
    order = draw.choice(("as drawn", "as drawn", "sorted", "blocks"))
    return Layout(names, longest, count, order, draw.random() < 0.2)


def _spans(draw: random.Random, layout: Layout) -> list[tuple[str, int, int]]:
    """(sequence, begin, end) of records, half-open from 0, as the layout orders them."""
    spots = [draw.randrange(layout.longest) for _ in range(3)]
    found = []
    for _ in range(layout.count):
        begin = draw.choice(spots) if layout.crowded else _place(draw, layout.longest)
        length = draw.choice((1, 1, 2, 10, 100, 1 << 14, 1 << 17, 1 << 20, layout.longest))
        length = draw.randint(1, length)
        found.append((draw.choice(layout.names), begin, min(begin + length, layout.longest)))
    if layout.order != "as drawn":
        rank = {name: n for n, name in enumerate(layout.names)}
        byte_order = {name: name.encode() for name in layout.names}
        found.sort(
            key=lambda span: (byte_order[span[0]] if layout.order == "sorted" else rank[span[0]], span[1])
        )
    return found


def _place(draw: random.Random, longest: int) -> int:
    """Anywhere, at the edges of the bins of indexes, or at the very ends."""
    match draw.randrange(8):
        case 0:
            return 0
        case 1:
            return longest - 1
        case 2:
            edge = draw.randrange(longest) >> 14 << 14
            return min(max(edge + draw.choice((-1, 0, 1)), 0), longest - 1)
        case _:
            return draw.randrange(longest)


def in_artifacts_order(lines: Sequence[bytes], begin: int) -> list[bytes]:
    """The order that is published: the source's, if its sequences stand in blocks with ascending starts."""
    places = [_place_of(line, begin) for line in lines]
    seen: set[bytes] = set()
    last: tuple[bytes, int] = (b"", -1)
    for name, start in places:
        if name == last[0]:
            if start < last[1]:
                break
        elif name in seen:
            break
        seen.add(name)
        last = (name, start)
    else:
        return list(lines)
    return [line for _, line in sorted(zip(places, lines, strict=True), key=lambda pair: pair[0])]


def _place_of(line: bytes, begin: int) -> tuple[bytes, int]:
    columns = line.split(b"\t", begin + 1)
    return columns[0], int(columns[begin])


def _text(
    draw: random.Random, top: Sequence[str], between: Sequence[str], records: Sequence[str], about: str
) -> tuple[bytes, str]:
    """(the file, what it is): lines that are no records stand among those that are."""
    body = list(records)
    if draw.random() < 0.3:
        for _ in range(draw.randint(1, 4)):
            body.insert(draw.randint(0, len(body)), draw.choice((*between, "", "  ")))
    end = draw.choice(("\n", "\n", "\n", "\r\n"))
    text = end.join([*top, *body]) + (end if draw.random() < 0.9 else "")
    data = (b"\xef\xbb\xbf" if draw.random() < 0.05 else b"") + text.encode()
    packing, packed = _packed(draw, data)
    return packed, f"{about}, {packing}{', CRLF' if end != chr(10) else ''}"


def _packed(draw: random.Random, data: bytes) -> tuple[str, bytes]:
    match draw.choice(("plain", "plain", "bgzf", "bgzf", "bgzf", "gzip", "members", "bzip2", "xz", "zstd")):
        case "bgzf":
            return "bgzf", bgzipped(data)
        case "gzip":
            return "gzip", gzip.compress(data, mtime=0)
        case "members":
            size = draw.choice((50, 5000))
            parts = [data[at : at + size] for at in range(0, len(data), size)][:500] or [b""]
            rest = data[sum(map(len, parts)) :]
            return "gzip members", b"".join(gzip.compress(part, mtime=0) for part in [*parts, rest])
        case "bzip2":
            return "bzip2", bz2.compress(data)
        case "xz":
            return "xz", lzma.compress(data, preset=0)
        case "zstd":
            return "zstd", zstd.compress(data)
        case _:
            return "plain", data


def bgzipped(data: bytes) -> bytes:
    """In BGZF, by htslib."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gz"
        with pysam.BGZFile(str(path), "wb", None) as file:
            file.write(data)
        return path.read_bytes()


def _long(draw: random.Random) -> str:
    """Something to fill a column with; now and then so much that few records fill a block."""
    return "x" * draw.choice((1, 5, 20, 20, 3000)) if draw.random() < 0.3 else "n"


# -- BED and its kin -------------------------------------------------------------------------


def _bed(draw: random.Random) -> Generated:
    layout = _layout(draw)
    columns = draw.choice((3, 3, 4, 5, 6, 6, 9, 12))
    spaced = draw.random() < 0.15 and not any(" " in name for name in layout.names)
    lines, spelt = [], []
    for name, begin, last in _spans(draw, layout):
        end = begin if draw.random() < 0.03 else last
        more = [_long(draw), str(draw.randrange(1001)), draw.choice("+-."), str(begin), str(end), "0"]
        more += ["1", f"{end - begin},", "0,"]
        plain = [name, str(begin), str(end), *more[: columns - 3]]
        lines.append("\t".join(plain).encode())
        odd = [name, _spelt(draw, begin), _spelt(draw, end), *more[: columns - 3]]
        spelt.append((" " * draw.randint(1, 3)).join(odd) if spaced else "\t".join(odd))
    top = draw.choice(
        (
            (),
            ("track name=x",),
            ("browser position chr1:1-9", "track type=bed"),
            ("# a",),
            ("chrom\tstart\tend",),
        )
    )
    between = ("# remark", "track name=y visibility=2", "browser hide all", "#chr1\t5\t9")
    data, about = _text(draw, top, between, spelt, f"BED{columns} {layout.order}")
    if not lines and not top:
        data = b"track name=empty\n"
    return Generated("bed", data, about, lines)


def _spelt(draw: random.Random, number: int) -> str:
    if draw.random() > 0.02:
        return str(number)
    return draw.choice((f"{number}.0", f"00{number}", f"+{number}", f"{number}e0"))


def _peaks(draw: random.Random, name: str, columns: int) -> Generated:
    layout = _layout(draw)
    lines: list[bytes] = []
    for sequence, begin, end in _spans(draw, layout):
        scores = [f"{draw.random() * 100:.5f}" for _ in range(3)] + [str(draw.randrange(end - begin))]
        more = [f"peak{len(lines)}", str(draw.randrange(1001)), draw.choice("+-."), *scores]
        lines.append("\t".join([sequence, str(begin), str(end), *more][:columns]).encode())
    top = () if lines and draw.random() < 0.7 else (f'track type={name} name="peaks"',)
    data, about = _text(draw, top, ("# remark",), [line.decode() for line in lines], layout.order)
    return Generated(name, data, about, lines)


# -- GFF and GTF -----------------------------------------------------------------------------


def _gff(draw: random.Random, name: str) -> Generated:
    layout = _layout(draw)
    lines: list[bytes] = []
    for sequence, begin, end in _spans(draw, layout):
        about = f"ID=f{len(lines)};Note={_long(draw)}" if name == "gff3" else f'gene "f{len(lines)}"'
        if draw.random() < 0.02 and name == "gff3":
            about = "."
        kind = draw.choice(("gene", "mRNA", "exon", "CDS", "region", "a kind"))
        columns = [sequence, draw.choice(("src", ".", "a b")), kind, str(begin + 1), str(end)]
        columns += [draw.choice((".", "0.5")), draw.choice("+-.?"), draw.choice(".012"), about]
        lines.append("\t".join(columns).encode())
    top = ["##gff-version 3"] if name == "gff3" else draw.choice((["##gff-version 2"], ["# by hand"], []))
    if not lines and not top:
        top = ["##gff-version 2"]
    if draw.random() < 0.3 and name == "gff3":
        top += [
            f"##sequence-region {sequence} 1 {layout.longest}"
            for sequence in layout.names
            if " " not in sequence
        ]
    records = [line.decode() for line in lines]
    if draw.random() < 0.15 and name == "gff3":
        sequences = ["##FASTA", ">chr1", "ACGT", "ACGTAC", ">chr2 second", "NNNN"]
        at = draw.choice((len(records), draw.randint(0, len(records))))
        records[at:at] = sequences
    data, about = _text(draw, top, ("# remark", "###"), records, layout.order)
    return Generated(name, data, about, lines)


@dataclass(frozen=True)
class Exon:
    """A part of a transcript."""

    contig: str
    start: int
    end: int
    strand: str
    gene: str
    transcript: str


def _gtf(draw: random.Random) -> Generated:
    """Genes whose ids may stand at several places; what has no line of its own is to be made."""
    shape = draw.choice(
        ("exons", "exons", "exons and CDS", "transcripts", "genes", "placeholder", "bare ids")
    )
    exons = [exon for number in range(draw.choice((1, 1, 3, 12))) for exon in _gene(draw, number, shape)]
    lines: list[str] = []
    written: set[tuple[str, ...]] = set()
    for group in _by_transcript(exons):
        first, ends = group[0], (min(e.start for e in group), max(e.end for e in group))
        gene = (first.gene, first.contig, first.strand)
        if shape in ("genes", "bare ids", "placeholder") and gene not in written:
            written.add(gene)
            same = [e for e in exons if (e.gene, e.contig, e.strand) == gene]
            extent = (min(e.start for e in same), max(e.end for e in same))
            lines.append(_gtf_line(first, "gene", extent, first.gene if shape == "bare ids" else "gene"))
        if shape in ("transcripts", "genes", "bare ids"):
            lines.append(
                _gtf_line(first, "transcript", ends, first.transcript if shape == "bare ids" else "both")
            )
        for exon in group:
            kinds = ("CDS",) if shape == "placeholder" else ("exon", "CDS") if shape != "exons" else ("exon",)
            lines += [_gtf_line(exon, kind, (exon.start, exon.end), "both") for kind in kinds]
    if draw.random() < 0.4 and shape != "bare ids":
        draw.shuffle(lines)
    top = draw.choice(((), ("#!genome-build x",), ("##format: gtf",), ("##gff-version 2",)))
    data, about = _text(draw, top, ("# remark",), lines, shape)
    return Generated("gtf", data, about, [line.encode() for line in lines])


APART = 20_000_000
"""Between places of one id on a strand: further than any gene is long."""


def _gene(draw: random.Random, number: int, shape: str) -> Iterator[Exon]:
    first = draw.randint(1, 1_000_000)
    once = shape in ("genes", "bare ids", "placeholder")
    for contig in draw.sample(("c1", "c2"), 1 if once else draw.randint(1, 2)):
        for strand in draw.sample("+-", 1 if once else draw.randint(1, 2)):
            for copy in range(1 if once else draw.choice((1, 1, 2, 3))):
                for transcript in range(1 if shape == "placeholder" else draw.randint(1, 3)):
                    begin = first + copy * APART + draw.choice((0, 50, 3_000, 400_000))
                    name = "unassigned_transcript" if shape == "placeholder" else f"G{number}.{transcript}"
                    for _ in range(draw.randint(1, 5)):
                        end = begin + draw.randint(
                            20, 900
                        )  # gffread leaves out what has fewer than ten bases
                        yield Exon(contig, begin, end, strand, f"G{number}", name)
                        begin = end + draw.choice((60, 2_000, 300_000))


def _by_transcript(exons: Sequence[Exon]) -> list[list[Exon]]:
    """Those of one transcript at one place, in the order of their first."""
    groups: dict[tuple[object, ...], list[Exon]] = {}
    for exon in exons:
        key = (exon.gene, exon.transcript, exon.contig, exon.strand, exon.start // APART)
        groups.setdefault(key, []).append(exon)
    return list(groups.values())


def _gtf_line(exon: Exon, kind: str, extent: tuple[int, int], about: str) -> str:
    attributes = {
        "gene": f'gene_id "{exon.gene}";',
        "both": f'gene_id "{exon.gene}"; transcript_id "{exon.transcript}";',
    }.get(about, about)
    begin, end = extent
    return f"{exon.contig}\tx\t{kind}\t{begin}\t{end}\t.\t{exon.strand}\t.\t{attributes}"


# -- VCF -------------------------------------------------------------------------------------

_VCF_TOP = (
    "##fileformat=VCFv4.5",
    '##INFO=<ID=END,Number=1,Type=Integer,Description="end">',
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="length">',
    '##INFO=<ID=CIEND,Number=2,Type=Integer,Description="not an end">',
    '##INFO=<ID=END2,Number=1,Type=Integer,Description="not an end">',
    '##INFO=<ID=CHR2,Number=1,Type=String,Description="other sequence">',
    '##INFO=<ID=X,Number=1,Type=String,Description="anything">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">',
    '##FORMAT=<ID=LEN,Number=1,Type=Integer,Description="length of a block">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="depth">',
)
_ALLELES = (
    "T", "TTT", "<DEL>", "<DEL:ME:ALU>", "<DUP>", "<DUP:TANDEM>", "<INV>", "<CNV>", "<CNV:TR>", "<INS>",
    "<DELX>", "<BND>", "<TRA>", "<*>", "<NON_REF>", "*", "N[c7:90[", "]c1:2]N", ".",
)  # fmt: skip


def _vcf(draw: random.Random) -> Generated:
    layout = _layout(draw)
    # Names in a header line are made of what VCFv4.5 §1.4.7 allows; other formats have the others.
    layout.names = [name for name in layout.names if not set(name) & set(", é{}*")] or ["chr1"]
    structural, samples = draw.random() < 0.5, draw.choice((0, 0, 1, 3))
    records = [
        "\t".join(
            _variant(draw, span, samples, layout.longest)
            if structural
            else _small_variant(draw, span, samples, layout.longest)
        )
        for span in _spans(draw, layout)
    ]
    declared = draw.choice((layout.names, layout.names, layout.names[1:], []))
    contigs = [f"##contig=<ID={name},length={layout.longest}>" for name in declared]
    titles = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    titles += ["FORMAT", *(f"s{n}" for n in range(samples))] if samples else []
    top = [*_VCF_TOP, *contigs, "\t".join(titles)]
    what = f"{'structural' if structural else 'small'} {layout.order}, {samples} samples"
    data, about = _text(draw, top, (), records, what)
    return Generated("vcf", data, about, [record.encode() for record in records])


def _small_variant(draw: random.Random, span: tuple[str, int, int], samples: int, longest: int) -> list[str]:
    name, begin, end = span
    ref = "ACGT"[begin & 3] * min(draw.choice((1, 1, 1, 2, 9)), longest - begin)
    info = draw.choice((".", f"X={_long(draw)}", f"END={end}", f"X=a;END={end}"))
    start = draw.choice((begin + 1, begin + 1, begin + 1, begin + 1, 0)) if begin < 5 else begin + 1
    calls = ["GT:DP", *("0/1:9" for _ in range(samples))] if samples else []
    return [
        name,
        str(start),
        f"rs{begin}",
        ref,
        draw.choice(("A", "C,G", "*", ".")),
        "50",
        "PASS",
        info,
        *calls,
    ]


def _variant(draw: random.Random, span: tuple[str, int, int], samples: int, longest: int) -> list[str]:
    """Its end told in one or several of the ways there are."""
    name, begin, end = span
    start = begin + 1
    reach = max(end - start, 1)
    ref = "N" * min(draw.choice((1, 1, 1, 2, 30)), longest - begin)
    # From the eighth allele on htslib 1.24 looks for lengths in the wrong place: there are at most seven.
    alleles = [draw.choice(_ALLELES) for _ in range(draw.choice((1, 1, 1, 2, 3, 7)))]
    info = []
    if draw.random() < 0.5:
        info.append(f"END={draw.choice(('.', start, max(start - 5, 1), end))}")
    if draw.random() < 0.5:
        lengths = (str(draw.choice((".", 0, 1, -7, draw.randint(-reach, reach)))) for _ in alleles)
        info.append(f"SVLEN={','.join(lengths)}")
    info += draw.sample(("CIEND=-9,900000", "END2=999999", "CHR2=c1", f"CHR2={name}"), draw.randint(0, 2))
    draw.shuffle(info)
    columns = [name, str(start), ".", ref, ",".join(alleles), ".", ".", ";".join(info) or "."]
    if samples:
        keys = draw.sample(("GT", "LEN", "DP"), draw.randint(1, 3))
        values = {
            "GT": ("0/1", "."),
            "DP": ("90", "."),
            "LEN": (".", "1", "0", "77", str(draw.randint(1, reach))),
        }
        columns += [":".join(keys)]
        columns += [":".join(draw.choice(values[key]) for key in keys) for _ in range(samples)]
    return columns


# -- alignments ------------------------------------------------------------------------------


def _alignments(draw: random.Random, file_format: str) -> Generated:
    layout = _layout(draw, odd_names=False)
    longest = layout.longest
    text = [draw.choice(("@HD\tVN:1.6\tSO:unsorted", "@HD\tVN:1.6", "@HD\tVN:1.6\tSO:coordinate"))]
    text += [f"@SQ\tSN:{name}\tLN:{longest}" for name in layout.names]
    text += ["@RG\tID:rg1\tSM:s", "@CO\ta comment"][: draw.randint(0, 2)]
    for number, (name, begin, _) in enumerate(_spans(draw, layout)):
        text.append(_read(draw, number, name, begin, longest))
    sam = "".join(line + "\n" for line in text)
    if file_format == "sam":
        end = draw.choice(("\n", "\n", "\r\n"))
        packing, data = _packed(draw, sam.replace("\n", end).encode())
        return Generated("sam", data, f"{layout.order}, {packing}")
    data = _as_bam(sam, ordered := draw.random() < 0.5)
    packing = draw.choice(("bgzf", "bgzf", "bgzf", "gzip", "zstd"))
    if packing == "gzip":
        data = gzip.compress(gzip.decompress(data), mtime=0)
    if packing == "zstd":
        data = zstd.compress(data)
    return Generated("bam", data, f"{'sorted' if ordered else layout.order}, {packing}")


def _read(draw: random.Random, number: int, name: str, begin: int, longest: int) -> str:
    room = longest - begin
    kind = draw.choice(
        (
            "plain",
            "plain",
            "plain",
            "spliced",
            "deleted",
            "clipped",
            "inserted",
            "unmapped",
            "unplaced",
            "bare",
        )
    )
    bases = draw.choice((1, 20, 100, 100))
    match kind:
        case "spliced":
            gap = draw.choice((10, 1 << 14, 1 << 17, 1 << 20, 200_000_000))
            cigar = f"{bases}M{gap}N5M"
            reach, length = bases + gap + 5, bases + 5
        case "deleted":
            cigar, reach, length = f"{bases}M9D4M", bases + 13, bases + 4
        case "clipped":
            cigar, reach, length = f"3H5S{bases}M2S", bases, bases + 7
        case "inserted":
            cigar, reach, length = f"{bases}=4I2X", bases + 2, bases + 6
        case "bare":
            cigar, reach, length = draw.choice((f"{bases}I", f"{bases}S", "*")), 1, bases
        case "unmapped" | "unplaced":
            cigar, reach, length = "*", 1, bases
        case _:
            cigar, reach, length = f"{bases}M", bases, bases
    if reach > room:
        cigar, length = "1M", 1
        if kind in ("unmapped", "unplaced"):
            cigar = "*"
    flag = {"unmapped": 4, "unplaced": 4}.get(kind, draw.choice((0, 16, 256, 1024, 2048)))
    place = "*\t0" if kind == "unplaced" else f"{name}\t{begin + 1}"
    sequence = "*" if draw.random() < 0.05 else "ACGT"[number & 3] * length
    quality = "*" if sequence == "*" else "I" * length
    tags = draw.choice(("", "\tNM:i:0", "\tNM:i:1\tMD:Z:5", "\tXB:B:c,1,2"))
    return f"read{number}\t{flag}\t{place}\t60\t{cigar}\t*\t0\t0\t{sequence}\t{quality}{tags}"


def _as_bam(sam: str, ordered: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, bam = Path(folder) / "x.sam", Path(folder) / "x.bam"
        source.write_text(sam)
        if ordered:
            pysam.sort("--no-PG", "-O", "bam", "-o", str(bam), str(source), catch_stdout=False)
        else:
            pysam.view("--no-PG", "-b", "-o", str(bam), str(source), catch_stdout=False)
        return bam.read_bytes()


_TEXTS: dict[str, Callable[[random.Random], Generated]] = {
    "bed": _bed,
    "narrowpeak": lambda draw: _peaks(draw, "narrowpeak", 10),
    "broadpeak": lambda draw: _peaks(draw, "broadpeak", 9),
    "gff": lambda draw: _gff(draw, "gff"),
    "gff3": lambda draw: _gff(draw, "gff3"),
    "gtf": _gtf,
    "vcf": _vcf,
}
