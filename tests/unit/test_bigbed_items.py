"""Every item of a bigBed becomes a line, wherever it lies."""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from gooseherd.processing.formats.bbi import BrokenParts, all_items, empty_edge_items, sequences
from gooseherd.processing.programs.bigbed_to_bed import _WINDOW, items_declared, texts_of
from gooseherd.trial.bigbed import Item, write_bigbed

LENGTHS = {"a": 2 * _WINDOW, "b": 50, "c": 2 * _WINDOW + 7, "none": 9}
EDGES = [
    (name, at, at, f"{name}{at}")
    for name, length in LENGTHS.items()
    for at in sorted({0, *range(_WINDOW, length, _WINDOW), length})
    if name != "none"
]


def lines(path: Path) -> list[str]:
    found = list(texts_of(str(path)))
    text = b"".join(text for _, text in found).decode()
    assert sum(items for items, _ in found) == text.count("\n")
    return text.splitlines()


def line_of(item: Item) -> str:
    return "\t".join(filter(None, map(str, item)))


@pytest.mark.parametrize("per_block", [1, 2, 1000])
def test_empty_items_are_found_where_sequences_and_windows_begin_and_end(
    tmp_path: Path, per_block: int
) -> None:
    path = tmp_path / "x.bb"
    write_bigbed(path, LENGTHS, EDGES, items_per_block=per_block)
    assert lines(path) == [line_of(item) for item in EDGES]
    assert items_declared(str(path)) == len(EDGES)


def test_items_of_all_lengths_come_once_and_in_order(tmp_path: Path) -> None:
    chance = random.Random(7)
    items = []
    for name, length in LENGTHS.items():
        places = [0, 1, _WINDOW - 1, _WINDOW, _WINDOW + 1, 2 * _WINDOW, length - 1, length]
        for n in range(300):
            start = chance.choice([at for at in places if at <= length] + [chance.randint(0, length)])
            end = min(length, start + chance.choice((0, 0, 1, 50, _WINDOW)))
            items.append((name, start, end, f"n{n}"))
    items.sort(key=lambda item: item[:3])
    path = tmp_path / "x.bb"
    write_bigbed(path, LENGTHS, items, items_per_block=16)
    found = lines(path)
    assert sorted(found) == sorted(map(line_of, items))
    starts = [(line.split("\t")[0], int(line.split("\t")[1])) for line in found]
    assert starts == sorted(starts)


def big_endian(magic: int, lengths: dict[str, int], items: list[tuple[int, int, int, bytes]]) -> bytes:
    """With all items in one block."""
    block = zlib.compress(b"".join(struct.pack(">III", *item[:3]) + item[3] + b"\0" for item in items))
    key = max(map(len, lengths))
    names = struct.pack(">IIIIQQ", 0x78CA8C91, len(lengths), key, 8, len(lengths), 0)
    names += struct.pack(">BBH", 1, 0, len(lengths))
    for number, (name, length) in enumerate(lengths.items()):
        names += name.encode().ljust(key, b"\0") + struct.pack(">II", number, length)
    data_at = 64 + len(names)
    places_at = data_at + 8 + len(block)
    end = max(item[2] for item in items)
    places = struct.pack(">IIQIIIIQII", 0x2468ACE0, 256, 1, 0, 0, items[-1][0], end, places_at, 1, 0)
    places += struct.pack(">BBH", 1, 0, 1)
    places += struct.pack(">IIIIQQ", 0, 0, items[-1][0], end, data_at + 8, len(block))
    head = struct.pack(">IHHQQQHHQQIQ", magic, 4, 0, 64, data_at, places_at, 4, 3, 0, 0, 1 << 16, 0)
    return head + names + struct.pack(">Q", len(items)) + block + places


BIG_ENDIAN_ITEMS = [(0, 0, 0, b"empty\t1"), (0, 5, 90, b"a\t2"), (1, 7, 9, b"b\t3")]


def test_a_big_endian_file_has_all_its_items(tmp_path: Path) -> None:
    path = tmp_path / "x.bb"
    path.write_bytes(big_endian(0x8789F2EB, {"c1": 100, "c22": 20}, BIG_ENDIAN_ITEMS))
    assert sequences(path) == {"c1": 100, "c22": 20}
    assert lines(path) == ["c1\t0\t0\tempty\t1", "c1\t5\t90\ta\t2", "c22\t7\t9\tb\t3"]
    assert items_declared(str(path)) == 3


def test_a_damaged_big_endian_file_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bb"
    whole = big_endian(0x8789F2EB, {"c1": 100, "c22": 20}, BIG_ENDIAN_ITEMS)
    chance = random.Random(5)
    for _ in range(500):
        broken = bytearray(whole)
        for _ in range(2):
            broken[chance.randrange(4, len(broken))] = chance.randrange(256)
        path.write_bytes(broken[: chance.choice((len(broken), chance.randrange(4, len(broken))))])
        with suppress(BrokenParts):
            assert all(length >= 0 for _, length in sequences(path).items())
            assert sum(len(items) for _, items in all_items(path)) >= 0


def test_a_damaged_file_is_left_to_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.bb"
    write_bigbed(path, LENGTHS, EDGES)
    whole = path.read_bytes()
    chance = random.Random(3)
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(3):
            broken[chance.randrange(len(broken))] = chance.choice((0, 1, 0xFF, chance.randrange(256)))
        path.write_bytes(broken[: chance.choice((len(broken), chance.randrange(len(broken))))])
        for edges in empty_edge_items(path).values():
            assert all(start == end for start, end, _ in edges.at_start + edges.at_end)
