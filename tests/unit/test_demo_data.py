"""The manifest of the demo's real files, and what fetches them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import ssl
import sys
import tarfile
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gooseherd.certs import make_ca, make_leaf
from gooseherd.domain import formats
from gooseherd.trial import demodata
from gooseherd.trial.index import NotDownloaded, index_settings

TEXT = demodata.MANIFEST.read_text(encoding="utf-8")
MANIFEST = json.loads(TEXT)
FILES = [pytest.param(entry, id=entry["id"]) for entry in MANIFEST["files"]]
PACKAGES = [pytest.param(package, id=package["name"]) for package in MANIFEST["packages"]]


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
        match = re.fullmatch(r"[\w.-]+:(\d+)-(\d+)", entry["region"])
        assert match
        assert 1 <= int(match[1]) <= int(match[2])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_a_pinned_file_of_the_package_index(package: dict[str, Any]) -> None:
    assert set(package) == {"name", "kind", "file", "size", "sha256"}
    assert package["kind"] == demodata.FROM_INDEX
    assert re.fullmatch(r"[\w.-]+(-py3-none-any\.whl|\.tar\.gz)", package["file"])
    assert re.fullmatch(r"[0-9a-f]{64}", package["sha256"])
    assert 0 < package["size"] < 10_000_000


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
    assert unsorted >= {"bam", "sam", "bed", "gff3", "gtf", "narrowpeak"}
    assert {entry["format"] for entry in MANIFEST["files"]} >= {
        "bam", "sam", "cram", "vcf", "bcf", "gff3", "gtf", "bed", "narrowpeak", "bigbed", "bigwig", "tsv",
    }  # fmt: skip


class PackageIndex:
    """An index on this machine with one project, `toy`; `requests` are the paths asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.as_html = False
        self.failures = 0
        self.credentials: str | None = None
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests.append(self.path)
                status, content = index.answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        if self.credentials and authorization != f"Basic {b64encode(self.credentials.encode()).decode()}":
            return 401, b""
        if self.failures:
            self.failures -= 1
            return 503, b""
        if path == "/simple/toy/" and self.as_html:
            links = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in self.files)
            return 200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        if path == "/simple/toy/":
            files = [{"filename": name, "url": f"../../files/{name}"} for name in self.files]
            return 200, json.dumps({"files": files}).encode()
        content = self.files.get(path.removeprefix("/files/"))
        return (404, b"") if content is None else (200, content)


BED = b"chr1\t1\t2\n"


class Toy:
    """A manifest of one package with one file, an index that has it, and the folder it is fetched into."""

    def __init__(self, root: Path, index: PackageIndex) -> None:
        self.index, self.folder, self.manifest = index, root / "data", root / "manifest.json"
        self.package = {"name": "toy", "kind": demodata.FROM_INDEX}
        self.publish("toy-1-py3-none-any.whl", wheel(BED))

    def publish(
        self, name: str, archive: bytes, member: str = "toy/reads.bed", promised: bytes = BED
    ) -> None:
        self.index.files = {name: archive}
        digest = hashlib.md5(promised, usedforsecurity=False).hexdigest()
        entry = {"id": "reads", "package": "toy", "member": member, "file": "reads.bed"}
        package = {**self.package, "file": name, "size": len(archive)}
        package["sha256"] = hashlib.sha256(archive).hexdigest()
        files = [{**entry, "size": len(promised), "md5": digest}]
        self.manifest.write_text(json.dumps({"packages": [package], "files": files}))

    def bring(self) -> bytes:
        demodata.bring(self.folder, self.manifest)
        assert (self.folder / "demo-data.json").read_bytes() == self.manifest.read_bytes()
        return (self.folder / "reads.bed").read_bytes()

    def failure(self) -> str:
        with pytest.raises(demodata.DataMissing) as missing:
            demodata.bring(self.folder, self.manifest)
        assert not (self.folder / "reads.bed").exists()
        assert not (self.folder / "demo-data.json").exists()
        return str(missing.value)


