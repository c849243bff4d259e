"""samtools, tabix, bcftools, pysam and curl with nothing but the address of a file that is not made yet."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.browser.service import Herd, Origin, running

if TYPE_CHECKING:
    from conftest import Needs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

STARTS = (1500, 10, 990, 400, 5000)
INSIDE = 3
"""Of those that begin in chr1:1-1000."""


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    sources = tmp_path_factory.mktemp("sources")
    (sources / "reads.sam").write_text(
        "@SQ\tSN:chr1\tLN:100000\n"
        + "".join(f"r{n}\t0\tchr1\t{n}\t60\t10M\t*\t0\t0\tACGTACGTAC\tIIIIIIIIII\n" for n in STARTS)
    )
    (sources / "calls.vcf").write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=100000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        + "".join(f"chr1\t{n}\tv{n}\tA\tT\t50\tPASS\t.\n" for n in STARTS)
    )
    (sources / "genes.gff3").write_text(
        "##gff-version 3\n" + "".join(f"chr1\tx\tgene\t{n}\t{n + 9}\t.\t+\t.\tID=g{n}\n" for n in STARTS)
    )
    origin = Origin(sources)
    with running(tmp_path_factory.mktemp("herd"), origin) as herd:
        yield herd
    origin.close()


def lines_of(folder: Path, *command: str | Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("program", "options", "source", "index"),
    [
        ("samtools", ("view",), "reads.sam", "reads.bam.bai"),
        ("tabix", (), "genes.gff3", "genes.gff3.gz.tbi"),
        ("tabix", (), "calls.vcf", "calls.vcf.gz.tbi"),
        ("bcftools", ("view", "-H", "-r"), "calls.vcf", "calls.vcf.gz.tbi"),
    ],
)
def test_a_tool_reads_a_region_by_address_cold_and_warm(
    herd: Herd,
    needs: Needs,
    tmp_path: Path,
    program: str,
    options: tuple[str, ...],
    source: str,
    index: str,
) -> None:
    (path,) = needs(program)
    url = herd.names(herd.register(source))["data"]
    where = ("chr1:1-1000", url) if "-r" in options else (url, "chr1:1-1000")
    for _ in ("cold", "warm"):
        assert len(lines_of(tmp_path, path, *options, *where)) == INSIDE
        # htslib keeps the index where it runs: under this name it is never another file's.
        assert [one.name for one in tmp_path.iterdir()] == [index]


PYSAM = """
import json, sys, pysam
reads, calls, genes = sys.argv[1:]
print(json.dumps([
    sum(1 for _ in pysam.AlignmentFile(reads).fetch("chr1", 0, 1000)),
    sum(1 for _ in pysam.VariantFile(calls).fetch("chr1", 0, 1000)),
    sum(1 for _ in pysam.TabixFile(genes).fetch("chr1", 0, 1000)),
]))
"""


def test_pysam_reads_regions_by_address(herd: Herd, needs: Needs, tmp_path: Path) -> None:
    needs("curl")  # its library is what htslib speaks HTTP by
    urls = [herd.names(herd.register(name))["data"] for name in ("reads.sam", "calls.vcf", "genes.gff3")]
    for _ in ("cold", "warm"):
        (line,) = lines_of(tmp_path, sys.executable, "-c", PYSAM, *urls)
        assert json.loads(line) == [INSIDE] * 3
        assert {one.name for one in tmp_path.iterdir()} <= {
            "reads.bam.bai",
            "calls.vcf.gz.tbi",
            "genes.gff3.gz.tbi",
        }


def test_curl_is_told_of_the_job_and_gets_the_bytes_by_name(herd: Herd, needs: Needs, tmp_path: Path) -> None:
    (curl,) = needs("curl")
    local_id = herd.register("genes.gff3")
    shown = lines_of(tmp_path, curl, "-sS", "-D", "-", f"{herd.url}/data/lab/{local_id}")
    assert shown[0].split()[1] == "202"
    assert any(line.lower().startswith("location: /jobs/") for line in shown)
    url = herd.names(local_id)["data"]
    assert lines_of(tmp_path, curl, "-sSfL", "-OJ", url) == []
    (saved,) = tmp_path.iterdir()
    assert (saved.name, saved.read_bytes()[:2]) == ("genes.gff3.gz", b"\x1f\x8b")


@pytest.mark.parametrize(
    ("program", "options", "source", "address"),
    [
        ("samtools", ("view",), "reads.sam", "reads"),
        ("bcftools", ("view", "-H"), "calls.vcf", "variants"),
    ],
)
def test_a_tool_opens_a_ticket_of_htsget_cold_and_warm(
    herd: Herd,
    needs: Needs,
    tmp_path: Path,
    program: str,
    options: tuple[str, ...],
    source: str,
    address: str,
) -> None:
    (path,) = needs(program)
    url = f"{herd.url}/htsget/{address}/lab/{herd.register(source)}?referenceName=chr1"
    for _ in ("cold", "warm"):
        assert len(lines_of(tmp_path, path, *options, url)) == len(STARTS)
        # A small file is one block: records beside the region come along, as the specification has it.
        assert len(lines_of(tmp_path, path, *options, f"{url}&start=0&end=1000")) >= INSIDE
    assert lines_of(tmp_path, path, *options, f"{url}&start=90000&end=90001") == []


@pytest.mark.parametrize(("source", "address"), [("reads.sam", "reads"), ("calls.vcf", "variants")])
def test_the_client_of_pypi_writes_a_whole_file(
    herd: Herd, tmp_path: Path, source: str, address: str
) -> None:
    url = f"{herd.url}/htsget/{address}/lab/{herd.register(source)}"
    whole, part = tmp_path / "whole", tmp_path / "part"
    client = (sys.executable, "-c", "from htsget.cli import htsget_main; htsget_main()", url)
    lines_of(tmp_path, *client, "-O", whole)
    lines_of(tmp_path, *client, "-O", part, "-r", "chr1", "-s", "0", "-e", "1000")
    count = "sum(1 for _ in pysam.AlignmentFile(sys.argv[1], check_sq=False))"
    if address == "variants":
        count = "sum(1 for _ in pysam.VariantFile(sys.argv[1]))"
    program = f"import sys, pysam; print({count})"
    assert lines_of(tmp_path, sys.executable, "-c", program, whole) == [str(len(STARTS))]
    assert INSIDE <= int(lines_of(tmp_path, sys.executable, "-c", program, part)[0]) <= len(STARTS)
