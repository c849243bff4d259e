"""Detects a file's format by its first bytes, so that a wrong catalog entry is named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import (
    BAM,
    BCF,
    BED,
    BEDGRAPH,
    BEDPE,
    BIGBED,
    BIGWIG,
    BROADPEAK,
    COOL,
    CRAM,
    EMBL,
    FASTA,
    GAPPEDPEAK,
    GENBANK,
    GFF,
    GFF3,
    GTF,
    HIC,
    INTERACT,
    INTERVAL_LIST,
    MACS,
    MCOOL,
    NARROWPEAK,
    PAF,
    PAIRS,
    SAM,
    SEG,
    TAGALIGN,
    TWOBIT,
    UCSC_TABLE,
    VCF,
    WIG,
    Family,
    Format,
)  # fmt: skip
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import Compression, Inflation, compression_of, inflate

_HEAD: Final = 1 << 16
TWICE: Final = "compressed twice"
_FIRST_CHARACTERS: Final = 32
"""Bytes of a text without a byte order mark that tell how its characters are encoded."""

_HTML: Final = "a web page (HTML)"
_XML: Final = "XML"
_POINTER: Final = "a Git LFS pointer instead of the file"
_ARCHIVE: Final = "a tar archive"
_HDF5: Final = "an HDF5 file"
_UTF_16: Final = "UTF-16 text"
_UTF_32: Final = "UTF-32 text"
_NO_TABLES: Final = frozenset({_HTML, _XML, _POINTER, _ARCHIVE, _UTF_16, _UTF_32})
"""Anything else that is text may be a table."""

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"BAM\1", BAM.name),
    *((b"CRAM%c" % version, CRAM.name) for version in range(1, 5)),
    (b"BCF\2", BCF.name),
    (b"BCF\4", BCF.name),
    (b"\xeb\xf2\x89\x87", BIGBED.name),
    (b"\x87\x89\xf2\xeb", BIGBED.name),
    (b"\x26\xfc\x8f\x88", BIGWIG.name),
    (b"\x88\x8f\xfc\x26", BIGWIG.name),
    (b"TBI\1", "a tabix index"),
    (b"BAI\1", "a BAM index"),
    (b"CSI\1", "a CSI index"),
    # A BED file of PLINK is something else altogether (PLINK 1.9, formats).
    (b"\x6c\x1b\x01", "a genotype table of PLINK"),
    (b"\x6c\x1b\x00", "a genotype table of PLINK"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG", "an image"),
    # A text may begin with the sequence PAR1; of a table, a Thrift structure follows.
    (b"PAR1\x15", "a Parquet table"),
    (b"\x89HDF", _HDF5),
    (b"HIC\0", HIC.name),
    (b"\x43\x27\x41\x1a", TWOBIT.name),
    (b"\x1a\x41\x27\x43", TWOBIT.name),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook, or another document of Microsoft Office"),
    # Seen only behind a first compression.
    *((magic, TWICE) for magic in (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0")),
)
_TEXT: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"##fileformat=VCF"), VCF.name),
    (re.compile(rb"##gff-version"), GFF3.name),
    (re.compile(rb"## pairs format"), PAIRS.name),
    (re.compile(rb"LOCUS {2,}\S"), GENBANK.name),
    (re.compile(rb"ID {3}[^\t\n;]++;[^\n]*+\n(?:XX|AC|PR|DT|DE)"), EMBL.name),
    (re.compile(rb"@(?:HD|SQ|RG|PG|CO)\t"), SAM.name),
    (re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)", re.IGNORECASE), _HTML),
    (re.compile(rb"\s*<(?:\?xml|!doctype|error|[a-z]++(?::[a-z]*+)?\s++xmlns)", re.IGNORECASE), _XML),
    (re.compile(rb"version https://git-lfs\.github\.com/"), _POINTER),
    (re.compile(rb"(?:(?:track|browser|#)[^\n]*\n)*(?:fixed|variable)Step\s"), WIG.name),
    (re.compile(rb'\s*\{\s*"'), "JSON"),
    (re.compile(rb">[^\t\n]*\n[A-Za-z*-]+\r?\n"), FASTA.name),
    (re.compile(rb"@[^\t\n]*\n[A-Za-z.]+\r?\n\+"), "FASTQ"),
)
_BY_COMMENT: Final = frozenset({VCF.name, GFF3.name, PAIRS.name})
"""Formats that begin with a comment, which programs pass on to what they make of such a file."""
_MOST_COMMENTS: Final = 4 << 20
_BINARY: Final = frozenset({BAM, CRAM, BCF, BIGBED, BIGWIG, TWOBIT, HIC, COOL, MCOOL})
_ONE_TEXT: Final[tuple[frozenset[str], ...]] = (
    frozenset({GFF.name, GFF3.name, GTF.name}),
    frozenset(f.name for f in (BED, NARROWPEAK, BROADPEAK, GAPPEDPEAK, TAGALIGN, INTERACT, BEDGRAPH)),
    frozenset({BEDGRAPH.name, WIG.name}),
    frozenset({BED.name, BEDPE.name}),
    frozenset({BED.name, PAF.name}),
    frozenset({BED.name, SEG.name}),
    frozenset({BED.name, INTERVAL_LIST.name}),
    frozenset({SAM.name, INTERVAL_LIST.name}),
    frozenset({SAM.name, SEG.name}),
    frozenset({BED.name, MACS.name}),
    frozenset({BED.name, UCSC_TABLE.name}),
)
"""Formats that cannot be told from each other by their columns: one may stand for the other."""
_PACKED: Final[dict[Format, frozenset[Compression]]] = {
    BAM: frozenset({Compression.PLAIN, Compression.GZIP, Compression.BGZF, Compression.ZSTD}),
    BCF: frozenset({Compression.PLAIN, Compression.GZIP, Compression.BGZF, Compression.ZSTD}),
    # Their readers jump about in the file itself.
    CRAM: frozenset({Compression.PLAIN}),
    BIGBED: frozenset({Compression.PLAIN}),
    BIGWIG: frozenset({Compression.PLAIN}),
    TWOBIT: frozenset({Compression.PLAIN}),
    HIC: frozenset({Compression.PLAIN}),
    COOL: frozenset({Compression.PLAIN}),
    MCOOL: frozenset({Compression.PLAIN}),
}
_OWN: Final = frozenset({Compression.GZIP, Compression.BGZF})


def _columns(whole: bytes) -> dict[str, re.Pattern[bytes]]:
    """What a line of each format looks like, when `whole` is what its numbers look like; a space is a TAB."""
    return {
        name: re.compile(rb"[^\t]+\t" + columns.replace(b" ", rb"\t") + rb"(?:\t.*)?")
        for name, columns in (
            (
                VCF.name,
                rb"%b [^\t]* [ACGTNacgtn]+ [^\t]+ (?:[\d.eE+-]+|\.) [^\t]+ [^\t]*[^\t\d][^\t]*" % whole,
            ),
            (GFF.name, rb"[^\t]* [^\t]* %b %b [^\t]+ [+.?-] [012.]" % (whole, whole)),
            (SAM.name, rb"%b [^\t]+ %b %b (?:\*|(?:\d+[MIDNSHP=X])+) [^\t]+ %b -?%b" % ((whole,) * 5)),
            (BED.name, rb"%b %b" % (whole, whole)),
            (BEDPE.name, rb"-?%b -?%b [^\t]+ -?%b -?%b" % ((whole,) * 4)),
            (PAF.name, rb"%b %b %b [+-] [^\t]+ %b %b %b %b %b %b" % ((whole,) * 9)),
            (PAIRS.name, rb"[^\t]+ %b [^\t]+ %b(?: [+.-] [+.-])?" % (whole, whole)),
            (BEDGRAPH.name, rb"%b %b [-+.\deE]+" % (whole, whole)),
            # Too much looks like these for a guess: they are looked for where the catalog says so.
            (SEG.name, rb"[^\t]+ %b %b [^\t]+" % (whole, whole)),
            (
                UCSC_TABLE.name,
                rb"(?:[^\t]+ )?[^\t]+ [+-]" + rb" %b" * 5 % ((whole,) * 5) + rb" [\d,]+ [\d,]+",
            ),
        )
    }


_COLUMNS: Final = _columns(rb"\d{1,10}")
"""What the columns of a line without any header look like. A line may look like several formats: it is the
one that the catalog names, or else the first of these."""
_NO_GUESSES: Final = frozenset({SEG.name, UCSC_TABLE.name})
_SPELT_ANYHOW: Final = _columns(rb"[\x20+]*\d[\d.eE+\x20]*")
"""The same where positions are written as the readers of text take them (1e3, 10.0, +7), for the format that
the catalog names."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What the first bytes show. `content`: a format's name, or words for something else; None: unknown."""

    compression: Compression
    content: str | None
    size: int
    head: bytes


