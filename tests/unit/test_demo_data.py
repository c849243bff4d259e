"""The manifest of the demo's real files, and the script that fetches them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gooseherd.domain import formats

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "demo-data.json").read_text(encoding="utf-8")
MANIFEST = json.loads(TEXT)
FILES = [pytest.param(entry, id=entry["id"]) for entry in MANIFEST["files"]]
PACKAGES = [pytest.param(package, id=package["name"]) for package in MANIFEST["packages"]]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_demo_data", DEPLOY / "fetch_demo_data.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("entry", FILES)
def test_every_file_is_pinned_by_content_and_has_a_known_format(entry: dict[str, Any]) -> None:
    assert set(entry) == {
        "id", "package", "member", "file", "format", "size", "md5", "description", "unsorted", "region",
        "records",
    }  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{32}", entry["md5"])
    assert 0 < entry["size"] < 20_000_000
    assert re.fullmatch(r"[\w.]+", entry["file"])
    assert not entry["member"].startswith("/")
    assert ".." not in Path(entry["member"]).parts
    known = formats.resolve(entry["format"])
    assert known is not None
    assert known.name == entry["format"]


@pytest.mark.parametrize("entry", FILES)
def test_every_region_can_be_asked_for_and_holds_records_when_they_are_counted(entry: dict[str, Any]) -> None:
    if entry["records"] is not None:
        assert entry["region"]
        assert entry["records"] > 0
    if entry["region"] is not None:
        match = re.fullmatch(r"\w+:(\d+)-(\d+)", entry["region"])
        assert match
        assert 1 <= int(match[1]) <= int(match[2])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_pinned_as_far_as_its_kind_allows(package: dict[str, Any]) -> None:
    if package["kind"] == "wheel":
        assert re.fullmatch(r"[0-9a-f]{64}", package["sha256"])
        assert re.fullmatch(r"[\d.]+", package["version"])
    else:
        assert package["kind"] == "debian"
        assert package["version"] == "any"


def test_ids_and_files_are_unique_and_every_package_is_used() -> None:
    ids = [entry["id"] for entry in MANIFEST["files"]]
    files = [entry["file"] for entry in MANIFEST["files"]]
    assert len(set(ids)) == len(ids)
    assert len(set(files)) == len(files)
    used = {entry["package"] for entry in MANIFEST["files"]}
    assert used == {package["name"] for package in MANIFEST["packages"]}


def test_the_manifest_names_no_host() -> None:
    assert not re.search(r"://|\b[\w-]+\.(?:org|com|net|io)\b", TEXT)


def test_the_demo_covers_every_kind_of_work() -> None:
    unsorted = {entry["format"] for entry in MANIFEST["files"] if entry["unsorted"]}
    assert unsorted & {"bam", "sam"}
    assert "bed" in unsorted
    assert {entry["format"] for entry in MANIFEST["files"]} >= {
        "bam", "sam", "vcf", "bcf", "gff3", "gtf", "bed", "narrowpeak", "bigbed", "bigwig", "tsv",
    }  # fmt: skip


class Packages:
    """A manifest of one wheel with one file, and what stands in for pip."""

    def __init__(self, root: Path, content: bytes, promised: bytes) -> None:
        self.wheel = root / "toy-1-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("toy/reads.bed", content)
        self.manifest = root / "demo-data.json"
        digest = hashlib.md5(promised, usedforsecurity=False).hexdigest()
        entry = {"id": "reads", "package": "toy", "member": "toy/reads.bed", "file": "reads.bed"}
        entry |= {"size": len(promised), "md5": digest}  # type: ignore[dict-item]
        package = {"name": "toy", "kind": "wheel", "version": "1", "sha256": "0" * 64}
        self.manifest.write_text(json.dumps({"packages": [package], "files": [entry]}))
        self.downloads = 0

    def run(self, command: list[str], cwd: Path, complaint: str, advice: str) -> None:
        self.downloads += 1
        (cwd / self.wheel.name).write_bytes(self.wheel.read_bytes())


def install(packages: Packages, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "MANIFEST", packages.manifest)
    monkeypatch.setattr(script, "run", packages.run)


def test_a_second_run_downloads_nothing(
    tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = Packages(tmp_path, b"chr1\t1\t2\n", b"chr1\t1\t2\n")
    install(packages, script, monkeypatch)
    folder = tmp_path / "data"

    assert [script.main([str(folder)]), script.main([str(folder)])] == [0, 0]

    assert packages.downloads == 1
    assert (folder / "reads.bed").read_bytes() == b"chr1\t1\t2\n"
    assert (folder / "demo-data.json").read_bytes() == packages.manifest.read_bytes()


def test_a_damaged_file_is_fetched_again_and_a_stranger_removed(
    tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = Packages(tmp_path, b"chr1\t1\t2\n", b"chr1\t1\t2\n")
    install(packages, script, monkeypatch)
    folder = tmp_path / "data"
    script.main([str(folder)])
    (folder / "reads.bed").write_bytes(b"chr1\t1\t3\n")
    (folder / "old.bed").write_bytes(b"")
    (folder / "demo-data.json").unlink()

    assert script.main([str(folder)]) == 0

    assert (folder / "reads.bed").read_bytes() == b"chr1\t1\t2\n"
    assert not (folder / "old.bed").exists()


def test_content_other_than_promised_is_refused_by_name(
    tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = Packages(tmp_path, b"chr1\t1\t3\n", b"chr1\t1\t2\n")
    install(packages, script, monkeypatch)
    folder = tmp_path / "data"

    assert script.main([str(folder)]) == script.EXIT_UNAVAILABLE

    assert not (folder / "reads.bed").exists()
    assert not (folder / "demo-data.json").exists()
    assert "reads: toy does not hold the expected toy/reads.bed" in capsys.readouterr().err
