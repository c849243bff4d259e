"""Minutes of kills, pauses and cloud faults under load, and then the audit: `./dev faults`.

    ./dev faults [--minutes N] [--seed S] [--store postgresql|mongodb|sqlite] [--keep FOLDER]

Real processes: API processes that are started again when they end, the store's server, workers that the local
cloud starts, clients. The seed decides what goes wrong when and what the sources hold; which of the live
processes it befalls depends on the machine's pace too. The last line is JSON; exit status 1 when anything was
lost, duplicated, corrupt or orphaned, or a client got an answer that it should not; also when a run of five
minutes or more had fewer than 200 jobs or 60 kills, which proves too little.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.campaign import audit, old_jobs, stored
from tests.faults.campaign.deployment import (
    Deployment,
    deployed,
    pause_processes,
    signal_process,
    store_processes,
)
from tests.faults.campaign.limit_watch import LimitWatch
from tests.faults.campaign.requesters import Requesters
from tests.faults.campaign.schedule import Action, Trouble, schedule
from tests.faults.campaign.sources import SourceServer
from tests.faults.campaign.threads import thread_of

from gooseherd.devcloud.faults import Kind
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.reservation import Purpose
from gooseherd.domain.states import TERMINAL

API_PROCESSES: Final = 3
SETTLE_SECONDS: Final = 300.0
ENOUGH_MINUTES: Final = 5.0
ENOUGH_JOBS: Final = 200
ENOUGH_KILLS: Final = 60
"""What a run of so many minutes has at least, or it proves nothing."""
OLD_JOBS: Final = 20
"""That ended long before; retention forgets them meanwhile."""


@dataclass
class Report:
    """What a campaign found; `findings` by kind."""

    seed: int
    minutes: float
    jobs: int = 0
    files: int = 0
    batches: int = 0
    repeated: int = 0
    """Batches that were asked for again under their Idempotency-Key."""
    sessions: int = 0
    session_attempts: int = 0
    waits: dict[str, float] = field(default_factory=dict)
    """Seconds from the first request to the first start, half and 95% of the jobs, by priority."""
    reservations: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Nothing was found."""
        return not any(self.findings.values())

    @property
    def kills(self) -> int:
        """Processes that were killed."""
        return sum(times for action, times in self.done.items() if Action(action).kills)

    @property
    def too_little(self) -> str | None:
        """Why so long a run proves nothing; None: it does, or is one of a short time."""
        if self.minutes < ENOUGH_MINUTES or (self.jobs >= ENOUGH_JOBS and self.kills >= ENOUGH_KILLS):
            return None
        return (
            f"{self.jobs} jobs and {self.kills} kills in {self.minutes:g} minutes: at least {ENOUGH_JOBS} and"
            f" {ENOUGH_KILLS} are needed"
        )

    def as_json(self) -> dict[str, Any]:
        kinds = ("lost", "duplicated", "corrupt", "orphaned", "misattributed", "unexpected")
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "jobs": self.jobs,
            "kills": self.kills,
            "pauses": sum(times for action, times in self.done.items() if Action(action).pauses),
            **{kind: len(self.findings.get(kind, ())) for kind in kinds},
            "files": self.files,
            "batches": self.batches,
            "repeated": self.repeated,
            "sessions": self.sessions,
            "session_attempts": self.session_attempts,
            "reservations": dict(sorted(self.reservations.items())),
            "waits": self.waits,
            "done": dict(sorted(self.done.items())),
            "ends": dict(sorted(self.ends.items())),
            "answers": dict(sorted(self.answers.items())),
            "refusals": dict(sorted(self.refusals.items())),
        }


