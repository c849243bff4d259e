"""The real steps of the processors against the plain pipelines of a shell: same files, same minutes.

    ./dev bench processing [--small] [--json] [--rounds N] [--only CASE,…] [--data FOLDER] [--codec]

Runs are interleaved, figures are medians. Ours is a process of its own that runs all steps, checks
included; its start and its end are part of the figure, as those of the pipeline's are. With `--small`, or
`--prepared`, both wait until they are told to begin, ours with what a worker prepares before it has an order
(worker/preparation.py), and wall time is from there until the result is there. CPU time is all of it in
either case. `rss_mb` is of the largest process, `disk_mb` the most that stood in the work folder, `bytes`
the size of the data that came out. `--codec` adds what decoding the source and encoding the result alone
would cost in CPU seconds. `--data` keeps the generated files.
On a busy machine trust the CPU ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _files import bed, gff3, gtf, narrowpeak, sorted_text, vcf, write, write_bam, write_bigbed
from _report import reporting

from gooseherd.processing.tools import limits

if TYPE_CHECKING:  # what is measured is what a process imports, too
    from gooseherd.domain.artifact import Kind
    from gooseherd.processing.tools.isolation import Confinement
    from gooseherd.processing.tools.verifier import LoadedVerifier

FULL, SMALL = 8_000_000, 400_000
"""BED records; the other formats have a share of it."""
MIB = 1 << 20
WORKER_MEMORY = 4 << 30
_PREPARING_SECONDS = 1.0
"""More than Python and pysam take to load."""
SORT_MEMORY = SAMTOOLS_MEMORY = limits.sort_memory(WORKER_MEMORY)
"""What a worker of that size tells the kernel, and `samtools sort` as a whole, to sort in."""


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    rss_mb: float
    disk_mb: float
    bytes: int


@dataclass(frozen=True)
class Case:
    """`make(folder, records)` gives the source; `pipeline` is what one would write in a shell."""

    name: str
    format: str
    make: Callable[[Path, int], Path]
    pipeline: Callable[[Path, Path], Path]


# --- what is compared with ---


def run(*stages: Sequence[str], to: Path | None = None, grep: bool = False) -> None:
    """Run stages joined by pipes, the last one's output into `to`."""
    environment = {**os.environ, "LC_ALL": "C"}
    children: list[subprocess.Popen[bytes]] = []
    with (to or Path(os.devnull)).open("wb") as last:
        for stage in stages:
            before = children[-1].stdout if children else None
            out = last if stage is stages[-1] else subprocess.PIPE
            children.append(
                subprocess.Popen(stage, stdin=before, stdout=out, stderr=subprocess.DEVNULL, env=environment)
            )
            if before is not None:
                before.close()
        for child in children:
            # head and grep may find nothing, and leave the one before them without a reader.
            if child.wait() not in (0, 1, -13) if grep else child.wait():
                raise SystemExit(f"{child.args!r} ended with {child.returncode}")


def text_pipeline(preset: str, column: int) -> Callable[[Path, Path], Path]:
    """(zcat | grep '^#'; zcat | grep -v … | sort) | bgzip > out; tabix out."""

    def pipeline(source: Path, work: Path) -> Path:
        out = work / "out.gz"
        sort = ("sort", "-t", "\t", "-k1,1", f"-k{column},{column}n", "-S", "256M", "-T", str(work))
        # One bgzip for both, as a shell's parentheses would have it.
        with out.open("wb") as file:
            bgzip = subprocess.Popen(["bgzip", "-c"], stdin=subprocess.PIPE, stdout=file)
        assert bgzip.stdin is not None
        into = Path(f"/proc/self/fd/{bgzip.stdin.fileno()}")
        run(("zcat", "-f", str(source)), ("grep", "^#"), to=into, grep=True)
        run(("zcat", "-f", str(source)), ("grep", "-v", "-E", "^(#|track|browser)"), sort, to=into, grep=True)
        bgzip.stdin.close()
        if bgzip.wait():
            raise SystemExit("bgzip failed")
        run(("tabix", "-f", "-p", preset, str(out)))
        return out

    return pipeline


