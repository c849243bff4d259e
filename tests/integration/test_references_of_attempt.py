"""An attempt brings the reference sequences that a CRAM leaves out, known by their M5."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pysam
import pytest
from tests.doubles import SourcesDouble

from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, EventKind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import CacheKey, cache_key, result_name
from gooseherd.domain.ports.source import Fetched, Pausing, ignore_pause
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.sources.references import parse_references
from gooseherd.storage.memory import MemoryCache
from gooseherd.worker.engine import run_attempt
from gooseherd.worker.reference_store import ReferenceStore
from gooseherd.worker.references import ReferenceRules, References

CRAM = "https://files.example.org/x.cram"
FASTA = "https://files.example.org/genome.fa.gz"
CHANCE = random.Random(11)
LENGTHS = {"one": 60_000, "two": 30_000, "three": 9_000}
GENOME = {name: "".join(CHANCE.choices("ACGTacgtN", k=length)) for name, length in LENGTHS.items()}
M5 = {name: hashlib.md5(bases.upper().encode()).hexdigest() for name, bases in GENOME.items()}


def fasta(genome: Mapping[str, str] = GENOME, width: int = 60) -> bytes:
    lines = []
    for name, bases in genome.items():
        lines.append(f">{name} a sequence\n")
        lines += [bases[at : at + width] + "\n" for at in range(0, len(bases), width)]
    return "".join(lines).encode()


def packed(packing: str, text: bytes) -> bytes:
    if packing == "bgzf":
        return subprocess.run(["bgzip", "-c"], input=text, capture_output=True, check=True).stdout
    return gzip.compress(text) if packing == "gzip" else text


def sam(names: str = "one two", *, order: str = "sorted", tags: Mapping[str, str] | None = None) -> bytes:
    """Reads on some of the sequences; `tags` are put into each header line."""
    more = "".join(f"\t{tag}:{value}" for tag, value in (tags or {}).items())
    lines = [f"@SQ\tSN:{name}\tLN:{length}{more}" for name, length in LENGTHS.items()]
    places = [
        (list(LENGTHS).index(name), at, name)
        for name in names.split()
        for at in CHANCE.sample(range(1, LENGTHS[name] - 60), 300)
    ]
    for number, (_, at, name) in enumerate(sorted(places) if order == "sorted" else places):
        bases = list(GENOME[name][at - 1 : at + 49].upper())
        bases[7] = "A"
        lines.append(f"r{number}\t0\t{name}\t{at}\t60\t50M\t*\t0\t0\t{''.join(bases)}\t{'I' * 50}")
    return ("\n".join(lines) + "\n").encode()


def cram(folder: Path, text: bytes, *, options: str = "") -> bytes:
    """As samtools makes it of a reference that is gone afterwards."""
    reference = folder / "made-with.fa"
    reference.write_bytes(fasta())
    argv = ["samtools", "view", "--no-PG", "-C", "-T", str(reference), "-o", str(folder / "made.cram"), "-"]
    subprocess.run(
        [*argv[:-1], *(("--output-fmt-option", options) if options else ()), "-"], input=text, check=True
    )
    made = (folder / "made.cram").read_bytes()
    for left in folder.glob("made*"):
        left.unlink()
    return made


def with_header(folder: Path, content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The same CRAM with its header changed, by samtools."""
    path, header = folder / "old.cram", folder / "new.sam"
    path.write_bytes(content)
    argv = ["samtools", "view", "--no-PG", "-H", str(path)]
    header.write_bytes(change(subprocess.run(argv, capture_output=True, check=True).stdout))
    argv = ["samtools", "reheader", "-P", str(header), str(path)]
    return subprocess.run(argv, capture_output=True, check=True).stdout