def detect(path: Path) -> Detection:
    """Read the first bytes, through the compression if there is one this code can read.

    Raises:
        StepFailed: the compression is broken in the first 64 KiB.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        raw = stream.read(_HEAD)
        compression = compression_of(raw)
        head = raw
        if compression not in (Compression.PLAIN, Compression.ZIP):
            stream.seek(0)
            head = b""
            for part in inflate(stream, Inflation(), size=size, max_bytes=1 << 40):
                head += part
                if len(head) >= _HEAD:
                    break
    return Detection(compression, _content(head), size, head)


def require(path: Path, wanted: Format) -> Detection:
    """Detect the format of `path` and refuse what is certainly not `wanted`.

    BAM and BCF, which bring their own compression, may be packed as Zstandard; their readers do not
    know that, and what is inside is to be unpacked and looked at by itself.

    Raises:
        StepFailed: source_invalid, naming both formats.
    """
    found = detect(path)
    if found.size == 0:
        raise StepFailed.because(Reason.SOURCE_INVALID, "the file is empty")
    if found.content == wanted.name and found.compression not in _PACKED.get(wanted, (found.compression,)):
        raise StepFailed.because(
            Reason.SOURCE_INVALID, f"the {wanted.name} is {found.compression}-compressed: unpack it first"
        )
    content = found.content
    if content == _HDF5 and wanted in (COOL, MCOOL):
        content = wanted.name
        if found.compression is not Compression.PLAIN:
            raise StepFailed.because(
                Reason.SOURCE_INVALID, f"the {wanted.name} is {found.compression}-compressed: unpack it first"
            )
    if content == TWICE and found.compression in _PACKED.get(wanted, frozenset()) - _OWN:
        content = wanted.name
    if content is None and wanted.family is not Family.TABLE:
        content = _by_columns(found.head, wanted)
    elif content in _BY_COMMENT and content != wanted.name and _kin(wanted) & _SPELT_ANYHOW.keys():
        # What is left of a file that this one was made of: what its records are is what it is.
        content = wanted.name if _by_records(path, wanted) == wanted.name else content
    if content is None and wanted in _BINARY:
        what = "text" if is_text(found.head) else "something else"
        if found.compression is Compression.ZIP:
            what = f"{found.compression}-compressed"
        raise StepFailed.because(
            Reason.SOURCE_INVALID, f"the catalog says {wanted.name}, but the file is {what}"
        )
    alike = any({content, wanted.name} <= names for names in _ONE_TEXT)
    if content is not None and content != wanted.name and not alike:
        if wanted.family is Family.TABLE and content not in _NO_TABLES and not _is_magic(found.head):
            return found
        advice = ": save it as UTF-8" if content in (_UTF_16, _UTF_32) else ""
        raise StepFailed.because(
            Reason.SOURCE_INVALID, f"the catalog says {wanted.name}, but the file is {content}{advice}"
        )
    if wanted.family is not Family.TABLE and wanted not in _BINARY and _ends_lines_oddly(found.head):
        raise StepFailed.because(
            Reason.SOURCE_INVALID,
            "its lines end with carriage returns alone, as on old Macintoshes: make them newlines",
        )
    return found


def is_text(head: bytes) -> bool:
    """Whether these bytes could begin a text file: no NUL, hardly any control bytes."""
    controls = len(head) - len(head.translate(None, bytes(range(9)) + bytes(range(14, 32))))
    return b"\0" not in head and controls * 100 <= len(head)


def _is_magic(head: bytes) -> bool:
    return any(head.startswith(magic) for magic, _ in _MAGIC)


def _ends_lines_oddly(head: bytes) -> bool:
    """Whether what the tools take for the first line is many."""
    first = head.split(b"\n", 1)[0]
    return b"\r" in first.rstrip(b"\r")


def _by_columns(head: bytes, wanted: Format) -> str | None:
    """The format of the first line that is no comment, by its columns; `wanted` if it may be."""
    for line in head.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        if wanted is VCF and line.startswith(b"#CHROM"):
            return VCF.name
        if line.startswith((b"#", b"track", b"browser")) or not line.strip():
            continue
        # Cut by the end of what was looked at: columns may be missing.
        whole = line.endswith((b"\n", b"\r")) or len(head) < _HEAD
        return _of_columns(line.rstrip(b"\r\n"), wanted) if whole else None
    return None


def _by_records(path: Path, wanted: Format) -> str | None:
    """The format of the first record behind comments, however many these are; None: there is none."""
    rest = b""
    with path.open("rb") as stream:
        read = 0
        for part in inflate(stream, Inflation(), size=path.stat().st_size, max_bytes=1 << 40):
            read += len(part)
            *lines, rest = (rest + part).split(b"\n")
            record = next((line for line in lines if line.strip() and not line.startswith(b"#")), None)
            if record is not None or read > _MOST_COMMENTS:
                return None if record is None else _of_columns(record.rstrip(b"\r"), wanted)
    return _of_columns(rest, wanted) if rest and not rest.startswith(b"#") else None


def _kin(wanted: Format) -> frozenset[str]:
    return frozenset({wanted.name, *(name for names in _ONE_TEXT if wanted.name in names for name in names)})


def _of_columns(line: bytes, wanted: Format) -> str | None:
    if any(_SPELT_ANYHOW[name].fullmatch(line) for name in _kin(wanted) & _SPELT_ANYHOW.keys()):
        return wanted.name
    guesses = ((name, columns) for name, columns in _COLUMNS.items() if name not in _NO_GUESSES)
    return next((name for name, columns in guesses if columns.fullmatch(line)), None)


def _wide_text(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by the byte order mark; without one by a NUL beside each of the first characters."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return _UTF_32
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _UTF_16
    one, other = head[0:_FIRST_CHARACTERS:2], head[1:_FIRST_CHARACTERS:2]
    for characters, halves in ((one, other), (other, one)):
        if len(halves) > 1 and not any(halves) and b"\0" not in characters and is_text(characters):
            return _UTF_16
    return None


def _content(head: bytes) -> str | None:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return _ARCHIVE
    if wide := _wide_text(head):
        return wide
    text = head.removeprefix(b"\xef\xbb\xbf")
    for pattern, name in _TEXT:
        if pattern.match(text):
            return name
    return None
