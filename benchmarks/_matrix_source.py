"""What a 2bit or .hic file holds at random places, by py2bit and hictkpy; in the environment of _matrices.py.

    python _matrix_source.py hic|2bit SOURCE

Prints JSON: the lengths of the sequences and, of each region, its letters or its contacts.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import hictkpy
import py2bit

WHOLE, PLACES = 6, 30
LONGEST = 100_000
"""Letters of a region; longer sequences are asked for in places."""
RESOLUTIONS = 3
"""The coarsest of a .hic: whole sequences of these have few enough bins."""


def of_2bit(source: str) -> dict[str, Any]:
    opened = py2bit.open(source, True)
    lengths = dict(opened.chroms())
    draw = random.Random(len(lengths))
    regions = [(name, 0, min(length, LONGEST)) for name, length in list(lengths.items())[:WHOLE]]
    known = [name for name, length in lengths.items() if length]
    for _ in range(PLACES if known else 0):
        name = draw.choice(known)
        begin = draw.randrange(lengths[name])
        regions.append((name, begin, min(begin + draw.choice((1, 30, 5000)), lengths[name])))
    regions = [(name, begin, end) for name, begin, end in regions if begin < end]
    return {
        "lengths": lengths,
        "regions": [
            # py2bit has stretches of lower case right in whole sequences, not in single bases.
            {"region": (name, begin, end), "letters": opened.sequence(name, 0, lengths[name])[begin:end]}
            for name, begin, end in regions
        ],
    }


def of_hic(source: str) -> dict[str, Any]:
    known = sorted(hictkpy.MultiResFile(source).resolutions())
    found, lengths = {}, {}
    for resolution in known[-RESOLUTIONS:]:
        opened = hictkpy.File(source, int(resolution))
        lengths = {name: int(length) for name, length in opened.chromosomes().items()}
        draw = random.Random(int(resolution))
        found[str(resolution)] = [at(opened, *pair) for pair in places(lengths, int(resolution), draw)]
    return {"lengths": lengths, "resolutions": found}


def places(lengths: dict[str, int], resolution: int, draw: random.Random) -> list[list[Any]]:
    """Pairs of places, in the order of the sequences: a .hic has only these."""
    names = list(lengths)
    pairs = [[(name, 0, lengths[name])] * 2 for name in draw.sample(names, min(WHOLE, len(names)))]
    for _ in range(PLACES):
        pair = sorted(names.index(draw.choice(names)) for _ in range(2))
        place = []
        for number in pair:
            length = lengths[names[number]]
            begin = draw.randrange(length)
            end = min(begin + resolution * draw.choice((1, 10, 100)), length)
            place.append((names[number], begin // resolution * resolution, end))
        place.sort(key=lambda one: (names.index(one[0]), one[1]))
        overlapping = place[0][0] == place[1][0] and place[1][1] < place[0][2]
        # hictkpy gives no contacts below the diagonal.
        pairs.append([place[0], place[0]] if overlapping else place)
    return pairs


def at(opened: Any, one: Any, other: Any) -> dict[str, Any]:
    texts = [f"{name}:{begin}-{end}" for name, begin, end in (one, other)]
    matrix = opened.fetch(*texts).to_coo()
    rows, columns = (place[1] // opened.resolution() for place in (one, other))
    contacts = [
        (int(row) + rows, int(column) + columns, float(count))
        for row, column, count in zip(matrix.row, matrix.col, matrix.data, strict=True)
    ]
    return {"places": (one, other), "contacts": contacts}


if __name__ == "__main__":
    print(json.dumps({"2bit": of_2bit, "hic": of_hic}[sys.argv[1]](sys.argv[2])))
