"""A source that is ready is only indexed, as tabix does it; a GTF gets its parents whatever the memory."""

from __future__ import annotations

import gzip
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.bgzf import END_MARKER
from gooseherd.processing.tools.kernel import KernelStatus

FILES = 60
HEADS = {
    "bed": (b"", b"# remark\n"),
    "gff3": (b"", b"##gff-version 3\n##sequence-region chr1 1 9000000\n"),
    "vcf": (b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",),
}
PRESETS = {"bed": "bed", "gff3": "gff", "vcf": "vcf"}


def bgzip(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


def lines(format_name: str, chance: random.Random, *, longest: int = 5_000_000) -> list[bytes]:
    count = chance.choice((1, 2, 60, 3000))
    made = []
    for contig, start in sorted(
        (chance.choice((1, 2, 10)), chance.randint(1, longest)) for _ in range(count)
    ):
        about, end = b"y" * chance.randrange(60), start + chance.randrange(300)
        made.append(
            {
                "bed": b"chr%d\t%d\t%d\tx%s\n" % (contig, start, end, about),
                "gff3": b"chr%d\ts\tg\t%d\t%d\t.\t+\t.\tID=%s\n" % (contig, start, end, about),
                "vcf": b"chr%d\t%d\t%s\tA\t<DEL>\t.\t.\tEND=%d\n" % (contig, start, about or b".", end),
            }[format_name]
        )
    return made


def in_blocks(data: bytes, chance: random.Random) -> bytes:
    """BGZF whose blocks end anywhere, some of them empty."""
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(30)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole = [bgzip(part) for part in parts]
    return b"".join(one if chance.random() < 0.2 else one[:-28] for one in whole) + END_MARKER


@pytest.mark.parametrize("format_name", sorted(HEADS))
def test_the_index_is_the_one_that_tabix_makes(format_name: str, sanitised: Any, tmp_path: Path) -> None:
    for seed in range(FILES // 3):
        chance = random.Random(f"{format_name} {seed}")
        text = chance.choice(HEADS[format_name]) + b"".join(lines(format_name, chance))
        source = tmp_path / f"{seed}.gz"
        source.write_bytes(in_blocks(text, chance) if seed % 3 else bgzip(text))
        run = sanitised(format_name, source, "--keep")
        assert run.status == 0, run.stderr
        assert run.found.kept
        assert not run.out.exists()
        subprocess.run(["tabix", "-f", "-p", PRESETS[format_name], str(source)], check=True)
        assert run.index.read_bytes() == source.with_name(f"{seed}.gz.tbi").read_bytes(), seed
        packed = sanitised(format_name, source)
        assert (packed.found.records, packed.found.max_end, packed.found.contigs) == (
            run.found.records,
            run.found.max_end,
            run.found.contigs,
        )


def test_positions_beyond_tbi_need_a_second_look(sanitised: Any) -> None:
    source = b"".join(lines("bed", random.Random(1))) + b"chr30\t600000000\t600000001\n"
    run = sanitised("bed", bgzip(source), "--keep")
    assert (run.status, run.found.kept, run.found.index) == (0, True, "csi")


READY = b"chr2\t5\t9\nchr10\t1\t4\n"


@pytest.mark.parametrize(
    ("why", "packed"),
    [
        ("plain text", READY),
        ("no end marker", bgzip(READY)[:-28]),
        ("gzip behind it", bgzip(READY) + gzip.compress(b"chr11\t1\t2\n")),
        ("disorder", bgzip(READY + b"chr2\t9\t9\n")),
        ("a blank line", bgzip(READY + b"\n")),
        ("a comment below records", bgzip(READY + b"#x\n")),
        ("carriage returns", bgzip(READY.replace(b"\n", b"\r\n"))),
        ("an open end", bgzip(READY[:-1])),
        ("a byte order mark", bgzip(b"\xef\xbb\xbf" + READY)),
        ("odd numbers", bgzip(READY.replace(b"\t5\t", b"\t05\t"))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_ready_is_packed_anew(why: str, packed: bytes, sanitised: Any) -> None:
    run = sanitised("bed", packed, "--keep")
    assert run.status == 0, why
    assert not run.found.kept, why
    assert run.sizes() == sanitised("bed", packed).sizes()


def test_a_header_in_another_order_is_not_kept(sanitised: Any) -> None:
    late = HEADS["vcf"][0].splitlines(keepends=True)
    text = b"##x=1\n" + late[0] + late[1] + b"chr1\t5\t.\tA\tC\t.\t.\t.\n"
    run = sanitised("vcf", bgzip(text), "--keep")
    assert not run.found.kept
    assert run.text().startswith(late[0])


def gtf(count: int, *, parents: bool, ordered: bool) -> bytes:
    chance = random.Random(count)
    made = []
    for n in range(count):
        name, start = (
            b"chr%d" % (n * 3 // count + 8),
            n * 50 + 100 if ordered else chance.randrange(1, 90_000),
        )
        ids = b'gene_id "g%d"; transcript_id "t%d"; gene_name "%s";' % (n // 4, n // 2, b"n" * (n % 9))
        kinds = (b"gene", b"transcript", b"exon") if parents else (b"exon",)
        made += [b"%s\tx\t%s\t%d\t%d\t.\t+\t.\t%s\n" % (name, kind, start, start + 30, ids) for kind in kinds]
    return b"".join(made)


def genes_of(source: bytes) -> int:
    """How many genes exons alone make: transcripts of a gene and sequence that overlap are one."""
    spans: dict[tuple[bytes, bytes], dict[bytes, tuple[int, int]]] = {}
    for line in source.splitlines():
        name, _, _, start, end, _, _, _, ids = line.split(b"\t")
        gene, transcript = ids.split(b'"')[1], ids.split(b'"')[3]
        of_gene = spans.setdefault((name, gene), {})
        low, high = of_gene.get(transcript, (int(start), int(end)))
        of_gene[transcript] = min(low, int(start)), max(high, int(end))
    count = 0
    for of_gene in spans.values():
        reach = -1
        for low, high in sorted(of_gene.values()):
            count += low > reach
            reach = max(reach, high)
    return count


@pytest.mark.parametrize("parents", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_parents_are_the_same_however_little_memory_there_is(
    parents: bool, ordered: bool, sanitised: Any, cramped: Any, journalling: Any
) -> None:
    source = gtf(400, parents=parents, ordered=ordered)
    wanted = sanitised("gtf", source)
    assert wanted.status == 0, wanted.stderr
    assert wanted.found.sorted == (ordered and parents)
    assert wanted.found.counts.get("added_genes", 0) == (0 if parents else genes_of(source))
    for other in (cramped, journalling):
        run = other("gtf", source)
        assert run.status == 0, run.stderr
        assert run.sizes() == wanted.sizes()
        assert run.found.counts == wanted.found.counts


def test_a_parent_missing_behind_many_that_are_there_loses_the_bet(sanitised: Any, cramped: Any) -> None:
    source = gtf(400, parents=True, ordered=True)
    late = b'chr99\tx\texon\t5\t9\t.\t+\t.\tgene_id "late"; transcript_id "later";\n'
    run = cramped("gtf", source + late)
    assert run.status == 0, run.stderr
    assert run.found.restarted
    assert run.sizes() == sanitised("gtf", source + late).sizes()
    assert run.found.counts == {"added_genes": 1, "added_transcripts": 1, "added_header_lines": 1}


@pytest.mark.parametrize("format_name", ["bed", "vcf"])
def test_a_pipe_is_kept_as_a_file_is(format_name: str, sanitised: Any) -> None:
    chance = random.Random(format_name)
    packed = bgzip(HEADS[format_name][0] + b"".join(lines(format_name, chance)))
    piped, read = (
        sanitised.drip(format_name, packed, 1000, "--keep"),
        sanitised(format_name, packed, "--keep"),
    )
    assert (piped.status, piped.found.kept, piped.out.exists()) == (0, True, False)
    assert piped.index.read_bytes() == read.index.read_bytes()


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (bgzip(READY + b"chr2\t9\t9\n"), KernelStatus.NOT_KEPT),
        (bgzip(READY)[:-28], KernelStatus.NOT_KEPT),
        (READY, KernelStatus.NOT_KEPT),
        (bgzip(READY + b"chr30\t600000000\t600000001\n"), KernelStatus.WANTS_CSI),
    ],
    ids=["disorder", "no end marker", "plain text", "beyond TBI"],
)
def test_a_pipe_that_would_have_to_be_read_again_is_left_to_another_run(
    packed: bytes, status: KernelStatus, sanitised: Any
) -> None:
    run = sanitised.drip("bed", packed, len(packed), "--keep")
    assert run.status == status
    assert not run.out.exists()
    assert not run.index.exists()
