"""`gooseherd add` against a service that keeps what it is given."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.cli.adding import Adding


class Shelf:
    """A catalog behind the test's HTTP server."""

    def __init__(self, service: Any, reply: Any) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.refuse: str = ""
        self._said = reply
        service.answer = self.answer

    def answer(self, asked: Any) -> Any:
        path = asked.path.split("?")[0]
        self.calls.append(f"{asked.method} {path}")
        if asked.method == "POST":
            entries = [json.loads(line) for line in asked.body.splitlines()]
            errors = [
                {"line": at, "field": "access_url", "problem": "outside"}
                for at, entry in enumerate(entries, 1)
                if self.refuse and self.refuse in entry["access_url"]
            ]
            if errors and path == "/files":
                problem = {"type": "/problems/invalid-input", "detail": "outside", "field": "access_url"}
                return self._said(422, problem)
            bad = {error["line"] for error in errors}
            for at, entry in enumerate(entries, 1):
                if at not in bad:
                    self.entries[f"{entry['dcc']}/{entry['local_id']}"] = entry
            good = len(entries) - len(bad)
            counts = {"imported": good, "new": good, "failed": len(bad), "errors": errors}
            return self._said(200 if good else 422, counts)
        known = self.entries.get(path.removeprefix("/files/"))
        return self._said(200, known) if known else self._said(404, {"title": "Not found"})


@pytest.fixture
def catalog(service: Any, reply: Any) -> Shelf:
    return Shelf(service, reply)


@pytest.fixture
def add(catalog: Shelf, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("GOOSEHERD_URL", service.url)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path / "state"))

    def run(*arguments: str, given: bytes | None = None) -> Any:
        return CliRunner().invoke(app, ["add", *arguments], input=given, prog_name="gooseherd")

    return run


@pytest.fixture
def local_service(service: Any, tmp_path: Path) -> Path:
    """The service is one of this machine's."""
    state = tmp_path / "state"
    state.mkdir()
    result = {"url": service.url, "pid": os.getpid(), "profile": "embedded"}
    (state / "server.json").write_text(json.dumps(result))
    return state


def put(*names: str, content: str = "") -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content or name)


def test_a_folder_is_added_with_all_below_it(add: Any, catalog: Shelf) -> None:
    put("d/a.bed", "d/x/b.vcf", "d/readme", "d/.hidden.bed")
    result = add("d")
    assert (result.exit_code, result.stdout) == (0, "local/a.bed\nlocal/b.vcf\n")
    assert catalog.entries["local/b.vcf"]["md5"] == hashlib.md5(b"d/x/b.vcf").hexdigest()
    assert "left out d/readme: no known format" in result.stderr
    assert "left out d/.hidden.bed: hidden" in result.stderr
    assert [call for call in catalog.calls if call.startswith("POST")] == ["POST /files/import"]


