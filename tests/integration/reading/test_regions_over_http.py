"""Reading a region asks for few bytes, mixes no versions, and survives a bad connection and bad bytes."""

from __future__ import annotations

import functools
import gzip
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.client import Changed, Missing, NotReachable, Region, UnexpectedResponse
from gooseherd.domain.errors import InvalidInput

pytestmark = pytest.mark.integration


@functools.cache
def lines() -> list[str]:
    starts = [(n, n % 30_000 * 100) for n in range(60_000)]
    return [
        f"c{1 + n // 30_000}\t{start}\t{start + 50}\t{random.Random(n).randbytes(9).hex()}"
        for n, start in starts
    ]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """(data, TBI) of two megabytes."""
    path = tmp_path_factory.mktemp("bed") / "a.bed"
    path.write_text("".join(f"{line}\n" for line in lines()))
    packed = f"{path}.gz"
    pysam.tabix_compress(str(path), packed)
    pysam.tabix_index(packed, preset="bed")
    return Path(packed).read_bytes(), Path(f"{packed}.tbi").read_bytes()


@pytest.fixture(scope="module")
def bam(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """(data, BAI)."""
    path = tmp_path_factory.mktemp("bam") / "a.bam"
    header = {"HD": {"SO": "coordinate"}, "SQ": [{"SN": f"c{n}", "LN": 10**8} for n in range(3000)]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for n in range(3000):
            read = pysam.AlignedSegment(out.header)
            read.query_name = f"r{n}"
            read.reference_id, read.reference_start = n // 1500, n % 1500 * 1000
            read.query_sequence = random.Random(n).choice("ACGT") * 50
            read.cigartuples = [(0, 50)]
            out.write(read)
    pysam.index(str(path))
    return path.read_bytes(), path.with_name("a.bam.bai").read_bytes()


def overlapping(contig: str, start: int, end: int) -> list[str]:
    rows = (line.split("\t") for line in lines())
    return ["\t".join(r) for r in rows if r[0] == contig and int(r[1]) < end and int(r[2]) > start]


def test_a_small_region_costs_few_bytes_and_one_request(reader: Any, bed: tuple[bytes, bytes]) -> None:
    reader.serve(*bed)
    assert reader.read(Region("c2", 1_000_000, 1_000_200)) == overlapping("c2", 1_000_000, 1_000_200)
    assert len([path for path, _ in reader.origin.asked if path == "/data"]) == 1
    assert reader.origin.sent < 200_000 < len(bed[0])


def test_every_request_names_the_version(reader: Any, bed: tuple[bytes, bytes]) -> None:
    reader.serve(*bed)
    asked = []
    reader.origin.before = lambda path, wanted: asked.append((path, wanted))
    reader.read(Region("c1"))
    assert all(wanted for path, wanted in asked if path == "/data")


def test_a_connection_that_breaks_is_taken_up(reader: Any, bed: tuple[bytes, bytes]) -> None:
    reader.serve(*bed)
    reader.origin.breaks_after = 100_000
    assert reader.read(Region("c1")) == overlapping("c1", 0, 10**9)
    assert len(reader.origin.asked) > 5


def test_a_connection_that_keeps_breaking_is_given_up(
    reader: Any, bed: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gooseherd.client.transfer.time.sleep", lambda seconds: None)
    reader.serve(*bed)
    reader.origin.breaks_after = 0
    with pytest.raises(NotReachable):
        reader.read(Region("c1"))


@pytest.mark.parametrize("breaks", [False, True])
def test_two_versions_are_never_mixed(reader: Any, bed: tuple[bytes, bytes], breaks: bool) -> None:
    reader.serve(*bed)
    if breaks:
        reader.origin.breaks_after = 100_000
    asked = []

    def replace(path: str, wanted: str | None) -> None:
        asked.append(path)
        if asked.count("/data") == (2 if breaks else 1):
            reader.origin.objects["/data"] = bed[0] + b"another"

    reader.origin.before = replace
    with pytest.raises(Changed, match="read it again"):
        reader.read(Region("c1"))


def test_a_file_that_shrank_is_another_version(reader: Any, bed: tuple[bytes, bytes]) -> None:
    reader.serve(*bed)
    records = reader.records(Region("c2", 2_000_000, 2_000_001))
    reader.origin.objects["/data"] = bed[0][:1000]
    with pytest.raises(Changed):
        list(records)


def test_an_artifact_that_is_gone_by_now_is_told(reader: Any, bed: tuple[bytes, bytes]) -> None:
    reader.serve(*bed)
    records = reader.records(Region("c1"))
    del reader.origin.objects["/data"]
    with pytest.raises(Missing):
        list(records)


def test_an_origin_without_ranges_is_told(reader: Any, bed: tuple[bytes, bytes]) -> None:
    reader.serve(*bed)
    reader.origin.ignores_ranges = True
    with pytest.raises(UnexpectedResponse, match="200"):
        reader.read(Region("c1"))


def test_who_stops_reading_ends_the_transfer(reader: Any, tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "long.bed"
    path.write_text("".join(f"c1\t{n}\t{n + 1}\t{rng.randbytes(500).hex()}\n" for n in range(60_000)))
    packed = f"{path}.gz"
    pysam.tabix_compress(str(path), packed)
    pysam.tabix_index(packed, preset="bed")
    reader.serve(Path(packed), Path(f"{packed}.tbi"))
    records = reader.records(Region("c1"))
    assert next(records).startswith("c1\t0\t")
    records.close()
    assert reader.origin.sent < len(reader.origin.objects["/data"]) // 2


def test_a_whole_contig_takes_little_memory(reader: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.bed"
    with path.open("w") as out:
        for n in range(200_000):
            out.write(f"c1\t{n}\t{n + 1}\t{'x' * 200}\n")
    packed = f"{path}.gz"
    pysam.tabix_compress(str(path), packed)
    pysam.tabix_index(packed, preset="bed")
    reader.serve(Path(packed), Path(f"{packed}.tbi"))
    list(reader.records(Region("c1", 0, 10)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader.records(Region("c1"))) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_header_longer_than_the_first_step_is_read_on(reader: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.bam"
    rng = random.Random(3)
    sequences = [{"SN": f"{rng.randbytes(12).hex()}.{n}", "LN": 1000} for n in range(20_000)]
    with pysam.AlignmentFile(str(path), "wb", header={"HD": {"SO": "coordinate"}, "SQ": sequences}) as out:
        read = pysam.AlignedSegment(out.header)
        read.query_name, read.reference_id, read.reference_start = "r", 19_999, 5
        out.write(read)
    pysam.index(str(path))
    reader.serve(path, path.with_name("many.bam.bai"))
    [line] = reader.read(Region(str(sequences[-1]["SN"])))
    assert line.startswith(f"r\t0\t{sequences[-1]['SN']}\t6\t")
    assert reader.origin.asked[1] == ("/data", "bytes=0-65535")
    assert len(reader.origin.asked) > 3


@pytest.mark.parametrize("kind", ["bed", "bam"])
def test_what_is_no_contig_is_told_with_some_that_are(
    reader: Any, request: pytest.FixtureRequest, kind: str
) -> None:
    reader.serve(*request.getfixturevalue(kind))
    with pytest.raises(InvalidInput, match=r"no contig 'chrX'; there are: c[01]"):
        reader.read(Region("chrX"))


def test_a_contig_without_records_and_places_beyond_it_are_empty(
    reader: Any, bam: tuple[bytes, bytes]
) -> None:
    reader.serve(*bam)
    assert reader.read(Region("c2999")) == []
    assert reader.read(Region("c0", 1 << 40, 1 << 50)) == []
    assert reader.read(Region("c0", 90_000_000, None)) == []


_DECLARED = {
    "vcf": "##fileformat=VCFv4.3\n##contig=<ID=c1,length=9000>\n##contig=<assembly=a,ID=c2>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
    "gff": "##gff-version 3\n##sequence-region c1 1 9000\n##sequence-region   c2 1 800\n",
    "pairs": "## pairs format v1.0\n#chromsize: c1 9000\n#chromsize: c2 800\n",
}
_RECORD = {
    "vcf": "c1\t5\t.\tA\tC\t.\t.\t.\n",
    "gff": "c1\t.\tgene\t5\t9\t.\t+\t.\tID=a\n",
    "pairs": "r\tc1\t5\tc1\t900\t+\t-\n",
}


@pytest.mark.parametrize("has_records", [True, False])
@pytest.mark.parametrize("format_", _DECLARED)
def test_a_contig_that_a_text_file_only_declares_is_empty(
    reader: Any, tmp_path: Path, format_: str, has_records: bool
) -> None:
    """Who reads all chromosomes in turn meets those without records, which an index does not name."""
    path = tmp_path / f"a.{format_}"
    path.write_text(_DECLARED[format_] + _RECORD[format_] * has_records)
    packed = f"{path}.gz"
    pysam.tabix_compress(str(path), packed)
    columns = {"seq_col": 1, "start_col": 2, "end_col": 2, "meta_char": "#"}
    pysam.tabix_index(packed, **({"preset": format_} if format_ != "pairs" else columns))
    reader.serve(Path(packed), Path(f"{packed}.tbi"))
    assert reader.read(Region("c2")) == []
    assert len(reader.read(Region("c1"))) == has_records
    with pytest.raises(InvalidInput, match="no contig 'c3'; there are: c1, c2"):
        reader.read(Region("c3"))


@pytest.mark.parametrize("kind", ["bed", "bam"])
@pytest.mark.parametrize("keep", [0, 3, 4, 30, 0.3, 0.7, 0.99])
def test_a_cut_index_is_told(reader: Any, request: pytest.FixtureRequest, kind: str, keep: float) -> None:
    data, index = request.getfixturevalue(kind)
    plain = gzip.decompress(index) if kind == "bed" else index
    at = keep if isinstance(keep, int) else int(keep * len(plain))
    cut = plain[:at]
    region = Region("c2") if kind == "bed" else Region("c2999")
    for stored in {cut, gzip.compress(cut)}:
        reader.serve(data, stored)
        with pytest.raises(UnexpectedResponse):
            reader.read(region)
    packed = gzip.compress(plain)
    reader.serve(data, packed[: len(packed) * 2 // 3])
    with pytest.raises(UnexpectedResponse):
        reader.read(region)


@pytest.mark.parametrize("kind", ["bed", "bam"])
@pytest.mark.parametrize("keep", [0, 10, 0.02, 0.6])
def test_cut_data_is_told(reader: Any, request: pytest.FixtureRequest, kind: str, keep: float) -> None:
    data, index = request.getfixturevalue(kind)
    reader.serve(data[: keep if isinstance(keep, int) else int(keep * len(data))], index)
    with pytest.raises(UnexpectedResponse):
        reader.read(Region("c2" if kind == "bed" else "c1"))


@pytest.mark.parametrize("kind", ["bed", "bam"])
@pytest.mark.parametrize("seed", range(25))
def test_damaged_bytes_end_in_words(
    reader: Any, request: pytest.FixtureRequest, kind: str, seed: int
) -> None:
    data, index = request.getfixturevalue(kind)
    rng = random.Random(seed)
    plain = gzip.decompress(index) if kind == "bed" else index
    damaged, harmed = bytearray(data), bytearray(plain)
    for _ in range(3):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        at = rng.randrange(len(harmed)) if rng.random() < 0.5 else rng.randrange(60)
        harmed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    for stored, result in ((bytes(damaged), index), (data, bytes(harmed)), (bytes(damaged), bytes(harmed))):
        reader.serve(stored, result)
        for region in (Region("c1"), Region("c2", 5_000, 90_000), Region("c1", 1_000_000, 1_000_100)):
            try:
                reader.read(region)
            except (UnexpectedResponse, InvalidInput):
                continue


@pytest.mark.parametrize(
    "index",
    [
        b"BAI\1" + struct.pack("<i", 2**31 - 1),
        b"BAI\1" + struct.pack("<i", -1),
        b"BAI\1" + struct.pack("<ii", 1, 2**31 - 1),
        b"BAI\1" + struct.pack("<iiIi", 1, 1, 0, 2**31 - 1),
        b"CSI\1" + struct.pack("<iiii", 14, 1000, 0, 1),
        b"CSI\1" + struct.pack("<iiii", 0, 5, 0, 1),
        b"CSI\1" + struct.pack("<iiii", 14, 5, 2**31 - 1, 1),
        b"TBI\1" + struct.pack("<8i", 1, 0, 1, 2, 3, 35, 0, 2**31 - 1),
        b"TBI\1" + struct.pack("<8i", 1, 0, 0, 2, 3, 35, 0, 3) + b"c1\0" + struct.pack("<ii", 0, 0),
        b"TBI\1" + struct.pack("<8i", 9, 0, 1, 2, 3, 35, 0, 3) + b"c1\0" + struct.pack("<ii", 0, 0),
        gzip.compress(bytes(200 << 20), 1),
        b"<html>",
    ],
    ids=[
        *("sequences", "negative", "bins", "chunks", "levels", "shift", "aux"),
        *("names", "columns", "fewer", "bomb", "html"),
    ],
)
def test_an_index_that_promises_too_much_is_told(reader: Any, bam: tuple[bytes, bytes], index: bytes) -> None:
    reader.serve(bam[0], index)
    with pytest.raises(UnexpectedResponse, match=r"index cannot be read|not readable with its index"):
        reader.read(Region("c0"))


def test_an_index_of_another_file_is_told(
    reader: Any, bed: tuple[bytes, bytes], bam: tuple[bytes, bytes]
) -> None:
    reader.serve(bed[0], bam[1])
    with pytest.raises(UnexpectedResponse, match="no BAM"):
        reader.read(Region("c1"))


def test_no_genome_library_is_loaded_to_read(reader: Any, bam: tuple[bytes, bytes]) -> None:
    reader.serve(*bam)
    program = (
        "import sys\n"
        "from gooseherd.client import GooseherdClient, ReadyPart, Region\n"
        "url = sys.argv[1]\n"
        "with GooseherdClient(url) as client:\n"
        "    data, index = (ReadyPart(url + path, None, None, None) for path in ('/data', '/index'))\n"
        "    print(len(list(client.read_region(data, index, Region('c1')))))\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'pysam', 'pyBigWig', 'numpy'}])\n"
        "print([line for line in open('/proc/self/maps') if 'libcurl' in line or 'libhts' in line])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, reader.origin.url], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split("\n")[:3], done.stderr) == (["1500", "[]", "[]"], "")
