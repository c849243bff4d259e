"""Lines for a shell, and for Python: the same files by region, without a browser."""

from __future__ import annotations

import shlex

from gooseherd.api.tracks.selection import BED_LIKE, GFF_LIKE, TWO_ENDED, Selection, ServedFile, Snippet
from gooseherd.domain import formats


def shell(selection: Selection) -> Snippet:
    """A command a file."""
    region = selection.locus or "chr1:1-1000000"
    return Snippet("\n".join(_command(file, region) for file in selection.files) + "\n")


def _command(file: ServedFile, region: str) -> str:
    url, at = shlex.quote(file.data), shlex.quote(region)
    if file.index is not None:
        if file.format in (formats.BAM, formats.CRAM):
            return f"samtools view {url} {at}"
        if file.format is formats.VCF:
            return f"bcftools view -r {at} {url}"
        if file.format in GFF_LIKE | BED_LIKE | TWO_ENDED:
            return f"tabix {url} {at}"
        if file.format is formats.FASTA:
            return f"samtools faidx {url} {at}"
    if file.format is formats.BIGWIG:
        contig, _, span = region.rpartition(":")
        start, _, end = span.partition("-")
        span = f"-start={int(start) - 1} -end={end}"
        return f"bigWigToBedGraph -chrom={shlex.quote(contig)} {span} {url} /dev/stdout"
    return f"curl --location --remote-name {url}"


def python(selection: Selection) -> Snippet:
    """With the libraries that read each format."""
    contig, start, end = selection.place or ("chr1", 0, 1_000_000)
    place = f"{contig!r}, {start}, {end}"
    imports: set[str] = set()
    lines = []
    for file in selection.files:
        needed, code = _reading(file, place)
        imports.add(needed)
        lines.append(f"# {file.title}\n{code}")
    return Snippet(
        "\n".join(sorted(f"import {name}" for name in imports)) + "\n\n" + "\n\n".join(lines) + "\n"
    )


def _reading(file: ServedFile, place: str) -> tuple[str, str]:
    """The module to import, and what to do with it."""
    url = repr(file.data)
    loop = "    for record in file.fetch({}):\n        print(record)"
    if file.index is not None:
        if file.format in (formats.BAM, formats.CRAM):
            return "pysam", f"with pysam.AlignmentFile({url}) as file:\n{loop.format(place)}"
        if file.format is formats.VCF:
            return "pysam", f"with pysam.VariantFile({url}) as file:\n{loop.format(place)}"
        if file.format in GFF_LIKE | BED_LIKE | TWO_ENDED:
            return "pysam", f"with pysam.TabixFile({url}) as file:\n{loop.format(place)}"
        if file.format is formats.FASTA:
            return "pysam", f"with pysam.FastaFile({url}) as file:\n    print(file.fetch({place}))"
    if file.format is formats.BIGWIG:
        return "pyBigWig", f"with pyBigWig.open({url}) as file:\n    print(file.intervals({place}))"
    if file.format in (formats.CSV, formats.TSV):
        separator = r', sep="\t"' if file.format is formats.TSV else ""
        return "pandas", f"print(pandas.read_csv({url}{separator}))"
    return "urllib.request", f"urllib.request.urlretrieve({url}, {file.title!r})"
