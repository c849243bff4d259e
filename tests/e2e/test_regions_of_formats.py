"""`get --region` of everything that a service makes: what a scan of the source finds, or who reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gooseherd.client import GooseherdClient, InvalidInput
from gooseherd.client.local_service import LocalService
from gooseherd.domain import formats
from gooseherd.domain.formats import Format
from gooseherd.domain.region import Region
from gooseherd.trial import inputs
from gooseherd.trial.full_scan import bigwig_lines, comparable, scan, scan_second_end
from gooseherd.trial.private_service import running_service

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

REGION = Region("chr1", 20_000, 40_000)
SCANNED = (
    *(
        formats.BED,
        formats.BAM,
        formats.BIGBED,
        formats.WIG,
        formats.BEDGRAPH,
        formats.FASTA,
        formats.GENBANK,
    ),
    *(formats.SEG, formats.BEDPE),
)
ALL = (*SCANNED, formats.CRAM, formats.BIGWIG, formats.TWOBIT, formats.HIC, formats.COOL, formats.CSV)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {format_: inputs.make(format_, folder, "5a").path for format_ in ALL}


@pytest.fixture(scope="module")
def service(files: dict[Format, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    roots = [files[formats.BED].parent]
    environ = {**os.environ, "WORKFLOW_CRAM": "cram"}
    state = tmp_path_factory.mktemp("service") / "state"
    with (
        running_service(state_dir=state, allow_roots=roots, environ=environ) as running,
        GooseherdClient(running.url, running.admin_key) as client,
    ):
        for format_, path in files.items():
            client.register(
                {
                    "dcc": "t",
                    "local_id": format_.name,
                    "file_format": format_.name,
                    "access_url": path.as_uri(),
                }
            )
        yield running


@pytest.fixture
def client(service: LocalService) -> Iterator[GooseherdClient]:
    with GooseherdClient(service.url) as client:
        yield client


def get(service: LocalService, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gooseherd.cli", "get", f"t/{name}", "--url", service.url, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("format_", SCANNED, ids=lambda format_: format_.name)
def test_what_lies_in_a_region_is_what_a_scan_of_the_source_finds(
    client: GooseherdClient, files: dict[Format, Path], format_: Format
) -> None:
    region = inputs.make(format_, files[format_].parent, "5a").region
    assert region is not None
    expected = scan(files[format_], format_, region)
    found = list(client.records("t", format_.name, region, timeout_seconds=100))
    if format_ in (formats.WIG, formats.BEDGRAPH):
        found, expected = sorted(map(number, found)), sorted(map(number, expected))
    else:
        found, expected = comparable(found, format_), comparable(expected, format_)
    assert found == expected
    assert len(found) > 5


def number(line: str) -> str:
    """The scan has six digits."""
    place, _, value = line.rpartition("\t")
    return f"{place}\t{float(value):g}"


def test_the_command_prints_values_of_a_wiggle_and_of_a_bigwig(
    service: LocalService, files: dict[Format, Path]
) -> None:
    for name, expected in (
        ("wig", scan(files[formats.WIG], formats.WIG, REGION)),
        ("bigwig", bigwig_lines(files[formats.BIGWIG], REGION)),
    ):
        done = get(service, name, "--region", str(REGION))
        assert (done.returncode, done.stderr.count("no index")) == (0, 0), done.stderr
        found = [number(line) for line in done.stdout.splitlines()]
        assert sorted(found) == sorted(map(number, expected))
        assert found


def test_the_command_reads_the_other_parts_by_region(
    service: LocalService, files: dict[Format, Path]
) -> None:
    features = get(service, "genbank", "--region", str(inputs.GENES[formats.GENBANK]), "--part", "annotation")
    assert "\tgene\t" in features.stdout, features.stderr
    region = inputs.SECOND_ENDS[formats.BEDPE]
    ends = get(service, "bedpe", "--region", str(region), "--part", "second_end").stdout.splitlines()
    assert sorted(ends) == sorted(scan_second_end(files[formats.BEDPE], formats.BEDPE, region))
    assert ends
    density = get(service, "bed", "--region", str(REGION), "--part", "density").stdout.splitlines()
    assert {line.split("\t")[0] for line in density} == {"chr1"}
    without = get(service, "bed", "--region", str(REGION), "--part", "annotation")
    assert (without.returncode, "Traceback" in without.stderr) == (4, False)
    assert get(service, "bed", "--part", "annotation").returncode == 2


def test_letters_of_a_2bit_are_printed(service: LocalService) -> None:
    done = get(service, "2bit", "--region", "chr1:5-12")
    assert (done.returncode, done.stdout) == (0, ">chr1:5-12\nTTTTTTTT\n")


@pytest.mark.parametrize(("name", "words"), [("hic", "hic-straw"), ("cool", "cooler"), ("csv", "whole")])
def test_who_reads_what_has_no_records_is_told_before_anything_is_made(
    service: LocalService, client: GooseherdClient, name: str, words: str
) -> None:
    done = get(service, name, "--region", str(REGION))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert list(client.jobs(dcc="t", local_id=name)) == []
    with pytest.raises(InvalidInput, match="no library here"):
        client.open("t", name)


FRAME = "from gooseherd.client import *; print(len(GooseherdClient().frame('t', 'cram', 'chr1:20001-40000')))"


def test_a_cram_is_read_by_its_own_library(service: LocalService, files: dict[Format, Path]) -> None:
    expected = comparable(scan(files[formats.CRAM], formats.CRAM, REGION), formats.CRAM)
    done = get(service, "cram", "--region", str(REGION))
    if "libcurl" in done.stderr:
        assert (done.returncode, "Traceback" in done.stderr) == (3, False)
        pytest.skip(done.stderr)
    assert comparable(done.stdout.splitlines(), formats.CRAM) == expected
    assert expected
    other = get(service, "cram", "--region", "chr9")
    assert (other.returncode, "no contig 'chr9'; there are: chr1" in other.stderr) == (2, True)
    environ = {**os.environ, "GOOSEHERD_URL": service.url}
    frame = subprocess.run(
        [sys.executable, "-c", FRAME], capture_output=True, text=True, env=environ, check=True
    )
    assert int(frame.stdout) == len(expected)