def test_the_second_time_nothing_is_read_or_written(
    add: Any, catalog: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("d/a.bed", "d/b.bed")
    add("d")
    catalog.calls.clear()
    monkeypatch.setattr("gooseherd.cli.adding.md5_of", lambda *_: pytest.fail("it was read again"))
    result = add("d", "--json")
    assert [one["result"] for one in json.loads(result.stdout)["added"]] == ["unchanged"] * 2
    assert not [call for call in catalog.calls if call.startswith("POST")]


def test_a_digest_that_is_known_stays_with_who_reads_none(add: Any, catalog: Shelf) -> None:
    """As `view` does: with a weaker identity all that was prepared would be made again."""
    put("a.bed")
    add("a.bed")
    assert "unchanged" in add("a.bed", "--no-digest").stderr
    assert catalog.entries["local/a.bed"]["md5"]
    put("a.bed", content="other bytes")
    assert "replaced local/a.bed: its content, " in add("a.bed", "--no-digest").stderr
    assert catalog.entries["local/a.bed"]["md5"] is None
    assert "replaced local/a.bed: its md5 is known now\n" in add("a.bed").stderr


def test_a_second_add_says_what_it_did(add: Any, catalog: Shelf) -> None:
    put("a.bed")
    assert "added local/a.bed (bed)\n" in add("a.bed").stderr
    assert "local/a.bed is in the catalog already, unchanged\n" in add("a.bed").stderr
    put("a.bed", content="other")
    os.utime("a.bed", (1, 1))
    assert "replaced local/a.bed: its content and " in add("a.bed").stderr
    assert "replaced local/a.bed: its access level changed\n" in add("a.bed", "--level", "protected").stderr
    put("other/a.bed")
    result = add("other/a.bed")
    assert result.stdout == "local/a.bed-2\n"
    assert f"added local/a.bed-2 (bed); a.bed is {Path('a.bed').resolve()}\n" in result.stderr


def test_files_of_one_name_get_their_folder_s_name(add: Any, catalog: Shelf) -> None:
    put("d/one/peaks.bed", "d/two/peaks.bed", "d/three/peaks.bed")
    names = "local/peaks.bed\nlocal/three-peaks.bed\nlocal/two-peaks.bed\n"
    assert add("d").stdout == names
    assert add("d").stdout == names


def test_a_link_has_its_own_name_and_takes_nobody_s_place(add: Any, catalog: Shelf) -> None:
    """Its target's name, as git-annex makes it, says nothing; and another file may have that name."""
    put("store/a.bed", content="the target")
    put("other/a.bed", content="another file")
    Path("link.bed").symlink_to("store/a.bed")
    add("other/a.bed")
    assert add("link.bed").stdout == "local/link.bed\n"
    assert catalog.entries["local/link.bed"]["access_url"] == Path("store/a.bed").resolve().as_uri()
    assert catalog.entries["local/a.bed"]["access_url"] == Path("other/a.bed").resolve().as_uri()
    assert "local/link.bed is in the catalog already, unchanged" in add("link.bed").stderr


def test_what_is_named_twice_is_added_once(add: Any, catalog: Shelf) -> None:
    put("d/a.bed", "d/b.bed")
    assert add("d/a.bed", "d", "./d/a.bed").stdout == "local/a.bed\nlocal/b.bed\n"


def test_of_a_folder_the_rest_is_added_when_a_file_may_not_be_read(
    add: Any, catalog: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("d/a.bed", "d/b.bed")
    # Root may read everything.
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("b.bed"))
    result = add("d", "--no-digest")
    assert result.stdout == "local/a.bed\n"
    assert "left out d/b.bed: cannot be read (Permission denied)" in result.stderr


def test_the_folders_that_a_service_must_read_are_those_that_links_lead_to(add: Any) -> None:
    put("d/a.bed", "d/x/b.bed", "far/c.bed", "near/e.bed")
    Path("d/link.bed").symlink_to("../far/c.bed")
    adding = Adding(
        {"dcc": "local"},
        local_id=None,
        file_format=None,
        md5=None,
        digest=False,
        sidecars=(),
        find_index=True,
        quiet=True,
    )
    adding.take(["d", Path("near/e.bed").resolve().as_uri(), "https://h/x.bed"], (), avoid=None)
    assert adding.folders == [Path(name).resolve() for name in ("d", "far", "near")]


def test_many_files_go_in_by_few_calls(add: Any, catalog: Shelf) -> None:
    for number in range(250):
        put(f"d/f{number:03}.bed")
    result = add("d")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 250)
    assert catalog.calls.count("POST /files/import") == 3
    assert "250 files: 250 added" in result.stderr
    assert len(result.stderr.splitlines()) < 30


def test_a_file_that_is_refused_costs_only_itself(add: Any, catalog: Shelf) -> None:
    put("d/a.bed", "d/b.bed", "d/c.bed")
    catalog.refuse = "/b.bed"
    result = add("d")
    assert (result.exit_code, result.stdout) == (1, "local/a.bed\nlocal/c.bed\n")
    assert "b.bed: access_url: outside" in result.stderr


def test_of_several_files_one_that_is_refused_does_not_end_the_command(add: Any, catalog: Shelf) -> None:
    """Although nothing else is registered: the others are in the catalog already."""
    put("a.bed", "b.bed")
    add("a.bed")
    catalog.refuse = "b.bed"
    result = add("a.bed", "b.bed")
    assert (result.exit_code, result.stdout) == (1, "local/a.bed\n")
    assert f"not added {Path('b.bed').resolve().as_uri()}: outside" in result.stderr


def test_a_folder_the_service_may_not_read_is_named_once(add: Any, catalog: Shelf) -> None:
    put("d/x/a.bed", "d/b.bed")
    catalog.refuse = "/"
    result = add("d")
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"gooseherd up --allow-root {Path('d').resolve()}" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--id", "a/b", "no '/' and no '..'"),
        ("--id", "a b", "--id 'a b': 1 to 255 letters"),
        ("--id", "..", "--id '..': 1 to 255 letters"),
        ("--dcc", "4dn/x", "--dcc '4dn/x': 1 to 64 letters"),
    ],
)
def test_an_id_that_no_file_can_have_is_refused_before_the_service_is_asked(
    add: Any, catalog: Shelf, option: str, value: str, words: str
) -> None:
    Path("a.bed").write_text("chr1\t1\t2\n")
    result = add("a.bed", option, value)
    assert (result.exit_code, result.stdout, catalog.calls) == (2, "", [])
    assert words in result.stderr


def test_a_folder_without_files_is_a_usage_error(add: Any, catalog: Shelf) -> None:
    put("d/readme")
    result = add("d")
    assert result.exit_code == 2
    assert "no known format" in result.stderr
    assert add("d", "--id", "x").exit_code == 2


