"""Manifests are remembered, and however long they are, no more of them than memory has room for."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from gooseherd.control import submission
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.artifact import Manifest
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.contig import Contig
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.storage.memory import MemoryCache

RECIPE = Recipe("p", "1", BED)


class Counting(MemoryCache):
    reads = 0

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        self.reads += 1
        return super().get(key, span)


def source(n: int) -> SourceFile:
    md5 = hashlib.md5(b"%d" % n).hexdigest()
    return SourceFile(Dcc("lab"), LocalId(f"x{n}"), "x.bed", BED, "https://example.org/x", md5=md5)


async def published(cache: Counting, n: int, contigs: int) -> int:
    named = tuple(Contig(f"contig{i}") for i in range(contigs))
    data = Manifest("s", "bed", "p", "1", (), named).to_bytes()
    await cache.put_if_absent(cache_key(source(n).identity, RECIPE, MANIFEST), data)
    return len(data)


@pytest.mark.parametrize("contigs", [3, 20_000])
async def test_what_fits_is_read_once_and_the_oldest_goes_first(
    contigs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Counting()
    sizes = [await published(cache, n, contigs) for n in range(3)]
    monkeypatch.setattr(submission, "_MANIFEST_BYTES_KEPT", sizes[0] + sizes[1])
    submissions = Submissions(
        jobs=cast(Any, None),
        cache=cache,
        recipes=cast(Any, None),
        limits=SubmissionLimits(active_jobs=1, pending_per_requester=1),
        wakeups=Wakeups(),
        new_id=lambda: JobId("j"),
    )
    for n in (0, 1, 0, 1):
        found = await submissions.published(source(n), RECIPE)
        assert found is not None
        assert len(found.contigs) == contigs
    assert cache.reads == 2
    await submissions.published(source(2), RECIPE)
    await submissions.published(source(1), RECIPE)
    assert cache.reads == 3
    await submissions.published(source(0), RECIPE)
    assert cache.reads == 4
    submissions.forget(source(0), RECIPE)
    await submissions.published(source(0), RECIPE)
    assert cache.reads == 5
