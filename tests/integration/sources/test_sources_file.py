"""file: URLs: only regular files, only below the allowed folders."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.errors import MalformedRange, NotFound, OutboundRefused
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.sources.http import HttpSources

DATA = random.Random(1).randbytes(3_000_000)


def quiet(size: int, total: int | None) -> None:
    """Nobody watches."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/a b#1?.bam").write_bytes(DATA)
    (tmp_path / "secret.bam").write_bytes(b"secret")
    return tmp_path / "data"


@pytest.fixture
def sources(make_sources: Callable[..., HttpSources], root: Path) -> HttpSources:
    return make_sources(file_roots=(root,))


@pytest.fixture
def url(root: Path) -> str:
    return (root / "deep/a b#1?.bam").as_uri()


async def read(sources: HttpSources, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with sources.open(
        url, {name.replace("_", "-"): value for name, value in headers.items()}
    ) as upstream:
        return upstream.status, dict(upstream.headers), b"".join([chunk async for chunk in upstream.body])


async def test_a_file_is_fetched_and_verified(sources: HttpSources, url: str, entry: Any, into: Path) -> None:
    md5 = hashlib.md5(DATA).hexdigest()
    got = await sources.fetch(entry(url, md5=md5), into, limit=1 << 30, report=quiet)
    assert (got.md5, got.size) == (md5, len(DATA))
    assert into.read_bytes() == DATA  # noqa: ASYNC240


@pytest.mark.parametrize(
    ("expected", "limit", "reason"),
    [
        ({"md5": "0" * 32}, 1 << 30, Reason.SOURCE_CHANGED),
        ({"size_in_bytes": 1}, 1 << 30, Reason.SOURCE_CHANGED),
        ({}, 1000, Reason.SOURCE_TOO_LARGE),
    ],
)
async def test_a_file_other_than_the_catalogs_is_not_kept(
    sources: HttpSources,
    url: str,
    entry: Any,
    into: Path,
    expected: dict[str, Any],
    limit: int,
    reason: Reason,
) -> None:
    with pytest.raises(StepFailed) as error:
        await sources.fetch(entry(url, **expected), into, limit=limit, report=quiet)
    assert error.value.failure.reason is reason
    assert not into.exists()  # noqa: ASYNC240


async def test_ranges_are_answered_as_a_server_does(sources: HttpSources, url: str) -> None:
    size = len(DATA)
    status, headers, body = await read(sources, url)
    assert (status, body, headers["content-length"], headers["accept-ranges"]) == (
        200,
        DATA,
        str(size),
        "bytes",
    )
    etag = headers["etag"]
    status, headers, body = await read(sources, url, Range="bytes=10-19")
    assert (status, body, headers["content-range"]) == (206, DATA[10:20], f"bytes 10-19/{size}")
    assert (await read(sources, url, Range="bytes=-5"))[2] == DATA[-5:]
    assert (await read(sources, url, Range=f"bytes={size - 1}-{size + 10}"))[2] == DATA[-1:]
    status, headers, body = await read(sources, url, Range=f"bytes={size}-")
    assert (status, body, headers["content-range"]) == (416, b"", f"bytes */{size}")
    assert (await read(sources, url, Range="bytes=0-1,5-6"))[0] == 200
    assert (await read(sources, url, Range="bytes=0-1", If_Range=etag))[0] == 206
    assert (await read(sources, url, Range="bytes=0-1", If_Range='"other"'))[0] == 200
    assert (await read(sources, url, If_None_Match=etag))[0] == 304
    with pytest.raises(MalformedRange):
        await read(sources, url, Range="bytes=x")


async def test_a_url_is_judged_without_a_look_at_the_file(
    make_sources: Callable[..., HttpSources], sources: HttpSources, root: Path
) -> None:
    sources.judge((root / "nothing.bam").as_uri())
    with pytest.raises(OutboundRefused, match="scheme 'file' is not allowed"):
        make_sources().judge((root / "nothing.bam").as_uri())


async def test_a_missing_file_is_missing(sources: HttpSources, root: Path, entry: Any, into: Path) -> None:
    with pytest.raises(NotFound):
        await read(sources, (root / "nothing.bam").as_uri())
    with pytest.raises(StepFailed) as error:
        await sources.fetch(entry((root / "nothing.bam").as_uri()), into, limit=1, report=quiet)
    assert error.value.failure.reason is Reason.SOURCE_MISSING
    assert str(root) not in str(error.value)


async def test_files_elsewhere_are_refused_whether_they_exist_or_not(
    sources: HttpSources, root: Path
) -> None:
    for name in (
        "../secret.bam",
        "../nothing",
        "deep/../../secret.bam",
        "%2e%2e/secret.bam",
        "deep/../deep/x",
    ):
        with pytest.raises(OutboundRefused):
            sources.judge(root.as_uri() + "/" + name)
        with pytest.raises(OutboundRefused) as refused:
            await read(sources, root.as_uri() + "/" + name)
        assert refused.value.rule == "file outside of the allowed folders"
        assert str(root) not in str(refused.value)
    for url in ("file:///etc/passwd", "file:///proc/self/environ", root.as_uri() + "-other/x"):
        with pytest.raises(OutboundRefused):
            await read(sources, url)


@pytest.mark.parametrize("url", ["file://host/etc/passwd", "file://", "file://relative", "file:///x%00"])
async def test_what_names_no_file_here_is_refused(sources: HttpSources, url: str) -> None:
    with pytest.raises(OutboundRefused, match=r"must be file:///PATH"):
        await read(sources, url)


async def test_symlinks_lead_only_to_what_is_allowed(sources: HttpSources, root: Path, url: str) -> None:
    (root / "inside").symlink_to(root / "deep")
    (root / "outside").symlink_to(root.parent)
    (root / "file").symlink_to(root.parent / "secret.bam")
    assert (await read(sources, url.replace("/deep/", "/inside/")))[2] == DATA
    for name in ("outside/secret.bam", "file"):
        with pytest.raises(OutboundRefused, match="outside"):
            await read(sources, (root / name).as_uri())


async def test_an_allowed_folder_may_itself_be_a_symlink(
    make_sources: Callable[..., HttpSources], root: Path
) -> None:
    alias = root.parent / "alias"
    alias.symlink_to(root)
    sources = make_sources(file_roots=(alias,))
    for base in (alias, root):
        assert (await read(sources, (base / "deep/a b#1?.bam").as_uri()))[2] == DATA


async def test_only_regular_files_are_read(sources: HttpSources, root: Path) -> None:
    os.mkfifo(root / "fifo")
    folder = os.open(root, os.O_PATH)  # a socket's path is short, the test's folder is not
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{folder}/socket")
    os.close(folder)
    for name in ("fifo", "socket", "deep", "."):
        with pytest.raises(OutboundRefused, match="not a regular file"):
            await read(sources, (root / name).as_uri())


async def test_without_an_allowed_folder_no_file_is_read(
    make_sources: Callable[..., HttpSources], url: str
) -> None:
    with pytest.raises(OutboundRefused, match="scheme 'file' is not allowed"):
        await read(make_sources(schemes=("https", "file")), url)


async def test_descriptors_are_freed(
    sources: HttpSources, root: Path, url: str, entry: Any, into: Path
) -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = descriptors()
    for _ in range(5):
        await read(sources, url)
        await sources.fetch(entry(url), into, limit=1 << 30, report=quiet)
        for refused in ((root / "deep").as_uri(), "file:///etc/passwd"):
            with pytest.raises(OutboundRefused):
                await read(sources, refused)
    assert descriptors() == before