def test_json_has_the_urls(add: Any, catalog: Shelf, service: Any) -> None:
    put("a.bed", "t.csv")
    bed, table = json.loads(add("a.bed", "t.csv", "--json").stdout)["added"]
    assert bed["data_url"] == f"{service.url}/data/local/a.bed"
    assert bed["index_url"] == f"{service.url}/index/local/a.bed"
    assert bed["density_url"] == f"{service.url}/density/local/a.bed"
    assert bed["status_url"] == f"{service.url}/data/local/a.bed/status"
    assert (table["index_url"], table["density_url"]) == (None, None)
    with_index = add("https://h/x.vcf.gz", "--sidecar", "tbi=https://h/x.vcf.gz.tbi", "--json")
    (one,) = json.loads(with_index.stdout)["added"]
    assert (one["index_url"] is None, one["density_url"]) == (False, None)


def test_an_index_beside_the_file_that_does_not_fit_is_told_and_not_used(add: Any, catalog: Shelf) -> None:
    put("a.vcf.gz", "a.vcf.gz.tbi")
    result = add("a.vcf.gz")
    assert "a.vcf.gz.tbi is not used: it " in result.stderr
    assert catalog.entries["local/a.vcf.gz"]["sidecars"] == []
    assert "tbi" not in add("a.vcf.gz", "--no-index").stderr


def test_of_an_address_no_index_is_looked_for(add: Any, catalog: Shelf) -> None:
    assert add("https://h/a.vcf.gz").exit_code == 0
    assert catalog.calls == ["GET /files/local/a.vcf.gz", "POST /files"]


def test_a_pipe_is_kept_where_the_service_reads_it(add: Any, catalog: Shelf, local_service: Path) -> None:
    result = add("-", "--format", "bed", given=b"chr1\t1\t2\n")
    assert (result.exit_code, result.stdout) == (0, "local/stdin.bed\n")
    entry = catalog.entries["local/stdin.bed"]
    path = Path(entry["access_url"].removeprefix("file://"))
    assert path.read_bytes() == b"chr1\t1\t2\n"
    assert path.is_relative_to(local_service / "added")
    assert entry["md5"] == hashlib.md5(b"chr1\t1\t2\n").hexdigest()
    assert "unchanged" in add("-", "--format", "bed", given=b"chr1\t1\t2\n").stderr
    assert add("-", "--format", "bed", given=b"chr1\t3\t4\n").stdout == "local/stdin.bed-2\n"
    assert add("-", "--name", "calls.vcf.gz", given=b"x").stdout == "local/calls.vcf.gz\n"
    assert not list((local_service / "added").glob(".incoming-*"))


def test_a_pipe_without_a_format_or_bytes_is_refused(add: Any, catalog: Shelf, local_service: Path) -> None:
    assert add("-", given=b"x").exit_code == 2
    assert add("-", "--name", "x.unknown", given=b"x").exit_code == 2
    assert add("-", "a.bed", given=b"x").exit_code == 2
    result = add("-", "--format", "bed", given=b"")
    assert (result.exit_code, "nothing came" in result.stderr) == (1, True)
    assert not catalog.entries
    assert not list((local_service / "added").iterdir())


def test_a_pipe_for_a_service_elsewhere_is_refused(add: Any, catalog: Shelf) -> None:
    result = add("-", "--format", "bed", given=b"x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "runs here" in result.stderr
    assert catalog.calls == []


def test_a_pipe_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    from gooseherd.cli.piped_input import store_piped

    class Breaks(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(28, "No space left on device")
            return super().read(4)

    with pytest.raises(OSError, match="No space"):
        store_piped(Breaks(b"abcdefgh"), tmp_path / "added", "x.bed", quiet=True)
    assert list((tmp_path / "added").iterdir()) == []


def test_files_rm_removes_the_copy_of_a_pipe_and_nothing_else(
    add: Any, catalog: Shelf, service: Any, reply: Any, local_service: Path
) -> None:
    add("-", "--name", "p.bed", given=b"chr1\t1\t2\n")
    put("a.bed")
    add("a.bed")
    entries = dict(catalog.entries)

    def removes(asked: Any) -> Any:
        entry = entries[asked.path.removeprefix("/files/")]
        return reply(200, {**entry, "job_id": None, "same_content": shared})

    service.answer = removes
    shared: list[str] = ["local/other"]
    copy = Path(entries["local/p.bed"]["access_url"].removeprefix("file://"))
    runner = CliRunner()
    assert runner.invoke(app, ["files", "rm", "local/p.bed"]).exit_code == 0
    assert copy.exists()
    shared.clear()
    assert runner.invoke(app, ["files", "rm", "local/p.bed", "local/a.bed"]).exit_code == 0
    assert not copy.exists()
    assert Path("a.bed").exists()
