"""Whole attempts whose source comes from a real server, which sends so much as the test lets it."""

from __future__ import annotations

import asyncio
import atexit
import functools
import hashlib
import random
import re
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, Event, EventKind
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import cache_key, result_name
from gooseherd.domain.processing import StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.processing.tools.source_feed import Feed
from gooseherd.sources.http import HttpSources
from gooseherd.sources.retry_policy import RetryPolicy
from gooseherd.sources.urlguard import UrlGuard
from gooseherd.storage.memory import MemoryCache
from gooseherd.storage.s3 import S3Cache
from gooseherd.worker.engine import run_attempt

if TYPE_CHECKING:
    from tests.integration.conftest import Bucket

MIB = 1 << 20
SECONDS = 60.0
"""For whatever is waited for: far more than it takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


async def come(condition: Callable[[], Any]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - whatever it is, it tells nobody
            await asyncio.sleep(0.01)


class Upstream:
    """One file over HTTP. `open` bytes of it may be sent; at `breaks_at` connections end, `breaks` times."""

    def __init__(self) -> None:
        self.data = b""
        self.etag = '"v1"'
        self.open = 0
        self.breaks_at = 0
        self.breaks = 0
        self.ranges = True
        self.length = True
        self.starts: list[int] = []
        self.whole = 0
        """How many answers were sent to their end."""
        self.port = 0
        self._changed = asyncio.Event()
        self._leaving = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/file"

    def let(self, size: int | None = None) -> None:
        """Up to this byte, or to the end."""
        self.open = len(self.data) if size is None else size
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer((await reader.readuntil(b"\r\n\r\n")).decode(), writer)
        writer.close()

    async def _answer(self, asked: str, writer: asyncio.StreamWriter) -> None:
        data, at = self.data, 0
        found = re.search(r"range: bytes=(\d+)-", asked, re.IGNORECASE)
        same = re.search(r"if-range: (\S+)", asked, re.IGNORECASE)
        if found and self.ranges and (same is None or same[1] == self.etag):
            at = int(found[1])
        self.starts.append(at)
        head = f"HTTP/1.1 {206 if at else 200} OK\r\nETag: {self.etag}\r\nConnection: close\r\n"
        if self.length:
            head += f"Content-Length: {len(data) - at}\r\n"
        if at:
            head += f"Content-Range: bytes {at}-{len(data) - 1}/{len(data)}\r\n"
        writer.write(head.encode() + b"\r\n")
        while at < len(data):
            if self.breaks and at >= self.breaks_at:
                self.breaks -= 1
                return
            end = min(self.open, at + (1 << 18), *([self.breaks_at] if self.breaks else []))
            if end <= at:
                if self._leaving:
                    return
                await self._changed.wait()
                continue
            writer.write(data[at:end])
            await writer.drain()
            at = end
        self.whole += 1

    async def leave(self) -> None:
        self._leaving = True
        self.wake()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    listening = await asyncio.start_server(made, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    await made.leave()


@pytest.fixture
def registry() -> ProcessorRegistry:
    return default_registry(sort_memory=64 * MIB, samtools_memory=64 * MIB, threads=2, density=True)


@pytest.fixture
async def sources() -> AsyncIterator[HttpSources]:
    guard = UrlGuard(schemes=frozenset({"http"}), allow_networks=(ip_network("127.0.0.1/32"),))
    patience = RetryPolicy(
        connect_seconds=30, read_seconds=600, tries=4, backoff_seconds=0.001, max_wait_seconds=0.05
    )
    made = HttpSources(guard, patience=patience, random=lambda: 0.0)
    yield made
    await made.close()


class Attempt:
    """One attempt at work, and what can be seen of it."""

    def __init__(self, spec: AttemptSpec, cache: Any, work: Path) -> None:
        self.spec = spec
        self.cache = cache
        self.work = work
        self.events: list[Event] = []
        self.task: asyncio.Task[None] | None = None
        self.fed: list[Feed] = []
        self.started: list[str] = []

    def emit(self, kind: EventKind, **fields: Any) -> None:
        self.events.append(Event(seq=len(self.events) + 1, kind=kind, at=0.0, **fields))

    async def end(self) -> Event:
        assert self.task is not None
        async with asyncio.timeout(SECONDS):
            await self.task
        assert not self.work.exists()
        percents = [event.percent for event in self.events if event.kind is not EventKind.FAILED]
        assert percents == sorted(percents)
        return self.events[-1]

    def begun(self, program: str) -> int:
        """How many processes of that program were started, of those that read the source."""
        return sum(program in argv for argv in self.started)

    def read_beyond(self, size: int) -> bool:
        """A tool has read so much: what the pipe holds was given to it, but not read yet."""
        return any(feed.position > size + MIB for feed in self.fed)

    async def manifest(self) -> Manifest:
        key = cache_key(self.spec.source.identity, self.spec.recipe, result_name(str(self.spec.attempt)))
        return Manifest.from_bytes(b"".join([chunk async for chunk in self.cache.get(key)]))

    async def part(self, kind: Kind) -> Part:
        part = (await self.manifest()).part(kind)
        assert part is not None
        stored = b"".join([chunk async for chunk in self.cache.get(part.key)])
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (part.size, part.sha256)
        return part


@pytest.fixture
async def attempt(
    upstream: Upstream,
    registry: ProcessorRegistry,
    sources: HttpSources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Callable[..., Attempt]]:
    """`attempt(filename, format)`: begin one; the source is what upstream has."""
    made: list[Attempt] = []
    spawn, feed = asyncio.create_subprocess_exec, Feed.start

    async def seen_spawning(*argv: str, **how: Any) -> Any:
        made[-1].started.append(" ".join(argv))
        return await spawn(*argv, **how)

    def seen_feeding(self: Feed, pipe: int) -> None:
        made[-1].fed.append(self)
        feed(self, pipe)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", seen_spawning)
    monkeypatch.setattr(Feed, "start", seen_feeding)

    def begin(
        filename: str,
        file_format: str,
        *,
        cache: Any = None,
        md5: str | None = "",
        limit: int = 1 << 30,
        using: ProcessorRegistry = registry,
        home: Path = tmp_path,
    ) -> Attempt:
        entry = {
            "dcc": "test",
            "local_id": "x",
            "filename": filename,
            "access_url": upstream.url,
            "file_format": file_format,
            "md5": hashlib.md5(upstream.data).hexdigest() if md5 == "" else md5,
            "version_tag": None if md5 is not None else "1",
        }
        source = SourceFile.from_json({name: value for name, value in entry.items() if value is not None})
        limits = AttemptLimits(source_bytes=limit, scratch_bytes=1 << 30, wall_seconds=600.0)
        spec = AttemptSpec(AttemptId(JobId("job"), 1), source, using.recipe(source), limits, "b")
        work = home / f"work{len(made)}"
        work.mkdir()
        one = Attempt(spec, cache if cache is not None else MemoryCache(), work)
        one.task = asyncio.create_task(
            run_attempt(spec, cache=one.cache, sources=sources, registry=using, work=work, emit=one.emit)
        )
        made.append(one)
        return one

    yield begin
    for one in made:
        assert one.task is not None
        one.task.cancel()
        with suppress(asyncio.CancelledError):
            await one.task


@pytest.fixture
def digests(registry: ProcessorRegistry, tmp_path: Path) -> Callable[[SourceFile, bytes], Any]:
    """What the steps make of a source that is whole from the start: sha256 by kind."""

    async def make(source: SourceFile, data: bytes) -> dict[Kind, str]:
        home = tmp_path / uuid.uuid4().hex
        home.mkdir()
        path = home / source.filename
        path.write_bytes(data)
        parts: dict[Kind | None, Path] = {None: path}
        for step in registry.processor(registry.recipe(source)).steps(source.file_format):
            work = home / step.name
            work.mkdir()
            output = await step.run(StepInput(source, parts[step.needs], work, lambda *_: None, 1 << 30))
            parts |= {produced.kind: produced.path for produced in output.files}
        return {kind: hashlib.sha256(path.read_bytes()).hexdigest() for kind, path in parts.items() if kind}

    return make


# -- files ---------------------------------------------------------------------------------


@functools.cache
def reads(*, ordered: bool) -> bytes:
    """A BAM of about 9 MB."""
    chance = random.Random(3)
    places = [(chance.choice((1, 2)), chance.randint(1, 150_000_000)) for _ in range(60_000)]
    lines = ["@HD\tVN:1.6", "@SQ\tSN:chr1\tLN:200000000", "@SQ\tSN:chr2\tLN:200000000"]
    for i, (contig, place) in enumerate(sorted(places) if ordered else places):
        letters = chance.randbytes(75).hex()
        bases = letters.translate(str.maketrans("0123456789abcdef", "ACGTACGTACGTACGT"))
        quality = letters.translate(str.maketrans("0123456789abcdef", "!$&(+-/147:=@CFI"))
        lines.append(f"r{i}\t0\tchr{contig}\t{place}\t60\t150M\t*\t0\t0\t{bases}\t{quality}")
    text = "\n".join(lines).encode() + b"\n"
    return subprocess.run(
        ["samtools", "view", "--no-PG", "-b", "-"], input=text, capture_output=True, check=True
    ).stdout


@functools.cache
def intervals(*, ordered: bool, megabytes: int = 9) -> bytes:
    """BED that hardly compresses."""
    chance = random.Random(4)
    count = megabytes * 10_000
    starts = [chance.randint(0, 190_000_000) for _ in range(count)]
    if ordered:
        starts.sort()
    return b"".join(b"chr1\t%d\t%d\t%s\n" % (s, s + 100, chance.randbytes(40).hex().encode()) for s in starts)


def blocks(text: bytes) -> bytes:
    """BGZF."""
    return subprocess.run(["bgzip", "-c", "-l", "1"], input=text, capture_output=True, check=True).stdout


# -- S3 ------------------------------------------------------------------------------------


@functools.cache
def local_cloud() -> str:
    """The URL of one for all tests of this process; it ends with the process."""
    open_until_exit = ExitStack()
    atexit.register(open_until_exit.close)
    state = open_until_exit.enter_context(tempfile.TemporaryDirectory())
    return open_until_exit.enter_context(running_cloud(Path(state), images={}))


@pytest.fixture
def bucket(new_bucket: Callable[[str], Bucket], cloud_credentials: None) -> Bucket:
    return new_bucket(local_cloud())


@pytest.fixture
async def s3(bucket: Bucket) -> AsyncIterator[S3Cache]:
    cache = S3Cache(bucket.name, endpoint_url=local_cloud(), part_bytes=5 * MIB)
    yield cache
    await cache.close()


@pytest.fixture
def kit() -> Any:
    """The makers of files, for test modules."""
    return type("Kit", (), {"reads": staticmethod(reads), "intervals": staticmethod(intervals),
                            "blocks": staticmethod(blocks), "come": staticmethod(come)})  # fmt: skip
