"""Generated files through the real processors; what comes out is compared with htslib and gffread.

    python benchmarks/differential.py [--files N] [--seed S] [--formats vcf,bed] [--jobs N] [--keep FOLDER]
        [--check-here]
    python benchmarks/differential.py --one FORMAT:NUMBER [--seed S] [--keep FOLDER]

N files of all formats in turn, of every shape (_generated.py), are made ready as an attempt does it.
Then, of each: the records are those that were written, in the order that is promised; a region asked of
the artifact by its own index has the records of a linear scan and the answer of htslib's own index of
the same data; a BAM's index counts the same reads; of a GTF each transcript lies where gffread has it,
and each gene holds what gffread clusters; a density counts in a window what a scan counts. Prints JSON.
Exit status 1 when anything is unexplained: reasons that explain a difference are those of EXPLAINED. The
same seed makes the same files.
"""

from __future__ import annotations

import argparse
import asyncio
import bz2
import contextlib
import functools
import gzip
import io
import json
import lzma
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyBigWig
import pysam
from _generated import FAR, FORMATS, LAST, Generated, bgzipped, generate, in_artifacts_order
from _gffread import (
    Feature,
    by_gffread,
    clustered,
    extent,
    features,
    misplaced_parents,
    overlap,
    transcripts_of,
)
from _report import reporting
from backports import zstd

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Failure
from gooseherd.domain.formats import resolve
from gooseherd.domain.processing import StepFailed, StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing import step_context
from gooseherd.processing.programs import verify
from gooseherd.processing.registry import default_registry

SCRATCH_BYTES = 1 << 30
MOST_EDGES = 60
"""So many records of a file are asked for at each of their edges."""
PLACES = 20
"""Regions anywhere."""
BEGIN = {"vcf": 1, "gff": 3, "gff3": 3, "gtf": 3}
PRESETS = {"vcf": "vcf", "gff": "gff", "gff3": "gff", "gtf": "gff"}

A_BASE, A_BRIDGE, A_NEIGHBOUR = "a base", "a bridge", "a neighbour"
A_BRACE, AN_EDGE = "a brace", "an edge"
EXPLAINED = {
    A_BASE: "htslib's reader of lines ends a variant of which SVLEN or LEN tells the length a base earlier",
    A_BRIDGE: "a gene without a line stays two where the transcript that joins its places stands below both",
    A_NEIGHBOUR: "gffread clusters all genes: another one joins places of a gene that do not overlap",
    AN_EDGE: "an item without length where a bin of an index begins: htslib's own index does not find it",
    A_BRACE: "a sequence whose name begins with a brace: htslib has no way to ask for it",
}
"""All that may differ."""


class Wrong(Exception):
    """The artifact is not what it has to be."""


class Span(NamedTuple):
    """A record: half-open from 0."""

    name: str
    begin: int
    end: int
    text: str


@dataclass
class Tally:
    """What became of the files of one format."""

    files: int = 0
    records: int = 0
    regions: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.files += other.files
        self.records += other.records
        self.regions += other.regions
        self.explained += other.explained
        self.unexplained += other.unexplained


# -- the product -----------------------------------------------------------------------------


@dataclass
class Made:
    """The parts of an artifact, and what was counted."""

    parts: dict[Kind, Path]
    records: int = 0
    window: int = 1
    """Bases of a window of the density."""


async def made_ready(source: Path, file_format: str, home: Path) -> Made:
    """All steps, with the kernel and the tools that there are."""
    entry = {"dcc": "t", "local_id": "x", "filename": source.name, "access_url": "https://example.org/x"}
    known = SourceFile.from_json({**entry, "file_format": file_format, "md5": "0" * 32})
    registry = default_registry(sort_memory=256 << 20, samtools_memory=64 << 20, threads=2, density=True)
    made = Made({})
    for step in registry.processor(registry.recipe(known)).steps(known.file_format):
        work = home / step.name
        work.mkdir()
        path = made.parts[step.needs] if step.needs else source
        output = await step.run(StepInput(known, path, work, lambda *_: None, SCRATCH_BYTES))
        made.parts.update({one.kind: one.path for one in output.files})
        made.records = output.counts.get("records", made.records)
        made.window = output.counts.get("density_window", made.window)
    return made


