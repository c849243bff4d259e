"""The names of features and where they are, from lines of GFF, GFF3, GTF and BED.

One line each for sort: TERM, RANK, CONTIG, START, END, LABEL, NAME by TAB. TERM is a word of NAME in lower
case; RANK orders what has the same term; LABEL is what a reader shows the feature by. Texts but the term are
percent-encoded, so that they have no white space; positions are half-open and count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote

MOST_NAME_BYTES: Final = 200
"""Of a name that is found; a longer one is a description."""
GENE, OTHER, TRANSCRIPT, PART = range(4)
"""Ranks. A part names its gene in files where nothing larger does."""

_PARTS: Final = frozenset(
    b"exon CDS intron UTR 5UTR 3UTR five_prime_UTR three_prime_UTR start_codon stop_codon Selenocysteine "
    b"stop_codon_redefined_as_selenocysteine match_part".split()
)
_WHOLES: Final = frozenset(b"chromosome scaffold contig supercontig region".split())
"""Sequences themselves, which readers find by their own names."""
_GFF_COLUMNS: Final = 9
_ITEM: Final = re.compile(rb'(?<![^\s=;"])([^\s=;"]++)(?:\s*+=|\s)\s*+(?:"([^"]*)"|([^;]*))\s*;?')
_OF_GENE: Final = ("Name", "gene_name", "gene", "gene_id", "ID", "Alias", "gene_synonym", "locus_tag")
_OF_TRANSCRIPT: Final = ("Name", "transcript_name", "transcript_id", "ID", "Alias")
_OF_OTHERS: Final = ("Name", "ID", "Alias", "locus_tag")
"""Attributes with names, by what has them; the first that is there is what a reader shows it by."""
_WANTED: Final = frozenset(key.encode() for key in {*_OF_GENE, *_OF_TRANSCRIPT, *_OF_OTHERS})
_NUMBER: Final = re.compile(rb"[-+]?[\d.]+(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)", re.IGNORECASE)


class NameLines:
    """Reads lines of one file, in any order; `names` counts what was given."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.names = 0
        self.left_out = 0
        """Names beyond the most, and ones that are too long."""
        self._has_genes = False
        self._has_transcripts = False

    def is_over(self, line: bytes) -> bool:
        """Whether no records follow."""
        return False

    def of_line(self, line: bytes) -> Iterator[bytes]:
        """What a line names; nothing when it is no record."""
        raise NotImplementedError

    def _given(
        self, rank: int, contig: bytes, start: int, end: int, label: str, names: Iterable[str]
    ) -> Iterator[bytes]:
        where = b"%d\t%b\t%d\t%d\t%b" % (rank, _quoted(_text(contig)), start, end, _quoted(label))
        for name in dict.fromkeys(names):
            if not name:
                continue
            if len(name) > MOST_NAME_BYTES or self.names >= self._most:
                self.left_out += 1
                continue
            self.names += 1
            of_name = b"" if name == label else _quoted(name)
            for word in dict.fromkeys(name.lower().split()):
                yield b"%b\t%b\t%b\n" % (word.encode("utf-8", "replace"), where, of_name)


class GffNames(NameLines):
    """GFF, GFF3 and GTF: by the attributes that name a feature."""

    def is_over(self, line: bytes) -> bool:
        """Sequences follow the records of some GFF3."""
        return line[:1] == b">" or line.startswith(b"##FASTA")

    def of_line(self, line: bytes) -> Iterator[bytes]:
        """Raises nothing: what cannot be read names nothing."""
        columns = line.split(b"\t", _GFF_COLUMNS - 1)
        if len(columns) < _GFF_COLUMNS or columns[0][:1] in (b"", b"#", b">"):
            return
        kind = columns[2]
        rank = OTHER
        if kind in _PARTS:
            if self._has_genes or self._has_transcripts:
                return
            rank = PART
        elif kind in _WHOLES:
            return
        elif kind.endswith(b"gene"):
            rank, self._has_genes = GENE, True
        elif kind.endswith((b"RNA", b"transcript", b"gene_segment")):
            rank, self._has_transcripts = TRANSCRIPT, True
        start, end = _whole(columns[3]), _whole(columns[4])
        if start is None or end is None or not 0 < start <= end:
            return
        found = _attributes(columns[8])
        yield from self._given(rank, columns[0], start - 1, end, *self._names_of(found, rank))

    def _names_of(self, found: dict[str, list[str]], rank: int) -> tuple[str, list[str]]:
        if rank == PART:
            keys: tuple[str, ...] = ("gene_name", "gene", "gene_id")
        elif rank == GENE:
            keys = _OF_GENE
        elif rank == TRANSCRIPT:
            # Of files without lines of genes, as StringTie writes them.
            keys = _OF_TRANSCRIPT if self._has_genes else (*_OF_TRANSCRIPT, "gene_name", "gene", "gene_id")
        else:
            keys = _OF_OTHERS
        label = next((found[key][0] for key in keys if found.get(key)), "")
        return label, [name for key in keys for name in found.get(key, ())]


class BedNames(NameLines):
    """BED: by column 4, and by column 13 of genes as UCSC's tables have them."""

    def of_line(self, line: bytes) -> Iterator[bytes]:
        """Raises nothing: what cannot be read names nothing."""
        columns = line.split(b"\t")
        if len(columns) < 4 or columns[0][:1] in (b"", b"#"):
            return
        start, end = _whole(columns[1]), _whole(columns[2])
        if start is None or end is None or not 0 <= start <= end:
            return
        names = [columns[3], *(columns[12:13] if len(columns) > 12 and columns[9].isdigit() else ())]
        words = [
            _text(name.strip()) for name in names if name not in (b"", b".") and not _NUMBER.fullmatch(name)
        ]
        if words:
            yield from self._given(OTHER, columns[0], start, end, words[-1], words)


def _attributes(column: bytes) -> dict[str, list[str]]:
    """Those that may name a feature, in GFF3's spelling or GTF's."""
    found: dict[str, list[str]] = {}
    for item in _ITEM.finditer(column):
        key = item[1]
        if key not in _WANTED:
            continue
        if item[2] is not None:
            values = [_text(item[2])]
        else:
            values = [unquote(value, errors="replace") for value in _text(item[3].strip()).split(",")]
        found.setdefault(key.decode(), []).extend(value for value in values if value and value != ".")
    return found


def _whole(text: bytes) -> int | None:
    """Also as 134.0, which is written about."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
        return int(number) if number.is_integer() else None
    except (ValueError, OverflowError):
        return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _quoted(text: str) -> bytes:
    return quote(text, safe="", errors="replace").encode()
