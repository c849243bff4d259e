"""What every Sources promises: HTTP from a server on loopback, local files, the double."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.doubles import SourcesDouble

from gooseherd.domain.failures import Reason
from gooseherd.domain.ports.source import Sources
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile
from gooseherd.sources.http import HttpSources
from gooseherd.sources.urlguard import UrlGuard

CONTENT = bytes(range(256)) * 16
MD5 = hashlib.md5(CONTENT).hexdigest()
LIMIT = 1 << 20


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def server(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        serving = threading.Thread(target=httpd.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            serving.join()


class Place:
    """Sources that can reach the content, and its URL."""

    def __init__(self, sources: Sources, url: str) -> None:
        self.sources = sources
        self.url = url

    def entry(self, **stated: str | int) -> SourceFile:
        fields = {"dcc": "d", "local_id": "x", "filename": "x.bam", "access_url": self.url, **stated}
        return SourceFile.from_json(fields)


@pytest.fixture(params=["http", "file", "double"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "upstream"
    folder.mkdir()
    (folder / "x.bam").write_bytes(CONTENT)
    if request.param == "double":
        yield Place(SourcesDouble(CONTENT), "https://example.org/x.bam")
        return
    guard = UrlGuard(
        schemes=frozenset({"http", "file"}),
        allow_networks=(ip_network("127.0.0.1/32"),),
        file_roots=(folder,),
    )
    sources = HttpSources(guard)
    if request.param == "file":
        yield Place(sources, (folder / "x.bam").as_uri())
    else:
        with server(folder) as url:
            yield Place(sources, f"{url}/x.bam")
            await sources.close()
    await sources.close()
    await sources.close()  # Again changes nothing.


async def test_a_fetched_file_is_whole_and_has_its_size_and_digest(place: Place, tmp_path: Path) -> None:
    into, reports = tmp_path / "source", []

    def report(size: int, total: int | None) -> None:
        # So many bytes can be read already.
        assert into.stat().st_size >= size
        assert into.read_bytes()[:size] == CONTENT[:size]
        reports.append((size, total))

    fetched = await place.sources.fetch(place.entry(md5=MD5), into, limit=LIMIT, report=report)
    assert (fetched.path, fetched.size, fetched.md5) == (into, len(CONTENT), MD5)
    assert into.read_bytes() == CONTENT
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert reports == sorted(reports)


async def test_a_file_larger_than_the_limit_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        await place.sources.fetch(
            place.entry(), tmp_path / "source", limit=len(CONTENT) - 1, report=lambda *_: None
        )
    assert failed.value.failure.reason is Reason.SOURCE_TOO_LARGE


async def test_content_that_is_not_the_catalog_s_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        await place.sources.fetch(
            place.entry(md5="0" * 32), tmp_path / "source", limit=LIMIT, report=lambda *_: None
        )
    assert failed.value.failure.reason is Reason.SOURCE_CHANGED


async def test_a_file_is_described_before_it_is_read(place: Place) -> None:
    place.sources.judge(place.url)
    assert (await place.sources.details(place.url)).size_in_bytes == len(CONTENT)


async def test_an_opened_file_gives_its_bytes_with_lowercase_headers(place: Place) -> None:
    async with place.sources.open(place.url, {}) as upstream:
        assert upstream.status == 200
        assert upstream.headers["content-length"] == str(len(CONTENT))
        assert b"".join([chunk async for chunk in upstream.body]) == CONTENT
