"""Files far larger than the memory given: an unsorted BED and an unsorted BAM through the real steps.

    ./dev bench large [--bed-gb 20] [--bam-gb 10] [--memory-gb 4] [--data FOLDER] [--json]

Makes each file, prepares it as an attempt on a worker with so much memory would (limits and, where it can
be had, sandbox included) and looks ten times a second at what its processes take. What comes out is
counted whole, and random regions are compared record by record with what was put in. Needs disk for
three times the larger file; all is deleted again. Exit status 1 when a result is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from _large_files import LargeBam, LargeBed
from _report import reporting

MIB = 1 << 20
CAP = 3 / 4
"""Of the worker's memory, what sort and samtools are told to use; beyond it they hold buffers."""
REGIONS, WIDTHS = 40, (1, 200, 5_000, 40_000)


@dataclass
class Taken:
    """The most that a tree of processes held at once, bytes."""

    largest: int = 0
    """By one process."""
    together: int = 0
    """Pages that processes share count for each."""
    disk: int = 0
    """In the work folder, files without a name included; not the source."""


@dataclass(frozen=True)
class Row:
    case: str
    source_mb: float
    records: int
    memory_mb: float
    wall_s: float
    cpu_s: float
    largest_mb: float
    together_mb: float
    scratch_mb: float
    result_mb: float
    regions: int
    wrong: list[str]


# --- ours, in a process of its own ---


def one(file_format: str, source: Path, memory: int, work: Path) -> dict[str, str]:
    from processing import steps

    from gooseherd.processing.tools.isolation import SandboxUse, confinement
    from gooseherd.processing.tools.limits import ToolLimits, tool_memory

    async def prepare() -> dict[str, str]:
        cap = int(memory * CAP)
        limits = ToolLimits(tool_memory(memory, cap))
        async with confinement(SandboxUse.AUTO, limits, work, (source,)) as confined:
            parts = await steps(
                file_format, source, work, 1, sort_memory=cap, samtools_memory=cap, confinement=confined
            )
        return {kind.value: str(path) for kind, path in parts.items()}

    return asyncio.run(prepare())


# --- measuring ---


@contextmanager
def watched(root: int, folder: Path) -> Iterator[Taken]:
    from gooseherd.processing.tools.progress import unlinked_bytes

    taken, over = Taken(), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            pids = tree(root)
            held = [memory_of(pid) for pid in pids]
            taken.largest = max([taken.largest, *(most for most, _ in held)])
            taken.together = max(taken.together, sum(now for _, now in held))
            taken.disk = max(taken.disk, folder_bytes(folder) + unlinked_bytes(pids))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield taken
    finally:
        over.set()
        looking.join()


def tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return found


