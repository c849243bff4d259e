"""All control loops on a virtual clock, with everything failing at random: `./dev simulate`.

    ./dev simulate [--seed N] [--schedules M] [--processes P] [--show]
    ./dev simulate --day [--seed N] [--files 10000] [--hours 24] [--floor 0,1,3]

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

from tests.simulation.day import simulate_day
from tests.simulation.schedules import Outcome, Schedules

_CHUNK = 20


def outcomes(seeds: Sequence[int], processes: int) -> Iterator[Outcome]:
    """Of those schedules, as they are done."""
    logging.disable(logging.CRITICAL)  # Trouble is what they are about.
    if processes == 1:
        with Schedules() as schedules:
            for seed in seeds:
                yield schedules.run(seed)
        return
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for some in pool.imap_unordered(_run, chunks):
            yield from some


def _run(seeds: Sequence[int]) -> list[Outcome]:
    logging.disable(logging.CRITICAL)
    with Schedules() as schedules:
        return [schedules.run(seed) for seed in seeds]


def days(seed: int, files: int, hours: float, floors: Sequence[int]) -> int:
    """A line of JSON for each; 1 when a day left something undone."""
    reports = [simulate_day(seed, files, floor, hours) for floor in floors]
    for report in reports:
        print(json.dumps(report.as_json()))
    return int(any(report.unfinished for report in reports))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=None, help="the first one; default: any; it is printed")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", action="store_true", help="print what happens")
    parser.add_argument("--day", action="store_true", help="no trouble, but a bursty day: cost and waits")
    parser.add_argument("--files", type=int, default=10_000, help="of that day")
    parser.add_argument("--hours", type=float, default=24.0, help="of that day, the busiest ones")
    parser.add_argument("--floor", default="0,1,3", help="warm floors, one day each")
    given = parser.parse_args()
    if given.day:
        return days(given.seed or 1, given.files, given.hours, list(map(int, given.floor.split(","))))
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
