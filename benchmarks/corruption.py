"""Corrupted sources through the real processors: every one is made, and right, or ends with a named reason.

    python benchmarks/corruption.py [--count N] [--formats bed,vcf] [--seed N] [--jobs N] [--json]

From valid files of each format, plain and packed, come N variants: flipped bits, overwritten, cut, lost,
doubled and foreign pieces. What is published is read back whole, without the index and by it, and compared
with another reader's view of the source. Exit status 1 when anything was wrong, hung or left running.
The same seed makes the same variants.
"""

from __future__ import annotations

import argparse
import asyncio
import bz2
import contextlib
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pysam
from _report import reporting
from backports import zstd

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BAM, BCF, BIGBED, CRAM, GTF, SAM, Family, Format, resolve
from gooseherd.domain.processing import StepFailed, StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.decompression import Inflation, inflate
from gooseherd.processing.formats.readers import reader_of
from gooseherd.processing.programs.normalise import normalise
from gooseherd.processing.registry import default_registry
from gooseherd.trial.inputs import make

FORMATS = (
    "bed", "narrowpeak", "broadpeak", "vcf", "gff", "gff3", "gtf", "bcf", "bigbed", "sam", "bam", "cram",
    "bigwig", "csv", "tsv",
)  # fmt: skip
WAYS = (
    "flip", "flip", "flips", "overwrite", "zeros", "cut", "cut end", "lose", "double", "foreign", "tail",
)  # fmt: skip
PATIENCE_SECONDS = 120.0
SCRATCH_BYTES = 1 << 28
BLAMELESS = (Reason.SOURCE_INVALID, Reason.SOURCE_TOO_LARGE)


class Wrong(Exception):
    """Something was published that should not have been."""


@dataclass
class Tally:
    """What became of the variants of one format."""

    format: str
    made: int = 0
    refused: int = 0
    otherwise: Counter[str] = field(default_factory=Counter)
    """Named reasons that do not blame the source, with their words."""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    def row(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "variants": self.made + self.refused + self.otherwise.total() + len(self.faults),
            "made_and_verified": self.made,
            "refused_with_reason": self.refused,
            "other_reasons": dict(self.otherwise),
            "faults": self.faults,
            "slowest_s": round(self.slowest, 2),
            "seconds": round(self.seconds, 1),
        }


# -- variants --------------------------------------------------------------------------------


def valid_files(file_format: Format, folder: Path) -> list[bytes]:
    """Valid sources: as made, and packed as archives pack them."""
    plain = make(file_format, folder, "one").path.read_bytes()
    other = make(file_format, folder, "two").path.read_bytes()
    files = [plain, other]
    if file_format.family in (Family.INTERVALS, Family.ALIGNMENTS) and file_format not in (
        BAM,
        BCF,
        BIGBED,
        CRAM,
    ):
        files.append(gzip.compress(plain, mtime=0))
        files.append(bgzipped(plain))
        files.append(bz2.compress(plain))
        files.append(zstd.compress(plain, options={zstd.CompressionParameter.checksum_flag: 1}))
    if file_format in (BAM, BCF):
        files.append(zstd.compress(plain, options={zstd.CompressionParameter.checksum_flag: 1}))
    if file_format is BAM:
        argv = ("samtools", "sort", "--no-PG", "-O", "bam", "-")
        files.append(subprocess.run(argv, input=plain, capture_output=True, check=True).stdout)
    return files


