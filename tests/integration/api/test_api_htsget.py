"""Tickets of htsget: what they lead to is a file with the records that samtools and bcftools find."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pysam
import pytest

from gooseherd.domain.contig import Contig
from gooseherd.domain.source import SourceFile

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
MEDIA_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"
HLA = "HLA-A*01:01:01"
SEQUENCES = [("chr1", 3_000_000), ("chr2", 900_000), ("empty", 1000), (HLA, 5000)]


def reads(seed: int, count: int) -> Iterable[pysam.AlignedSegment]:
    """Mapped, placed and unplaced; some long, some spliced over half of their sequence."""
    rolled = random.Random(seed)
    places = [
        (sequence, rolled.randrange(length))
        for sequence, length in (
            rolled.choice([*enumerate((3_000_000, 900_000)), (3, 5000)]) for _ in range(count)
        )
    ]
    for number, (sequence, start) in enumerate(sorted(places)):
        read = pysam.AlignedSegment()
        read.query_name, read.reference_id, read.reference_start = f"r{number}", sequence, start
        read.query_sequence = "".join(rolled.choices("ACGT", k=rolled.choice((5, 100, 3000))))
        size = len(read.query_sequence)
        read.query_qualities = pysam.qualitystring_to_array("I" * size)
        if number % 10 == 0:
            read.flag = 4
        elif number % 97 == 0 and sequence == 0:
            read.cigartuples = [(0, 3), (3, 1_200_000), (0, size - 3)]
        else:
            read.cigartuples = [(0, size)]
        yield read
    for number in range(50):
        read = pysam.AlignedSegment()
        read.query_name, read.flag, read.query_sequence = f"u{number}", 4, "ACGT"
        yield read


def blocks_of(content: bytes, size: int) -> bytes:
    """The same content in BGZF, cut where records are not."""
    from gooseherd.api.htsget.published_blocks import as_block
    from gooseherd.domain.bgzf import END_MARKER

    return b"".join(as_block(content[at : at + size]) for at in range(0, len(content), size)) + END_MARKER


def bam(folder: Path, seed: int = 1, count: int = 4000, *, cut: int = 0, csi: bool = False) -> Path:
    path = folder / f"reads-{seed}-{cut}-{csi}.bam"
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": n, "LN": m} for n, m in SEQUENCES]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for read in reads(seed, count):
            file.write(read)
    if cut:
        path.write_bytes(blocks_of(gzip.decompress(path.read_bytes()), cut))
    pysam.index(*(["-c"] if csi else []), str(path))
    return path


def vcf(folder: Path, count: int = 20_000, *, csi: bool = False) -> Path:
    rolled = random.Random(5)
    path = folder / "calls.vcf"
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={n},length={m}>" for n, m in SEQUENCES)]
    lines += [
        '##INFO=<ID=END,Number=1,Type=Integer,Description="End">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    for name, length in SEQUENCES[:2]:
        for number, start in enumerate(sorted(rolled.randrange(1, length) for _ in range(count))):
            end = f"END={start + 400_000}" if number % 501 == 0 else "."
            lines.append(f"{name}\t{start}\tv{number}\tA\t<DEL>\t50\tPASS\t{end}")
    path.write_text("\n".join(lines) + "\n")
    return Path(pysam.tabix_index(str(path), preset="vcf", csi=csi, force=True))


def index_of(path: Path) -> Path:
    indexes = [path.with_name(f"{path.name}.{kind}") for kind in ("bai", "csi", "tbi", "crai")]
    return next(one for one in indexes if one.exists())


async def published(town: Any, path: Path, **fields: Any) -> SourceFile:
    index = index_of(path)
    content, of_index = path.read_bytes(), index.read_bytes()  # noqa: ASYNC240 - of a test
    entry: SourceFile = await town.register(filename=path.name, **fields)
    contigs = tuple(Contig(name, length) for name, length in SEQUENCES)
    await town.publish(entry, content, of_index, index_name=index.name, contigs=contigs)
    return entry


async def ticket(town: Any, path: str, **params: Any) -> dict[str, Any]:
    response = await town.http.get(f"/htsget/{path}", params=params)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.text.startswith('{"htsget":')
    found: dict[str, Any] = response.json()["htsget"]
    return found


async def bytes_of(town: Any, found: dict[str, Any], kind: str | None = None) -> bytes:
    content = b""
    for url in found["urls"]:
        if kind is not None and url["class"] != kind:
            continue
        if url["url"].startswith("data:"):
            content += base64.b64decode(url["url"].partition(";base64,")[2])
            continue
        # As the specification has it: no credential of the client's goes along.
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.get(url["url"], headers=url["headers"])
        assert response.status_code == 206, response.text
        content += response.content
    return content


def lines_of(content: bytes, folder: Path, suffix: str, *options: str) -> list[str]:
    path = folder / f"assembled.{suffix}"
    path.write_bytes(content)
    return text_of(path, *options)


def text_of(path: Path, *options: str) -> list[str]:
    if path.name.endswith(".bam") or path.name.endswith(".cram"):
        return str(pysam.view("--no-PG", *options, str(path))).splitlines()
    with gzip.open(path, "rt") as text:
        return [line for line in text.read().splitlines() if not line.startswith("#")]


def regions(seed: int, count: int) -> Sequence[tuple[str, int | None, int | None]]:
    rolled = random.Random(seed)
    found: list[tuple[str, int | None, int | None]] = [
        ("chr1", None, None),
        ("chr2", 5000, None),
        ("empty", None, None),
    ]
    for _ in range(count):
        name, length = SEQUENCES[rolled.choice((0, 0, 1, 3))]
        start = rolled.randrange(length)
        found.append((name, start, min(start + rolled.choice((1, 500, 40_000, 1_000_000)), length)))
    return found


def overlapping_reads(path: Path, name: str, start: int | None, end: int | None) -> list[str]:
    with pysam.AlignmentFile(str(path)) as file:
        return [read.to_string() for read in file.fetch(name, start, end)]


@pytest.mark.parametrize(("cut", "csi"), [(0, False), (0, True), (997, False), (60_000, False)])
async def test_a_region_has_the_records_that_samtools_finds(
    town: Any, tmp_path: Path, cut: int, csi: bool
) -> None:
    path = bam(tmp_path, cut=cut, csi=csi)
    entry = await published(town, path)
    everything = text_of(path)
    for name, start, end in regions(2, 25):
        query = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
        found = await ticket(town, f"reads/{entry.name}", referenceName=name, **query)
        got = lines_of(await bytes_of(town, found), tmp_path, "bam")
        wanted = overlapping_reads(path, name, start, end)
        assert set(wanted) <= set(got), (name, start, end)
        assert is_in_order(got, everything)
        if end is not None and start is not None and end - start < 1000 and not cut:
            assert len(got) < len(everything)


def is_in_order(some: Sequence[str], everything: Sequence[str]) -> bool:
    remaining = iter(everything)
    return all(line in remaining for line in some)


async def test_everything_is_the_whole_file_and_the_header_is_apart(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path)
    entry = await published(town, path)
    found = await ticket(town, f"reads/{entry.name}")
    assert found["format"] == "BAM"
    assert lines_of(await bytes_of(town, found), tmp_path, "bam", "-h") == text_of(path, "-h")
    assert [key for key, _ in itertools.groupby(url["class"] for url in found["urls"])] == ["header", "body"]
    assert found["urls"][-1]["url"].startswith("data:")
    header = await ticket(town, f"reads/{entry.name}", **{"class": "header"})
    assert {url["class"] for url in header["urls"]} == {"header"}
    assert lines_of(await bytes_of(town, header), tmp_path, "bam", "-H") == text_of(path, "-H")
    inflated = gzip.decompress(await bytes_of(town, found))
    assert inflated == gzip.decompress(path.read_bytes())


async def test_unplaced_reads_are_asked_for_by_a_star(town: Any, tmp_path: Path) -> None:
    for cut in (0, 997):
        path = bam(tmp_path, cut=cut)
        entry = await published(town, path)
        found = await ticket(town, f"reads/{entry.name}", referenceName="*")
        got = lines_of(await bytes_of(town, found), tmp_path, "bam")
        assert [line.split("\t")[0] for line in got] == [f"u{number}" for number in range(50)]


async def test_several_regions_are_one_file_in_its_order(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path)
    entry = await published(town, path)
    asked = [
        ("chr2", 100_000, 120_000),
        ("chr1", 5, 6000),
        ("chr1", 4000, 9000),
        ("HLA-A*01:01:01", None, None),
    ]
    body = {
        "format": "bam",
        "fields": ["QNAME"],
        "regions": [
            {"referenceName": name} | ({"start": start, "end": end} if end else {})
            for name, start, end in asked
        ],
    }
    response = await town.http.post(f"/htsget/reads/{entry.name}", json=body)
    assert response.status_code == 200, response.text
    got = lines_of(await bytes_of(town, response.json()["htsget"]), tmp_path, "bam")
    wanted = {line for region in asked for line in overlapping_reads(path, *region)}
    assert wanted <= set(got)
    assert len(set(got)) == len(got)
    assert is_in_order(got, text_of(path))


async def test_many_scattered_regions_stay_a_small_ticket(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path, count=30_000)
    entry = await published(town, path)
    asked: list[dict[str, Any]] = [
        {"referenceName": "chr1", "start": at, "end": at + 10} for at in range(0, 2_900_000, 3000)
    ]
    response = await town.http.post(f"/htsget/reads/{entry.name}", json={"regions": asked})
    assert len(response.json()["htsget"]["urls"]) <= 64 * 3 + 3
    got = set(lines_of(await bytes_of(town, response.json()["htsget"]), tmp_path, "bam"))
    with pysam.AlignmentFile(str(path)) as file:
        for region in asked[::7]:
            assert {read.to_string() for read in file.fetch("chr1", region["start"], region["end"])} <= got


@pytest.mark.parametrize("csi", [False, True])
async def test_a_region_has_the_variants_that_bcftools_finds(town: Any, tmp_path: Path, csi: bool) -> None:
    path = vcf(tmp_path, csi=csi)
    entry = await published(town, path)
    everything = text_of(path)
    for name, start, end in regions(3, 20):
        query = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
        found = await ticket(town, f"variants/{entry.name}", referenceName=name, **query)
        assert found["format"] == "VCF"
        got = lines_of(await bytes_of(town, found), tmp_path, "vcf.gz")
        with pysam.TabixFile(str(path), index=str(index_of(path))) as file:
            # What the header declares is there, with or without records.
            wanted = list(file.fetch(name, start, end)) if name in file.contigs else []
        assert set(wanted) <= set(got), (name, start, end)
        assert is_in_order(got, everything)
        with pysam.VariantFile(str(tmp_path / "assembled.vcf.gz")) as opened:
            assert [record.id for record in opened] == [line.split("\t")[2] for line in got]
    whole = await ticket(town, f"variants/{entry.name}")
    assert lines_of(await bytes_of(town, whole), tmp_path, "vcf.gz") == everything


async def test_a_file_of_a_header_alone_is_that(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path, count=0)
    entry = await published(town, path)
    for query in ({}, {"referenceName": "chr1"}, {"class": "header"}):
        found = await ticket(town, f"reads/{entry.name}", **query)
        got = lines_of(await bytes_of(town, found), tmp_path, "bam", "-h")
        assert got[: len(SEQUENCES) + 1] == text_of(path, "-H"), query


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ({"format": "CRAM"}, 400, "UnsupportedFormat"),
        ({"format": "VCF"}, 400, "UnsupportedFormat"),
        ({"referenceName": "chr9"}, 404, "NotFound"),
        ({"start": "5"}, 400, "InvalidInput"),
        ({"referenceName": "*", "start": "5"}, 400, "InvalidInput"),
        ({"referenceName": "chr1", "start": "-1"}, 400, "InvalidInput"),
        ({"referenceName": "chr1", "start": "4294967296"}, 400, "InvalidInput"),
        ({"referenceName": "chr1", "start": "9", "end": "5"}, 400, "InvalidRange"),
        ({"class": "body"}, 400, "InvalidInput"),
        ({"class": "header", "referenceName": "chr1"}, 400, "InvalidInput"),
        ({"fields": "QNAME,NOPE"}, 400, "InvalidInput"),
        ({"tags": "RG,NM", "notags": "NM"}, 400, "InvalidInput"),
    ],
)
async def test_a_refusal_has_htsgets_name(
    town: Any, tmp_path: Path, query: dict[str, str], status: int, error: str
) -> None:
    entry = await published(town, bam(tmp_path, count=10))
    response = await town.http.get(f"/htsget/reads/{entry.name}", params=query)
    assert (response.status_code, response.json()["htsget"]["error"]) == (status, error)
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.json()["htsget"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 400, "InvalidInput"),
        (b"[]", 400, "InvalidInput"),
        (b'{"regions": []}', 400, "InvalidInput"),
        (b'{"regions": [{"start": 1}]}', 400, "InvalidInput"),
        (b'{"regions": [{"referenceName": "chr1", "start": true}]}', 400, "InvalidInput"),
        (b'{"regions": [{"referenceName": "chr1", "start": 5, "end": 5}]}', 400, "InvalidRange"),
        (b'{"referenceName": "chr1"}', 400, "InvalidInput"),
        (b'{"class": "header", "regions": [{"referenceName": "chr1"}]}', 400, "InvalidInput"),
        (b" " * (2 << 20), 413, "PayloadTooLarge"),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused(
    town: Any, tmp_path: Path, body: bytes, status: int, error: str
) -> None:
    entry = await published(town, bam(tmp_path, count=10))
    response = await town.http.post(f"/htsget/reads/{entry.name}", content=body)
    assert (response.status_code, response.json()["htsget"]["error"]) == (status, error)
    mixed = await town.http.post(f"/htsget/reads/{entry.name}?referenceName=chr1", json={})
    assert mixed.json()["htsget"]["error"] == "InvalidInput"


async def test_who_may_not_see_a_file_is_told_that_there_is_none(town: Any, tmp_path: Path) -> None:
    entry = await published(town, bam(tmp_path, count=500), data_access_level="protected")
    hidden = await town.http.get(f"/htsget/reads/{entry.name}")
    assert (hidden.status_code, hidden.json()["htsget"]["error"]) == (404, "NotFound")
    wrong = await town.http.get(f"/htsget/reads/{entry.name}", headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["htsget"]["error"]) == (401, "InvalidAuthentication")
    assert wrong.headers["content-type"] == MEDIA_TYPE


async def test_a_ticket_has_what_opens_its_urls_and_not_the_key(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path, count=500)
    entry = await published(town, path, data_access_level="protected")
    body = {"owner": "lab", "scopes": ["read"], "collections": [entry.dcc]}
    key = (await town.http.post("/keys", json=body, headers=ADMIN)).json()["key"]
    response = await town.http.get(f"/htsget/reads/{entry.name}", headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == 200
    assert key not in response.text
    content = await bytes_of(town, response.json()["htsget"])
    assert lines_of(content, tmp_path, "bam") == text_of(path)
    token = (await town.http.post("/tokens", json={"file": entry.name}, headers={"X-API-Key": key})).json()
    by_token = await ticket(town, f"reads/{entry.name}", token=token["token"])
    assert lines_of(await bytes_of(town, by_token), tmp_path, "bam") == text_of(path)


async def test_records_of_another_kind_are_not_there(town: Any, tmp_path: Path) -> None:
    entry = await published(town, bam(tmp_path, count=10))
    response = await town.http.get(f"/htsget/variants/{entry.name}")
    assert response.status_code == 404
    table = await town.register(filename="t.csv", file_format="csv")
    assert (await town.http.get(f"/htsget/reads/{table.name}")).json()["htsget"]["error"] == "NotFound"


async def test_a_file_that_is_not_made_is_held_then_redirected_to_itself(build_town: Any) -> None:
    town = await build_town(wait_max_seconds=0.2)
    entry = await town.register()
    response = await town.http.get(f"/htsget/reads/{entry.name}?referenceName=chr1")
    assert response.status_code == 307
    assert response.headers["location"] == f"{town.url}/htsget/reads/{entry.name}?referenceName=chr1&hop=1"
    last = await town.http.get(f"/htsget/reads/{entry.name}?hop=20")
    assert last.status_code == 503
    assert int(last.headers["retry-after"]) > 0
    assert last.json()["htsget"]["error"]
    asked = await town.http.get(f"/htsget/reads/{entry.name}?wait=0")
    assert asked.status_code == 202
    assert asked.headers["location"].startswith("/jobs/")
    assert (await town.http.head(f"/htsget/reads/{entry.name}")).status_code == 404


async def test_a_held_request_is_answered_when_the_file_is_made(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path, count=500)
    entry = await town.register(filename=path.name)
    asking = asyncio.create_task(town.http.get(f"/htsget/reads/{entry.name}"))
    while not (jobs := (await town.http.get("/jobs")).json()["jobs"]):  # noqa: ASYNC110 - another process's
        await asyncio.sleep(0.05)
    job = await town.run(jobs[0]["job_id"])
    manifest = await town.publish(entry, path.read_bytes(), path.with_name(f"{path.name}.bai").read_bytes())
    await town.complete(job, manifest)
    response = await asking
    assert response.status_code == 200
    assert lines_of(await bytes_of(town, response.json()["htsget"]), tmp_path, "bam") == text_of(path)


async def test_an_index_that_is_none_is_503_and_names_no_path(town: Any, tmp_path: Path) -> None:
    path = bam(tmp_path, count=100)
    entry = await town.register(filename=path.name)
    await town.publish(entry, path.read_bytes(), b"BAI\1" + struct.pack("<i", 5))
    response = await town.http.get(f"/htsget/reads/{entry.name}", params={"referenceName": "chr1"})
    assert response.status_code == 503
    assert str(tmp_path) not in response.text


@pytest.mark.parametrize("datatype", ["reads", "variants"])
async def test_the_service_says_what_it_is(build_town: Any, datatype: str) -> None:
    town = await build_town(organization_name="Lab", organization_url="https://lab.example.org")
    info = (await town.http.get(f"/htsget/{datatype}/service-info")).json()
    assert info["type"] == {"group": "org.ga4gh", "artifact": "htsget", "version": "1.3.0"}
    assert info["htsget"]["datatype"] == datatype
    assert info["organization"] == {"name": "Lab", "url": "https://lab.example.org"}
    whole = (await town.http.get("/service-info")).json()
    assert {"id", "name", "type", "organization", "version"} <= set(whole)


def test_a_body_is_json_of_the_specifications_example() -> None:
    from gooseherd.api.htsget.ticket_request import by_body

    example = {
        "format": "bam",
        "fields": ["QNAME", "FLAG", "RNAME", "POS", "CIGAR", "SEQ"],
        "tags": ["RG"],
        "notags": ["OQ"],
        "regions": [
            {"referenceName": "chr1"},
            {"referenceName": "chr2", "start": 999, "end": 1000},
            {"referenceName": "chr2", "start": 2000, "end": 2100},
        ],
    }
    asked = by_body("reads", b"", json.dumps(example).encode())
    assert asked.regions is not None
    assert [str(region) for region in asked.regions] == ["chr1", "chr2:1000-1000", "chr2:2001-2100"]
