"""Records of a region as columns: `chrom`, `start`, `end` first, half-open from 0, then the format's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

from gooseherd.client.libraries import library
from gooseherd.client.textlines import place
from gooseherd.domain import formats
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import Format
from gooseherd.domain.genome_index import Columns

FrameKind = Literal["pandas", "polars", "pyranges"]
Table = dict[str, list[Any]]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_BED12: Final = _names("name score strand thickStart thickEnd itemRgb blockCount blockSizes blockStarts")
_OF_BED: Final[dict[Format, Sequence[str]]] = {
    formats.BED: _BED12,
    formats.NARROWPEAK: _names("name score strand signalValue pValue qValue peak"),
    formats.BROADPEAK: _names("name score strand signalValue pValue qValue"),
    formats.GAPPEDPEAK: (*_BED12, "signalValue", "pValue", "qValue"),
    formats.TAGALIGN: _names("sequence score strand"),
    formats.INTERACT: _names(
        "name score value exp color sourceChrom sourceStart sourceEnd sourceName sourceStrand "
        "targetChrom targetStart targetEnd targetName targetStrand"
    ),
    formats.BEDPE: _names("chrom2 start2 end2 name score strand1 strand2"),
}
_NUMBERS: Final = frozenset(
    _names(
        "score thickStart thickEnd blockCount signalValue pValue qValue peak value sourceStart sourceEnd "
        "targetStart targetEnd start2 end2 qual phase"
    )
)
_VCF: Final = Columns(preset=2, zero_based=False, name=1, begin=2, end=0, comment=b"#")
_SAM: Final = Columns(preset=1, zero_based=False, name=3, begin=4, end=0, comment=b"@")
_SAM_FIELDS: Final = _names("name flag _ _ mapq cigar mate_chrom mate_start tlen seq qual")


def table_of(format_: Format, lines: Iterable[str], header: Sequence[str] = ()) -> Table:
    """The columns of records as `records` gives them; `header` is a VCF's own lines, for its samples.

    Raises:
        InvalidInput: records of that format have no table here.
    """
    if format_ in (formats.BAM, formats.CRAM, formats.SAM):
        return _columns(("flag", "mapq", "tlen", "mate_start"), map(_read, lines))
    if format_ is formats.VCF:
        titles = next((line.split("\t") for line in header if line.startswith("#CHROM")), [])
        return _columns((), (_call(line, titles[8:]) for line in lines))
    if format_ in (formats.GFF, formats.GFF3, formats.GTF):
        return _columns((), map(_feature, lines))
    names = _OF_BED.get(format_)
    if names is None:
        raise InvalidInput("format", f"there is no table of {format_.name}: take the lines of records()")
    return _columns((), (_interval(line, names) for line in lines))


def frame_of(kind: FrameKind, table: Table) -> Any:
    """The columns as a frame of that library.

    Raises:
        LibraryMissing: it is not installed.
        InvalidInput: no such kind.
    """
    if kind == "pandas":
        return library("pandas").DataFrame(table)
    if kind == "polars":
        return library("polars").DataFrame(table, strict=False, infer_schema_length=None)
    if kind == "pyranges":
        pyranges = library("pyranges")
        names = {"chrom": "Chromosome", "start": "Start", "end": "End", "strand": "Strand"}
        renamed = {names.get(name, name): values for name, values in table.items()}
        return pyranges.PyRanges(library("pandas").DataFrame(renamed))
    raise InvalidInput("kind", f"{kind!r} is none of pandas, polars, pyranges")


def _columns(whole: Sequence[str], rows: Iterable[dict[str, Any]]) -> Table:
    """Rows as columns; the first three are there though no row is, and what a row lacks is None."""
    table: Table = {"chrom": [], "start": [], "end": []}
    for count, row in enumerate(rows):
        for name, value in row.items():
            if name not in table:
                table[name] = [None] * count
            table[name].append(int(value) if name in whole else value)
        if len(row) != len(table):
            for values in table.values():
                if len(values) == count:
                    values.append(None)
    return table


def _place(line: str, columns: Columns) -> dict[str, Any]:
    name, start, end = place(line.encode("utf-8", "surrogateescape"), columns)
    return {"chrom": name.decode("utf-8", "surrogateescape"), "start": start, "end": end}


def _read(line: str) -> dict[str, Any]:
    fields = line.split("\t", 11)
    named = {name: value for name, value in zip(_SAM_FIELDS, fields, strict=False) if name != "_"}
    named["mate_start"] = str(int(named["mate_start"]) - 1)
    return {**_place(line, _SAM), **named, "tags": fields[11] if len(fields) > 11 else ""}


def _call(line: str, samples: Sequence[str]) -> dict[str, Any]:
    _, _, id_, ref, alt, qual, filter_, info, *rest = line.split("\t")
    row = {"id": id_, "ref": ref, "alt": alt, "qual": _number(qual), "filter": filter_, "info": info}
    titles = samples or [f"sample{number}" for number in range(len(rest))]
    return {**_place(line, _VCF), **row, **dict(zip(titles, rest, strict=False))}


def _feature(line: str) -> dict[str, Any]:
    chrom, source, type_, start, end, score, strand, phase, attributes = (line.split("\t") + [""] * 9)[:9]
    return {
        "chrom": chrom,
        "start": int(start) - 1,
        "end": int(end),
        "source": source,
        "type": type_,
        "score": _number(score),
        "strand": strand,
        "phase": _number(phase),
        "attributes": attributes,
    }


def _interval(line: str, names: Sequence[str]) -> dict[str, Any]:
    chrom, start, end, *rest = line.split("\t") if "\t" in line else line.split()
    row: dict[str, Any] = {"chrom": chrom, "start": int(start), "end": int(end)}
    for number, value in enumerate(rest):
        name = names[number] if number < len(names) else f"column_{number + 4}"
        convert: Callable[[str], Any] = _number if name in _NUMBERS else str
        row[name] = convert(value)
    return row


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