@dataclass
class Upstream:
    """Files by their addresses; `asked` counts."""

    files: dict[str, bytes]
    asked: Counter[str] = field(default_factory=Counter)
    slow: float = 0.0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """A reference was asked for."""
    broken: int = 0
    """So many fetches of a reference fail first."""

    async def fetch(
        self,
        source: SourceFile,
        into: Path,
        *,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing = ignore_pause,
    ) -> Fetched:
        self.asked[source.access_url] += 1
        if source.access_url != CRAM:
            self.reached.set()
            await asyncio.sleep(self.slow)
            if self.broken:
                self.broken -= 1
                raise StepFailed.because(Reason.SOURCE_UNAVAILABLE, "intern.example.org answered 503")
        content = self.files.get(source.access_url)
        if content is None:
            raise StepFailed.because(Reason.SOURCE_MISSING, "intern.example.org has no such file")
        if len(content) > limit:
            raise StepFailed.because(Reason.SOURCE_TOO_LARGE, "too large")
        return await SourcesDouble(content).fetch(source, into, limit=limit, report=report, pausing=pausing)


@dataclass
class Ended:
    """How an attempt ended: with reads by sequence, or a failure."""

    reads: dict[str, list[str]] = field(default_factory=dict)
    failure: Failure | None = None
    data: bytes = b""


@dataclass
class Bench:
    """Attempts that share a folder of references."""

    home: Path
    upstream: Upstream
    references: str = f"genome={FASTA}"
    most_bytes: int = 1 << 30
    keep_cram: bool = False
    runs: int = 0

    @property
    def folder(self) -> Path:
        return self.home / "references"

    @property
    def kept(self) -> set[str]:
        return {path.name for path in (self.folder / "sequences").iterdir()}

    async def attempt(self, content: bytes) -> Ended:
        self.runs += 1
        work = self.home / f"attempt{self.runs}"
        await asyncio.to_thread(work.mkdir)
        self.upstream.files[CRAM] = content
        registry = default_registry(
            sort_memory=32 << 20, samtools_memory=64 << 20, threads=1, level=1, keep_cram=self.keep_cram
        )
        entry = {"dcc": "test", "local_id": "x", "access_url": CRAM, "md5": hashlib.md5(content).hexdigest()}
        source = SourceFile.from_json(entry)
        recipe, cache, events = registry.recipe(source), MemoryCache(), []
        limits = AttemptLimits(1 << 26, 1 << 28, 120.0)
        words = [word for word in self.references.split(",") if word]
        rules = ReferenceRules(
            sources=parse_references(words), most_bytes=self.most_bytes, folder=self.folder
        )
        references = References(rules, self.upstream, work / "references")  # type: ignore[arg-type]
        try:
            await run_attempt(
                AttemptSpec(AttemptId(JobId("job"), 1), source, recipe, limits, "build"),
                cache=cache,
                sources=self.upstream,  # type: ignore[arg-type]
                registry=registry,
                work=work,
                emit=lambda kind, **more: events.append((kind, more)),
                references=references,
            )
        finally:
            await references.close()
        kind, more = events[-1]
        if kind is EventKind.FAILED:
            return Ended(failure=Failure(more["reason"], more["detail"]))

        async def stored(key: CacheKey) -> bytes:
            return b"".join([chunk async for chunk in cache.get(key)])

        manifest = Manifest.from_bytes(await stored(cache_key(source.identity, recipe, result_name("job.1"))))
        part = manifest.part(Kind.DATA)
        assert part is not None
        data = await stored(part.key)
        return Ended({} if self.keep_cram else await asyncio.to_thread(self.read, data), data=data)

    def read(self, data: bytes) -> dict[str, list[str]]:
        path = self.home / "read"
        path.write_bytes(data)
        found: dict[str, list[str]] = {}
        with pysam.AlignmentFile(str(path)) as opened:
            for read in opened.fetch(until_eof=True):
                place = f"{read.query_name} {read.reference_start + 1} {read.query_sequence}"
                found.setdefault(str(read.reference_name), []).append(place)
        return found


def expected(text: bytes) -> dict[str, list[str]]:
    """What a SAM has, without any CRAM."""
    found: dict[str, list[str]] = {}
    for line in text.decode().splitlines():
        if not line.startswith("@"):
            name, _, sequence, at, *_, bases, _ = line.split("\t")
            found.setdefault(sequence, []).append(f"{name} {at} {bases}")
    return {name: sorted(lines) for name, lines in found.items()}


