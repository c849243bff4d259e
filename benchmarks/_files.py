"""Makes the files that the benchmarks read: the same count gives the same bytes."""

from __future__ import annotations

import gzip
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gooseherd.trial import bigbed as bigbed_writer

LENGTHS = (
    248, 242, 198, 190, 181, 170, 159, 145, 138, 133, 135, 133, 114, 107, 101, 90, 83, 80, 58, 64, 46, 50,
    156,
)  # fmt: skip
"""Of the human sequences, in millions of bases."""
CHROMS = [f"chr{i}" for i in range(1, 23)] + ["chrX"]
RANKS = {name: rank for rank, name in enumerate(CHROMS)}


Maker = Callable[[int, random.Random], Iterator[str]]


def places(count: int, rng: random.Random) -> Iterator[tuple[str, int]]:
    picked = rng.choices(range(len(CHROMS)), weights=LENGTHS, k=count)
    return ((CHROMS[i], int(rng.random() * LENGTHS[i] * 1_000_000) + 1) for i in picked)


def bed(count: int, rng: random.Random) -> Iterator[str]:
    yield "browser position chr7:127471196-127495720\ntrack name=made visibility=2\n# comment\n"
    for i, (c, p) in enumerate(places(count, rng)):
        yield f"{c}\t{p}\t{p + 30 + i % 400}\tread_{i}/{1 + i % 2}\t{p % 1000}\t{'+-'[p & 1]}\n"


def narrowpeak(count: int, rng: random.Random) -> Iterator[str]:
    yield 'track type=narrowPeak name="peaks"\n'
    for i, (c, p) in enumerate(places(count, rng)):
        a, b = rng.random(), rng.random()
        scores = f"{a * 30:.5f}\t{b * 200:.5f}\t{a * b * 180:.5f}\t{p % 150}"
        yield f"{c}\t{p}\t{p + 150 + p % 700}\tPeak_{i}\t{p % 1000}\t.\t{scores}\n"


def _genes(count: int, rng: random.Random) -> Iterator[tuple[str, int, str, str, int, int, dict[str, str]]]:
    """Genes in any order, each with its parts behind it, attributes as wordy as GENCODE's."""
    for i, (c, p) in enumerate(places(count // 40 or 1, rng)):
        gene, size = f"ENSG{p * 7919 % 10**11:011d}.{1 + i % 15}", 2000 + p % 40_000
        words = {
            "gene_id": gene,
            "gene_type": "protein_coding",
            "gene_name": f"GENE{i}",
            "level": "2",
            "hgnc_id": f"HGNC:{i % 43000}",
        }
        yield c, i, "gene", "", p, p + size, words
        for t in range(3):
            name = f"ENST{(p * 31 + t) % 10**11:011d}.1"
            more = {
                **words,
                "transcript_id": name,
                "transcript_type": "protein_coding",
                "transcript_support_level": f"{t}",
            }
            yield c, i, "transcript", name, p, p + size, more
            for e in range(6):
                start = p + e * size // 6
                for kind in ("exon", "CDS"):
                    yield c, e, kind, name, start, start + 60 + p % 90, {**more, "exon_number": f"{e}"}


def gff3(count: int, rng: random.Random) -> Iterator[str]:
    yield "##gff-version 3\n"
    for c, e, kind, name, start, end, words in _genes(count, rng):
        own = {"gene": f"ID={words['gene_id']}", "transcript": f"ID={name};Parent={words['gene_id']}"}
        about = ";".join(f"{key}={value}" for key, value in words.items())
        ids = own.get(kind) or f"ID={kind}:{name}:{e};Parent={name}"
        yield f"{c}\tHAVANA\t{kind}\t{start}\t{end}\t.\t+\t.\t{ids};{about}\n"


def gtf(count: int, rng: random.Random) -> Iterator[str]:
    for c, _, kind, _, start, end, words in _genes(count, rng):
        about = " ".join(f'{key} "{value}";' for key, value in words.items())
        yield f"{c}\tHAVANA\t{kind}\t{start}\t{end}\t.\t+\t.\t{about}\n"


def vcf(count: int, rng: random.Random) -> Iterator[str]:
    samples = [f"NA{12800 + i}" for i in range(12)]
    yield "##fileformat=VCFv4.2\n"
    yield from (f"##contig=<ID={c},length={n}000000>\n" for c, n in zip(CHROMS, LENGTHS, strict=True))
    yield (
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]) + "\n"
    )
    calls = [
        f"{g}:{d}:{q}" for g in ("0/0", "0/0", "0/1", "1/1") for d in range(8, 48, 3) for q in range(1, 99, 9)
    ]
    for i, (c, p) in enumerate(places(count, rng)):
        quality = f"{30 + i % 900}.{p % 100:02d}"
        info = (
            f"AC={i % 24};AF={rng.random():.4g};AN=24;DP={100 + p % 400};CSQ=T|missense_variant|GENE{p >> 17}"
        )
        allele, other = "ACGT"[p & 3], "CGTA"[p & 3]
        yield (
            f"{c}\t{p}\trs{p * 7 % 10**9}\t{allele}\t{other}\t{quality}\tPASS\t{info}\tGT:DP:GQ\t"
            + "\t".join(rng.choices(calls, k=12))
            + "\n"
        )


