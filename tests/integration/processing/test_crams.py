"""CRAM that stays CRAM: sorted bytes are kept, a CRAI is made, places are read without any reference."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyBigWig
import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.domain.source import SourceFile
from gooseherd.processing.processors.crams import CramIndexProcessor
from gooseherd.processing.registry import ProcessorRegistry, default_registry

Process = Callable[..., Awaitable[Any]]
CHANCE = random.Random(4)
LENGTHS = {"chr1": 50_000, "chr2": 20_000, "none": 500}
GENOME = {name: "".join(CHANCE.choices("ACGT", k=length)) for name, length in LENGTHS.items()}


@pytest.fixture
def keeping() -> ProcessorRegistry:
    return default_registry(
        sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, density=True, keep_cram=True
    )


def sam(*, order: str = "sorted") -> bytes:
    places = [(number % 2, CHANCE.randrange(1, 19_000)) for number in range(2000)]
    if order == "sorted":
        places.sort()
    lines = ["@HD\tVN:1.6", *(f"@SQ\tSN:{name}\tLN:{length}" for name, length in LENGTHS.items())]
    for number, (which, at) in enumerate(places):
        name = list(LENGTHS)[which]
        bases = GENOME[name][at - 1 : at + 39]
        lines.append(f"r{number}\t0\t{name}\t{at}\t60\t40M\t*\t0\t0\t{bases}\t{'I' * 40}")
    return ("\n".join(lines) + "\n").encode()


def cram(folder: Path, text: bytes, *options: str) -> bytes:
    """By a reference that is gone afterwards, unless `options` say otherwise."""
    reference = folder / "with.fa"
    reference.write_text("".join(f">{name}\n{bases}\n" for name, bases in GENOME.items()))
    argv = ["samtools", "view", "--no-PG", "-O", ",".join(("cram", *options)), "-T", str(reference), "-"]
    made = subprocess.run(argv, input=text, capture_output=True, check=True).stdout
    for left in folder.glob("with*"):
        left.unlink()
    return made


async def test_a_sorted_cram_keeps_its_bytes_and_needs_no_reference(
    process: Process, keeping: ProcessorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cram(tmp_path, sam())
    made = await process(content, "cram", filename="x.cram", using=keeping)
    assert made.failure is None, made.failure
    assert made.digests()[0] == hashlib.sha256(content).hexdigest()
    assert "already sorted" in made.notes
    assert "readers need the reference" in made.notes
    names = {kind: made.produced(kind).filename for kind in (Kind.DATA, Kind.INDEX, Kind.DENSITY)}
    assert list(names.values()) == ["x.cram", "x.cram.crai", "x.density.bw"]
    assert made.counts["records"] == 2000
    for bases in GENOME.values():
        (tmp_path / hashlib.md5(bases.encode()).hexdigest()).write_text(bases)
    monkeypatch.setenv("REF_CACHE", f"{tmp_path}/%s")
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        found = [read.query_name for read in opened.fetch("chr2", 4_999, 6_000)]
    wanted = [
        fields[0]
        for fields in (line.split("\t") for line in sam_lines(content, tmp_path))
        if fields[2] == "chr2" and int(fields[3]) <= 6_000 and int(fields[3]) + 39 >= 5_000
    ]
    assert found == wanted != []
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as bigwig:
        assert bigwig.chroms() == {"chr1": 50_000, "chr2": 20_000}
        assert bigwig.stats("chr1", 0, 1024, type="max", exact=True)[0] > 0


def sam_lines(content: bytes, folder: Path) -> list[str]:
    """As samtools reads it with REF_CACHE of the environment."""
    path = folder / "again.cram"
    path.write_bytes(content)
    return subprocess.run(
        ["samtools", "view", str(path)], capture_output=True, check=True, text=True
    ).stdout.splitlines()


@pytest.mark.parametrize("options", [("no_ref=1",), ("embed_ref=1",)])
async def test_an_unsorted_cram_with_its_bases_is_sorted_the_same_way_each_time(
    process: Process, keeping: ProcessorRegistry, tmp_path: Path, options: tuple[str, ...]
) -> None:
    text = sam(order="unsorted")
    content = cram(tmp_path, text, *options)
    made = [await process(content, "cram", using=keeping) for _ in range(2)]
    assert made[0].failure is None, made[0].failure
    assert made[0].digests() == made[1].digests()
    with pysam.AlignmentFile(made[0].data, index_filename=made[0].index) as opened:
        places = [(read.reference_id, read.reference_start) for read in opened.fetch()]
    assert len(places) == 2000
    assert places == sorted(places)
    assert "already sorted" not in made[0].notes


async def test_reads_out_of_order_within_a_slice_are_seen(
    process: Process, keeping: ProcessorRegistry, tmp_path: Path
) -> None:
    """A CRAI is of slices, so making one proves nothing of the order within them."""
    lines = sam().decode().splitlines()
    reads = [line for line in lines if "\tchr1\t" in line and not line.startswith("@")]
    reads[10], reads[11] = reads[900], reads[10]
    text = "\n".join([*(line for line in lines if line.startswith("@")), *reads]) + "\n"
    made = await process(cram(tmp_path, text.encode(), "no_ref=1"), "cram", using=keeping)
    assert made.failure is None, made.failure
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        places = [read.reference_start for read in opened.fetch("chr1")]
    assert places == sorted(places)


async def test_the_place_that_a_header_names_is_not_opened(
    process: Process, keeping: ProcessorRegistry, tmp_path: Path
) -> None:
    content = cram(tmp_path, sam())
    reference = tmp_path / "with.fa"
    reference.write_text("".join(f">{name}\n{bases}\n" for name, bases in GENOME.items()))
    made = await process(content, "cram", using=keeping)
    assert made.failure is None, made.failure
    # htslib writes an index beside a reference that it opens.
    assert not (tmp_path / "with.fa.fai").exists()


@pytest.mark.parametrize("version", ["3.0", "3.1"])
async def test_damage_anywhere_is_seen_without_decoding_bases(
    process: Process, keeping: ProcessorRegistry, tmp_path: Path, version: str
) -> None:
    content = cram(tmp_path, sam(), f"version={version}")
    assert (await process(content, "cram", using=keeping)).failure is None
    for at in (len(content) * part // 12 for part in range(1, 12)):
        broken = content[:at] + bytes((content[at] ^ 0x10,)) + content[at + 1 :]
        made = await process(broken, "cram", using=keeping)
        assert made.failure is not None, at
        assert made.failure.reason is Reason.SOURCE_INVALID, made.failure


async def test_a_cut_cram_and_one_of_version_2_are_refused(
    process: Process, keeping: ProcessorRegistry, tmp_path: Path
) -> None:
    made = await process(cram(tmp_path, sam())[:-40], "cram", using=keeping)
    assert "truncated: the end marker is missing" in made.failure.detail
    made = await process(cram(tmp_path, sam(), "version=2.1", "no_ref=1"), "cram", using=keeping)
    assert "WORKFLOW_CRAM=bam" in made.failure.detail


def test_which_form_is_part_of_the_key_and_both_can_be_followed(
    registry: ProcessorRegistry, keeping: ProcessorRegistry
) -> None:

    entry = {"dcc": "t", "local_id": "x", "access_url": "https://example.org/x.cram", "md5": "0" * 32}
    source = SourceFile.from_json(entry)
    as_bam, as_cram = registry.recipe(source), keeping.recipe(source)
    assert (as_bam.processor, as_cram.processor) == ("bam-index", "cram-index")
    assert isinstance(registry.processor(as_cram), CramIndexProcessor)
    assert keeping.processor(as_bam).name == "bam-index"
