"""Files of formats that no package carries, written by the formats' own programs of real data that one does.

What a program writes differs from version to version, so these have no digest in the list.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from _matrices import NotMade, matrices_python

HICTK = """
import sys
import cooler, hictkpy
source, target = sys.argv[1:]
matrix = cooler.Cooler(source)
lengths = {name: int(length) for name, length in matrix.chromsizes.items()}
writer = hictkpy.hic.FileWriter(target, lengths, matrix.binsize, "unknown")
writer.add_pixels(matrix.pixels()[:][["bin1_id", "bin2_id", "count"]])
writer.finalize()
"""
COLOURS: Final = ("0", "#7A67EE", "200,0,0")
"""Of an arc, in the ways that UCSC has."""


def made_folder(folder: Path) -> Path:
    """Where the files lie that are made of those in `folder`."""
    return folder.with_name(f"{folder.name}-made")


def make_files(listed: Sequence[Mapping[str, Any]], folder: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """Those that are there, each with its format, and why others are not; in a folder beside `folder`."""
    home = made_folder(folder)
    home.mkdir(exist_ok=True)
    made, problems = [], []
    for entry in listed:
        target = home / entry["file"]
        try:
            if not target.exists():
                partial = home / f"partial-{target.name}"
                MAKERS[entry["by"]]([folder / source for source in entry["of"]], partial)
                partial.rename(target)
            made.append((target, entry["format"]))
        except NotMade as failed:
            problems.append(f"{target.name}: {failed}")
    return made, problems


def run(*argv: str | Path, cwd: Path | None = None, stdout: Path | None = None) -> None:
    if not shutil.which(str(argv[0])):
        raise NotMade(f"{argv[0]} is not installed")
    done = subprocess.run(list(map(str, argv)), cwd=cwd, capture_output=True, check=False)
    if done.returncode:
        raise NotMade(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    if stdout is not None:
        stdout.write_bytes(done.stdout)


def by_macs(sources: Sequence[Path], target: Path) -> None:
    """MACS 2; of few reads it finds peaks when told to look for any pile."""
    work = target.with_name(f"{target.name}.work")
    work.mkdir(exist_ok=True)
    broad = ("--broad",) if target.suffix in (".gappedPeak", ".broadPeak") else ()
    run(
        *("macs2", "callpeak", "-t", sources[0].resolve(), "-f", "BED", "-g", "hs", "--nomodel"),
        *("--extsize", "2000", "-p", "0.01", "--nolambda", *broad, "-n", "x"),
        cwd=work,
    )
    (work / f"x_peaks{target.suffix}").replace(target)
    shutil.rmtree(work)


def by_minimap2(sources: Sequence[Path], target: Path) -> None:
    run("minimap2", "-c", "-x", "asm20", *sources, stdout=target)


def by_hictk(sources: Sequence[Path], target: Path) -> None:
    """In the environment that has hictkpy and cooler."""
    run(matrices_python(), "-c", HICTK, sources[0], target)


def by_zoomify(sources: Sequence[Path], target: Path) -> None:
    """In the same environment."""
    run(matrices_python(), "-m", "cooler", "zoomify", "-o", target, sources[0])


def by_columns(sources: Sequence[Path], target: Path) -> None:
    """interact of BEDPE: genome.ucsc.edu/goldenPath/help/interact.html."""
    lines = ['track type=interact name="pairs of places" maxHeightPixels=200:100:50']
    for line in sources[0].read_text().splitlines():
        fields = line.split()
        if len(fields) < 6 or line.startswith("#") or not fields[1].isdigit() or not fields[4].isdigit():
            continue
        one, other = fields[:3], fields[3:6]
        same = one[0] == other[0]
        begin, end = (min(int(one[1]), int(other[1])), max(int(one[2]), int(other[2]))) if same else one[1:]
        colour = COLOURS[len(lines) % len(COLOURS)]
        about = (one[0], begin, end, f"arc{len(lines)}", 0, 1.5, ".", colour)
        lines.append("\t".join(map(str, (*about, *one, ".", ".", *other, ".", "."))))
    target.write_text("".join(f"{line}\n" for line in lines))


MAKERS: Final[Mapping[str, Callable[[Sequence[Path], Path], None]]] = {
    "macs2": by_macs,
    "minimap2": by_minimap2,
    "hictk": by_hictk,
    "zoomify": by_zoomify,
    "columns": by_columns,
}
