"""UCSC's Genome Browser: a track hub in one file (`useOneFile on`)."""

from __future__ import annotations

import re

from gooseherd.api.tracks.selection import Selection, ServedFile, Snippet
from gooseherd.domain import formats

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]+")
_SHORT, _LONG = 17, 76
"""Characters that the browser shows of a label."""


def ucsc(selection: Selection) -> Snippet:
    """hub.txt. UCSC reads the addresses itself, so they must be open to the internet."""
    notes = []
    stanzas = []
    for file in selection.drawn:
        lines = _track(file)
        if lines is None:
            notes.append(f"{file.name}: UCSC draws no {file.format.name} of these addresses")
        else:
            stanzas.append("\n".join(lines))
    if not selection.is_known:
        notes.append("UCSC must know the assembly: name it (?assembly=hg38)")
    head = "\n".join(
        (
            "hub gooseherd",
            "shortLabel gooseherd",
            "longLabel Files of a gooseherd",
            "useOneFile on",
            "email nobody@example.org",
        )
    )
    return Snippet("\n\n".join((head, f"genome {selection.assembly}", *stanzas)) + "\n", notes=notes)


def _track(file: ServedFile) -> list[str] | None:
    kind = {formats.BAM: "bam", formats.CRAM: "cram", formats.VCF: "vcfTabix", formats.BIGBED: "bigBed"}.get(
        file.format
    )
    title, url = file.title, file.data
    if file.format is formats.BIGWIG:
        kind = "bigWig"
    elif kind is None and file.density is not None:
        # Tabix files of other formats are not read by hubs.
        kind, title, url = "bigWig", f"{file.title}, density", file.density
    if kind is None:
        return None
    track = _NOT_A_NAME.sub("_", file.name)
    lines = [
        f"track t_{track}",
        f"shortLabel {_label(title)[:_SHORT]}",
        f"longLabel {_label(f'{title} ({file.name})')[:_LONG]}",
        f"type {kind}",
        f"bigDataUrl {url}",
        "visibility pack" if kind != "bigWig" else "visibility full",
    ]
    if kind == "bigWig":
        lines.append("autoScale on")
    elif file.index is not None:
        lines.append(f"bigDataIndex {file.index}")
    return lines


def _label(text: str) -> str:
    """One line."""
    return " ".join(text.split())
