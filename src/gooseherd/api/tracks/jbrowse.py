"""JBrowse 2: a config.json. The React view takes `assemblies[0]`, `tracks` and `defaultSession` of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

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

_PIXELS = 1000
"""Of a view whose width is not known here."""


def jbrowse(selection: Selection) -> Snippet:
    """A configuration that opens with the files shown."""
    notes = []
    tracks = []
    for file in selection.drawn:
        found = _tracks(file, selection.assembly)
        if _adapter(file) is None:
            rest = "; only its density is drawn" if found else ""
            notes.append(f"{file.name}: JBrowse draws no {file.format.name} of these addresses{rest}")
        if file.format is formats.HIC:
            notes.append(
                f"{file.name}: JBrowse Web draws it; the React component of the linear view refuses a "
                "configuration with it"
            )
        tracks += found
    sequence = _sequence(selection)
    if sequence is None:
        notes.append(NOTHING_KNOWN)
        spec: Json = {"assemblies": [], "tracks": tracks}
    else:
        assembly: Json = {
            "name": selection.assembly,
            "sequence": {
                "type": "ReferenceSequenceTrack",
                "trackId": f"{selection.assembly}-sequence",
                "adapter": sequence,
            },
        }
        if selection.aliases:
            assembly["refNameAliases"] = {"adapter": _aliases(selection.aliases)}
        spec = {"assemblies": [assembly], "tracks": tracks}
        if searched := [_names(file, selection.assembly) for file in selection.drawn if file.has_names]:
            spec["aggregateTextSearchAdapters"] = searched
        if session := _session(selection, tracks):
            spec["defaultSession"] = session
    return Snippet(json.dumps(spec, indent=2), spec, notes)


def _names(file: ServedFile, assembly: str) -> Json:
    return {
        "type": "TrixTextSearchAdapter",
        "textSearchAdapterId": f"{file.name}/names",
        "ixFilePath": _at(file.urls[Kind.NAMES]),
        "ixxFilePath": _at(file.urls[Kind.NAMES_INDEX]),
        "assemblyNames": [assembly],
    }


def _aliases(aliases: Mapping[str, Sequence[str]]) -> Json:
    return {
        "type": "FromConfigAdapter",
        "features": [
            {"refName": name, "uniqueId": f"names-of-{name}", "aliases": list(others)}
            for name, others in aliases.items()
        ],
    }


def _at(url: str | None) -> Json:
    return {"uri": url, "locationType": "UriLocation"}


def _sequence(selection: Selection) -> Json | None:
    reference = selection.reference
    if reference is not None and reference.format is formats.TWOBIT:
        return {"type": "TwoBitAdapter", "twoBitLocation": _at(reference.data)}
    if reference is not None and (gzi := reference.urls.get(Kind.GZI)):
        return {
            "type": "BgzipFastaAdapter",
            "fastaLocation": _at(reference.data),
            "faiLocation": _at(reference.index),
            "gziLocation": _at(gzi),
        }
    if not selection.sizes:
        return None
    return {"type": "ChromSizesAdapter", "chromSizesLocation": _at(selection.chromsizes_url)}


def _session(selection: Selection, tracks: list[Json]) -> Json | None:
    place = selection.place
    length = dict(selection.sizes).get(place[0]) if place else None
    if place is None or length is None:
        return None
    contig, start, end = place
    bases_per_pixel = max(end - start, 1) / _PIXELS
    view = {
        "id": "linearGenomeView",
        "type": "LinearGenomeView",
        "bpPerPx": bases_per_pixel,
        "offsetPx": round(start / bases_per_pixel),
        "displayedRegions": [
            {"refName": contig, "start": 0, "end": length, "assemblyName": selection.assembly}
        ],
        "tracks": [
            {
                "id": f"shown-{track['trackId']}",
                "type": track["type"],
                "configuration": track["trackId"],
                "displays": [
                    {
                        "id": f"display-{track['trackId']}",
                        "type": display["type"],
                        "configuration": display["displayId"],
                    }
                    for display in track["displays"]
                ],
            }
            for track in tracks
        ],
    }
    # JBrowse Web has several views, its linear view in a page of others is one.
    return {"name": "gooseherd", "view": view, "views": [view]}


def _tracks(file: ServedFile, assembly: str) -> list[Json]:
    found = []
    if file.density is not None:
        density = {"type": "BigWigAdapter", "bigWigLocation": _at(file.density)}
        found.append(
            _track(
                f"{file.name}/density", f"{file.title}, density", assembly, density, "QuantitativeTrack", 60
            )
        )
    if (adapter := _adapter(file)) is not None:
        found.append(_track(file.name, file.title, assembly, adapter, _TYPES[adapter["type"]], 120))
    return found


def _track(track_id: str, name: str, assembly: str, adapter: Json, type_: str, height: int) -> Json:
    return {
        "type": type_,
        "trackId": track_id,
        "name": name,
        "assemblyNames": [assembly],
        "adapter": adapter,
        "displays": [{"type": _DISPLAYS[type_], "displayId": f"{track_id}-display", "height": height}],
    }


_TYPES = {
    "BamAdapter": "AlignmentsTrack",
    "CramAdapter": "AlignmentsTrack",
    "VcfTabixAdapter": "VariantTrack",
    "Gff3TabixAdapter": "FeatureTrack",
    "BedTabixAdapter": "FeatureTrack",
    "BigBedAdapter": "FeatureTrack",
    "BigWigAdapter": "QuantitativeTrack",
    "HicAdapter": "HicTrack",
}
_DISPLAYS = {
    "AlignmentsTrack": "LinearAlignmentsDisplay",
    "VariantTrack": "LinearVariantDisplay",
    "FeatureTrack": "LinearBasicDisplay",
    "QuantitativeTrack": "LinearWiggleDisplay",
    "HicTrack": "LinearHicDisplay",
}


def _adapter(file: ServedFile) -> Json | None:
    if file.format is formats.BIGWIG:
        return {"type": "BigWigAdapter", "bigWigLocation": _at(file.data)}
    if file.format is formats.BIGBED:
        return {"type": "BigBedAdapter", "bigBedLocation": _at(file.data)}
    if file.format is formats.HIC:
        return {"type": "HicAdapter", "hicLocation": _at(file.data)}
    if file.index is None:
        return None
    index = {"location": _at(file.index), "indexType": (file.index_type or "").upper()}
    if file.format is formats.BAM:
        return {"type": "BamAdapter", "bamLocation": _at(file.data), "index": index}
    if file.format is formats.CRAM:
        return {"type": "CramAdapter", "cramLocation": _at(file.data), "craiLocation": _at(file.index)}
    if file.format is formats.VCF:
        return {"type": "VcfTabixAdapter", "vcfGzLocation": _at(file.data), "index": index}
    if file.format in GFF_LIKE:
        return {"type": "Gff3TabixAdapter", "gffGzLocation": _at(file.data), "index": index}
    if file.format in BED_LIKE:
        return {"type": "BedTabixAdapter", "bedGzLocation": _at(file.data), "index": index}
    return None