def gtf_pipeline(source: Path, work: Path) -> Path:
    """zcat | gffread | grep | sort | bgzip; tabix: genes and most attributes are lost."""
    out = work / "out.gz"
    run(
        ("zcat", str(source)),
        ("gffread", "-"),
        ("grep", "-v", "^#"),
        ("sort", "-t", "\t", "-k1,1", "-k4,4n", "-S", "256M", "-T", str(work)),
        ("bgzip", "-c"),
        to=out,
    )
    run(("tabix", "-f", "-p", "gff", str(out)))
    return out


def bam_pipeline(source: Path, work: Path) -> Path:
    """view -b | sort -m 256M; index"""
    out = work / "out.bam"
    sort = ("samtools", "sort", "-m", "256M", "-T", str(work / "t"), "-o", str(out), "-")
    run(("samtools", "view", "-b", str(source)), sort)
    run(("samtools", "index", str(out)))
    return out


READER = """
import sys, pyBigWig
opened = pyBigWig.open(sys.argv[1])
for name, length in sorted(opened.chroms().items()):
    found = opened.entries(name, 0, length)
    sys.stdout.write("".join("%s\\t%d\\t%d\\t%s\\n" % (name, *item) for item in found))
"""


def bigbed_pipeline(source: Path, work: Path) -> Path:
    """a reader | sort | bgzip; tabix"""
    out = work / "out.gz"
    sort = ("sort", "-t", "\t", "-k1,1", "-k2,2n", "-S", "256M", "-T", str(work))
    run((sys.executable, "-c", READER, str(source)), sort, ("bgzip", "-c"), to=out)
    run(("tabix", "-f", "-p", "bed", str(out)))
    return out


def text(
    name: str, maker: Callable[[int, random.Random], Iterator[str]], share: float, packing: str
) -> Callable[[Path, int], Path]:
    def make(folder: Path, records: int) -> Path:
        count = int(records * share)
        path = folder / f"{name}.{count}{'' if packing == 'plain' else '.gz'}"
        return path if path.exists() else write(path, maker(count, random.Random(name)), packing)

    return make


def bam(*, ordered: bool) -> Callable[[Path, int], Path]:
    def make(folder: Path, records: int) -> Path:
        count = records * 5 // 8
        return write_bam(folder / f"{'s' if ordered else 'u'}.{count}.bam", count, ordered=ordered)

    return make


_BED, _VCF, _GFF = text_pipeline("bed", 2), text_pipeline("vcf", 2), text_pipeline("gff", 4)

CASES = (
    Case("bam_unsorted", "bam", bam(ordered=False), bam_pipeline),
    Case("bam_sorted", "bam", bam(ordered=True), bam_pipeline),
    Case("vcf_shuffled", "vcf", text("vcf", vcf, 1 / 4, "gzip"), _VCF),
    Case("vcf_sorted", "vcf", text("vcf-sorted", sorted_text(vcf), 1 / 4, "bgzip"), _VCF),
    Case("bed_unsorted", "bed", text("bed", bed, 1, "plain"), _BED),
    Case("bed_sorted", "bed", text("bed-sorted", sorted_text(bed), 1, "bgzip"), _BED),
    Case("bed_sorted_gzip", "bed", text("bed-sorted-gzip", sorted_text(bed), 1, "gzip"), _BED),
    Case("gff3_unsorted", "gff3", text("gff3", gff3, 0.3, "gzip"), _GFF),
    Case("gtf", "gtf", text("gtf", gtf, 0.3, "gzip"), gtf_pipeline),
    Case("narrowpeak", "narrowpeak", text("narrowpeak", narrowpeak, 1 / 8, "gzip"), _BED),
    Case(
        "bigbed",
        "bigbed",
        lambda folder, records: write_bigbed(folder / f"{records}.bb", records),
        bigbed_pipeline,
    ),
)


# --- ours ---


