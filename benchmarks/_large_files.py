"""Makes files of any size at the disk's speed, and knows without reading them which records overlap a region.

A block of records is made once and written again and again; each turn gives the records other places,
names and, where they matter for compression, other bytes. Every sequence is in every block and every
turn fills the gaps that the others leave, so that sorting has to look everywhere at once.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_TURN = b"TTT"
"""Three digits of a position and of a name; no name of ours has it otherwise."""


def _turns(count: int, rng: random.Random) -> list[int]:
    order = list(range(count))
    rng.shuffle(order)
    return order


@dataclass
class LargeBed:
    """BED of six columns on 500 sequences of 10 million bases."""

    target_bytes: int
    seed: int = 1
    records: int = 0
    """Known once written."""
    _CONTIGS = 500
    _BLOCK_BYTES = 64_000_000
    _LEAST_TURNS = 8

    @cached_property
    def _items(self) -> list[tuple[int, int, int, int]]:
        """(sequence, million, start in its thousand, end in its thousand) of a block's records."""
        rng = random.Random(self.seed)
        count = min(self._BLOCK_BYTES, self.target_bytes // self._LEAST_TURNS) // 52
        return [
            (rng.randrange(self._CONTIGS), rng.randint(1, 9), start, rng.randint(start + 1, 999))
            for start in (rng.randrange(999) for _ in range(count))
        ]

    def _line(self, number: int, turn: str) -> str:
        contig, million, start, end = self._items[number]
        return (
            f"scaffold_{contig}\t{million}{turn}{start:03}\t{million}{turn}{end:03}"
            f"\tread_{turn}_{number:07}\t{number % 1000}\t{'+-'[number & 1]}\n"
        )

    @property
    def contigs(self) -> list[tuple[str, int]]:
        return [(f"scaffold_{number}", 10_000_000) for number in range(self._CONTIGS)]

    @cached_property
    def _places(self) -> list[str]:
        """Which three digits each turn has, spread over a million."""
        count = min(max(self.target_bytes // len(self._block), self._LEAST_TURNS), 1000)
        return [f"{turn * (1000 // count):03}" for turn in range(count)]

    @cached_property
    def _block(self) -> bytes:
        return "".join(self._line(number, _TURN.decode()) for number in range(len(self._items))).encode()

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            for turn in _turns(len(self._places), random.Random(self.seed)):
                file.write(self._block.replace(_TURN, self._places[turn].encode()))
        self.records = len(self._items) * len(self._places)

    def overlapping(self, name: str, begin: int, end: int) -> list[str]:
        """The lines whose half-open interval shares a base with [begin, end)."""
        wanted = int(name.removeprefix("scaffold_"))
        found = []
        for number, (contig, million, first, last) in enumerate(self._items):
            if contig != wanted:
                continue
            for digits in self._places:
                at = million * 1_000_000 + int(digits) * 1000
                if at + first < end and at + last > begin:
                    found.append(self._line(number, digits).rstrip("\n"))
        return found


@dataclass
class LargeBam:
    """BAM of reads of 150 bases on 200 sequences of 20 million bases, each base and quality by chance."""

    target_bytes: int
    seed: int = 1
    records: int = 0
    _turn_count: int = field(default=0, init=False)
    _CONTIGS = 200
    _LENGTH = 20_000_000
    _READ = 150
    _TURNS = 128
    """Of 256, which is as many as there are places: a turn is the lowest byte of a position."""
    _PACKED = 205
    """Bytes a read takes in the file, about."""
    _NAME_AT, _TURN_AT = 36, 46
    _POOL = 1 << 16

    @cached_property
    def _items(self) -> list[tuple[int, int]]:
        """(sequence, position with a lowest byte of 0) of a block's reads."""
        rng = random.Random(self.seed)
        count = max(self.target_bytes // self._PACKED // self._TURNS, 1)
        # A read never leaves its 16 KiB, so that its bin (SAMv1 5.3) is the same in each turn.
        return [
            (rng.randrange(self._CONTIGS), rng.randrange(self._LENGTH >> 14) << 14 | rng.randrange(0x3E) << 8)
            for _ in range(count)
        ]

    @property
    def contigs(self) -> list[tuple[str, int]]:
        return [(f"ctg{number}", self._LENGTH) for number in range(self._CONTIGS)]

    def _header(self) -> bytes:
        text = "@HD\tVN:1.6\tSO:unsorted\n" + "".join(f"@SQ\tSN:{n}\tLN:{size}\n" for n, size in self.contigs)
        text += "@RG\tID:rg1\tSM:made\n"
        header = b"BAM\x01" + struct.pack("<i", len(text)) + text.encode() + struct.pack("<i", self._CONTIGS)
        for name, size in self.contigs:
            header += struct.pack("<i", len(name) + 1) + name.encode() + b"\0" + struct.pack("<i", size)
        return header

    def _block(self) -> tuple[bytearray, int]:
        """Records of one size, and that size."""
        tags = b"NMC\x01RGZrg1\0"
        rest = struct.pack("<I", self._READ << 4) + bytes(self._READ // 2 + self._READ) + tags
        records = []
        for number, (contig, at) in enumerate(self._items):
            name = b"A00456:77:TTT:%09d\0" % number
            fixed = struct.pack(
                "<iiBBHHHIiii",
                contig,
                at,
                len(name),
                60,
                4681 + (at >> 14),
                1,
                number & 16,
                self._READ,
                -1,
                -1,
                0,
            )
            body = fixed + name + rest
            records.append(struct.pack("<I", len(body)) + body)
        return bytearray(b"".join(records)), len(records[0])

    def _variants(self) -> Iterator[bytearray]:
        """The block of each turn; the same memory every time."""
        rng = random.Random(self.seed + 1)
        block, size = self._block()
        count = len(self._items)
        pool = rng.randbytes(count + self._POOL)
        pairs = bytes(a << 4 | b for a in (1, 2, 4, 8) for b in (1, 2, 4, 8))
        bases = pool.translate(bytes(pairs[value & 15] for value in range(256)))
        qualities = pool.translate(bytes(2 + value % 40 for value in range(256)))
        sequence_at = size - 11 - self._READ - self._READ // 2
        for turn in _turns(256, rng):
            block[8::size] = bytes([turn]) * count
            for digit, column in zip(b"%03d" % turn, range(self._TURN_AT, self._TURN_AT + 3), strict=True):
                block[column::size] = bytes([digit]) * count
            for column in range(self._READ // 2 + self._READ):
                drawn = bases if column < self._READ // 2 else qualities
                start = rng.randrange(self._POOL)
                block[sequence_at + column :: size] = drawn[start : start + count]
            self._turn_order.append(turn)
            yield block

    @cached_property
    def _turn_order(self) -> list[int]:
        return []

    def write(self, path: Path) -> None:
        """As much as makes the file as large as wanted; the lightest compression."""
        self._turn_order.clear()
        with (
            path.open("wb") as file,
            subprocess.Popen(
                ["bgzip", "-c", "-l", "1", "-@", "2"], stdin=subprocess.PIPE, stdout=file
            ) as bgzip,
        ):
            assert bgzip.stdin is not None
            bgzip.stdin.write(self._header())
            for block in self._variants():
                bgzip.stdin.write(block)
                bgzip.stdin.flush()
                if path.stat().st_size >= self.target_bytes:
                    break
            bgzip.stdin.close()
            if bgzip.wait():
                raise SystemExit("bgzip failed")
        self.records = len(self._items) * len(self._turn_order)

    def overlapping(self, name: str, begin: int, end: int) -> list[str]:
        """The names of the reads that share a base with [begin, end)."""
        wanted = int(name.removeprefix("ctg"))
        return [
            f"A00456:77:{turn:03}:{number:09}"
            for number, (contig, at) in enumerate(self._items)
            if contig == wanted
            for turn in self._turn_order
            if at + turn < end and at + turn + self._READ > begin
        ]