def wheel(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("toy/reads.bed", content)
    return buffer.getvalue()


def source_archive(*members: tuple[str, bytes | str]) -> bytes:
    """A .tar.gz of files (bytes) and symbolic links (where they point)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    index = PackageIndex()
    yield index
    index.server.shutdown()
    index.server.server_close()


@pytest.fixture
def toy(tmp_path: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    return Toy(tmp_path, index)


def test_a_second_run_downloads_nothing(toy: Toy) -> None:
    assert toy.bring() == BED
    assert toy.index.requests == ["/simple/toy/", "/files/toy-1-py3-none-any.whl"]
    assert toy.bring() == BED
    assert len(toy.index.requests) == 2


def test_a_damaged_file_is_fetched_again_and_a_stranger_removed(toy: Toy) -> None:
    toy.bring()
    (toy.folder / "reads.bed").write_bytes(b"chr1\t1\t3\n")
    (toy.folder / "old.bed").write_bytes(b"")
    (toy.folder / "demo-data.json").unlink()
    assert toy.bring() == BED
    assert not (toy.folder / "old.bed").exists()


def test_a_source_archive_gives_its_file_and_nothing_of_it_is_run(toy: Toy, tmp_path: Path) -> None:
    setup = f"open({str(tmp_path / 'was-run')!r}, 'w')".encode()
    toy.publish(
        "toy-1.tar.gz", source_archive(("toy-1/setup.py", setup), ("toy-1/reads.bed", BED)), "toy-1/reads.bed"
    )
    assert toy.bring() == BED
    assert not (tmp_path / "was-run").exists()


def test_a_link_in_an_archive_is_not_followed(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BED)
    toy.publish(
        "toy-1.tar.gz", source_archive(("toy-1/reads.bed", str(tmp_path / "secret"))), "toy-1/reads.bed"
    )
    assert "toy has another toy-1/reads.bed (no such member)" in toy.failure()


def test_content_other_than_promised_is_refused_by_name(toy: Toy) -> None:
    toy.publish("toy-1-py3-none-any.whl", wheel(b"chr1\t1\t3\n"))
    assert "reads: toy has another toy/reads.bed (size 9, md5 " in toy.failure()


@pytest.mark.parametrize("other", [b"x", b"x" * 10_000], ids=["shorter", "longer"])
def test_an_archive_of_another_content_is_not_opened(toy: Toy, other: bytes) -> None:
    toy.index.files = {"toy-1-py3-none-any.whl": other}
    assert "the file there has another size or sha256" in toy.failure()


def test_an_index_that_speaks_only_html_will_do(toy: Toy) -> None:
    toy.index.as_html = True
    assert toy.bring() == BED


def test_an_index_that_stumbles_is_asked_again(toy: Toy) -> None:
    toy.index.failures = 2
    assert toy.bring() == BED


def test_an_index_that_cannot_be_reached_is_named_with_the_file(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple")
    failure = toy.failure()
    assert "could not download toy-1-py3-none-any.whl (http://127.0.0.1:9/simple: " in failure
    assert "secret" not in failure


def test_the_next_index_is_asked_for_what_the_first_lacks(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", toy.index.url.replace("/simple", "/elsewhere"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///nowhere {toy.index.url}")
    assert toy.bring() == BED


def test_the_credentials_of_an_index_are_used(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.index.credentials = "someone:secret"
    monkeypatch.setenv("PIP_INDEX_URL", toy.index.url.replace("//", "//someone:secret@"))
    assert toy.bring() == BED


def test_credentials_of_a_netrc_are_used(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.index.credentials = "someone:secret"
    (tmp_path / "netrc").touch(mode=0o600)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert toy.bring() == BED


def test_certificates_are_trusted_as_pip_trusts_them(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    ca = make_ca(now)
    leaf = make_leaf(ca, "localhost", "serve", now)
    (tmp_path / "ca.pem").write_bytes(ca.cert)
    (tmp_path / "server.pem").write_bytes(leaf.cert + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    toy.index.server.socket = context.wrap_socket(toy.index.server.socket, server_side=True)
    host = f"localhost:{toy.index.server.server_port}"
    monkeypatch.setenv("PIP_INDEX_URL", f"https://{host}/simple")
    monkeypatch.delenv("PIP_CERT", raising=False)
    assert "certificate verify failed" in toy.failure()

    monkeypatch.setenv("PIP_CERT", str(tmp_path / "ca.pem"))
    assert toy.bring() == BED

    monkeypatch.delenv("PIP_CERT")
    (toy.folder / "reads.bed").unlink()
    monkeypatch.setenv("PIP_TRUSTED_HOST", host)
    assert toy.bring() == BED


def test_a_certificate_setting_that_cannot_be_read_is_named(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CERT", "/nowhere/ca.pem")
    assert "cert or client-cert cannot be used (No such file or directory): /nowhere/ca.pem" in toy.failure()


def test_a_killed_fetch_leaves_nothing_behind_for_long(toy: Toy) -> None:
    scratch = toy.folder.parent / ".data-fetch-killed"
    scratch.mkdir()
    (scratch / "toy-1-py3-none-any.whl").write_bytes(b"half")
    toy.bring()
    assert not [path.name for path in toy.folder.parent.iterdir() if path.name.startswith(".")]


def test_failures_end_the_command_with_3_and_the_way_out(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert demodata.main([str(toy.folder)]) == demodata.EXIT_UNAVAILABLE
    words = capsys.readouterr().err
    assert all(package["file"] in words for package in MANIFEST["packages"])
    assert "GOOSEHERD_DEMO_DATA" in words


def test_pips_own_files_say_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://example.org/all\nproxy = http://127.0.0.1:9\ntimeout = 7\n"
        "[download]\nindex-url = https://example.org/downloads\nextra-index-url = file:///a\n  https://b.example/\n"
    )
    settings = index_settings(
        {"PATH": "", "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    )
    assert settings.urls == ("https://example.org/downloads", "https://b.example/")
    assert (settings.proxy, settings.timeout_seconds) == ("http://127.0.0.1:9", 7.0)


def test_without_settings_it_is_the_index_that_pip_itself_asks(tmp_path: Path) -> None:
    from pip._internal.models.index import PyPI

    environ = {"PATH": "", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    assert index_settings(environ).urls == (PyPI.simple_url,)


def test_where_there_is_no_pip_an_index_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    environ = {"PATH": str(tmp_path)}
    with pytest.raises(NotDownloaded, match="this Python has no pip"):
        index_settings(environ)
    assert index_settings({**environ, "UV_DEFAULT_INDEX": "https://example.org/"}).urls == (
        "https://example.org/",
    )


def test_the_demos_files_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert demodata.default_folder({}) == tmp_path / ".cache" / "gooseherd" / "demo-data"
    assert demodata.default_folder({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/gooseherd/demo-data")
    assert (
        demodata.default_folder({"XDG_CACHE_HOME": "cache"})
        == tmp_path / ".cache" / "gooseherd" / "demo-data"
    )