async def steps(
    file_format: str,
    path: Path,
    work: Path,
    level: int,
    *,
    sort_memory: int = SORT_MEMORY,
    samtools_memory: int = SAMTOOLS_MEMORY,
    confinement: Confinement | None = None,
    verifier: LoadedVerifier | None = None,
) -> Mapping[Kind, Path]:
    """Run the processor's steps as an attempt does; the parts."""
    from gooseherd.domain.processing import StepInput
    from gooseherd.domain.source import SourceFile
    from gooseherd.processing.registry import default_registry

    entry = {"dcc": "bench", "local_id": "x", "filename": path.name, "access_url": "https://example.org/x"}
    source = SourceFile.from_json({**entry, "file_format": file_format, "md5": "0" * 32})
    threads = os.cpu_count() or 1
    registry = default_registry(
        sort_memory=sort_memory,
        samtools_memory=samtools_memory,
        threads=threads,
        level=level,
        confinement=confinement,
        verifier=verifier,
    )
    parts: dict[Kind, Path] = {}
    for step in registry.processor(registry.recipe(source)).steps(source.file_format):
        folder = work / step.name
        await asyncio.to_thread(folder.mkdir)
        given = StepInput(source, parts[step.needs] if step.needs else path, folder, lambda *_: None, 1 << 40)
        output = await step.run(given)
        parts.update({made.kind: made.path for made in output.files})
    return parts


def until_told() -> None:
    """Says that it is prepared, and waits for a line."""
    sys.stdout.write("prepared\n")
    sys.stdout.flush()
    sys.stdin.readline()


async def prepared_steps(file_format: str, path: Path, work: Path, level: int) -> None:
    """The same, prepared as a worker's spare process is; prints the data's size before it tidies up."""
    from gooseherd.domain.artifact import Kind
    from gooseherd.processing import registry  # noqa: F401 - what a fork server has imported
    from gooseherd.processing.step_context import environment_of_tools
    from gooseherd.processing.tools.isolation import Confinement
    from gooseherd.processing.tools.verifier import LoadedVerifier

    confined = Confinement()
    loaded = await LoadedVerifier.start(work, environment=environment_of_tools(work), confinement=confined)
    try:
        await asyncio.sleep(_PREPARING_SECONDS)
        until_told()
        parts = await steps(file_format, path, work, level, confinement=confined, verifier=loaded)
        print(parts[Kind.DATA].stat().st_size, flush=True)
    finally:
        await loaded.end()


# --- measuring ---


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """The most bytes on disk below `folder`, looked at ten times a second; links left out."""
    most, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            used = 0
            for name, _, files in os.walk(folder):
                for file in files:
                    with suppress(FileNotFoundError):
                        found = os.lstat(Path(name, file))
                        used += found.st_blocks * 512 if found.st_nlink == 1 else 0
            most[0] = max(most[0], used)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


def measured(*argv: str, scratch: Path, prepared: bool = False) -> Cost:
    """This program again, with a part of its work: only so is its CPU time, and its children's, known."""
    with tempfile.TemporaryDirectory(dir=scratch) as work, watched(Path(work)) as disk:
        began = time.perf_counter()
        command = [sys.executable, __file__, *(("--prepared",) if prepared else ()), *argv, work]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            if prepared:
                child.stdout.readline()
                began = time.perf_counter()
            child.stdin.write(b"\n")
            child.stdin.close()
            output = child.stdout.readline()
            wall = time.perf_counter() - began
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if not prepared:
            wall = time.perf_counter() - began
        if child.returncode:
            raise SystemExit(f"{argv}: failed")
        size = int(output or 0)
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, disk[0] / MIB, size)


def compare(case: Case, source: Path, scratch: Path, given: argparse.Namespace) -> dict[str, object]:
    costs: dict[str, list[Cost]] = {"baseline": [], "ours": [], **({"codec": []} if given.codec else {})}
    for _ in range(given.rounds):
        for who, made in costs.items():
            argv = ("--one", who, case.name, str(source), str(given.level))
            made.append(measured(*argv, scratch=scratch, prepared=given.prepared))
    base, own = (
        {key: middle(costs[who], key) for key in Cost.__annotations__} for who in ("baseline", "ours")
    )
    row: dict[str, object] = {
        "case": case.name,
        "source_bytes": source.stat().st_size,
        "baseline": base,
        "ours": own,
        "wall_ratio": round(base["wall_s"] / own["wall_s"], 2),
        "cpu_ratio": round(base["cpu_s"] / own["cpu_s"], 2),
        "size_ratio": round(own["bytes"] / base["bytes"], 3),
    }
    if given.codec:
        alone = row["codec_cpu_s"] = middle(costs["codec"], "cpu_s")
        row["cpu_over_codec"] = round(own["cpu_s"] / alone, 2)
    return row


def middle(costs: Sequence[Cost], key: str) -> float:
    return round(median(float(getattr(cost, key)) for cost in costs), 2)