class CheckHere:
    """The check before publishing in this process, where its libraries are loaded already."""

    def __init__(self, _: object, work: Path, *, seed: str, **__: object) -> None:
        self._report, self._seed = work / "verified.json", seed

    async def read_source(self, *_: object) -> None:
        pass

    async def verify(self, kind: str, data: Path, index: Path, *options: str) -> dict[str, int]:
        argv = [kind, str(data), str(index), *options, "--report", str(self._report), "--seed", self._seed]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            refused = verify.main(argv)
        if refused:
            raise StepFailed(Failure(**json.loads(self._report.read_bytes())))
        found: dict[str, int] = json.loads(output.getvalue())
        return found

    async def end(self) -> None:
        pass


# -- regions ---------------------------------------------------------------------------------


def regions(spans: Sequence[Span], draw: random.Random) -> Iterator[tuple[str, int, int]]:
    """Whole sequences, the edges of records and of an index's bins, and places anywhere."""
    names = sorted({span.name for span in spans})
    for name in names[:60]:
        yield name, 0, LAST
    for span in draw.sample(spans, min(len(spans), MOST_EDGES)):
        begin, end = max(span.begin, 0), max(span.end, 1)
        edge = begin >> 14 << 14
        for at in {begin, begin + 1, end - 1, end, edge, edge + (1 << 14)}:
            # A length that leads further than readers can ask is a guess, and no extent of the index.
            if at <= LAST:
                yield span.name, max(at - 1, 0), max(at, 1)
        yield span.name, edge, min(edge + (1 << 14), LAST)
    for _ in range(PLACES if spans else 0):
        span = draw.choice(spans)
        width = draw.choice((1, 500, 1 << 14, 1 << 20, 1 << 27))
        begin = max(span.begin - draw.randrange(width), 0)
        yield span.name, begin, min(begin + width, LAST)


def scan(spans: dict[str, list[Span]], name: str, begin: int, end: int) -> list[Span]:
    return [span for span in spans.get(name, ()) if span.begin < end and span.end > begin]


