"""Where a file comes from is in texts of failures: the admin reads it, everybody else scheme and host."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.problems import problem
from gooseherd.domain.errors import AlreadyFailed, InvalidInput, NotFound
from gooseherd.domain.failures import Failure, Reason

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
SECRET = "p4th-of-the-source"
DETAIL = f"https://files.example.org:8443/{SECRET}/reads.bam: answered 404, as did s3://bucket/{SECRET}"
SHOWN = "https://files.example.org:8443: answered 404, as did s3://bucket"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (DETAIL, SHOWN),
        ("https://u:pw@h.example/a?b=c#d.", "https://h.example."),
        ("(drs://h.example/id) and https://h.example?sig=x", "(drs://h.example) and https://h.example"),
        ("https://h.example: no answer", "https://h.example: no answer"),
        ("https://[2001:db8::1]:8443/a/b, tried twice", "https://[2001:db8::1]:8443, tried twice"),
        ("must be https://, drs:// or file:///PATH", "must be https://, drs:// or file://"),
        ("https:///bucket/key?token=abc: no host", "https://: no host"),
        ("file:///srv/secret/x.bam, https://?sig=x and https://#y.", "file://, https:// and https://."),
        ("no header line", "no header line"),
        (
            "https://u:p@w@h.example/a@b and drs://u:pw@h.example: no",
            "https://h.example and drs://h.example: no",
        ),
        (
            "https://h.example\\\\a, https://h.example/a\u00a0b?sig=c.",
            "https://h.example, https://h.example.",
        ),
        ("://a https://", "://a https://"),
    ],
)
def test_of_an_address_in_a_text_scheme_and_host_are_shown(text: str, shown: str) -> None:
    assert without_paths(text) == shown
    assert without_paths(text, admin=True) == text


@pytest.mark.parametrize(
    "text",
    [
        "https://h/" + ":" * 200_000 + "a x",
        "a" * 200_000 + " ://",
        "https://" * 50_000,
        "://" * 99_999,
        "a:///" * 99_999,
    ],
)
def test_a_long_text_of_upstream_holds_nobody_up(text: str) -> None:
    """By a search that tries every length this is hours."""
    assert "h/" not in without_paths(text)


async def read_by(town: Any, headers: dict[str, str], paths: list[str]) -> dict[str, str]:
    return {path: (await town.http.get(path, headers=headers)).text for path in paths}


async def test_everybody_reads_the_host_in_a_failure_and_the_admin_all(town: Any) -> None:
    entry = await town.register()
    accepted = (await town.http.get(f"/data/{entry.name}")).json()
    batch = (await town.http.post("/batches", json={"files": [entry.name]})).json()
    await town.advance_batches()
    job = await town.run(accepted["job_id"])
    await town.fail(job, Reason.SOURCE_MISSING, DETAIL)
    await town.advance_batches()
    late = (await town.http.post("/batches", json={"files": [entry.name]})).json()
    await town.advance_batches()
    paths = [
        f"/jobs/{job.job_id}",
        "/jobs",
        f"/jobs/{job.job_id}/events",
        f"/files/{entry.name}",
        "/files",
        f"/data/{entry.name}",
        f"/data/{entry.name}?wait=1",
        f"/batches/{batch['batch_id']}",
        f"/batches/{batch['batch_id']}/files",
        f"/batches/{late['batch_id']}/files",
    ]
    for path, text in (await read_by(town, {}, paths)).items():
        assert "files.example.org" in text, path
        assert SECRET not in text, path
    for path, text in (await read_by(town, ADMIN, paths)).items():
        assert SECRET in text, path
    record = await town.jobs.get(job.job_id)
    assert record.detail == DETAIL, "the record keeps it"


async def test_the_feed_of_changes_shows_each_caller_their_own_form(town: Any) -> None:
    entry = await town.register()
    accepted = (await town.http.get(f"/data/{entry.name}")).json()
    job = await town.run(accepted["job_id"])
    async with (
        town.http.stream("GET", "/events?seconds=20") as anybody,
        town.http.stream("GET", "/events?seconds=20", headers=ADMIN) as admin,
    ):
        lines = [stream.aiter_lines() for stream in (anybody, admin)]
        for stream in lines:
            await anext(stream)  # both follow
        await town.fail(job, Reason.SOURCE_MISSING, DETAIL)
        details = [await _detail_of_failure(stream) for stream in lines]
    assert details == [SHOWN, DETAIL]


async def _detail_of_failure(lines: Any) -> str:
    async for line in lines:
        if line.startswith("data: {") and '"failed"' in line:
            return str(json.loads(line[6:])["detail"])
    raise AssertionError("the stream ended")


async def test_what_a_job_waits_for_is_told_without_the_path(town: Any) -> None:
    entry = await town.register()
    accepted = (await town.http.get(f"/data/{entry.name}")).json()
    job = await town.run(accepted["job_id"])
    failure = Failure(Reason.SOURCE_UNAVAILABLE, DETAIL)
    await town.jobs.requeue(job.job_id, job.fence, failure, timedelta(minutes=5))
    again = await town.http.get(f"/data/{entry.name}")
    shown = await town.http.get(f"/jobs/{job.job_id}")
    for answer in (again, shown):
        assert answer.json()["waiting"]["detail"] == SHOWN
        assert SECRET not in answer.text
    admins = await town.http.get(f"/jobs/{job.job_id}", headers=ADMIN)
    assert admins.json()["waiting"]["detail"] == DETAIL
    assert admins.json()["attempts"][0]["detail"] == DETAIL


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("access_url", f"https://h.example/{SECRET} is a bundle of objects"),
        NotFound("source", f"https://h.example/{SECRET}"),
        AlreadyFailed("j", Reason.SOURCE_MISSING, f"https://h.example/{SECRET} answered 404"),
    ],
)
def test_a_refusal_that_names_an_address_names_its_host(error: Exception) -> None:
    anybodys = problem(error, instance="/x", request_id="r").body.decode()
    admins = problem(error, instance="/x", request_id="r", admin=True).body.decode()
    assert "https://h.example" in anybodys
    assert SECRET not in anybodys
    assert SECRET in admins


async def test_whoever_shares_content_with_a_hidden_file_reads_nothing_of_why_it_failed(town: Any) -> None:
    secret = await town.register(data_access_level="protected", md5="a" * 32)
    public = await town.register(md5="a" * 32)
    accepted = await town.http.get(f"/data/{secret.name}", headers=ADMIN)
    assert (await town.http.get(f"/data/{public.name}")).status_code == 202
    batch = (await town.http.post("/batches", json={"files": [public.name]})).json()
    await town.advance_batches()
    job = await town.run(accepted.json()["job_id"])
    await town.fail(job, Reason.SOURCE_MISSING, DETAIL)
    await town.advance_batches()
    late = (await town.http.post("/batches", json={"files": [public.name]})).json()
    await town.advance_batches()
    paths = [
        f"/jobs/{job.job_id}",
        f"/data/{public.name}",
        f"/files/{public.name}",
        f"/batches/{batch['batch_id']}/files",
        f"/batches/{late['batch_id']}/files",
    ]
    for path, text in (await read_by(town, {}, paths)).items():
        assert Reason.SOURCE_MISSING in text, path
        assert "example.org" not in text.replace('https://files.example.org"', ""), path
        assert "answered 404" not in text, path
    assert DETAIL in (await town.http.get(f"/jobs/{job.job_id}", headers=ADMIN)).text


async def test_who_sees_the_hidden_file_reads_why_its_job_failed_under_the_other_entry_too(town: Any) -> None:
    secret = await town.register(data_access_level="protected", md5="a" * 32)
    twin = await town.register(data_access_level="protected", md5="a" * 32)
    public = await town.register(md5="a" * 32)
    wanted = {"owner": "lab", "scopes": ["read", "submit"], "collections": [secret.dcc]}
    key = (await town.http.post("/keys", json=wanted, headers=ADMIN)).json()
    callers = {"admin": ADMIN, "lab": {"Authorization": f"Bearer {key['key']}"}, "nobody": {}}
    accepted = await town.http.get(f"/data/{secret.name}", headers=ADMIN)
    early = await town.http.post("/batches", json={"files": [public.name, twin.name]}, headers=callers["lab"])
    await town.advance_batches()
    await town.fail(await town.run(accepted.json()["job_id"]), Reason.SOURCE_INVALID, "no header line")
    late = await town.http.post("/batches", json={"files": [public.name, twin.name]}, headers=callers["lab"])
    anybodys = await town.http.post("/batches", json={"files": [public.name]}, headers=ADMIN)
    await town.advance_batches()
    for name, headers in callers.items():
        again = await town.http.get(f"/data/{public.name}", headers=headers)
        assert again.status_code == 422, name
        shown = "" if name == "nobody" else "no header line"
        assert again.json()["reason_detail"] == shown, name
        why = f"source_invalid: {shown}" if shown else "source_invalid"
        assert again.json()["detail"].startswith(f"{why} (job "), name

    async def details(batch: Any) -> set[str]:
        listed = await town.http.get(f"/batches/{batch.json()['batch_id']}/files", headers=ADMIN)
        return {file["detail"] for file in listed.json()["files"]}

    assert await details(early) == await details(late) == {"no header line"}
    assert await details(anybodys) == {""}  # whoever asks may read that batch
