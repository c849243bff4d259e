"""Names that people type, and names made for them."""

import hashlib
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.cli.catalog_entry import describe
from gooseherd.cli.connection import split_name
from gooseherd.cli.jobs import job_id
from gooseherd.cli.outcome import CommandError, Exit
from gooseherd.domain.local_ids import id_for
from gooseherd.domain.source import parse_local_id


@pytest.mark.parametrize(
    ("filename", "local_id"),
    [
        ("reads.bam", "reads.bam"),
        ("my reads (1).bam", "my-reads-1-.bam"),
        ("..hidden..bed", "hidden.bed"),
        ("ünïcode.vcf.gz", "n-code.vcf.gz"),
        ("-x", "x"),
        ("§§", "file"),
        ("ce#1000.sam", "ce-1000.sam"),
    ],
)
def test_an_id_is_made_of_the_file_name(filename: str, local_id: str) -> None:
    assert id_for(filename) == local_id


@given(st.text(max_size=400))
def test_every_file_name_gives_an_id_the_catalog_takes(filename: str) -> None:
    assert parse_local_id(id_for(filename)) == id_for(filename)


@pytest.mark.parametrize(
    "name",
    [
        *("local/reads", "/data/local/reads", "http://host:1/index/local/reads", "data/local/reads"),
        *("http://host:1/files/local/reads/", "http://host:1/files/local/reads/reads.bam"),
        *("LOCAL/reads", "http://host:1/data/local/%72eads"),
    ],
)
def test_a_file_can_be_named_by_its_name_or_its_url(name: str) -> None:
    assert split_name(name) == ("local", "reads")


@pytest.mark.parametrize(
    "name", ["reads", "a/b/c", "/", "local/", "local/*", "./reads.bam", "http://host/jobs"]
)
def test_what_names_no_file_is_a_usage_error(name: str) -> None:
    with pytest.raises(CommandError) as stop:
        split_name(name)
    assert stop.value.code is Exit.USAGE
    assert "write DCC/ID" in stop.value.message


@pytest.mark.parametrize("text", ["abc", "/jobs/abc", "http://h/jobs/abc/", "http://h/jobs/abc/events"])
def test_a_job_can_be_named_by_its_id_or_its_url(text: str) -> None:
    assert job_id(text) == "abc"


def test_a_local_file_is_described_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a b.bed"
    path.write_bytes(b"chr1\t1\t2\n")
    entry = describe(str(path))
    assert entry["access_url"] == f"file://{tmp_path}/a%20b.bed"
    assert entry["md5"] == hashlib.md5(b"chr1\t1\t2\n").hexdigest()
    assert (entry["size_in_bytes"], entry["file_format"], entry["filename"]) == (9, "bed", "a b.bed")


def test_without_a_digest_the_time_of_change_stands_in(tmp_path: Path) -> None:
    path = tmp_path / "a.bed"
    path.touch()
    entry = describe(str(path), digest=False)
    assert entry["md5"] is None
    assert entry["version_tag"] == f"mtime-{path.stat().st_mtime_ns}"


@pytest.mark.parametrize(
    ("url", "filename", "file_format"),
    [
        ("https://h/x/a%20b.vcf.gz?sig=1", "a b.vcf.gz", "vcf"),
        ("s3://bucket/key.bam", "key.bam", "bam"),
    ],
)
def test_an_address_is_taken_as_it_is(url: str, filename: str, file_format: str) -> None:
    entry = describe(url)
    assert (entry["access_url"], entry["filename"], entry["file_format"]) == (url, filename, file_format)
    assert entry["md5"] is None


def test_the_format_can_be_said(tmp_path: Path) -> None:
    assert describe("drs://host/abc", file_format="format_2572")["file_format"] == "bam"


@pytest.mark.parametrize(
    "source", ["ftp://h/a.bam", "https://h/a.unknown", "/no/such/file.bam", "/", "https://h/a.bam.exe"]
)
def test_what_cannot_be_added_is_a_usage_error(source: str) -> None:
    with pytest.raises(CommandError) as stop:
        describe(source)
    assert stop.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("arguments", "roots"),
    [
        (["--allow-root"], [Path()]),
        (["--allow-root", "--json"], [Path()]),
        (["--port", "0", "--allow-root", "a", "--allow-root"], [Path("a"), Path()]),
        (["--allow-root=a"], [Path("a")]),
        ([], None),
    ],
)
def test_allow_root_without_a_folder_means_here(
    arguments: list[str], roots: list[Path] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def read_settings(*, allow_roots: list[Path], **_: object) -> NoReturn:
        seen.append(allow_roots)
        raise SystemExit

    monkeypatch.setattr("gooseherd.cli.up.read_settings", read_settings)
    monkeypatch.setenv("DATABASE_URL", "mongodb://h")  # or the folder one stands in is the default
    CliRunner().invoke(app, ["up", *arguments])
    assert seen == [roots or []]
