"""After the trouble: what was lost, made twice, spoilt or left behind. Every finding is a sentence."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import boto3
import httpx
from tests.faults.campaign import stored
from tests.faults.campaign.deployment import (
    ADMIN_KEY,
    IDLE_SECONDS,
    Deployment,
    is_of,
    own_environment,
    processes_of,
)
from tests.faults.campaign.requesters import PARTS, Requesters

from gooseherd.client import GooseherdClient, Kind, Missing
from gooseherd.devcloud.deployment import unfinished_uploads
from gooseherd.domain.artifact import Manifest
from gooseherd.domain.batch import ENDED, MemberState
from gooseherd.domain.failures import Reason
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import Purpose, Reservation, ReservationId
from gooseherd.domain.states import TERMINAL, Status
from gooseherd.trial.private_service import running_service

Row = Mapping[str, Any]

_CLEAN_SECONDS: Final = 3.0 * IDLE_SECONDS + 30
_CALLS: Final = 8


def open_batches(url: str) -> list[Row]:
    """Batches that have not ended."""
    return [row for row in stored.batches(url) if row["ended_at"] is None]


def live(url: str, purpose: Purpose) -> list[Reservation]:
    """Those that have not ended."""
    return [one for one in stored.reservations(url) if one.live and one.purpose is purpose]


def left_reserved(url: str) -> list[str]:
    """Sessions that nobody ended although they were idle for long enough, and slots of a floor of none."""
    return [
        f"{one.purpose} of {one.owner} is {one.state} for ever"
        for one in stored.reservations(url)
        if one.live
    ]


def wrong_reservations(reservations: Sequence[Reservation], seen_reasons: Mapping[str, str]) -> list[str]:
    """Those that ended without a reason, or for another one than a client was told first."""
    found = [
        f"{one.purpose} {one.reservation_id} ended without a reason"
        for one in reservations
        if not one.live and one.reason is None
    ]
    reasons = {one.reservation_id: one.reason for one in reservations}
    for session, reason in seen_reasons.items():
        kept = reasons.get(ReservationId(session))
        if kept != reason:
            found.append(f"session {session} ended as {reason}, and as {kept} in the store")
    return found


def two_in_a_session(rows: Sequence[Row]) -> list[str]:
    """Attempts of one session that overlap: its jobs run one at a time."""
    by_session: dict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for row in rows:
        for attempt in row["attempts"]:
            if session := (attempt.get("dispatched") or {}).get("session_id"):
                by_session[session].append((row, attempt))
    found = []
    for session, attempts in by_session.items():
        in_order = sorted(attempts, key=lambda pair: pair[1]["started_at"])
        found += [
            f"attempts of jobs {before['id']} and {after['id']} overlap in session {session}"
            for (before, earlier), (after, later) in pairwise(in_order)
            if not _in_turn(earlier["ended_at"], later["started_at"])
        ]
    return found


def repeated_batches(url: str, told: Mapping[str, str | None]) -> list[str]:
    """Idempotency-Keys with two batches, or with another one than a client was told of."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for row in stored.batches(url):
        if row["idempotency_key"] is not None:
            by_key[row["idempotency_key"]].append(row["id"])
    return wrong_batches(by_key, told)


def wrong_batches(by_key: Mapping[str, Sequence[str]], told: Mapping[str, str | None]) -> list[str]:
    """As `repeated_batches`, of the batches by key."""
    found = [f"{key} made {ids}" for key, ids in by_key.items() if len(ids) > 1]
    return found + [
        f"{key} was told to be {batch}, and {list(by_key.get(key, ()))} is in the store"
        for key, batch in told.items()
        if batch is not None and batch not in by_key.get(key, ())
    ]


_OF_THE_STORM: Final = frozenset(
    {
        Reason.WORKER_LOST,
        Reason.WORKER_DRAINED,
        Reason.TOOL_FAILED,
        Reason.STORE_UNAVAILABLE,
        Reason.SOURCE_UNAVAILABLE,
    }
)
"""How a job may end whose workers, tools and bucket are killed. All sources are sound and there is room, so
whatever else it ends with was not so."""


def misattributed(rows: Sequence[Row]) -> list[str]:
    """Jobs that are blamed for what befell their workers, and deaths that are explained by guessing."""
    found = [
        f"job {row['id']} of {row['local_id']} failed: {row['reason']}: {row['detail']}"
        for row in rows
        if row["status"] == Status.FAILED and row["reason"] not in _OF_THE_STORM
    ]
    return found + [
        f"attempt {attempt['number']} of job {row['id']}: {attempt['reason']}: {attempt['detail']}"
        for row in rows
        for attempt in row["attempts"]
        if attempt["reason"] == Reason.OUT_OF_MEMORY
    ]


