"""The catalog over HTTP: register, import, list, look up."""

from __future__ import annotations

import json

import pytest

from gooseherd.sources.rules import OutboundRules

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}


def entry(number, **fields):
    return {
        "dcc": "HuBMAP",
        "local_id": f"id{number}",
        "filename": f"peaks_{number}.bed",
        "access_url": f"https://files.example.org/{number}.bed",
        **fields,
    }


async def test_an_entry_is_registered_and_looked_up(town):
    answer = await town.http.post("/files", json=entry(1), headers=ADMIN)
    assert (answer.status_code, answer.json()) == (200, {"imported": 1, "new": 1})
    again = await town.http.post("/files", json=[entry(1), entry(2)], headers=ADMIN)
    assert again.json() == {"imported": 2, "new": 1}
    found = (await town.http.get("/files/HUBMAP/id1")).json()
    assert (found["dcc"], found["file_format"], found["access_url"]) == (
        "hubmap",
        "bed",
        "https://files.example.org",
    )
    assert found["data_url"] == f"{town.url}/files/hubmap/id1/peaks_1.bed"


async def test_a_registration_is_seen_at_once(town):
    assert (await town.http.get("/data/hubmap/id1")).status_code == 404
    await town.http.post("/files", json=entry(1), headers=ADMIN)
    assert (await town.http.get("/data/hubmap/id1")).status_code == 202
    await town.http.post("/files", json=entry(1, data_access_level="protected"), headers=ADMIN)
    assert (await town.http.get("/data/hubmap/id1")).status_code == 404


PRIVATE, OPEN = "https://private.example.org/reads", "https://files.example.org/reads"


@pytest.mark.parametrize("path", ["/files", "/files/import"])
@pytest.mark.parametrize(
    ("data", "index", "level", "warned"),
    [
        (PRIVATE, OPEN, "public", True),
        (OPEN, PRIVATE, "public", True),
        (OPEN, OPEN, "public", False),
        (OPEN, PRIVATE, "protected", False),
    ],
)
async def test_a_public_entry_of_a_private_source_or_index_is_logged(
    town, caplog, path, data, index, level, warned
):
    one = entry(1, filename="reads.bam", access_url=f"{data}.bam", data_access_level=level)
    one["sidecars"] = [{"kind": "bai", "access_url": f"{index}.bam.bai"}]
    (await town.http.post(path, content=json.dumps(one), headers=ADMIN)).raise_for_status()
    logged = [line.file for line in caplog.records if line.msg == "the entry of a private source is public"]
    assert logged == ["hubmap/id1"] * warned


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"X-API-Key": "the-admin-key "[:-2]}]
)
@pytest.mark.parametrize("path", ["/files", "/files/import"])
async def test_without_the_admin_key_nothing_is_written(town, headers, path):
    answer = await town.http.post(path, json=entry(1), headers=headers)
    kind = "invalid-credential" if headers else "admin-key-required"
    assert (answer.status_code, answer.json()["type"]) == (401, f"/problems/{kind}")
    assert await town.files.count() == 0


async def test_without_a_configured_key_nobody_is_admin(build_town):
    town = await build_town(admin_key=None)
    for key in ("", "None", "the-admin-key"):
        assert (await town.http.post("/files", json=entry(1), headers={"X-API-Key": key})).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b"5", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b"[5]", "[0].entry"),
        (json.dumps(entry(1, md5="zz")).encode(), "md5"),
        (json.dumps([entry(1), entry(2, local_id="../x")]).encode(), "[1].local_id"),
        (json.dumps(entry(1, local_id="a\n")).encode(), "local_id"),
        (json.dumps(entry(1, access_url="file:///etc/x.bed")).encode(), "access_url"),
        (json.dumps(entry(1, sidecars=5)).encode(), "sidecars"),
        (json.dumps(entry(1, filename="a/b")).encode(), "filename"),
        (json.dumps([entry(n) for n in range(1001)]).encode(), "body"),
    ],
)
async def test_an_absurd_body_is_422_and_names_the_field(town, body, field):
    answer = await town.http.post("/files", content=body, headers=ADMIN)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert await town.files.count() == 0


