"""Many regions in one question cost about what one costs, and one requester cannot take all there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.api.test_api_htsget import SEQUENCES, bam, index_of, published, vcf

from gooseherd.domain.genome_index import Chunk, GenomeIndex

pytestmark = pytest.mark.integration

A = {"X-Forwarded-For": "198.51.100.1"}
B = {"X-Forwarded-For": "198.51.100.2"}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each pass over the bins of a sequence."""
    made: list[int] = []
    real = GenomeIndex._bins

    def counted(index: GenomeIndex, at: int) -> Iterator[tuple[int, int, int, int]]:
        made.append(at)
        return real(index, at)

    monkeypatch.setattr(GenomeIndex, "_bins", counted)
    return made


async def test_many_regions_pass_over_each_sequence_once(
    town: Any, tmp_path: Path, passes: list[int]
) -> None:
    entry = await published(town, bam(tmp_path))
    asked: list[dict[str, Any]] = [{"referenceName": "*"}] * 100
    asked += [{"referenceName": "HLA-A*01:01:01", "start": at, "end": at + 9} for at in range(100)]
    asked += [{"referenceName": "chr2", "start": at * 500, "end": at * 500 + 10} for at in range(100)]
    for _ in range(3):
        response = await town.http.post(f"/htsget/reads/{entry.name}", json={"regions": asked})
        assert response.status_code == 200, response.text
    # Once for where each sequence is, once for where all of them end, and in each question its two.
    assert len(passes) <= 2 * len(SEQUENCES) + 3 * 2


@pytest.mark.parametrize("csi", [False, True])
@pytest.mark.parametrize("make", [bam, vcf])
def test_spans_together_lead_to_all_that_each_of_them_leads_to(tmp_path: Path, make: Any, csi: bool) -> None:
    content = index_of(make(tmp_path, csi=csi)).read_bytes()
    rolled = random.Random(3)
    for sequence, length in ((0, 3_000_000), (1, 900_000), (2, 1000)):
        for count in (1, 7, 300):
            cuts = sorted(rolled.sample(range(length), 2 * count))
            spans: list[tuple[int, int | None]] = list(zip(cuts[::2], cuts[1::2], strict=True))
            if count == 7:
                spans[-1] = spans[-1][0], None
            together = GenomeIndex(content).chunks_of(sequence, spans)
            assert together == sorted(together)
            alone = {chunk for span in spans for chunk in GenomeIndex(content).chunks(sequence, *span)}
            assert all(is_within(chunk, together) for chunk in alone)
            assert size(together) <= sum(map(size, ([chunk] for chunk in alone)))


def is_within(chunk: Chunk, chunks: list[Chunk]) -> bool:
    return any(one.begin <= chunk.begin and chunk.end <= one.end for one in chunks)


def size(chunks: list[Chunk]) -> int:
    """In virtual offsets, with the block where each ends."""
    return sum((chunk.end >> 16) - (chunk.begin >> 16) + 1 for chunk in chunks)


async def test_no_more_regions_are_taken_than_documented(town: Any, tmp_path: Path) -> None:
    entry = await published(town, bam(tmp_path, count=10))
    region = {"referenceName": "chr1", "start": 1, "end": 2}
    answers = [
        await town.http.post(f"/htsget/reads/{entry.name}", json={"regions": [region] * count})
        for count in (1000, 1001)
    ]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert "1 to 1000" in answers[1].text


async def test_tickets_of_one_requester_are_bounded_and_given_back(
    build_town: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = await build_town(tickets_per_requester=1, trusted_proxies=1)
    entry = await published(town, bam(tmp_path))
    reading, go_on = asyncio.Event(), asyncio.Event()
    real = town.cache.get

    def slow(*asked: Any) -> Any:
        async def chunks() -> Any:
            if str(asked[0]).endswith("/data"):
                reading.set()
                await go_on.wait()
            async for chunk in real(*asked):
                yield chunk

        return chunks()

    monkeypatch.setattr(town.cache, "get", slow)
    path = f"/htsget/reads/{entry.name}?referenceName=chr1"
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(town.http.get(path, headers=A))
        await reading.wait()
        refused = await town.http.get(path, headers=A)
        assert (refused.status_code, refused.json()["htsget"]["error"]) == (429, "A limit is reached")
        assert int(refused.headers["retry-after"]) > 0
        other = tasks.create_task(town.http.get(path, headers=B))
        go_on.set()
    assert [first.result().status_code, other.result().status_code] == [200, 200]
    assert (await town.http.get(path, headers=A)).status_code == 200