def cancelled_for_nobody(
    rows: Sequence[Row], wanted: Mapping[str, Collection[str]], cancelled: Collection[str]
) -> list[str]:
    """Jobs that were cancelled although somebody had been promised them and never withdrew."""
    return [
        f"job {row['id']} was cancelled, and {sorted(wanted[row['id']])} waited for it"
        for row in rows
        if row["status"] == Status.CANCELLED and row["id"] not in cancelled and wanted.get(row["id"])
    ]


def lost_of_batches(url: str, promised: Collection[str]) -> list[str]:
    """Batches that a client was told of and that are not there, and files of batches without an end."""
    there = {row["id"] for row in stored.batches(url)}
    found = [f"batch {batch} is not in the store" for batch in promised if batch not in there]
    found += [f"batch {row['id']} has no end" for row in open_batches(url)]
    ended = {state.value for state in ENDED}
    for member in stored.batch_members(url):
        name = f"{member['local_id']} of batch {member['batch_id']}"
        if member["state"] not in ended:
            found.append(f"{name} is {member['state']} for ever")
        elif member["state"] != MemberState.READY and member["reason"] is None:
            found.append(f"{name} is {member['state']} without a reason")
    return found


def lost(rows: Sequence[Row], promised: Mapping[str, str]) -> list[str]:
    """Jobs that a client was told of and that are not there, that never ended, or ended without a reason."""
    there = {row["id"] for row in rows}
    found = [f"job {job} of {name} is not in the store" for job, name in promised.items() if job not in there]
    reasons = set(Reason)
    for row in rows:
        if row["status"] not in TERMINAL:
            found.append(f"job {row['id']} of {row['local_id']} is {row['status']} for ever")
        elif row["reason"] not in reasons:
            found.append(f"job {row['id']} is {row['status']} without a reason")
        for attempt in row["attempts"]:
            if row["status"] in TERMINAL and attempt["reason"] not in reasons:
                found.append(f"attempt {attempt['number']} of job {row['id']} ended without a reason")
    return found


def duplicated(rows: Sequence[Row]) -> list[str]:
    """Content that was made twice, and jobs or attempts of one content at the same time."""
    found = []
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[row["workflow_key"]].append(row)
        for before, after in _pairs(row["attempts"]):
            if after["number"] <= before["number"] or not _in_turn(before["ended_at"], after["started_at"]):
                found.append(f"attempts {before['number']} and {after['number']} of job {row['id']} overlap")
    for key, jobs in by_key.items():
        if sum(job["status"] == Status.COMPLETED for job in jobs) > 1:
            found.append(f"{key} was completed by {[job['id'] for job in jobs]}")
        found += [
            f"jobs {before['id']} and {after['id']} of {key} overlap"
            for before, after in _pairs(jobs)
            if not _in_turn(before["finished_at"], after["created_at"])
        ]
    return found


def attempts_in_sessions(rows: Sequence[Row]) -> int:
    """How many ran on the worker of a session."""
    return sum(
        bool((attempt.get("dispatched") or {}).get("session_id"))
        for row in rows
        for attempt in row["attempts"]
    )


