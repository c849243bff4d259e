"""igv.js: the configuration of `createBrowser`, which is a session file too."""

from __future__ import annotations

import json
from typing import Final

from gooseherd.api.tracks.selection import (
    BED_LIKE,
    GFF_LIKE,
    NOTHING_KNOWN,
    Json,
    Selection,
    ServedFile,
    Snippet,
)
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind

_COLOR: Final = "#4C78A8"
_OWN_FORMAT: Final = {
    formats.NARROWPEAK: "narrowpeak",
    formats.BROADPEAK: "broadpeak",
    formats.GAPPEDPEAK: "gappedpeak",
}


def igv(selection: Selection) -> Snippet:
    """`igv.createBrowser(element, …)`, or a session to load."""
    tracks: list[Json] = []
    notes = []
    for file in selection.drawn:
        drawn = _tracks(file)
        if not drawn:
            notes.append(f"{file.name}: igv.js draws no {file.format.name}")
        tracks += drawn
    spec: Json = {"tracks": tracks}
    reference = _reference(selection)
    if reference is None:
        notes.append(NOTHING_KNOWN)
    else:
        if selection.aliases_url is not None:
            reference["aliasURL"] = selection.aliases_url
        spec = {"reference": reference, **({"locus": selection.locus} if selection.locus else {}), **spec}
    if selection.search_url is not None:
        spec["search"] = {
            "url": selection.search_url,
            "resultsField": "results",
            "chromosomeField": "contig",
            "startField": "start",
            "endField": "end",
            "coords": 1,
        }
    # Where it is copied into a page, no file's name ends the page's script.
    options = json.dumps(spec, indent=2).replace("<", "\\u003c")
    text = f"igv.createBrowser(document.getElementById('igv'), {options})"
    return Snippet(text, spec, notes)


def _reference(selection: Selection) -> Json | None:
    named = {"id": selection.assembly, "name": selection.assembly}
    reference = selection.reference
    if reference is not None and reference.format is formats.TWOBIT:
        return {**named, "twoBitURL": reference.data}
    if reference is not None:
        found = {**named, "fastaURL": reference.data, "indexURL": reference.index}
        gzi = reference.urls.get(Kind.GZI)
        return {**found, "compressedIndexURL": gzi} if gzi else found
    if not selection.sizes:
        return None
    return {**named, "format": "chromsizes", "fastaURL": selection.chromsizes_url, "wholeGenomeView": False}


def _tracks(file: ServedFile) -> list[Json]:
    """The records, and their density as a track of its own: igv.js shows no reads of a wide view."""
    records = _records(file)
    if records is None:
        return []
    track = {"name": file.title, "url": file.data, **records}
    if "indexURL" in track and file.density is not None:
        density = {"name": f"{file.title}, density", "type": "wig", "format": "bigwig", "url": file.density}
        return [{**density, "color": _COLOR, "height": 40}, track]
    return [track]


def _records(file: ServedFile) -> Json | None:
    # Without indexURL igv.js asks a foreign host whether it knows one.
    index = {"indexURL": file.index} if file.index is not None else {"indexed": False}
    if file.format in (formats.BAM, formats.CRAM):
        return {"type": "alignment", "format": file.format.name, "colorBy": "strand", **index}
    if file.format is formats.VCF:
        return {"type": "variant", "format": "vcf", **index}
    if file.format in GFF_LIKE:
        return {"type": "annotation", "format": "gff3", **index}
    if file.format in BED_LIKE:
        return {"type": "annotation", "format": _OWN_FORMAT.get(file.format, "bed"), **index}
    if file.format in (formats.BEDPE, formats.INTERACT):
        return {"type": "interact", "format": file.format.name, **index}
    if file.format is formats.BIGWIG:
        return {"type": "wig", "format": "bigwig", "color": _COLOR}
    if file.format is formats.BIGBED:
        return {"type": "annotation", "format": "bigbed"}
    return None
