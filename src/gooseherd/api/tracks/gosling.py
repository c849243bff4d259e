"""Gosling: a whole specification."""

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

_WIDTH, _HEIGHT = 800, 80
_RECORDS_BELOW: Final = 200_000
"""Bases in view: of wider ones Gosling reads no alignments."""
_COLOR: Final = {"value": "#4C78A8"}


def gosling(selection: Selection) -> Snippet:
    """A specification for `embed` or `<GoslingComponent spec>`."""
    notes = []
    tracks = []
    for file in selection.drawn:
        records = _records(file) if file.index_type != "csi" else None
        if records is None:
            what = "reads no .csi index" if file.index_type == "csi" else f"draws no {file.format.name}"
            rest = "; only its density is drawn" if file.density is not None else ""
            notes.append(f"{file.name}: Gosling {what}{rest}")
        track = _track(file, records)
        if track is not None:
            tracks.append(track)
            if file.own_names and not _renames(file):
                name, own = next(iter(file.own_names.items()))
                notes.append(
                    f"{file.name}: nothing is drawn, for Gosling knows no other names of sequences, "
                    f"and this file calls {name} {own}"
                )
            if file.format in (formats.CSV, formats.TSV):
                notes.append(f"{file.name}: name its columns in chromosomeField and genomicFields")
    spec: Json = {"layout": "linear", "spacing": 20, "tracks": tracks}
    if selection.sizes:
        spec = {"assembly": [list(size) for size in selection.sizes], **spec}
    elif selection.is_known:
        spec = {"assembly": selection.assembly, **spec}
    else:
        notes.append(NOTHING_KNOWN)
    if (place := selection.place) is not None:
        spec["xDomain"] = {"chromosome": place[0], "interval": [place[1], place[2]]}
    return Snippet(json.dumps(spec, indent=2), spec, notes)


def _track(file: ServedFile, records: Json | None) -> Json | None:
    """The records in a close view, how many there are where in a wide one."""
    size: Json = {"title": file.title, "width": _WIDTH, "height": _HEIGHT}
    if file.density is None:
        return None if records is None else {**size, **records}
    density = _signal(file.density, "count", "sum")
    if records is None:
        return {**size, **density}
    shown = {"measure": "zoomLevel", "threshold": _RECORDS_BELOW, "target": "track"}
    return {
        **size,
        "alignment": "overlay",
        "tracks": [
            {**records, "visibility": [{**shown, "operation": "less-than"}]},
            {**density, "visibility": [{**shown, "operation": "greater-than-or-equal-to"}]},
        ],
    }


def _records(file: ServedFile) -> Json | None:
    if file.format is formats.BIGWIG:
        return _signal(file.data, "value", "mean")
    if file.format in (formats.CSV, formats.TSV):
        data: Json = {
            "type": "csv",
            "url": file.data,
            "chromosomeField": "chrom",
            "genomicFields": ["start", "end"],
        }
        if file.format is formats.TSV:
            data["separator"] = "\t"
        return {"data": data, "mark": "rect", **_span("start", "end"), "color": _COLOR}
    kind = _kind(file)
    if kind is None or file.index is None:
        return None
    type_, start, end = kind
    pile = {
        "type": "displace",
        "method": "pile",
        "boundingBox": {"startField": start, "endField": end, "padding": 1, "isPaddingBP": True},
        "newField": "row",
    }
    return {
        "data": {"type": type_, "url": file.data, "indexUrl": file.index},
        "dataTransform": [pile],
        "mark": "rect",
        **_span(start, end),
        "row": {"field": "row", "type": "nominal", "padding": 0.2},
        "color": _COLOR,
        "stroke": _COLOR,
        "strokeWidth": {"value": 0.5},
    }


def _renames(file: ServedFile) -> bool:
    """Whether Gosling finds its sequences: in a BAM it looks for 1 as well as for chr1."""
    by_prefix = all(
        {name, own} == {own, f"chr{own}"} or {name, own} == {name, f"chr{name}"}
        for name, own in file.own_names.items()
    )
    return file.format is formats.BAM and by_prefix


def _kind(file: ServedFile) -> tuple[str, str, str] | None:
    """Gosling's word for the data, and its names of start and end."""
    if file.format is formats.BAM:
        return "bam", "start", "end"
    if file.format is formats.VCF:
        return "vcf", "POS", "POSEND"
    if file.format in GFF_LIKE:
        return "gff", "start", "end"
    if file.format in BED_LIKE:
        return "bed", "chromStart", "chromEnd"
    return None


def _span(start: str, end: str) -> Json:
    return {"x": {"field": start, "type": "genomic"}, "xe": {"field": end, "type": "genomic"}}


def _signal(url: str, value: str, aggregation: str) -> Json:
    return {
        "data": {
            "type": "bigwig",
            "url": url,
            "column": "position",
            "value": value,
            "aggregation": aggregation,
        },
        "mark": "area",
        "x": {"field": "position", "type": "genomic"},
        "y": {"field": value, "type": "quantitative"},
        "color": _COLOR,
    }
