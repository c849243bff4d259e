"""Regions of what has its index in itself, read over HTTP: bigWigs, .2bit; and what is not read by region."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyBigWig
import pytest

from gooseherd.client import (
    AsyncGooseherdClient,
    Changed,
    GooseherdClient,
    InvalidInput,
    Missing,
    NotReachable,
    UnexpectedResponse,
)

pytestmark = pytest.mark.integration

LENGTHS = {"c1": 3_000_000, "c2": 700, "c3": 50}
CHANCE = random.Random(17)
BASES = {
    "c1": "".join(CHANCE.choices("ACGT", k=2_500_003)),
    "a longer name": "".join(CHANCE.choices("ACGT", k=1_001)),
    "empty": "",
}
UNKNOWN = {"c1": [(0, 7), (1_048_570, 11), (2_500_000, 3)], "a longer name": [(3, 1), (500, 501)]}
MASKED = {"c1": [(0, 3), (5, 10), (1_048_574, 300_000), (2_499_990, 12)], "a longer name": [(0, 1_001)]}


@pytest.fixture
def client(origin: Any) -> Iterator[GooseherdClient]:
    with GooseherdClient(origin.url) as client:
        yield client


def serve(origin: Any, data: bytes, name: str, part: str = "") -> None:
    path = f"/data/d/f{part}"
    origin.objects[path], origin.names[path] = data, name


def written(path: Path, add: Any) -> bytes:
    file = pyBigWig.open(str(path), "w")
    file.addHeader(list(LENGTHS.items()))
    add(file)
    file.close()
    return path.read_bytes()


def bed_graph(file: Any) -> None:
    starts = range(0, 2_400_000, 80)
    values = [random.Random(at).gauss(0, 1000) for at in starts]
    file.addEntries(
        ["c1"] * len(starts), list(starts), ends=[at + 1 + at % 79 for at in starts], values=values
    )
    file.addEntries(["c2", "c2"], [0, 690], ends=[5, 700], values=[0.1, float("inf")])


def variable_step(file: Any) -> None:
    starts = list(range(0, 900_000, 33))
    file.addEntries("c1", starts, values=[float(at) for at in starts], span=20)
    file.addEntries("c2", [1, 600], values=[1e-9, 1e9], span=100)


def fixed_step(file: Any) -> None:
    file.addEntries("c1", 10, values=[at / 7 for at in range(70_000)], span=5, step=9)
    file.addEntries("c2", 0, values=[1.0], span=700, step=700)


SIGNALS = {"bedGraph": bed_graph, "variableStep": variable_step, "fixedStep": fixed_step}


@pytest.mark.parametrize("kind", SIGNALS)
def test_the_values_of_a_region_are_those_that_another_reader_finds(
    origin: Any, client: GooseherdClient, tmp_path: Path, kind: str
) -> None:
    serve(origin, written(tmp_path / "x.bw", SIGNALS[kind]), "x.bw")
    with pyBigWig.open(str(tmp_path / "x.bw")) as file:
        for region in (*regions(), ("c1", 0, None), ("c2", 0, 700), ("c2", 699, 700), ("c3", 0, 50)):
            contig, start, end = region
            found = [line.split("\t") for line in client.records("d", "f", text(*region))]
            assert {fields[0] for fields in found} <= {contig}
            values = [(int(begin), int(stop), float32(value)) for _, begin, stop, value in found]
            assert values == list(file.intervals(contig, start, end or LENGTHS[contig]) or ()), region


def regions() -> Iterator[tuple[str, int, int]]:
    chance = random.Random(3)
    for width in (1, 20, 81, 4_000, 400_000):
        for _ in range(6):
            start = chance.randrange(LENGTHS["c1"] - width)
            yield "c1", start, start + width


def text(contig: str, start: int, end: int | None) -> str:
    return f"{{{contig}}}:{start + 1}-{end or ''}"


def float32(text: str) -> float:
    (value,) = struct.unpack("f", struct.pack("f", float(text)))
    return float(value)


def test_a_small_region_of_a_large_bigwig_costs_few_bytes(
    origin: Any, client: GooseherdClient, tmp_path: Path
) -> None:
    data = written(tmp_path / "x.bw", bed_graph)
    serve(origin, data + bytes(1 << 24), "x.bw")
    origin.sent = 0
    assert len(list(client.records("d", "f", "c1:1000001-1000100"))) == 2
    assert origin.sent < 1 << 20


def test_a_region_beyond_the_end_has_no_values_and_an_unknown_contig_is_told(
    origin: Any, client: GooseherdClient, tmp_path: Path
) -> None:
    serve(origin, written(tmp_path / "x.bw", bed_graph), "x.bw")
    assert list(client.records("d", "f", "c2:701-800")) == []
    assert list(client.records("d", "f", "c2:691-9000")) == ["c2\t690\t700\tinf"]
    with pytest.raises(InvalidInput, match="no contig 'chr9'; there are: c1, c2, c3"):
        list(client.records("d", "f", "chr9"))


def test_the_density_of_a_region_is_read_as_a_bigwig(
    origin: Any, client: GooseherdClient, tmp_path: Path
) -> None:
    data = written(tmp_path / "x.bw", bed_graph)
    origin.objects["/density/d/f"], origin.names["/density/d/f"] = data, "x.density.bw"
    assert list(client.records("d", "f", "c2:1-9", part="density")) == ["c2\t0\t5\t0.1"]


@pytest.mark.parametrize("harm", ["cut", "zeroed", "no bigWig", "a bigBed", "empty"])
def test_what_is_no_bigwig_is_told_so(
    origin: Any, client: GooseherdClient, tmp_path: Path, harm: str
) -> None:
    data = written(tmp_path / "x.bw", bed_graph)
    harmed = {
        "cut": data[: len(data) // 2],
        "zeroed": data[:1000] + bytes(len(data) - 1000),
        "no bigWig": b"hello" * 1000,
        "a bigBed": struct.pack("<I", 0x8789F2EB) + data[4:],
        "empty": b"",
    }[harm]
    serve(origin, harmed, "x.bw")
    with pytest.raises(UnexpectedResponse, match="bigWig"):
        list(client.records("d", "f", "c1"))


def test_values_of_two_versions_are_never_mixed(origin: Any, client: GooseherdClient, tmp_path: Path) -> None:
    values = [random.Random(at).random() for at in range(150_000)]  # more than is read ahead
    data = written(tmp_path / "x.bw", lambda file: file.addEntries("c1", 0, values=values, span=1, step=9))
    serve(origin, data, "x.bw")
    lines = client.records("d", "f", "c1")
    assert next(lines)
    origin.objects["/data/d/f"] = data + b"more"
    with pytest.raises(Changed):
        for _ in lines:
            pass


def test_a_connection_that_cannot_be_taken_up_again_is_told_as_one(
    origin: Any, client: GooseherdClient, tmp_path: Path
) -> None:
    serve(origin, written(tmp_path / "x.bw", bed_graph), "x.bw")
    origin.breaks_after = 0
    with pytest.raises(NotReachable):
        list(client.records("d", "f", "c1"))


async def test_on_an_event_loop_values_come_as_they_do_without_one(origin: Any, tmp_path: Path) -> None:
    serve(origin, written(tmp_path / "x.bw", bed_graph), "x.bw")
    async with AsyncGooseherdClient(origin.url) as client:
        both = await asyncio.gather(*(take(client, region) for region in ("c2", "c1:1-80")))
    assert [len(lines) for lines in both] == [2, 1]


async def take(client: AsyncGooseherdClient, region: str) -> list[str]:
    return [line async for line in client.records("d", "f", region)]


def twobit(order: str, version: int) -> bytes:
    place = f"{order}{'Q' if version else 'I'}"
    size = 16 + sum(1 + len(name) + struct.calcsize(place) for name in BASES)
    index, records = b"", b""
    for name, bases in BASES.items():
        index += bytes((len(name),)) + name.encode() + struct.pack(place, size + len(records))
        records += struct.pack(f"{order}I", len(bases))
        for runs in (UNKNOWN.get(name, []), MASKED.get(name, [])):
            columns = [begin for begin, _ in runs] + [length for _, length in runs]
            records += struct.pack(f"{order}I{len(columns)}I", len(runs), *columns)
        records += bytes(4)
        codes = bases.translate(str.maketrans("TCAG", "0123")) + "0" * (-len(bases) % 4)
        records += bytes(int(codes[at : at + 4], 4) for at in range(0, len(codes), 4))
    return struct.pack(f"{order}4I", 0x1A412743, version, len(BASES), 0) + index + records


def stored(name: str) -> str:
    letters = list(BASES[name])
    for begin, length in UNKNOWN.get(name, []):
        letters[begin : begin + length] = "N" * min(length, len(letters) - begin)
    for begin, length in MASKED.get(name, []):
        letters[begin : begin + length] = [letter.lower() for letter in letters[begin : begin + length]]
    return "".join(letters)


@pytest.mark.parametrize(("order", "version"), [("<", 0), (">", 0), ("<", 1)])
def test_the_letters_of_a_region_of_a_2bit_are_those_that_were_written(
    origin: Any, client: GooseherdClient, order: str, version: int
) -> None:
    serve(origin, twobit(order, version), "x.2bit")
    chance = random.Random(5)
    for name in ("c1", "a longer name"):
        whole = stored(name)
        asked = [
            (start, start + chance.randrange(1, 300)) for start in chance.choices(range(len(whole)), k=25)
        ]
        edges = [
            at for runs in (UNKNOWN, MASKED) for begin, length in runs[name] for at in (begin, begin + length)
        ]
        asked += [(max(at - 2, 0), at + 2) for at in edges] + [
            (0, len(whole)),
            (len(whole) - 1, len(whole) + 9),
        ]
        for start, end in asked:
            if start >= len(whole):
                continue
            lines = list(client.records("d", "f", text(name, start, end)))
            assert lines[0] == f">{name}:{start + 1}-{end}"
            assert all(len(line) == 60 for line in lines[1:-1])
            assert "".join(lines[1:]) == whole[start:end]
    assert list(client.records("d", "f", "empty")) == [">empty"]
    assert list(client.records("d", "f", "c1:9000000-")) == [">c1:9000000-"]
    with pytest.raises(InvalidInput, match="there are: c1, a longer name, empty"):
        list(client.records("d", "f", "chr1"))


@pytest.mark.parametrize("harm", ["cut", "no 2bit", "empty", "runs without end"])
def test_what_is_no_2bit_is_told_so(origin: Any, client: GooseherdClient, harm: str) -> None:
    data = twobit("<", 0)
    runs_at = struct.unpack("<I", data[19:23])[0] + 4
    harmed = {
        "cut": data[:400_000],
        "no 2bit": b"hello" * 1000,
        "empty": b"",
        "runs without end": data[:runs_at] + b"\xff" * 4 + data[runs_at + 4 :],
    }[harm]
    serve(origin, harmed, "x.2bit")
    with pytest.raises(UnexpectedResponse, match="2bit"):
        list(client.records("d", "f", "c1"))


@pytest.mark.parametrize(
    ("name", "words"),
    [("x.hic", "hic-straw"), ("x.cool", "cooler"), ("x.mcool", "cooler"), ("x.csv", "whole")],
)
def test_what_has_no_records_of_a_region_says_who_reads_it(
    origin: Any, client: GooseherdClient, name: str, words: str
) -> None:
    serve(origin, b"content", name)
    with pytest.raises(InvalidInput, match=words):
        list(client.records("d", "f", "c1"))
    with pytest.raises(InvalidInput, match="none of data, annotation, second_end, density"):
        list(client.records("d", "f", "c1", part="gzi"))


def test_an_index_that_only_its_own_tool_reads_is_named(origin: Any, client: GooseherdClient) -> None:
    serve(origin, b"content", "x.pairs.gz")
    origin.objects["/index/d/f"], origin.names["/index/d/f"] = b"px2", "x.pairs.gz.px2"
    with pytest.raises(InvalidInput, match="pairix"):
        list(client.records("d", "f", "c1"))
    serve(origin, b"content", "x.unknown")
    del origin.objects["/index/d/f"]
    with pytest.raises(Missing):
        list(client.records("d", "f", "c1"))
