"""Where reference sequences can be had, as SOURCE_REFERENCES says it, and which source to ask first."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.assemblies import assembly_name, fitting_assemblies, known_assemblies
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.reference import ReferenceSequence

SETTING: Final = "SOURCE_REFERENCES"
_M5: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_PLACE_OF_M5: Final = "{m5}"


@dataclass(frozen=True, slots=True)
class ReferenceSource:
    """A FASTA, or with {m5} in its URL one sequence at a time, bare or as FASTA."""

    name: str
    """An assembly, or the M5 of one of its sequences."""
    url: str

    @property
    def by_m5(self) -> bool:
        return _PLACE_OF_M5 in self.url

    def url_of(self, m5: str) -> str:
        """The URL of one sequence; of a FASTA its own."""
        return self.url.replace(_PLACE_OF_M5, m5)


def parse_references(words: Collection[str]) -> tuple[ReferenceSource, ...]:
    """Raises Misconfigured for what is not NAME=URL."""
    found = []
    for word in words:
        name, _, url = word.partition("=")
        if not _NAME.fullmatch(name.strip()) or ":" not in url:
            raise Misconfigured(
                SETTING, "NAME=https://…, comma-separated; NAME is an assembly or the M5 of a sequence"
            )
        found.append(ReferenceSource(name.strip(), url.strip()))
    return tuple(found)


def in_order(
    sources: Sequence[ReferenceSource], wanted: Collection[ReferenceSequence]
) -> list[ReferenceSource]:
    """The sources that may have some of `wanted`, the likeliest first.

    A source with the M5 for a name; those with the name of the assembly, by the header or by names and
    lengths of the sequences; those that are asked for one sequence at a time; others, unless their name is
    that of another assembly.
    """
    m5s = {sequence.m5 for sequence in wanted}
    named = {assembly_name(sequence.assembly) for sequence in wanted if sequence.assembly}
    named |= fitting_assemblies([Contig(sequence.name, sequence.length) for sequence in wanted])
    known = known_assemblies()

    def rank(source: ReferenceSource) -> int | None:
        if source.name.lower() in m5s:
            return 0
        if assembly_name(source.name) in named:
            return 1
        if source.by_m5:
            return 2
        if _M5.fullmatch(source.name.lower()) or (named and assembly_name(source.name) in known):
            return None
        return 3

    ranked = [(order, source) for source in sources if (order := rank(source)) is not None]
    return [source for _, source in sorted(ranked, key=lambda pair: pair[0])]
