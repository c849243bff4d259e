"""Every item of a bigBed becomes a line, wherever it lies."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gooseherd.processing.formats.bigbed_edges import empty_edge_items
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
