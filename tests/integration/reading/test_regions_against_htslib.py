"""Regions read over HTTP are those htslib reads from the same files on disk."""

from __future__ import annotations

import array
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.client import Region

pytestmark = pytest.mark.integration

FAR = 1 << 29
"""Where BAI and TBI end."""


def tabix(path: Path, lines: Iterable[str], **how: Any) -> tuple[Path, Path]:
    """Text, compressed and indexed by htslib."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    packed = path.with_name(f"{path.name}.gz")
    pysam.tabix_compress(str(path), str(packed), force=True)
    pysam.tabix_index(str(packed), force=True, **how)
    return packed, packed.with_name(f"{packed.name}.{'csi' if how.get('csi') else 'tbi'}")


def asked_of(rng: random.Random, length: int, near: list[int], count: int) -> Iterable[Region]:
    yield Region("c1")
    for _ in range(count):
        start = max(rng.choice([*near, rng.randrange(length)]) + rng.choice([-2, -1, 0, 1, 2]), 0)
        width = rng.choice([1, 2, 100, 20_000, 3_000_000])
        yield Region(rng.choice(["c1", "c2"]), start, start + width if rng.random() < 0.9 else None)


def same_as_tabix(reader: Any, data: Path, index: Path, regions: Iterable[Region]) -> int:
    reader.serve(data, index)
    found = 0
    with pysam.TabixFile(str(data), index=str(index), encoding="utf-8") as opened:
        for region in regions:
            expected = list(opened.fetch(region.contig, region.start, region.end))
            assert reader.read(region) == expected, region
            found += len(expected)
    return found


@pytest.mark.parametrize("csi", [False, True], ids=["tbi", "csi"])
@pytest.mark.parametrize("seed", range(2))
def test_lines_of_bed(reader: Any, tmp_path: Path, seed: int, csi: bool) -> None:
    rng = random.Random(seed)
    far = 3 * FAR if csi else FAR - 4_000_000
    spans = sorted(
        (rng.choice([rng.randrange(far), rng.randrange(50_000)]), rng.choice([0, 1, 500, 2_000_000]))
        for _ in range(2000)
    )
    lines = ["# a comment", 'track name="x"'] if seed else []
    for name in ("c1", "c2"):
        lines += [f"{name}\t{start}\t{start + width}\té{n}" for n, (start, width) in enumerate(spans)]
    rows = [line for line in lines if not line.startswith("track")]
    data, index = tabix(tmp_path / "a.bed", rows, preset="bed", csi=csi)
    near = [edge for start, width in rng.sample(spans, 50) for edge in (start, start + width)]
    assert same_as_tabix(reader, data, index, asked_of(rng, far, near, 25)) > 2000


@pytest.mark.parametrize("min_shift", [12, 20])
def test_lines_by_a_csi_of_another_shape(reader: Any, tmp_path: Path, min_shift: int) -> None:
    rng = random.Random(min_shift)
    starts = sorted(rng.randrange(FAR) for _ in range(2000))
    lines = [
        f"{name}\tx\ty\t{start + 1}\t{start + 5000}\t.\t+\t." for name in ("c1", "c2") for start in starts
    ]
    data, index = tabix(tmp_path / "a.gff", lines, preset="gff", csi=True, min_shift=min_shift)
    assert same_as_tabix(reader, data, index, asked_of(rng, FAR, starts[::40], 25)) > 2000


def reads(path: Path, length: int, seed: int) -> list[int]:
    """A sorted BAM with what reads can have; the places of some."""
    rng = random.Random(seed)
    header = {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": "c1", "LN": length}, {"SN": "empty", "LN": 9}, {"SN": "c2", "LN": length}],
    }
    starts: list[int] = []
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for contig in ("c1", "c2"):
            dense = rng.randrange(length // 2)
            places = sorted(
                rng.choice([dense + rng.randrange(20_000), rng.randrange(length - 99_999)])
                for _ in range(4000)
            )
            starts += places
            for number, start in enumerate(places):
                out.write(a_read(out.header, rng, contig, start, number))
        for number in range(20):
            read = pysam.AlignedSegment(out.header)
            read.query_name, read.flag, read.query_sequence = f"nowhere{number}", 4, "ACGT"
            out.write(read)
    return starts


def a_read(header: Any, rng: random.Random, contig: str, start: int, number: int) -> Any:
    read = pysam.AlignedSegment(header)
    read.query_name, read.mapping_quality = f"r{number}", number % 61
    read.reference_name, read.reference_start = contig, start
    read.flag = (4 if rng.random() < 0.2 else 0) | (1 if number % 3 else 0)
    read.next_reference_id, read.next_reference_start = rng.choice([-1, 0, 1, 2]), rng.choice([-1, 50])
    read.template_length = rng.randrange(-500, 500)
    length = rng.choice([0, 1, 50, 75, 76])
    if not read.flag & 4:
        if length > 3:
            read.cigartuples = [(4, 3), (7, 1), (0, length - 4), (3, rng.choice([1, 500, 90_000])), (1, 0)]
        else:
            read.cigartuples = [(0, length or 30)]
    if length:
        read.query_sequence = "".join(rng.choices("=ACMGRSVTWYHKDBN", k=length))
        if rng.random() < 0.8:
            read.query_qualities = array.array("B", rng.choices(range(94), k=length))
    for name, value, kind in (
        ("NM", number % 256, "C"), ("XI", -number, "i"), ("XU", 4_000_000_000, "I"), ("RG", "a group", "Z"),
        ("XA", "c", "A"), ("XF", rng.uniform(-1, 1) * 10.0 ** rng.randrange(-8, 9), "f"), ("XH", "1AE3", "H"),
        ("XB", array.array(rng.choice("bBhHiI"), [1, 2]), None), ("XC", array.array("f", [1.5, -2e-9]), None),
    ):  # fmt: skip
        if rng.random() < 0.7:
            read.set_tag(name, value, kind)  # type: ignore[arg-type]  # the stub lists letters
    return read


@pytest.mark.parametrize(("suffix", "length"), [("bai", FAR - 1), ("csi", 3 * FAR)])
@pytest.mark.parametrize("seed", range(2))
def test_reads_and_their_sam(reader: Any, tmp_path: Path, suffix: str, length: int, seed: int) -> None:
    path, rng = tmp_path / "a.bam", random.Random(seed)
    starts = reads(path, length, seed)
    pysam.index(*(["-c"] if suffix == "csi" else []), str(path))
    index = path.with_name(f"a.bam.{suffix}")
    reader.serve(path, index)
    with pysam.AlignmentFile(str(path), index_filename=str(index)) as opened:
        regions = [Region("empty"), *asked_of(rng, length, rng.sample(starts, 60), 40)]
        for region in regions:
            expected = [read.to_string() for read in opened.fetch(region.contig, region.start, region.end)]
            assert reader.read(region) == expected, region


def test_more_cigar_operations_than_fit_are_read_from_their_tag(reader: Any, tmp_path: Path) -> None:
    path = tmp_path / "long.bam"
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "c1", "LN": 1_000_000}]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        read = pysam.AlignedSegment(out.header)
        read.query_name, read.reference_id, read.reference_start = "long", 0, 10
        read.cigartuples = [(0, 1), (1, 1)] * 40_000
        read.query_sequence = "AC" * 40_000
        read.set_tag("NM", 7)
        out.write(read)
    pysam.index(str(path))
    reader.serve(path, path.with_name("long.bam.bai"))
    with pysam.AlignmentFile(str(path)) as opened:
        [expected] = [read.to_string() for read in opened.fetch("c1")]
    assert reader.read(Region("c1", 40_000, 40_001)) == [expected]
    assert reader.read(Region("c1", 40_010, 40_011)) == []