def same(ended: Ended, text: bytes) -> bool:
    assert ended.failure is None, ended.failure
    return {name: sorted(lines) for name, lines in ended.reads.items()} == expected(text)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Upstream({FASTA: gzip.compress(fasta())}))


@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("packing", ["plain", "gzip", "bgzf"])
async def test_a_cram_is_decoded_with_the_reference_that_the_setting_names(
    bench: Bench, tmp_path: Path, order: str, packing: str
) -> None:
    bench.upstream.files[FASTA] = packed(packing, fasta(width=71))
    text = sam(order=order)
    assert same(await bench.attempt(cram(tmp_path, text)), text)
    assert bench.upstream.asked[FASTA] == 1


async def test_a_reference_is_fetched_once_for_many_attempts(bench: Bench, tmp_path: Path) -> None:
    bench.upstream.slow = 0.3
    texts = [sam("one two"), sam("two three"), sam("one")]
    made = [cram(tmp_path, text) for text in texts]
    first = await bench.attempt(made[0])
    assert same(first, texts[0])
    # What the header names is kept when it is met.
    assert bench.kept == set(M5.values())
    for content, text in zip(made[1:], texts[1:], strict=True):
        assert same(await bench.attempt(content), text)
    assert bench.upstream.asked[FASTA] == 1


async def test_attempts_that_need_a_reference_at_once_fetch_it_once(tmp_path: Path) -> None:
    text = sam()
    content = cram(tmp_path, text)
    upstream = Upstream({FASTA: fasta()}, slow=0.5)
    benches = [Bench(tmp_path / str(number), upstream) for number in range(3)]
    shared = tmp_path / "shared"
    for one in benches:
        one.home.mkdir()
        shared.mkdir(exist_ok=True)
        (one.home / "references").symlink_to(shared)
    ended = await asyncio.gather(*(one.attempt(content) for one in benches))
    assert all(same(one, text) for one in ended)
    assert upstream.asked[FASTA] == 1


async def test_a_fetch_that_breaks_is_made_by_the_next_attempt(bench: Bench, tmp_path: Path) -> None:
    text = sam()
    content = cram(tmp_path, text)
    bench.upstream.broken = 1
    failed = await bench.attempt(content)
    assert failed.failure is not None
    assert failed.failure.reason is Reason.SOURCE_UNAVAILABLE
    assert (
        failed.failure.detail == "the reference genome of SOURCE_REFERENCES cannot be had: it does not answer"
    )
    assert same(await bench.attempt(content), text)


@pytest.mark.parametrize(
    ("references", "words"),
    [
        (
            "",
            "an external reference sequence, one (M5 {m5}): name a FASTA that has it in SOURCE_REFERENCES",
        ),
        (
            "genome=https://files.example.org/other",
            "genome of SOURCE_REFERENCES has other bases by that name (M5 ",
        ),
        (
            "genome=https://files.example.org/none",
            "the reference genome of SOURCE_REFERENCES cannot be had: there is",
        ),
        ("genome=https://files.example.org/cut", "cannot be had: truncated"),
        ("genome=https://files.example.org/two", "one (M5 {m5}): no source in SOURCE_REFERENCES has it"),
        (
            "hg38=https://files.example.org/x,0=https://files.example.org/two",
            "no source in SOURCE_REFERENCES has it",
        ),
    ],
)
async def test_a_reference_that_cannot_be_had_is_named_with_what_to_do(
    bench: Bench, tmp_path: Path, references: str, words: str
) -> None:
    bench.references = references
    other = {**GENOME, "one": GENOME["one"][::-1]}
    bench.upstream.files |= {
        "https://files.example.org/other": fasta(other),
        "https://files.example.org/two": fasta({"two": GENOME["two"]}),
        "https://files.example.org/cut": gzip.compress(fasta())[:20_000],
        "https://files.example.org/x": fasta(),
    }
    content = cram(tmp_path, sam(tags={"AS": "mine"} if "hg38" in references else None))
    ended = await bench.attempt(content)
    assert ended.failure is not None
    assert words.format(m5=M5["one"]) in ended.failure.detail
    assert "example.org" not in ended.failure.detail
    assert not list((tmp_path / "references").glob("drafts/*"))


