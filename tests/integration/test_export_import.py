"""`gooseherd export` and `import`: a catalog with its keys out of one store and into another, and back."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import re
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_store_commands import entry

from gooseherd.domain.apikey import KeyId, NewKey
from gooseherd.domain.caller import Scope
from gooseherd.domain.export_file import DamagedExport, ExportWriter, read_export
from gooseherd.domain.job import Requester
from gooseherd.domain.source import AccessLevel, Dcc
from gooseherd.settings import Settings
from gooseherd.store.mongo import documentdb
from gooseherd.store.mongo.connect import connect
from gooseherd.store.mongo.documentdb import check_documentdb, is_documentdb
from gooseherd.store.mongo.schema import ensure_indexes
from gooseherd.wiring.store import open_store
from gooseherd.wiring.transfer import every_entry, export_store, import_store, lines_of

pytestmark = pytest.mark.integration


def settings(folder: Path, url: str | None, name: str) -> Settings:
    return Settings(gooseherd_state_dir=folder, database_url=url, database_name=name)


async def fill(where: Settings) -> None:
    async with open_store(where) as store:
        entries = [replace(entry(number), package="p1" if number % 2 else None) for number in range(1500)]
        entries.append(replace(entry(9000, "ünï 💾.bam"), access_level=AccessLevel.PROTECTED))
        await store.files.put(entries)
        until = datetime.now(UTC) + timedelta(days=9)
        for name, scopes in (("k1", {Scope.READ}), ("k2", {Scope.ADMIN, Scope.SUBMIT})):
            await store.keys.add(
                NewKey(
                    KeyId(name), name * 32, Requester("lab ü"), frozenset(scopes), frozenset({Dcc("t")}),
                    label="for \u2603", expires_at=until if name == "k1" else None, budget_per_day=2.5,
                )
            )  # fmt: skip
        await store.keys.revoke(KeyId("k2"))
        await store.keys.note_use(KeyId("k1"), timedelta(0))


async def content(where: Settings) -> tuple[list[Any], list[Any]]:
    async with open_store(where) as store:
        entries = [one async for one in every_entry(store.files)]
        return entries, sorted(await store.keys.keys(), key=lambda key: key.key_id)


async def moved(one: Settings, other: Settings) -> bytes:
    lines: list[bytes] = []
    await export_store(one, lines.append)
    await import_store(other, lines)
    return b"".join(lines)


@pytest.mark.slow
async def test_a_store_goes_from_sqlite_to_postgresql_to_mongodb_and_back_and_is_equal(
    tmp_path: Path, postgres: Any, database_url: str
) -> None:
    name = f"test_{uuid.uuid4().hex}"
    postgres.sql(f"CREATE DATABASE {name}")
    stations = [
        settings(tmp_path / "a", None, name),
        settings(tmp_path / "b", postgres.url(name), name),
        settings(tmp_path / "c", database_url, name),
        settings(tmp_path / "d", None, name),
    ]
    await fill(stations[0])
    before = await content(stations[0])
    assert (len(before[0]), len(before[1])) == (1501, 2)
    written = []
    for one, other in itertools.pairwise(stations):
        written.append(await moved(one, other))
        assert await content(other) == before
    # Every export is the same, but for when it was made.
    assert len({tuple(text.split(b"\n")[1].split(b'"digest"')[:1]) for text in written}) == 1
    assert await moved(stations[3], stations[0])
    assert await content(stations[0]) == before
    postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_key_that_was_revoked_since_the_backup_stays_revoked(store: Any) -> None:
    new = NewKey(KeyId("k1"), "d" * 64, Requester("lab"), frozenset({Scope.READ}))
    backup = await store.keys.add(new)
    revoked = await store.keys.revoke(KeyId("k1"))
    assert await store.keys.restore([backup]) == 0
    assert await store.keys.get(KeyId("k1")) == revoked
    other = replace(backup, key_id=KeyId("k2"), label="other", revoked_at=None)
    assert await store.keys.restore([backup, other]) == 1
    gone = replace(other, revoked_at=backup.created_at)
    assert await store.keys.restore([gone]) == 0
    assert await store.keys.get(KeyId("k2")) == gone


async def test_of_a_key_that_was_rotated_since_the_backup_the_sooner_end_holds(store: Any) -> None:
    new = NewKey(KeyId("k1"), "d" * 64, Requester("lab"), frozenset({Scope.READ}))
    backup = await store.keys.add(new)
    rotated = await store.keys.expire(KeyId("k1"), timedelta(days=1))
    later = replace(backup, expires_at=rotated.expires_at + timedelta(days=1))
    for older in (backup, later):
        assert await store.keys.restore([older]) == 0
        assert await store.keys.get(KeyId("k1")) == rotated
    sooner = replace(backup, expires_at=rotated.expires_at - timedelta(hours=1))
    assert await store.keys.restore([sooner]) == 0
    assert await store.keys.get(KeyId("k1")) == sooner


async def test_an_import_names_the_keys_that_work_now(tmp_path: Path) -> None:
    one, other = settings(tmp_path / "a", None, "x"), settings(tmp_path / "b", None, "x")
    await fill(one)
    lines: list[bytes] = []
    await export_store(one, lines.append)
    report = await import_store(other, lines)
    assert [(key.key_id, key.owner) for key in report.usable] == [("k1", "lab ü")], "k2 is revoked"
    assert report.counts.made_at is not None
    assert datetime.now(UTC) - report.counts.made_at < timedelta(minutes=5)
    async with open_store(other) as store:
        await store.keys.revoke(KeyId("k1"))
    assert (await import_store(other, lines)).usable == [], "a store that knows of its end keeps it"


def export_of(count: int) -> list[bytes]:
    writer = ExportWriter()
    lines = [writer.begin(datetime.now(UTC), "1")]
    lines += [writer.file(entry(number)) for number in range(count)]
    return [*lines, writer.end()]


def test_what_was_altered_cut_off_reordered_or_added_is_refused_with_its_line() -> None:
    whole = export_of(5)
    assert list(read_export(whole))[:5] == [entry(number) for number in range(5)]
    altered = [line.replace(b"f00002", b"f00007") for line in whole]
    swapped = [whole[0], whole[2], whole[1], *whole[3:]]
    missing = [*whole[:3], *whole[4:]]
    cut = [*whole[:4], whole[4][:40]]
    for lines, line in (
        (altered, 4),
        (swapped, 2),
        (missing, 4),
        (cut, 5),
        (whole[:-1], 7),
        ([], 1),
        ([*whole, whole[1]], 8),
        (whole[1:], 1),
        ([b"[]\n"], 1),
        ([b"\xff\n"], 1),
        ([whole[0], b"x" * (1 << 20) + b"\n"], 2),
    ):
        with pytest.raises(DamagedExport) as refused:
            list(read_export(lines_of(io.BytesIO(b"".join(lines)))))
        assert refused.value.line == line, (refused.value, line)


def run(folder: Path, *arguments: str, text: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "GOOSEHERD_"))}
    environment["GOOSEHERD_STATE_DIR"] = str(folder)
    command = [sys.executable, "-m", "gooseherd.cli", *arguments]
    return subprocess.run(command, env=environment, input=text, capture_output=True, check=False, timeout=100)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_commands_refuse_a_damaged_file_and_leave_the_store_alone(tmp_path: Path) -> None:
    asyncio.run(fill(settings(tmp_path / "a", None, "x")))
    target = tmp_path / "kept.jsonl"
    made = run(tmp_path / "a", "export", str(target), "--json")
    assert json.loads(made.stdout) == {"files": 1501, "keys": 2}
    assert target.stat().st_mode & 0o777 == 0o600
    refused = run(tmp_path / "b", "import", "-", text=target.read_bytes()[:-2000])
    assert refused.returncode == 1
    assert b"line " in refused.stderr
    assert b"nothing was imported" in refused.stderr
    assert asyncio.run(content(settings(tmp_path / "b", None, "x"))) == ([], [])
    checked = run(tmp_path / "b", "import", str(target), "--check", "--json")
    assert json.loads(checked.stdout).items() >= {"files": 1501, "keys": 2}.items()
    for new in (1501, 0):
        done = run(tmp_path / "b", "import", str(target), "--json")
        result = json.loads(done.stdout)
        assert (result["new_files"], [key["key_id"] for key in result["usable_keys"]]) == (new, ["k1"])
    words = run(tmp_path / "c", "import", str(target)).stderr.decode()
    assert f"made at {json.loads(checked.stdout)['made_at']}" in words
    assert re.search(r"^  k1 +lab ü +for ☃$", words, re.MULTILINE)
    assert "k2" not in words
    assert asyncio.run(content(settings(tmp_path / "b", None, "x"))) == asyncio.run(
        content(settings(tmp_path / "a", None, "x"))
    )


async def test_what_documentdb_lacks_is_looked_at_one_by_one(database_url: str) -> None:
    if "retryWrites" in database_url:
        url = database_url.replace("retryWrites=false", "retryWrites=true")
    else:
        url = f"{database_url}{'&' if '?' in database_url else '/?'}retryWrites=true"
    db = connect(url, f"test_{uuid.uuid4().hex}")
    assert not await is_documentdb(db)
    well, dangers = await check_documentdb(db)
    assert any("indexes are missing" in danger.what for danger in dangers)
    assert any("retryWrites=false" in danger.remedy for danger in dangers)
    await ensure_indexes(db)
    well, dangers = await check_documentdb(db)
    listed = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", documentdb.__doc__ or "", re.MULTILINE)
    assert {name.replace("`", "") for name in listed} - {"looked at", "---"} == {*well, "no retryable writes"}
    assert [danger.remedy for danger in dangers] == ["add retryWrites=false to DATABASE_URL"]
    await db.client.close()


def test_each_aggregation_that_stores_make_is_asked_of_documentdb() -> None:
    made = {
        found
        for path in Path(documentdb.__file__).parent.glob("*.py")
        for found in re.findall(r"\.aggregate\((\w+)", path.read_text())
        if path.name != "documentdb.py"
    }
    asked = Path(documentdb.__file__).read_text().partition("AGGREGATIONS: Final")[2].partition("\n)\n")[0]
    assert made
    assert all(name in asked for name in made), made
    assert len(documentdb.AGGREGATIONS) == len(made)
