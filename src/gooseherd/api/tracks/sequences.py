"""The sequences of several files together: what a viewer draws on, and what each file calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.artifact import Manifest
from gooseherd.domain.assemblies import (
    aliases,
    assembly_of,
    fitting_assemblies,
    known_assemblies,
    length_in,
    sequences_of,
)
from gooseherd.domain.contig import Contig, in_natural_order
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import BCF, BIGBED, BIGWIG, DECLARES_LENGTHS, VCF, Format

MOST_CONTIGS: Final = 2_000
"""The longest: a viewer keeps them all in memory and draws a menu of them."""
_MITOCHONDRIA: Final = {"chrM": ("MT", "M"), "MT": ("chrM", "M"), "M": ("chrM", "MT")}

Renamed = Mapping[str, str]
"""What a file calls a sequence that has another name in the reference, by that name."""


def contigs_of(manifest: Manifest, source_format: Format) -> Sequence[Contig]:
    """The sequences of an artifact in the order that people expect."""
    # Files that declare their sequences do so in an order of their own; in others it is that of bytes, and so
    # it is in the trees of bigWig and bigBed.
    ordered = source_format in DECLARES_LENGTHS and source_format not in (BIGBED, BIGWIG)
    return manifest.contigs if ordered else in_natural_order(manifest.contigs)


def are_measured(contigs: Sequence[Contig], source_format: Format) -> bool:
    """Whether the lengths are ends of last records.

    A header of VCF may leave lengths out, and nothing tells afterwards whether it did: those that are no
    assembly's are taken for measured.
    """
    if source_format in (VCF, BCF):
        return not fitting_assemblies(contigs)
    return source_format not in DECLARES_LENGTHS


@dataclass(frozen=True, slots=True)
class FileSequences:
    """The sequences of one file."""

    contigs: Sequence[Contig]
    measured: bool

    @classmethod
    def of(cls, manifest: Manifest, source_format: Format) -> FileSequences:
        """As its artifact tells them."""
        found = contigs_of(manifest, source_format)
        return cls(found, are_measured(found, source_format))


@dataclass(frozen=True, slots=True)
class Together:
    """The sequences of all files, each under one name."""

    contigs: Sequence[Contig]
    assembly: str | None
    renamed: Sequence[Renamed]
    """Of each file."""

    def longest(self, *, and_also: str | None = None) -> Sequence[Contig]:
        """As many as viewers take; with that one, which somebody wants to see."""
        if len(self.contigs) <= MOST_CONTIGS:
            return self.contigs
        by_length = sorted(self.contigs, key=lambda contig: (contig.name != and_also, -(contig.length or 0)))
        kept = {contig.name for contig in by_length[:MOST_CONTIGS]}
        return [contig for contig in self.contigs if contig.name in kept]


def together(
    assembly: str | None, of_reference: Sequence[Contig] | None, files: Sequence[FileSequences | None]
) -> Together:
    """The reference's own sequences; or an assembly's where one is named or recognized and a file uses its
    names; or all that the files have.

    Raises:
        InvalidInput: an assembly that nothing is known of.
    """
    if assembly is not None and sequences_of(assembly) is None and of_reference is None:
        known = ", ".join(sorted(known_assemblies()))
        raise InvalidInput("assembly", f"{assembly!r} is none of {known}: name a reference instead")
    if assembly is not None:
        assembly = assembly_of(sequences_of(assembly) or ()) or assembly  # as UCSC spells it
    if of_reference is not None:
        merged = _Merged(of_reference)
        renamed = [merged.names_in(file) if file is not None else {} for file in files]
        return Together(of_reference, assembly or assembly_of(of_reference), renamed)
    made = [file for file in files if file is not None]
    if assembly is None:
        assembly = _recognized(made)
    molecules = (sequences_of(assembly) if assembly is not None else None) or ()
    names = {contig.name for file in made for contig in file.contigs}
    by_names_of_ucsc = not names or any(molecule.name in names for molecule in molecules)
    merged = _Merged(molecules if by_names_of_ucsc else ())
    renamed = [merged.add(file) if file is not None else {} for file in files]
    found = [
        Contig(name, length_in(assembly, name) or length) for name, (length, _) in merged.lengths.items()
    ]
    return Together(found, assembly, renamed)


def _recognized(files: Sequence[FileSequences]) -> str | None:
    """The assembly of those that declare their lengths; of ends of records where none does."""
    declaring = [file for file in files if not file.measured]
    longest: dict[str, Contig] = {}
    for file in declaring or files:
        for contig in file.contigs:
            known = longest.get(contig.name)
            if known is None or (contig.length or 0) > (known.length or 0):
                longest[contig.name] = contig
    return assembly_of(list(longest.values()), measured=not declaring)


class _Merged:
    """Sequences by name, with their lengths and whether these are measured."""

    def __init__(self, contigs: Sequence[Contig]) -> None:
        self.lengths: dict[str, tuple[int | None, bool]] = {
            contig.name: (contig.length, False) for contig in contigs
        }

    def add(self, file: FileSequences) -> Renamed:
        """What is not there yet under any name is added, and lengths that are better known here."""
        renamed = self.names_in(file)
        names_here = {theirs: name for name, theirs in renamed.items()}
        for contig in file.contigs:
            name = names_here.get(contig.name, contig.name)
            length, measured = self.lengths.get(name, (None, True))
            if length is None or measured:
                longer = max(contig.length or 0, length or 0) or None
                self.lengths[name] = (longer, measured and file.measured)
        return renamed

    def names_in(self, file: FileSequences) -> Renamed:
        """What the file calls those that are here under another name."""
        own = {contig.name for contig in file.contigs}
        strange = [contig for contig in file.contigs if contig.name not in self.lengths]
        if not strange:
            return {}
        known = aliases(file.contigs, measured=file.measured)
        found: dict[str, str] = {}
        for contig in strange:
            for name in (*known.get(contig.name, ()), *_spellings(contig.name)):
                if name in self.lengths and name not in own and self._fits(name, contig, file.measured):
                    found.setdefault(name, contig.name)
                    break
        return found

    def _fits(self, name: str, contig: Contig, measured: bool) -> bool:
        length, is_measured = self.lengths[name]
        if length is None or contig.length is None or (measured and is_measured):
            return True
        if measured:
            return contig.length <= length
        return length <= contig.length if is_measured else length == contig.length


def _spellings(name: str) -> tuple[str, ...]:
    """How others write it: chr1 and 1."""
    if name in _MITOCHONDRIA:
        return _MITOCHONDRIA[name]
    return (name.removeprefix("chr"),) if name.startswith("chr") else (f"chr{name}",)