class _Troublemaker:
    """Does what the schedule says; what takes a while happens beside."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.done: Counter[str] = Counter()
        self.broken: list[str] = []
        self._beside: list[threading.Thread] = []

    def play(self, troubles: list[Trouble]) -> None:
        begun = time.monotonic()
        for trouble in troubles:
            time.sleep(max(0.0, begun + trouble.at - time.monotonic()))
            with suppress(GooseherdError):  # The task has ended, or the cloud is slow to answer.
                if self._do(trouble):
                    self.done[trouble.action.value] += 1
        for thread in self._beside:
            thread.join()
        with suppress(GooseherdError):
            self._deployment.cloud.clear()

    def _later(self, work: Any, *arguments: Any) -> bool:
        thread = thread_of(self.broken, "a pause", work, *arguments)
        thread.start()
        self._beside.append(thread)
        return True

    def _do(self, trouble: Trouble) -> bool:
        """Whether it befell anybody."""
        deployment, cloud = self._deployment, self._deployment.cloud
        api = deployment.api[int(trouble.which * len(deployment.api))]
        match trouble.action:
            case Action.KILL_WORKER | Action.RECLAIM_WORKER:
                tasks = sorted(deployment.running_tasks())
                if not tasks:
                    return False
                task = tasks[int(trouble.which * len(tasks))]
                cloud.kill(task) if trouble.action is Action.KILL_WORKER else cloud.reclaim(task)
            case Action.KILL_ATTEMPT:
                below = deployment.below_workers()
                return bool(below) and signal_process(below[int(trouble.which * len(below))], signal.SIGKILL)
            case Action.PAUSE_WORKER:
                tasks = sorted(deployment.running_tasks())
                if not tasks:
                    return False
                of_one = deployment.worker_processes(tasks[int(trouble.which * len(tasks))])
                return bool(of_one) and self._later(pause_processes, of_one, trouble.seconds)
            case Action.KILL_API:
                return api.kill()
            case Action.RESTART_API:
                return api.restart()
            case Action.PAUSE_API:
                return api.url is not None and self._later(api.pause, trouble.seconds)
            case Action.KILL_STORE | Action.PAUSE_STORE:
                return self._trouble_store(trouble)
            case Action.NO_CAPACITY:
                cloud.refuse_capacity(trouble.times, as_error=trouble.which < 0.5)
            case Action.THROTTLE_FLEET:
                cloud.throttle("RunTask", "DescribeTasks", "ListTasks", times=trouble.times)
            case Action.FAIL_FLEET:
                cloud.fail("ListTasks", "DescribeTasks", "StopTask", times=trouble.times)
            case Action.HIDE_FLEET:
                cloud.hide_fleet(trouble.seconds)
            case Action.TASK_DIES:
                cloud.spoil_tasks(Kind.DIES, exit_code=137)
            case Action.TASK_STARTS_LATE:
                cloud.spoil_tasks(Kind.SLOW_START, seconds=trouble.seconds)
            case Action.TASK_NEVER_HEALTHY:
                cloud.spoil_tasks(Kind.NEVER_HEALTHY)
            case Action.STORAGE_FAILS:
                cloud.spoil_storage(Kind.ERROR, "PutObject", "HeadObject", times=trouble.times)
            case Action.STORAGE_BREAKS_OFF:
                operation = "GetObject" if trouble.which < 0.5 else "PutObject"
                cloud.spoil_storage(Kind.RESET, operation, times=trouble.times)
            case Action.STORAGE_SLOW:
                cloud.spoil_storage(Kind.LATENCY, share=0.3, times=20, seconds=trouble.seconds)
            case Action.CLEAR:
                cloud.clear()
        return True

    def _trouble_store(self, trouble: Trouble) -> bool:
        store = self._deployment.store
        if store is None or store.pid is None:
            return False
        if trouble.action is Action.PAUSE_STORE:
            return self._later(pause_processes, store_processes(store), trouble.seconds)
        # In turn with everything else: nobody else kills it while it starts.
        store.kill()
        time.sleep(trouble.seconds)
        store.start()
        return True


def _progress(words: str) -> None:
    print(f"faults: {words}", file=sys.stderr, flush=True)


def campaign(folder: Path, *, seed: int, minutes: float, store: str = "postgresql") -> Report:
    """All of it, in a folder that is there."""
    report = Report(seed, minutes)
    troubles = list(schedule(seed, minutes))
    with SourceServer(seed) as sources, deployed(folder, store=store, processes=API_PROCESSES) as deployment:
        requesters = Requesters(deployment, sources, seed)
        _wait_for_all(deployment)
        old_jobs.plant(deployment.database_url, OLD_JOBS)
        _progress(f"seed {seed}, {minutes:g} minutes, {len(troubles)} troubles")
        troublemaker = _Troublemaker(deployment)
        requesters.start()
        try:
            with LimitWatch(deployment.database_url) as watched:
                troublemaker.play(troubles)
        finally:
            requesters.stop()
        report.done = troublemaker.done
        _progress("no more trouble; waiting for every job to end")
        sources.in_a_hurry = True
        url = _wait_for_all(deployment)
        _wait_for_ends(deployment)
        during = stored.jobs(deployment.database_url)
        others = requesters.others
        promised = [batch for batch in others.batches.values() if batch is not None]
        lost = audit.lost_of_batches(deployment.database_url, promised)
        report.ends = Counter(
            f"{row['status']}: {row['reason']}" if row["status"] != "completed" else "completed"
            for row in during
        )
        _progress("asking for every file once more")
        lost += audit.every_file_can_be_had(requesters, url)
        served = audit.bytes_served(requesters, url)
        _progress("no more idle workers are kept ready")
        deployment.end_floor()
        _wait(lambda: not audit.live(deployment.database_url, Purpose.FLOOR))
        _wait_for_all(deployment)
        orphaned = audit.left_reserved(deployment.database_url)
        # The process whose turn it was may have been killed, and on a busy machine a turn is long.
        _wait(lambda: not old_jobs.kept(row["id"] for row in stored.jobs(deployment.database_url)))
        _progress("the API processes leave")
        deployment.close_api()
        rows = stored.jobs(deployment.database_url)
        orphaned += old_jobs.kept(row["id"] for row in rows)
        reservations = stored.reservations(deployment.database_url)
        twice = audit.repeated_batches(deployment.database_url, others.batches)
        orphaned += [
            *audit.left_running(deployment),
            *audit.left_in_store(rows),
            *audit.left_in_bucket(deployment.environment),
            *audit.left_in_folders(folder),
        ]
        _progress("making the same files in peace")
        clean = audit.clean_run(folder / "clean", list(requesters.entries.values()))
    report.jobs, report.files = len(during), len(requesters.entries)
    report.answers = requesters.answers + requesters.answers_to_calls
    report.refusals = requesters.refusals
    report.batches, report.repeated, report.sessions = len(others.batches), others.repeated, others.sessions
    report.session_attempts = audit.attempts_in_sessions(rows)
    report.waits = audit.waits(during)
    report.reservations = Counter(f"{one.purpose}: {one.reason or one.state}" for one in reservations)
    report.findings = {
        "lost": [
            *lost,
            *audit.lost(rows, requesters.jobs),
            *audit.cancelled_for_nobody(rows, requesters.wanted, requesters.cancelled),
        ],
        "duplicated": [*audit.duplicated(rows), *audit.two_in_a_session(rows), *twice],
        "corrupt": requesters.wrong_bytes + audit.corrupt(served, clean),
        "orphaned": orphaned,
        "misattributed": audit.misattributed(rows),
        "unexpected": [
            *requesters.unexpected,
            *watched.findings,
            *troublemaker.broken,
            *audit.wrong_reservations(reservations, others.reasons),
        ],
    }
    return report


def _wait_for_all(deployment: Deployment) -> str:
    """Until every API process answers; the URL of one."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        urls = deployment.urls()
        if len(urls) == len(deployment.api):
            return urls[0]
        time.sleep(0.2)
    raise TimeoutError("the API processes do not come up")