def bgzipped(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


def corrupt(files: Sequence[bytes], chance: random.Random) -> tuple[str, bytes]:
    """(how, the bytes) of one variant. Half of what is packed is damaged inside, where no checksum tells."""
    whole = chance.choice(files)
    inside = whole.startswith(b"\x1f\x8b") and chance.random() < 0.5
    data = bytearray(gzip.decompress(whole) if inside else whole)
    how = damage(data, chance, files)
    return (f"{how} inside", bgzipped(bytes(data))) if inside else (how, bytes(data))


def damage(data: bytearray, chance: random.Random, files: Sequence[bytes]) -> str:
    """Damage `data` in one way; which."""
    how = chance.choice(WAYS)
    at = chance.randrange(len(data))
    some = chance.choice((1, 2, 7, 28, 100, 1000, 20_000))
    match how:
        case "flip" | "flips":
            for _ in range(1 if how == "flip" else chance.randint(2, 40)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "overwrite":
            data[at : at + some] = chance.randbytes(len(data[at : at + some]))
        case "zeros":
            data[at : at + some] = bytes(len(data[at : at + some]))
        case "cut":
            del data[at:]
        case "cut end":
            del data[max(len(data) - some, 0) :]
        case "lose":
            del data[at : at + some]
        case "double":
            data[at:at] = data[at : at + some]
        case "foreign":
            other = chance.choice(files)
            start = chance.randrange(len(other))
            data[at:at] = other[start : start + some]
        case "tail":
            other = chance.choice(files)
            data[at:] = other[chance.randrange(len(other)) :]
    return how


# -- what another reader sees ----------------------------------------------------------------


def judge(file_format: Format, source: Path, parts: dict[Kind, Path], records: int) -> None:
    """Read the published pair back and compare it with the source.

    Raises:
        Wrong: saying what.
    """
    if file_format.family is Family.ALIGNMENTS:
        judge_reads(file_format, source, parts)
    elif file_format.family is Family.INTERVALS:
        judge_lines(file_format, source, parts, records)
    elif parts[Kind.DATA].read_bytes() != source.read_bytes():
        raise Wrong("passed through with other bytes")


def judge_lines(file_format: Format, source: Path, parts: dict[Kind, Path], records: int) -> None:
    with gzip.open(parts[Kind.DATA]) as stream:
        lines = [line.rstrip("\n") for line in stream.read().decode("latin-1").split("\n")[:-1]]
    lines = [line for line in lines if not line.startswith("#")]
    if len(lines) != records:
        raise Wrong(f"{len(lines)} records are published, {records} are reported")
    by_name: dict[str, list[str]] = {}
    for line in lines:
        by_name.setdefault(line.split("\t", 1)[0], []).append(line)
    with pysam.TabixFile(str(parts[Kind.DATA]), index=str(parts[Kind.INDEX]), encoding="latin-1") as opened:
        for name, wanted in by_name.items():
            quoted = f"{{{name}}}" if ":" in name and "}" not in name else name
            found = list(opened.fetch(region=quoted))
            # Nothing overlaps an empty interval at 0.
            if found != [line for line in wanted if line.split("\t")[1:3] != ["0", "0"]]:
                raise Wrong(f"{name!r}: {len(found)} of {len(wanted)} records come by the index")
    if file_format is not GTF and sorted(lines) != sorted(records_of(file_format, source)):
        raise Wrong("the records are not those of the source")


def records_of(file_format: Format, source: Path) -> list[str]:
    """The source's records by another road than the processor's."""
    if file_format is BCF:
        argv = ("bcftools", "view", "--no-version", "-H", str(source))
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode:
            raise Wrong("bcftools cannot read the source")
        return done.stdout.decode("latin-1").split("\n")[:-1]
    if file_format is BIGBED:
        import pyBigWig

        opened = pyBigWig.open(str(source))
        return [
            f"{name}\t{begin}\t{end}" + (f"\t{rest}" if rest else "")
            for name, length in opened.chroms().items()
            for begin, end, rest in opened.entries(name, 0, length) or ()
        ]
    reader = reader_of(file_format.name)
    with source.open("rb") as stream:
        size = source.stat().st_size
        found = b"".join(normalise(inflate(stream, Inflation(), size=size, max_bytes=1 << 30), reader))
    return found.decode("latin-1").split("\n")[:-1]


def judge_reads(file_format: Format, source: Path, parts: dict[Kind, Path]) -> None:
    data, index = str(parts[Kind.DATA]), str(parts[Kind.INDEX])
    with pysam.AlignmentFile(data, "rb", index_filename=index) as opened:
        every = [plain(read) for read in opened.fetch(until_eof=True)]
        by_index = [plain(r) for name in opened.references for r in opened.fetch(name)]
        by_index += [plain(r) for r in opened.fetch("*")]
    if Counter(every) != Counter(by_index):
        raise Wrong(f"{len(by_index)} of {len(every)} reads come by the index")
    with clean_sam(source) if file_format is SAM else contextlib.nullcontext(source) as path:
        try:
            with pysam.AlignmentFile(str(path), check_sq=False) as opened:
                wanted = Counter(plain(read) for read in opened.fetch(until_eof=True))
        except (OSError, ValueError) as error:
            if file_format is SAM and readable(path):
                return  # Older samtools take numbers that newer ones refuse (a mapping quality of 660).
            raise Wrong(f"another reader cannot read the source ({error})") from None
        if wanted != Counter(every) and file_format is SAM:
            # samtools 1.21 and older take the base U for N, 1.24 for T: as the one here reads it.
            wanted = Counter(lines_of(path))
    if wanted != Counter(every):
        raise Wrong(f"{len(every)} reads are not the source's {wanted.total()}")


def readable(path: Path) -> bool:
    return subprocess.run(["samtools", "view", "-c", path], capture_output=True, check=False).returncode == 0


def lines_of(path: Path) -> list[str]:
    """Reads in text, without their tags, by samtools."""
    output = subprocess.run(["samtools", "view", path], capture_output=True, check=False).stdout
    return ["\t".join(line.split("\t")[:11]) for line in output.decode("latin-1").splitlines()]


def plain(read: Any) -> str:
    try:
        return "\t".join(read.to_string().split("\t")[:11])
    except (ValueError, UnicodeDecodeError):
        # Names that are no text.
        return f"{read.flag} {read.reference_id} {read.reference_start} {read.cigarstring}"


@contextlib.contextmanager
def clean_sam(source: Path) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=".sam") as file, source.open("rb") as stream:
        size = source.stat().st_size
        for block in normalise(inflate(stream, Inflation(), size=size, max_bytes=1 << 30), reader_of("sam")):
            file.write(block)
        file.flush()
        yield Path(file.name)


# -- one variant -----------------------------------------------------------------------------


async def run_steps(file_format: Format, source: Path, home: Path) -> tuple[dict[Kind, Path], int]:
    """As an attempt does; (the parts, records reported)."""
    entry = {"dcc": "t", "local_id": "x", "filename": "x", "access_url": "https://example.org/x"}
    known = SourceFile.from_json({**entry, "file_format": file_format.name, "md5": "0" * 32})
    registry = default_registry(sort_memory=32 << 20, samtools_memory=64 << 20, threads=2)
    parts: dict[Kind, Path] = {}
    records = 0
    for step in registry.processor(registry.recipe(known)).steps(file_format):
        work = home / step.name
        work.mkdir()
        path = parts[step.needs] if step.needs else source
        output = await step.run(StepInput(known, path, work, lambda *_: None, SCRATCH_BYTES))
        parts.update({made.kind: made.path for made in output.files})
        records = output.counts.get("records", records)
    return parts, records


def try_one(file_format: Format, data: bytes, name: str, tally: Tally) -> None:
    home = Path(tempfile.mkdtemp(prefix="corrupt-"))
    source = home / "source"
    source.write_bytes(data)
    began, others = time.monotonic(), children()
    try:
        parts, records = asyncio.run(asyncio.wait_for(run_steps(file_format, source, home), PATIENCE_SECONDS))
        judge(file_format, source, parts, records)
        tally.made += 1
    except StepFailed as failed:
        if failed.failure.reason in BLAMELESS:
            tally.refused += 1
        else:
            tally.otherwise[f"{failed.failure.reason}: {failed.failure.detail}"] += 1
    except TimeoutError:
        tally.faults.append(f"{name}: hung")
    except Wrong as wrong:
        tally.faults.append(f"{name}: {wrong}")
    except Exception as error:
        tally.faults.append(f"{name}: {type(error).__name__}: {error}")
    tally.slowest = max(tally.slowest, time.monotonic() - began)
    if left := children() - others:
        tally.faults.append(f"{name}: left running: {sorted(left)}")
    shutil.rmtree(home, ignore_errors=True)


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def trial(name: str, seed: int, numbers: Sequence[int], keep: Path | None = None) -> Tally:
    """Variants of one format by their numbers; those with faults stay in `keep`."""
    file_format = resolve(name)
    assert file_format is not None
    tally = Tally(name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        files = valid_files(file_format, Path(folder))
    for number in numbers:
        how, data = corrupt(files, random.Random(f"{seed} {name} {number}"))
        faults = len(tally.faults)
        try_one(file_format, data, f"{name} {seed} {number} ({how})", tally)
        if keep is not None and len(tally.faults) > faults:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-{seed}-{number}").write_bytes(data)
    tally.seconds = time.monotonic() - began
    return tally


def together(name: str, tallies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row of several workers' rows."""
    other: Counter[str] = Counter()
    for row in tallies:
        other.update(row["other_reasons"])
    sums = {
        k: sum(row[k] for row in tallies) for k in ("variants", "made_and_verified", "refused_with_reason")
    }
    return {
        "format": name,
        **sums,
        "other_reasons": dict(other),
        "faults": [fault for row in tallies for fault in row["faults"]],
        "slowest_s": max(row["slowest_s"] for row in tallies),
        "seconds": round(sum(row["seconds"] for row in tallies), 1),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="a folder for variants that showed a fault")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--share", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.share:
        name, first, step = given.share
        row = trial(name, given.seed, range(int(first), given.count, int(step)), given.keep).row()
        print(json.dumps(row))
        return 0
    rows: list[dict[str, Any]] = []
    with reporting(lambda: {"rows": rows}) as print_whole:
        for name in given.formats.split(","):
            row = together(name, shares(name, given))
            rows.append(row)
            if not given.json:
                print(line_of(row), flush=True)
        if given.json:
            print_whole()
    return 1 if any(row["faults"] for row in rows) else 0


def shares(name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The variants of a format, dealt out to processes of their own."""
    options = ["--count", str(given.count), "--seed", str(given.seed)]
    options += ["--keep", str(given.keep)] if given.keep else []
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *options, "--share", name, str(first), str(given.jobs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the tools' warnings
        )
        for first in range(given.jobs)
    ]
    found = []
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            found.append(
                {**Tally(name, faults=[f"{name}: the trial itself ended with {process.returncode}"]).row()}
            )
        else:
            found.append(json.loads(output))
    return found


def line_of(row: dict[str, Any]) -> str:
    line = (
        f"{row['format']:11}{row['variants']:6} variants: {row['made_and_verified']:5} made and verified,"
        f"{row['refused_with_reason']:5} refused, {sum(row['other_reasons'].values()):3} other reasons,"
        f"{len(row['faults']):3} faults; slowest {row['slowest_s']:.1f} s"
    )
    return "\n    ".join([line, *(f"{n} x {why}" for why, n in row["other_reasons"].items()), *row["faults"]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