def sam(count: int, rng: random.Random) -> Iterator[str]:
    """Reads of clusters, in the order of their names; qualities in four levels."""
    yield from (f"@SQ\tSN:{c}\tLN:{n + 1}000000\n" for c, n in zip(CHROMS, LENGTHS, strict=True))
    pool = "".join(rng.choices("ACGT", k=1_000_000))
    levels = "".join(rng.choices("F:,#", weights=(80, 12, 6, 2), k=100_000))
    targets = list(places(40_000, rng))
    spread = places(count // 4 + 1, rng)
    for i in range(count):
        c, p = next(spread) if i % 4 == 0 else targets[rng.randrange(40_000)]
        p += rng.randrange(300)
        at, q = p * 31 % 999_900, rng.randrange(99_900)
        yield (
            f"A00456:77:HGK3TDSXY:{1 + i % 4}:{1101 + i // 90_000}:{i * 37 % 32_000}:{i // 900 % 36_000}"
            f"\t0\t{c}\t{p}\t60\t100M\t*\t0\t0\t{pool[at : at + 100]}\t{levels[q : q + 100]}\t"
            f"NM:i:{i % 3}\tMD:Z:{q % 99}A{99 - q % 99}\tAS:i:{100 - i % 3 * 5}\tRG:Z:rg1\n"
        )


def sorted_text(maker: Maker) -> Maker:
    """The same in natural order of sequences, which is how files are mostly sorted."""

    def made(count: int, rng: random.Random) -> Iterator[str]:
        heads: list[str] = []
        records = []
        for line in maker(count, rng):
            name, _, rest = line.partition("\t")
            if name in RANKS:
                records.append((RANKS[name] << 32 | int(rest.partition("\t")[0]), line))
            elif line[0] == "#":
                heads.append(line)
        records.sort()
        yield from heads
        for _, line in records:
            yield line

    return made


def write(path: Path, lines: Iterable[str], packing: str) -> Path:
    """`packing`: plain, gzip or bgzip. What is there already stays."""
    if path.exists():
        return path
    partial = path.with_name(path.name + ".part")
    if packing == "bgzip":
        with (
            partial.open("wb") as file,
            subprocess.Popen(
                ["bgzip", "-c", "-@", "2"], stdin=subprocess.PIPE, stdout=file, text=True
            ) as bgzip,
        ):
            assert bgzip.stdin is not None
            bgzip.stdin.writelines(lines)
            bgzip.stdin.close()
            if bgzip.wait():
                raise SystemExit("bgzip failed")
    else:
        with gzip.open(partial, "wt", compresslevel=6) if packing == "gzip" else partial.open("w") as text:
            text.writelines(lines)
    return partial.rename(path)


def write_bam(path: Path, count: int, *, ordered: bool) -> Path:
    if path.exists():
        return path
    verb = ("sort", "-m", "512M", "-@", "2", "-O", "bam") if ordered else ("view", "-@", "2", "-b")
    partial = path.with_name(path.name + ".part")
    argv = ["samtools", *verb, "-o", str(partial), "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as made:
        assert made.stdin is not None
        made.stdin.writelines(sam(count, random.Random(5)))
        made.stdin.close()
        if made.wait():
            raise SystemExit("samtools failed")
    return partial.rename(path)


def write_bigbed(path: Path, count: int) -> Path:
    """BED of six columns, in blocks as bedToBigBed writes them."""
    if path.exists():
        return path
    lengths = {name: (length + 1) * 10**6 for name, length in zip(CHROMS, LENGTHS, strict=True)}
    spots = sorted((c, p, i) for i, (c, p) in enumerate(places(count, random.Random(9))))
    items = ((c, p, p + 30 + i % 400, f"read_{i}\t{p % 1000}\t{'+-'[p & 1]}") for c, p, i in spots)
    partial = path.with_name(path.name + ".part")
    bigbed_writer.write_bigbed(partial, lengths, items, columns=6, items_per_block=512)
    return partial.rename(path)
