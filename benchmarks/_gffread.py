"""What gffread makes of a GTF, transcripts and the genes that it clusters; whether an artifact agrees."""

from __future__ import annotations

import subprocess
from collections import Counter
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
        if one.kind == "transcript" and "Parent" in one.about
    }
    made = Clusters(genes)
    for one in by_gffread(source, "--cluster-only"):
        # Of a transcript whose lines name no gene there is none to judge.
        if one.kind == "transcript" and "geneID" in one.about:
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


def misplaced_parents(source: Sequence[bytes], made: Sequence[bytes]) -> str:
    """Why the lines of an artifact are not those of the source below parents that hold them; "": they are."""
    found = features([line.decode() for line in made])
    wanted, kept = (Counter(map(columns_of, lines)) for lines in (source, made))
    if lost := wanted - kept:
        return f"lines of the source are lost: {next(iter(lost))!r}"
    known: dict[tuple[str, str], tuple[int, Feature]] = {}
    for number, one in enumerate(found):
        if "ID" in one.about and known.setdefault((one.contig, one.about["ID"]), (number, one))[1] is not one:
            return f"two features are {one.about['ID']}"
    for number, one in enumerate(found):
        if "Parent" not in one.about:
            continue
        if (one.contig, one.about["Parent"]) not in known:
            return f"{one} has a parent that is not there"
        place, above = known[one.contig, one.about["Parent"]]
        if above.strand != one.strand or not above.start <= one.start <= one.end <= above.end:
            return f"{one} is not within its parent {above}"
        if place > number and columns_of(made[place]) not in wanted:
            return f"{one} stands above its parent, which was added"
    return stretched_parents(wanted, made, found)


def stretched_parents(
    wanted: Counter[tuple[bytes, ...]], made: Sequence[bytes], found: Sequence[Feature]
) -> str:
    """Which parent that is not among the lines `wanted` is not as long as its children reach; "": none."""
    inside: dict[tuple[str, str], list[Feature]] = {}
    for one in found:
        if "Parent" in one.about:
            inside.setdefault((one.contig, one.about["Parent"]), []).append(one)
    for line, one in zip(made, found, strict=True):
        if columns_of(line) not in wanted:
            children = inside.get((one.contig, one.about["ID"]))
            if children is None:
                return f"{one} was added, and is the parent of nothing"
            if (one.start, one.end) != extent(children):
                return f"{one} was added, and its children reach over {extent(children)}"
    return ""


def misplaced_transcripts(source: Sequence[bytes], made: Sequence[bytes], plain: Path) -> str:
    """Why parents that were added are not where gffread has them in `plain`, the source; "": they are."""
    wanted, found = Counter(map(columns_of, source)), features([line.decode() for line in made])
    lines = list(zip(map(columns_of, made), found, strict=True))
    own = {
        one.about.get("transcript_id") for line, one in lines if one.kind == "transcript" and line in wanted
    }
    added = Counter(one.place for line, one in lines if one.kind == "transcript" and line not in wanted)
    expected = Counter(
        one.place for one in by_gffread(plain) if one.kind == "transcript" and one.about["ID"] not in own
    )
    if added != expected:
        return f"transcripts were added at {added - expected}, gffread has them at {expected - added}"
    if any(line[2] == b"gene" for line in wanted):
        return ""  # The genes are those that have lines; gffread leaves these out.
    by_cluster = clustered(plain, found)
    for (name, _), of_locus in by_cluster.loci.items():
        if len({gene for gene, _ in of_locus}) > 1:
            return f"what gffread clusters of {name} has several genes"
    for key, transcripts in by_cluster.inside.items():
        if not overlap(transcripts):
            return f"gene {key} holds what does not overlap"
    return ""


def columns_of(line: bytes) -> tuple[bytes, ...]:
    """All but the attributes, which are spelt otherwise in an artifact."""
    return tuple(line.split(b"\t", 8)[:8])
