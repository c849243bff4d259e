"""A service that was told of a reference makes CRAMs ready that leave it out, as BAM or as CRAM."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gooseherd.client import GooseherdClient, JobEnded
from gooseherd.domain.artifact import Kind
from gooseherd.domain.region import Region
from gooseherd.trial.private_service import running_service

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

CHANCE = random.Random(8)
BASES = {"one": "".join(CHANCE.choices("ACGT", k=40_000)), "two": "".join(CHANCE.choices("ACGT", k=9_000))}
STARTS = sorted(CHANCE.sample(range(1, 8_000), 400))
INSIDE = [f"r{at}" for at in STARTS if at + 49 >= 1001 and at <= 2000]
OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sorted CRAM, and the FASTA that it was made with under another name than its header has."""
    folder = tmp_path_factory.mktemp("files")
    text = "".join(f"@SQ\tSN:{name}\tLN:{len(bases)}\n" for name, bases in BASES.items())
    for at in STARTS:
        bases = BASES["two"][at - 1 : at + 49]
        text += f"r{at}\t0\ttwo\t{at}\t60\t50M\t*\t0\t0\t{bases}\t{'I' * 50}\n"
    reference = folder / "reference.fa"
    reference.write_text("".join(f">{name}\n{bases}\n" for name, bases in BASES.items()))
    argv = ["samtools", "view", "--no-PG", "-C", "-T", str(reference), "-o", str(folder / "x.cram"), "-"]
    subprocess.run(argv, input=text.encode(), check=True)
    (folder / "reference.fa.fai").unlink()
    reference.rename(folder / "genome.fasta")
    return folder


def environ(**settings: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(OURS)} | settings


def register(client: GooseherdClient, files: Path) -> None:
    content = (files / "x.cram").read_bytes()
    entry = {"dcc": "t", "local_id": "x", "access_url": (files / "x.cram").as_uri()}
    client.register({**entry, "md5": hashlib.md5(content).hexdigest()})


def test_a_cram_is_refused_until_its_reference_is_named(files: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with (
        running_service(state_dir=state, allow_roots=[files], environ=environ()) as service,
        GooseherdClient(service.url, service.admin_key) as client,
    ):
        register(client, files)
        with pytest.raises(JobEnded) as ended:
            client.ready("t", "x", timeout_seconds=90)
        m5 = hashlib.md5(BASES["two"].encode()).hexdigest()
        assert f"two (M5 {m5}): name a FASTA that has it in SOURCE_REFERENCES" in str(ended.value)
    named = environ(SOURCE_REFERENCES=f"mine={(files / 'genome.fasta').as_uri()}", WORKER_SANDBOX="auto")
    with (
        running_service(state_dir=state, allow_roots=[files], environ=named) as service,
        GooseherdClient(service.url, service.admin_key) as client,
    ):
        data = client.ready("t", "x", retry=True, timeout_seconds=90)
        index = client.ready("t", "x", kind=Kind.INDEX, timeout_seconds=90)
        lines = [line.split("\t") for line in client.read_region(data, index, Region("two", 1000, 2000))]
        assert [line[0] for line in lines] == INSIDE
        assert all(line[9] == BASES["two"][int(line[3]) - 1 :][:50] for line in lines)
        kept = {path.name for path in (state / "references" / "sequences").iterdir()}
        assert kept == {hashlib.md5(bases.encode()).hexdigest() for bases in BASES.values()}
        assert not list((state / "references" / "uses").iterdir())


def test_a_cram_that_stays_one_is_read_by_its_address_with_the_readers_reference(
    files: Path, tmp_path: Path
) -> None:
    with (
        running_service(
            state_dir=tmp_path / "state", allow_roots=[files], environ=environ(WORKFLOW_CRAM="cram")
        ) as service,
        GooseherdClient(service.url, service.admin_key) as client,
    ):
        register(client, files)
        data = client.ready("t", "x", timeout_seconds=90)
        index = client.ready("t", "x", kind=Kind.INDEX, timeout_seconds=90)
        assert [part.filename for part in (data, index)] == ["x.cram", "x.cram.crai"]
        client.download(data.url, tmp_path / "x.cram")
        client.download(index.url, tmp_path / "x.cram.crai")
    assert (tmp_path / "x.cram").read_bytes() == (files / "x.cram").read_bytes()
    argv = ["samtools", "view", "-T", str(files / "genome.fasta"), str(tmp_path / "x.cram"), "two:1001-2000"]
    read = subprocess.run(argv, capture_output=True, check=True, text=True).stdout.splitlines()
    assert [line.split("\t")[0] for line in read] == INSIDE


def test_a_reference_that_the_rules_forbid_ends_the_start_with_its_name(files: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gooseherd.cli", "up", "--port", "0", "--state-dir", str(tmp_path / "state")],
        env=environ(SOURCE_REFERENCES=f"hg38={(files / 'genome.fasta').as_uri()}"),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 2
    assert "SOURCE_REFERENCES" in done.stderr
    assert "hg38" in done.stderr
