"""A C2M2 data package becomes the catalog: what is taken and skipped, the next version, and what is gone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gooseherd.cli import c2m2_import
from gooseherd.cli.c2m2 import C2m2Package, NoPackage
from gooseherd.cli.c2m2_import import import_package
from gooseherd.cli.outcome import CommandError
from gooseherd.client import GooseherdClient
from gooseherd.domain.source import AccessLevel

pytestmark = pytest.mark.integration

NAMESPACE = "https://data.4dnucleome.org"
COLUMNS = [
    "id_namespace",
    "local_id",
    "project_id_namespace",
    "project_local_id",
    "persistent_id",
    "creation_time",
    "size_in_bytes",
    "uncompressed_size_in_bytes",
    "sha256",
    "md5",
    "filename",
    "file_format",
    "compression_format",
    "data_type",
    "assay_type",
    "analysis_type",
    "mime_type",
    "bundle_collection_id_namespace",
    "bundle_collection_local_id",
    "dbgap_study_id",
    "access_url",
]
DCC = [
    "id",
    "dcc_name",
    "dcc_abbreviation",
    "dcc_description",
    "contact_email",
    "contact_name",
    "dcc_url",
    "project_id_namespace",
    "project_local_id",
]


def row(local_id: str, **fields: str) -> dict[str, str]:
    return {
        "id_namespace": NAMESPACE,
        "local_id": local_id,
        "size_in_bytes": "1000",
        "md5": f"{abs(hash(local_id)) % 16**32:032x}",
        "filename": f"{local_id}.bam",
        "file_format": "format:2572",
        "data_type": "data:1234",
        "access_url": f"https://files.example.org/{local_id}.bam",
        **fields,
    }


def table(columns: Sequence[str], rows: list[dict[str, str]]) -> str:
    return "".join(
        "\t".join(cells) + "\n"
        for cells in (columns, *([one.get(name, "") for name in columns] for one in rows))
    )


def write(folder: Path, rows: list[dict[str, str]], members: list[tuple[str, str]] = []) -> Path:  # noqa: B006
    """With the tables and the descriptor that a submission has."""
    folder.mkdir(exist_ok=True)
    tables = {
        "file": table(COLUMNS, rows),
        "dcc": table(
            DCC,
            [
                {
                    "id": "cfde_registry_dcc:4dn",
                    "dcc_name": "4D Nucleome",
                    "dcc_abbreviation": "4DN",
                    "contact_email": "a@example.org",
                    "dcc_url": "https://example.org",
                    "project_id_namespace": NAMESPACE,
                    "project_local_id": "4DN",
                }
            ],
        ),
        "collection": table(["id_namespace", "local_id", "name"], []),
        "file_in_collection": table(
            ["file_id_namespace", "file_local_id", "collection_id_namespace", "collection_local_id"],
            [
                {
                    "file_id_namespace": NAMESPACE,
                    "file_local_id": file,
                    "collection_id_namespace": NAMESPACE,
                    "collection_local_id": collection,
                }
                for file, collection in members
            ],
        ),
    }
    resources = [
        {
            "name": name,
            "path": f"{name}.tsv",
            "profile": "tabular-data-resource",
            "format": "tsv",
            "dialect": {"header": True, "csv": {"delimiter": "\t", "doubleQuote": False}},
        }
        for name in tables
    ]
    descriptor = {"name": "table_schema_specs", "profile": "tabular-data-package", "resources": resources}
    (folder / "C2M2_datapackage.json").write_text(json.dumps(descriptor))
    for name, text in tables.items():
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(folder.iterdir()):
            made.write(path, f"2026_03_C2M2/{path.name}")
    return target


async def bring(town: Any, source: Path, **options: Any) -> dict[str, Any]:
    given = {
        "dcc": None,
        "name": None,
        "collection": None,
        "remove": True,
        "remove_many": False,
        "dry_run": False,
        **options,
    }

    def call() -> dict[str, Any]:
        with GooseherdClient(town.url, "the-admin-key") as client:
            return import_package(client, source, **given)

    return await asyncio.to_thread(call)


async def names(town: Any) -> list[str]:
    listed = await town.http.get("/files", params={"limit": 200}, headers={"X-API-Key": "the-admin-key"})
    return [one["local_id"] for one in listed.json()["files"]]


async def test_rows_become_entries_and_what_is_left_out_is_counted_with_why(
    town: Any, tmp_path: Path
) -> None:
    rows = [
        row("F1"),
        row("F2", file_format="format:3003", filename="peaks/x.bed.gz", dbgap_study_id="phs000001"),
        row("F3", access_url="", persistent_id="drs://example.org/abc", file_format="", filename="x.vcf.gz"),
        row("F4", access_url="", persistent_id="doi:10.1/x"),
        row("F5", file_format="format:3475", filename="page.tsv"),
        row("F6", file_format="format:1915", filename="readme"),
        row("F7", md5="xyz"),
        row("F8", size_in_bytes="many"),
        row("a/b c"),
        row("F9", id_namespace="https://elsewhere.example.org"),
        row("F1"),
    ]
    counts = await bring(town, zipped(write(tmp_path / "p", rows), tmp_path / "p.zip"))
    assert (counts["package"], counts["dcc"]) == ("c2m2 cfde_registry_dcc:4dn", "4dn")
    assert counts["rows_taken"] == counts["new_or_changed"] == 6
    assert counts["renamed"] == 2
    assert counts["failed"] == counts["removed"] == 0
    assert sum(counts["skipped"].values()) == len(rows) - 6
    assert counts["skipped"]["format format:1915"] == 1
    assert any(reason.startswith("no address") for reason in counts["skipped"])
    found = await names(town)
    assert {"F1", "F2", "F3", "F5"} <= set(found)
    assert sorted(name.rpartition("-")[0] for name in found if "-" in name) == ["F9", "a_b_c"]
    entry = await town.files.get("4dn", "F2")
    assert (entry.file_format.name, entry.filename) == ("bed", "x.bed.gz")
    assert entry.access_level is AccessLevel.PROTECTED
    assert entry.package == "c2m2 cfde_registry_dcc:4dn"
    assert (await town.files.get("4dn", "F3")).access_url == "drs://example.org/abc"
    of_package = {"package": entry.package, "limit": 200}
    listed = await town.http.get("/files", params=of_package, headers={"X-API-Key": "the-admin-key"})
    assert len(listed.json()["files"]) == 6


async def test_the_next_version_stores_changes_and_removes_only_what_was_its_own(
    town: Any, tmp_path: Path
) -> None:
    mine = await town.register(local_id="mine", dcc="4dn")
    taken = await town.register(local_id="F3", dcc="4dn")
    rows = [row(f"F{number}") for number in range(20)]
    first = await bring(town, write(tmp_path / "p", rows))
    assert first["new_or_changed"] == 19
    assert first["skipped"] == {"its id is that of an entry from elsewhere, which stays": 1}
    again = await bring(town, tmp_path / "p")
    assert (again["unchanged"], again["new_or_changed"], again["removed"]) == (19, 0, 0)
    rows = [row(f"F{number}") for number in range(2, 21)]
    rows[0] = row("F2", md5="0" * 32)
    write(tmp_path / "p", rows)
    tried = await bring(town, tmp_path / "p", dry_run=True)
    assert (tried["unchanged"], tried["new_or_changed"], tried["removed"]) == (16, 2, 2)
    assert "F0" in await names(town)
    second = await bring(town, tmp_path / "p")
    assert (second["unchanged"], second["new_or_changed"], second["removed"]) == (16, 2, 2)
    assert not {"F0", "F1"} & set(await names(town))
    assert (await town.files.get("4dn", "F2")).md5 == "0" * 32
    assert await town.files.get("4dn", "mine") == mine
    assert await town.files.get("4dn", "F3") == taken


async def test_half_a_package_removes_nothing_unless_told(town: Any, tmp_path: Path) -> None:
    await bring(town, write(tmp_path / "p", [row(f"F{number}") for number in range(30)]))
    write(tmp_path / "p", [row("F0"), row("new")])
    with pytest.raises(CommandError, match="29 of 30"):
        await bring(town, tmp_path / "p")
    assert len(await names(town)) == 30
    kept = await bring(town, tmp_path / "p", remove=False)
    assert (kept["new_or_changed"], kept["removed"]) == (1, 0)
    gone = await bring(town, tmp_path / "p", remove_many=True)
    assert gone["removed"] == 29
    assert await names(town) == ["F0", "new"]


async def test_a_table_that_cannot_be_read_to_its_end_changes_nothing(town: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "p", [row("F1"), row("F2")])
    text = (folder / "file.tsv").read_text()
    (folder / "file.tsv").write_text(text[:-40])
    with pytest.raises(CommandError, match="line 3 has"):
        await bring(town, folder)
    assert await names(town) == []


async def test_only_the_files_of_a_collection_are_taken(town: Any, tmp_path: Path) -> None:
    members = [("F1", "C1"), ("F2", "C1"), ("F3", "C2")]
    folder = write(tmp_path / "p", [row(f"F{number}") for number in range(5)], members)
    counts = await bring(town, folder, collection="C1", dcc="lab", name="mine")
    assert (counts["rows_taken"], counts["package"], counts["dcc"]) == (2, "mine", "lab")
    assert await names(town) == ["F1", "F2"]
    with pytest.raises(CommandError, match="no file is in the collection"):
        await bring(town, folder, collection="C9")


async def test_a_collection_removes_nothing_of_another_one_or_of_the_whole(town: Any, tmp_path: Path) -> None:
    members = [("F1", "A"), ("F2", "B")]
    folder = write(tmp_path / "p", [row(f"F{number}") for number in range(4)], members)
    await bring(town, folder, collection="A")
    assert (await bring(town, folder, collection="B"))["removed"] == 0
    assert await names(town) == ["F1", "F2"]
    await bring(town, folder)
    tried = await bring(town, folder, collection="B", dry_run=True)
    assert (tried["unchanged"], tried["removed"]) == (1, 0)
    await bring(town, folder, collection="B", remove_many=True)
    assert await names(town) == ["F0", "F1", "F2", "F3"]


async def test_a_row_that_cannot_be_taken_this_time_is_not_gone(town: Any, tmp_path: Path) -> None:
    rows = [row("F1"), row("F2"), row("F3"), row("F4"), row("a/b")]
    await bring(town, write(tmp_path / "p", rows))
    before = await names(town)
    rows = [
        row("F1", size_in_bytes="many"),
        row("F2", file_format="format:1915", filename="F2"),
        row("F3", access_url=""),
        row("a/b", md5="xyz"),
    ]
    counts = await bring(town, write(tmp_path / "p", rows))
    assert (counts["rows_taken"], counts["removed"], counts["renamed"]) == (0, 1, 0)
    assert await names(town) == [name for name in before if name != "F4"]


async def test_an_entry_that_is_registered_anew_while_the_import_runs_stays(
    town: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bring(town, write(tmp_path / "p", [row(f"F{number}") for number in range(4)]))
    write(tmp_path / "p", [row("F0"), row("new")])
    import_files, loop = GooseherdClient.import_files, asyncio.get_running_loop()

    def while_somebody_registers(client: GooseherdClient, lines: Any) -> Any:
        others = town.register(local_id="F1", dcc="4dn"), changed(town, "F2", md5="1" * 32)
        for one in others:
            asyncio.run_coroutine_threadsafe(one, loop).result(30)
        return import_files(client, lines)

    monkeypatch.setattr(GooseherdClient, "import_files", while_somebody_registers)
    counts = await bring(town, tmp_path / "p")
    assert counts["removed"] == 1
    assert counts["skipped"] == {"it is not in the package, but was changed meanwhile: it stays": 2}
    assert await names(town) == ["F0", "F1", "F2", "new"]


async def changed(town: Any, local_id: str, **fields: Any) -> None:
    await town.files.put([replace(await town.files.get("4dn", local_id), **fields)])


def test_what_is_no_package_is_refused_with_words(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    outside = write(tmp_path / "outside", [row("F1")])
    descriptor = (outside / "C2M2_datapackage.json").read_text()
    (outside / "C2M2_datapackage.json").write_text(descriptor.replace("file.tsv", "../file.tsv", 1))
    text = tmp_path / "x.zip"
    text.write_text("no zip")
    nameless = write(tmp_path / "nameless", [row("F1")])
    (nameless / "dcc.tsv").unlink()
    for source, words in (
        (empty, "has no datapackage.json"),
        (outside, "outside"),
        (text, "cannot be read"),
        (tmp_path / "none", "no such folder"),
        (nameless, "give --dcc"),
    ):
        with pytest.raises(NoPackage, match=words):
            C2m2Package(source)


class _Lost(Exception):
    """The connection broke."""


def breaking(monkeypatch: pytest.MonkeyPatch, name: str, after: int, *, lost_answer: bool = False) -> None:
    """Let the client's call of that name work so often, and break then: before the request, or after it."""
    call, calls = getattr(GooseherdClient, name), iter(range(1 << 30))

    def limited(client: GooseherdClient, *given: Any, **options: Any) -> Any:
        if next(calls) < after:
            return call(client, *given, **options)
        if lost_answer:
            call(client, *given, **options)
        raise _Lost

    monkeypatch.setattr(GooseherdClient, name, limited)


