"""A CRAM that stays one, read by @gmod/cram as JBrowse does, with the reference that this service made."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.benchmark_modules import load_benchmark
from tests.browser.service import Herd, Origin, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

CHANCE = random.Random(15)
GENOME = {"one": "".join(CHANCE.choices("ACGT", k=60_000)), "two": "".join(CHANCE.choices("ACGT", k=9_000))}
READS = [
    (f"r{number}", name, CHANCE.randrange(1, len(GENOME[name]) - 60))
    for number, name in enumerate(CHANCE.choices(list(GENOME), k=1500))
]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """The reference, and CRAMs made with it: sorted, and in the order of the reads."""
    folder = tmp_path_factory.mktemp("crams")
    reference = folder / "genome.fa"
    reference.write_text(
        "".join(
            f">{name}\n" + "".join(f"{bases[at : at + 60]}\n" for at in range(0, len(bases), 60))
            for name, bases in GENOME.items()
        )
    )
    head = "".join(f"@SQ\tSN:{name}\tLN:{len(bases)}\n" for name, bases in GENOME.items())
    for filename, reads in (("sorted.cram", sorted(READS, key=lambda r: r[1:])), ("unsorted.cram", READS)):
        text = head + "".join(
            f"{read}\t0\t{name}\t{at}\t60\t50M\t*\t0\t0\t{GENOME[name][at - 1 : at + 49]}\t{'I' * 50}\n"
            for read, name, at in reads
        )
        form = "cram,version=3.0"
        argv = ["samtools", "view", "--no-PG", "-O", form, "-T", str(reference), "-o", str(folder / filename)]
        subprocess.run([*argv, "-"], input=text.encode(), check=True)
    origin = Origin(folder)
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def herd(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    named = f"mine={origin.url}/genome.fa"
    home = tmp_path_factory.mktemp("herd")
    with running(home, origin, WORKFLOW_CRAM="cram", SOURCE_REFERENCES=named) as herd:
        yield herd


@pytest.fixture(scope="module")
def readers(bundle: Path) -> Iterator[Any]:
    readers = load_benchmark("_viewers").Readers(bundle / "readers.mjs")
    yield readers
    readers.close()


@pytest.mark.parametrize("filename", ["sorted.cram", "unsorted.cram"])
def test_gmod_cram_finds_the_reads_of_a_region(herd: Herd, readers: Any, filename: str) -> None:
    cram, fasta = (herd.names(herd.register(name)) for name in (filename, "genome.fa"))
    urls = {"data": cram["data"], "index": cram["index"]}
    urls |= {"fasta": fasta["data"], "fai": fasta["index"], "gzi": fasta["gzi"]}
    regions = [("one", 0, 60_000), ("two", 0, 9_000), ("one", 20_000, 20_700), ("two", 8_000, 8_001)]
    found, _ = readers.ask("cram", urls, regions, names=list(GENOME))
    for (name, start, end), records in zip(regions, found, strict=True):
        wanted = [
            [read, at, GENOME[name][at - 1 : at + 49]]
            for read, sequence, at in READS
            if sequence == name and at - 1 < end and at + 49 > start
        ]
        assert sorted(records) == sorted(wanted)
