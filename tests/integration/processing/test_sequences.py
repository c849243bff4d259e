"""FASTA in blocks with its two indexes, asked by place with htslib; what is put right or refused."""

from __future__ import annotations

import bz2
import gzip
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pysam
import pytest
from backports import zstd

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

CHANCE = random.Random(5)


def letters(count: int) -> str:
    return "".join(CHANCE.choices("ACGTNacgtn", k=count))


def wrapped(sequences: dict[str, str], width: int = 60) -> bytes:
    text = ""
    for name, sequence in sequences.items():
        text += f">{name} a title\n"
        text += "".join(sequence[at : at + width] + "\n" for at in range(0, len(sequence), width))
    return text.encode()


SEQUENCES = {"chr2": letters(150_001), "chr1": letters(60), "HLA:01": letters(999), "one": "A"}


def data_of(made: Any) -> bytes:
    return Path(made.data).read_bytes()


def opened(made: Any) -> Any:
    gzi = str(made.produced(Kind.GZI).path)
    return pysam.FastaFile(made.data, filepath_index=made.index, filepath_index_compressed=gzi)


@pytest.mark.parametrize(
    "packed", [bytes, gzip.compress, bz2.compress, zstd.compress, "bgzip"], ids=lambda p: str(p)[:20]
)
async def test_every_stretch_is_found_by_its_place(process: Process, tool: Tool, packed: Any) -> None:
    text = wrapped(SEQUENCES)
    source = tool("bgzip", "-c", stdin=text) if packed == "bgzip" else packed(text)
    made = await process(source, "fasta", filename="genome.fna.gz")
    assert made.failure is None, made.failure
    assert gzip.decompress(data_of(made)) == text
    if packed == "bgzip":
        assert data_of(made) == source
        assert "source's own bytes" in made.notes
    with opened(made) as fasta:
        assert dict(zip(fasta.references, fasta.lengths, strict=True)) == {
            n: len(s) for n, s in SEQUENCES.items()
        }
        for name, sequence in SEQUENCES.items():
            assert fasta.fetch(name) == sequence
            for _ in range(30):
                start = CHANCE.randrange(len(sequence))
                end = start + CHANCE.choice([1, 61, 70_000])
                assert fasta.fetch(name, start, end) == sequence[start:end]
    contigs = made.outputs[0].contigs
    assert [(c.name, c.length) for c in contigs] == [(n, len(s)) for n, s in SEQUENCES.items()]
    names = [p.filename for p in made.outputs[0].files]
    assert names == ["genome.fa.gz", "genome.fa.gz.fai", "genome.fa.gz.gzi"]


async def test_both_indexes_are_those_that_samtools_makes(
    process: Process, tool: Tool, tmp_path: Path
) -> None:
    for source in (wrapped(SEQUENCES), tool("bgzip", "-c", stdin=wrapped(SEQUENCES))):
        made = await process(source, "fasta")
        copy = tmp_path / "copy.fa.gz"
        copy.write_bytes(data_of(made))
        tool("samtools", "faidx", str(copy))
        assert made.produced(Kind.INDEX).path.read_bytes() == copy.with_name("copy.fa.gz.fai").read_bytes()
        gzi = made.produced(Kind.GZI).path.read_bytes()
        assert gzi == copy.with_name("copy.fa.gz.gzi").read_bytes()


