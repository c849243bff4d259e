"""Records of a region as columns: `chrom`, `start`, `end` first, half-open from 0, then the format's own.

Which columns there are and what type they have is the format's, not that of the region's records: frames of
several regions can be put together, and an empty one has the same columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from gooseherd.client.libraries import library
from gooseherd.client.textlines import place
from gooseherd.domain import formats
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import Format
from gooseherd.domain.genome_index import Columns

FrameKind = Literal["pandas", "polars", "pyranges"]


@dataclass(frozen=True, slots=True)
class RegionTable:
    """Columns of one length, and which of them are whole or broken numbers; the others are text."""

    columns: Mapping[str, list[Any]]
    numbers: Mapping[str, type[int | float]]


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
_OPTIONAL: Final = {formats.BED: len(_BED12), formats.BEDPE: 4}
"""Of the names above, from the end: so many may be missing, and are columns only where a record has them."""
_PLACE: Final[Mapping[str, type[int | float]]] = {"start": int, "end": int}
_VCF: Final = Columns(preset=2, zero_based=False, name=1, begin=2, end=0, comment=b"#")
_SAM: Final = Columns(preset=1, zero_based=False, name=3, begin=4, end=0, comment=b"@")
_SAM_FIELDS: Final = _names("name flag _ _ mapq cigar mate_chrom mate_start tlen seq qual")
_SAM_NAMES: Final = (*(name for name in _SAM_FIELDS if name != "_"), "tags")
_CALL_NAMES: Final = _names("id ref alt qual filter info")
_OF_CALLS: Final = frozenset({"chrom", "start", "end", *_CALL_NAMES})
"""What no sample can be called: its column gets `_sample` behind the name."""
_FEATURE_NAMES: Final = _names("source type score strand phase attributes")


def table_of(format_: Format, lines: Iterable[str], header: Sequence[str] = ()) -> RegionTable:
    """The columns of records as `records` gives them; `header` is a VCF's own lines, for its samples.

    Raises:
        InvalidInput: records of that format have no table here.
    """
    if format_ in (formats.BAM, formats.CRAM, formats.SAM):
        whole = dict.fromkeys(("flag", "mapq", "tlen", "mate_start"), int)
        return _table(_SAM_NAMES, whole, map(_read, lines))
    if format_ is formats.VCF:
        titles = next((line.split("\t")[8:] for line in header if line.startswith("#CHROM")), [])
        samples = [f"{title}_sample" if title in _OF_CALLS else title for title in titles]
        calls = (_call(line, samples) for line in lines)
        return _table((*_CALL_NAMES, *samples), {"qual": float}, calls)
    if format_ in (formats.GFF, formats.GFF3, formats.GTF):
        return _table(_FEATURE_NAMES, {"score": float, "phase": float}, map(_feature, lines))
    names = _OF_BED.get(format_)
    if names is None:
        raise InvalidInput("format", f"there is no table of {format_.name}: take the lines of records()")
    always = names[: len(names) - _OPTIONAL.get(format_, 0)]
    numbers = {name: float for name in names if name in _NUMBERS}
    return _table(always, numbers, (_interval(line, names) for line in lines))


def signal_table(contig: str, values: Iterable[tuple[int, int, float]]) -> RegionTable:
    """The values (start, end, value) of a bigWig."""
    rows = ({"chrom": contig, "start": start, "end": end, "value": value} for start, end, value in values)
    return _table(("value",), {"value": float}, rows)


def frame_of(kind: FrameKind, table: RegionTable) -> Any:
    """The columns as a frame of that library.

    Raises:
        LibraryMissing: it is not installed.
        InvalidInput: no such kind.
    """
    check_kind(kind)
    numbers = {name: of for name, of in table.numbers.items() if name in table.columns}
    if kind == "polars":
        polars = library("polars")
        types = {int: polars.Int64, float: polars.Float64}
        schema = {name: types[numbers[name]] if name in numbers else polars.String for name in table.columns}
        return polars.DataFrame(dict(table.columns), schema=schema, strict=False)
    types = {int: "int64", float: "float64"}
    frame = library("pandas").DataFrame(dict(table.columns))
    frame = frame.astype({name: types[of] for name, of in numbers.items()})
    if kind == "pandas":
        return frame
    names = {"chrom": "Chromosome", "start": "Start", "end": "End", "strand": "Strand"}
    return library("pyranges").PyRanges(frame.rename(columns=names))


def check_kind(kind: str) -> None:
    """Raises InvalidInput: no such kind of frame."""
    if kind not in get_args(FrameKind):
        raise InvalidInput("kind", f"{kind!r} is none of {', '.join(get_args(FrameKind))}")


def _table(
    names: Sequence[str],
    numbers: Mapping[str, type[int | float]],
    rows: Iterable[dict[str, Any]],
) -> RegionTable:
    """Rows as columns: the place and `names` even without rows, then others; what a row lacks is None."""
    columns: dict[str, list[Any]] = {name: [] for name in ("chrom", "start", "end", *names)}
    whole = {name for name, of in numbers.items() if of is int}
    for count, row in enumerate(rows):
        for name, value in row.items():
            if name not in columns:
                columns[name] = [None] * count
            columns[name].append(int(value) if name in whole else value)
        if len(row) != len(columns):
            for values in columns.values():
                if len(values) == count:
                    values.append(None)
    return RegionTable(columns, {**_PLACE, **numbers})


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
    row = dict(zip(_CALL_NAMES, (id_, ref, alt, _number(qual), filter_, info), strict=True))
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
