"""What real_files.py compares with finds the faults that it is there for."""

from __future__ import annotations

from tests.benchmark_modules import load_benchmark

SOURCE = [b'1\tx\texon\t101\t200\t.\t+\t.\tgene_id "g"; transcript_id "t";']
EXON = b"1\tx\texon\t101\t200\t.\t+\t.\tParent=t"


def gene(begin: int, end: int) -> bytes:
    return b"1\tx\tgene\t%d\t%d\t.\t+\t.\tID=g" % (begin, end)


def transcript(begin: int, end: int) -> bytes:
    return b"1\tx\ttranscript\t%d\t%d\t.\t+\t.\tID=t;Parent=g" % (begin, end)


def test_an_added_gene_is_as_long_as_what_it_holds() -> None:
    judge = load_benchmark("_gffread").misplaced_parents
    assert judge(SOURCE, [gene(101, 200), transcript(101, 200), EXON]) == ""
    for parents in ([gene(101, 120_000_000), transcript(101, 200)], [gene(1, 300), transcript(1, 300)]):
        assert "its children reach over" in judge(SOURCE, [*parents, EXON])


def test_parents_are_there_hold_their_children_and_stand_above_them() -> None:
    judge = load_benchmark("_gffread").misplaced_parents
    assert "has a parent that is not there" in judge(SOURCE, [EXON])
    assert "is not within its parent" in judge(SOURCE, [gene(150, 200), transcript(101, 200), EXON])
    assert "stands above its parent" in judge(SOURCE, [EXON, gene(101, 200), transcript(101, 200)])
    assert "parent of nothing" in judge(
        SOURCE, [gene(101, 200), transcript(101, 200), EXON, b"1\tx\tgene\t5\t9\t.\t+\t.\tID=h"]
    )
    assert "lines of the source are lost" in judge(SOURCE, [])


def test_contacts_may_be_mirror_images_and_nothing_may_lack() -> None:
    unlike = load_benchmark("_reference_of_matrices").unlike
    wanted = {"places": (("1", 0, 3000), ("1", 0, 3000)), "contacts": [(0, 2, 5.0), (1, 1, 2.0)]}
    assert unlike(wanted, [(2, 0, 5.0), (1, 1, 2.0), (0, 9, 1.0)], 1000) == ""
    assert unlike(wanted, [(2, 0, 5.0)], 1000)
    assert unlike(wanted, [(2, 0, 5.0), (1, 1, 3.0)], 1000)
