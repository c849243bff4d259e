"""A name index has every gene and feature of its file by name, in trix form."""

# ruff: noqa: E501 - lines of annotations
from __future__ import annotations

import gzip
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.trial.bigbed import write_bigbed

Process = Callable[..., Awaitable[Any]]

GENCODE = (
    b"##description: evidence-based annotation of the human genome (GRCh38), version 44\n"
    b"chr17\tHAVANA\tgene\t43044292\t43170245\t.\t-\t.\tgene_id \"ENSG00000012048.26\"; gene_type \"protein_coding\"; "
    b"gene_name \"BRCA1\"; level 2; hgnc_id \"HGNC:1100\"; tag \"overlapping_locus\"; havana_gene \"OTTHUMG00000157426.11\";\n"
    b"chr17\tHAVANA\ttranscript\t43044295\t43125364\t.\t-\t.\tgene_id \"ENSG00000012048.26\"; "
    b"transcript_id \"ENST00000357654.9\"; gene_name \"BRCA1\"; transcript_name \"BRCA1-203\"; level 2;\n"
    b"chr17\tHAVANA\texon\t43124017\t43124115\t.\t-\t.\tgene_id \"ENSG00000012048.26\"; "
    b"transcript_id \"ENST00000357654.9\"; gene_name \"BRCA1\"; exon_number 1; exon_id \"ENSE00003510592.1\";\n"
)  # fmt: skip
ENSEMBL = (
    b"##gff-version 3\n##sequence-region 13 1 114364328\n"
    b"13\tensembl_havana\tgene\t32315086\t32400268\t.\t+\t.\tID=gene:ENSG00000139618;Name=BRCA2;"
    b"biotype=protein_coding;description=BRCA2 DNA repair;gene_id=ENSG00000139618;version=19\n"
    b"13\tensembl_havana\tmRNA\t32315508\t32400268\t.\t+\t.\tID=transcript:ENST00000380152;Parent=gene:ENSG00000139618;"
    b"Name=BRCA2-201;transcript_id=ENST00000380152\n"
    b"13\tensembl_havana\texon\t32315508\t32315667\t.\t+\t.\tParent=transcript:ENST00000380152;Name=ENSE00001184784\n"
    b"13\tx\tgene\t100\t200\t.\t+\t.\tID=g2;Name=two%20words%2C one;Alias=old1,old2\n"
    b"###\n##FASTA\n>13\nACGT\n"
)
STRINGTIE = (
    b'chr1\tStringTie\texon\t100\t200\t1000\t+\t.\tgene_id "STRG.1"; transcript_id "STRG.1.1";\n'
    b'chr1\tStringTie\texon\t500\t900\t1000\t+\t.\tgene_id "STRG.1"; transcript_id "STRG.1.1";\n'
)
BED12 = (
    b"track name=x\nchr1\t10\t90\tNM_1\t0\t+\t20\t80\t0\t1\t80,\t0,\tGENE1\nchr1\t5\t9\t.\nchr2\t0\t7\t42.5\n"
)


def lines(made: Any) -> dict[str, list[list[str]]]:
    """Term to items, decoded; the sentinel is left out."""
    found = {}
    text = made.produced(Kind.NAMES).path.read_text(encoding="utf-8")
    for line in text.splitlines()[:-1]:
        term, *items = line.split(" ")
        places = [json.loads(item.rpartition(",")[0].replace("|", ",")) for item in items]
        found[term] = [[unquote(word) for word in place] for place in places]
    assert text.endswith("\n\uffff\n") or text == "\uffff\n"
    assert list(found) == sorted(found, key=str.encode)
    return found


async def test_genes_of_gencode_are_found_by_symbol_and_by_id(process: Process) -> None:
    made = await process(gzip.compress(GENCODE), "gtf", filename="gencode.gtf.gz", on_demand=True)
    assert made.failure is None
    found = lines(made)
    assert found["brca1"] == [["chr17:43044292..43170245", "", "BRCA1"]]
    assert found["ensg00000012048.26"] == [["chr17:43044292..43170245", "", "BRCA1", "ENSG00000012048.26"]]
    assert found["brca1-203"] == [["chr17:43044295..43125364", "", "BRCA1-203"]]
    assert not any(term.startswith("ense") for term in found)
    assert made.produced(Kind.NAMES).filename == "gencode.ix"