ODD = {
    "carriage returns": (b">a x\r\nACGT\r\nAC\r\n", b">a x\nACGT\nAC\n", {"carriage_returns": 3}, "carriage"),
    "a space before the name": (b"> a x\nAC\n", b">a x\nAC\n", {"spaces_before_names": 1}, "between > and"),
    "blank lines": (
        b"\n>a\nACGT\n\nAC\n\n>b\nA\n",
        b">a\nACGT\nAC\n>b\nA\n",
        {"blank_lines": 3},
        "blank lines",
    ),
    "spaces": (b">a\nAC GT \n  AC\n", b">a\nACGT\nAC\n", {"spaces_in_sequences": 4}, "spaces"),
    "a byte order mark": (b"\xef\xbb\xbf>a\nAC\n", b">a\nAC\n", {"byte_order_mark": 1}, "byte order mark"),
    "no last newline": (b">a\nACGT\nAC", b">a\nACGT\nAC\n", {}, ""),
    "lines of many lengths": (
        b">a\nACGT\nAC\nACGTAC\nA\n>b\nAC\n",
        b">a\nACGT\nACAC\nGTAC\nA\n>b\nAC\n",
        {"rewrapped_lines": 2},
        "wrapped anew",
    ),
    "amino acids, a stop, gaps": (b">p\nMKV*-.\n", b">p\nMKV*-.\n", {}, ""),
    "a name alone": (b">a\n>b\nAC\n", b">a\n>b\nAC\n", {"empty_sequences": 1}, "not in the index"),
    "one line": (b">a\n" + b"ACGT" * 100_000, b">a\n" + b"ACGT" * 100_000 + b"\n", {}, ""),
}


@pytest.mark.parametrize("what", ODD)
async def test_what_can_be_put_right_is_and_is_told(process: Process, what: str) -> None:
    source, text, counts, words = ODD[what]
    made = await process(source, "fasta")
    assert made.failure is None, made.failure
    assert gzip.decompress(data_of(made)) == text
    assert {k: v for k, v in made.counts.items() if k != "records"} == counts
    assert words in made.notes
    assert bool(words) == bool(made.notes)
    with opened(made) as fasta:
        wanted = dict(entry.split("\n", 1) for entry in text.decode().split(">")[1:])
        found = {name: fasta.fetch(name) for name in fasta.references}
        assert found == {n.split()[0]: s.replace("\n", "") for n, s in wanted.items() if s}


REFUSED = {
    "the same name twice": (b">a\nAC\n>b\nA\n>a\nGT\n", "line 5: the name 'a' stands above two sequences"),
    "a name that is missing": (b">a\nAC\n> \nGT\n", "line 3: a sequence without a name"),
    "letters that are none": (b">a\nACGT\nAC1T\n", "line 3: '1' is no letter of a sequence"),
    "NUL": (b">a\nACGT\nAC\0T\n", "line 3: a NUL byte"),
    "letters above all titles": (b"\nACGT\n>a\nACGT\n", "line 2: a sequence without a title"),
    "carriage returns alone": (b">a\rACGT\r", "carriage returns alone"),
    "reads": (b"@r1\nACGT\n+\nIIII\n", "the file is FASTQ"),
    "intervals": (b"chr1\t5\t9\n", "the file is bed"),
    "a GenBank record": (b"LOCUS       AB1 10 bp\n", "the file is genbank"),
    "UTF-16": (">a\nACGT\n".encode("utf-16"), "UTF-16"),
    "a web page": (b"<!DOCTYPE html><html>", "HTML"),
    "nothing": (b"", "empty"),
    "blank lines alone": (b"\n\n", "no sequences"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_cannot_be_put_right_is_refused_with_the_line(process: Process, what: str) -> None:
    source, words = REFUSED[what]
    made = await process(source, "fasta")
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID
    assert words in made.failure.detail


async def test_a_cut_file_is_refused(process: Process, tool: Tool) -> None:
    whole = tool("bgzip", "-c", stdin=wrapped(SEQUENCES))
    for source in (whole[:-28], whole[:-500], gzip.compress(wrapped(SEQUENCES))[:-20]):
        made = await process(source, "fasta")
        assert made.failure is not None
        assert "truncated" in made.failure.detail


async def test_a_hundred_thousand_sequences_are_all_found(process: Process) -> None:
    names = {f"t{n}": "ACGT"[n % 4] * (n % 90 + 1) for n in range(100_000)}
    made = await process(wrapped(names), "fasta")
    assert made.failure is None, made.failure
    with opened(made) as fasta:
        assert fasta.nreferences == len(names)
        for name in ("t0", "t77777", "t99999"):
            assert fasta.fetch(name) == names[name]