def codec(case: Case, source: Path, work: Path, level: int) -> None:
    """Decode the source and encode what it holds, with stock tools, and do nothing else.

    Also where the result is the source: that ours need not encode it is what it saves. Our quickest level is
    not one of theirs, whose own is taken instead.
    """
    level = max(level, 1)
    if case.format == "bam":
        verb = ("-b", "--output-fmt-option", f"level={level}")
        run(("samtools", "view", "-@", "2", *verb, "-o", str(work / "x.bam"), str(source)))
    else:
        unpack = {"bed_unsorted": ("cat",), "vcf_sorted": ("bgzip", "-dc"), "bed_sorted": ("bgzip", "-dc")}
        stock = unpack.get(case.name, ("zcat",))
        read = (sys.executable, "-c", READER) if case.name == "bigbed" else stock
        run((*read, str(source)), ("bgzip", "-c", "-@", "2", "-l", str(level)), to=work / "x.gz")


def one(who: str, name: str, source: Path, level: int, work: Path, *, prepared: bool) -> None:
    """What a measured process does; prints the data's size."""
    case = next(case for case in CASES if case.name == name)
    if who == "ours" and prepared:
        asyncio.run(prepared_steps(case.format, source, work, level))
        return
    if prepared:
        until_told()
    if who == "baseline":
        size = case.pipeline(source, work).stat().st_size
    elif who == "codec":
        codec(case, source, work, level)
        size = 0
    else:
        from gooseherd.domain.artifact import Kind

        size = asyncio.run(steps(case.format, source, work, level))[Kind.DATA].stat().st_size
    print(size, flush=True)


def line_of(row: dict[str, object]) -> str:
    figures = [f"{row['case']:16}"]
    for who in ("baseline", "ours"):
        cost = row[who]
        assert isinstance(cost, dict)
        figures.append(
            f"{who} {cost['wall_s']:6.2f} s {cost['cpu_s']:6.2f} CPU s {cost['rss_mb']:5.0f} MB"
            f" disk {cost['disk_mb']:5.0f} MB {cost['bytes'] / 1e6:6.1f} MB out"
        )
    ratios = f"wall {row['wall_ratio']}x  CPU {row['cpu_ratio']}x  size {row['size_ratio']}"
    beside = f"  CPU over codec {row['cpu_over_codec']}" if "codec_cpu_s" in row else ""
    return "  ".join((*figures, ratios)) + beside


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="a twentieth of the records")
    parser.add_argument("--records", type=int, help=f"BED records, others in proportion (default {FULL})")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="cases, split by commas")
    parser.add_argument("--data", type=Path, help="keep the generated files here")
    parser.add_argument("--make", action="store_true", help="make the files and measure nothing")
    parser.add_argument("--level", type=int, default=0, help="of our compression")
    parser.add_argument("--codec", action="store_true", help="decoding and encoding alone, too")
    parser.add_argument("--prepared", action="store_true", help="both wait until they are told to begin")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        who, name, source, level, work = given.one
        one(who, name, Path(source), int(level), Path(work), prepared=given.prepared)
        return 0
    given.prepared = given.prepared or given.small
    records = given.records or (SMALL if given.small else FULL)
    wanted = given.only.split(",") if given.only else [case.name for case in CASES]
    rows: list[dict[str, Any]] = []
    with reporting(lambda: {"rows": rows}) as print_whole, tempfile.TemporaryDirectory() as scratch:
        folder = given.data or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for case in CASES:
            if case.name not in wanted:
                continue
            if case.name == "gtf" and not shutil.which("gffread"):
                print("gtf: there is no gffread to compare with", file=sys.stderr)
                continue
            # In a process of its own: what it held would count as the peak of its children.
            argv = [
                sys.executable,
                "-c",
                MAKE,
                str(Path(__file__).parent),
                case.name,
                str(folder),
                str(records),
            ]
            source = Path(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.decode())
            if given.make:
                continue
            rows.append(compare(case, source, Path(scratch), given))
            if not given.json:
                print(line_of(rows[-1]), flush=True)
        if given.json:
            print_whole()
    return 0


MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from processing import CASES
case = next(case for case in CASES if case.name == sys.argv[2])
print(case.make(Path(sys.argv[3]), int(sys.argv[4])), end="")
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
