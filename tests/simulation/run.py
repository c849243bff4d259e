"""All control loops on a virtual clock, with everything failing at random: `./dev simulate`.

    ./dev simulate [--seed N] [--schedules M] [--processes P] [--show]

The real control loops, SQL store and ECS fleet; ECS, workers and artifacts are simulated, and time passes at
once. Each seed is one schedule, the same each time: jobs come, processes are killed and stand still, workers
die, the store is away. What must hold is looked at after each write, and when everything has healed. Runs the
seeds N to N+M-1; prints those that break something, and a line of JSON at last. `--show` prints what happens.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.simulation.schedules import Outcome, Schedules

_CHUNK = 20


def outcomes(seeds: Sequence[int], processes: int) -> Iterator[Outcome]:
    """Of those schedules, as they are done."""
    logging.disable(logging.CRITICAL)  # Trouble is what they are about.
    if processes == 1:
        yield from _run(seeds)
        return
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for some in pool.imap_unordered(_run, chunks):
            yield from some


def _run(seeds: Sequence[int]) -> list[Outcome]:
    logging.disable(logging.CRITICAL)
    schedules = Schedules()
    return [schedules.run(seed) for seed in seeds]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=None, help="the first one; default: any; it is printed")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", action="store_true", help="print what happens")
    given = parser.parse_args()
    first = random.randrange(1 << 31) if given.seed is None else given.seed
    begun = time.monotonic()
    broken: list[int] = []
    jobs: Counter[str] = Counter()
    trouble: Counter[str] = Counter()
    for outcome in outcomes(range(first, first + given.schedules), given.processes):
        jobs += outcome.jobs
        trouble += outcome.trouble
        if given.show:
            print("\n".join(outcome.trace))
        if outcome.violations:
            broken.append(outcome.seed)
            print(f"seed {outcome.seed}: {'; '.join(outcome.violations)}", flush=True)
    seconds = time.monotonic() - begun
    report = {
        "seed": first,
        "schedules": given.schedules,
        "broken": sorted(broken),
        "seconds": round(seconds, 1),
        "schedules_a_minute": round(60 * given.schedules / seconds),
        "jobs": dict(sorted(jobs.items())),
        "trouble": dict(sorted(trouble.items())),
    }
    print(json.dumps(report))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
