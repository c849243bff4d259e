"""`gooseherd get --region` as a program of its own: where records go, and how it ends when they cannot."""

from __future__ import annotations

import functools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.client import GooseherdClient, Missing, Region
from gooseherd.domain.errors import InvalidInput

pytestmark = pytest.mark.integration


def line(n: int) -> str:
    return f"c1\t{n * 10}\t{n * 10 + 5}\t{random.Random(n).randbytes(40).hex()}"


@functools.cache
def lines() -> list[str]:
    return [line(n) for n in range(30_000)]


FEW = [line(1), line(2)]


@pytest.fixture
def start(origin: Any, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    path = tmp_path / "source" / "a.bed"
    path.parent.mkdir()
    path.write_text("".join(f"{line}\n" for line in lines()))
    pysam.tabix_compress(str(path), f"{path}.gz")
    pysam.tabix_index(f"{path}.gz", preset="bed")
    origin.objects["/data/d/f"] = Path(f"{path}.gz").read_bytes()
    origin.objects["/index/d/f"] = Path(f"{path}.gz.tbi").read_bytes()
    origin.objects["/files/d/f"] = json.dumps({"dcc": "d", "local_id": "f", "file_format": "bed"}).encode()
    (tmp_path / "here").mkdir()

    def run(*arguments: str, **how: Any) -> subprocess.Popen[bytes]:
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        command = [sys.executable, "-m", "gooseherd.cli", "get", "d/f", "--url", origin.url, *arguments]
        return subprocess.Popen(command, cwd=tmp_path / "here", **how)

    return run


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    with process:
        out, words = process.communicate(timeout=60)
    return process.returncode, out.decode() if out else "", words.decode()


def test_records_go_to_standard_output_or_a_file(start: Any, tmp_path: Path) -> None:
    text = "".join(f"{line}\n" for line in FEW)
    assert ended(start("--region", "c1:11-21")) == (0, text, "")
    assert ended(start("--region", "c1:11-21", "-o", "/dev/stdout")) == (0, text, "")
    assert ended(start("--region", "c1:11-21", "-o", "x")) == (0, "", "")
    assert (tmp_path / "here" / "x").read_text() == text


def test_the_sdk_reads_a_region_by_its_text(start: Any, origin: Any) -> None:
    with GooseherdClient(origin.url) as client:
        assert list(client.records("d", "f", "c1:11-21")) == FEW
        assert list(client.records("d", "f", Region("c1", 10, 21))) == FEW
        with pytest.raises(InvalidInput):
            next(client.records("d", "f", "c1:9-1"))
        del origin.objects["/index/d/f"]
        with pytest.raises(Missing):
            next(client.records("d", "f", "c1"))


def test_as_json_records_are_a_list_or_are_counted(start: Any, tmp_path: Path) -> None:
    code, out, _ = ended(start("--region", "c1:11-21", "--json"))
    assert (code, json.loads(out), out.count("\n")) == (0, {"region": "c1:11-21", "records": FEW}, 1)
    code, out, _ = ended(start("--region", "c1", "--json"))
    assert json.loads(out)["records"] == lines()
    code, out, _ = ended(start("--region", "c1:11-21", "--json", "-o", "x"))
    assert json.loads(out) == {"region": "c1:11-21", "path": "x", "count": 2}
    assert len((tmp_path / "here" / "x").read_text().splitlines()) == 2
    code, out, _ = ended(start("--region", "c1:9999999", "--json"))
    assert (code, json.loads(out)["records"]) == (0, [])


@pytest.mark.parametrize("harm", ["no contig", "damaged"])
def test_when_reading_fails_what_was_there_stays(start: Any, origin: Any, tmp_path: Path, harm: str) -> None:
    here = tmp_path / "here"
    (here / "x").write_bytes(b"mine")
    if harm == "damaged":
        data = bytearray(origin.objects["/data/d/f"])
        data[len(data) * 2 // 3] ^= 255
        origin.objects["/data/d/f"] = bytes(data)
    code, _, words = ended(start("--region", "chrX" if harm == "no contig" else "c1", "-o", "x"))
    assert (code, "Traceback" in words) == (2 if harm == "no contig" else 3, False), words
    assert ((here / "x").read_bytes(), [path.name for path in here.iterdir()]) == (b"mine", ["x"])
    code, out, _ = ended(start("--region", "chrX" if harm == "no contig" else "c1", "--json"))
    assert list(json.loads(out)) == ["error"]


def test_a_reader_that_goes_ends_the_command_and_the_transfer(start: Any, origin: Any) -> None:
    with start("--region", "c1") as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 141)


def test_a_full_disk_is_told_once(start: Any) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        for arguments in (("--region", "c1"), ("--region", "c1:11-21"), ("--region", "c1:11-21", "--json")):
            code, _, words = ended(start(*arguments, stdout=full))
            assert (code, words.count("\n"), "No space left on device" in words) == (1, 1, True), words
