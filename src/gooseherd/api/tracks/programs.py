"""Lines for a shell, and for Python: the same files by region, without a browser."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from gooseherd.api.tracks.selection import (
    BED_LIKE,
    GFF_LIKE,
    TWO_ENDED,
    Place,
    Selection,
    ServedFile,
    Snippet,
    written,
)
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind

_ANYWHERE: Final[Place] = ("chr1", 0, 1_000_000)
"""Where nothing is known of the sequences."""
_KEY: Final = ', os.environ["GOOSEHERD_API_KEY"]'


def shell(selection: Selection) -> Snippet:
    """A command a file, and one for each part with more records."""
    place = selection.place or _ANYWHERE
    commands = [_command(one, one.place(place)) for file in selection.files for one in (file, *file.more)]
    return Snippet("\n".join(commands) + "\n")


def _command(file: ServedFile, place: Place) -> str:
    contig, start, end = place
    url, at = shlex.quote(file.data), shlex.quote(written(place))
    # A sequence may be called as an option is.
    options_end = "-- " if written(place).startswith("-") else ""
    if file.index is not None:
        if file.format in (formats.BAM, formats.CRAM):
            return f"samtools view {options_end}{url} {at}"
        if file.format is formats.VCF:
            return f"bcftools view -r {at} {url}"
        if file.format in GFF_LIKE | BED_LIKE | TWO_ENDED:
            return f"tabix {options_end}{url} {at}"
        if file.format is formats.FASTA:
            indexes = "".join(f"{shlex.quote(word)} " for word in _indexes_of_sequences(file))
            return f"samtools faidx {indexes}{options_end}{url} {at}"
    if file.format is formats.BIGWIG:
        return f"bigWigToBedGraph -chrom={shlex.quote(contig)} -start={start} -end={end} {url} /dev/stdout"
    if file.format is formats.TWOBIT:
        return f"twoBitToFa -seq={shlex.quote(contig)} -start={start} -end={end} {url} /dev/stdout"
    return f"curl --location --remote-name {url}"


def _indexes_of_sequences(file: ServedFile) -> Sequence[str]:
    """Options of samtools, which looks for them behind a token, unlike for those of records."""
    named = {"--fai-idx": file.index, "--gzi-idx": file.urls.get(Kind.GZI)}
    return [word for option, url in named.items() if url and file.has_token for word in (option, url)]


def python(selection: Selection) -> Snippet:
    """With the libraries that read each format."""
    place = selection.place or _ANYWHERE
    imports: set[str] = set()
    lines = []
    for file in selection.files:
        for one in (file, *file.more):
            needed, code = _reading(one, one.place(place))
            imports.update(needed.split())
            lines.append(f"# {one.title}\n{code}")
    return Snippet(
        "\n".join(sorted(f"import {name}" for name in imports)) + "\n\n" + "\n\n".join(lines) + "\n"
    )


def _reading(file: ServedFile, place: Place) -> tuple[str, str]:
    """The modules to import, separated by blanks, and what to do with them."""
    contig, start, end = place
    url, at = repr(file.data), f"{contig!r}, {start}, {end}"
    loop = f"    for record in file.fetch({at}):\n        print(record)"
    if file.index is not None:
        if file.format in (formats.BAM, formats.CRAM):
            return "pysam", f"with pysam.AlignmentFile({url}) as file:\n{loop}"
        if file.format is formats.VCF:
            return "pysam", f"with pysam.VariantFile({url}) as file:\n{loop}"
        if file.format in GFF_LIKE | BED_LIKE | TWO_ENDED:
            index = f", index={file.index!r}" if file.has_token else ""  # it would look behind the token
            return "pysam", f"with pysam.TabixFile({url}{index}) as file:\n{loop}"
        if file.format is formats.FASTA:
            return "pysam", _letters(file, place)
    if file.format is formats.BIGWIG:
        # pyBigWig's wheels on PyPI are built without what reads addresses; this one goes by their end.
        url = repr(f"{file.data}#.bw") if file.has_token else url
        return "pybigtools", f"with pybigtools.open({url}) as file:\n    print(list(file.records({at})))"
    if file.format is formats.TWOBIT:
        # The libraries of the field read files on disk alone.
        service, name = repr(file.data.partition("/files/")[0]), ", ".join(map(repr, file.name.split("/", 1)))
        letters = f"client.records({name}, {written(place)!r})"
        # The token of an address is for that address; a client shows a key.
        modules, key = ("gooseherd.client os", _KEY) if file.has_token else ("gooseherd.client", "")
        client = f"with gooseherd.client.GooseherdClient({service}{key}) as client:"
        return modules, f"{client}\n    print(*{letters}, sep='\\n')"
    if file.format in (formats.CSV, formats.TSV):
        separator = r', sep="\t"' if file.format is formats.TSV else ""
        return "pandas", f"print(pandas.read_csv({url}{separator}))"
    return "urllib.request", f"urllib.request.urlretrieve({url}, {file.title!r})"


def _letters(file: ServedFile, place: Place) -> str:
    contig, start, end = place
    if not file.has_token:
        return (
            f"with pysam.FastaFile({file.data!r}) as file:\n    print(file.fetch({contig!r}, {start}, {end}))"
        )
    # Its FastaFile takes indexes on disk alone, unless it finds them by the file's own address.
    words = (*_indexes_of_sequences(file), file.data, written(place))
    return f"print(pysam.faidx({', '.join(map(repr, words))}))"
