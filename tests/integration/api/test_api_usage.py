"""What was used, as clients see it: sums, who sees whose, and budgets that are used up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gooseherd.api.names import artifact_path
from gooseherd.control.budgets import RequesterBudget
from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import AttemptEnd, Owner, Requester, WorkerId
from gooseherd.domain.states import Status
from gooseherd.domain.usage import WorkerTime, worker_rows
from gooseherd.domain.usage_report import Prices
from gooseherd.domain.worker_size import Capacity, LaunchPurpose, WorkerResources, WorkerSize

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
SPOT = WorkerResources(WorkerSize(2048, 4096), Capacity.SPOT)
FAILED = Failure(Reason.TOOL_FAILED, "exit 1")
DEAR = Prices.from_json({"spot": {"worker_hour": 3600.0}})
"""A second of a worker costs one."""


async def key_of(town: Any, owner: str, **wanted: Any) -> dict[str, str]:
    body = {"owner": owner, "scopes": ["submit"], **wanted}
    made = (await town.http.post("/keys", json=body, headers=ADMIN)).json()
    return {"Authorization": f"Bearer {made['key']}"}


async def worked(town: Any, headers: dict[str, str], seconds: float, **end: int) -> str:
    """A file that the key's owner asks for, whose attempt fails after so long."""
    entry = await town.register()
    asked = await town.http.get(f"/data/{entry.name}", headers=headers)
    assert asked.status_code == 202, asked.text
    job = await town.jobs.get(asked.json()["job_id"])
    held = await town.jobs.lease(job, Owner("o"), timedelta(hours=1))
    await town.jobs.assign_worker(held.job_id, held.fence, WorkerId("w"), {}, SPOT)
    assigned = (await town.jobs.get(held.job_id)).attempts[0].assigned_at
    # The time itself does not pass: of what is over longer than that, only so much counts.
    until = assigned + timedelta(seconds=seconds)
    await town.jobs.release_workflow(
        held.job_id, held.fence, Status.FAILED, FAILED, AttemptEnd(worked_until=until, **end)
    )
    return str(held.job_id)


