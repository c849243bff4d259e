"""What the fleet adds to the work: how soon a ready worker works, how soon what it stored is a completed job.

    python benchmarks/fleet.py [--small] [--json] [--warm N] [--cold N] [--idle SECONDS]

The real service on a local cloud: RunTask starts a process per task, Wool speaks mutual TLS, artifacts go to
S3. One job at a time, each with a source of its own. A cold job launches its worker, a warm one finds one; on
the floor it takes the one that ECS_WARM_WORKERS keeps ready: a cold file with and without.
Everything runs on one machine, hence by one clock; figures are milliseconds. Where they come from:

    get_to_202     the client's clock around a GET that makes a new job
    ready_to_step  to the attempt's first `step` event (its journal); from the worker's log line `worker is
                   ready` when cold, from the 202 when warm: that worker was ready before there was a job
    published_to_completed
                   from the attempt's last `step_complete` event (parts and receipt are stored, the manifest
                   is not) to the job's `finished_at` by the store's clock
    get_to_200     the client's clock, from its GET to the end of a second one that waits for the bytes

Calls of the control plane at 1 worker are counted by the local cloud. 100 and 1,000 are simulated: real
discovery, made-up answers of ECS, made-up time; when `starting` all of them are, one changes each second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from _report import reporting
from _simulated_ecs import calls_a_minute

from gooseherd.client.local_service import LocalService
from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.domain.attempt import Event, EventKind
from gooseherd.domain.formats import BED
from gooseherd.trial import inputs
from gooseherd.trial.cloud import running_local_cloud, serving
from gooseherd.trial.digest import md5_of
from gooseherd.trial.private_service import running_service
from gooseherd.worker.journal import JournalReader

COLD_IDLE_SECONDS = 2.0
"""Idle timeout of cold jobs' workers: none is reused."""
AIMS_MS = {"ready_to_step": 50.0, "published_to_completed": 50.0}


@dataclass(frozen=True)
class Timeline:
    """One job; Unix seconds."""

    asked: float
    accepted: float
    leased: float
    ready: float | None
    """When its worker said that it is; None: it was there before."""
    process: float
    """The attempt's process said its first word."""
    step: float
    published: float
    done: float
    """The attempt's last word."""
    completed: float
    answered: float

    def figures(self) -> dict[str, float]:
        begin = self.accepted if self.ready is None else self.ready
        spans = {
            "get_to_202": self.accepted - self.asked,
            "ready_to_step": self.step - begin,
            "published_to_completed": self.completed - self.published,
            "get_to_200": self.answered - self.asked,
            "part.accepted_to_leased": self.leased - self.accepted,
            "part.leased_to_process": self.process - self.leased,
            "part.process_to_step": self.step - self.process,
            "part.step_to_published": self.published - self.step,
            "part.published_to_done": self.done - self.published,
            "part.done_to_completed": self.completed - self.done,
            "part.completed_to_200": self.answered - self.completed,
        }
        if self.ready is not None:
            spans |= {
                "part.leased_to_ready": self.ready - self.leased,
                "part.ready_to_process": self.process - self.ready,
            }
        return {name: seconds * 1000 for name, seconds in spans.items()}