def memory_of(pid: int) -> tuple[int, int]:
    """(the most so far, now) of one process, resident; not the memory of a parent that it still shares."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmHWM", "VmRSS"))}
    return int(found.get("VmHWM", 0)) << 10, int(found.get("VmRSS", 0)) << 10


def folder_bytes(folder: Path) -> int:
    seen = {}
    for name, _, files in os.walk(folder):
        for file in files:
            try:
                about = Path(name, file).lstat()
            except FileNotFoundError:
                continue
            seen[about.st_ino] = about.st_blocks * 512
    return sum(seen.values())


def measured(case: str, made: LargeBed | LargeBam, memory: int, scratch: Path, regions: int) -> Row:
    """Make, prepare, check, delete."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        source, work = Path(folder, f"source.{case}"), Path(folder, "work")
        work.mkdir()
        result("making", case)
        made.write(source)
        size = source.stat().st_size
        result("preparing", case)
        began = time.perf_counter()
        argv = [sys.executable, __file__, "--one", case, str(source), str(memory), str(work)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            with watched(child.pid, work) as taken:
                output = child.stdout.read()
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        if child.returncode:
            raise SystemExit(f"{case}: failed")
        source.unlink()
        result("checking", case)
        parts = {kind: Path(path) for kind, path in json.loads(output).items()}
        data = parts["data"]
        wrong = check(made, data, parts["index"], regions)
        return Row(
            case=case,
            source_mb=round(size / 1e6, 1),
            records=made.records,
            memory_mb=round(memory / MIB, 1),
            wall_s=round(wall, 1),
            cpu_s=round(used.ru_utime + used.ru_stime, 1),
            largest_mb=round(taken.largest / MIB, 1),
            together_mb=round(taken.together / MIB, 1),
            scratch_mb=round(taken.disk / 1e6, 1),
            result_mb=round(data.stat().st_size / 1e6, 1),
            regions=regions,
            wrong=wrong,
        )


def result(what: str, case: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what} the {case.upper()}", file=sys.stderr, flush=True)


# --- is it right? ---


def check(made: LargeBed | LargeBam, data: Path, index: Path, regions: int) -> list[str]:
    """What was wrong."""
    wrong = []
    if (found := count(data, bam=isinstance(made, LargeBam))) != made.records:
        wrong.append(f"{found} records, not {made.records}")
    rng = random.Random(5)
    for number in range(regions):
        name, length = rng.choice(made.contigs)
        begin = rng.randrange(length)
        end = min(begin + WIDTHS[number % len(WIDTHS)], length)
        got = query(data, index, name, begin, end, bam=isinstance(made, LargeBam))
        if sorted(got) != sorted(made.overlapping(name, begin, end)):
            wrong.append(f"{name}:{begin + 1}-{end}: {len(got)} records, and not those of the source")
    return wrong


def count(data: Path, *, bam: bool) -> int:
    """Records, by reading all of them."""
    if bam:
        subprocess.run(["samtools", "quickcheck", data], check=True)
        return int(
            subprocess.run(["samtools", "view", "-c", data], stdout=subprocess.PIPE, check=True).stdout
        )
    with subprocess.Popen(["bgzip", "-dc", data], stdout=subprocess.PIPE) as unpacked:
        lines = subprocess.run(["wc", "-l"], stdin=unpacked.stdout, stdout=subprocess.PIPE, check=True).stdout
    if unpacked.returncode:
        raise SystemExit("the result cannot be unpacked")
    return int(lines)


def query(data: Path, index: Path, name: str, begin: int, end: int, *, bam: bool) -> list[str]:
    region = f"{name}:{begin + 1}-{end}"
    # tabix takes no name for the index.
    beside = data.with_name(data.name + index.suffix)
    if not beside.exists():
        beside.symlink_to(index)
    argv = ("samtools", "view", data, region) if bam else ("tabix", data, region)
    lines = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return [line.split("\t", 1)[0] for line in lines] if bam else lines


def run(bed_bytes: int, bam_bytes: int, memory: int, folder: Path, regions: int = REGIONS) -> Iterator[Row]:
    """A row for each file that is wanted (0: is not)."""
    if bed_bytes:
        yield measured("bed", LargeBed(bed_bytes), memory, folder, regions)
    if bam_bytes:
        yield measured("bam", LargeBam(bam_bytes), memory, folder, regions)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bed-gb", type=float, default=20, help="0: no BED")
    parser.add_argument("--bam-gb", type=float, default=10, help="0: no BAM")
    parser.add_argument("--memory-gb", type=float, default=4, help="of the worker")
    parser.add_argument("--data", type=Path, help="where files are made (default: the temporary folder)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        file_format, source, memory, work = given.one
        print(json.dumps(one(file_format, Path(source), int(memory), Path(work))))
        return 0
    rows: list[Row] = []
    bed, bam, memory = int(given.bed_gb * 1e9), int(given.bam_gb * 1e9), int(given.memory_gb * (1 << 30))
    with (
        reporting(lambda: {"rows": [asdict(row) for row in rows]}) as print_whole,
        tempfile.TemporaryDirectory(dir=given.data) as folder,
    ):
        for row in run(bed, bam, memory, Path(folder)):
            rows.append(row)
            if not given.json:
                print(" ".join(f"{name}={value}" for name, value in asdict(row).items()), flush=True)
        if given.json:
            print_whole()
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
