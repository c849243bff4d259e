"""What stands in front of the kernel, or of the normaliser, for formats that are no text of theirs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from gooseherd.domain.formats import (
    BCF,
    BEDGRAPH,
    BIGBED,
    INTERVAL_LIST,
    MACS,
    SEG,
    UCSC_TABLE,
    WIG,
    Format,
)
from gooseherd.processing.density import CONTIGS, DECLARED_ELSEWHERE, write_contigs
from gooseherd.processing.formats.normaliser_report import NormaliserReport
from gooseherd.processing.step_context import StepContext
from gooseherd.processing.tools.stages import Stage, program_stage

TABLES: Final = frozenset({WIG, SEG, INTERVAL_LIST, MACS, UCSC_TABLE})
"""Converted to lines of BED by a program of ours, which also counts what it drops."""
CONVERTED: Final = frozenset({BCF, BIGBED, *TABLES})
"""Converted to text by a stage in front, which also decompresses the source."""
_REPORT: Final = "converted.json"


async def with_dropped(
    context: StepContext, report: NormaliserReport, source_format: Format
) -> NormaliserReport:
    """With what the converter in front dropped: the report knows its output alone."""
    if source_format not in TABLES:
        return report
    found = json.loads(await asyncio.to_thread((context.work / _REPORT).read_bytes))
    counts = dict(report.counts)
    for what, number in found["counts"].items():
        counts[what] = counts.get(what, 0) + number
    without = report.data["without_end_marker"] or found["without_end_marker"]
    bad = {what: found[what] for what in ("bad_lines", "first_bad_line")}
    return NormaliserReport({**report.data, **bad, "counts": counts, "without_end_marker": without})


def converting(
    context: StepContext, source_format: Format, source: str, *, skip_bad_lines: bool
) -> tuple[tuple[Stage, ...], str]:
    """(the stages that convert the source to text, the format of that text)."""
    match source_format:
        case f if f is BCF:
            view = ("bcftools", "view", "--no-version", "-Ov", source)
            return (Stage("bcftools view", view, reads_source=True),), "vcf"
        case f if f is BIGBED:
            refusal = context.work / "bigbed.json"
            items = program_stage(
                "bigbed_to_bed", source, "--report", str(refusal), refusal=refusal, reads_source=True
            )
            return (items,), "bed"
        case f if f in TABLES:
            refusal = context.work / _REPORT
            skipping = ("--skip-bad-lines",) if skip_bad_lines else ()
            argv = (f.name, source, "--report", str(refusal), *skipping)
            return (program_stage("table_to_bed", *argv, refusal=refusal, reads_source=True),), "bed"
        case f if f is BEDGRAPH:
            return (), "bed"
        case f:
            return (), f.name


async def declared_contigs(context: StepContext, source_format: Format, out: Path) -> Path | None:
    """The sequences that the source declares and BED has no place for, in a file beside `out`."""
    if source_format not in DECLARED_ELSEWHERE:
        return None
    if source_format is not BIGBED:
        path, refusal = out.with_name(out.name + CONTIGS), context.work / _REPORT
        argv = (source_format.name, str(context.source), "--report", str(refusal), "--contigs", str(path))
        await context.run(program_stage("table_to_bed", *argv, refusal=refusal, reads_source=True))
        return path
    found = await context.bigwig_contigs(source_format)
    path = out.with_name(out.name + CONTIGS)
    await asyncio.to_thread(write_contigs, path, found)
    return path
