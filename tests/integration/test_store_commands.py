"""`gooseherd store`: check, vacuum and backup of a file in use, and catalogs that move to another store."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain import formats
from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.source import AccessLevel, Dcc, LocalId, Sidecar, SidecarKind, SourceFile
from gooseherd.settings import Settings
from gooseherd.store.sql import maintenance
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.sqlite import open_sqlite
from gooseherd.wiring.store import examine_store, open_store

pytestmark = pytest.mark.integration

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def entry(number: int, filename: str = "reads.bam") -> SourceFile:
    return SourceFile(
        Dcc("t"),
        LocalId(f"f{number:05}"),
        filename,
        formats.BAM,
        f"https://example.org/{number}",
        md5="0" * 32,
    )


@pytest.fixture
def store_command(tmp_path: Path) -> Command:
    """`gooseherd store` as a process, on a state folder of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "GOOSEHERD_"))}
    environment["GOOSEHERD_STATE_DIR"] = str(tmp_path / "state")

    def run(*arguments: str, text: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gooseherd.cli", "store", *arguments],
            env={**environment, **variables},
            cwd=tmp_path,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return run


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    """A store with 3,000 entries, closed."""
    path = tmp_path / "state" / "gooseherd.db"
    database = await open_sqlite(path, setting="GOOSEHERD_STATE_DIR")
    await SqlFiles(database).put([entry(number) for number in range(3000)])
    await database.close()
    return path


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


# -- check ----------------------------------------------------------------------------------------


def test_a_sound_file_is_found_sound(filled: Path, store_command: Command) -> None:
    done = store_command("check", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": str(filled), "ok": True, "findings": []}


def test_damage_is_found_and_fails_the_command(filled: Path, store_command: Command) -> None:
    with filled.open("r+b") as file:
        file.seek(filled.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    done = store_command("check", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert 0 < len(report["findings"]) <= 20
    assert "Traceback" not in done.stderr


def test_an_index_of_words_that_differs_from_the_entries_is_found(filled: Path) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None)) as database:
        database.execute("DROP TRIGGER file_words_update")
        database.execute("UPDATE files SET words = 'other' WHERE local_id = 'f00007'")
    assert any("index of words" in finding for finding in maintenance.check(filled))


def test_nothing_is_made_where_nothing_is(tmp_path: Path, store_command: Command) -> None:
    for command in (("check",), ("vacuum",), ("backup", "copy.db")):
        done = store_command(*command)
        assert done.returncode == 1
        assert "nothing was ever stored" in done.stderr
    assert not (tmp_path / "state" / "gooseherd.db").exists()
    assert not (tmp_path / "copy.db").exists()


def test_another_programs_database_is_left_alone(tmp_path: Path, store_command: Command) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE shopping (what)")
        database.commit()
    before = other.read_bytes()
    done = store_command("vacuum", DATABASE_URL=f"sqlite://{other}")
    assert (done.returncode, "another program's database" in done.stderr) == (1, True)
    assert other.read_bytes() == before


# -- vacuum ---------------------------------------------------------------------------------------


async def test_what_is_in_the_log_beside_the_file_counts_as_used_before(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    database = await open_sqlite(path, setting="GOOSEHERD_STATE_DIR")
    try:
        await SqlFiles(database).put([entry(number) for number in range(100)])
        assert path.stat().st_size < path.with_name("new.db-wal").stat().st_size
        before, after = await asyncio.to_thread(maintenance.vacuum, path)
    finally:
        await database.close()
    assert 0 < after <= before
    assert after == path.stat().st_size


async def test_the_space_of_removed_entries_is_given_back_and_searches_go_on(
    filled: Path, store_command: Command
) -> None:
    database = await open_sqlite(filled, setting="GOOSEHERD_STATE_DIR")
    files = SqlFiles(database)
    try:
        for number in range(2900):
            await files.remove(Dcc("t"), LocalId(f"f{number:05}"))
        done = await asyncio.to_thread(store_command, "vacuum", "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["bytes_after"] < report["bytes_before"] / 2
        found = await files.search(FileQuery(text="f0295", limit=50))
        assert [file.local_id for file in found.files] == [f"f0295{digit}" for digit in range(10)]
        await files.put([entry(1)])
    finally:
        await database.close()
    assert maintenance.check(filled) == []


# -- backup ---------------------------------------------------------------------------------------


async def test_a_backup_beside_a_writer_is_one_moment_and_opens(
    filled: Path, tmp_path: Path, store_command: Command
) -> None:
    database = await open_sqlite(filled, setting="GOOSEHERD_STATE_DIR")
    files, done = SqlFiles(database), asyncio.Event()

    async def write() -> int:
        number = 3000
        while not done.is_set():
            # Both or neither are in any one moment.
            await files.put([entry(number), entry(number + 1)])
            number += 2
        return number

    writer = asyncio.create_task(write())
    result = await asyncio.to_thread(store_command, "backup", "copy.db", "--json")
    done.set()
    written = await writer
    await database.close()
    assert result.returncode == 0, result.stderr
    copy = tmp_path / "copy.db"
    assert json.loads(result.stdout)["bytes"] == copy.stat().st_size
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path, "copy*") == ["copy.db"]
    assert maintenance.check(copy) == []
    restored = await open_sqlite(copy, setting="DATABASE_URL")
    try:
        count = await SqlFiles(restored).count()
    finally:
        await restored.close()
    assert 3000 <= count <= written
    assert count % 2 == 0


def test_a_backup_replaces_nothing(filled: Path, tmp_path: Path, store_command: Command) -> None:
    (tmp_path / "copy.db").write_text("precious")
    done = store_command("backup", "copy.db")
    assert (done.returncode, "is there already" in done.stderr) == (1, True)
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_backup_that_has_no_folder_fails_in_words(filled: Path, store_command: Command) -> None:
    done = store_command("backup", "nowhere/copy.db")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "command", "theirs"),
    [
        ("postgresql://u:s3cret@127.0.0.1:9/x", "backup", "pg_dump"),
        ("postgresql://u:s3cret@127.0.0.1:9/x", "check", "pg_amcheck"),
        ("mongodb://u:s3cret@127.0.0.1:9/", "backup", "mongodump"),
        ("mongodb://u:s3cret@127.0.0.1:9/", "vacuum", "compact"),
    ],
)
def test_of_a_server_the_vendors_own_command_is_named(
    store_command: Command, url: str, command: str, theirs: str
) -> None:
    done = store_command(command, *(["copy"] if command == "backup" else []), DATABASE_URL=url)
    assert done.returncode == 2
    assert theirs in done.stderr
    assert "s3cret" not in done.stderr


# -- moving between stores ------------------------------------------------------------------------


@pytest.fixture
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An empty store of the other kinds: URL and database."""
    name = f"test_{uuid.uuid4().hex}"
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/other.db", name
    elif request.param == "mongo":
        yield request.getfixturevalue("database_url"), name
    else:
        server = request.getfixturevalue("postgres")
        server.sql(f"CREATE DATABASE {name}")
        yield server.url(name), name
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("other_url", ["sqlite", "postgresql", "mongo"], indirect=True)
async def test_a_catalog_moves_to_another_store_and_back_unchanged(
    tmp_path: Path, store_command: Command, other_url: tuple[str, str]
) -> None:
    catalog = [
        *(entry(number) for number in range(1500)),
        SourceFile(
            Dcc("a-b"), LocalId("x:1~y"), "größe \u2028 αβ.vcf.gz", formats.VCF,
            "https://example.org/ü?x=1", sha256="a" * 64, size_in_bytes=2**53 + 1, version_tag='W/"1"',
            access_level=AccessLevel.PROTECTED, status="withdrawn",
            sidecars=(Sidecar(SidecarKind.TBI, "https://example.org/t.tbi", 7),),
        ),
    ]  # fmt: skip
    here = Settings(gooseherd_state_dir=tmp_path / "state", database_url=None)
    async with open_store(here) as store:
        await store.files.put(catalog)
    url, name = other_url
    other = {"DATABASE_URL": url, "DATABASE_NAME": name}
    moves: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("export", "one.jsonl"), {}),
        (("import", "one.jsonl", "--json"), other),
        (("export", "two.jsonl"), other),
    ]
    for arguments, variables in moves:
        done = await asyncio.to_thread(store_command, *arguments, **variables)
        assert done.returncode == 0, done.stderr
        if arguments[0] == "import":
            assert json.loads(done.stdout) == {"imported": 1501, "new": 1501}
    one, two = ((tmp_path / f"{name}.jsonl").read_text() for name in ("one", "two"))
    assert one == two
    assert [SourceFile.from_json(json.loads(line)) for line in one.split("\n")[:-1]] == sorted(
        catalog, key=lambda entry: (entry.dcc, entry.local_id)
    )


def test_an_import_names_the_line_that_is_no_entry(store_command: Command) -> None:
    good = json.dumps(entry(1).to_json())
    for bad, words in (("{", "not JSON"), ("[]", "must be a JSON object"), ('{"dcc": "t"}', "access_url")):
        done = store_command("import", "-", text=f"{good}\n\n{bad}\n")
        assert done.returncode == 1
        assert "line 3: " in done.stderr
        assert words in done.stderr


def test_a_failed_export_leaves_no_file(tmp_path: Path, store_command: Command) -> None:
    done = store_command(
        "export", "x.jsonl", DATABASE_URL="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=200"
    )
    assert done.returncode == 1
    assert not (tmp_path / "x.jsonl").exists()


# -- what doctor is told --------------------------------------------------------------------------


async def test_of_a_file_its_version_settings_and_place_are_reported(filled: Path, tmp_path: Path) -> None:
    found = await examine_store(Settings(gooseherd_state_dir=tmp_path / "state", database_url=None))
    assert (found.product, found.version, found.dangers) == ("SQLite", sqlite3.sqlite_version, ())
    assert {"journal wal", "synchronous FULL"} <= set(found.details)
    assert any(detail.startswith("file system ") for detail in found.details)
    with closing(sqlite3.connect(filled)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    found = await examine_store(Settings(gooseherd_state_dir=tmp_path / "state", database_url=None))
    assert [danger.what.partition(":")[0] for danger in found.dangers] == ["journal mode delete"]


async def test_examining_makes_nothing(tmp_path: Path) -> None:
    found = await examine_store(Settings(gooseherd_state_dir=tmp_path / "state", database_url=None))
    assert "will be made at the first start" in str(found)
    assert names_in(tmp_path) == []


async def test_of_postgresql_what_loses_acknowledged_writes_is_a_danger(postgres: Any) -> None:
    name = f"test_{uuid.uuid4().hex}"
    postgres.sql(f"CREATE DATABASE {name}")
    try:
        found = await examine_store(Settings(database_url=postgres.url(name)))
        assert found.product == "PostgreSQL"
        # The tests' own server is fast and not durable.
        assert [danger.remedy for danger in found.dangers] == ["fsync = on"]
        assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == "0"
        with pytest.raises(StoreUnavailable):
            await examine_store(Settings(database_url="postgresql://127.0.0.1:9/x"))
    finally:
        postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_of_mongodb_its_kind_and_a_weak_url_are_reported(database_url: str) -> None:
    weak = database_url.replace("w=majority&journal=true", "w=1&journal=false")
    found = await examine_store(Settings(database_url=weak))
    assert found.product == "MongoDB"
    assert any(danger.remedy == "w=majority&journal=true" for danger in found.dangers)
