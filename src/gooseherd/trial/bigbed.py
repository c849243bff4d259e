"""Writes a bigBed file, for trial, tests and benchmarks; no library here does.

After Kent et al. 2010 (doi:10.1093/bioinformatics/btq351), supplement: header, chromosome
B+ tree, compressed data blocks, R-tree. No zoom levels, which only pictures need.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Final, NamedTuple

_BIGBED, _BPTREE, _RTREE = 0x8789F2EB, 0x78CA8C91, 0x2468ACE0
_HEADER: Final = struct.Struct("<IHHQQQHHQQIQ")
_CHILDREN: Final = 256
"""Of a node of the R-tree, as bedToBigBed writes it."""

Item = tuple[str, int, int, str]
"""contig, start, end (half-open), the further columns tab-separated."""


class _Leaf(NamedTuple):
    """What one data block spans, and where it is."""

    contig: int
    start: int
    end: int
    offset: int
    size: int


def write_bigbed(
    path: Path,
    contigs: Mapping[str, int],
    items: Iterable[Item],
    *,
    columns: int = 3,
    items_per_block: int = 64,
) -> None:
    """Write `items`, which are sorted by contig and start, as a bigBed of `columns` BED columns.

    Raises:
        ValueError: items that are not sorted, or more of them than an R-tree of two levels can point to.
    """
    ids = {name: number for number, name in enumerate(sorted(contigs))}
    tree = _contig_tree(ids, contigs)
    data_offset = _HEADER.size + len(tree)
    leaves: list[_Leaf] = []
    count = largest = 0
    with path.open("wb") as file:
        file.write(bytes(data_offset + 8))
        for block in _blocks(items, items_per_block):
            contig = ids[block[0][0]]
            plain = b"".join(
                struct.pack("<III", contig, *item[1:3]) + item[3].encode() + b"\0" for item in block
            )
            packed = zlib.compress(plain)
            leaf = _Leaf(contig, block[0][1], max(item[2] for item in block), file.tell(), len(packed))
            if (leaves and leaf[:2] < leaves[-1][:2]) or any(a[1] > b[1] for a, b in pairwise(block)):
                raise ValueError("the items are not sorted")
            leaves.append(leaf)
            file.write(packed)
            count += len(block)
            largest = max(largest, len(plain))
        index_offset = file.tell()
        file.write(_index(leaves, count, index_offset, items_per_block))
        file.seek(0)
        header = _HEADER.pack(
            _BIGBED, 4, 0,  # magic, version, zoom levels
            _HEADER.size, data_offset, index_offset,
            columns, min(columns, 12), 0, 0,  # fields, defined fields, no autoSql, no summary
            largest, 0,
        )  # fmt: skip
        file.write(header + tree + struct.pack("<Q", count))


def _blocks(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """No block spans two contigs."""
    for _, of_contig in groupby(items, key=lambda item: item[0]):
        while block := list(islice(of_contig, most)):
            yield block


def _contig_tree(ids: Mapping[str, int], lengths: Mapping[str, int]) -> bytes:
    key_bytes = max(len(name) for name in ids)
    head = struct.pack("<IIIIQQ", _BPTREE, max(len(ids), 2), key_bytes, 8, len(ids), 0)
    node = struct.pack("<BBH", 1, 0, len(ids))
    for name, number in ids.items():
        node += name.encode().ljust(key_bytes, b"\0") + struct.pack("<II", number, lengths[name])
    return head + node


def _index(leaves: Sequence[_Leaf], items: int, offset: int, items_per_block: int) -> bytes:
    """The R-tree: one node of leaves, or a root above several."""
    nodes = [leaves[at : at + _CHILDREN] for at in range(0, len(leaves), _CHILDREN)]
    if len(nodes) > _CHILDREN:
        raise ValueError(f"{items} items are too many for a tree of two levels")
    first, last = leaves[0], leaves[-1]
    head = struct.pack(
        "<IIQIIIIQII",
        _RTREE, _CHILDREN, items,
        first.contig, first.start, last.contig, last.end,
        offset, items_per_block, 0,
    )  # fmt: skip
    root = b""
    if len(nodes) > 1:
        at = offset + len(head) + 4 + 24 * len(nodes)
        root = struct.pack("<BBH", 0, 0, len(nodes))
        for node in nodes:
            furthest = max(node, key=lambda leaf: (leaf.contig, leaf.end))
            span = (node[0].contig, node[0].start, furthest.contig, furthest.end)
            root += struct.pack("<IIIIQ", *span, at)
            at += 4 + 32 * len(node)
    return head + root + b"".join(map(_leaf_node, nodes))


def _leaf_node(leaves: Sequence[_Leaf]) -> bytes:
    node = struct.pack("<BBH", 1, 0, len(leaves))
    for leaf in leaves:
        node += struct.pack("<IIIIQQ", leaf.contig, leaf.start, leaf.contig, leaf.end, leaf.offset, leaf.size)
    return node
