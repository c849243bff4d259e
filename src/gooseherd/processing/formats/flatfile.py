"""The feature table of GenBank and EMBL as lines of GFF3 (insdc.org, "Feature Table Definition").

What has several parts, such as a coding sequence, is several lines of one ID; an RNA is a line over all its
parts, which are its exons. A feature's parent is the gene, or the only mRNA, that has its locus tag or gene
name and contains it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

_TYPES: Final = {
    "source": "region",
    "5'UTR": "five_prime_UTR",
    "3'UTR": "three_prime_UTR",
    "misc_feature": "sequence_feature",
    "misc_RNA": "transcript",
    "regulatory": "regulatory_region",
    "sig_peptide": "signal_peptide",
    "mat_peptide": "mature_protein_region",
    "variation": "sequence_alteration",
}
"""Terms of the Sequence Ontology, where they differ."""
_TRANSCRIPTS: Final = frozenset(("mRNA", "tRNA", "rRNA", "ncRNA", "tmRNA", "misc_RNA", "precursor_RNA"))
_NAMES: Final = ("gene", "locus_tag", "product", "label", "organism", "standard_name")
_RESERVED: Final = {"note": "Note", "db_xref": "Dbxref"}
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f%;=&,]")
_IN_NAMES: Final = re.compile(r"[\x00-\x20\x7f>%]")


def sequence_region(record: Any, length: int) -> str:
    """The line that declares the record's sequence."""
    return f"##sequence-region {_seqid(record)} 1 {length}\n"


def features_of(record: Any, source: str, counts: dict[str, int]) -> Iterator[str]:
    """Lines of GFF3; `counts` gets what is left out."""
    genes: dict[str, tuple[str, int, int]] = {}
    transcripts: dict[str, list[tuple[str, int, int]]] = {}
    for number, feature in enumerate(record.features, 1):
        parts = _parts(feature, counts)
        if not parts:
            _count(counts, "features_without_place" if feature.location is None else "features_elsewhere")
            continue
        first, last = min(p[0] for p in parts), max(p[1] for p in parts)
        word = _TYPES.get(feature.type, feature.type)
        identifier = f"{_escaped(record.id)}-{number}"
        key = next((feature.qualifiers[n][0] for n in ("locus_tag", "gene") if feature.qualifiers.get(n)), "")
        attributes = [f"ID={identifier}"]
        if key and feature.type != "gene":
            above = genes.get(key)
            if feature.type not in _TRANSCRIPTS and len(transcripts.get(key, ())) == 1:
                above = transcripts[key][0]
            if above is not None and above[1] <= first and last <= above[2]:
                attributes.append(f"Parent={above[0]}")
        if key and feature.type == "gene":
            genes.setdefault(key, (identifier, first, last))
        if key and feature.type in _TRANSCRIPTS:
            transcripts.setdefault(key, []).append((identifier, first, last))
        attributes += _attributes(feature, counts)
        head, tail = f"{_seqid(record)}\t{source}\t", ";".join(attributes)
        if feature.type in _TRANSCRIPTS and len(parts) > 1:
            yield f"{head}{word}\t{first + 1}\t{last}\t.\t{parts[0][2]}\t.\t{tail}\n"
            for begin, end, strand in parts:
                yield f"{head}exon\t{begin + 1}\t{end}\t.\t{strand}\t.\tParent={identifier}\n"
            continue
        phases = _phases(feature, parts) if feature.type == "CDS" else ["."] * len(parts)
        for (begin, end, strand), phase in zip(parts, phases, strict=True):
            yield f"{head}{word}\t{begin + 1}\t{end}\t.\t{strand}\t{phase}\t{tail}\n"


def _parts(feature: Any, counts: dict[str, int]) -> list[tuple[int, int, str]]:
    """(begin, end, strand) of each part on this sequence, in the order of the feature."""
    found = []
    for part in getattr(feature.location, "parts", ()):
        if part.ref is not None:
            _count(counts, "parts_elsewhere")
            continue
        strand = {1: "+", -1: "-"}.get(part.strand, ".")
        # A place between two bases is that of the one before it.
        begin, end = int(part.start), max(int(part.end), int(part.start) + 1)
        found.append((begin, end, strand))
    return found


def _phases(feature: Any, parts: list[tuple[int, int, str]]) -> list[str]:
    """Bases to the next codon at the beginning of each part."""
    try:
        phase = int(feature.qualifiers.get("codon_start", ["1"])[0]) - 1
    except ValueError:
        phase = 0
    phases = []
    for begin, end, _ in parts:
        phases.append(str(phase))
        phase = (phase - (end - begin)) % 3
    return phases


def _attributes(feature: Any, counts: dict[str, int]) -> Iterator[str]:
    qualifiers = feature.qualifiers
    name = next((qualifiers[n][0] for n in _NAMES if qualifiers.get(n)), None)
    if name is not None:
        yield f"Name={_escaped(name)}"
    for key, values in qualifiers.items():
        if key == "translation":
            _count(counts, "translations")
            continue
        text = ",".join(_escaped(str(value)) for value in values)
        yield f"{_RESERVED.get(key, _escaped(key[:1].lower() + key[1:]))}={text or 'true'}"
    if any(
        type(place).__name__ != "ExactPosition" for place in (feature.location.start, feature.location.end)
    ):
        yield "partial=true"


def _seqid(record: Any) -> str:
    return _IN_NAMES.sub(lambda match: f"%{ord(match[0]):02X}", record.id)


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1