@pytest.mark.parametrize("lost_answer", [False, True])
async def test_an_import_that_broke_off_while_it_stored_is_finished_by_the_same_command(
    town: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, lost_answer: bool
) -> None:
    monkeypatch.setattr(c2m2_import, "_AT_ONCE", 5)
    folder = write(tmp_path / "p", [row(f"F{number:02}") for number in range(20)])
    with monkeypatch.context() as broken:
        breaking(broken, "import_files", 2, lost_answer=lost_answer)
        with pytest.raises(_Lost):
            await bring(town, folder)
    assert "broken off: 10 entries were stored and 0 removed" in capfd.readouterr().err
    stored = 15 if lost_answer else 10
    assert len(await names(town)) == stored
    counts = await bring(town, folder)
    assert (counts["unchanged"], counts["new_or_changed"], counts["removed"]) == (stored, 20 - stored, 0)
    assert len(await names(town)) == 20
    assert (await bring(town, folder))["unchanged"] == 20


@pytest.mark.parametrize("lost_answer", [False, True])
async def test_an_import_that_broke_off_while_it_removed_is_finished_by_the_same_command(
    town: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, lost_answer: bool
) -> None:
    await bring(town, write(tmp_path / "p", [row(f"F{number:02}") for number in range(20)]))
    folder = write(tmp_path / "p", [row(f"F{number:02}") for number in range(4, 21)])
    with monkeypatch.context() as broken:
        breaking(broken, "remove", 1, lost_answer=lost_answer)
        with pytest.raises(_Lost):
            await bring(town, folder)
    assert "broken off: 1 entries were stored and 1 removed" in capfd.readouterr().err
    left = 2 if lost_answer else 3
    assert len(await names(town)) == 17 + left
    counts = await bring(town, folder)
    assert (counts["unchanged"], counts["new_or_changed"], counts["removed"]) == (17, 0, left)
    assert await names(town) == [f"F{number:02}" for number in range(4, 21)]