def waits(rows: Sequence[Row]) -> dict[str, float]:
    """Seconds from the request to the first start, of half and of 95% of the jobs, by priority."""
    by_priority: dict[Priority, list[float]] = defaultdict(list)
    for row in rows:
        if row["started_at"] is not None:
            waited = (row["started_at"] - row["created_at"]).total_seconds()
            by_priority[Priority(row["priority"])].append(waited)
    return {
        f"{priority.label} {name}": round(sorted(waited)[int(share * (len(waited) - 1))], 1)
        for priority, waited in sorted(by_priority.items())
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def _pairs(items: Sequence[Row]) -> Iterable[tuple[Row, Row]]:
    return pairwise(items)


def _in_turn(ended: Any, began: Any) -> bool:
    return ended is not None and began is not None and ended <= began


def left_in_store(rows: Sequence[Row]) -> list[str]:
    """Leases and slots that ended jobs still have."""
    return [
        f"job {row['id']} is {row['status']} and has still {name} {row[name]}"
        for row in rows
        for name in ("lease_owner", "running_slot")
        if row[name] is not None and row["status"] in TERMINAL
    ]


def left_in_bucket(environment: Mapping[str, str]) -> list[str]:
    """Unfinished uploads, and objects that belong to no published artifact."""
    s3 = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    bucket = environment["WORKFLOW_S3_BUCKET"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = {entry["Key"] for page in pages for entry in page.get("Contents", ())}
    known = set()
    for key in keys:
        if key.endswith("/manifest.json"):
            manifest = Manifest.from_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            known |= {key, *(part.key for part in manifest.parts)}
            folder = key.removesuffix("manifest.json")
            statements = (f"{folder}step-", f"{folder}result-")
            known |= {other for other in keys if other.startswith(statements) and other.endswith(".json")}
    found = [f"object {key} belongs to no published artifact" for key in sorted(keys - known)]
    if uploads := unfinished_uploads(environment):
        found.append(f"{uploads} unfinished uploads")
    return found


def left_running(deployment: Deployment) -> list[str]:
    """Tasks and processes that are still there although the API has left and idle ones had time to end."""

    def look() -> list[str]:
        tasks = deployment.cloud.tasks()
        live = [f"task {task['id']} is {task['status']}" for task in tasks if task["status"] != "STOPPED"]
        # By their number alone they may be others: a busy machine gives it to the next one soon.
        pids = [pid for task in tasks for pid in task.get("pids", ()) if is_of(deployment.folder, pid)]
        processes = [f"process {process}" for process in processes_of(deployment.folder)]
        return [*live, *(f"process {pid} of a task" for pid in pids), *processes]

    return _settled(look, _CLEAN_SECONDS)


def _settled(look: Callable[[], list[str]], seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def left_in_folders(folder: Path) -> list[str]:
    """Work of attempts that nobody cleared away."""
    return [f"work folder {path.parent.relative_to(folder)}" for path in folder.rglob("spec.json")]


def every_file_can_be_had(requesters: Requesters, url: str) -> list[str]:
    """Whatever became of its jobs: asked for once more, each is made."""

    def have(name: str) -> list[str]:
        with GooseherdClient(url, ADMIN_KEY) as client:
            try:
                client.ready("t", name, retry=True, timeout_seconds=300)
            except Exception as error:
                return [f"{name} cannot be had: {type(error).__name__}: {error}"]
            return []

    with ThreadPoolExecutor(_CALLS) as pool:
        return [finding for findings in pool.map(have, requesters.entries) for finding in findings]


def bytes_served(requesters: Requesters, url: str) -> dict[tuple[str, str], str]:
    """Digests of all parts of all files, by what the service gives now."""

    def read(name: str) -> None:
        with httpx.Client(timeout=60, trust_env=False, headers={"X-API-Key": ADMIN_KEY}) as http:
            for part in PARTS:
                response = http.get(f"{url}/{part}/t/{name}")
                if response.status_code == 200:
                    requesters.note_bytes(name, part, response)

    with ThreadPoolExecutor(_CALLS) as pool:
        list(pool.map(read, requesters.entries))
    return dict(requesters.digests)


def clean_run(folder: Path, entries: Collection[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Digests of the same parts as one service with workers on this machine makes them in peace."""
    environment = {
        **own_environment(),
        "SOURCE_ALLOW_HTTP": "true",
        "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
        "WORKER_MAX_LOCAL": "2",
        "WORKFLOW_MAX_RUNNING_PER_REQUESTER": "100",
    }
    found: dict[tuple[str, str], str] = {}
    with (
        running_service(state_dir=folder, allow_roots=(), environ=environment) as service,
        GooseherdClient(service.url, service.admin_key) as client,
        ThreadPoolExecutor(_CALLS) as pool,
    ):

        def make(entry: Mapping[str, Any]) -> None:
            client.register(entry)
            name = entry["local_id"]
            for kind, part in ((Kind.DATA, "data"), (Kind.INDEX, "index")):
                try:
                    ready = client.ready("t", name, kind=kind, timeout_seconds=300)
                except Missing:
                    continue  # It has no such part.
                assert ready.etag is not None
                found[name, part] = ready.etag.strip('"')

        list(pool.map(make, entries))
    return found


def corrupt(served: Mapping[tuple[str, str], str], clean: Mapping[tuple[str, str], str]) -> list[str]:
    """Parts that are not what the clean run made."""
    return [
        f"{part} of {name} is {served.get((name, part))}, the clean run made {digest}"
        for (name, part), digest in clean.items()
        if served.get((name, part)) != digest
    ]