class Trial:
    """A service on the local cloud, and the files to ask it for."""

    def __init__(self, service: LocalService, site: Path, folder: Path, base: str) -> None:
        self._site = site / "devcloud"
        self._folder = folder
        self._base = base
        self._http = httpx.Client(
            base_url=service.url, headers={"X-API-Key": service.admin_key or ""}, timeout=130, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def await_floor(self) -> None:
        """Return when a worker of the floor is ready."""
        wanted = 'gooseherd_reservations{purpose="floor",state="ready"} 1.0'
        deadline = time.monotonic() + 60
        while wanted not in self._http.get("/metrics").text:
            assert time.monotonic() < deadline, "no worker of the floor becomes ready"
            time.sleep(0.1)

    def job(self, name: str, *, cold: bool) -> Timeline:
        """Register a new file, ask for it, wait for its bytes."""
        path = inputs.make(BED, self._folder, name).path
        entry = {
            "dcc": "bench",
            "local_id": name,
            "filename": path.name,
            "file_format": BED.name,
            "access_url": f"{self._base}/{path.name}",
            "md5": md5_of(path),
            "size_in_bytes": path.stat().st_size,
        }
        self._http.post("/files", json=entry).raise_for_status()
        url = f"/data/bench/{name}"
        asked = time.time()
        first = self._http.get(url)
        accepted = time.time()
        assert first.status_code == 202, first.text
        last = self._http.get(url, params={"wait": 50})
        answered = time.time()
        assert last.status_code == 200, last.text
        job = self._http.get(first.headers["location"]).raise_for_status().json()
        attempt = job["attempts"][-1]
        assert len(job["attempts"]) == 1, job["attempts"]
        events, log = self._reported(job["job_id"], attempt["number"])
        steps = [event.at for event in events if event.kind is EventKind.STEP]
        published = [event.at for event in events if event.kind is EventKind.STEP_COMPLETE]
        return Timeline(
            asked=asked,
            accepted=accepted,
            leased=_seconds(attempt["started_at"]),
            ready=_ready(log) if cold else None,
            process=events[0].at,
            step=steps[0],
            published=published[-1],
            done=events[-1].at,
            completed=_seconds(job["finished_at"]),
            answered=answered,
        )

    def _reported(self, job_id: str, number: int) -> tuple[list[Event], str]:
        """The attempt's journal, still in its worker's folder, and the log of that worker."""
        (path,) = self._site.glob(f"tasks/*/*/{job_id}.{number}/journal")
        task = path.relative_to(self._site).parts[1]
        with JournalReader(path) as reader:
            return reader.read(), (self._site / "logs" / f"{task}.log").read_text()


def _ready(log: str) -> float:
    line = next(line for line in log.splitlines() if "worker is ready" in line)
    return _seconds(line.split()[0])


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


@contextlib.contextmanager
def trial(folder: Path, idle_seconds: float, floor: int = 0) -> Iterator[tuple[Trial, LocalCloudAdmin]]:
    for name in ("inputs", "site"):
        (folder / name).mkdir(parents=True)
    with serving(folder / "inputs") as base, running_local_cloud(folder / "site") as cloud:
        environ = {
            **os.environ,
            **cloud,
            "SOURCE_ALLOW_HTTP": "true",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
            "WORKER_IDLE_TIMEOUT_SECONDS": str(idle_seconds),
            "ECS_WARM_WORKERS": str(floor),
        }
        with (
            running_service(state_dir=folder / "state", allow_roots=(), environ=environ) as service,
            LocalCloudAdmin.of(cloud) as cloud_admin,
        ):
            made = Trial(service, folder / "site", folder / "inputs", base)
            try:
                yield made, cloud_admin
            finally:
                made.close()


def cold(folder: Path, jobs: int) -> list[Timeline]:
    with trial(folder, COLD_IDLE_SECONDS) as (it, _):
        found = []
        for n in range(jobs):
            found.append(it.job(f"cold{n}", cold=True))
            time.sleep(COLD_IDLE_SECONDS)  # Until the worker is not handed out again.
        return found


def on_the_floor(folder: Path, jobs: int) -> list[Timeline]:
    """As cold ones, but a worker is kept ready; each job takes it, and the next waits for another."""
    with trial(folder, COLD_IDLE_SECONDS, floor=1) as (it, _):
        found = []
        for n in range(jobs):
            it.await_floor()
            found.append(it.job(f"floor{n}", cold=False))
            time.sleep(2 * COLD_IDLE_SECONDS)
        return found


def warm(folder: Path, jobs: int, idle_seconds: float) -> tuple[list[Timeline], dict[str, Any]]:
    """Jobs on a worker that is idle, then the calls that this worker costs while it stays idle."""
    with trial(folder, 3600.0) as (it, cloud_admin):
        it.job("first", cold=True)
        found = [it.job(f"warm{n}", cold=False) for n in range(jobs)]
        assert len(cloud_admin.tasks()) == 1, "a second worker was launched"
        time.sleep(15)  # Young workers are looked at more often.
        cloud_admin.forget_calls()
        time.sleep(idle_seconds)
        calls = cloud_admin.calls()
        counted = {
            name.removeprefix("ecs:"): round(counts["total"] * 60 / calls["seconds"], 1)
            for name, counts in calls["operations"].items()
            if name.startswith("ecs:")
        }
        return found, {"how": f"local cloud, {calls['seconds']:.0f} s", "idle": counted}


def summary(timelines: Sequence[Timeline]) -> dict[str, Any]:
    figures = [timeline.figures() for timeline in timelines]
    return {
        "jobs": len(figures),
        **{name: _percentiles([figure[name] for figure in figures]) for name in figures[0]},
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "p50": round(statistics.median(ordered), 1),
        "p99": round(p99, 1),
        "max": round(ordered[-1], 1),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="a quick look")
    parser.add_argument("--warm", type=int, help="warm jobs; default 200, small 10")
    parser.add_argument("--cold", type=int, help="cold jobs; default 20, small 2")
    parser.add_argument("--idle", type=float, help="seconds of counting calls; default 60, small 5")
    given = parser.parse_args(argv)
    jobs = given.warm or (10 if given.small else 200), given.cold or (2 if given.small else 20)
    load = os.getloadavg()[0]
    ms: dict[str, Any] = {}
    calls: dict[str, Mapping[str, Any]] = {}
    machine = {"cores": os.cpu_count(), "load_before": round(load, 2)}
    report = {"ms": ms, "aims_ms": AIMS_MS, "calls_per_minute": calls, "machine": machine}
    with reporting(lambda: report) as print_whole:
        with tempfile.TemporaryDirectory(prefix="gooseherd-bench-") as scratch:
            idle_seconds = given.idle or (5 if given.small else 60)
            warm_ones, calls["1"] = warm(Path(scratch) / "warm", jobs[0], idle_seconds)
            ms["warm"] = summary(warm_ones)
            ms["cold"] = summary(cold(Path(scratch) / "cold", jobs[1]))
            ms["floor"] = summary(on_the_floor(Path(scratch) / "floor", jobs[1]))
        for count in (100, 1000):
            calls[str(count)] = simulated(count)
        if given.json:
            print_whole()
    if not given.json:
        print(table(report))
    return 0


def simulated(count: int) -> Mapping[str, Any]:
    return {
        "how": "simulated",
        "idle": calls_a_minute(count, starting=False),
        "starting": calls_a_minute(count, starting=True),
    }


def table(report: Mapping[str, Any]) -> str:
    warm_ones, cold_ones, floor_ones = (report["ms"][kind] for kind in ("warm", "cold", "floor"))
    lines = [f"{'ms':34}{'warm p50':>10}{'p99':>8}{'cold p50':>10}{'p99':>8}{'floor p50':>10}{'p99':>8}"]
    for name in cold_ones:
        if name == "jobs":
            continue
        shown = [warm_ones.get(name), cold_ones[name], floor_ones.get(name)]
        cells = [f"{one['p50']:>10}{one['p99']:>8}" if one else f"{'-':>10}{'-':>8}" for one in shown]
        lines.append(f"{name:34}{''.join(cells)}")
    lines.append(
        f"{warm_ones['jobs']} warm and {cold_ones['jobs']} cold jobs, as many on the floor; "
        f"{report['machine']}"
    )
    for count, calls in report["calls_per_minute"].items():
        lines.append(f"calls a minute at {count} workers: {calls}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
