"""Writes a small bigBed file; no library here does.

After Kent et al. 2010 (doi:10.1093/bioinformatics/btq351), supplement: header, chromosome
B+ tree, compressed data blocks, R-tree. No zoom levels, which only pictures need.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_BIGBED, _BPTREE, _RTREE = 0x8789F2EB, 0x78CA8C91, 0x2468ACE0
_HEADER_BYTES = 64
_ITEMS_PER_BLOCK = 64
_RTREE_FANOUT = 256

Item = tuple[str, int, int, str]
"""contig, start, end (half-open), the further columns tab-separated."""


def write_bigbed(path: Path, contigs: Mapping[str, int], items: Sequence[Item], *, columns: int = 3) -> None:
    """Write `items`, sorted here, as a bigBed of `columns` BED columns.

    Raises:
        ValueError: more items than one R-tree node can point to (16,384).
    """
    ids = {name: number for number, name in enumerate(sorted(contigs))}
    blocks = list(_blocks(sorted((ids[c], start, end, rest) for c, start, end, rest in items)))
    if len(blocks) > _RTREE_FANOUT:
        raise ValueError(f"{len(items)} items are too many for a one-level tree")
    tree = _contig_tree(ids, contigs)
    data_offset = _HEADER_BYTES + len(tree)
    data = struct.pack("<Q", len(items))
    leaves = []
    for span, plain in blocks:
        packed = zlib.compress(plain)
        leaves.append((span, data_offset + len(data), len(packed)))
        data += packed
    header = struct.pack(
        "<IHHQQQHHQQIQ",
        _BIGBED, 4, 0,  # magic, version, zoom levels
        _HEADER_BYTES, data_offset, data_offset + len(data),
        columns, min(columns, 12), 0, 0,  # fields, defined fields, no autoSql, no summary
        max((len(plain) for _, plain in blocks), default=0), 0,
    )  # fmt: skip
    path.write_bytes(header + tree + data + _index(leaves, len(items), data_offset + len(data)))


def _blocks(items: Sequence[tuple[int, int, int, str]]) -> Iterator[tuple[tuple[int, int, int], bytes]]:
    """((contig, lowest start, highest end), bytes); no block spans two contigs."""
    block: list[tuple[int, int, int, str]] = []
    for item in items:
        if block and (block[0][0] != item[0] or len(block) == _ITEMS_PER_BLOCK):
            yield _block(block)
            block = []
        block.append(item)
    if block:
        yield _block(block)


def _block(items: Sequence[tuple[int, int, int, str]]) -> tuple[tuple[int, int, int], bytes]:
    span = (items[0][0], items[0][1], max(item[2] for item in items))
    return span, b"".join(struct.pack("<III", *item[:3]) + item[3].encode() + b"\0" for item in items)


def _contig_tree(ids: Mapping[str, int], lengths: Mapping[str, int]) -> bytes:
    key_bytes = max(len(name) for name in ids)
    head = struct.pack("<IIIIQQ", _BPTREE, max(len(ids), 2), key_bytes, 8, len(ids), 0)
    node = struct.pack("<BBH", 1, 0, len(ids))
    for name, number in ids.items():
        node += name.encode().ljust(key_bytes, b"\0") + struct.pack("<II", number, lengths[name])
    return head + node


def _index(leaves: Sequence[tuple[tuple[int, int, int], int, int]], items: int, data_end: int) -> bytes:
    first, last = leaves[0][0], leaves[-1][0]
    head = struct.pack(
        "<IIQIIIIQII",
        _RTREE, _RTREE_FANOUT, items,
        first[0], first[1], last[0], last[2],
        data_end, _ITEMS_PER_BLOCK, 0,
    )  # fmt: skip
    node = struct.pack("<BBH", 1, 0, len(leaves))
    for (contig, start, end), offset, size in leaves:
        node += struct.pack("<IIIIQQ", contig, start, contig, end, offset, size)
    return head + node
