"""The API as clients meet it: our server on a loopback port, the default store, a real cache folder."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.doubles import FleetDouble, WorkersDouble

from gooseherd.api.app import Dependencies, create_app
from gooseherd.api.catalog import Catalog
from gooseherd.api.describing import Describing
from gooseherd.api.server.http_server import HttpServer
from gooseherd.api.server.limits import HttpLimits
from gooseherd.control.batch_loop import AdvanceBatch, BatchLoop, BatchTiming
from gooseherd.control.batches import Batches
from gooseherd.control.budgets import Budgets, RequesterBudget
from gooseherd.control.loop import PassReport
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.sessions import Sessions
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.usage import ServedBytes, UsageReports
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId, Event
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import NotFound, OutboundRefused, UnsupportedFormat, UpstreamUnavailable
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.formats import Family
from gooseherd.domain.job import Job, JobId, Owner
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key
from gooseherd.domain.ports.batches import BatchLimits, BatchStore
from gooseherd.domain.ports.cache import FileSpan, StoredObject
from gooseherd.domain.ports.keys import KeyStore
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.source import SourceDetails, Upstream
from gooseherd.domain.ports.usage import UsageStore
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.usage_report import Prices
from gooseherd.storage.local import LocalFsCache
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.keys import SqlKeys
from gooseherd.store.sql.reservations import SqlReservations
from gooseherd.store.sql.sqlite import open_sqlite
from gooseherd.store.sql.usage import SqlUsage

ADMIN_KEY = "the-admin-key"
RUNNING_LIMIT = 4
LEASE = timedelta(minutes=5)


NAMES = frozenset({Kind.NAMES, Kind.NAMES_INDEX})


class Recipes:
    """Alignments and intervals get data and index, tables pass through, CRAM has no processor."""

    def recipe(self, source: SourceFile) -> Recipe:
        if source.file_format.name == "cram":
            raise UnsupportedFormat("cram", ("bam", "csv"))
        plain = source.is_upstreams_pair or source.file_format.family is Family.TABLE
        return Recipe("passthrough" if plain else "sort", "1", source.file_format)

    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        named = source.file_format.name in ("gff3", "gtf", "bed")
        return (Recipe("names", "1", source.file_format),) if named else ()

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        if recipe.processor == "names":
            return NAMES
        return frozenset({Kind.DATA} if recipe.processor == "passthrough" else set(Kind) - NAMES)

    def filenames(self, source: SourceFile, recipe: Recipe) -> Mapping[Kind, str]:
        name = source.filename
        if recipe.processor == "names":
            return {Kind.NAMES: f"{name}.ix", Kind.NAMES_INDEX: f"{name}.ixx"}
        names = {Kind.DATA: name, Kind.INDEX: f"{name}.bai", Kind.DENSITY: f"{name}.bw"}
        more = {kind: f"{name}.{kind}" for kind in Kind if kind not in names and kind not in NAMES}
        return names | (more if name.startswith("parts") else {})


class WatchedCache:
    """A real cache that counts the readers it has open."""

    def __init__(self, inner: LocalFsCache) -> None:
        self.inner = inner
        self.open_readers = 0

    async def head(self, key: CacheKey) -> StoredObject | None:
        return await self.inner.head(key)

    async def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        self.open_readers += 1
        stream = self.inner.get(key, span)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            self.open_readers -= 1
            assert isinstance(stream, AsyncGenerator)
            await stream.aclose()

    def read_now(self, key: CacheKey, span: ByteRange) -> memoryview | None:
        return self.inner.read_now(key, span)

    def span_now(self, key: CacheKey, span: ByteRange) -> FileSpan | None:
        return self.inner.span_now(key, span)

    async def spans(self, key: CacheKey, span: ByteRange) -> AsyncIterator[FileSpan]:
        self.open_readers += 1
        stream = self.inner.spans(key, span)
        try:
            async for part in stream:
                yield part
        finally:
            self.open_readers -= 1
            assert isinstance(stream, AsyncGenerator)
            await stream.aclose()

    async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
        return await self.inner.put_if_absent(key, body)

    async def delete(self, key: CacheKey) -> bool:
        return await self.inner.delete(key)

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        return self.inner.list(prefix)

    async def sweep(self, older_than_seconds: float) -> int:
        return await self.inner.sweep(older_than_seconds)

    async def close(self) -> None:
        await self.inner.close()


class Upstreams:
    """The outside world: files by URL, and what was asked of them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {
            "content-type": "text/html",
            "set-cookie": "a=b",
            "server": "secret-host",
        }
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.open_bodies = 0
        self.details_asked: list[str] = []
        self.details_begun = asyncio.Event()
        self.details_may_come = asyncio.Event()
        self.details_may_come.set()
        self.known_details: dict[str, SourceDetails] = {}
        self.error: Exception | None = None
        self.reply: tuple[int, dict[str, str]] | None = None
        """Status and headers, whatever is asked."""

    def is_private(self, url: str) -> bool:
        return url.startswith("https://private.")

    def judge(self, url: str) -> None:
        if url.startswith("file:"):
            raise OutboundRefused(url, "file outside of the allowed folders")

    @asynccontextmanager
    async def open(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Upstream]:
        self.asked.append((url, dict(headers)))
        if self.error is not None:
            raise self.error
        if url.startswith("http://10."):
            raise OutboundRefused(url, "private address")
        if url not in self.files:
            raise NotFound("source", url)
        data = self.files[url]
        if self.reply is not None:
            yield Upstream(*self.reply, self._body(data))
            return
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        result = {**self.headers, "etag": etag, "accept-ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        if headers.get("if-none-match") == etag:
            yield Upstream(304, result, self._body(b""))
        elif wanted and int(wanted[1]) >= len(data):
            yield Upstream(416, {**result, "content-range": f"bytes */{len(data)}"}, self._body(b""))
        elif wanted:
            start, stop = int(wanted[1]), min(int(wanted[2] or len(data)) + 1, len(data))
            result |= {
                "content-range": f"bytes {start}-{stop - 1}/{len(data)}",
                "content-length": str(stop - start),
            }
            yield Upstream(206, result, self._body(data[start:stop]))
        else:
            yield Upstream(200, {**result, "content-length": str(len(data))}, self._body(data))

    async def _body(self, data: bytes) -> AsyncIterator[bytes]:
        self.open_bodies += 1
        try:
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]
        finally:
            self.open_bodies -= 1

    async def details(self, url: str) -> SourceDetails:
        self.details_asked.append(url)
        self.details_begun.set()
        await asyncio.sleep(0.05)
        await self.details_may_come.wait()
        if url not in self.known_details:
            raise UpstreamUnavailable(url, 405)
        return self.known_details[url]

    async def fetch(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the API fetches nothing")

    async def close(self) -> None:
        pass


@dataclass
class Town:
    """A running API and the hands that move what is behind it."""

    url: str
    http: httpx.AsyncClient
    dependencies: Dependencies
    jobs: Any
    files: Any
    cache: WatchedCache
    upstream: Upstreams
    wakeups: Wakeups
    submissions: Submissions
    readiness: dict[str, str]
    stop: Callable[[], Awaitable[None]]
    """Ends the server, open requests too."""
    batch_loop: BatchLoop | None = None
    sessions: Sessions | None = None
    numbers: Any = field(default_factory=itertools.count)

    async def register(self, **fields: Any) -> SourceFile:
        """A public BAM unless told otherwise, straight into the store."""
        number = next(self.numbers)
        entry = SourceFile.from_json(
            {
                "dcc": "4dn",
                "local_id": f"file{number}",
                "filename": f"reads {number}.bam",
                "access_url": f"https://files.example.org/reads{number}.bam",
                "md5": hashlib.md5(str(number).encode()).hexdigest(),
                **fields,
            }
        )
        await self.files.put([entry])
        return entry

    async def publish(
        self,
        entry: SourceFile,
        data: bytes,
        index: bytes | None = b"BAI\1index",
        density: bytes | None = None,
        index_name: str | None = None,
        more: Mapping[Kind, bytes] | None = None,
        **noticed: Any,
    ) -> Manifest:
        """As a worker does: parts, then the manifest."""
        recipe = Recipes().recipe(entry)
        parts = [await self._part(entry, recipe, Kind.DATA, data, entry.filename)]
        if index is not None:
            parts.append(
                await self._part(entry, recipe, Kind.INDEX, index, index_name or entry.filename + ".bai")
            )
        if density is not None:
            parts.append(await self._part(entry, recipe, Kind.DENSITY, density, entry.filename + ".bw"))
        for kind, content in (more or {}).items():
            parts.append(await self._part(entry, recipe, kind, content, f"{entry.filename}.{kind}"))
        manifest = Manifest(
            source=str(entry.identity),
            source_format=entry.file_format.name,
            processor=recipe.processor,
            processor_version=recipe.processor_version,
            parts=tuple(parts),
            **{"contigs": (Contig("chr1", 248956422), Contig("chrUn")), **noticed},
        )
        await self.cache.put_if_absent(cache_key(entry.identity, recipe, MANIFEST), manifest.to_bytes())
        return manifest

    async def _part(self, entry: SourceFile, recipe: Recipe, kind: Kind, data: bytes, filename: str) -> Part:
        key = cache_key(entry.identity, recipe, kind.value)
        await self.cache.put_if_absent(key, data)
        return Part(kind, key, len(data), hashlib.sha256(data).hexdigest(), filename)

    async def run(self, job_id: str) -> Job:
        """pending→running."""
        seen = await self.jobs.get(JobId(job_id))
        assert seen is not None
        job: Job | None = await self.jobs.lease(seen, Owner("test"), LEASE)
        assert job is not None
        self.wakeups.publish(job.job_id)
        return job

    async def complete(self, job: Job, manifest: Manifest) -> None:
        """running→completed."""
        await self.jobs.begin_finalize(job.job_id, job.fence)
        await self.jobs.finalize(job.job_id, job.fence, manifest.digest, manifest.parts)
        self.wakeups.publish(job.job_id)

    async def fail(self, job: Job, reason: Reason, detail: str = "the header is missing") -> Job:
        """running→failed."""
        ended: Job = await self.jobs.release_workflow(
            job.job_id, job.fence, Status.FAILED, Failure(reason, detail)
        )
        self.wakeups.publish(job.job_id)
        return ended

    async def raw(self, request: bytes) -> bytes:
        """What comes back to exactly these bytes, until the server closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def advance_batches(self) -> PassReport[AdvanceBatch]:
        """One pass of the loop."""
        assert self.batch_loop is not None
        return await self.batch_loop.loop.run_once()

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port


Build = Callable[..., Awaitable[Town]]
_LIMITS = SubmissionLimits(active_jobs=100, pending_per_requester=50)


async def no_events(attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    """Of workers that are only kept."""
    nothing: tuple[Event, ...] = ()
    for event in nothing:
        yield event


class NoJobs:
    """For what must not touch the job store: every attempt is an error."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a published artifact is served without the job store, not with its {name}")