@pytest.fixture
async def guarded(build_town):
    """The API with the rules that nothing configured gives."""
    return await build_town(sources=OutboundRules().sources())


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"access_url": "http://example.org/x.bam"}, "access_url", "SOURCE_ALLOW_HTTP"),
        ({"access_url": "https://10.0.0.1/x.bam"}, "access_url", "SOURCE_ALLOW_NETWORKS"),
        ({"access_url": "file:///data/x.bam"}, "access_url", "SOURCE_FILE_ROOTS"),
        ({"access_url": "ftp://example.org/x.bam"}, "access_url", "scheme 'ftp' is not allowed"),
        ({"access_url": "s3://bucket"}, "access_url", "s3://BUCKET/KEY"),
        ({"access_url": "drs://dg.4503:x"}, "access_url", "no DRS server is known"),
        (
            {
                "sidecars": [
                    {"kind": "tbi", "access_url": "https://example.org/x.tbi"},
                    {"kind": "bai", "access_url": "http://example.org/x.bai"},
                ]
            },
            "sidecars[1].access_url",
            "SOURCE_ALLOW_HTTP",
        ),
    ],
)
async def test_an_address_that_would_be_refused_when_fetched_is_refused_when_registered(
    guarded, fields, field, words
):
    item = entry(1, **fields)
    answer = await guarded.http.post("/files", json=item, headers=ADMIN)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert words in answer.json()["problem"]
    listed = await guarded.http.post("/files", json=[entry(0), item], headers=ADMIN)
    assert (listed.status_code, listed.json()["field"]) == (422, f"[1].{field}")
    lines = "\n".join(json.dumps(one) for one in (entry(0), item))
    imported = (await guarded.http.post("/files/import", content=lines, headers=ADMIN)).json()
    assert (imported["imported"], imported["errors"][0]["field"]) == (1, field)
    assert words in imported["errors"][0]["problem"]


async def test_a_body_over_the_limit_is_413(build_town):
    town = await build_town(body_limit_bytes=1000)
    declared = await town.http.post("/files", content=b"[" + b" " * 1000, headers=ADMIN)
    assert (declared.status_code, declared.json()["limit_bytes"]) == (413, 1000)

    async def chunks():
        for _ in range(5):
            yield b" " * 500

    assert (await town.http.post("/files", content=chunks(), headers=ADMIN)).status_code == 413


async def test_an_import_stores_the_good_lines_and_names_the_bad(town, monkeypatch):
    monkeypatch.setattr("gooseherd.api.routers.files.BATCH", 10)
    lines = [json.dumps(entry(n)) for n in range(43)]
    lines[7] = "{broken"
    lines[20] = json.dumps(entry(20, access_url=""))
    lines[30] = ""
    lines[31] = json.dumps({"x": "y" * 300_000})

    async def stream():
        body = "\n".join(lines).encode()
        for start in range(0, len(body), 4099):
            yield body[start : start + 4099]

    answer = await town.http.post("/files/import", content=stream(), headers=ADMIN)
    result = answer.json()
    assert answer.status_code == 200
    assert (result["imported"], result["new"], result["failed"]) == (39, 39, 3)
    assert [(e["line"], e["field"]) for e in result["errors"]] == [
        (8, "line"),
        (21, "access_url"),
        (32, "line"),
    ]
    assert (await town.http.get("/files/hubmap/id42")).status_code == 200


async def test_an_import_without_one_good_line_is_422(town):
    answer = await town.http.post("/files/import", content=b"x\n" * 150, headers=ADMIN)
    body = answer.json()
    assert (answer.status_code, body["failed"], len(body["errors"])) == (422, 150, 100)


async def test_files_are_searched_and_paged(town):
    await town.http.post("/files", json=[entry(n) for n in range(5)], headers=ADMIN)
    await town.http.post("/files", json=entry(9, dcc="4dn", filename="reads.bam"), headers=ADMIN)
    seen, after = [], None
    while True:
        page = (
            await town.http.get("/files", params={"limit": 2, **({"after": after} if after else {})})
        ).json()
        seen += [(f["dcc"], f["local_id"]) for f in page["files"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [("4dn", "id9"), *(("hubmap", f"id{n}") for n in range(5))]
    assert [f["local_id"] for f in (await town.http.get("/files?format=BAM")).json()["files"]] == ["id9"]
    assert [f["local_id"] for f in (await town.http.get("/files?q=READS")).json()["files"]] == ["id9"]
    assert len((await town.http.get("/files?dcc=HuBMAP")).json()["files"]) == 5


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "format=docx", "dcc=.."])
async def test_absurd_searches_are_422(town, query):
    assert (await town.http.get(f"/files?{query}")).status_code == 422


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://files.example.org:8443/lab/x.bed?X-Amz-Signature=secret", "https://files.example.org:8443"),
        ("s3://bucket/secret/x.bed", "s3://bucket"),
        ("drs://drs.example.org/secret", "drs://drs.example.org"),
    ],
)
async def test_of_an_address_everybody_sees_scheme_and_host(town, address, shown):
    sidecar = {"kind": "tbi", "access_url": "https://s.example.org/secret.tbi"}
    given = entry(1, access_url=address, sidecars=[sidecar])
    assert (await town.http.post("/files", json=given, headers=ADMIN)).status_code == 200
    for path in ("/files/hubmap/id1", "/files", "/files?q=peaks"):
        answer = await town.http.get(path)
        assert "secret" not in answer.text
        found = answer.json() if path == "/files/hubmap/id1" else answer.json()["files"][0]
        assert found["access_url"] == shown
        assert found["sidecars"][0]["access_url"] == "https://s.example.org"
    found = (await town.http.get("/files/hubmap/id1", headers=ADMIN)).json()
    assert (found["access_url"], found["sidecars"][0]["access_url"]) == (address, sidecar["access_url"])


