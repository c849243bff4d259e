"""Bits flipped, ends cut, pieces moved: every run ends, by name, and never with a wrong file."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from backports import zstd

VARIANTS = 40
"""Per format and packing."""
NAMED = {0, 10, 11, 12}


def source_of(format_name: str) -> bytes:
    rng = random.Random(format_name)
    if format_name == "vcf":
        head = b"##fileformat=VCFv4.2\n##contig=<ID=chr1,length=5000>\n"
        head += b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        body = [
            b"chr%d\t%d\t.\tAC\t<DEL>\t.\t.\tEND=%d;SVLEN=-%d\n" % (i % 2, rng.randint(1, 900), 1000 + i, i)
            for i in range(150)
        ]
    elif format_name == "gff3":
        head = b"##gff-version 3\n##sequence-region chr1 1 5000\n"
        body = [
            b"chr%d\tx\ty\t%d\t%d\t.\t+\t.\tID=%d\n" % (i % 2, rng.randint(1, 900), 1000, i)
            for i in range(150)
        ]
        body.append(b"###\n##FASTA\n>x\nACGT\n")
    else:
        head = b"browser x\ntrack name=y\n#c\n"
        body = [b"chr%d %d %d n\n" % (i % 2, rng.randint(1, 900), 1000) for i in range(150)]
    return head + b"".join(body)


def damage(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.choice((1, 1, 8))):
                broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        case 1:
            del broken[rng.randrange(len(broken)) :]
        case 2:
            at, n = rng.randrange(len(broken)), rng.randrange(1, 200)
            del broken[at : at + n]
        case 3:
            at, n, to = rng.randrange(len(broken)), rng.randrange(1, 200), rng.randrange(len(broken))
            broken[to:to] = broken[at : at + n]
        case _:
            at = rng.randrange(len(broken))
            broken[at:at] = rng.randbytes(rng.randrange(1, 40))
    return bytes(broken)


def plain(data: bytes) -> bytes:
    return data


def framed(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


def bgzf(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pack", [plain, gzip.compress, bgzf, framed], ids=["plain", "gzip", "bgzf", "zstd"])
@pytest.mark.parametrize("format_name", ["bed", "gff3", "vcf"])
def test_damaged_sources_end_by_name(
    format_name: str, pack: Callable[[bytes], bytes], sanitised: Any
) -> None:
    whole = source_of(format_name)
    data = pack(whole)
    lines = whole.count(b"\n")
    for seed in range(VARIANTS):
        run = sanitised(format_name, damage(data, random.Random(f"{format_name} {seed}")))
        assert run.status in NAMED, (seed, run.status, run.stderr)
        if run.status:
            assert run.found.reason == "source_invalid", seed
            assert run.found.detail, seed
            assert not run.out.exists(), seed
        else:
            assert len(run.records()) == run.found.records <= lines + 5, seed
            if pack in (gzip.compress, framed):
                # Its checksum vouches for every byte, unless the damage hit what carries no content.
                assert run.found.records in (0, 150), seed


@pytest.mark.parametrize("cut", range(1, 200, 13))
def test_a_cut_gzip_is_never_taken_for_whole(cut: int, sanitised: Any) -> None:
    data = gzip.compress(source_of("bed"))
    run = sanitised("bed", data[: len(data) - cut])
    assert run.status in (10, 11)
    assert "truncated" in run.found.detail or run.found.line


@pytest.mark.slow
def test_what_is_whole_is_what_zlib_finds_whole(sanitised: Any) -> None:
    whole = source_of("bed")
    packed = b"".join(gzip.compress(whole[i : i + 70]) for i in range(0, len(whole), 70))
    assert sanitised("bed", packed).sizes() == sanitised("bed", whole).sizes()
    for seed in range(VARIANTS):
        broken = damage(packed, random.Random(seed))
        run = sanitised("bed", broken)
        try:
            plain = sanitised("bed", gzip.decompress(broken))
        except (OSError, EOFError, zlib.error):
            assert run.status, seed
            continue
        assert bool(run.status) == bool(plain.status), (seed, run.stderr, plain.stderr)
        if not run.status:
            assert run.sizes() == plain.sizes(), seed


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_every_gzip_header_is_read_in_whatever_pieces_it_comes(flags: int, sanitised: Any) -> None:
    text = b"chr1\t1\t2\n" * 300
    data = text * 2
    wanted = sanitised("bed", data).sizes()
    for extra, name in ((0, 1), (7, 400), (60_000, 300_000)):
        member = gzip_member(text, flags, extra, name)
        assert gzip.decompress(member) == text
        assert sanitised("bed", member * 2).sizes() == wanted
        head = len(member) - 100
        for cut in (head, 12, 9):
            assert sanitised("bed", member + member[:cut]).status == 11, cut
        dripping = sanitised.drip("bed", gzip_member(text, flags, extra % 1000, name % 1000) * 2, 13)
        assert dripping.sizes() == wanted


def gzip_member(text: bytes, flags: int, extra: int, name: int) -> bytes:
    """RFC 1952, with the optional parts that `flags` asks for."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = squeeze.compress(text) + squeeze.flush()
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    head += (struct.pack("<H", extra) + b"e" * extra) if flags & 4 else b""
    head += (b"n" * name + b"\0") if flags & 8 else b""
    head += (b"c" * name + b"\0") if flags & 16 else b""
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    return head + body + struct.pack("<II", zlib.crc32(text), len(text))
