"""What the density costs: each format through the processor's steps with it and without, one after the other.

    ./dev bench density [--rounds N] [--small | --records N] [--only CASE,…] [--json]

Prints per case wall and CPU seconds without and with, medians, the ratio of the CPU seconds, the bytes of the
bigWig, its windows, and how many bytes a view of the longest sequence in 1,000 pixels reads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from _report import reporting
from processing import CASES, FULL, MAKE, SAMTOOLS_MEMORY, SMALL, SORT_MEMORY

PIXELS = 1000


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float
    report: dict[str, int]


async def steps(file_format: str, path: Path, work: Path, *, density: bool) -> dict[str, int]:
    """All steps, as an attempt runs them; what became of the density."""
    from gooseherd.domain.artifact import Kind
    from gooseherd.domain.processing import StepInput
    from gooseherd.domain.source import SourceFile
    from gooseherd.processing.registry import default_registry

    entry = {"dcc": "bench", "local_id": "x", "filename": path.name, "access_url": "https://example.org/x"}
    source = SourceFile.from_json({**entry, "file_format": file_format, "md5": "0" * 32})
    registry = default_registry(
        sort_memory=SORT_MEMORY,
        samtools_memory=SAMTOOLS_MEMORY,
        threads=os.cpu_count() or 1,
        density=density,
    )
    parts: dict[Kind, Path] = {}
    counts: dict[str, int] = {}
    for step in registry.processor(registry.recipe(source)).steps(source.file_format):
        folder = work / step.name
        await asyncio.to_thread(folder.mkdir)
        given = StepInput(source, parts[step.needs] if step.needs else path, folder, lambda *_: None, 1 << 40)
        output = await step.run(given)
        parts.update({made.kind: made.path for made in output.files})
        counts |= output.counts
    if not density:
        return {}
    drawn = await asyncio.to_thread(parts[Kind.DENSITY].read_bytes)
    return {"bytes": len(drawn), "window": counts["density_window"], "view_bytes": view_bytes(drawn)}


def view_bytes(bigwig: bytes) -> int:
    """What a reader fetches for the whole of the longest sequence: of the zoom level that fits its pixels."""
    (levels,) = struct.unpack_from("<H", bigwig, 6)
    names_at, _, index_at = struct.unpack_from("<QQQ", bigwig, 8)
    _, _, key_bytes, _, names = struct.unpack_from("<IIIIQ", bigwig, names_at)
    longest, number = 0, 0
    if names <= 256:  # one leaf
        for n in range(names):
            at = names_at + 32 + 4 + n * (key_bytes + 8) + key_bytes
            which, length = struct.unpack_from("<II", bigwig, at)
            longest, number = max((longest, number), (length, which))
    fitting = index_at
    for n in range(levels):
        reduction, _, _, at = struct.unpack_from("<IIQQ", bigwig, 64 + 24 * n)
        fitting = at if reduction <= longest / PIXELS else fitting
    return sum(size for which, size in blocks(bigwig, fitting + 48) if which == number)


def blocks(bigwig: bytes, at: int) -> list[tuple[int, int]]:
    """(sequence, bytes) of all blocks below a node of the tree."""
    leaf, _, count = struct.unpack_from("<BBH", bigwig, at)
    found = []
    for n in range(count):
        if leaf:
            which, _, _, _, _, size = struct.unpack_from("<IIIIQQ", bigwig, at + 4 + n * 32)
            found.append((which, size))
        else:
            found += blocks(bigwig, struct.unpack_from("<16xQ", bigwig, at + 4 + n * 24)[0])
    return found


def measured(case: str, source: Path, scratch: Path, *, density: bool) -> Cost:
    """In a process of its own: only so is its CPU time, and its children's, known."""
    with tempfile.TemporaryDirectory(dir=scratch) as work:
        argv = [sys.executable, __file__, "--one", case, str(source), str(int(density)), work]
        began = time.perf_counter()
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            report = child.stdout.read()
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
    if child.returncode:
        raise SystemExit(f"{case}: failed")
    return Cost(wall, used.ru_utime + used.ru_stime, json.loads(report))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="a twentieth of the records")
    parser.add_argument("--records", type=int, help=f"BED records, others in proportion (default {FULL})")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="cases, split by commas")
    parser.add_argument("--data", type=Path, help="keep the generated files here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        name, source, density, work = given.one
        case = next(case for case in CASES if case.name == name)
        print(json.dumps(asyncio.run(steps(case.format, Path(source), Path(work), density=density == "1"))))
        return 0
    records = given.records or (SMALL if given.small else FULL)
    wanted = given.only.split(",") if given.only else [case.name for case in CASES]
    rows: list[dict[str, Any]] = []
    with reporting(lambda: {"rows": rows}) as print_whole, tempfile.TemporaryDirectory() as scratch:
        folder = given.data or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            make = [sys.executable, "-c", MAKE, str(Path(__file__).parent), name, str(folder), str(records)]
            source = Path(subprocess.run(make, stdout=subprocess.PIPE, check=True).stdout.decode())
            without, with_it = [], []
            for _ in range(given.rounds):
                without.append(measured(name, source, Path(scratch), density=False))
                with_it.append(measured(name, source, Path(scratch), density=True))
            rows.append(row(name, without, with_it))
            if not given.json:
                print(line_of(rows[-1]), flush=True)
        if given.json:
            print_whole()
    return 0


def row(name: str, without: Sequence[Cost], with_it: Sequence[Cost]) -> dict[str, object]:
    costs = {
        who: {key: round(median(getattr(cost, key) for cost in found), 2) for key in ("wall_s", "cpu_s")}
        for who, found in (("without", without), ("with", with_it))
    }
    return {
        "case": name,
        **costs,
        "cpu_ratio": round(median(b.cpu_s / a.cpu_s for a, b in zip(without, with_it, strict=True)), 3),
        "wall_ratio": round(median(b.wall_s / a.wall_s for a, b in zip(without, with_it, strict=True)), 3),
        **with_it[-1].report,
    }


def line_of(row: dict[str, object]) -> str:
    return (
        f"{row['case']:16} without {row['without']} with {row['with']}"
        f"  CPU x{row['cpu_ratio']} wall x{row['wall_ratio']}"
        f"  {row['bytes']} bytes, windows of {row['window']}, a view reads {row['view_bytes']}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