async def test_an_import_that_broke_off_before_it_stored_has_changed_nothing(
    town: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bring(town, write(tmp_path / "p", [row("F1"), row("F2")]))
    folder = write(tmp_path / "p", [row("F2"), row("F3")])
    with monkeypatch.context() as broken:
        breaking(broken, "files", 0)
        with pytest.raises(_Lost):
            await bring(town, folder)
    assert await names(town) == ["F1", "F2"]
    counts = await bring(town, folder)
    assert (counts["unchanged"], counts["new_or_changed"], counts["removed"]) == (1, 1, 1)


async def test_an_import_that_was_killed_leaves_no_file_and_is_finished_by_the_same_command(
    town: Any, tmp_path: Path
) -> None:
    folder, temporary = write(tmp_path / "p", [row(f"F{n:05}") for n in range(12_000)]), tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "gooseherd.cli", "files", "import", "--c2m2", str(folder), "--json"]
    environment = {
        **os.environ, "GOOSEHERD_URL": town.url, "API_ADMIN_KEY": "the-admin-key", "TMPDIR": str(temporary),
        "SQLITE_TMPDIR": str(temporary),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    while not await names(town) and process.returncode is None:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)
    if process.returncode is None:
        process.kill()
    await process.communicate()
    assert list(temporary.iterdir()) == []
    again = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    output, _ = await again.communicate()
    counts = json.loads(output)
    assert counts["unchanged"] > 0
    assert counts["unchanged"] + counts["new_or_changed"] == counts["rows_taken"] == 12_000
    assert (counts["failed"], counts["removed"]) == (0, 0)