@pytest.mark.parametrize("field", ["access_url", "sidecars"])
async def test_an_address_with_a_password_is_refused_and_stored_nowhere(town, field):
    address = "https://user:pass@files.example.org/x"
    given = {"access_url": address, "sidecars": [{"kind": "tbi", "access_url": address}]}[field]
    answer = await town.http.post("/files", json=entry(1, **{field: given}), headers=ADMIN)
    assert answer.status_code == 422
    assert "user name or password" in answer.text
    assert "pass@" not in answer.text
    lines = json.dumps(entry(1, **{field: given})) + "\n" + json.dumps(entry(2)) + "\n"
    imported = (await town.http.post("/files/import", content=lines, headers=ADMIN)).json()
    assert (imported["imported"], imported["failed"]) == (1, 1)
    assert (await town.http.get("/files/hubmap/id1", headers=ADMIN)).status_code == 404


async def test_addresses_of_files_that_are_not_public_are_the_admins(town):
    hidden = entry(
        1, data_access_level="protected", sidecars=[{"kind": "tbi", "access_url": "https://s.example/t"}]
    )
    await town.http.post("/files", json=hidden, headers=ADMIN)
    for path in ("/files/hubmap/id1", "/files"):
        assert "example" not in (await town.http.get(path)).text.replace(town.url, "")
    assert (await town.http.get("/files/hubmap/id1", headers=ADMIN)).json()["access_url"] == hidden[
        "access_url"
    ]


async def test_a_removed_file_is_gone_at_once(town):
    await town.http.post("/files", json=[entry(1), entry(2)], headers=ADMIN)
    assert (await town.http.get("/files/hubmap/id1")).status_code == 200
    answer = await town.http.delete("/files/HUBMAP/id1", headers=ADMIN)
    body = answer.json()
    assert (answer.status_code, body["dcc"], body["local_id"]) == (200, "hubmap", "id1")
    assert (body["job_id"], body["job_withdrawn"], body["same_content"]) == (None, False, [])
    for path in ("/files/hubmap/id1", "/data/hubmap/id1", "/index/hubmap/id1/status"):
        assert (await town.http.get(path)).status_code == 404, path
    again = await town.http.delete("/files/hubmap/id1", headers=ADMIN)
    assert (again.status_code, again.json()["type"]) == (404, "/problems/not-found")
    assert [one["local_id"] for one in (await town.http.get("/files")).json()["files"]] == ["id2"]


async def test_only_the_admin_removes(town):
    await town.http.post("/files", json=entry(1), headers=ADMIN)
    for headers in ({}, {"X-API-Key": "wrong"}):
        answer = await town.http.delete("/files/hubmap/id1", headers=headers)
        assert answer.status_code == 401
    assert (await town.http.delete("/files/hubmap/a..b", headers=ADMIN)).status_code == 422
    assert (await town.http.get("/files/hubmap/id1")).status_code == 200


async def test_removing_a_file_withdraws_its_job(town):
    await town.http.post("/files", json=entry(1), headers=ADMIN)
    job = (await town.http.get("/data/hubmap/id1")).json()["job_id"]
    body = (await town.http.delete("/files/hubmap/id1", headers=ADMIN)).json()
    assert (body["job_id"], body["job_withdrawn"]) == (job, True)
    assert (await town.http.get(f"/jobs/{job}")).json()["status"] == "cancelled"


async def test_the_job_of_a_removed_file_that_runs_is_told_to_stop(town):
    await town.http.post("/files", json=entry(1), headers=ADMIN)
    job = (await town.http.get("/data/hubmap/id1")).json()["job_id"]
    await town.run(job)
    body = (await town.http.delete("/files/hubmap/id1", headers=ADMIN)).json()
    assert (body["job_id"], body["job_withdrawn"]) == (job, True)
    assert (await town.http.get(f"/jobs/{job}")).json()["cancel_requested"] is True


