"""What gffread makes of a GTF: the transcripts, and the genes that it clusters."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Feature(NamedTuple):
    """A line of GFF3."""

    contig: str
    kind: str
    start: int
    end: int
    strand: str
    about: dict[str, str]

    @property
    def place(self) -> tuple[str, int, int, str]:
        return self.contig, self.start, self.end, self.strand


def features(lines: Iterable[str]) -> list[Feature]:
    """Of GFF3; comments and blank lines are none."""
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            columns = line.split("\t")
            about = dict(item.split("=", 1) for item in columns[8].split(";"))
            found.append(Feature(columns[0], columns[2], int(columns[3]), int(columns[4]), columns[6], about))
    return found


def by_gffread(source: Path, *options: str) -> list[Feature]:
    """What it writes of the file."""
    argv = ["gffread", "-F", *options, str(source)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    return features(done.stdout.splitlines())


@dataclass
class Clusters:
    """The transcripts as gffread clusters them, each under the gene that an artifact gave it."""

    genes: dict[tuple[str, str], Feature]
    """Of the artifact, by sequence and id."""
    inside: dict[tuple[str, str], list[Feature]] = field(default_factory=dict)
    """The transcripts of each of these genes."""
    loci: dict[tuple[str, str], list[tuple[str, Feature]]] = field(default_factory=dict)
    """By gene id and locus of gffread: gene of the artifact and transcript."""


def clustered(source: Path, found: Sequence[Feature]) -> Clusters:
    """`found`: the artifact that was made of `source`, whose transcripts lie where gffread has them."""
    genes = {(one.contig, one.about["ID"]): one for one in found if one.kind == "gene"}
    above = {
        (one.place, one.about["transcript_id"]): one.about["Parent"]
        for one in found
        if one.kind == "transcript"
    }
    made = Clusters(genes)
    for one in by_gffread(source, "--cluster-only"):
        if one.kind == "transcript":
            gene = above[one.place, one.about["ID"]]
            made.inside.setdefault((one.contig, gene), []).append(one)
            made.loci.setdefault((one.about["geneID"], one.about["locus"]), []).append((gene, one))
    return made


def transcripts_of(found: Iterable[Feature]) -> list[tuple[str, int, int, str]]:
    """Their places, in order."""
    return sorted(one.place for one in found if one.kind == "transcript")


def overlap(inside: Sequence[Feature]) -> bool:
    """Whether they are one stretch."""
    ordered = sorted(inside, key=lambda one: one.start)
    reach = ordered[0].end
    for one in ordered:
        if one.start > reach:
            return False
        reach = max(reach, one.end)
    return True


def extent(inside: Sequence[Feature]) -> tuple[int, int]:
    """From the first base of them to the last."""
    return min(one.start for one in inside), max(one.end for one in inside)
