"""UCSC's Genome Browser: a track hub in one file (`useOneFile on`)."""

from __future__ import annotations

import re
from typing import Final

from gooseherd.api.tracks.selection import Selection, ServedFile, Snippet
from gooseherd.domain import formats

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]+")
_SHORT, _LONG = 17, 76
"""Characters that the browser shows of a label."""
_COLOR: Final = "76,120,168"
_SHOWN: Final = 20
"""Tracks that are drawn at once; those behind them wait to be switched on."""
_TYPES: Final = {
    formats.BAM: "bam",
    formats.CRAM: "bam",  # hubs have no type of its own for it (genome.ucsc.edu/goldenPath/help/cram.html)
    formats.VCF: "vcfTabix",
    formats.BIGBED: "bigBed",
    formats.BIGWIG: "bigWig",
    formats.HIC: "hic",
}


def ucsc(selection: Selection) -> Snippet:
    """hub.txt. UCSC reads the addresses itself, so they must be open to the internet."""
    notes = []
    stanzas: dict[str, list[str]] = {}
    for file in selection.drawn:
        lines = _track(file, visible=len(stanzas) < _SHOWN)
        if lines is None:
            notes.append(f"{file.name}: UCSC draws no {file.format.name} of these addresses")
        else:
            name = _unused(f"t_{_NOT_A_NAME.sub('_', file.name)}", stanzas)
            stanzas[name] = [f"track {name}", *lines]
    assembly = _assembly(selection)
    if not assembly and not selection.is_known:
        notes.append("UCSC must know the assembly: name it (?assembly=hg38), or a 2bit as the reference")
    genome = [f"genome {_label(selection.assembly).replace(' ', '_')}", *assembly]
    head = [
        "hub gooseherd",
        "shortLabel gooseherd",
        "longLabel Files of a gooseherd",
        "useOneFile on",
        "email nobody@example.org",
        f"descriptionUrl {selection.page_url}",  # JBrowse 2 refuses hubs without
    ]
    head += [f"# {_label(note)}" for note in (*selection.notes, *notes)]
    blocks = ["\n".join(lines) for lines in (head, genome, *stanzas.values())]
    return Snippet("\n\n".join(blocks) + "\n", notes=notes)


def _assembly(selection: Selection) -> list[str]:
    """An assembly hub: of sequences that UCSC does not know, and that are here as a 2bit."""
    reference = selection.reference
    if selection.is_known or reference is None or reference.format is not formats.TWOBIT:
        return []
    title = _label(reference.title)
    lines = [
        f"twoBitPath {reference.data}",
        f"chromSizes {selection.chromsizes_url}",
        f"organism {title}",
        f"scientificName {title}",
        f"description {title}",
    ]
    return [*lines, f"defaultPos {selection.locus}"] if selection.locus else lines


def _track(file: ServedFile, *, visible: bool) -> list[str] | None:
    kind, title, url = _TYPES.get(file.format), file.title, file.data
    if kind is None and file.density is not None:
        # Tabix files of other formats are not read by hubs.
        kind, title, url = "bigWig", f"{file.title}, density", file.density
    if kind is None:
        return None
    shown = ("full" if kind in ("bigWig", "hic") else "pack") if visible else "hide"
    lines = [
        f"shortLabel {_label(title)[:_SHORT]}",
        f"longLabel {_label(f'{title} ({file.name})')[:_LONG]}",
        f"type {kind}",
        f"bigDataUrl {url}",
        f"visibility {shown}",
    ]
    if kind == "bigWig":
        lines += ["autoScale on", f"color {_COLOR}"]
    elif file.index is not None:
        lines.append(f"bigDataIndex {file.index}")
    return lines


def _unused(name: str, names: dict[str, list[str]]) -> str:
    """UCSC refuses a hub in which two tracks have one name."""
    number, found = 2, name
    while found in names:
        number, found = number + 1, f"{name}_{number}"
    return found


def _label(text: str) -> str:
    """One line."""
    return " ".join(text.split())
