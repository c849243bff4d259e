"""An attempt fetches the index that upstream publishes beside its source, and publishes the pair."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.doubles import SourcesDouble

from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import cache_key, result_name
from gooseherd.domain.ports.source import Fetched, Pausing, ignore_pause
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import default_registry
from gooseherd.storage.memory import MemoryCache
from gooseherd.worker.engine import run_attempt

ADDRESS = "https://files.example.org/x.bed.gz"
BED = b"".join(b"chr1\t%d\t%d\tx%d\n" % (at, at + 5, at * 7919 % 99991) for at in range(9000))


@dataclass
class Upstream:
    """Files by their addresses."""

    files: dict[str, bytes]

    async def fetch(
        self,
        source: SourceFile,
        into: Path,
        *,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing = ignore_pause,
    ) -> Fetched:
        content = self.files.get(source.access_url)
        if content is None:
            raise StepFailed.because(Reason.SOURCE_MISSING, "upstream has no such file")
        return await SourcesDouble(content).fetch(source, into, limit=limit, report=report, pausing=pausing)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[bytes, bytes]:
    path = tmp_path / "x.bed.gz"
    path.write_bytes(subprocess.run(["bgzip", "-c"], input=BED, capture_output=True, check=True).stdout)
    subprocess.run(["tabix", "-p", "bed", str(path)], check=True)
    return path.read_bytes(), path.with_name("x.bed.gz.tbi").read_bytes()


async def published(work: Path, files: dict[str, bytes]) -> tuple[Manifest, dict[Kind, bytes]]:
    registry = default_registry(sort_memory=32 << 20, samtools_memory=64 << 20, threads=1, level=1)
    source = SourceFile.from_json(
        {
            "dcc": "test",
            "local_id": "x",
            "access_url": ADDRESS,
            "md5": hashlib.md5(files[ADDRESS]).hexdigest(),
            "sidecars": [{"kind": "tbi", "access_url": f"{ADDRESS}.tbi"}],
        }
    )
    recipe, cache = registry.recipe(source), MemoryCache()
    events = []
    await asyncio.to_thread(work.mkdir)
    spec = AttemptSpec(
        AttemptId(JobId("job"), 1), source, recipe, AttemptLimits(1 << 24, 1 << 26, 60.0), "build"
    )
    await run_attempt(
        spec,
        cache=cache,
        sources=Upstream(files),  # type: ignore[arg-type]
        registry=registry,
        work=work,
        emit=lambda kind, **_: events.append(kind),
    )
    assert events[-1] is EventKind.DONE

    async def stored(key: Any) -> bytes:
        return b"".join([chunk async for chunk in cache.get(key)])

    manifest = Manifest.from_bytes(await stored(cache_key(source.identity, recipe, result_name("job.1"))))
    return manifest, {part.kind: await stored(part.key) for part in manifest.parts}


async def test_a_pair_of_upstream_is_published_byte_for_byte(
    tmp_path: Path, pair: tuple[bytes, bytes]
) -> None:
    data, index = pair
    manifest, parts = await published(tmp_path / "work", {ADDRESS: data, f"{ADDRESS}.tbi": index})
    assert parts == {Kind.DATA: data, Kind.INDEX: index}
    assert [part.filename for part in manifest.parts] == ["x.bed.gz", "x.bed.gz.tbi"]
    assert [contig.name for contig in manifest.contigs] == ["chr1"]


async def test_without_the_index_the_artifact_has_one_of_its_own(
    tmp_path: Path, pair: tuple[bytes, bytes]
) -> None:
    data, index = pair
    manifest, parts = await published(tmp_path / "work", {ADDRESS: data})
    assert parts[Kind.DATA] == data
    assert gzip.decompress(parts[Kind.INDEX]) == gzip.decompress(index)
    assert any("another one was made" in note for note in manifest.notes)
