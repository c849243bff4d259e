"""Verifies a finished pair of data and index by queries, before it is published.

    python -m gooseherd.processing.programs.verify tabix|bam|fasta|bigwig DATA INDEX --report FILE --seed WORD
        [--source FILE --format NAME] [--ours] [--gzi FILE]
    python -m gooseherd.processing.programs.verify FORMAT|- < WORDS
        the same of a source of FORMAT (-: of most), as a JSON list of words, when they come; before them
        may come a list ["read-source", SOURCE, NAME, WORD]: the source is read then

Stretches of the data, read without the index, and records of the source, read without either, must come
back through the index: for all regions asked the same lines, no more, no fewer. Which ones follows from
the seed alone. The source is read as far as that is cheap: its beginning, and where the packing allows
it some blocks from its middle; a small one whole.

Prints JSON. Exit status 65: the pair does not agree, and the report says where. A program of its own,
because parsers of C meet the bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gooseherd.domain import formats
from gooseherd.domain.failures import Reason
from gooseherd.processing.formats.targets import TARGETS
from gooseherd.processing.verification.index_queries import (
    PRESETS,
    BamQueries,
    Disagreement,
    IndexQueries,
    NotText,
    TabixQueries,
    can_be_asked,
)
from gooseherd.processing.verification.sampling import (
    Sample,
    SourceLines,
    lines_of_source,
    of_alignments,
    of_blocks,
    reads_in_blocks,
)
from gooseherd.processing.verification.sequences import check_sequences
from gooseherd.processing.verification.signals import check_signal

STRETCHES = 6


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("tabix", "bam", "fasta", "bigwig"))
    parser.add_argument("data", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--format")
    parser.add_argument("--ours", action="store_true", help="samtools wrote the BAM: no read crosses a block")
    parser.add_argument("--gzi", type=Path)
    words, source = (argv, None) if len(argv) > 1 else read_arguments(*argv)
    if not words:
        return 0
    given = parser.parse_args(words, argparse.Namespace(lines=source))
    chance = chance_of(given.seed)
    try:
        finding = _CHECKS[given.kind](given, chance)
    except Disagreement as found:
        return refuse(given.report, Reason.TOOL_FAILED, f"the result did not pass its check: {found}")
    except NotText:
        detail = "control characters among its first records: readers take such a file for binary"
        return refuse(given.report, Reason.SOURCE_INVALID, detail)
    json.dump(finding, sys.stdout)
    return 0


def read_arguments(source_format: str) -> tuple[list[str], SourceLines | None]:
    """The arguments, read from standard input once they are written; none if it ends without.

    With them lines of the source, if it was to be read before.
    """
    import pysam  # noqa: F401 - takes longer than anything that is asked

    if source_format == "bigbed":
        import pyBigWig  # noqa: F401 - takes still longer: numpy comes with it

    source = None
    words = _next_order()
    if words[:1] == ["read-source"]:
        _, path, name, seed = words
        source = lines_of_source(Path(path), name, chance_of(seed, "source"))
        if (read := formats.resolve(name)) in TARGETS:
            source = source.placed_ahead(PRESETS[TARGETS[read].preset])
        words = _next_order()
    return words, source


def _next_order() -> list[str]:
    words: list[str] = json.loads(sys.stdin.buffer.readline() or b"[]")
    return words


def chance_of(seed: str, *more: str) -> random.Random:
    """The same seed must ask the same."""
    return random.Random(" ".join((seed, *more)))  # noqa: S311


def refuse(report: Path, reason: Reason, detail: str) -> int:
    """Say why; the exit status."""
    report.write_text(json.dumps({"reason": reason, "detail": detail}))
    return 65


def intervals(given: argparse.Namespace, chance: random.Random) -> dict[str, int]:
    """Check text in BGZF with TBI or CSI; `given.lines` is what was read of the source already."""
    with TabixQueries(given.data, given.index) as queries:
        samples = of_blocks(given.data, queries.place, STRETCHES, chance)
        if given.source is not None:
            lines: SourceLines | None = given.lines
            if lines is None:
                lines = lines_of_source(given.source, given.format, chance_of(given.seed, "source"))
            samples.append(lines.placed(queries.columns))
        return {"contigs": len(queries.names), "regions": compare(queries, samples, chance)}


def alignments(given: argparse.Namespace, chance: random.Random) -> dict[str, int]:
    """Check a BAM with BAI or CSI; also how many reads the index counts."""
    with BamQueries(given.data, given.index) as queries:
        samples = [of_alignments(given.source or given.data, given.format or "bam", given.report.parent)]
        if given.ours:
            samples += reads_in_blocks(given.data, queries.opened, STRETCHES, chance)
        return {"reads": queries.reads, "regions": compare(queries, samples, chance)}


def sequences(given: argparse.Namespace, chance: random.Random) -> dict[str, int]:
    """Check FASTA in BGZF with FAI and GZI."""
    return {"regions": check_sequences(given.data, given.index, given.gzi, given.source, chance)}


def signals(given: argparse.Namespace, _: random.Random) -> dict[str, int]:
    """Check a bigWig; in place of an index, the report of who wrote it."""
    return {"regions": check_signal(given.data, given.index)}


_CHECKS: Final = {"tabix": intervals, "bam": alignments, "fasta": sequences, "bigwig": signals}


def compare(queries: IndexQueries, samples: list[Sample], chance: random.Random) -> int:
    """Ask for regions around what the samples hold; how many were asked.

    Raises:
        Disagreement: an answer lacks a sampled record, or has one that a complete sample lacks.
    """
    samples = [sample for sample in samples if sample.records]
    asked = 0
    for sample in samples:
        for _ in range(sample.regions):
            region = sample.region(chance)
            if region is None or not can_be_asked(region.name):
                continue
            asked += 1
            wanted = sample.within(region)
            found = queries.starting_in(region)
            if missing := wanted - found:
                raise Disagreement(region, f"{missing.total()} of {wanted.total()} records are not found")
            if sample.complete and found != wanted:
                raise Disagreement(region, f"{(found - wanted).total()} records too many are found")
            if record := sample.reaching(region, chance):
                queries.check_reach(record)
    for sample in samples:
        if sample.whole:
            queries.check_names(sample.names())
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
