"""Runs processors on files made in the test, and sees to it that nothing of them is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.processing import Produced, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import Sidecar, SourceFile
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.processing.tools.isolation import SandboxUse, try_sandbox
from gooseherd.trial.bigbed import write_bigbed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


@dataclass
class Made:
    """What the steps of one source gave, or why they did not."""

    outputs: list[StepOutput] = field(default_factory=list)
    failure: Failure | None = None
    work: list[str] = field(default_factory=list)
    """Names left in the work folders."""
    reports: list[tuple[float, int, int]] = field(default_factory=list)

    def produced(self, kind: Kind) -> Produced:
        return next(p for output in self.outputs for p in output.files if p.kind is kind)

    @property
    def data(self) -> str:
        return str(self.produced(Kind.DATA).path)

    @property
    def index(self) -> str:
        return str(self.produced(Kind.INDEX).path)

    @property
    def notes(self) -> str:
        return "\n".join(note for output in self.outputs for note in output.notes)

    @property
    def counts(self) -> dict[str, int]:
        return {k: v for output in self.outputs for k, v in output.counts.items()}

    def digests(self) -> list[str]:
        return [
            hashlib.sha256(p.path.read_bytes()).hexdigest() for output in self.outputs for p in output.files
        ]


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may end while we look.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(scope="session")
def sandbox_refusal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why there is no sandbox on this machine; empty when there is one."""
    there, how = asyncio.run(try_sandbox(SandboxUse.AUTO, tmp_path_factory.mktemp("trial")))
    return "" if there else how


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.fixture
def registry() -> ProcessorRegistry:
    return default_registry(sort_memory=32 << 20, samtools_memory=64 << 20, threads=2)


@pytest.fixture
def process(tmp_path: Path, registry: ProcessorRegistry) -> Callable[..., object]:
    """`await process(content or path, format)`: all steps, as an attempt would run them."""
    runs = 0

    async def run(
        content: bytes | Path,
        file_format: str,
        *,
        filename: str = "",
        sidecar: str = "",
        upstream_index: bytes | None = None,
        scratch_bytes: int = 1 << 30,
        using: ProcessorRegistry = registry,
        on_demand: bool = False,
    ) -> Made:
        nonlocal runs
        runs += 1
        home = tmp_path / f"run{runs}"
        home.mkdir()
        if isinstance(content, bytes):
            path = home / (filename or f"x##idx##{file_format}")
            path.write_bytes(content)
        else:
            path = content
        path.chmod(0o444)
        source = SourceFile.from_json(
            {
                "dcc": "test",
                "local_id": "x",
                "filename": filename or f"x.{file_format}",
                "access_url": "https://example.org/x",
                "file_format": file_format,
                "md5": hashlib.md5(path.read_bytes()).hexdigest(),
                "sidecars": [{"kind": sidecar, "access_url": "https://example.org/i"}] if sidecar else [],
            }
        )
        made = Made()
        parts: dict[Kind, Path] = {}
        recipe = using.recipes_on_demand(source)[0] if on_demand else using.recipe(source)
        processor = using.processor(recipe)
        for step in processor.steps(source.file_format):
            work = home / step.name
            work.mkdir()

            async def fetch_index(_: Sidecar, into: Path) -> None:
                if upstream_index is None:
                    raise StepFailed.because(Reason.SOURCE_MISSING, "not found")
                await asyncio.to_thread(into.write_bytes, upstream_index)

            given = StepInput(
                source,
                parts[step.needs] if step.needs else path,
                work,
                lambda *seen: made.reports.append(seen),
                scratch_bytes,
                fetch_index=fetch_index,
            )
            try:
                output = await step.run(given)
            except StepFailed as failed:
                made.failure = failed.failure
                made.work = sorted(path.name for path in work.iterdir())
                return made
            made.outputs.append(output)
            parts.update({p.kind: p.path for p in output.files})
        return made

    return run


@pytest.fixture
def tool() -> Callable[..., bytes]:
    """Run a program, its input as bytes; what it wrote."""

    def run(*argv: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            check=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
        return done.stdout

    return run


@pytest.fixture
def sam_text() -> bytes:
    """Reads in random order on three sequences, some unplaced."""
    chance = random.Random(7)
    lines = [
        "@HD\tVN:1.6\tSO:unsorted",
        "@SQ\tSN:chr2\tLN:200000",
        "@SQ\tSN:chr1\tLN:300000",
        "@SQ\tSN:none\tLN:5",
    ]
    for i in range(4000):
        sequence = "".join(chance.choice("ACGT") for _ in range(20))
        if i % 100 == 0:
            lines.append(f"r{i}\t4\t*\t0\t0\t*\t*\t0\t0\t{sequence}\t{'I' * 20}")
        else:
            place = f"{chance.choice(['chr1', 'chr2'])}\t{chance.randint(1, 150_000)}"
            lines.append(f"r{i}\t{chance.choice([0, 16])}\t{place}\t60\t20M\t*\t0\t0\t{sequence}\t{'I' * 20}")
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def bigbed(tmp_path: Path) -> Callable[[list[tuple[str, int, int, str]]], bytes]:
    """A bigBed of four columns or more, with sequences of a million bases."""

    def write(items: list[tuple[str, int, int, str]]) -> bytes:
        path = tmp_path / "made.bb"
        write_bigbed(path, {name: 1_000_000 for name, *_ in items}, sorted(items), columns=4)
        return path.read_bytes()

    return write
