"""The interval kernel against the plain pipeline (zcat, grep, sort, bgzip, tabix): same files, same minutes.

    python benchmarks/kernel.py [--small] [--json] [--rounds N] [--kernel PROGRAM]

Both get the same source and two cores; the pipeline is what one would write in a shell, run without one.
Runs are interleaved, figures are medians. On a busy machine trust the CPU ratios. The pipeline compresses at
level 6, its default, the kernel at 1 (`size_ratio` is what that costs) and, in the rows that say so, at 6.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _files import Maker, bed, gff3, narrowpeak, sorted_text, vcf, write
from _report import reporting

from gooseherd.processing.tools.kernel import KernelCall, find_kernel

MIB = 1 << 20
FULL, SMALL = 4_000_000, 400_000
"""BED records; the other formats have a share of it."""


@dataclass(frozen=True)
class Case:
    name: str
    format: str
    preset: str
    column: int
    source: Path
    level: int = 1
    memory: int = 1 << 30


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    rss_mb: float
    size: int

    def row(self) -> dict[str, float]:
        return {
            "wall_s": round(self.wall_s, 3),
            "cpu_s": round(self.cpu_s, 3),
            "rss_mb": round(self.rss_mb, 1),
        }


def cases(folder: Path, records: int) -> Iterator[Case]:
    def source(name: str, maker: Maker, count: int, packing: str = "gzip") -> Path:
        suffix = "" if packing == "plain" else ".gz"
        return write(folder / f"{name}.{records}{suffix}", maker(count, random.Random(name)), packing)

    plain = source("bed", bed, records, "plain")
    yield Case("bed_unsorted", "bed", "bed", 2, plain)
    yield Case("bed_unsorted_level6", "bed", "bed", 2, plain, level=6)
    yield Case("bed_unsorted_spilling", "bed", "bed", 2, plain, memory=64 * MIB)
    yield Case("gff3_unsorted", "gff3", "gff", 4, source("gff3", gff3, records // 4))
    yield Case("vcf_shuffled", "vcf", "vcf", 2, source("vcf", vcf, records // 8))
    yield Case("narrowpeak_unsorted", "narrowpeak", "bed", 2, source("narrowpeak", narrowpeak, records // 4))
    yield Case("bed_sorted_gzip", "bed", "bed", 2, source("bed-sorted", sorted_text(bed), records))


class ResourceUsage:
    """Starts processes and adds up what they used."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []

    def start(
        self, *argv: str, stdin: int | None = None, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(argv, stdin=stdin, stdout=stdout, env={**os.environ, "LC_ALL": "C"})
        self.children.append(child)
        return child

    def finish(self) -> tuple[float, float]:
        """CPU seconds of all, MB of the largest."""
        cpu = rss = 0.0
        for child in self.children:
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode not in (0, 1 if "grep" in str(child.args) else 0):
                raise SystemExit(f"{child.args!r} ended with {child.returncode}")
            cpu += used.ru_utime + used.ru_stime
            rss = max(rss, used.ru_maxrss / 1024)
        self.children.clear()
        return cpu, rss


def pipeline(case: Case, work: Path) -> Cost:
    """(zcat | grep '^#'; zcat | grep -v … | sort) | bgzip > out; tabix out."""
    out = work / "pipeline.gz"
    usage = ResourceUsage()
    began = time.perf_counter()
    with out.open("wb") as file:
        squeeze = usage.start("bgzip", "-c", stdin=subprocess.PIPE, stdout=file.fileno())
        assert squeeze.stdin is not None
        unpack = usage.start("zcat", "-f", str(case.source), stdout=subprocess.PIPE)
        assert unpack.stdout is not None
        usage.start("grep", "^#", stdin=unpack.stdout.fileno(), stdout=squeeze.stdin.fileno())
        unpack.stdout.close()
        cpu, rss = _after(usage, keep=squeeze)
        unpack = usage.start("zcat", "-f", str(case.source), stdout=subprocess.PIPE)
        assert unpack.stdout is not None
        keep = usage.start(
            "grep", "-v", "-E", "^(#|track|browser)", stdin=unpack.stdout.fileno(), stdout=subprocess.PIPE
        )
        assert keep.stdout is not None
        unpack.stdout.close()
        key = f"-k{case.column},{case.column}n"
        usage.start(
            "sort", "-t", "\t", "-k1,1", key, "-S", "256M", "-T", str(work),
            stdin=keep.stdout.fileno(), stdout=squeeze.stdin.fileno(),
        )  # fmt: skip
        keep.stdout.close()
        squeeze.stdin.close()
        more, most = usage.finish()
    usage.start("tabix", "-f", "-p", case.preset, str(out))
    last, index = usage.finish()
    wall = time.perf_counter() - began
    return Cost(wall, cpu + more + last, max(rss, most, index), out.stat().st_size)


def _after(usage: ResourceUsage, keep: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Wait for all but `keep`."""
    usage.children.remove(keep)
    used = usage.finish()
    usage.children.append(keep)
    return used


def ours(case: Case, work: Path, program: Path) -> Cost:
    call = KernelCall(
        format=case.format, source=case.source, out=work / "kernel.gz", index=work / "kernel.gz.tbi",
        report=work / "report.json", work=work, memory_bytes=case.memory, level=case.level,
    )  # fmt: skip
    usage = ResourceUsage()
    began = time.perf_counter()
    usage.start(*call.argv(program))
    cpu, rss = usage.finish()
    return Cost(time.perf_counter() - began, cpu, rss, call.out.stat().st_size)


def compare(case: Case, work: Path, program: Path, rounds: int) -> dict[str, object]:
    theirs, mine = [], []
    for _ in range(rounds):
        theirs.append(pipeline(case, work))
        mine.append(ours(case, work, program))
    counted = [lines_in(work / name) for name in ("pipeline.gz", "kernel.gz")]
    if counted[0] != counted[1]:
        raise SystemExit(f"{case.name}: {counted[0]} lines of the pipeline, {counted[1]} of the kernel")
    base, own = median(theirs), median(mine)
    return {
        "case": case.name,
        "baseline": base.row(),
        "ours": own.row(),
        "wall_ratio": round(base.wall_s / own.wall_s, 2),
        "cpu_ratio": round(base.cpu_s / own.cpu_s, 2),
        "size_ratio": round(own.size / base.size, 3),
    }


def lines_in(path: Path) -> int:
    with gzip.open(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(MIB), b""))


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(c.wall_s for c in costs),
        statistics.median(c.cpu_s for c in costs),
        statistics.median(c.rss_mb for c in costs),
        costs[-1].size,
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the records")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernel", type=Path, help="default: the one beside the package, or on PATH")
    parser.add_argument("--data", type=Path, help="keep the generated files here")
    given = parser.parse_args(argv)
    program = find_kernel(given.kernel)
    if program is None:
        print("gooseherd-intervals is not built: see kernel/README.md", file=sys.stderr)
        return 3
    rows: list[dict[str, Any]] = []
    with reporting(lambda: {"rows": rows}) as print_whole, tempfile.TemporaryDirectory() as scratch:
        folder = given.data or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for case in cases(folder, SMALL if given.small else FULL):
            rows.append(compare(case, Path(scratch), program.resolve(), given.rounds))
            if not given.json:
                print(line_of(rows[-1]), flush=True)
        if given.json:
            print_whole()
    return 0


def line_of(row: dict[str, object]) -> str:
    figures = [f"{row['case']:24}"]
    for who in ("baseline", "ours"):
        cost = row[who]
        assert isinstance(cost, dict)
        figures.append(
            f"{who} {cost['wall_s']:7.2f} s wall {cost['cpu_s']:7.2f} s CPU {cost['rss_mb']:7.0f} MB"
        )
    return "  ".join(
        (*figures, f"wall {row['wall_ratio']}x  CPU {row['cpu_ratio']}x  size {row['size_ratio']}")
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