def _wait_for_ends(deployment: Deployment) -> None:
    url = deployment.database_url

    def all_ended() -> bool:
        jobs_ended = all(row["status"] in TERMINAL for row in stored.jobs(url))
        return jobs_ended and not audit.open_batches(url) and not audit.live(url, Purpose.SESSION)

    if not _wait(all_ended):
        _progress("not every job, batch and session has ended")


def _wait(holds: Callable[[], bool]) -> bool:
    """False: it did not within the time that everything has to settle."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return held


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="default: any; it is printed")
    parser.add_argument("--store", choices=("postgresql", "mongodb", "sqlite"), default="postgresql")
    parser.add_argument("--keep", type=Path, help="an empty folder for logs and data, which stays")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    folder = given.keep or Path(tempfile.mkdtemp(prefix="gooseherd-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    # That the store is away is no news here.
    logging.getLogger("gooseherd.store").setLevel(logging.ERROR)
    try:
        report = campaign(folder.resolve(), seed=seed, minutes=given.minutes, store=given.store)
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    for kind, findings in report.findings.items():
        for finding in findings:
            _progress(f"{kind}: {finding}")
    if report.too_little is not None:
        _progress(report.too_little)
    print(json.dumps(report.as_json()))
    return 0 if report.sound and report.too_little is None else 1


if __name__ == "__main__":
    sys.exit(main())
