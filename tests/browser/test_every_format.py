"""Every format that the service makes, in each viewer that draws it, as /tracks tells it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from tests.browser.service import Herd, Origin

from gooseherd.domain import formats
from gooseherd.trial import inputs
from gooseherd.trial.spans import spans

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CONTACTS = Path(__file__).parents[1] / "data" / "contacts.hic"
CLOSE, GENES = "chr1:20,001-40,000", "chr1:1-2,000"

# Each line is one page. Of those with sequences the first is the reference.
DRAWN = {
    "gosling": [
        "sam bam cram vcf",
        "bcf gff gff3 gtf",
        "bed narrowpeak broadpeak gappedpeak",
        "tagalign bigbed seg interval_list",
        "macs ucsc_table csv tsv",
        "bigwig",  # in a crowd it stays blank now and then, whoever serves it
        "bedgraph",
        "wig",
        "genbank",
    ],
    "igv": [
        "fasta sam bam",  # as much as a window shows
        "fasta cram vcf bcf",
        "2bit gff gff3 gtf bed narrowpeak broadpeak",
        "gappedpeak tagalign bigbed seg interval_list macs",
        "ucsc_table bedpe interact bigwig bedgraph wig",
        "genbank",
        "embl",
    ],
    "jbrowse": [
        "fasta sam bam cram",
        "2bit vcf bcf gff gff3",
        "gtf bed narrowpeak broadpeak",
        "gappedpeak tagalign bigbed seg",
        "interval_list macs ucsc_table",
        "bigwig bedgraph wig",
        "genbank",
        "embl",
    ],
}
NOT_DRAWN = {
    "gosling": "interact hic cool mcool bedpe paf pairs",
    "igv": "csv tsv hic cool mcool paf pairs",
    "jbrowse": "csv tsv interact cool mcool bedpe paf pairs",
}
# By JBrowse Web, which has more kinds of tracks than the linear view.
ELSEWHERE = {"gosling": set(), "igv": set(), "jbrowse": {"hic"}}
BLACK = {"macs", "ucsc_table", "interact"}
"""igv.js draws these without colour, of tables as their columns behind the sixth have it."""
SEQUENCES = {"fasta", "2bit", "genbank", "embl"}


def pages_of_formats() -> list[Any]:
    return [
        pytest.param(viewer, names.split(), id=f"{viewer}-{names.replace(' ', '-')}")
        for viewer, pages_of_viewer in DRAWN.items()
        for names in pages_of_viewer
    ]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """A file of every format."""
    folder = tmp_path_factory.mktemp("formats")
    for file_format in inputs.FORMATS:
        made = inputs.make(file_format, folder, "0a1b2c3d")
        made.path.rename(folder / f"x.{file_format.name}")
    shutil.copyfile(CONTACTS, folder / "x.hic")
    # With the columns that the specification for Gosling names.
    for name, separator in (("csv", ","), ("tsv", "\t")):
        rows = (separator.join((c, str(s), str(e))) for _, c, s, e in spans("table"))
        (folder / f"x.{name}").write_text(
            "\n".join((separator.join(("chrom", "start", "end")), *rows)) + "\n"
        )
    # As Ensembl calls the sequences.
    for name in ("bed", "vcf"):
        text = (folder / f"x.{name}").read_text()
        (folder / f"numbers.{name}").write_text(text.replace("chr1", "1").replace("chr2", "2"))
    origin = Origin(folder)
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def entry(herd: Herd) -> Any:
    """The entry of a format, made ready."""
    known: dict[str, str] = {}

    def of(name: str, filename: str = "x") -> str:
        key = f"{filename}.{name}"
        if key not in known:
            known[key] = f"lab/{herd.register(key, name)}"
            ready = herd.get(f"/data/{known[key]}?wait=50")
            assert ready.status_code == 200, ready.text
        return known[key]

    return of


def test_every_format_is_drawn_or_told_not_to_be() -> None:
    for viewer, pages_of_viewer in DRAWN.items():
        of_viewer = " ".join(pages_of_viewer).split()
        others = ELSEWHERE[viewer] | (SEQUENCES if viewer == "gosling" else set())
        assert {*of_viewer, *NOT_DRAWN[viewer].split(), *others} == {one.name for one in formats.ALL}


@pytest.mark.parametrize(("viewer", "names"), pages_of_formats())
def test_a_viewer_draws_each_format(
    chromium: Any, herd: Herd, entry: Any, pages: str, viewer: str, names: list[str]
) -> None:
    at = CLOSE
    if names[-1] in ("genbank", "embl"):
        at = GENES if names[-1] == "genbank" else GENES.replace("chr1", "chr1.1")
    query = urlencode({"files": ",".join(map(entry, names)), "at": at})
    document = f"{herd.url}/tracks/{viewer}.json?{query}"
    view = herd.get(f"/tracks?viewer={viewer}&{query}").json()
    shown = [note for note in view["notes"] if "name its columns" not in note]
    assert shown == []
    drawn = [name for name in names if name not in {"fasta", "2bit"}]
    tracks = view["spec"]["tracks"]
    assert len([track for track in tracks if "density" not in str(track.get("name"))]) == len(drawn)
    run = chromium.open_page(
        f"{pages}/given.html?viewer={viewer}&spec={quote(document, safe='')}",
        least=[_pixels(viewer, track) for track in tracks],
        seconds=150,
    )
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert {request["status"] for request in run.of(herd.url)} <= {200, 206, 304}
    ours = (herd.url, pages, "data:", "blob:")
    assert [request["url"] for request in run.requests if not request["url"].startswith(ours)] == []
    assert [line for line in run.console if line.startswith("error")] == []


def _pixels(viewer: str, track: dict[str, Any]) -> int:
    """JBrowse's reads are grey: of these no pixel counts."""
    if viewer == "igv" and track["name"].removeprefix("x.") in BLACK:
        return 0
    return 0 if viewer == "jbrowse" and track["type"] == "AlignmentsTrack" else 50


