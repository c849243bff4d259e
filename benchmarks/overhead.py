"""What the service adds to the tools: GET to 200 through everything, against the same steps run bare.

    python benchmarks/overhead.py [--rounds N] [--json]

One service on this machine with one warm worker; each round makes a new file of each format (some 400
records, so that the tools themselves take little), registers it, and times one GET that waits for its bytes.
Beside it, in the same round, the processor's steps run on the same file in this process: `bare`. The
difference is queue, lease, order to the worker, start of the attempt, copy of the source, digests,
publication, verification of the manifest and the job's end. Medians, milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from _report import reporting

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import Format
from gooseherd.domain.processing import StepInput
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.trial import inputs
from gooseherd.trial.digest import md5_of
from gooseherd.trial.private_service import running_service

AIM_MS = 300.0
MIB = 1 << 20


def bare(path: Path, file_format: Format, folder: Path) -> float:
    """Seconds for the processor's steps alone."""
    registry = default_registry(sort_memory=256 * MIB, samtools_memory=256 * MIB, threads=2, density=True)
    source = SourceFile(
        dcc=Dcc("bench"),
        local_id=LocalId(path.name),
        filename=path.name,
        file_format=file_format,
        access_url=path.as_uri(),
    )
    processor = registry.processor(registry.recipe(source))

    async def steps() -> None:
        made: dict[Kind | None, Path] = {None: path}
        for step in processor.steps(file_format):
            work = folder / f"{path.name}-{step.name}"
            work.mkdir()
            output = await step.run(
                StepInput(source, made[step.needs], work, lambda *_: None, scratch_bytes=1 << 30)
            )
            made |= {produced.kind: produced.path for produced in output.files}

    began = time.perf_counter()
    asyncio.run(steps())
    return time.perf_counter() - began


def through(http: httpx.Client, path: Path, file_format: Format) -> float:
    """Seconds from the GET to the first byte of a 200."""
    entry = {
        "dcc": "bench",
        "local_id": path.name,
        "filename": path.name,
        "file_format": file_format.name,
        "access_url": path.as_uri(),
        "md5": md5_of(path),
        "size_in_bytes": path.stat().st_size,
    }
    http.post("/files", json=entry).raise_for_status()
    began = time.perf_counter()
    answer = http.get(f"/data/bench/{path.name}", params={"wait": 60})
    spent = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    return spent


Taken = dict[str, dict[str, list[float]]]
"""Milliseconds of each round, by format and by what was measured."""


def measure(rounds: int, taken: Taken) -> None:
    """Add to `taken`, round after round."""
    with tempfile.TemporaryDirectory(prefix="gooseherd-overhead-") as name:
        folder = Path(name)
        given, scratch = folder / "given", folder / "scratch"
        given.mkdir()
        scratch.mkdir()
        environ = {**os.environ, "WORKER_MAX_LOCAL": "1", "WORKER_IDLE_TIMEOUT_SECONDS": "600"}
        with (
            running_service(state_dir=folder / "state", allow_roots=[given], environ=environ) as service,
            httpx.Client(
                base_url=service.url,
                headers={"X-API-Key": service.admin_key or ""},
                timeout=90,
                trust_env=False,
            ) as http,
        ):
            for number in range(rounds + 1):
                for file_format in inputs.FORMATS:
                    path = inputs.make(file_format, given, f"{number:04x}").path
                    spent = through(http, path, file_format), bare(path, file_format, scratch)
                    if number:  # The first round starts the worker and fills caches.
                        found = taken.setdefault(file_format.name, {"get_to_200": [], "bare": []})
                        for what, seconds in zip(("get_to_200", "bare"), spent, strict=True):
                            found[what].append(seconds * 1000)


def rows_of(taken: Taken) -> list[dict[str, Any]]:
    """A row a format."""
    return [_row(name, spent) for name, spent in taken.items() if spent["bare"]]


def _row(name: str, spent: dict[str, list[float]]) -> dict[str, Any]:
    added = [with_all - alone for with_all, alone in zip(spent["get_to_200"], spent["bare"], strict=False)]
    return {
        "format": name,
        "get_to_200_ms": round(statistics.median(spent["get_to_200"]), 1),
        "bare_ms": round(statistics.median(spent["bare"]), 1),
        "overhead_ms": round(statistics.median(added), 1),
        "ok": statistics.median(added) < AIM_MS,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="files of each format (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    taken: Taken = {}
    about = {"rounds": asked.rounds, "load": load, "aim_ms": AIM_MS}
    with reporting(lambda: {**about, "rows": rows_of(taken)}, indent=2) as print_whole:
        measure(asked.rounds, taken)
        if asked.json:
            print_whole()
    if not asked.json:
        print(f"{'format':12}{'GET to 200':>12}{'bare':>10}{'overhead':>10}  ms")
        for row in rows_of(taken):
            print(
                f"{row['format']:12}{row['get_to_200_ms']:12.1f}{row['bare_ms']:10.1f}{row['overhead_ms']:10.1f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