async def test_names_of_gff3_are_decoded_and_every_word_leads_to_the_place(process: Process) -> None:
    found = lines(await process(ENSEMBL, "gff3", on_demand=True))
    assert found["brca2"][0] == ["13:32315086..32400268", "", "BRCA2"]
    assert found["gene:ensg00000139618"][0][3] == "gene:ENSG00000139618"
    assert found["words,"] == found["two"] == [["13:100..200", "", "two words, one"]]
    assert found["old2"] == [["13:100..200", "", "two words, one", "old2"]]
    assert "acgt" not in found
    assert "ense00001184784" not in found


async def test_a_gene_that_has_parts_alone_is_found_over_all_of_them(process: Process) -> None:
    found = lines(await process(STRINGTIE, "gtf", on_demand=True))
    assert found["strg.1"] == [["chr1:100..900", "", "STRG.1"]]


async def test_names_of_bed_stand_in_column_4_and_of_genes_in_column_13(process: Process) -> None:
    found = lines(await process(BED12, "bed", on_demand=True))
    assert found == {
        "gene1": [["chr1:11..90", "", "GENE1"]],
        "nm_1": [["chr1:11..90", "", "GENE1", "NM_1"]],
    }


async def test_a_bigbed_is_searched_too(process: Process, tmp_path: Path) -> None:
    rows = [("chr1", number * 10, number * 10 + 5, f"peak{number}") for number in range(300)]
    path = tmp_path / "x.bb"
    write_bigbed(path, {"chr1": 10_000}, rows)
    found = lines(await process(path, "bigbed", on_demand=True))
    assert found["peak299"] == [["chr1:2991..2995", "", "peak299"]]


async def test_a_name_with_very_many_places_keeps_fifty_and_says_so(process: Process) -> None:
    content = b"".join(b"chr1\t%d\t%d\tAluY\n" % (n, n + 1) for n in range(400))
    made = await process(content, "bed", on_demand=True)
    assert len(lines(made)["aluy"]) == 50
    assert "1 words name more than 50 places" in made.notes


async def test_the_small_index_leads_to_every_line(process: Process) -> None:
    rolled = random.Random(3)
    content = b"".join(
        b"chr%d\t%d\t%d\tfeature-%x\n" % (rolled.randrange(1, 5), n, n + 9, rolled.randrange(1 << 40))
        for n in range(30_000)
    )
    made = await process(content, "bed", on_demand=True)
    data = made.produced(Kind.NAMES).path.read_bytes()
    index = made.produced(Kind.NAMES_INDEX).path.read_bytes().splitlines()
    assert 5 < len(index) < len(data) // 60_000 + 2
    assert index[0] == b"     0000000000"
    for line in index[1:]:
        key, at = line[:-10], int(line[-10:], 16)
        assert data[at - 1 : at + len(key) + 1] == b"\n" + key + b" "
    assert made.counts["names"] == 30_000


async def test_the_same_source_gives_the_same_bytes(process: Process) -> None:
    first, second = [await process(ENSEMBL, "gff3", on_demand=True) for _ in range(2)]
    assert first.digests() == second.digests()


@pytest.mark.parametrize("content", [b"", b"##gff-version 3\n"])
async def test_a_file_without_names_has_an_empty_index(process: Process, content: bytes) -> None:
    made = await process(content or b"\n", "gff3", on_demand=True)
    assert made.failure is not None or lines(made) == {}


async def test_what_is_no_gff_is_refused(process: Process) -> None:
    made = await process(b"\x1f\x8b\x08\x00" + b"\0" * 100, "gff3", on_demand=True)
    assert made.failure is not None
    assert made.failure.reason is Reason.SOURCE_INVALID