def by_name(spans: Sequence[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(span)
    return found


# -- text ------------------------------------------------------------------------------------


def judge_text(given: Generated, made: Made, home: Path, tally: Tally) -> None:
    data, index = made.parts[Kind.DATA], made.parts[Kind.INDEX]
    lines = [
        line for line in gzip.decompress(data.read_bytes()).split(b"\n")[:-1] if not line.startswith(b"#")
    ]
    column = BEGIN.get(given.format, 1)
    if given.format == "gtf":
        judge_gtf(given, lines, home, tally)
    elif lines != in_artifacts_order(given.lines, column):
        raise Wrong(f"the records are not those of the source: {first_difference(given, lines, column)}")
    if made.records != len(lines):
        raise Wrong(f"{made.records} records are reported, there are {len(lines)}")
    tally.records += len(lines)
    spans = list(spans_of(given.format, lines, data))
    judge_regions(given, spans, data, index, home, tally)
    judge_density(given, spans, made)


def first_difference(given: Generated, lines: Sequence[bytes], column: int) -> str:
    wanted = in_artifacts_order(given.lines, column)
    for number, (one, other) in enumerate(zip(wanted, lines, strict=False)):
        if one != other:
            return f"record {number + 1} is {other[:200]!r} instead of {one[:200]!r}"
    return f"{len(lines)} instead of {len(wanted)}"


def spans_of(file_format: str, lines: Sequence[bytes], data: Path) -> Iterator[Span]:
    if file_format == "vcf":
        with pysam.VariantFile(str(data)) as opened:
            ends = [(record.pos, record.stop) for record in opened]
        if len(ends) != len(lines):
            raise Wrong(f"htslib reads {len(ends)} of {len(lines)} records")
        for line, (start, end) in zip(lines, ends, strict=True):
            begin = max(start, 1) - 1
            columns = line.split(b"\t", 4)
            # Of a variant at 0 htslib's reader of lines takes the bases from 1 on.
            last = max(end, begin + len(columns[3]))
            yield Span(columns[0].decode(), begin, last, line.decode())
        return
    at = BEGIN.get(file_format, 1)
    for line in lines:
        columns = line.split(b"\t", at + 2)
        yield Span(columns[0].decode(), int(columns[at]) - (at == 3), int(columns[at + 1]), line.decode())


def judge_regions(
    given: Generated, spans: Sequence[Span], data: Path, index: Path, home: Path, tally: Tally
) -> None:
    named = by_name(spans)
    if index.suffix == ".csi" and all(span.end <= FAR for span in spans):
        raise Wrong("a CSI index where TBI would do")
    copy = home / "copy.gz"
    shutil.copyfile(data, copy)
    preset: Any = PRESETS.get(given.format, "bed")
    pysam.tabix_index(str(copy), preset=preset, force=True, csi=index.suffix == ".csi")
    draw = random.Random(given.source)
    with (
        pysam.TabixFile(str(data), index=str(index), encoding="utf-8") as ours,
        pysam.TabixFile(str(copy), index=f"{copy}{index.suffix}", encoding="utf-8") as theirs,
    ):
        if sorted(ours.contigs) != sorted(theirs.contigs):
            raise Wrong(f"the index names {ours.contigs}, htslib's {theirs.contigs}")
        for name, begin, end in regions(spans, draw):
            if name.startswith("{"):
                tally.explained[A_BRACE] += 1
                continue
            tally.regions += 1
            found, expected = list(ours.fetch(name, begin, end)), list(theirs.fetch(name, begin, end))
            wanted = scan(named, name, begin, end)
            if found != expected:
                lost = Counter(found) - Counter(expected)
                if Counter(expected) - Counter(found) or any(
                    span.begin < span.end for span in wanted if span.text in lost
                ):
                    raise Wrong(
                        f"{name}:{begin}-{end}: {len(found)} records, htslib's own index {len(expected)}"
                    )
                tally.explained[AN_EDGE] += 1
            if [span.text for span in wanted] != found:
                missing = Counter(span.text for span in wanted) - Counter(found)
                last_base = all(span.end - 1 == begin for span in wanted if span.text in missing)
                if (
                    given.format != "vcf"
                    or Counter(found) - Counter(span.text for span in wanted)
                    or not last_base
                ):
                    raise Wrong(f"{name}:{begin}-{end}: {len(found)} records, a scan finds {len(wanted)}")
                tally.explained[A_BASE] += 1


def judge_density(given: Generated, spans: Sequence[Span], made: Made) -> None:
    """In the windows of some records: the value is how many overlap the window; an empty one takes a base."""
    path = made.parts.get(Kind.DENSITY)
    if path is None:
        raise Wrong("there is no density")
    if "structural" in given.about:
        return  # An end on another sequence is no extent; test_cases.py has these.
    named = by_name([span._replace(end=max(span.end, span.begin + 1)) for span in spans])
    draw = random.Random(len(spans))
    with pyBigWig.open(str(path)) as density:
        lengths = density.chroms() or {}
        for name in named.keys() & lengths.keys():
            for span in draw.sample(named[name], min(len(named[name]), 8)):
                begin = min(span.begin, lengths[name] - 1) // made.window * made.window
                end = min(begin + made.window, lengths[name])
                values = {value for *_, value in density.intervals(name, begin, end) or ()}
                wanted = len(scan(named, name, begin, end))
                if values != {float(wanted)}:
                    raise Wrong(f"density of {name}:{begin}-{end}: {sorted(values)} instead of {wanted}")


# -- GTF -------------------------------------------------------------------------------------


def judge_gtf(given: Generated, lines: Sequence[bytes], home: Path, tally: Tally) -> None:
    """Every line is there; parents hold their children, and those that were added stand above them."""
    if problem := misplaced_parents(given.lines, lines):
        raise Wrong(problem)
    found = features([line.decode() for line in lines])
    if "placeholder" in given.about:
        # gffread takes one id on a strand for one transcript, whosever it is.
        genes = {one.place for one in found if one.kind == "gene"}
        if Counter(one.place for one in found if one.kind == "transcript") != Counter(genes):
            raise Wrong("a placeholder is not a transcript of each gene")
    elif "bare ids" not in given.about:
        judge_places(given, found, home, tally)


def judge_places(given: Generated, found: Sequence[Feature], home: Path, tally: Tally) -> None:
    plain = home / "generated.gtf"
    plain.write_bytes(b"".join(line + b"\n" for line in given.lines))
    made, expected = transcripts_of(found), transcripts_of(by_gffread(plain))
    if made != expected:
        raise Wrong(f"{len(made)} transcripts are not where gffread has its {len(expected)}")
    if any(line.split(b"\t", 3)[2] == b"gene" for line in given.lines):
        return  # The genes are those that have lines; gffread leaves these out.
    by_cluster = clustered(plain, found)
    for (name, _), of_locus in by_cluster.loci.items():
        if len({gene for gene, _ in of_locus}) > 1:
            if not overlap([one for _, one in of_locus]):
                tally.explained[A_NEIGHBOUR] += 1
            elif stand_apart(given, name):
                tally.explained[A_BRIDGE] += 1
            else:
                raise Wrong(f"what gffread clusters of {name} has several genes")
    if by_cluster.inside.keys() != by_cluster.genes.keys():
        raise Wrong(f"{len(by_cluster.genes)} genes, by gffread {len(by_cluster.inside)}")
    for key, inside in by_cluster.inside.items():
        if not overlap(inside):
            raise Wrong(f"gene {key} holds what does not overlap")
        gene = by_cluster.genes[key]
        if (gene.start, gene.end) != extent(inside):
            raise Wrong(f"gene {key} has another extent than its transcripts")


def stand_apart(given: Generated, gene: str) -> bool:
    """Whether the lines of a gene's transcripts are there and not in the order of their starts."""
    places: dict[tuple[bytes, bytes], list[int]] = {}
    for line in given.lines:
        columns = line.split(b"\t")
        if columns[2] == b"transcript" and f'gene_id "{gene}"'.encode() in columns[8]:
            places.setdefault((columns[0], columns[6]), []).append(int(columns[3]))
    return any(starts != sorted(starts) for starts in places.values())


# -- alignments ------------------------------------------------------------------------------


def judge_reads(given: Generated, source: Path, made: Made, home: Path, tally: Tally) -> None:
    data, index = made.parts[Kind.DATA], made.parts[Kind.INDEX]
    copy = home / "copy.bam"
    shutil.copyfile(data, copy)
    far = index.suffix == ".csi"
    pysam.index(*(("-c",) if far else ()), str(copy), f"{copy}{index.suffix}")
    wanted = Counter(reads_of(source, given))
    with (
        pysam.AlignmentFile(str(data), index_filename=str(index)) as ours,
        pysam.AlignmentFile(str(copy), index_filename=f"{copy}{index.suffix}") as theirs,
    ):
        if far and max(ours.lengths, default=0) <= FAR:
            raise Wrong("a CSI index where BAI would do")
        every = list(ours.fetch(until_eof=True))
        texts = [read.to_string() for read in every]
        if Counter(texts) != wanted:
            raise Wrong(f"{len(texts)} reads are not those of the source, which has {wanted.total()}")
        if made.records != len(texts):
            raise Wrong(f"{made.records} reads are reported, there are {len(texts)}")
        tally.records += len(texts)
        if counts_of(ours) != counts_of(theirs):
            raise Wrong(f"the index counts {counts_of(ours)}, htslib's {counts_of(theirs)}")
        spans = [
            Span(str(read.reference_name), read.reference_start, endpos(read), text)
            for read, text in zip(every, texts, strict=True)
            if read.reference_id >= 0
        ]
        unplaced = [text for read, text in zip(every, texts, strict=True) if read.reference_id < 0]
        # Where no read has a place htslib reads on from where the file stands.
        with pysam.AlignmentFile(str(data), index_filename=str(index)) as again:
            if unplaced != [read.to_string() for read in again.fetch("*")]:
                raise Wrong("reads without a place do not come by the index")
        named = by_name(spans)
        for name, begin, end in regions(spans, random.Random(given.source)):
            tally.regions += 1
            stop = min(end, ours.get_reference_length(name))
            if begin >= stop:
                continue
            found = [read.to_string() for read in ours.fetch(name, begin, stop)]
            expected = [read.to_string() for read in theirs.fetch(name, begin, stop)]
            if found != expected:
                raise Wrong(f"{name}:{begin}-{stop}: {len(found)} reads, by htslib's index {len(expected)}")
            if found != [span.text for span in scan(named, name, begin, stop)]:
                raise Wrong(f"{name}:{begin}-{stop}: {len(found)} reads, a scan finds others")
    mapped = {read.to_string() for read in every if not read.is_unmapped}
    judge_density(given, [span for span in spans if span.text in mapped], made)


def counts_of(opened: Any) -> list[tuple[str, int, int]]:
    counted = [(one.contig, one.mapped, one.unmapped) for one in opened.get_index_statistics()]
    return [*counted, ("*", opened.nocoordinate, 0)]


def endpos(read: Any) -> int:
    """As bam_endpos of htslib: a read that takes no base of the reference lies on one."""
    if read.is_unmapped or not read.reference_length:
        return int(read.reference_start) + 1
    return int(read.reference_end)


def reads_of(source: Path, given: Generated) -> list[str]:
    path = source.with_name("unpacked")
    path.write_bytes(unpacked(given.source))
    with pysam.AlignmentFile(str(path), check_sq=False) as opened:
        return [read.to_string() for read in opened.fetch(until_eof=True)]


def unpacked(data: bytes) -> bytes:
    """As its format's readers take it."""
    for magic, unpack in (
        (b"BZh", bz2.decompress),
        (b"\xfd7z", lzma.decompress),
        (b"\x28\xb5\x2f\xfd", zstd.decompress),
        (b"\x1f\x8b", gzip.decompress),
    ):
        if data.startswith(magic):
            data = unpack(data)
    return bgzipped(data) if data.startswith(b"BAM\1") else data


# -- one file, all files ---------------------------------------------------------------------


def try_one(file_format: str, seed: int, number: int, keep: Path | None = None) -> Tally:
    """Make one file, make it ready, compare."""
    given = generate(file_format, seed, number)
    tally = Tally(files=1)
    home = Path(tempfile.mkdtemp(prefix="differential-"))
    source = home / f"source.{resolve_suffix(file_format)}"
    source.write_bytes(given.source)
    problem = ""
    try:
        made = asyncio.run(made_ready(source, file_format, home))
        if file_format in ("bam", "sam"):
            judge_reads(given, source, made, home, tally)
        else:
            judge_text(given, made, home, tally)
    except StepFailed as failed:
        problem = f"refused: {failed}"
    except Wrong as wrong:
        problem = str(wrong)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if problem:
        tally.unexplained.append(f"{file_format}:{number} ({given.about}): {problem}")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{file_format}-{seed}-{number}").write_bytes(given.source)
    return tally


def resolve_suffix(file_format: str) -> str:
    known = resolve(file_format)
    assert known is not None
    return known.suffixes[0]


def share(
    file_format: str, seed: int, numbers: Sequence[int], keep: Path | None, *, check_here: bool = False
) -> Tally:
    """These files of a format, one after the other."""
    pysam.set_verbosity(0)
    tally = Tally()
    with mock.patch.object(step_context, "Verifier", CheckHere) if check_here else contextlib.nullcontext():
        for number in numbers:
            tally.add(try_one(file_format, seed, number, keep))
    return tally


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--files", type=int, default=900, help="of all formats together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="a folder for files that showed a difference")
    parser.add_argument(
        "--check-here", action="store_true", help="no process of its own for each check before publishing"
    )
    parser.add_argument("--one", help="FORMAT:NUMBER, as a difference is called")
    given = parser.parse_args(argv)
    began = time.monotonic()
    formats = given.formats.split(",")
    tallies = {name: Tally() for name in formats}
    with reporting(lambda: summary(tallies, given.seed, time.monotonic() - began), indent=1) as print_whole:
        if given.one:
            name, _, number = given.one.partition(":")
            tallies = {name: share(name, given.seed, [int(number)], given.keep)}
        else:
            chunks = [
                (name, range(first, min(first + 20, -(-given.files // len(formats)))))
                for first in range(0, -(-given.files // len(formats)), 20)
                for name in formats
            ]
            work = functools.partial(share, check_here=given.check_here)
            with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
                running = [
                    (name, pool.submit(work, name, given.seed, numbers, given.keep))
                    for name, numbers in chunks
                ]
                for name, future in running:
                    found = future.result()
                    tallies[name].add(found)
                    for problem in found.unexplained:
                        print(problem, file=sys.stderr, flush=True)
                    done = sum(tally.files for tally in tallies.values())
                    print(f"{done} files, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        print_whole()
    return 1 if any(tally.unexplained for tally in tallies.values()) else 0


def summary(tallies: dict[str, Tally], seed: int, seconds: float) -> dict[str, Any]:
    together = Tally()
    for tally in tallies.values():
        together.add(tally)
    return {
        "seed": seed,
        "files": together.files,
        "records": together.records,
        "regions": together.regions,
        "seconds": round(seconds, 1),
        "formats": {
            name: {
                "files": one.files,
                "records": one.records,
                "regions": one.regions,
                "explained": one.explained,
            }
            for name, one in tallies.items()
        },
        "explained": {reason: EXPLAINED[reason] for reason in together.explained},
        "unexplained": together.unexplained,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
