"""The text formats by their own specifications: where they differ from one line, one interval."""

from __future__ import annotations

import re
from operator import add

from gooseherd.domain.contig import CONTIG_LINE, REGION_LINE, Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import bad_line, refuse
from gooseherd.processing.formats.records import INT, MAX_COORDINATE, WIDE_RECORDS, Records
from gooseherd.processing.formats.sam_header import MAX_CONTIGS, contigs_of
from gooseherd.processing.formats.variant_end import HINTS, variant_end


class Bed(Records):
    """BED and its kin; `columns` is what the kin demands (UCSC's format pages)."""

    may_be_spaced = True
    may_have_heading = True

    def __init__(self, name: str, columns: int) -> None:
        super().__init__(name)
        self.columns = columns
        if columns > 3:
            self.quick = re.compile(
                rb"^(?!track|browser)([^\t\n#][^\t\n]*)\t%b\t%b(?:\t[^\t\n]*){%d}(?:\t[^\n]*)?\n"
                % (INT, INT, columns - 3),
                re.MULTILINE,
            )


class Gff(Records):
    """GFF2, GTF and GFF3: positions from 1, both ends included."""

    columns = 9
    begin, end = 3, 4
    lowest = 1
    may_have_heading = True
    quick = re.compile(
        rb"^(?!track|browser)([^\t\n#>][^\t\n]*)\t[^\t\n]*\t[^\t\n]*\t"
        + INT
        + rb"\t"
        + INT
        + rb"(?:\t[^\t\n]*){4}(?:\t[^\n]*)?\n",
        re.MULTILINE,
    )
    positions = re.compile(rb"(?:[^\t]*\t){3}\d+\t\d+(?:\t|\Z)")

    def sequence_line(self, number: int, line: bytes) -> bool:
        """As `Records`; where records go on behind the sequences, files were concatenated."""
        if line.startswith(b">"):
            if self.positions.match(line):
                raise refuse(
                    number,
                    "the sequence name starts with >, which would begin a section of sequences (FASTA)",
                )
            self.over = True
        if not self.over or line.startswith(b"#"):
            return False
        like_a_record = line.count(b"\t") >= self.end and line.strip()
        self.over = line.startswith(b">") or not like_a_record
        return self.over

    def comment(self, number: int, line: bytes) -> None:
        if line.rstrip() == b"##FASTA":
            self.over = True
            self.count("sequence_lines")
        elif line.rstrip() == b"###":
            self.count("separator_lines")
        elif region := REGION_LINE.fullmatch(line):
            # They may stand anywhere; a reader of the sorted file looks for them on top.
            if line in self.header:
                self.count("comment_lines")
                return
            self.header.append(line)
            self.lengths.setdefault(region[1], int(region[3]))
            if len(self.lengths) > MAX_CONTIGS:
                raise refuse(number, f"more than {MAX_CONTIGS} sequence regions")
        else:
            super().comment(number, line)


class Gff2(Gff):
    """GFF2, where the attributes may be missing (gmod.org/wiki/GFF2)."""

    columns = 8
    quick = re.compile(Gff.quick.pattern.replace(b"{4}", b"{3}"), re.MULTILINE)