async def test_a_job_whose_content_another_file_has_goes_on(town):
    md5 = "5" * 32
    two = [entry(1, md5=md5), entry(2, md5=md5, access_url="https://mirror.example.org/2.bed")]
    await town.http.post("/files", json=two, headers=ADMIN)
    job = (await town.http.get("/data/hubmap/id1")).json()["job_id"]
    body = (await town.http.delete("/files/hubmap/id1", headers=ADMIN)).json()
    assert (body["job_id"], body["job_withdrawn"], body["same_content"]) == (job, False, ["hubmap/id2"])
    assert (await town.http.get(f"/jobs/{job}")).json()["status"] == "pending"
    # It was asked for by the name that is gone; with the last entry of its content it goes.
    body = (await town.http.delete("/files/hubmap/id2", headers=ADMIN)).json()
    assert (body["job_id"], body["job_withdrawn"], body["same_content"]) == (job, True, [])
    assert (await town.http.get(f"/jobs/{job}")).json()["status"] == "cancelled"


async def test_a_finalizing_job_ends_although_its_file_is_removed(town):
    await town.http.post("/files", json=entry(1), headers=ADMIN)
    job = await town.run((await town.http.get("/data/hubmap/id1")).json()["job_id"])
    await town.jobs.begin_finalize(job.job_id, job.fence)
    body = (await town.http.delete("/files/hubmap/id1", headers=ADMIN)).json()
    assert (body["job_id"], body["job_withdrawn"]) == (job.job_id, False)
    assert (await town.http.get(f"/jobs/{job.job_id}")).json()["status"] == "finalizing"


async def test_what_was_published_is_there_when_the_content_is_registered_again(town):
    known = await town.register(local_id="A")
    await town.publish(known, b"sorted")
    assert (await town.http.get("/data/4dn/A")).content == b"sorted"
    assert (await town.http.delete("/files/4dn/A", headers=ADMIN)).status_code == 200
    assert (await town.http.get("/data/4dn/A")).status_code == 404
    await town.http.post("/files", json={**known.to_json(), "local_id": "B"}, headers=ADMIN)
    assert (await town.http.get("/data/4dn/B")).content == b"sorted"


async def test_a_file_without_a_processor_is_removed_too(town):
    await town.register(local_id="C", file_format="cram", filename="c.cram")
    body = (await town.http.delete("/files/4dn/C", headers=ADMIN)).json()
    assert body["job_id"] is None


async def test_without_processing_files_are_removed_too(build_town):
    town = await build_town(processing=False)
    await town.http.post("/files", json=entry(1), headers=ADMIN)
    assert (await town.http.delete("/files/hubmap/id1", headers=ADMIN)).status_code == 200


BEYOND_ANY_STORE = [
    ("size_in_bytes", 2**63),
    ("size_in_bytes", 10**400),
    ("filename", "half\ud800.bed"),
    ("version_tag", "\udfff"),
    ("access_url", "https://files.example.org/\ud83d"),
    ("sidecars", [{"kind": "tbi", "access_url": "https://files.example.org/a.tbi", "size_in_bytes": 2**64}]),
]


@pytest.mark.parametrize(("field", "value"), BEYOND_ANY_STORE)
async def test_what_no_store_can_hold_is_422_and_costs_an_import_only_its_line(town, field, value):
    bad = json.dumps(entry(7) | {field: value})
    refused = await town.http.post("/files", content=bad, headers=ADMIN)
    named = "size_in_bytes" if field == "sidecars" else field
    assert (refused.status_code, refused.json()["field"]) == (422, named)
    lines = "\n".join([json.dumps(entry(1)), bad, json.dumps(entry(2))])
    imported = (await town.http.post("/files/import", content=lines, headers=ADMIN)).json()
    assert (imported["imported"], imported["failed"], imported["errors"][0]["line"]) == (2, 1, 2)


async def test_of_a_list_with_one_entry_that_no_store_can_hold_none_is_stored(town):
    many = [entry(number) for number in range(600)]
    many[-1]["size_in_bytes"] = 2**63
    refused = await town.http.post("/files", content=json.dumps(many), headers=ADMIN)
    assert (refused.status_code, refused.json()["field"]) == (422, "[599].size_in_bytes")
    assert (await town.http.get("/files")).json()["files"] == []


async def test_the_largest_size_that_a_store_can_hold_is_taken(town):
    largest = entry(1) | {"size_in_bytes": 2**63 - 1}
    assert (await town.http.post("/files", json=largest, headers=ADMIN)).status_code == 200
    (listed,) = (await town.http.get("/files")).json()["files"]
    assert listed["size_in_bytes"] == 2**63 - 1