async def usage(town: Any, headers: dict[str, str] = ADMIN, **params: Any) -> dict[str, Any]:
    answer = await town.http.get("/usage", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_admin_sees_everybodys_and_an_owner_their_own(town: Any) -> None:
    anne, bert = await key_of(town, "anne"), await key_of(town, "bert")
    await worked(town, anne, 0, bytes_in=70, bytes_out=30)
    job = await worked(town, bert, 0, bytes_in=5)
    seen = await usage(town, by=["requester"])
    assert [(line["requester"], line["attempts"], line["bytes_in"]) for line in seen["used"]] == [
        ("anne", 1, 70),
        ("bert", 1, 5),
    ]
    assert seen["total"]["bytes_out"] == 30
    own = await usage(town, bert, by=["job", "capacity", "collection"])
    assert own["requester"] == "bert"
    (line,) = own["used"]
    assert (line["job"], line["capacity"], line["collection"]) == (job, "spot", "4dn")
    assert line["requester"] is None
    assert own["idle"] == []
    refused = await town.http.get("/usage", headers=bert, params={"requester": "anne"})
    assert refused.status_code == 403
    assert (await town.http.get("/usage")).status_code == 401
    assert (await usage(town, requester="anne"))["total"]["bytes_in"] == 70


async def test_an_attempt_under_way_counts_as_far_as_it_has_come(town: Any) -> None:
    anne = await key_of(town, "anne")
    entry = await town.register()
    job = await town.jobs.get((await town.http.get(f"/data/{entry.name}", headers=anne)).json()["job_id"])
    held = await town.jobs.lease(job, Owner("o"), timedelta(hours=1))
    await town.jobs.assign_worker(held.job_id, held.fence, WorkerId("w"), {}, SPOT)
    (line,) = (await usage(town))["used"]
    assert line["attempts"] == 0
    assert line["requester"] == "anne"
    assert line["vcpu_seconds"] == pytest.approx(2 * line["worker_seconds"])
    assert line["memory_gb_seconds"] == pytest.approx(4 * line["worker_seconds"])


async def test_what_is_paid_and_not_worked_is_idle_by_what_it_was_launched_for(town: Any) -> None:
    now = await town.dependencies.usage._usage.now()
    for name, purpose in (("w1", LaunchPurpose.JOB), ("w2", LaunchPurpose.FLOOR)):
        resources = WorkerResources(WorkerSize(1024, 2048), Capacity.ON_DEMAND, purpose)
        life = WorkerTime(WorkerId(name), resources, now - timedelta(seconds=100), now)
        await town.dependencies.usage._usage.record(worker_rows(life))
    seen = await usage(town, by=[], first=str((now - timedelta(days=1)).date()))
    assert [(line["purpose"], line["worker_seconds"]) for line in seen["idle"]] == [
        ("floor", 100.0),
        ("job", 100.0),
    ]
    hour = (0.04048 + 2 * 0.004445) / 3600
    assert seen["total"]["cost"] == pytest.approx(200 * hour)
    assert seen["currency"] == "USD"
    assert "us-east-1" in seen["prices_as_of"]


async def test_bytes_that_are_served_are_counted_by_requester_and_collection(town: Any) -> None:
    anne = await key_of(town, "anne")
    entry = await town.register()
    data = (await town.publish(entry, b"x" * 5000)).part(Kind.DATA)
    assert data is not None
    immutable = artifact_path(entry, data, data.filename)
    for path, headers, wanted in (
        (f"/data/{entry.name}", anne, "bytes=0-99"),
        (immutable, anne, "bytes=100-149"),
        (f"/data/{entry.name}", {}, "bytes=0-9"),
        (immutable, {"Prefer": "wait=0"}, "bytes=10-14"),  # the usual way
        (immutable, {}, "bytes=15-19"),  # the quick one
    ):
        got = await town.http.get(path, headers={**headers, "Range": wanted})
        assert got.status_code == 206
    await town.http.get(f"/files/{entry.name}", headers=anne)  # tells of a file, and is none
    rows = town.dependencies.served.take()
    assert {(row.requester, row.dcc, row.amounts.bytes_served) for row in rows} == {
        ("anne", "4dn", 150),
        ("127.0.0.1", "4dn", 20),
    }
    await town.dependencies.usage._usage.record(rows)
    seen = await usage(town, by=["requester", "collection"])
    assert sum(line["bytes_served"] for line in seen["used"]) == 170


async def test_a_budget_that_is_used_up_is_429_with_when_it_frees(build_town: Any) -> None:
    town = await build_town(prices=DEAR, budget=RequesterBudget(per_day=0.02))
    anne, bert = await key_of(town, "anne"), await key_of(town, "bert")
    await worked(town, anne, 0)
    assert (await usage(town, anne))["budget"]["per_day"] == 0.02
    spent = 0.0
    while spent < 0.02:  # each takes some milliseconds
        await worked_really(town, anne)
        spent = (await usage(town, anne))["budget"]["spent_today"]
    entry = await town.register()
    refused = await town.http.get(f"/data/{entry.name}", headers=anne)
    assert refused.status_code == 429
    problem = refused.json()
    assert problem["type"].endswith("/budget-spent")
    assert problem["retryable"] is True
    assert (problem["period"], problem["budget"], problem["currency"]) == ("day", 0.02, "USD")
    assert problem["spent"] >= 0.02
    frees = datetime.fromisoformat(problem["frees_at"])
    assert (frees.hour, frees.minute) == (0, 0)
    left = (frees - datetime.now(UTC)).total_seconds()
    assert abs(int(refused.headers["retry-after"]) - left) < 60
    assert "ratelimit" not in refused.headers
    # What others do is their own, and so is what is already being made.
    assert (await town.http.get(f"/data/{entry.name}", headers=bert)).status_code == 202
    assert (await town.http.get(f"/data/{entry.name}", headers=anne)).status_code == 202
    session = await town.http.post("/sessions", json={}, headers=anne)
    assert session.status_code == 429


async def worked_really(town: Any, headers: dict[str, str]) -> None:
    await worked(town, headers, 60)  # ends when its end is written, which is later than its beginning


async def test_a_keys_own_budget_counts_instead_of_the_usual_one(build_town: Any) -> None:
    town = await build_town(prices=DEAR, budget=RequesterBudget(per_month=1e6))
    poor = await key_of(town, "anne", budget_per_month=0)
    entry = await town.register()
    refused = await town.http.get(f"/data/{entry.name}", headers=poor)
    assert refused.status_code == 429
    assert refused.json()["period"] == "month"
    assert datetime.fromisoformat(refused.json()["frees_at"]).day == 1
    await key_of(town, "anne", budget_per_month=7.5)  # of two keys the larger budget
    assert (await town.http.get(f"/data/{entry.name}", headers=poor)).status_code == 202
    keys = (await town.http.get("/keys", headers=ADMIN)).json()["keys"]
    assert [key["budget_per_month"] for key in keys] == [0, 7.5]
    made = await town.http.post(f"/keys/{keys[1]['key_id']}/rotate", headers=ADMIN)
    assert made.json()["budget_per_month"] == 7.5


async def test_days_and_names_that_cannot_be_are_refused_with_words(town: Any) -> None:
    for params in ({"first": "2026-02-30"}, {"by": "colour"}, {"first": "2026-03-02", "last": "2026-03-01"}):
        answer = await town.http.get("/usage", headers=ADMIN, params=params)
        assert answer.status_code == 422, params
    assert json.loads((await town.http.get("/usage", headers=ADMIN)).text)["by"] == ["day", "requester"]


async def test_the_report_is_the_stores_own_requester(town: Any) -> None:
    assert (await usage(town, requester="me"))["requester"] == Requester("admin")