async def test_a_source_that_lacks_a_sequence_is_not_read_again_that_day(
    bench: Bench, tmp_path: Path
) -> None:
    bench.upstream.files[FASTA] = fasta({"two": GENOME["two"]})
    content = cram(tmp_path, sam())
    for _ in range(2):
        assert (await bench.attempt(content)).failure is not None
    assert bench.upstream.asked[FASTA] == 1
    (written,) = (bench.folder / "contents").iterdir()
    os.utime(written, (1, 1))
    bench.upstream.files[FASTA] = fasta()
    assert (await bench.attempt(content)).failure is None


async def test_sequences_without_reads_need_no_reference(bench: Bench, tmp_path: Path) -> None:
    bench.upstream.files[FASTA] = fasta({"two": GENOME["two"]})
    text = sam("two")
    assert same(await bench.attempt(cram(tmp_path, text)), text)


async def test_a_cram_that_needs_no_reference_fetches_none(bench: Bench, tmp_path: Path) -> None:
    text = sam()
    for options in ("no_ref=1", "embed_ref=1"):
        assert same(await bench.attempt(cram(tmp_path, text, options=options)), text)
    assert not bench.upstream.asked[FASTA]


@pytest.mark.parametrize("name", ["by m5", "template", "bare template"])
async def test_a_sequence_is_asked_for_by_its_m5(bench: Bench, tmp_path: Path, name: str) -> None:
    text = sam("two")
    for sequence, m5 in M5.items():
        one = fasta({sequence: GENOME[sequence]})
        bare = GENOME[sequence].upper().encode()
        bench.upstream.files[f"https://files.example.org/{m5}"] = bare if name == "bare template" else one
    bench.references = "refget=https://files.example.org/{m5}"
    if name == "by m5":
        bench.references = ",".join(f"{m5}=https://files.example.org/{m5}" for m5 in M5.values())
    assert same(await bench.attempt(cram(tmp_path, text)), text)
    assert bench.kept == {M5["two"]}


async def test_the_same_bytes_come_from_any_source_of_a_reference(tmp_path: Path) -> None:
    content = cram(tmp_path, sam(order="unsorted"))
    made = set()
    for number, genome in enumerate((fasta(), fasta({f"chr{n}": b.lower() for n, b in GENOME.items()}, 33))):
        home = tmp_path / str(number)
        home.mkdir()
        ended = await Bench(home, Upstream({FASTA: genome})).attempt(content)
        assert ended.failure is None
        made.add(ended.data)
    assert len(made) == 1


async def test_a_sequence_that_was_damaged_on_disk_is_fetched_again(bench: Bench, tmp_path: Path) -> None:
    text = sam("one")
    content = cram(tmp_path, text)
    assert same(await bench.attempt(content), text)
    path = bench.folder / "sequences" / M5["one"]
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"NNNNNNNNNN")
    assert same(await bench.attempt(content), text)
    assert bench.upstream.asked[FASTA] == 2


@pytest.mark.parametrize("m5", ["../../etc/passwd", "*", "abc"])
async def test_no_header_leads_a_tool_to_a_file(bench: Bench, tmp_path: Path, m5: str) -> None:
    """The name of a reference is the name of a file: it must be an M5 and nothing else."""
    made = cram(tmp_path, sam("one"))
    changed = with_header(tmp_path, made, lambda header: header.replace(M5["three"].encode(), m5.encode()))
    ended = await bench.attempt(changed)
    assert ended.failure == Failure(Reason.SOURCE_INVALID, f"a header line has an M5 that is no MD5: {m5!r}")


async def test_a_needed_sequence_without_an_m5_is_refused(bench: Bench, tmp_path: Path) -> None:
    tag = f"\tM5:{M5['one']}".encode()
    changed = with_header(tmp_path, cram(tmp_path, sam("one")), lambda header: header.replace(tag, b""))
    ended = await bench.attempt(changed)
    assert ended.failure is not None
    words = "needs an external reference sequence, one: its header line (@SQ) has no M5"
    assert words in ended.failure.detail


