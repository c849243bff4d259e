"""The real steps of the processors against the plain pipelines of a shell: same files, same minutes.

    python benchmarks/processing.py [--small] [--json] [--records N] [--rounds N]

Runs are interleaved, figures are medians. Ours is a process of its own that runs all steps, checks
included; its start is part of the figure. On a busy machine trust the CPU ratios.
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
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import kernel
from kernel import CHROMS, LENGTHS, Case, Cost, Meter

from gooseherd.domain.artifact import Kind
from gooseherd.domain.processing import StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import default_registry

FULL, SMALL = 4_000_000, 400_000
"""BED records; the other formats have a share of it."""
SORT_MEMORY, SAMTOOLS_MEMORY = 1 << 30, 1 << 30


def gtf(count: int, rng: random.Random) -> Iterator[str]:
    for i, (c, p) in enumerate(kernel.places(count // 14 or 1, rng)):
        about = f'gene_id "G{i}"; gene_type "protein_coding"; gene_name "GENE{i}"; level 2;'
        yield f"{c}\tHAVANA\tgene\t{p}\t{p + 9000}\t.\t+\t.\t{about}\n"
        about += f' transcript_id "T{i}"; transcript_type "protein_coding";'
        yield f"{c}\tHAVANA\ttranscript\t{p}\t{p + 9000}\t.\t+\t.\t{about}\n"
        for e in range(12):
            start = p + e * 700
            yield f"{c}\tHAVANA\texon\t{start}\t{start + 150}\t.\t+\t.\t{about} exon_number {e};\n"


def sam(count: int, rng: random.Random) -> Iterator[str]:
    yield from (f"@SQ\tSN:{c}\tLN:{n + 1}000000\n" for c, n in zip(CHROMS, LENGTHS, strict=True))
    pool = "".join(rng.choices("ACGT", k=100_000))
    for i, (c, p) in enumerate(kernel.places(count, rng)):
        at = p % 99_000
        yield (
            f"read{i}\t0\t{c}\t{p}\t60\t100M\t*\t0\t0\t{pool[at : at + 100]}\t"
            f"{'F' * (40 + i % 60):,<100}\tNM:i:{i % 3}\tRG:Z:x\n"
        )


def bam(path: Path, count: int, *, ordered: bool) -> Path:
    if not path.exists():
        verb = ("sort", "-O", "bam") if ordered else ("view", "-b")
        argv = ["samtools", *verb, "-o", str(path), "-"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as made:
            assert made.stdin is not None
            made.stdin.writelines(sam(count, random.Random(5)))
    return path


def seed_bam(case: Case, work: Path) -> Cost:
    """view -b | sort -m 256M; index"""
    out = work / "pipeline.bam"
    meter = Meter()
    began = time.perf_counter()
    view = meter.start("samtools", "view", "-b", str(case.source), stdout=subprocess.PIPE)
    assert view.stdout is not None
    fed = view.stdout.fileno()
    meter.start("samtools", "sort", "-m", "256M", "-T", str(work / "t"), "-o", str(out), "-", stdin=fed)
    view.stdout.close()
    cpu, rss = meter.finish()
    meter.start("samtools", "index", str(out))
    more, most = meter.finish()
    return Cost(time.perf_counter() - began, cpu + more, max(rss, most), out.stat().st_size)


def seed_gtf(case: Case, work: Path) -> Cost:
    """zcat | gffread | sort | bgzip; tabix"""
    out = work / "pipeline.gz"
    meter = Meter()
    began = time.perf_counter()
    stages = (
        ("zcat", str(case.source)),
        ("gffread", "-"),
        ("grep", "-v", "^#"),
        ("sort", "-t", "\t", "-k1,1", "-k4,4n", "-S", "256M", "-T", str(work)),
    )
    fed = None
    for argv in stages:
        stage = meter.start(*argv, stdin=fed.fileno() if fed else None, stdout=subprocess.PIPE)
        if fed:
            fed.close()
        fed = stage.stdout
    assert fed is not None
    with out.open("wb") as file:
        meter.start("bgzip", "-c", stdin=fed.fileno(), stdout=file.fileno())
        fed.close()
        cpu, rss = meter.finish()
    meter.start("tabix", "-f", "-p", "gff", str(out))
    more, most = meter.finish()
    return Cost(time.perf_counter() - began, cpu + more, max(rss, most), out.stat().st_size)


def cases(folder: Path, records: int) -> Iterator[tuple[Case, Callable[[Case, Path], Cost]]]:
    seeds = {"bam": seed_bam, "gtf": seed_gtf}
    yield Case("bam_unsorted", "bam", "", 0, bam(folder / "u.bam", records // 4, ordered=False)), seed_bam
    yield Case("bam_sorted", "bam", "", 0, bam(folder / "s.bam", records // 4, ordered=True)), seed_bam
    for name, file_format, preset, column, lines, share in (
        ("vcf_shuffled", "vcf", "vcf", 2, kernel.vcf, 8),
        ("bed_unsorted", "bed", "bed", 2, kernel.bed, 1),
        ("gff3_unsorted", "gff3", "gff", 4, kernel.gff3, 4),
        ("gtf", "gtf", "gff", 4, gtf, 4),
        ("narrowpeak", "narrowpeak", "bed", 2, kernel.narrowpeak, 4),
    ):
        made = lines(records // share, random.Random(name))
        source = kernel.make(folder / f"{name}.gz", made, pack=file_format != "bed")
        yield Case(name, file_format, preset, column, source), seeds.get(file_format, kernel.pipeline)
    ordered = folder / "vcf_sorted.gz"
    text = list(kernel.vcf(records // 8, random.Random(1)))
    body = sorted((line for line in text if line[0] != "#"), key=_place)
    kernel.make(ordered, iter([line for line in text if line[0] == "#"] + body), pack=True)
    del text, body  # a child's peak begins with what its parent held
    yield Case("vcf_sorted", "vcf", "vcf", 2, ordered), kernel.pipeline


def _place(line: str) -> tuple[str, int]:
    name, start, _ = line.split("\t", 2)
    return name, int(start)


def ours(case: Case, work: Path) -> Cost:
    """All steps in a process of their own."""
    argv = [sys.executable, __file__, "--one", case.format, str(case.source), str(work)]
    began = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if child.returncode:
        raise SystemExit(f"{case.name}: the steps failed")
    # The kernel adds up what it waited for; the largest process counts.
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, int(said))


async def one(file_format: str, path: Path, work: Path) -> int:
    """Run the processor's steps as an attempt does; bytes of the data part."""
    entry = {"dcc": "bench", "local_id": "x", "filename": path.name, "access_url": "https://example.org/x"}
    source = SourceFile.from_json({**entry, "file_format": file_format, "md5": "0" * 32})
    threads = os.cpu_count() or 1
    registry = default_registry(sort_memory=SORT_MEMORY, samtools_memory=SAMTOOLS_MEMORY, threads=threads)
    parts: dict[Kind, Path] = {}
    with tempfile.TemporaryDirectory(dir=work) as home:
        for step in registry.processor(registry.recipe(source)).steps(source.file_format):
            folder = Path(home, step.name)
            await asyncio.to_thread(folder.mkdir)
            given = StepInput(
                source, parts[step.needs] if step.needs else path, folder, lambda *_: None, 1 << 40
            )
            output = await step.run(given)
            parts.update({made.kind: made.path for made in output.files})
        return parts[Kind.DATA].stat().st_size


def compare(case: Case, seed: Callable[[Case, Path], Cost], work: Path, rounds: int) -> dict[str, object]:
    pairs = [(seed(case, work), ours(case, work)) for _ in range(rounds)]
    base, own = kernel.median([pair[0] for pair in pairs]), kernel.median([pair[1] for pair in pairs])
    return {
        "case": case.name,
        "baseline": base.row(),
        "ours": own.row(),
        "wall_ratio": round(base.wall_s / own.wall_s, 2),
        "cpu_ratio": round(base.cpu_s / own.cpu_s, 2),
        "size_ratio": round(own.size / base.size, 3),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the records")
    parser.add_argument("--records", type=int, help=f"BED records, others in proportion (default {FULL})")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        file_format, path, work = given.one
        print(asyncio.run(one(file_format, Path(path), Path(work))))
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for case, seed in cases(folder, given.records or (SMALL if given.small else FULL)):
            rows.append(compare(case, seed, folder, given.rounds))
            if not given.json:
                print(kernel.line_of(rows[-1]), flush=True)
    if given.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