@pytest.mark.parametrize("viewer", DRAWN)
def test_what_a_viewer_does_not_draw_is_told_in_words(herd: Herd, entry: Any, viewer: str) -> None:
    names = NOT_DRAWN[viewer].split()
    query = urlencode({"files": ",".join(map(entry, names)), "assembly": "hg38"})
    view = herd.get(f"/tracks?viewer={viewer}&{query}").json()
    told = [note.rpartition(" draws no ")[2].replace(";", " ").split()[0] for note in view["notes"]]
    assert told == names


@pytest.mark.parametrize("viewer", ["igv", "jbrowse"])
def test_files_that_call_sequences_differently_are_drawn_together(
    chromium: Any, herd: Herd, entry: Any, pages: str, viewer: str
) -> None:
    names = [entry("narrowpeak"), entry("bed", "numbers"), entry("vcf", "numbers")]
    query = urlencode({"files": ",".join(names), "at": CLOSE.replace("chr", "")})
    document = f"{herd.url}/tracks/{viewer}.json?{query}"
    tracks = herd.get(f"/tracks/{viewer}.json?{query}").json()["tracks"]
    run = chromium.open_page(
        f"{pages}/given.html?viewer={viewer}&spec={quote(document, safe='')}",
        least=[60 for _ in tracks],
        seconds=100,
    )
    assert run.drawn, (run.pixels, run.console, run.failed)


@pytest.mark.parametrize("document", ["tracks/igv.json", "hub.txt"])
def test_igv_opens_a_session_and_a_hub_by_their_addresses(
    chromium: Any, herd: Herd, entry: Any, pages: str, document: str
) -> None:
    names = ["2bit", "bigwig", "vcf", "bedgraph"]
    query = urlencode({"files": ",".join(map(entry, names)), "at": CLOSE})
    run = chromium.open_page(
        f"{pages}/given.html?viewer=session&tracks=3&spec={quote(f'{herd.url}/{document}?{query}', safe='')}",
        least=[60] * (len(names) - 1),
        seconds=100,
    )
    assert run.drawn, (run.pixels, run.console, run.failed)
    read = {request["url"] for request in run.of(f"{herd.url}/files/")}
    assert {herd.names(entry(name).partition("/")[2])["data"] for name in names} <= read
    assert [line for line in run.console if line.startswith("error")] == []
