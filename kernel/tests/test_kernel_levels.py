"""The quickest level: another codec, the same text, and the index that tabix makes of those blocks."""

from __future__ import annotations

import gzip
import random
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parent.parent / "src"
FULL = 0xFF00
"""Bytes of text in a block."""
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def shuffled(count: int, width: int, seed: int) -> bytes:
    """Lines of `width` bytes each, newline included."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        start = rng.randrange(10_000_000)
        head = f"chr{rng.randrange(1, 10)}\t{start}\t{start + rng.randrange(1, 9_999)}\t"
        lines.append(head + "".join(rng.choices("ACGT", k=width - len(head) - 1)) + "\n")
    return "".join(lines).encode()


def blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(each block, the text in it)"""
    at = 0
    while at < len(data):
        size = struct.unpack_from("<H", data, at + 16)[0] + 1
        block = data[at : at + size]
        text = zlib.decompress(block[18:-8], wbits=-15)
        assert struct.unpack("<II", block[-8:]) == (zlib.crc32(text), len(text))
        yield block, text
        at += size


def indexed_by_tabix(data: Path, preset: str, folder: Path) -> bytes:
    folder.mkdir()
    shutil.copy(data, folder / "x.gz")
    subprocess.run(["tabix", "-p", preset, str(folder / "x.gz")], check=True)
    return gzip.decompress((folder / "x.gz.tbi").read_bytes())


# 48 divides a block's text: a record ends where each of them does, the last one included (48 * 1360 * 3).
@pytest.mark.parametrize(("count", "width"), [(6_000, 51), (4_080, 48), (1, 60), (40, 9_000)])
def test_the_quickest_level_holds_the_same_text_under_its_own_index(
    count: int, width: int, sanitised: Any, tmp_path: Path
) -> None:
    source = shuffled(count, width, count)
    quick, usual = sanitised("bed", source, "--level", "0"), sanitised("bed", source)
    assert quick.status == usual.status == 0, quick.stderr
    assert quick.text() == usual.text()
    found = list(blocks(quick.out.read_bytes()))
    assert [len(text) for _, text in found[:-2]] == [FULL] * (len(found) - 2)
    assert found[-1][0] == END
    assert gzip.decompress(quick.index.read_bytes()) == indexed_by_tabix(quick.out, "bed", tmp_path / "x")


def test_the_quickest_level_is_the_same_with_any_number_of_threads(kernel: Any) -> None:
    source = shuffled(60_000, 61, 1)
    made = {kernel("bed", source, "-l0", "--threads", str(n)).sizes() for n in (1, 2, 5)}
    assert len(made) == 1


def test_what_cannot_be_compressed_still_fits_its_blocks(sanitised: Any) -> None:
    rng = random.Random(2)
    noise = bytes(byte for byte in range(1, 256) if byte not in b"\t\n\r")
    lines = (b"chr1\t%d\t%d\t%s\n" % (n, n + 1, bytes(rng.choices(noise, k=30_000))) for n in range(20))
    source = b"".join(lines)
    run = sanitised("bed", source, "--level", "0")
    assert run.status == 0, run.stderr
    assert run.text() == source
    assert max(len(block) for block, _ in blocks(run.out.read_bytes())) <= 1 << 16


@pytest.mark.parametrize("level", ["0", "1"])
def test_a_full_disk_is_named_whichever_thread_meets_it(level: str, kernel: Any) -> None:
    source = kernel.folder / "source.bed"
    source.write_bytes(shuffled(100_000, 60, 3))
    argv, planned = kernel.call("bed", source, "--level", level)
    argv[argv.index("--out") + 1] = "/dev/full"
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    run = kernel.outcome(planned, done.returncode, done.stderr)
    assert run.status == 20
    assert run.found.reason == "out_of_disk"


def test_the_quickest_bytes_do_not_hang_on_where_the_codec_lies_in_memory(tmp_path: Path) -> None:
    """ISA-L looks at its own address (bgzf/deflate.c); a run has few of them, so here are many."""
    program = tmp_path / "many"
    asked = ["pkg-config", "--cflags", "--libs", "libisal", "htslib"]
    libraries = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    sources = [str(Path(__file__).with_name("many_deflaters.c")), str(SOURCES / "bgzf/deflate.c")]
    subprocess.run(["cc", f"-I{SOURCES}", *sources, "-o", str(program), *libraries], check=True)
    assert subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout == "0\n"
