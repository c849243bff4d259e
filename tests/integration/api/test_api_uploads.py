"""Uploads over HTTP: piece by piece, again after a break, into the catalog, or refused rightly."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gooseherd.api.catalog import Catalog
from gooseherd.api.uploads import Uploads
from gooseherd.domain.visibility import EVERYTHING
from gooseherd.storage.uploads import UploadFolder

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
CONTENT = b"chr1\t10\t20\n" * 5000
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
async def uploading(build_town: Any, folder: Path) -> Any:
    return await with_uploads(build_town, folder)


async def with_uploads(build_town: Any, folder: Path, **more: Any) -> Any:
    first = await build_town()
    catalog = Catalog(first.files, first.dependencies.clock)
    given: dict[str, Any] = {"most_bytes": 10**6, "expires_seconds": 3600, "without_key": True, **more}
    uploads = Uploads(UploadFolder(folder), catalog, **given)
    return await build_town(uploads=uploads, catalog=catalog)


def metadata(**lines: str) -> dict[str, str]:
    pairs = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in lines.items())
    return {"Upload-Metadata": ",".join(pairs)}


async def begin(town: Any, length: int = len(CONTENT), headers: Any = (), **lines: str) -> Any:
    wanted = TUS | {"Upload-Length": str(length)} | metadata(**{"filename": "peaks.bed", **lines})
    return await town.http.post("/uploads", headers=wanted | dict(headers))


async def send(town: Any, where: str, offset: int, content: Any, **headers: str) -> Any:
    more = BYTES | {"Upload-Offset": str(offset)} | headers
    return await town.http.patch(where, content=content, headers=more)


async def test_a_file_comes_in_pieces_and_becomes_an_entry(uploading, folder):
    begun = await begin(uploading)
    assert (begun.status_code, begun.headers["upload-offset"]) == (201, "0")
    where = begun.headers["location"]
    first = await send(uploading, where, 0, CONTENT[:20_000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "20000")
    assert "content-location" not in first.headers
    head = await uploading.http.head(where)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("20000", str(len(CONTENT)))
    assert head.headers["cache-control"] == "no-store"
    assert (await uploading.http.get("/files")).json()["files"] == []
    last = await send(uploading, where, 20_000, CONTENT[20_000:])
    assert (last.status_code, last.headers["content-location"]) == (204, "/files/local/peaks.bed")
    entry = (await uploading.http.get("/files/local/peaks.bed", headers=ADMIN)).json()
    digest = hashlib.md5(CONTENT).hexdigest()
    assert (entry["md5"], entry["size_in_bytes"], entry["file_format"]) == (digest, len(CONTENT), "bed")
    stored = folder / "files" / where.rpartition("/")[2] / "peaks.bed"
    assert entry["access_url"] == stored.as_uri()
    assert stored.read_bytes() == CONTENT
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in folder.rglob("*")} == {0}
    shown = (await uploading.http.get(where)).json()
    assert (shown["complete"], shown["file"], shown["offset"]) == (True, "local/peaks.bed", len(CONTENT))


async def test_all_of_it_may_come_with_the_first_request(uploading):
    wanted = BYTES | {"Upload-Length": str(len(CONTENT))} | metadata(filename="one.bed", collection="lab")
    done = await uploading.http.post("/uploads", headers=wanted, content=CONTENT)
    assert (done.status_code, done.headers["content-location"]) == (201, "/files/lab/one.bed")


async def test_an_upload_goes_on_after_a_restart_of_the_service(build_town, folder):
    before = await with_uploads(build_town, folder)
    where = (await begin(before)).headers["location"]
    await send(before, where, 0, CONTENT[:30_000])
    await before.stop()
    after = await with_uploads(build_town, folder)
    found = (await after.http.get(where)).json()
    assert (found["offset"], found["filename"]) == (30_000, "peaks.bed")
    await send(after, where, 30_000, CONTENT[30_000:])
    entry = (await after.http.get("/files/local/peaks.bed")).json()
    assert entry["md5"] == hashlib.md5(CONTENT).hexdigest()


async def test_what_came_before_a_break_is_kept_and_a_request_that_hangs_is_overtaken(uploading):
    where = (await begin(uploading)).headers["location"]
    hanging = asyncio.Event()

    async def slowly() -> Any:
        yield CONTENT[:10_000]
        await hanging.wait()
        yield CONTENT[10_000:20_000]

    slow = asyncio.create_task(send(uploading, where, 0, slowly()))
    await asyncio.sleep(0.1)
    done = await send(uploading, where, 0, CONTENT)
    assert done.headers.get("content-location") == "/files/local/peaks.bed"
    hanging.set()
    assert (await slow).status_code in (204, 404, 409)
    assert (await uploading.http.get("/files/local/peaks.bed")).json()["size_in_bytes"] == len(CONTENT)
    # A connection that breaks: what had come is there.
    where = (await begin(uploading, filename="broken.bed")).headers["location"]
    request = (
        f"PATCH {where} HTTP/1.1\r\nHost: {uploading.address[0]}\r\nTus-Resumable: 1.0.0\r\n"
        "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n"
        f"Content-Length: {len(CONTENT)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(*uploading.address)
    writer.write(request.encode() + CONTENT[:7000])
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    for _ in range(200):
        if (await uploading.http.head(where)).headers["upload-offset"] == "7000":
            break
        await asyncio.sleep(0.02)
    assert (await send(uploading, where, 7000, CONTENT[7000:])).headers["content-location"]


async def test_bytes_at_another_place_are_refused_and_so_are_too_many(uploading):
    where = (await begin(uploading)).headers["location"]
    assert (await send(uploading, where, 5, b"x")).status_code == 409
    assert (await send(uploading, where, 0, CONTENT + b"x")).status_code == 413
    assert (await begin(uploading, length=10**6 + 1)).status_code == 413
    full = await begin(uploading, length=-1)
    assert full.status_code == 422


async def test_without_room_nothing_is_begun_and_what_is_here_stays(uploading, monkeypatch):
    where = (await begin(uploading)).headers["location"]
    monkeypatch.setattr(UploadFolder, "free_bytes", lambda _: 1 << 30)
    assert (await begin(uploading)).status_code == 507
    monkeypatch.undo()
    assert (await send(uploading, where, 0, CONTENT)).status_code == 204


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("../../etc/x.bed", "x.bed"),
        ("C:\\data\\x.bed", "x.bed"),
        (".hidden.bed", "hidden.bed"),
        ("a\nb\x00.bed", "a_b_.bed"),
        ("ä" * 300 + ".bed", "ä" * 98 + ".bed"),
    ],
)
async def test_names_are_made_safe(uploading, given, stored):
    where = (await begin(uploading, filename=given)).headers["location"]
    assert (await uploading.http.get(where)).json()["filename"] == stored


@pytest.mark.parametrize(
    "lines",
    [
        {"filename": "notes.docx"},
        {"filename": "/"},
        {"md5": "x"},
        {"access": "secret"},
        {"collection": "../x"},
        {"size": "3"},
        {"format": "novel"},
    ],
    ids=str,
)
async def test_what_cannot_be_used_is_refused_before_a_byte_comes(uploading, folder, lines):
    assert (await begin(uploading, **lines)).status_code == 422
    assert list((folder / "unfinished").iterdir()) == []


async def test_other_bytes_than_the_md5_says_become_nothing(uploading):
    where = (await begin(uploading, md5="0" * 32)).headers["location"]
    assert (await send(uploading, where, 0, CONTENT)).status_code == 422
    assert (await uploading.http.get(where)).status_code == 404
    assert (await uploading.http.get("/files")).json()["files"] == []


@pytest.mark.parametrize("index_first", [True, False])
async def test_an_index_that_was_dropped_with_its_file_goes_with_it(uploading, folder, index_first):
    data = (await begin(uploading, filename="calls.vcf.gz")).headers["location"]
    index = (
        await begin(uploading, length=3, filename="calls.vcf.gz.tbi", index_of=data.rpartition("/")[2])
    ).headers["location"]
    for where, content in sorted([(data, CONTENT), (index, b"TBI")], key=lambda one: len(one[1]))[
        :: 1 if index_first else -1
    ]:
        await send(uploading, where, 0, content)
    entry = (await uploading.http.get("/files/local/calls.vcf.gz", headers=ADMIN)).json()
    (sidecar,) = entry["sidecars"]
    assert (sidecar["kind"], sidecar["size_in_bytes"]) == ("tbi", 3)
    assert (await uploading.http.get(index)).json()["file"] == "local/calls.vcf.gz"
    assert (await uploading.http.delete(index, headers=TUS)).status_code == 204
    assert len([path for path in (folder / "files").rglob("*") if path.is_file()]) == 2
    await uploading.http.delete("/files/local/calls.vcf.gz", headers=ADMIN)
    assert [path for path in (folder / "files").rglob("*") if path.is_file()] == []


async def test_the_same_bytes_again_are_another_entry_and_nobody_elses_is_touched(uploading, folder):
    for content, name in ((CONTENT, "peaks.bed"), (CONTENT, "peaks.bed-2"), (b"other\n", "peaks.bed-3")):
        where = (await begin(uploading, length=len(content))).headers["location"]
        done = await send(uploading, where, 0, content)
        assert done.headers["content-location"] == f"/files/local/{name}"
    assert len(list((folder / "files").iterdir())) == 3
    await uploading.http.delete("/files/local/peaks.bed-2", headers=ADMIN)
    kept = sorted(path.read_bytes() for path in (folder / "files").rglob("*.bed"))
    assert kept == [CONTENT, b"other\n"]


async def test_what_was_changed_of_an_entry_stays_when_its_index_comes(uploading):
    data = (await begin(uploading, filename="calls.vcf.gz")).headers["location"]
    await send(uploading, data, 0, CONTENT)
    catalog = uploading.dependencies.catalog
    entry = await catalog.entry("local", "calls.vcf.gz", EVERYTHING)
    await catalog.put([replace(entry, status="withdrawn", sha256="0" * 64)])
    of = data.rpartition("/")[2]
    index = (await begin(uploading, length=3, filename="calls.vcf.gz.tbi", index_of=of)).headers["location"]
    await send(uploading, index, 0, b"TBI")
    after = await catalog.entry("local", "calls.vcf.gz", EVERYTHING)
    assert (after.status, after.sha256, len(after.sidecars)) == ("withdrawn", "0" * 64, 1)
    # And where another file has its name, that one has no part of the index.
    other = replace(after, access_url="https://example.org/calls.vcf.gz", sidecars=())
    await catalog.put([other])
    index = (await begin(uploading, length=3, filename="calls.vcf.gz.csi", index_of=of)).headers["location"]
    await send(uploading, index, 0, b"CSI")
    assert await catalog.entry("local", "calls.vcf.gz", EVERYTHING) == other


async def test_bytes_of_two_requests_for_the_same_place_are_not_both_written(uploading, folder, monkeypatch):
    where = (await begin(uploading)).headers["location"]
    writes, written, going_on = UploadFolder.append, threading.Event(), threading.Event()

    def slowly(self: Any, upload_id: Any, offset: int, chunk: bytes) -> None:
        writes(self, upload_id, offset, chunk)
        written.set()
        assert going_on.wait(30)

    monkeypatch.setattr(UploadFolder, "append", slowly)
    first = asyncio.create_task(send(uploading, where, 0, CONTENT[:20_000]))
    assert await asyncio.to_thread(written.wait, 30)
    second = asyncio.create_task(send(uploading, where, 0, CONTENT[:20_000]))
    await asyncio.sleep(0.3)  # it has been accepted, and waits
    going_on.set()
    assert sorted([(await first).status_code, (await second).status_code]) == [204, 409]
    assert (await uploading.http.head(where)).headers["upload-offset"] == "20000"
    done = await send(uploading, where, 20_000, CONTENT[20_000:])
    assert done.headers["content-location"] == "/files/local/peaks.bed"
    assert (await uploading.http.get(where)).json()["md5"] == hashlib.md5(CONTENT).hexdigest()


async def test_one_owner_reserves_a_share_of_the_room_and_begins_a_number(build_town, folder, monkeypatch):
    town = await with_uploads(build_town, folder, without_key=False)
    made = {}
    for owner in ("anne", "bert"):
        body = {"owner": owner, "scopes": ["read", "submit"], "collections": ["local"]}
        made[owner] = {"X-API-Key": (await town.http.post("/keys", json=body, headers=ADMIN)).json()["key"]}
    monkeypatch.setattr(UploadFolder, "free_bytes", lambda _: (1 << 30) + 1000)
    assert (await begin(town, length=700, headers=made["anne"])).status_code == 201
    assert (await begin(town, length=100, headers=made["anne"])).status_code == 507
    assert (await begin(town, length=100, headers=made["bert"])).status_code == 201
    assert (await begin(town, length=300, headers=made["bert"])).status_code == 507
    monkeypatch.undo()
    monkeypatch.setattr("gooseherd.api.uploads._UNFINISHED_OF_OWNER", 1)
    assert (await begin(town, headers=made["anne"])).status_code == 429
    monkeypatch.undo()
    # Of nothing, too: it is complete at once, and told about for a while.
    monkeypatch.setattr("gooseherd.api.uploads._RECORDS_OF_OWNER", 3)
    answers = [(await begin(town, length=0, headers=made["anne"])).status_code for _ in range(3)]
    assert answers == [201, 201, 429]
    assert (await begin(town, length=0, headers=made["bert"])).status_code == 201


async def test_one_upload_that_cannot_be_registered_does_not_keep_the_others(build_town, folder):
    town = await with_uploads(build_town, folder)
    ids = []
    for name in ("first.bed", "second.bed"):
        where = (await begin(town, filename=name)).headers["location"]
        ids.append(where.rpartition("/")[2])
    store = UploadFolder(folder)
    for upload_id in ids:  # as a process leaves them that ends before it has registered them
        (folder / "unfinished" / f"{upload_id}.part").write_bytes(CONTENT)
    broken = min(ids)
    upload, _, _ = store.read(broken)
    store.save(replace(upload, file_format="of-yesterday"))
    after = await with_uploads(build_town, folder, expires_seconds=0)
    report = await after.dependencies.uploads.loop.run_once()
    assert [one.upload_id for one in report.planned] == [broken]
    assert (await after.http.get(f"/uploads/{broken}")).status_code == 404
    assert (await after.http.get(f"/uploads/{max(ids)}")).json()["file"] is not None
    assert [path.name for path in (folder / "files").iterdir()] == [max(ids)]


async def test_without_a_key_nobody_sees_which_uploads_there_are(uploading):
    where = (await begin(uploading)).headers["location"]
    listed = (await uploading.http.get("/uploads")).json()
    assert (listed["allowed"], listed["uploads"]) == (True, [])
    assert (await uploading.http.head(where)).status_code == 200


async def test_an_upload_is_given_up_by_its_owner_or_by_time(build_town, folder):
    town = await with_uploads(build_town, folder, expires_seconds=0)
    where = (await begin(town)).headers["location"]
    assert (await town.http.delete(where, headers=TUS)).status_code == 204
    assert (await town.http.get(where)).status_code == 404
    await begin(town)
    await asyncio.sleep(0.01)
    report = await town.dependencies.uploads.loop.run_once()
    assert len(report.planned) == 1
    assert list((folder / "unfinished").iterdir()) == []


async def test_what_a_process_stored_in_its_last_moment_is_registered_by_the_next(build_town, folder):
    town = await with_uploads(build_town, folder)
    where = (await begin(town)).headers["location"]
    await send(town, where, 0, CONTENT)
    await town.http.delete("/files/local/peaks.bed", headers=ADMIN)
    # As it is between the two: stored, and no entry.
    store = UploadFolder(folder)
    upload, _, _ = store.read(where.rpartition("/")[2])
    assert not store.path_of(upload).exists()
    (folder / "unfinished" / f"{upload.upload_id}.part").write_bytes(CONTENT)
    store.save(replace(upload, file=None))
    after = await with_uploads(build_town, folder)
    await after.dependencies.uploads.loop.run_once()
    assert (await after.http.get("/files/local/peaks.bed")).json()["size_in_bytes"] == len(CONTENT)
    assert (await after.http.get(where)).json()["file"] == "local/peaks.bed"


async def test_only_our_own_page_and_programs_may_upload_without_a_key(uploading):
    own = uploading.url
    for headers, status in (
        ({}, 201),
        ({"Origin": own, "Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": own}, 201),
        ({"Origin": "http://localhost:9999", "Sec-Fetch-Site": "cross-site"}, 401),
        ({"Origin": "http://localhost:9999"}, 401),
        ({"Origin": "null"}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Tus-Resumable": ""}, 412),
    ):
        answer = await begin(uploading, headers=headers)
        assert answer.status_code == status, headers
    asked = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "PATCH"}
    preflight = await uploading.http.options("/uploads/x", headers=asked)
    assert "tus-resumable" not in preflight.headers.get("access-control-allow-headers", "").lower()


async def test_a_key_may_upload_to_its_collections_and_sees_its_own_uploads_alone(build_town, folder):
    town = await with_uploads(build_town, folder, without_key=False)
    made = {}
    for owner, scopes in (("anne", ["read", "submit"]), ("bert", ["read", "submit"]), ("carl", ["read"])):
        body = {"owner": owner, "scopes": scopes, "collections": ["lab"]}
        key = (await town.http.post("/keys", json=body, headers=ADMIN)).json()["key"]
        made[owner] = {"X-API-Key": key}
    assert (await begin(town)).status_code == 401
    assert (await begin(town, headers=made["carl"], collection="lab")).status_code == 403
    assert (await begin(town, headers=made["anne"], collection="other")).status_code == 422
    begun = await begin(town, headers=made["anne"], collection="lab", access="consortium")
    where = begun.headers["location"]
    assert (await town.http.get(where, headers=made["bert"])).status_code == 404
    assert (await send(town, where, 0, CONTENT, **made["bert"])).status_code == 404
    assert (await town.http.delete(where, headers=TUS | made["bert"])).status_code == 404
    done = await send(town, where, 0, CONTENT, **made["anne"])
    assert done.headers["content-location"] == "/files/lab/peaks.bed"
    assert (await town.http.get("/files/lab/peaks.bed")).status_code == 404
    assert (await town.http.get("/files/lab/peaks.bed", headers=made["bert"])).status_code == 200
    assert (await town.http.get("/uploads")).json() == {"allowed": False, "max_bytes": 0, "uploads": []}
    assert len((await town.http.get("/uploads", headers=made["anne"])).json()["uploads"]) == 1


async def test_a_service_that_takes_none_says_so(town):
    assert (await begin(town)).status_code == 403
    assert (await town.http.get("/uploads")).json()["allowed"] is False