class DictFiles:
    """A catalog that needs no server."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], SourceFile] = {}

    async def get(self, dcc: str, local_id: str) -> SourceFile | None:
        return self._entries.get((dcc, local_id))

    async def put(self, entries: Any) -> int:
        before = len(self._entries)
        self._entries.update({(entry.dcc, entry.local_id): entry for entry in entries})
        return len(self._entries) - before


class Builder:
    """Starts APIs over given stores and ends them."""

    def __init__(
        self,
        jobs: Any,
        files: Any,
        root: Path,
        batches: BatchStore | None = None,
        reservations: ReservationStore | None = None,
        keys: KeyStore | None = None,
        usage: UsageStore | None = None,
    ) -> None:
        self._keys = keys
        self._usage = usage
        self._reservations = reservations
        self._jobs = jobs
        self._files = files
        self._batches = batches
        self._numbers = itertools.count(1)
        self._root = root
        self._ending: list[tuple[HttpServer, asyncio.Task[None], httpx.AsyncClient]] = []

    async def __call__(
        self,
        *,
        limits: SubmissionLimits | None = None,
        processing: bool = True,
        owner: str = "one",
        batch_limits: BatchLimits = BatchLimits(20, 4),  # noqa: B008 - frozen
        batch_ttl: timedelta = timedelta(days=1),
        http_limits: HttpLimits = HttpLimits(),  # noqa: B008 - frozen
        prices: Prices = Prices(),  # noqa: B008 - frozen
        budget: RequesterBudget = RequesterBudget(),  # noqa: B008 - frozen
        **changes: Any,
    ) -> Town:
        """Keyword arguments replace fields of the Dependencies."""
        wakeups, upstream = Wakeups(), Upstreams()
        cache = WatchedCache(LocalFsCache(self._root))
        submissions = Submissions(
            jobs=self._jobs,
            cache=cache,
            recipes=Recipes(),
            limits=limits or _LIMITS,
            wakeups=wakeups,
            new_id=lambda: JobId(f"job{next(self._numbers)}"),
            poll_seconds=0.05,
        )
        reports = None if self._usage is None else UsageReports(self._usage, self._jobs, prices)
        if reports is not None:
            submissions.budgets = Budgets(reports, budget, self._keys, remembered_seconds=0)
        readiness = {"store": "ok", "cache": "ok"}
        batches: Batches | None = None
        loop: BatchLoop | None = None
        if self._batches is not None and processing:
            describing = Describing(Catalog(self._files, time.monotonic), upstream)
            loop = BatchLoop(
                batches=self._batches,
                jobs=self._jobs,
                submissions=submissions,
                servable=describing.servable,
                described=describing.described,
                owner=Owner(owner),
                timing=BatchTiming((limits or _LIMITS).pending_per_requester, batch_ttl),
                tick_seconds=0.2,
            )
            batches = Batches(self._batches, limits=batch_limits, wakeup=loop.wakeup)

        sessions: Sessions | None = None
        if self._reservations is not None and processing:
            sessions = Sessions(
                reservations=self._reservations,
                jobs=self._jobs,
                fleet=FleetDouble(),
                workers=WorkersDouble({}, no_events),
                submissions=submissions,
                wakeups=wakeups,
                wakeup=Wakeup(),
                most_sessions=2,
                build="test",
                tick_seconds=0.2,
            )

        async def ready() -> Mapping[str, str]:
            return readiness

        dependencies = replace(
            Dependencies(
                files=self._files,
                jobs=self._jobs,
                queue=QueueStatistics(self._jobs, running_limit=RUNNING_LIMIT, fresh_seconds=0),
                sources=upstream,
                readiness=ready,
                submissions=submissions if processing else None,
                cache=cache if processing else None,
                batches=batches,
                sessions=sessions,
                admin_key=ADMIN_KEY,
                keys=self._keys,
                usage=reports,
                budgets=submissions.budgets,
                served=ServedBytes("here") if reports is not None else None,
                wait_max_seconds=15,
                version="0.1.0",
                build="test",
            ),
            **changes,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        server = HttpServer(
            create_app(dependencies),
            limits=http_limits,
            holds=dependencies.holds,
            slow_responses=dependencies.slow_responses,
            cors_origins=dependencies.origins.allowed,
            shutdown_seconds=2,
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.005)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=20)
        self._ending.append((server, serving, http))

        async def stop() -> None:
            server.should_exit = True
            await serving

        return Town(
            url,
            http,
            dependencies,
            self._jobs,
            self._files,
            cache,
            upstream,
            wakeups,
            submissions,
            readiness,
            stop,
            loop,
            sessions,
        )

    async def end(self) -> None:
        for server, serving, http in self._ending:
            await http.aclose()
            server.should_exit = True
            await serving


@pytest.fixture
async def build_town(tmp_path: Path) -> AsyncIterator[Build]:
    """Starts an API over a file of SQLite."""
    database = await open_sqlite(tmp_path / "gooseherd.db", setting="GOOSEHERD_STATE_DIR")
    builder = Builder(
        SqlJobs(database),
        SqlFiles(database),
        tmp_path / "cache",
        SqlBatches(database),
        SqlReservations(database),
        SqlKeys(database),
        SqlUsage(database),
    )
    yield builder
    await builder.end()
    await database.close()


@pytest.fixture
async def town(build_town: Build) -> Town:
    """The usual API."""
    return await build_town()


@pytest.fixture
async def build_hot_town(tmp_path: Path) -> AsyncIterator[Build]:
    """Starts an API whose artifacts are published already: no job store."""
    builder = Builder(NoJobs(), DictFiles(), tmp_path / "cache")
    yield builder
    await builder.end()


@pytest.fixture
async def hot_town(build_hot_town: Build) -> Town:
    """The usual one of those."""
    return await build_hot_town()
