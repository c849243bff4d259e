"""What /tracks gives for Python and for a shell is run as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.service import Herd, Origin, running

from gooseherd.domain import formats
from gooseherd.trial import inputs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AT, GENES = "chr1:20,001-40,000", "chr1:1-2,000"
READ = (
    *("bam", "vcf", "gff3", "bed", "narrowpeak", "bigbed", "seg", "bedpe", "pairs", "interact"),
    *("bigwig", "bedgraph", "csv", "tsv", "fasta", "genbank"),
)
OF_EACH_READER = ("bam", "vcf", "bed", "bigwig", "csv", "fasta")


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    sources = tmp_path_factory.mktemp("sources")
    for name in (*READ, "2bit"):
        file_format = formats.resolve(name)
        assert file_format is not None
        inputs.make(file_format, sources, "0a1b2c3d").path.rename(sources / f"x.{name}")
    origin = Origin(sources)
    with running(tmp_path_factory.mktemp("herd"), origin) as herd:
        yield herd
    origin.close()


def told(herd: Herd, viewer: str, name: str, **fields: str) -> str:
    entry = f"lab/{herd.register(f'x.{name}', name, **fields)}"
    answers = (herd.get(f"/data/{entry}?wait=50").status_code for _ in range(4))
    assert next((status for status in answers if status != 202), 202) == 200  # the first waits for a worker
    at = GENES if name == "genbank" else AT
    text: str = herd.get(f"/tracks?viewer={viewer}&files={entry}&at={at}").json()["text"]
    return text


@pytest.mark.parametrize("name", [*READ, "2bit"])
def test_a_program_of_python_reads_the_region(herd: Herd, tmp_path: Path, name: str) -> None:
    program = tmp_path / "snippet.py"
    program.write_text(told(herd, "python", name))
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (program.read_text(), done.stderr)
    assert len(done.stdout) > 100


@pytest.mark.parametrize("name", [*OF_EACH_READER, "2bit"])
def test_a_program_reads_a_protected_file_too(herd: Herd, tmp_path: Path, name: str) -> None:
    """By its address, which has a token, or with the key that whoever runs it has."""
    program = tmp_path / "snippet.py"
    program.write_text(told(herd, "python", name, data_access_level="protected"))
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env={**os.environ, "GOOSEHERD_API_KEY": "key"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (program.read_text(), done.stderr)
    assert len(done.stdout) > 100
    assert "'key'" not in program.read_text()


@pytest.mark.parametrize(
    ("name", "level"),
    [*((name, "public") for name in READ), *((name, "protected") for name in OF_EACH_READER)],
)
def test_a_command_of_a_shell_reads_the_region(herd: Herd, tmp_path: Path, name: str, level: str) -> None:
    for command in told(herd, "shell", name, data_access_level=level).splitlines():
        program = command.split()[0]
        if shutil.which(program) is None:  # UCSC's programs are nobody's package
            continue
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip() or program == "curl"
