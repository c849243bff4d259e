"""A cooler read by region over HTTP, in the environment of _matrices.py.

    python _cooler_reader.py SOURCE URL

cooler reads what the URL has by range requests alone; each region has to hold the contacts that a scan of all
pixels of the file SOURCE finds there. Prints how many contacts and regions, as JSON; exit status 1 and a
sentence when anything differs.
"""

from __future__ import annotations

import io
import json
import random
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import cooler
import h5py
import numpy as np

WHOLE, PLACES = 4, 20
"""Of each matrix: whole sequences with one another, and pairs of places."""
PARTS = {"chroms", "bins", "pixels", "indexes"}
Place = tuple[int, int, int]
"""Number of the sequence, begin and end."""


class Ranges(io.RawIOBase):
    """What a URL has, by range requests."""

    def __init__(self, url: str) -> None:
        self._url, self._at = url, 0
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request) as response:
            self.size = int(response.headers["Content-Length"])
        self.requests = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self.size)
        if end <= self._at:
            return 0
        asked = urllib.request.Request(self._url, headers={"Range": f"bytes={self._at}-{end - 1}"})
        with urllib.request.urlopen(asked) as response:
            if response.status != 206:
                raise OSError(f"status {response.status} instead of 206")
            data = response.read()
        self.requests += 1
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def matrices(file: h5py.File) -> list[str]:
    """The groups that are coolers: one, or one for each resolution; older files do not say so."""
    found = ["/"] if file.keys() >= PARTS else []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Group) and node.keys() >= PARTS:
            found.append(name)

    file.visititems(visit)
    return found


class Scan:
    """All bins and pixels of a matrix, as its schema has them (cooler.readthedocs.io, Schema)."""

    def __init__(self, group: h5py.Group) -> None:
        mode = group.attrs.get("storage-mode", "symmetric-upper")
        self.symmetric = (mode.decode() if isinstance(mode, bytes) else mode) == "symmetric-upper"
        self.names = [name.decode() if isinstance(name, bytes) else name for name in group["chroms/name"][:]]
        self.lengths = [int(length) for length in group["chroms/length"][:]]
        self.chrom, self.begin, self.end = (group[f"bins/{name}"][:] for name in ("chrom", "start", "end"))
        self.one, self.other, self.count = (
            group[f"pixels/{name}"][:] for name in ("bin1_id", "bin2_id", "count")
        )

    def inside(self, place: Place) -> Any:
        """The numbers of the bins that overlap a place."""
        name, begin, end = place
        return np.flatnonzero((self.chrom == name) & (self.begin < end) & (self.end > begin))

    def contacts(self, one: Place, other: Place) -> Counter[tuple[int, int, float]]:
        """Row and column within the two places, and count."""
        rows, columns = self.inside(one), self.inside(other)
        found: Counter[tuple[int, int, float]] = Counter()
        pairs = [(self.one, self.other, slice(None))]
        if self.symmetric:
            pairs.append((self.other, self.one, self.one != self.other))
        for all_first, all_second, which in pairs:
            first, second, count = all_first[which], all_second[which], self.count[which]
            hit = np.isin(first, rows) & np.isin(second, columns)
            found.update(
                zip(
                    (first[hit] - rows[0]).tolist() if len(rows) else [],
                    (second[hit] - columns[0]).tolist() if len(columns) else [],
                    map(float, count[hit]),
                    strict=False,
                )
            )
        return found

    def places(self, draw: random.Random) -> Iterator[tuple[Place, Place]]:
        known = range(len(self.names))
        for name in draw.sample(known, min(WHOLE, len(known))):
            for other in {name, draw.choice(known)}:
                yield (name, 0, self.lengths[name]), (other, 0, self.lengths[other])
        for _ in range(PLACES if len(self.one) else 0):
            pixel = draw.randrange(len(self.one))
            yield self.around(int(self.one[pixel]), draw), self.around(int(self.other[pixel]), draw)

    def around(self, number: int, draw: random.Random) -> Place:
        name, begin, end = (int(column[number]) for column in (self.chrom, self.begin, self.end))
        width = (end - begin) * draw.choice((1, 3, 30))
        first = max(begin - draw.randrange(width), 0)
        return name, first, min(max(first + width, end), self.lengths[name])


def read(group: h5py.Group, scan: Scan, one: Place, other: Place) -> Counter[tuple[int, int, float]]:
    """What cooler finds of two places."""
    asked = [(scan.names[name], begin, end) for name, begin, end in (one, other)]
    found = cooler.Cooler(group).matrix(balance=False, sparse=True).fetch(*asked)
    return Counter(zip(found.row.tolist(), found.col.tolist(), map(float, found.data), strict=True))


def main(source: str, url: str) -> int:
    regions = contacts = 0
    ranges = Ranges(url)
    with h5py.File(source) as plain, h5py.File(io.BufferedReader(ranges, 1 << 15), "r") as served:
        names = matrices(plain)
        if not names or matrices(served) != names:
            print(f"the matrices are {matrices(served)} instead of {names}", file=sys.stderr)
            return 1
        for name in names:
            scan = Scan(plain[name])
            contacts += len(scan.one)
            for one, other in scan.places(random.Random(len(scan.one))):
                regions += 1
                found, wanted = read(served[name], scan, one, other), scan.contacts(one, other)
                if found != wanted:
                    print(
                        f"{name} {one} {other}: {found.total()} contacts instead of {wanted.total()}",
                        file=sys.stderr,
                    )
                    return 1
    print(json.dumps({"records": contacts, "regions": regions, "requests": ranges.requests}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
