"""The reference that a real CRAM leaves out: as SOURCE_REFERENCES names it, and by name for samtools."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pysam
from _reference import Differs, unpacked

from gooseherd.domain.ports.source import ignore_pause
from gooseherd.domain.processing import BringReferences
from gooseherd.sources.rules import OutboundRules
from gooseherd.worker.references import ReferenceRules, References


def sequences_by_m5(fasta: Path) -> dict[str, bytes]:
    """Upper-case bases by their MD5 (SAMv1 §1.3.2)."""
    found = {}
    for record in unpacked(fasta).split(b">")[1:]:
        bases = b"".join(record.split(b"\n")[1:]).replace(b"\r", b"").replace(b" ", b"").upper()
        found[hashlib.md5(bases, usedforsecurity=False).hexdigest()] = bases
    return found


def rules_with(fasta: Path) -> OutboundRules:
    place = fasta.resolve().as_uri()
    return OutboundRules.from_env(
        {
            "SOURCE_FILE_ROOTS": str(fasta.parent.resolve()),
            "SOURCE_REFERENCES": ",".join(f"{m5}={place}" for m5 in sequences_by_m5(fasta)),
        }
    )


@asynccontextmanager
async def brought_from(fasta: Path, home: Path) -> AsyncIterator[BringReferences]:
    """What a step is given by a service whose SOURCE_REFERENCES names the M5s of that FASTA."""
    rules = rules_with(fasta)
    sources = rules.sources()
    of_machine = ReferenceRules(sources=rules.reference_sources(), folder=home / "references")
    (home / "fetched").mkdir(exist_ok=True)
    references = References(of_machine, sources, home / "fetched")
    try:
        yield lambda needed, also: references.bring(needed, also, ignore_pause)
    finally:
        await references.close()
        await sources.close()


def named_for(cram: Path, fasta: Path, into: Path) -> Path:
    """The FASTA with the names that the CRAM's header has for its bases: samtools looks for these.

    Raises:
        Differs: the FASTA has other bases than the header says.
    """
    bases = sequences_by_m5(fasta)
    with pysam.AlignmentFile(str(cram), check_sq=False) as opened:
        lines = opened.header.to_dict()["SQ"]
    missing = [line["SN"] for line in lines if line.get("M5") not in bases]
    if missing:
        raise Differs(f"{fasta.name} does not have {missing[0]} of {cram.name}")
    into.write_bytes(b"".join(b">%s\n%s\n" % (line["SN"].encode(), bases[line["M5"]]) for line in lines))
    return into
