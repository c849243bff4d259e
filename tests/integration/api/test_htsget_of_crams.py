"""Tickets into a CRAM: whole containers by its CRAI, and the end container of its version."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.api.htsget.ticket_request import by_query
from gooseherd.api.htsget.tickets import PublishedFile, Tickets
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import NotFound
from gooseherd.domain.keys import CacheKey
from gooseherd.storage.local import LocalFsCache

pytestmark = pytest.mark.integration

SEQUENCES = (Contig("chr2", 900_000), Contig("chr1", 3_000_000), Contig("empty", 1000))


def cram(folder: Path, version: str) -> Path:
    rolled = random.Random(4)
    sam, path = folder / "reads.sam", folder / "reads.cram"
    lines = ["@HD\tVN:1.6\tSO:coordinate", *(f"@SQ\tSN:{one.name}\tLN:{one.length}" for one in SEQUENCES)]
    for name, length in (("chr2", 890_000), ("chr1", 2_990_000)):
        for start in sorted(rolled.randrange(1, length) for _ in range(4000)):
            bases = "".join(rolled.choices("ACGT", k=30))
            lines.append(f"r{len(lines)}\t0\t{name}\t{start}\t60\t30M\t*\t0\t0\t{bases}\t{'I' * 30}")
    lines += [f"u{n}\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\tIIII" for n in range(30)]
    sam.write_text("\n".join(lines) + "\n")
    options = f"cram,version={version},no_ref,seqs_per_slice=200"
    pysam.view("-O", options, "-o", str(path), str(sam), catch_stdout=False)
    pysam.index(str(path))
    return path


@pytest.mark.parametrize("version", ["2.1", "3.0", "3.1"])
async def test_a_region_of_a_cram_has_its_reads(tmp_path: Path, version: str) -> None:
    path = cram(tmp_path, version)
    cache = LocalFsCache(tmp_path / "cache")
    parts = []
    for kind, stored in ((Kind.DATA, path), (Kind.INDEX, path.with_name("reads.cram.crai"))):
        await cache.put_if_absent(CacheKey(f"p1/{kind}"), stored)
        parts.append(Part(kind, CacheKey(f"p1/{kind}"), stored.stat().st_size, f"{kind}", stored.name))
    manifest = Manifest("md5-0", "cram", "x", "1", tuple(parts), SEQUENCES)
    tickets, file = Tickets(cache), PublishedFile("lab/x", manifest, "https://herd.example.org/x")
    whole = path.read_bytes()

    async def lines(query: str, *options: str) -> list[str]:
        request = by_query("reads", f"format=CRAM&{query}".encode())
        content = b"".join(
            bytes_of(url, whole) for url in (await tickets.ticket(file, request))["htsget"]["urls"]
        )
        assembled = tmp_path / "assembled.cram"
        assembled.write_bytes(content)
        return str(pysam.view("--no-PG", *options, str(assembled))).splitlines()

    assert await lines("") == str(pysam.view("--no-PG", str(path))).splitlines()
    everything = set(await lines(""))
    with pysam.AlignmentFile(str(path)) as opened:
        for name, start, end in (
            ("chr1", 5, 900),
            ("chr2", 400_000, 410_000),
            ("chr1", 2_000_000, 2_990_000),
        ):
            got = await lines(f"referenceName={name}&start={start}&end={end}")
            assert {read.query_name for read in opened.fetch(name, start, end)} <= {
                g.split("\t")[0] for g in got
            }
            assert set(got) <= everything
            assert len(got) < 4000
    unplaced = await lines("referenceName=*")
    assert {f"u{n}" for n in range(30)} <= {line.split("\t")[0] for line in unplaced}
    assert len(unplaced) < 300
    assert await lines("referenceName=empty") == []
    with pytest.raises(NotFound):
        await lines("referenceName=chr9")
    header = (await tickets.ticket(file, by_query("reads", b"format=CRAM&class=header")))["htsget"]["urls"]
    assert {url["class"] for url in header} == {"header"}


def bytes_of(url: dict[str, Any], whole: bytes) -> bytes:
    if url["url"].startswith("data:"):
        return base64.b64decode(url["url"].partition(";base64,")[2])
    first, last = url["headers"]["Range"].removeprefix("bytes=").split("-")
    return whole[int(first) : int(last) + 1]