PEAK = """
import sys
from pathlib import Path
from gooseherd.cli import c2m2_import
from gooseherd.cli.c2m2 import C2m2Package
from gooseherd.cli.c2m2_import import PackageImport

class Empty:
    def files(self, **given):
        return iter(())

def run(folder, collection):
    with C2m2Package(Path(folder)) as package:
        work = PackageImport(Empty(), package)
        work.run(collection, remove=True, remove_many=False, dry_run=True)
        return work.counts["new_or_changed"]

def peak():
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) << 10

run(sys.argv[1], "C")
before = peak()
print(run(sys.argv[2], None), run(sys.argv[2], "C"))
print(peak() - before)
"""


@pytest.mark.parametrize(
    "count", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)], ids=["quick", "a million"]
)
def test_memory_does_not_grow_with_the_package(tmp_path: Path, count: int) -> None:
    small = write(tmp_path / "small", [row("F1")], [("F1", "C")])
    large = write(tmp_path / "large", [row("F1")], [("F1", "C")])
    with (large / "file.tsv").open("a") as files, (large / "file_in_collection.tsv").open("a") as members:
        for number in range(2, count + 1):
            one = row(f"FILE{number:040}")
            files.write("\t".join(one.get(name, "") for name in COLUMNS) + "\n")
            members.write(f"{NAMESPACE}\t{one['local_id']}\t{NAMESPACE}\tC\n")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large)], capture_output=True, check=True, text=True
    )
    counts, grown = done.stdout.splitlines()
    assert counts == f"{count} {count}"
    assert int(grown) < 8 << 20
