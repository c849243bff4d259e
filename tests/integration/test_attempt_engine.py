"""The engine of an attempt: what is kept, what is made again, what is said, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.doubles import SourcesDouble

from gooseherd.control.manifest_verification import publish_verified
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, Event, EventKind
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import CacheUnavailable, Misconfigured, UnsupportedFormat
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED, CRAM, Format
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key
from gooseherd.domain.ports.cache import StorageRefused, StoredObject
from gooseherd.domain.processing import Produced, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import WEAK_NOTE, Dcc, LocalId, Sidecar, SidecarKind, SourceFile
from gooseherd.storage.memory import MemoryCache
from gooseherd.worker import publication
from gooseherd.worker.engine import run_attempt

BYTES = b"chr1\t1\t2\n"
SOURCE = SourceFile(
    dcc=Dcc("lab"),
    local_id=LocalId("peaks"),
    filename="peaks.bed",
    file_format=BED,
    access_url="https://example.org/peaks.bed",
    md5=hashlib.md5(BYTES).hexdigest(),
)
RECIPE = Recipe("upper", "1", BED)


class SlowToAnswer(MemoryCache):
    """A cache that answers nothing before something else has happened."""

    def __init__(self, until: asyncio.Event) -> None:
        super().__init__()
        self._until = until

    async def head(self, key: CacheKey) -> StoredObject | None:
        await self._until.wait()
        return await super().head(key)


@dataclass
class Upper:
    """A step: upper case of what it is given."""

    name: str = "data"
    needs: Kind | None = None
    weight: float = 3.0
    kind: Kind = Kind.DATA
    salt: bytes = b""
    fail: BaseException | None = None
    runs: int = 0
    began: asyncio.Event = field(default_factory=asyncio.Event)
    hang: bool = False
    seen: bytes = b""

    async def run(self, given: StepInput) -> StepOutput:
        self.runs += 1
        self.began.set()
        assert list(given.work.iterdir()) == []
        self.seen = given.path.read_bytes()
        (given.work / "spill").write_bytes(b"x" * 100)
        if self.hang:
            await asyncio.Event().wait()
        for tenth in range(11):
            given.report(tenth / 10, tenth, tenth)
        if self.fail is not None:
            raise self.fail
        path = given.work / "out"
        path.write_bytes(self.seen.upper() + self.salt)
        return StepOutput(
            files=(Produced(self.kind, path, f"{self.name}.bin", f"peaks.{self.name}"),),
            contigs=(Contig("chr1", 10),),
            counts={f"{self.name}_records": 1},
            notes=(f"{self.name} was here",),
            tools={"upper": "1.0"},
        )


@dataclass
class Keep(Upper):
    """A step that publishes its very input, as for a BAM that is sorted already."""

    async def run(self, given: StepInput) -> StepOutput:
        return StepOutput(files=(Produced(self.kind, given.path, f"{self.name}.bin", "peaks.bed"),))


@dataclass
class Misled(Upper):
    """A step whose tool left something else under the name of its result."""

    make: Callable[[Path], None] = lambda path: path.symlink_to("/etc/hostname")

    async def run(self, given: StepInput) -> StepOutput:
        self.make(given.work / "out")
        produced = Produced(self.kind, given.work / "out", f"{self.name}.bin", "peaks.bed")
        given.announce(produced)
        return StepOutput(files=(produced,))


@dataclass
class Processor:
    """Makes data from the source and an index from the data."""

    made: tuple[Upper, ...]
    name: str = "upper"
    formats: frozenset[Format] = frozenset({BED})
    kinds: frozenset[Kind] = frozenset({Kind.DATA, Kind.INDEX})

    def version(self, source_format: Format) -> str:
        return "1"

    def filenames(self, source: SourceFile) -> dict[Kind, str]:
        return dict.fromkeys(self.kinds, "peaks.bed")

    def steps(self, source_format: Format) -> tuple[Upper, ...]:
        return self.made


class Registry:
    def __init__(self, processor: Processor, error: Exception | None = None) -> None:
        self._processor = processor
        self._error = error

    def processor(self, recipe: Recipe) -> Processor:
        if self._error is not None:
            raise self._error
        return self._processor


class Bench:
    """One place to run attempts in; cache and source stay, everything else is new for each."""

    def __init__(self, tmp_path: Path) -> None:
        self.cache: Any = MemoryCache()
        self.sources = SourcesDouble(BYTES)
        self.data = Upper()
        self.index = Upper(name="index", needs=Kind.DATA, weight=1.0, kind=Kind.INDEX)
        self.source = SOURCE
        self.events: list[Event] = []
        self.registry_error: Exception | None = None
        self._root = tmp_path
        self._n = 0

    @property
    def work(self) -> Path:
        return self._root / str(self._n)

    def key(self, name: str) -> CacheKey:
        return cache_key(self.source.identity, RECIPE, name)

    def emit(self, kind: EventKind, **fields: Any) -> None:
        self.events.append(Event(seq=len(self.events) + 1, kind=kind, at=0.0, **fields))

    async def run(self, *, number: int | None = None) -> Event:
        self._n += 1
        self.events = []
        self.work.mkdir()
        spec = AttemptSpec(
            AttemptId(JobId("job"), number or self._n),
            self.source,
            RECIPE,
            AttemptLimits(1 << 20, 1 << 20, 60.0),
            "b",
        )
        await run_attempt(
            spec,
            cache=self.cache,
            sources=self.sources,
            registry=Registry(Processor((self.data, self.index)), self.registry_error),
            work=self.work,
            emit=self.emit,
        )
        assert not self.work.exists()
        assert [event.last for event in self.events].count(True) == 1
        if self.events[-1].kind is EventKind.DONE:
            self.verification = await publish_verified(self.cache, self.source, RECIPE, spec.attempt)
            assert self.verification.manifest is not None, self.verification.failure
        return self.events[-1]

    async def stored(self, name: str) -> bytes:
        return b"".join([chunk async for chunk in self.cache.get(self.key(name))])

    async def manifest(self) -> Manifest:
        return Manifest.from_bytes(await self.stored(MANIFEST))

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events if event.kind is not EventKind.PROGRESS]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_everything_is_made_and_the_manifest_says_so(bench: Bench) -> None:
    last = await bench.run()
    manifest = await bench.manifest()
    assert last.kind is EventKind.DONE
    assert last.manifest_digest == manifest.digest
    assert await bench.stored("data.bin") == BYTES.upper()
    data = manifest.part(Kind.DATA)
    assert data is not None
    assert data.sha256 == hashlib.sha256(BYTES.upper()).hexdigest()
    assert data.filename == "peaks.data"
    assert manifest.counts == {"data_records": 1, "index_records": 1}
    assert manifest.notes == ("data was here", "index was here")
    assert bench.index.seen == BYTES.upper()


async def test_more_sequence_names_than_anybody_can_be_asked_to_read_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "MOST_BYTES", 100)
    last = await bench.run()
    assert last.reason is Reason.SOURCE_INVALID
    assert "limit is 100" in last.detail
    assert [found async for found in bench.cache.list()] == []


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo], ids=["link", "fifo"]
)
async def test_nothing_but_a_file_of_its_own_is_published_for_a_tool(
    bench: Bench, make: Callable[[Path], None]
) -> None:
    bench.data = Misled(make=make)
    async with asyncio.timeout(30):
        last = await bench.run()
    assert last.reason is Reason.TOOL_FAILED
    assert [found async for found in bench.cache.list()] == []


async def test_events_come_in_order(bench: Bench) -> None:
    await bench.run()
    assert bench.kinds() == [
        EventKind.STEP,  # fetch
        EventKind.STEP,
        EventKind.STEP_COMPLETE,
        EventKind.STEP,
        EventKind.STEP_COMPLETE,
        EventKind.DONE,
    ]
    parts = next(event for event in bench.events if event.kind is EventKind.STEP_COMPLETE).parts
    assert parts[0]["kind"] == "data"
    assert parts[0]["key"] == bench.key("data.bin")


async def test_percent_never_falls_and_ends_at_a_hundred(bench: Bench) -> None:
    await bench.run()
    lines = [event.percent for event in bench.events]
    assert lines == sorted(lines)
    assert lines[-1] == 100.0
    fetched = [e.percent for e in bench.events if e.kind is EventKind.PROGRESS and e.step == "fetch"]
    assert fetched[-1] == 10.0
    data = [e.percent for e in bench.events if e.kind is EventKind.PROGRESS and e.step == "data"]
    assert data[-1] == 10.0 + 90.0 * 0.75


async def test_what_is_published_is_not_made_again(bench: Bench) -> None:
    digest = (await bench.run()).manifest_digest
    last = await bench.run()
    assert last.manifest_digest == digest
    assert bench.data.runs == bench.index.runs == bench.sources.fetched == 1


async def test_a_retry_repeats_only_the_step_that_failed(bench: Bench) -> None:
    bench.index.fail = StepFailed.because(Reason.TOOL_FAILED, "tabix: exit 1")
    last = await bench.run()
    assert (last.reason, last.detail) == (Reason.TOOL_FAILED, "tabix: exit 1")
    assert await bench.cache.head(bench.key(MANIFEST)) is None
    bench.index.fail = None
    assert (await bench.run()).kind is EventKind.DONE
    assert (bench.data.runs, bench.index.runs, bench.sources.fetched) == (1, 2, 1)
    assert bench.index.seen == BYTES.upper()
    assert bench.kinds().count(EventKind.STEP_COMPLETE) == 2
    assert max(e.percent for e in bench.events) == 100.0


async def test_the_source_is_fetched_again_only_for_a_step_that_reads_it(bench: Bench) -> None:
    bench.data.fail = StepFailed.because(Reason.SOURCE_INVALID, "no records")
    assert (await bench.run()).reason is Reason.SOURCE_INVALID
    bench.data.fail = None
    await bench.run()
    assert bench.sources.fetched == 2


async def test_the_source_of_a_first_attempt_is_on_its_way_while_the_cache_is_asked(bench: Bench) -> None:
    asked = asyncio.Event()
    bench.cache = SlowToAnswer(until=asked)
    bench.sources.asked = asked
    async with asyncio.timeout(60):
        assert (await bench.run()).kind is EventKind.DONE


async def test_a_source_that_turns_out_to_be_needless_is_let_go(bench: Bench) -> None:
    digest = (await bench.run()).manifest_digest
    bench.sources.hang = True
    bench.sources.failure = StepFailed.because(Reason.SOURCE_MISSING, "gone by now")
    async with asyncio.timeout(60):
        last = await bench.run(number=1)
    assert last.manifest_digest == digest
    assert bench.sources.let_go == bench.sources.fetched - 1  # None, when it had not begun yet.


async def test_a_source_that_is_gone_by_now_does_not_matter_to_what_is_stored(bench: Bench) -> None:
    bench.index.fail = StepFailed.because(Reason.TOOL_FAILED, "tabix: exit 1")
    await bench.run()
    bench.index.fail = None
    bench.sources.failure = StepFailed.because(Reason.SOURCE_MISSING, "gone by now")
    assert (await bench.run(number=1)).kind is EventKind.DONE


async def test_a_source_that_is_published_as_it_is_stays_for_the_step_that_needs_it(bench: Bench) -> None:
    bench.data = Keep()
    assert (await bench.run()).kind is EventKind.DONE
    assert bench.index.seen == BYTES
    assert await bench.stored("data.bin") == BYTES


async def test_a_receipt_without_its_part_is_void(bench: Bench) -> None:
    await bench.run()
    await bench.cache.delete(bench.key(MANIFEST))
    await bench.cache.delete(bench.key("data.bin"))
    assert (await bench.run()).kind is EventKind.DONE
    assert (bench.data.runs, bench.index.runs) == (2, 1)
    assert await bench.stored("data.bin") == BYTES.upper()


async def test_a_receipt_that_cannot_be_read_is_void(bench: Bench) -> None:
    await bench.cache.put_if_absent(bench.key("step-data.json"), b"{")
    assert (await bench.run()).kind is EventKind.DONE
    assert await bench.stored("step-data.json") == b"{", "an attempt removes nothing"


async def test_an_equal_part_of_a_dead_attempt_is_kept(bench: Bench) -> None:
    await bench.cache.put_if_absent(bench.key("data.bin"), BYTES.upper())
    assert (await bench.run()).kind is EventKind.DONE


async def test_beside_a_different_part_of_a_dead_attempt_another_key_is_used(bench: Bench) -> None:
    await bench.cache.put_if_absent(bench.key("data.bin"), b"of another tool version")
    assert (await bench.run()).kind is EventKind.DONE
    data = (await bench.manifest()).part(Kind.DATA)
    assert data is not None
    assert (data.size, data.filename) == (len(BYTES), "peaks.data")
    assert b"".join([chunk async for chunk in bench.cache.get(data.key)]) == BYTES.upper()
    assert await bench.stored("data.bin") == b"of another tool version", "an attempt removes nothing"


async def test_a_different_part_with_a_receipt_is_adopted(bench: Bench, tmp_path: Path) -> None:
    rival = Bench(tmp_path / "rival")
    tmp_path.joinpath("rival").mkdir()
    rival.cache = bench.cache
    rival.data.salt = b"rival"

    class RivalFirst(MemoryCache):
        """A rival attempt finishes the same step while ours runs."""

        done = False

        async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
            if not self.done and key.endswith("data.bin"):
                self.done = True
                await rival.run()
                await self.delete(rival.key(MANIFEST))
            return await super().put_if_absent(key, body)

    bench.cache = rival.cache = RivalFirst()
    assert (await bench.run()).kind is EventKind.DONE
    assert await bench.stored("data.bin") == BYTES.upper() + b"rival"
    data = (await bench.manifest()).part(Kind.DATA)
    assert data is not None
    assert data.sha256 == hashlib.sha256(BYTES.upper() + b"rival").hexdigest()


async def test_a_manifest_that_a_rival_wrote_first_stands(bench: Bench) -> None:
    class RivalManifest(MemoryCache):
        async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
            if key.endswith(MANIFEST):
                theirs = replace(Manifest.from_bytes(body), notes=("rival",))
                await super().put_if_absent(key, theirs.to_bytes())
            return await super().put_if_absent(key, body)

    bench.cache = RivalManifest()
    await bench.run()
    manifest = await bench.manifest()
    assert manifest.notes == ("rival",)
    assert bench.verification.manifest == manifest


async def test_a_source_without_checksum_is_noted(bench: Bench) -> None:
    bench.source = replace(SOURCE, md5=None, version_tag="v1")
    await bench.run()
    assert WEAK_NOTE in (await bench.manifest()).notes


@pytest.mark.parametrize(
    ("file_format", "kind", "words"),
    [
        (CRAM, SidecarKind.BAI, "a cram is not served with one"),
        (CRAM, SidecarKind.CRAI, "what a CRAM is served with is made here"),
        (BED, SidecarKind.CRAI, "a bed is not served with one"),
    ],
)
async def test_an_index_of_upstreams_that_is_not_served_is_left_out_and_noted(
    bench: Bench, file_format: Format, kind: SidecarKind, words: str
) -> None:
    index = Sidecar(kind, "https://example.org/x.index")
    bench.source = replace(SOURCE, file_format=file_format, sidecars=(index,))
    await bench.run()
    assert f"upstream's {kind} index is left out: {words}" in (await bench.manifest()).notes


async def test_cancellation_leaves_no_scratch_and_no_last_event(bench: Bench) -> None:
    bench.data.hang = True
    running = asyncio.create_task(bench.run())
    await bench.data.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not bench.work.exists()
    assert not any(event.last for event in bench.events)


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (ZeroDivisionError("/secret/path"), Reason.TOOL_FAILED, "unexpected ZeroDivisionError"),
        (
            OSError(errno.ENOSPC, "full", "/secret/path"),
            Reason.OUT_OF_DISK,
            "no space left for the attempt's files",
        ),
        (MemoryError(), Reason.OUT_OF_MEMORY, "the attempt ran out of memory"),
        (CacheUnavailable("put"), Reason.STORE_UNAVAILABLE, "artifact cache unavailable during put"),
    ],
)
async def test_every_error_ends_with_a_reason_and_without_paths(
    bench: Bench, error: Exception, reason: Reason, detail: str
) -> None:
    bench.data.fail = error
    last = await bench.run()
    assert (last.reason, last.detail) == (reason, detail)


async def test_a_full_cache_is_out_of_disk(bench: Bench) -> None:
    class Full(MemoryCache):
        async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
            raise CacheUnavailable("put") from OSError(errno.ENOSPC, "full")

    bench.cache = Full()
    assert (await bench.run()).reason is Reason.OUT_OF_DISK


async def test_a_cache_that_fails_before_the_first_step_is_named_too(bench: Bench) -> None:
    class Away(MemoryCache):
        async def head(self, key: CacheKey) -> Any:
            raise CacheUnavailable("head")

        def get(self, key: CacheKey, span: Any = None) -> AsyncIterator[bytes]:
            raise CacheUnavailable("get")

    bench.cache = Away()
    assert (await bench.run()).reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnsupportedFormat("cram"), Reason.UNSUPPORTED_FORMAT),
        (Misconfigured("processor", "another version"), Reason.MISCONFIGURED),
        (StorageRefused("WORKFLOW_S3_BUCKET", "S3 refuses put"), Reason.STORE_UNAVAILABLE),
    ],
)
async def test_a_recipe_this_build_cannot_follow_is_refused(
    bench: Bench, error: Exception, reason: Reason
) -> None:
    bench.registry_error = error
    assert (await bench.run()).reason is reason
    assert bench.sources.fetched == 0


async def test_what_the_download_says_is_what_the_attempt_says(bench: Bench) -> None:
    bench.sources.failure = StepFailed.because(Reason.SOURCE_CHANGED, "md5 differs")
    last = await bench.run()
    assert (last.reason, last.detail) == (Reason.SOURCE_CHANGED, "md5 differs")
    assert bench.data.runs == 0
