"""Generated files: the kernel beside a naive reading of the rules, and beside sort, bgzip and tabix."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pysam
import pytest

NAMES = (
    "chr1",
    "chr10",
    "chr2",
    "chrX",
    "chr1_random",
    "HLA-A*01:01",
    "1",
    "MT",
    "a,b",
    "Chr1",
    "scaffold_000123",
    "tracking",
    "z|z",
    "ü",
)
UNDECLARABLE = {b"a,b", "ü".encode()}
FILES = 40
"""Per format; each is read once plainly and once packed."""
TBI_END = 1 << 29


@dataclass
class Generated:
    """A clean file of one format: its header, and its records as (name, start, end, line)."""

    format: str
    header: list[bytes] = field(default_factory=list)
    records: list[tuple[bytes, int, int, bytes]] = field(default_factory=list)

    @property
    def family(self) -> str:
        return {"narrowpeak": "bed", "broadpeak": "bed", "gff3": "gff"}.get(self.format, self.format)

    def text(self) -> bytes:
        return b"".join(line + b"\n" for line in (*self.header, *(r[3] for r in self.records)))

    def whole_header(self) -> list[bytes]:
        """With a line for each sequence that a VCF does not declare, where its name may stand in one."""
        if self.family != "vcf":
            return self.header
        declared = {line[13:].split(b",")[0].rstrip(b">") for line in self.header if b"contig=<ID=" in line}
        lacking = {record[0] for record in self.records} - declared
        lines = [b"##contig=<ID=" + name + b">" for name in sorted(lacking) if name not in UNDECLARABLE]
        return [*self.header[:-1], *lines, self.header[-1]]

    def is_sorted(self) -> bool:
        closed: set[bytes] = set()
        name, start = None, 0
        for record in self.records:
            if record[0] != name:
                if record[0] in closed:
                    return False
                name = record[0]
                closed.add(name)
            elif record[1] < start:
                return False
            start = record[1]
        return True

    def in_order(self) -> list[tuple[bytes, int, int, bytes]]:
        """The order that kernel/src/ingest.h promises, in its simplest form."""
        if self.is_sorted():
            return self.records
        return sorted(self.records, key=lambda r: (r[0], r[1]))

    def interval(self, record: tuple[bytes, int, int, bytes]) -> tuple[int, int]:
        """Half-open, from 0, as a query sees it."""
        _, start, end, _ = record
        if self.family == "bed":
            return start, max(end, start + 1)
        begin = max(start - 1, 0)
        return begin, max(end, begin + 1)


def generate(format_name: str, rng: random.Random) -> Generated:
    made = Generated(format_name)
    names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
    span = rng.choice((50, 5_000, 3_000_000, 250_000_000, 2_000_000_000))
    count = rng.choice((0, 1, 2, 17, 300, 2500))
    if made.family == "vcf":
        made.header = [
            b"##fileformat=VCFv4.3",
            b"##source=x",
            *_declared(names, rng),
            b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
        ]
    elif made.family == "gff":
        made.header = [b"##gff-version 3"]
    elif rng.random() < 0.5:
        made.header = [b"# some words"]
    for number in range(count):
        name = rng.choice(names).encode()
        start = rng.randint(0, span)
        length = rng.choice((0, 1, 5, 400, span // 3))
        made.records.append(_record(made.family, format_name, name, start, length, number, rng))
    shape = rng.choice(("shuffled", "sorted", "natural", "one off", "late"))
    if shape != "shuffled":
        place = {name.encode(): i for i, name in enumerate(names)}
        made.records.sort(key=lambda r: (place[r[0]] if shape == "natural" else r[0], r[1]))
    if shape in ("one off", "late") and len(made.records) > 2:
        moved = made.records.pop(rng.randrange(len(made.records)))
        made.records.insert(len(made.records) if shape == "late" else rng.randrange(len(made.records)), moved)
    return made


def _declared(names: list[str], rng: random.Random) -> list[bytes]:
    some = rng.sample(names, rng.choice((0, len(names) // 2, len(names), len(names))))
    return [
        b"##contig=<ID=%s%s>" % (name.encode(), rng.choice((b"", b",length=9")))
        for name in some
        if name.encode() not in UNDECLARABLE
    ]


def _record(
    family: str, format_name: str, name: bytes, start: int, length: int, number: int, rng: random.Random
) -> tuple[bytes, int, int, bytes]:
    end = min(start + length, 2_147_483_647)
    if family == "bed":
        rest = {
            "bed": b"\tn%d" % number if rng.random() < 0.8 else b"",
            "narrowpeak": b"\tn%d\t0\t.\t1\t2\t3\t4" % number,
            "broadpeak": b"\tn%d\t0\t.\t1\t2\t3" % number,
        }[format_name]
        return name, start, end, b"%s\t%d\t%d%s" % (name, start, end, rest)
    if family == "gff":
        start, end = start + 1, max(end, start + 1)
        return name, start, end, b"%s\tsrc x\tgene\t%d\t%d\t.\t+\t.\tID=n%d" % (name, start, end, number)
    start += 1
    ref = b"A" * rng.choice((1, 1, 3))
    end = start + len(ref) - 1
    info = b"DP=3"
    if rng.random() < 0.2:
        end = max(end, min(start + length, 2_147_483_647))
        info += b";END=%d" % end
    return name, start, end, b"%s\t%d\tn%d\t%s\tT\t.\t.\t%s" % (name, start, number, ref, info)


PACKINGS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    lambda data: subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout,
    lambda data: b"".join(gzip.compress(data[i : i + 3000]) for i in range(0, len(data) or 1, 3000)),
    lambda data: (
        subprocess.run(["bgzip", "-c"], input=data[:999], capture_output=True, check=True).stdout
        + gzip.compress(data[999:])
    ),
    lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    lambda data: gzip.compress(data.rstrip(b"\n")) + bytes(512),
)


def files_of(format_name: str) -> Iterator[tuple[int, Generated]]:
    for seed in range(FILES):
        yield seed, generate(format_name, random.Random(f"{format_name} {seed}"))


def queries(made: Generated, rng: random.Random) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(6):
        name, start, end, _line = rng.choice(made.records)
        width = rng.choice((1, 100, 20_000, 5_000_000))
        begin = max(0, rng.choice((start, end)) - rng.randint(0, width))
        yield name, begin, begin + width
    yield rng.choice(made.records)[0], 0, (1 << 31) - 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("format_name", ["bed", "narrowpeak", "broadpeak", "gff3", "vcf"])
def test_lines_and_answers_are_those_of_the_rules(format_name: str, kernel: Any) -> None:
    for seed, made in files_of(format_name):
        rng = random.Random(seed)
        run = kernel(format_name, made.text())
        wanted = b"".join(line + b"\n" for line in (*made.whole_header(), *(r[3] for r in made.in_order())))
        assert run.status == 0, (seed, run.stderr)
        assert run.text() == wanted, seed
        assert run.found.sorted == made.is_sorted(), seed
        assert run.found.index == (
            "csi" if any(made.interval(r)[1] > TBI_END for r in made.records) else "tbi"
        ), seed
        again = kernel(format_name, rng.choice(PACKINGS)(made.text()))
        assert again.sizes() == run.sizes(), seed
        if made.records:
            with pysam.TabixFile(str(run.out), index=str(run.index), encoding="utf-8") as opened:
                _compare_answers(made, opened, rng, seed)


def _compare_answers(made: Generated, opened: pysam.TabixFile, rng: random.Random, seed: int) -> None:
    assert set(opened.contigs) == {r[0].decode() for r in made.records}, seed
    ordered = made.in_order()
    for name, begin, end in queries(made, rng):
        hits = [r[3] for r in ordered if r[0] == name and _meets(made, r, begin, end)]
        found = [line.encode() for line in opened.fetch(name.decode(), begin, end)]
        assert found == hits, (seed, name, begin, end)


def _meets(made: Generated, record: tuple[bytes, int, int, bytes], begin: int, end: int) -> bool:
    # htslib finds an empty BED interval only strictly inside of what is asked for.
    first, last = record[1:3] if made.family == "bed" else made.interval(record)
    return first < end and last > begin


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("format_name", ["bed", "gff3", "vcf"])
def test_every_way_through_gives_the_same_bytes(
    format_name: str, kernel: Any, cramped: Any, journalling: Any
) -> None:
    """Builds that spill, stream and journal within a few lines: hundreds of small files take these ways."""
    spilled = restarted = 0
    for seed, made in files_of(format_name):
        source = kernel.folder / f"way{seed}"
        source.write_bytes(made.text())
        wanted = kernel(format_name, source)
        for other in (cramped, journalling):
            run = other(format_name, source)
            assert run.status == 0, (seed, run.stderr)
            assert run.sizes() == wanted.sizes(), seed
            assert run.found.contigs == wanted.found.contigs, seed
            spilled += run.found.spills
            restarted += run.found.restarted
        data, run = journalling.to_pipe(format_name, source)
        assert (data, run.index.read_bytes()) == wanted.sizes(), seed
    assert spilled > 50
    assert restarted > 5


SORT = {"bed": "2,2n", "gff": "4,4n", "vcf": "2,2n"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("format_name", ["bed", "gff3", "vcf"])
def test_the_plain_pipeline_gives_the_same_file_and_index(
    format_name: str, kernel: Any, tmp_path: Path
) -> None:
    for seed, made in files_of(format_name):
        if not made.records or made.is_sorted():
            continue
        run = kernel(format_name, made.text())
        records = b"".join(r[3] + b"\n" for r in made.records)
        ordered = _tool("sort", "-s", "-t", "\t", "-k1,1", f"-k{SORT[made.family]}", given=records)
        data = tmp_path / "plain.gz"
        data.write_bytes(
            _tool("bgzip", "-c", given=b"".join(line + b"\n" for line in made.whole_header()) + ordered)
        )
        assert run.records() == ordered.split(b"\n")[:-1], seed
        csi = run.found.index == "csi"
        _tool("tabix", "-f", *(["-C"] if csi else []), "-p", made.family, str(data))
        plain = data.with_name(data.name + (".csi" if csi else ".tbi"))
        # Where blocks begin differs, for the header has blocks of its own here; answers do not.
        rng = random.Random(seed)
        for name, begin, end in queries(made, rng):
            place = f"{{{name.decode()}}}:{begin + 1}-{end}"
            ours = _tool("tabix", f"{run.out}##idx##{run.index}", place)
            assert ours == _tool("tabix", f"{data}##idx##{plain}", place), (seed, place)
        plain.unlink()


def _tool(*argv: str, given: bytes = b"") -> bytes:
    done = subprocess.run(
        argv, input=given, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    assert b"[E::" not in done.stderr
    return done.stdout


def test_the_index_is_the_one_tabix_makes(kernel: Any) -> None:
    """Of the same data file, byte for byte once unpacked."""
    for format_name in ("bed", "gff3", "vcf"):
        made = generate(format_name, random.Random(9))
        made.records = [
            _record(made.family, format_name, b"chr%d" % (i % 3), i * 7919 % 100_003, 40, i, random.Random(i))
            for i in range(30_000)
        ]
        run = kernel(format_name, made.text())
        _tool("tabix", "-f", "-p", made.family, str(run.out))
        ours, theirs = run.index, run.out.with_name("by-tabix")
        kept = ours.read_bytes()
        again = kernel(format_name, made.text())
        assert gzip.decompress(again.index.read_bytes()) == gzip.decompress(kept), theirs