async def test_an_m5_in_capitals_is_the_same_m5(bench: Bench, tmp_path: Path) -> None:
    def in_capitals(header: bytes) -> bytes:
        for m5 in M5.values():
            header = header.replace(m5.encode(), m5.upper().encode())
        return header

    text = sam("one two")
    assert same(await bench.attempt(with_header(tmp_path, cram(tmp_path, text), in_capitals)), text)


async def test_an_unsorted_cram_that_stays_one_is_sorted_with_its_reference(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.keep_cram = True
    text = sam("one two three", order="unsorted")
    content = cram(tmp_path, text)
    made = [await bench.attempt(content) for _ in range(2)]
    assert made[0].failure is None, made[0].failure
    assert made[0].data == made[1].data
    # Who reads it needs the reference, too: here by the same way as tools do.
    monkeypatch.setenv("REF_CACHE", f"{bench.folder}/sequences/%s")
    assert same(Ended(bench.read(made[0].data)), text)
    bench.references = ""
    failed = await bench.attempt(content)
    assert failed.failure is not None
    assert "in SOURCE_REFERENCES" in failed.failure.detail


# -- the folder ------------------------------------------------------------------------------


async def test_the_folder_stays_within_its_bound_and_what_was_not_used_goes_first(
    bench: Bench, tmp_path: Path
) -> None:
    bench.most_bytes = 95_000  # All three sequences have 99,000.
    bench.references = f"genome={FASTA}"
    text = sam("two three")
    assert same(await bench.attempt(cram(tmp_path, text)), text)
    store = ReferenceStore(bench.folder, 95_000)
    old = bench.folder / "sequences" / M5["two"]
    os.utime(old, (1, 1))
    store.make_room(60_000)
    assert M5["two"] not in bench.kept


async def test_a_folder_that_cannot_be_used_is_named_by_its_setting(bench: Bench, tmp_path: Path) -> None:
    bench.folder.write_text("a file where the folder should be")
    ended = await bench.attempt(cram(tmp_path, sam("one")))
    assert ended.failure is not None
    assert ended.failure.reason is Reason.MISCONFIGURED
    assert "SOURCE_REFERENCES_DIR" in ended.failure.detail


def test_nothing_goes_that_a_living_attempt_uses(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path / "r", 100)
    use = store.begin_use()
    for content in (b"A" * 60, b"C" * 30):
        draft = store.draft()
        draft.write(content)
        store.publish(draft, hashlib.md5(content).hexdigest(), use if content[0] == 65 else None)
    with pytest.raises(StepFailed) as failed:
        store.make_room(50)
    assert failed.value.failure.reason is Reason.OUT_OF_DISK
    assert "SOURCE_REFERENCES_MAX_BYTES" in failed.value.failure.detail
    assert [path.name for path in store.sequences.iterdir()] == [hashlib.md5(b"A" * 60).hexdigest()]
    use.close()
    store.make_room(50)
    assert not list(store.sequences.iterdir())


def test_what_a_killed_process_wrote_or_used_or_locked_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from gooseherd.worker.reference_store import ReferenceStore\n"
        f"store = ReferenceStore(Path({str(tmp_path / 'r')!r}), 100)\n"
        "use = store.begin_use(); use.add(['x']); lock = store.lock_of('genome')\n"
        "draft = store.draft(); draft.write(b'A'); print('here', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"here\n"
        store = ReferenceStore(tmp_path / "r", 100)
        assert store.lock_of("genome") is None
        store.make_room(1)
        assert len(list((tmp_path / "r" / "uses").iterdir())) == 1
        assert len(list((tmp_path / "r" / "drafts").iterdir())) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    lock = store.lock_of("genome")
    assert lock is not None
    lock.close()
    store.make_room(1)
    assert not list((tmp_path / "r" / "uses").iterdir())
    assert not list((tmp_path / "r" / "drafts").iterdir())


async def test_a_cancelled_attempt_leaves_no_lock_and_no_draft(bench: Bench, tmp_path: Path) -> None:
    bench.upstream.slow = 60.0
    text = sam()
    content = cram(tmp_path, text)
    running = asyncio.create_task(bench.attempt(content))
    await bench.upstream.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    bench.upstream.slow = 0.0
    assert same(await bench.attempt(content), text)
