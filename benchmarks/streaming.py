"""Stream in, stream out, against fetch, then run, then publish: the same attempt, the same slow source.

    python benchmarks/streaming.py [--rounds N] [--small] [--json] [--rate MB/s] [--upload MB/s] [--only CASE]

One attempt at a time, as a worker runs it: the source comes over HTTP on loopback at `--rate`, artifacts go
to a local cache that takes `--upload` at most, as a network would. `apart` is the same with a step that waits
for the whole source and announces nothing. Runs are interleaved, figures are medians. `download_s` is what
the source takes at that rate with no work at all; `rest_s` is what each way needs beyond it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from _files import bed, sorted_text, write, write_bam
from _report import reporting

from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, EventKind
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import CacheKey, Recipe
from gooseherd.domain.ports.cache import Body
from gooseherd.domain.processing import HERE, Processor, Step, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.sources.http import HttpSources
from gooseherd.sources.urlguard import UrlGuard
from gooseherd.storage.local import LocalFsCache
from gooseherd.trial.digest import md5_of
from gooseherd.worker.engine import run_attempt

MIB = 1 << 20
_STEP = 256 << 10


@dataclass(frozen=True)
class Case:
    name: str
    format: str
    path: Path


def cases(folder: Path, share: float) -> list[Case]:
    reads, records = int(2_500_000 * share), int(4_000_000 * share)
    chance = random.Random(1)
    return [
        Case("bam_unsorted", "bam", write_bam(folder / f"{reads}.bam", reads, ordered=False)),
        Case("bam_sorted", "bam", write_bam(folder / f"{reads}-sorted.bam", reads, ordered=True)),
        Case("bed_unsorted", "bed", write(folder / f"{records}.bed", bed(records, chance), "plain")),
        Case(
            "bed_sorted_gzip",
            "bed",
            write(folder / f"{records}-sorted.bed.gz", sorted_text(bed)(records, chance), "gzip"),
        ),
    ]


# -- the way it was ------------------------------------------------------------------------


class Apart:
    """A registry whose steps wait for the whole source and announce nothing."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def processor(self, recipe: Recipe) -> Any:
        return _ProcessorApart(self._registry.processor(recipe))


class _ProcessorApart:
    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def steps(self, source_format: Any) -> tuple[Any, ...]:
        return tuple(map(_StepApart, self._processor.steps(source_format)))


class _StepApart:
    def __init__(self, step: Step) -> None:
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    async def run(self, given: StepInput) -> StepOutput:
        await given.arriving.whole()
        return await self._step.run(replace(given, arriving=HERE, announce=lambda _: None))


# -- a slow network ------------------------------------------------------------------------


