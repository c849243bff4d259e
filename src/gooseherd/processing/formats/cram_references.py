"""The reference sequences of a CRAM: which its reads are decoded with, and what to say when they are missing.

A reference is known by the M5 of its header line, never by its name. So the bytes that are made depend on
the CRAM alone, and no key says where its references came from (docs/adr/0026-references-by-m5.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import BringReferences, StepFailed
from gooseherd.domain.reference import BroughtReferences, ReferenceSequence
from gooseherd.processing.formats.cram import Containers, containers_of

_SETTING: Final = "SOURCE_REFERENCES"
_M5: Final = re.compile(r"[0-9a-fA-F]{32}")
PLACE: Final = re.compile(rb"\tUR:[^\t\n]*")
_SPELT_M5: Final = re.compile(rb"\tM5:[0-9a-fA-F]{32}")
_ANY_M5: Final = re.compile(r"\tM5:([^\t\n]*)")
_NOT_FETCHED: Final = re.compile(
    r"[Uu]nable to fetch reference #(\d+)|[Ff]ailed to populate reference for id (\d+)"
)
_LONGEST_NAME: Final = 80
_NO_M5: Final = (
    "its header line (@SQ) has no M5, without which no reference is known to be the right one: add it "
    "(samtools dict), or embed the reference"
)


@dataclass(frozen=True, slots=True)
class CramReferences:
    """What the containers of a CRAM declare, and what was brought for them."""

    containers: Containers
    sequences: Sequence[ReferenceSequence]
    """Of the header, in order; their M5 is empty when they have none."""
    brought: BroughtReferences | None = None

    @property
    def folder(self) -> Path | None:
        """Where tools find them; None: nothing of what they read is there."""
        return self.brought.folder if self.brought is not None and self.brought.configured else None

    def clean_header(self, header: bytes) -> bytes:
        """The header without places of references (UR), which htslib would open; nothing if it has none.

        References are looked for under the M5 as it is spelt.
        """
        clean = PLACE.sub(b"", header)
        if self.folder is not None:
            clean = _SPELT_M5.sub(lambda found: found[0][:4] + found[0][4:].lower(), clean)
        return b"" if clean == header else clean

    def missing(self, errors: Iterable[str]) -> StepFailed | None:
        """What tools that lacked a reference meant to say; None: they failed of something else."""
        for text in errors:
            if match := _NOT_FETCHED.search(text):
                number = int(match[1] or match[2])
                if number < len(self.sequences):
                    return self.refusal(self.sequences[number])
        return None

    def refusal(self, sequence: ReferenceSequence) -> StepFailed:
        """The CRAM cannot be decoded without that one."""
        name = sequence.name[:_LONGEST_NAME]
        if not sequence.m5:
            what, how = name, _NO_M5
        else:
            what, how = f"{name} (M5 {sequence.m5})", self._remedy(sequence)
        detail = f"the CRAM needs an external reference sequence, {what}: {how}"
        return StepFailed.because(Reason.SOURCE_INVALID, detail)

    def _remedy(self, sequence: ReferenceSequence) -> str:
        if self.brought is None or not self.brought.configured:
            return f"name a FASTA that has it in {_SETTING}, or embed it"
        if (other := self.brought.different.get(sequence.name)) is not None:
            source, m5 = other
            return (
                f"{source} of {_SETTING} has other bases by that name (M5 {m5}); add the FASTA that was used"
            )
        return f"no source in {_SETTING} has it; add one, or embed it"


async def bring_references(source: Path, header: bytes, bring: BringReferences) -> CramReferences:
    """Bring what the reads of the CRAM `source` are decoded with.

    Raises:
        StepFailed: source_invalid, some are missing, with what to do about it; or why they cannot be had.
    """
    containers = await asyncio.to_thread(containers_of, source)
    sequences = header_sequences(header)
    found = CramReferences(containers, sequences)
    needed = [sequences[number] for number in sorted(containers.references) if number < len(sequences)]
    if not needed and not containers.several:
        return found
    _refuse_paths(header)
    for sequence in needed:
        if not sequence.m5:
            raise found.refusal(sequence)
    wanted = {sequence.m5: sequence for sequence in sequences if sequence.m5}
    others: dict[str, ReferenceSequence] = {}
    if not containers.several:
        others, wanted = wanted, {sequence.m5: sequence for sequence in needed}
        others = {m5: sequence for m5, sequence in others.items() if m5 not in wanted}
    brought = await bring(tuple(wanted.values()), tuple(others.values()))
    found = CramReferences(containers, sequences, brought)
    for sequence in needed:
        if sequence.m5 not in brought.m5s:
            raise found.refusal(sequence)
    return found


def header_sequences(header: bytes) -> list[ReferenceSequence]:
    """The lines @SQ, in order (SAMv1 §1.3); an M5 that is no MD5 is left out."""
    lines = header.decode("utf-8", "replace").split("\n")
    return [_sequence(line) for line in lines if line.startswith("@SQ\t")]


def _sequence(line: str) -> ReferenceSequence:
    fields = [field.partition(":") for field in line.rstrip("\r").split("\t")[1:]]
    tags = {tag: value for tag, _, value in fields}
    name, length = tags.get("SN", ""), tags.get("LN", "")
    m5 = tags.get("M5", "")
    # contigs_of refuses what is no length.
    return ReferenceSequence(
        name,
        int(length) if length.isdigit() else 0,
        m5.lower() if _M5.fullmatch(m5) else "",
        tags.get("AS", ""),
    )


def _refuse_paths(header: bytes) -> None:
    """Tools look for a file of that name where references are: it must not lead anywhere else.

    Raises:
        StepFailed: source_invalid; an M5 is no MD5.
    """
    for value in _ANY_M5.findall(header.decode("utf-8", "replace")):
        if not _M5.fullmatch(value):
            detail = f"a header line has an M5 that is no MD5: {value[:_LONGEST_NAME]!r}"
            raise StepFailed.because(Reason.SOURCE_INVALID, detail)
