"""After the trouble: what was lost, made twice, spoilt or left behind. Every finding is a sentence."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import boto3
import httpx
from sqlalchemy import Select, select
from tests.faults.campaign.deployment import (
    ADMIN_KEY,
    DATABASE,
    IDLE_SECONDS,
    Deployment,
    own_environment,
    processes_of,
)
from tests.faults.campaign.requesters import PARTS, Requesters

from gooseherd.client import GooseherdClient, Kind, Missing
from gooseherd.devcloud.deployment import unfinished_uploads
from gooseherd.domain.artifact import Manifest
from gooseherd.domain.batch import ENDED, MemberState
from gooseherd.domain.failures import Reason
from gooseherd.domain.states import TERMINAL, Status
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.schema import batch_members
from gooseherd.store.sql.schema import batches as batches_table
from gooseherd.store.sql.schema import jobs as jobs_table
from gooseherd.store.sql.schema import reservations as reservations_table
from gooseherd.trial.private_service import running_service

Row = Mapping[str, Any]

_CLEAN_SECONDS: Final = 3.0 * IDLE_SECONDS + 30
_CALLS: Final = 8


def _stored(url: str, wanted: Select[Any]) -> list[Row]:
    async def read() -> list[Row]:
        database = await open_database(url, DATABASE)
        try:
            rows = await database.read("campaign", lambda tx: tx.connection.execute(wanted).mappings().all())
            return [dict(row) for row in rows]
        finally:
            await database.close()

    return asyncio.run(read())


def stored_jobs(url: str) -> list[Row]:
    """All jobs as the store has them, oldest first."""
    return _stored(url, select(jobs_table).order_by(jobs_table.c.created_at, jobs_table.c.id))


def open_batches(url: str) -> list[Row]:
    """Batches that have not ended."""
    return _stored(url, select(batches_table).where(batches_table.c.ended_at.is_(None)))


def live_sessions(url: str) -> list[Row]:
    """Sessions that have not ended."""
    return _stored(url, select(reservations_table).where(reservations_table.c.live))


def left_of_sessions(url: str) -> list[str]:
    """Sessions that nobody ended, although they were idle for long enough."""
    return [f"the session of {row['owner']} is {row['state']} for ever" for row in live_sessions(url)]


def lost_of_batches(url: str, promised: Collection[str]) -> list[str]:
    """Batches that a client was told of and that are not there, and files of batches without an end."""
    there = {row["id"] for row in _stored(url, select(batches_table.c.id))}
    found = [f"batch {batch} is not in the store" for batch in promised if batch not in there]
    found += [f"batch {row['id']} has no end" for row in open_batches(url)]
    ended = {state.value for state in ENDED}
    for member in _stored(url, select(batch_members)):
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
        pids = [pid for task in tasks for pid in task.get("pids", ()) if Path(f"/proc/{pid}").exists()]
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