class Pace:
    """Lets through so many bytes a second, and makes up for what was missed in the last tenth of one."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = time.monotonic()

    async def wait(self, size: int) -> None:
        self._due = max(self._due, time.monotonic() - 0.1) + size / self._rate
        if (ahead := self._due - time.monotonic()) > 0:
            await asyncio.sleep(ahead)


class SlowCache(LocalFsCache):
    """Takes `rate` bytes a second, of all that is stored at once together."""

    def __init__(self, root: Path, rate: float) -> None:
        super().__init__(root)
        self._pace = Pace(rate)

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        return await super().put_if_absent(key, body if isinstance(body, bytes) else self._slowed(body))

    async def _slowed(self, body: Path | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in _chunks(body) if isinstance(body, Path) else body:
            await self._pace.wait(len(chunk))
            yield chunk


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, MIB):
            yield chunk


async def serve(path: Path, rate: float) -> None:
    """Answer every request with the file, at that rate; the port is printed."""
    size = (await asyncio.to_thread(path.stat)).st_size

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        pace = Pace(rate)
        writer.write(f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {size}\r\n\r\n'.encode())
        with path.open("rb") as file:
            while data := file.read(_STEP):
                await pace.wait(len(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


# -- measuring -----------------------------------------------------------------------------


async def attempt(case: Case, port: int, folder: Path, upload: float, *, together: bool) -> dict[str, float]:
    """Seconds from the order to the manifest, and what was seen on the way."""
    registry: Any = default_registry(sort_memory=512 * MIB, samtools_memory=1024 * MIB, threads=2)
    source = SourceFile.from_json(
        {
            "dcc": "bench",
            "local_id": case.name,
            "filename": case.path.name,
            "access_url": f"http://127.0.0.1:{port}/{case.path.name}",
            "file_format": case.format,
            "md5": md5_of(case.path),
            "size_in_bytes": case.path.stat().st_size,
        }
    )
    spec = AttemptSpec(
        AttemptId(JobId("bench"), 1),
        source,
        registry.recipe(source),
        AttemptLimits(1 << 40, 1 << 40, 1e6),
        "b",
    )
    work = folder / "work"
    work.mkdir()
    kinds: list[EventKind] = []

    def emit(kind: EventKind, **fields: Any) -> None:
        kinds.append(kind)

    guard = UrlGuard(schemes=frozenset({"http"}), allow_networks=(ip_network("127.0.0.1/32"),))
    sources, cache = HttpSources(guard), SlowCache(folder / "cache", upload)
    began, cpu = time.perf_counter(), _cpu()
    await run_attempt(
        spec,
        cache=cache,
        sources=sources,
        registry=registry if together else Apart(registry),
        work=work,
        emit=emit,
    )
    wall = time.perf_counter() - began
    assert kinds[-1] is EventKind.DONE, "the attempt failed"
    await sources.close()
    await cache.close()
    return {"wall_s": wall, "cpu_s": _cpu() - cpu}


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measure(case: Case, folder: Path, rounds: int, rate: float, upload: float) -> dict[str, Any]:
    taken: dict[str, list[dict[str, float]]] = defaultdict(list)
    argv = [sys.executable, __file__, "--serve", str(case.path), "--rate", str(rate / 1e6)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for _ in range(rounds):
                for way in ("apart", "together"):
                    place = Path(tempfile.mkdtemp(dir=folder))
                    taken[way].append(
                        asyncio.run(attempt(case, port, place, upload, together=way == "together"))
                    )
                    shutil.rmtree(place)
        finally:
            server.terminate()
    download = case.path.stat().st_size / rate
    row: dict[str, Any] = {
        "case": case.name,
        "source_mb": round(case.path.stat().st_size / 1e6, 1),
        "download_s": round(download, 2),
    }
    for way, runs in taken.items():
        wall = statistics.median(run["wall_s"] for run in runs)
        cpu = statistics.median(run["cpu_s"] for run in runs)
        row[way] = {"wall_s": round(wall, 2), "rest_s": round(wall - download, 2), "cpu_s": round(cpu, 2)}
    row["wall_ratio"] = round(row["apart"]["wall_s"] / row["together"]["wall_s"], 2)
    return row


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tenth of the data")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rate", type=float, default=40.0, help="of the source, MB/s (default: %(default)s)")
    parser.add_argument(
        "--upload", type=float, default=80.0, help="to the cache, MB/s (default: %(default)s)"
    )
    parser.add_argument("--only", default="", help="cases, with commas between them")
    parser.add_argument("--folder", type=Path, help="keeps the sources that were made")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve(asked.serve, asked.rate * 1e6))
        return 0
    load = os.getloadavg()[0]
    about = {"rounds": asked.rounds, "load": load, "rate_mb_s": asked.rate, "upload_mb_s": asked.upload}
    rows: list[dict[str, Any]] = []
    with (
        reporting(lambda: {**about, "rows": rows}, indent=2) as print_whole,
        tempfile.TemporaryDirectory(prefix="gooseherd-streaming-") as name,
    ):
        made = asked.folder or Path(name)
        made.mkdir(parents=True, exist_ok=True)
        wanted = [
            case
            for case in cases(made, 0.1 if asked.small else 1.0)
            if not asked.only or case.name in asked.only.split(",")
        ]
        for case in wanted:
            row = measure(case, Path(name), asked.rounds, asked.rate * 1e6, asked.upload * 1e6)
            rows.append(row)  # looked at while it grows
        if asked.json:
            print_whole()
    if not asked.json:
        print(f"{'case':18}{'MB':>8}{'download':>10}{'apart':>9}{'together':>10}{'ratio':>8}")
        for row in rows:
            print(
                f"{row['case']:18}{row['source_mb']:8.1f}{row['download_s']:10.2f}"
                f"{row['apart']['wall_s']:9.2f}{row['together']['wall_s']:10.2f}{row['wall_ratio']:8.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