class Vcf(Records):
    """VCF: the header is kept above the records, in its own order (VCFv4.5 §1.4)."""

    columns = 8
    begin = 1
    positions = re.compile(rb"[^\t]*\t\d+(?:\t|\Z)")
    quick = re.compile(
        rb"^(?!track|browser)([^\t\n#][^\t\n]*)\t"
        + INT
        + rb"\t[^\t\n]*\t([^\t\n]*)(?:\t[^\t\n]*){4}(?:\t[^\n]*)?\n",
        re.MULTILINE,
    )
    _INFO = re.compile(rb"^(?:[^\t\n]*\t){7}([^\t\n]*)", re.MULTILINE)
    _END = re.compile(rb"^(?:(?!END=)[^;\n]*;)*END=(\d{1,18})", re.MULTILINE)
    _LENGTH = re.compile(rb"[<,]length=(\d{1,10})[,>]")
    # What a name may be made of (VCFv4.5 §1.4.7); any other would break its line.
    _DECLARABLE = re.compile(rb"[0-9A-Za-z!#$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*")
    _COLUMNS = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.titles: bytes | None = None
        self.named = 0
        """Columns that the titles name; known at the first record."""

    def take_quickly(self, data: bytes) -> bool:
        found = self.quick.findall(data)
        if len(found) != data.count(b"\n"):
            return False
        if any(line.count(b"\t") + 1 != self.named for line in data[:-1].split(b"\n")):
            return False
        chroms, positions, refs = zip(*found, strict=True)
        begins = list(map(int, positions))
        if any(hint in data for hint in HINTS) or min(begins) < 1:
            return False
        top = max(map(add, begins, map(len, refs))) - 1
        if b"END=" in data:
            infos = b"\n".join(self._INFO.findall(data))
            top = max(top, max(map(int, self._END.findall(infos)), default=0))
        if max(begins) > MAX_COORDINATE or top > MAX_COORDINATE:
            return False
        self.follow(chroms, begins)
        self.passed(set(chroms), len(found), max(top, 0))
        return True

    def comment(self, number: int, line: bytes) -> None:
        if line.startswith(b"#CHROM"):
            given = line
            if line.endswith(b" ") and line.count(b"\t") < self.columns:
                # With it htslib does not know the line; behind a sample's name it is part of that.
                line = line.rstrip(b" ")
            if line.count(b"\t") == self.columns and line.endswith(b"\tFORMAT"):
                # No sample follows: htslib does not read such a line.
                line = line.removesuffix(b"\tFORMAT")
            if line != given and self.titles is None:
                self.count("respelt_titles")
            if self.titles is not None and line != self.titles:
                raise refuse(number, "a second header with other columns: these are several VCFs in one file")
            if self.titles is None:
                self.titles = line
                return
        if self.records or self.titles is not None:
            self.count("repeated_header_lines")
            return
        if not line.startswith(b"##"):
            # htslib would take it for that of the titles.
            self.count("comment_lines")
            return
        # htslib knows a VCF by its first line, and there can be only one.
        first = b"##fileformat="
        if line.startswith(first) and any(above.startswith(first) for above in self.header):
            self.count("repeated_header_lines")
            return
        self.header.append(line)
        if contig := CONTIG_LINE.match(line):
            length = self._LENGTH.search(line)
            self.lengths[contig[1]] = int(length[1]) if length else 0
            if len(self.lengths) > MAX_CONTIGS:
                raise refuse(number, f"more than {MAX_CONTIGS} contigs declared")

    def judge_columns(self, number: int, fields: list[bytes]) -> None:
        # htslib leaves out columns that have no titles, and refuses records with fewer columns than titles.
        if not self.records:
            self._judge_header(number, fields)
        if len(fields) < self.named or self.named < self.columns:
            raise bad_line(number, f"{len(fields)} columns, but the #CHROM line names {self.named}")
        if len(fields) > self.named:
            self.count(WIDE_RECORDS)

    def _judge_header(self, number: int, fields: list[bytes]) -> None:
        if self.titles is None:
            if not any(line.startswith(b"##fileformat=VCF") for line in self.header):
                raise refuse(
                    number, "a record without a header: neither ##fileformat=VCF nor #CHROM stands above it"
                )
            if len(fields) > self.columns:
                raise refuse(number, "the #CHROM line is missing, so the samples have no names")
            self.count("added_header_lines")
            self.titles = b"\t".join(self._COLUMNS)
        self.named = self.titles.count(b"\t") + 1

    def extent(self, number: int, line: bytes, fields: list[bytes]) -> int:
        end, _ = variant_end(self.coordinate(number, fields, self.begin), fields)
        if end > MAX_COORDINATE:
            raise bad_line(number, f"the record ends at {end}, above {MAX_COORDINATE}")
        return end

    def finish(self) -> bytes:
        # htslib knows a VCF by its first line.
        top = [line for line in self.header if line.startswith(b"##fileformat=")][:1]
        rest = [line for line in self.header if not line.startswith(b"##fileformat=")]
        if self.titles is None:
            super().finish()
            if not any(line.startswith(b"##fileformat=VCF") for line in top):
                raise StepFailed.because(
                    Reason.SOURCE_INVALID, "no VCF header: neither ##fileformat=VCF nor #CHROM was found"
                )
            self.count("added_header_lines")
            self.titles = b"\t".join(self._COLUMNS)
        if not top:
            self.count("added_header_lines")
            top = [b"##fileformat=VCFv4.2"]
        self.header = [*top, *rest, self.titles]
        return super().finish()

    def completed(self, header: bytes) -> bytes:
        """With a line for each sequence that none declares, by name; length unknown, so left out."""
        lacking = sorted(filter(self._DECLARABLE.fullmatch, self.seen - self.lengths.keys()))
        if not lacking or self.titles is None:
            return header
        self.count("added_header_lines", len(lacking))
        above = header[: -len(self.titles) - 1]
        return b"".join((above, *(b"##contig=<ID=%b>\n" % name for name in lacking), self.titles, b"\n"))

    def contigs(self) -> tuple[Contig, ...]:
        return tuple(Contig(c.name, c.length or None) for c in super().contigs())


class Sam(Records):
    """SAM goes on whole, header included: samtools is its judge. Only bytes and header are checked here."""

    columns = 11  # SAMv1 §1.4
    called = "reads"

    def block(self, first: int, data: bytes) -> bytes:
        if self.records and b"\0" not in data and b"\r" not in data and b"\n\n" not in data and data[0] != 10:
            self.records += data.count(b"\n")
            return data
        return super().block(first, data)

    def take_quickly(self, data: bytes) -> bool:
        return False

    def line(self, number: int, line: bytes) -> bytes:
        line = line.rstrip(b"\r")
        if not line:
            self.count("blank_lines")
            return b""
        if not self.records and line.startswith(b"@") and line[3:4] == b"\t":
            self.header.append(line)
            return line + b"\n"
        if not self.records:
            if (columns := line.count(b"\t") + 1) < self.columns:
                raise refuse(number, f"{columns} columns, but a read in SAM has {self.columns} or more")
            self._declare()
        self.records += 1
        return line + b"\n"

    def _declare(self) -> None:
        self.lengths = {c.name.encode(): c.length or 0 for c in contigs_of(b"\n".join(self.header))}

    def finish(self) -> bytes:
        super().finish()
        if not self.records:
            self._declare()
        return b""
